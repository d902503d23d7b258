"""A secret out of a file that a configuration names: only its owner may be able to read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from meshd.errors import ConfigError

_OTHERS = 0o077


def read_secret(key: str, path: str, max_size: int) -> bytes:
    """At most ``max_size`` bytes and one of the file; who wants to know whether there are more, looks at that one.

    ``key`` is the configuration's, for messages. Raises ConfigError.
    """
    try:
        with Path(path).open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & _OTHERS:
                raise ConfigError(f"{key}: others can read {path}; chmod 600 it")
            return file.read(max_size + 1)
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read: {error.strerror}") from None
