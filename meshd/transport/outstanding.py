"""What has left and is not cumulatively acknowledged, and what one SACK says about it (RFC 9260 section 6.2.1).

The cost of a SACK goes with what it newly acknowledges and with its number of gap blocks, never with the window.
TSNs are plain growing integers in here; only the wire has 32 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshd.transport.chunks import merge_ranges

if TYPE_CHECKING:
    from meshd.transport.congestion.controller import Packet
    from meshd.transport.send_queue import Outgoing

IN_FLIGHT, LOST, ACKNOWLEDGED, ABANDONED = range(4)


class SentChunk:
    """One DATA or I-DATA chunk. It borrows its payload from the message: bytes are copied once, into the packet."""

    __slots__ = ("former", "head", "message", "number", "packet", "payload", "sends", "sent", "size", "state", "tsn")

    def __init__(self, tsn: int, head: bytes, payload: memoryview, message: Outgoing | None) -> None:
        self.tsn = tsn
        self.head = head
        self.payload = payload
        self.size = len(head) + (len(payload) + 3 & ~3)
        """Bytes in a packet, header and padding included."""
        self.message = message
        """Only of messages that may be given up: what is reliable needs no way back from the chunk to it."""
        self.state = IN_FLIGHT
        self.sent = 0.0
        self.number = 0
        """Counts packets, not chunks: RACK's order of sending, in which a retransmission comes last."""
        self.sends = 0
        self.packet: Packet | None = None
        """The controller's record. Only the first chunk of a packet has it, so that it is handed back once."""
        self.former: Packet | None = None
        """The record of the transmission that was declared lost, in case it was not."""


class Outstanding:
    """The sent chunks by TSN."""

    __slots__ = ("_gaps", "chunks", "cumulative", "next_tsn", "size")

    def __init__(self, initial_tsn: int) -> None:
        self.chunks: dict[int, SentChunk] = {}
        self.next_tsn = initial_tsn
        self.cumulative = initial_tsn - 1
        self.size = 0
        """Bytes of chunks that are not cumulatively acknowledged: until then a peer may take back what it has named,
        so this is what has to be kept."""
        self._gaps: list[tuple[int, int]] = []

    def add(self, chunk: SentChunk) -> None:
        """Keep the chunk whose TSN is ``next_tsn``."""
        self.chunks[chunk.tsn] = chunk
        self.next_tsn = chunk.tsn + 1
        self.size += chunk.size

    def acknowledge(self, cumulative: int, gaps: list[tuple[int, int]]) -> list[SentChunk]:
        """What this SACK names for the first time, by TSN. ``gaps`` as absolute TSNs, sorted and disjoint.

        The states are left to the caller, who wants to know the former ones; what is cumulatively acknowledged is
        forgotten here.
        """
        newly: list[SentChunk] = []
        chunks = self.chunks
        if cumulative > self.cumulative:
            pop = chunks.pop
            size = 0
            for tsn in range(self.cumulative + 1, cumulative + 1):
                chunk = pop(tsn)
                size += chunk.size
                if chunk.state != ACKNOWLEDGED:
                    newly.append(chunk)
            self.cumulative = cumulative
            self.size -= size
            if self._gaps:
                self._gaps = [gap for gap in self._gaps if gap[1] > cumulative]
        if gaps and gaps != self._gaps:
            for first, last in _without(gaps, self._gaps):
                for tsn in range(first, last + 1):
                    chunk = chunks[tsn]
                    if chunk.state != ACKNOWLEDGED:
                        newly.append(chunk)
            # An older SACK that was overtaken says less than we know: that is not reneging.
            self._gaps = merge_ranges(self._gaps + gaps) if self._gaps else gaps
        return newly

    def reneged(self) -> list[SentChunk]:
        """What the peer acknowledged in gaps and seems to have dropped since (RFC 9260 section 6.2.1 iv).

        Asked when the timer has run out: only then is it certain that no overtaken SACK is the reason.
        """
        first = self.chunks.get(self.cumulative + 1)
        if first is None or first.state != ACKNOWLEDGED:
            return []
        self._gaps = []
        return [chunk for chunk in self.chunks.values() if chunk.state == ACKNOWLEDGED]


def _without(wanted: list[tuple[int, int]], known: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges of ``wanted`` less those of ``known``, both sorted and disjoint."""
    found: list[tuple[int, int]] = []
    index = 0
    for first, last in wanted:
        while index < len(known) and known[index][1] < first:
            index += 1
        at = index
        while first <= last:
            if at == len(known) or known[at][0] > last:
                found.append((first, last))
                break
            if known[at][0] > first:
                found.append((first, known[at][0] - 1))
            first = max(first, known[at][1] + 1)
            at += 1
    return found
