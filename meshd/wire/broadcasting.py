"""What neighbors say to each other in a broadcast (docs/protocol.md, broadcast)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from meshd.wire.codec import Blob, Many, Nested, Uint
from meshd.wire.parts import MAX_RECORD_SIZE, Layout

# Specification (ours)
ITEM_ID_SIZE = 8  # of SHA-256 of kind and body
RECORD_NEWS = 1
LINK_STATE_NEWS = 2
MAX_NEWS = 128  # items in one message
MAX_NEWS_SIZE = 48 * 1024  # bytes of their bodies
MAX_IDS = 1024


@dataclass(frozen=True, slots=True)
class NewsItem:
    """``kind``: 1 a record, 2 a link state; ``hops``: links that it has crossed before this one."""

    kind: int
    hops: int
    body: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (Uint(8), Uint(8), Blob(1, MAX_RECORD_SIZE))


@dataclass(frozen=True, slots=True)
class News:
    """Items for everybody, pushed: who has them already answers ``Prune``."""

    items: tuple[NewsItem, ...]
    WIRE: ClassVar[Layout] = (Many(Nested(NewsItem), MAX_NEWS),)


@dataclass(frozen=True, slots=True)
class Have:
    """The sender has these items: 8 bytes each, the start of SHA-256(kind as a byte ‖ body), and each one's hops."""

    ids: bytes
    hops: bytes
    WIRE: ClassVar[Layout] = (Blob(0, ITEM_ID_SIZE * MAX_IDS), Blob(0, MAX_IDS))


@dataclass(frozen=True, slots=True)
class Graft:
    """Push to me from now on, and first of all these (8 bytes each)."""

    ids: bytes
    WIRE: ClassVar[Layout] = (Blob(0, ITEM_ID_SIZE * MAX_IDS),)


@dataclass(frozen=True, slots=True)
class Prune:
    """Do not push to me any more: I have it all from others. Tell me the ids."""

    WIRE: ClassVar[Layout] = ()
