"""Where a program's configuration file is, and its text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from meshd.config_toml import MAX_CONFIG_SIZE
from meshd.errors import ConfigError


def find_file(given: str | None, environment: Mapping[str, str], default: Path) -> Path | None:
    """The configuration file to read; None if none was named and none is in the usual places."""
    if given is not None:
        return Path(given)
    directory = environment.get("CONFIGURATION_DIRECTORY", "").partition(":")[0]
    for path in ([Path(directory, default.name)] if directory else []) + [default]:
        if path.exists():
            return path
    return None


def read_file(file: Path) -> str:
    """Its text, as far as a configuration may be long and a little further. Raises ConfigError."""
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_CONFIG_SIZE * 4 + 1).decode()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}; give the right one with --config") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not text in UTF-8; is this the right file?") from None
