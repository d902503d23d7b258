"""What may be shown of a value in a log line or a watcher's event: never a secret, always something to tell it by.

Secrets are kept out at the source (``repr=False`` in events and commands, ids instead of tokens in notifications).
This is the second line: it looks at every value that is about to be written, whoever wrote the statement.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum

from meshd.ids import text_of

# Policy
MAX_SHOWN_CHARS = 2_000  # of one text; a traceback gets MAX_TRACEBACK_CHARS
MAX_TRACEBACK_CHARS = 16_000
MAX_SHOWN_ENTRIES = 64  # of one list or mapping
MAX_DEPTH = 4
MIN_MIXED_SHARE = 0.12  # of either case in a long run to take it for random: misses one key of 43 characters in 100,000

ID_FIELDS = frozenset({"admin", "introducer", "introduction", "keeper", "mesh", "message", "peer", "source"})
"""Fields whose bytes are public ids and are shown as such. Bytes of any other field are shown as a hash."""

_SECRET_FIELD = re.compile(
    r"(^|_)(secret|token|password|pwd|passphrase|seed|auth|authorization|jwt|uaid|cookie|body|key|private|p256dh)($|_)"
)
_TOKEN = re.compile(r"meshd1[^\s\"']*", re.IGNORECASE)
_JWT = re.compile(r"\bey[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*){0,2}")
_URL = re.compile(r"\b((?:https?|wss?)://)(?:[^/\s\"'@]*@)?([^/?#\s\"'<>]+)([/?#][^\s\"'<>]*)?", re.IGNORECASE)
_VAPID = re.compile(r"\b(vapid|webpush|bearer|basic)\s+[^\s\"']+(\s*,\s*k=[^\s\"']+)?", re.IGNORECASE)
_LONG = re.compile(r"[A-Za-z0-9_+/=-]{32,}")
_PUBLIC_ID = re.compile(r"[a-z2-7]+")
_HEX = re.compile(r"[0-9a-fA-F]+")


def shown(value: object, name: str = "", depth: int = 0, limit: int = MAX_SHOWN_CHARS) -> object:
    """``value`` as JSON can say it and anybody may read it. ``name`` is the field it stands in."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)  # JSON has no word for it
    if value is None or (isinstance(value, bool | int | float) and not isinstance(value, Enum)):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        raw = bytes(value)
        return text_of(raw) if name in ID_FIELDS else f"sha256:{hashlib.sha256(raw).hexdigest()[:8]}({len(raw)})"
    if _SECRET_FIELD.search(name) and not name.endswith("_id"):
        return "[hidden]"
    if isinstance(value, str):
        return text(value, limit)
    if isinstance(value, Enum):
        return value.name.lower()
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        entries = list(value.items())[:MAX_SHOWN_ENTRIES]
        return {text(str(key)): shown(entry, str(key), depth + 1) for key, entry in entries}
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(entry, name, depth + 1) for entry in list(value)[:MAX_SHOWN_ENTRIES]]
    if is_dataclass(value) and not isinstance(value, type):
        found = {field.name: getattr(value, field.name) for field in fields(value) if field.repr}
        return {"type": type(value).__name__, **{key: shown(entry, key, depth + 1) for key, entry in found.items()}}
    return text(repr(value), limit)


def text(value: str, limit: int = MAX_SHOWN_CHARS) -> str:
    """A text without what looks like a secret: tokens, JWTs, paths of URLs, credentials, long random strings."""
    value = value[: limit * 4]  # before the patterns, so that a huge text costs nothing
    value = _TOKEN.sub("[token]", value)
    value = _VAPID.sub(lambda found: f"{found[1]} [hidden]", value)
    value = _JWT.sub("[jwt]", value)
    value = _URL.sub(lambda found: found[1] + found[2] + ("/…" if (found[3] or "/") != "/" else ""), value)
    value = _LONG.sub(_hide_long, value)
    return value if len(value) <= limit else value[:limit] + "…"


def _hide_long(found: re.Match[str]) -> str:
    """A long run of base64 or hexadecimal is taken for a key; ids (base32) and ordinary words and paths are not."""
    run = found[0]
    if _PUBLIC_ID.fullmatch(run):
        return run
    if _HEX.fullmatch(run):
        return "[hidden]"
    # Random base64 is 40 % upper and 40 % lower case; words, module names and paths are far from that.
    upper, lower = len(re.findall("[A-Z]", run)), len(re.findall("[a-z]", run))
    return "[hidden]" if min(upper, lower) >= MIN_MIXED_SHARE * len(run) else run
