"""What stands inside the sealed records of an end-to-end session, which carries one byte stream both ways.

Fixed for all time (docs/protocol.md, sessions); ``varint`` as in frames::

    0 DATA  offset: varint | bytes, at least one    offset counts from the stream's first byte
    1 LAST  offset: varint | bytes, maybe none      the same, and nothing follows on this way
    2 ACK   received: varint | limit: varint        so many bytes have come in order; so many may be sent in all
    3 DONE                                          all that came is handed on, all that was to be sent is sent
    4 PROBE                                         please answer with an ACK
    others  ignored by the receiver, so that later versions may add some
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshd.errors import LocalMisuse, MalformedMessage
from meshd.wire.frame import MAX_VARINT, decode_varint, encode_varint

# Specification (ours: docs/protocol.md, sessions)
DATA, LAST, ACK, DONE, PROBE = range(5)


@dataclass(frozen=True, slots=True)
class SessionData:
    """Bytes of the stream, from ``offset`` on; ``last``: the way ends with them."""

    offset: int
    data: bytes = field(repr=False)
    last: bool


@dataclass(frozen=True, slots=True)
class SessionAck:
    """How many bytes have come, and up to which offset the other side may send."""

    received: int
    limit: int


@dataclass(frozen=True, slots=True)
class SessionDone:
    """The sender of this is through with both ways."""


@dataclass(frozen=True, slots=True)
class SessionProbe:
    """The sender of this has heard nothing for a while."""


SessionRecord = SessionData | SessionAck | SessionDone | SessionProbe


def encode_session_data(offset: int, data: bytes, *, last: bool) -> bytes:
    """DATA or LAST. Raises LocalMisuse for nothing at all, and outside of what an offset may be."""
    if not data and not last:
        raise LocalMisuse("a piece of a stream that is empty")
    return (b"\1" if last else b"\0") + encode_varint(offset) + data


def encode_session_ack(received: int, limit: int) -> bytes:
    """ACK."""
    return b"\2" + encode_varint(received) + encode_varint(limit)


def encode_session_done() -> bytes:
    """DONE."""
    return b"\3"


def encode_session_probe() -> bytes:
    """PROBE."""
    return b"\4"


def decode_session_record(data: bytes) -> SessionRecord | None:
    """What it says; None for a type of a later version. Raises MalformedMessage.

    Bytes after an ACK, a DONE or a PROBE are skipped: a later version may put more there.
    """
    if not data:
        raise MalformedMessage("an empty record")
    kind = data[0]
    if kind in (DATA, LAST):
        offset, position = decode_varint(data, 1)
        content = data[position:]
        if offset + len(content) > MAX_VARINT:
            raise MalformedMessage("a stream longer than any can be")
        if kind == DATA and not content:
            raise MalformedMessage("an empty piece of a stream")
        return SessionData(offset, content, kind == LAST)
    if kind == ACK:
        received, position = decode_varint(data, 1)
        limit, _ = decode_varint(data, position)
        return SessionAck(received, limit)
    if kind == DONE:
        return SessionDone()
    return SessionProbe() if kind == PROBE else None
