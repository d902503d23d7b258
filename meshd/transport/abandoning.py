"""Messages that are given up before the peer has them, and how it is told so (RFC 3758)."""

from __future__ import annotations

from meshd.transport.chunks import encode_forward_tsn
from meshd.transport.outstanding import ABANDONED, Outstanding, SentChunk
from meshd.transport.send_queue import Outgoing, SendQueue

EMPTY = memoryview(b"")


class Abandoning:
    """``count`` messages were given up so far; ``is_due``: the peer is to be told with the next packet."""

    __slots__ = ("_advanced", "_outstanding", "_queue", "_told", "count", "is_due")

    def __init__(self, queue: SendQueue, outstanding: Outstanding) -> None:
        self._queue = queue
        self._outstanding = outstanding
        self._advanced = outstanding.cumulative
        self._told = 0.0
        self.count = 0
        self.is_due = False

    def abandon(self, message: Outgoing) -> None:
        """Give up a message, a part of which was lost as often as it may be."""
        self.count += 1
        if self._queue.abandon(message):
            # What was called lost may have arrived, and then no FORWARD-TSN would ever name this message. A TSN that
            # is never sent makes sure of one; it stands for the fragments that are not sent either.
            placeholder = SentChunk(self._outstanding.next_tsn, b"", EMPTY, message)
            placeholder.state = ABANDONED
            self._outstanding.add(placeholder)

    def give_up(self, chunk: SentChunk) -> None:
        """Never send again a chunk of a message that was given up."""
        chunk.state = ABANDONED
        self.is_due = True

    def is_awaited(self) -> bool:
        """Whether what the peer waits for first will never come."""
        if not self.count:
            return False
        chunk = self._outstanding.chunks.get(self._outstanding.cumulative + 1)
        return chunk is not None and chunk.message is not None and chunk.message.is_abandoned

    def on_sack(self, cumulative: int, interval: float, now: float) -> None:
        """Tell the peer what is new at once, and what was told before after ``interval`` seconds (section 3.5 C3)."""
        if self.is_awaited() and (cumulative >= self._advanced or now - self._told >= interval):
            self.is_due = True

    def take_forward_tsn(self, now: float) -> bytes:
        """The chunk that has the peer stop waiting, as far as that is contiguous (section 3.5 C1 to C4), or nothing."""
        self.is_due = False
        outstanding = self._outstanding
        skipped: dict[tuple[int, bool], int] = {}
        at = outstanding.cumulative
        while (chunk := outstanding.chunks.get(at + 1)) is not None:
            message = chunk.message
            if message is None or not message.is_abandoned:
                break
            at += 1
            skipped[message.stream, not message.ordered] = message.number
        self._advanced = at
        if at == outstanding.cumulative:
            return b""
        self._told = now
        streams = [(stream, unordered, number) for (stream, unordered), number in skipped.items()]
        return encode_forward_tsn(at, streams, self._queue.interleaving)
