"""Our heartbeats (RFC 9260 section 8.3): asked by the owner's numbers, recognised when they are answered."""

from __future__ import annotations

from struct import Struct

from meshd.transport.chunks import HEARTBEAT, HEARTBEAT_INFO, encode_chunk

# Specification
BEAT = Struct(">HHL")  # the information in them (section 3.3.5): type, length, a number

# Policy
MAX_BEATS = 32  # heartbeats whose answers would still be recognised


def is_beat(body: bytes) -> bool:
    """Whether a HEARTBEAT ACK has the size of an answer to one of these, and not of one to a probe of the path."""
    return len(body) == BEAT.size


class Beats:
    """Those without an answer so far."""

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked: dict[int, float] = {}  # by number

    def ask(self, number: int, now: float) -> bytes:
        """The chunk that asks."""
        if len(self._asked) >= MAX_BEATS:
            del self._asked[next(iter(self._asked))]
        self._asked[number] = now
        return encode_chunk(HEARTBEAT, BEAT.pack(HEARTBEAT_INFO, BEAT.size, number))

    def take(self, body: bytes) -> tuple[int, float] | None:
        """The number that is answered, once, and when it was asked; None if it was answered before, or is made up."""
        number: int = BEAT.unpack(body)[2]
        asked = self._asked.pop(number, None)
        return None if asked is None else (number, asked)
