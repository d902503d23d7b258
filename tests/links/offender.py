"""One end of a link whose SCTP says what it should not: through its own DTLS, with the right tag and numbers.

These are overheard from the packets that the end sends while it still behaves.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from link_ends import End

from meshd.links.dtls import LinkDtls
from meshd.transport.chunks import (
    COMMON,
    DATA,
    FIRST,
    I_DATA,
    INIT,
    INIT_ACK,
    LAST,
    encode_chunk,
    encode_packet,
    split_chunks,
)

PORT = 5_000


class Overheard:
    """What one end's packets give away: the peer's tag, the next number of its own."""

    def __init__(self) -> None:
        self.tag = 0
        self.tsn = 0
        self.message = 0  # of stream 0
        self.interleaving = True  # both ends offer I-DATA

    def note(self, packet: bytes) -> None:
        self.tag = COMMON.unpack_from(packet)[2] or self.tag
        for kind, flags, body in split_chunks(packet):
            if kind in (INIT, INIT_ACK):
                self.tsn = struct.unpack_from(">L", body, 12)[0]
            elif kind in (DATA, I_DATA):
                tsn, stream = struct.unpack_from(">LH", body)
                self.tsn = (tsn + 1) % 2**32
                self.interleaving = kind == I_DATA
                if stream == 0 and flags & LAST:
                    self.message += 1


heard: dict[LinkDtls, Overheard] = {}


@pytest.fixture(autouse=True)
def _overhear(monkeypatch):
    send = LinkDtls.send

    def overheard(self: LinkDtls, packets: Sequence[bytes]) -> None:
        for packet in packets:
            heard.setdefault(self, Overheard()).note(packet)
        send(self, packets)

    monkeypatch.setattr(LinkDtls, "send", overheard)
    yield
    heard.clear()


def of(end: End, link: int = 1, *, theirs: bool = False) -> Overheard:
    """What that end sent; or what was sent to it, by an end of the same process."""
    ours = heard[end.link(link)._dtls]
    if not theirs:
        return ours
    to_us = end.link(link)._association._association._tag
    return next(other for other in heard.values() if other.tag == to_us)


def send_packet(end: End, *chunks: bytes, link: int = 1) -> None:
    """Send these chunks as they are."""
    dtls = end.link(link)._dtls
    packet = encode_packet(PORT, heard[dtls].tag, *chunks)
    before = vars(heard[dtls]).copy()
    # What is wrong here shall not confuse the numbers for what follows.
    heard[dtls].note = lambda packet: None  # type: ignore[method-assign]
    try:
        dtls.send([packet])
    finally:
        del heard[dtls].note
        vars(heard[dtls]).update(before)


def data_chunk(
    end: End,
    *,
    after: int = 0,
    stream: int = 0,
    ppid: int = 53,
    flags: int = FIRST | LAST,
    data: bytes = b"x",
    link: int = 1,
) -> bytes:
    """The next chunk of data, or the one that many later."""
    now = of(end, link)
    tsn = (now.tsn + after) % 2**32
    if now.interleaving:
        last = ppid if flags & FIRST else after
        body = struct.pack(">LHHLL", tsn, stream, 0, now.message if stream == 0 else 0, last) + data
        return encode_chunk(I_DATA, body, flags)
    return encode_chunk(DATA, struct.pack(">LHHL", tsn, stream, now.message if stream == 0 else 0, ppid) + data, flags)
