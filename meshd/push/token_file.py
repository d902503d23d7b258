"""The access token for ntfy servers, out of its file."""

from __future__ import annotations

import re

from meshd.errors import ConfigError
from meshd.secret_file import read_secret

# Policy
_TOKEN = re.compile(r"[!-~]{1,200}\Z")  # ntfy's are "tk_" and 29 characters

_KEY = "push.unifiedpush_token_file"


def read_token(path: str) -> str:
    """The only line of a file that only its owner can read; '' for no path. Raises ConfigError."""
    if not path:
        return ""
    text = read_secret(_KEY, path, 256).decode("ascii", "replace").strip()
    if not _TOKEN.match(text):
        raise ConfigError(f"{_KEY}: {path} must have one line, the token")
    return text
