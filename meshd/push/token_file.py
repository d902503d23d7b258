"""The access token for ntfy servers, out of its file."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from meshd.errors import ConfigError

# Policy
_TOKEN = re.compile(r"[!-~]{1,200}\Z")  # ntfy's are "tk_" and 29 characters

_KEY = "push.unifiedpush_token_file"


def read_token(path: str) -> str:
    """The only line of a file that only its owner can read; '' for no path. Raises ConfigError."""
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise ConfigError(f"{_KEY}: others can read {path}; chmod 600 it")
            text = file.read(256).decode("ascii", "replace").strip()
    except OSError as error:
        raise ConfigError(f"{_KEY}: {path} cannot be read: {error.strerror}") from None
    if not _TOKEN.match(text):
        raise ConfigError(f"{_KEY}: {path} must have one line, the token")
    return text
