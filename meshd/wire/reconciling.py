"""How two neighbors find out what one has and the other lacks (docs/protocol.md, anti-entropy)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from meshd.ids import PREFIX_SIZE
from meshd.wire.codec import Blob, Many, Uint
from meshd.wire.link_state import MAX_LINK_STATE_SIZE
from meshd.wire.parts import RECORD, Layout

# Specification (ours)
FAN = 32  # buckets into which one falls apart at the next level
LEVELS = 3  # 1, 32 and 1,024 buckets
DIGEST_SIZE = 8
ENTRY_SIZE = PREFIX_SIZE + 5 + 5  # of a summary: id prefix, number of the record, number of the link state
MAX_ENTRIES = 2048
MAX_RECORDS = 64  # in one message
MAX_LINK_STATES = 256
MAX_BUCKETS: int = FAN ** (LEVELS - 1)


@dataclass(frozen=True, slots=True)
class Digest:
    """One side's records and link states in short, of the buckets at ``level`` that lie within those of ``parents``.

    ``parents`` are buckets of the level above that differ, in rising order (none at level 0); ``buckets`` holds 8 bytes
    for each bucket: the XOR of the hashes of all in it.
    """

    level: int
    parents: tuple[int, ...]
    buckets: bytes
    WIRE: ClassVar[Layout] = (
        Uint(8),
        Many(Uint(16), MAX_BUCKETS // FAN),
        Blob(DIGEST_SIZE, DIGEST_SIZE * MAX_BUCKETS),
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """What the sender has in buckets that differ: id prefix (8 bytes), number of the record and of the link state (5
    bytes each, 0 for none) for each member. ``numbers`` are the buckets at ``level``.
    """

    level: int
    numbers: tuple[int, ...]
    entries: bytes
    WIRE: ClassVar[Layout] = (Uint(8), Many(Uint(16), MAX_BUCKETS), Blob(0, ENTRY_SIZE * MAX_ENTRIES))


@dataclass(frozen=True, slots=True)
class Records:
    """Signed records and link states, whoever's: each speaks for itself."""

    records: tuple[bytes, ...]
    link_states: tuple[bytes, ...] = ()
    WIRE: ClassVar[Layout] = (Many(RECORD, MAX_RECORDS), Many(Blob(1, MAX_LINK_STATE_SIZE), MAX_LINK_STATES))


@dataclass(frozen=True, slots=True)
class RecordsWanted:
    """Please send the records, and the link states, of the members with these id prefixes (8 bytes each)."""

    prefixes: bytes
    link_states: bytes = b""
    WIRE: ClassVar[Layout] = (Blob(0, PREFIX_SIZE * MAX_ENTRIES), Blob(0, PREFIX_SIZE * MAX_ENTRIES))
