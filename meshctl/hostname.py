"""This machine's name, made into one that the mesh allows."""

from __future__ import annotations

import re
import socket

# Policy
MAX_NAME_CHARS = 32  # meshd.ids.MAX_NAME_CHARS, written out: that module takes 10 ms to load


def as_name(host: str | None = None) -> str:
    """The first label of the host name in lower case, with dashes for what a name may not hold."""
    label = (socket.gethostname() if host is None else host).partition(".")[0].lower()
    name = re.sub(r"[^a-z0-9._-]+", "-", label)[:MAX_NAME_CHARS].strip("._-")
    return name or "node"
