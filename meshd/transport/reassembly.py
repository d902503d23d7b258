"""Fragments into messages, and messages into the order of their stream (RFC 9260 sections 6.5, 6.6, 6.9; RFC 8260).

DATA fragments belong together by consecutive TSNs, I-DATA fragments by message identifier. Everything in here raises
MalformedMessage for what no honest peer sends; the size of all that is held is the receiver's to bound.
"""

from __future__ import annotations

from meshd.errors import MalformedMessage
from meshd.transport.chunks import FIRST, LAST, UNORDERED
from meshd.transport.events import Message

# Policy
MAX_FRAGMENTS = 16_384  # of one message: bytes one by one are an attack


class Run:
    """DATA fragments of one message with consecutive TSNs."""

    __slots__ = ("end", "flags", "number", "parts", "ppid", "size", "start", "stream")

    def __init__(self, tsn: int, flags: int, stream: int, number: int, ppid: int, payload: bytes) -> None:
        self.start = self.end = tsn
        self.flags = flags
        self.stream = stream
        self.number = number
        self.ppid = ppid
        self.parts = [payload]
        self.size = len(payload)


class Partial:
    """I-DATA fragments of one message; ``later`` has those beyond a missing one, by fragment number."""

    __slots__ = ("last", "later", "parts", "ppid", "size")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.later: dict[int, bytes] = {}
        self.ppid = 0
        self.last = -1
        self.size = 0


class InboundStream:
    """What one stream of the peer's holds back."""

    __slots__ = ("expected", "partials", "ready")

    def __init__(self) -> None:
        self.expected = 0
        self.ready: dict[int, Message] = {}
        self.partials: dict[tuple[int, bool], Partial] = {}


class Reassembly:
    """``held_size`` and ``held_count`` cover everything that came in and has not become an event yet."""

    __slots__ = (
        "_ends",
        "_max_message_size",
        "_modulus",
        "_starts",
        "_streams",
        "held_count",
        "held_size",
        "messages",
        "stream_count",
    )

    def __init__(self, streams: int, interleaving: bool, max_message_size: int) -> None:
        self.stream_count = streams
        self._streams: dict[int, InboundStream] = {}
        self._modulus = 0xFFFFFFFF if interleaving else 0xFFFF
        self._max_message_size = max_message_size
        self._starts: dict[int, Run] = {}
        self._ends: dict[int, Run] = {}
        self.held_size = 0
        self.held_count = 0
        self.messages: list[Message] = []
        """Complete and in order: for the owner to take."""

    # -- DATA ----------------------------------------------------------------------------------------------------------

    def on_data(self, tsn: int, flags: int, stream: int, number: int, ppid: int, payload: bytes) -> None:
        """One DATA chunk that has not been seen before."""
        inbound = self._streams.get(stream) or self._new_stream(stream)
        if flags & 3 == 3:
            self._complete(inbound, not flags & UNORDERED, number, Message(stream, ppid, payload))
            return
        self.held_size += len(payload)
        self.held_count += 1
        # A message may begin right behind one without an end: that one was given up (RFC 3758).
        run = None if flags & FIRST else self._ends.get(tsn - 1)
        if run is not None and not run.flags & LAST:
            if run.stream != stream or run.number != number or (run.flags ^ flags) & UNORDERED:
                raise MalformedMessage("fragments of two messages in one")
            del self._ends[tsn - 1]
            run.end = tsn
            run.flags |= flags
            run.parts.append(payload)
            run.size += len(payload)
        else:
            run = self._starts[tsn] = Run(tsn, flags, stream, number, ppid, payload)
        if not flags & LAST and tsn + 1 in self._starts:
            self._join(run, self._starts[tsn + 1])
        self._ends[run.end] = run
        if run.size > self._max_message_size or len(run.parts) > MAX_FRAGMENTS:
            raise MalformedMessage("a message too long")
        if run.flags & 3 == 3:
            del self._starts[run.start], self._ends[run.end]
            self.held_size -= run.size
            self.held_count -= len(run.parts)
            message = Message(run.stream, run.ppid, b"".join(run.parts))
            self._complete(inbound, not run.flags & UNORDERED, run.number, message)

    def _join(self, left: Run, right: Run) -> None:
        """Append a run to the one that ends just before it, in favour of the longer list."""
        if right.flags & FIRST:
            return
        if left.stream != right.stream or left.number != right.number or (left.flags ^ right.flags) & UNORDERED:
            raise MalformedMessage("fragments of two messages in one")
        del self._starts[right.start]
        if len(left.parts) < len(right.parts):
            right.parts[:0] = left.parts
            left.parts = right.parts
        else:
            left.parts += right.parts
        left.end = right.end
        left.flags |= right.flags
        left.size += right.size

    # -- I-DATA --------------------------------------------------------------------------------------------------------

    def on_i_data(self, flags: int, stream: int, number: int, word: int, payload: bytes) -> None:
        """One I-DATA chunk that has not been seen before; ``word`` is the PPID of a first fragment, else its number."""
        inbound = self._streams.get(stream) or self._new_stream(stream)
        if flags & 3 == 3:
            self._complete(inbound, not flags & UNORDERED, number, Message(stream, word, payload))
            return
        key = (number, flags & UNORDERED != 0)
        partial = inbound.partials.get(key)
        if partial is None:
            partial = inbound.partials[key] = Partial()
        parts = partial.parts
        fragment = word
        if flags & FIRST:
            fragment = 0
            partial.ppid = word
        elif not word or word >= MAX_FRAGMENTS:
            raise MalformedMessage("a fragment number out of range")
        if flags & LAST:
            if partial.last >= 0:
                raise MalformedMessage("a message that ends twice")
            partial.last = fragment
        if fragment < len(parts) or fragment in partial.later:
            raise MalformedMessage("a fragment twice under two TSNs")
        size = len(payload)
        self.held_size += size
        self.held_count += 1
        partial.size += size
        if partial.size > self._max_message_size:
            raise MalformedMessage("a message too long")
        if fragment == len(parts):
            parts.append(payload)
            later = partial.later
            while later and len(parts) in later:
                parts.append(later.pop(len(parts)))
        else:
            partial.later[fragment] = payload
        if partial.last >= 0 and len(parts) > partial.last:
            if len(parts) > partial.last + 1 or partial.later:
                raise MalformedMessage("a fragment beyond the last")
            del inbound.partials[key]
            self.held_size -= partial.size
            self.held_count -= len(parts)
            self._complete(inbound, not key[1], number, Message(stream, partial.ppid, b"".join(parts)))

    # -- order ---------------------------------------------------------------------------------------------------------

    def _new_stream(self, stream: int) -> InboundStream:
        if stream >= self.stream_count:
            raise MalformedMessage("a stream that we do not have")
        inbound = self._streams[stream] = InboundStream()
        return inbound

    def _complete(self, inbound: InboundStream, ordered: bool, number: int, message: Message) -> None:
        if not ordered:
            self.messages.append(message)
            return
        if number == inbound.expected:
            self.messages.append(message)
            inbound.expected = (number + 1) & self._modulus
            if inbound.ready:
                self._release(inbound)
        elif (number - inbound.expected) & self._modulus > self._modulus >> 1:
            return  # skipped by a FORWARD-TSN before it came
        elif number in inbound.ready:
            raise MalformedMessage("two messages under one number")
        else:
            inbound.ready[number] = message
            self.held_size += len(message.data)
            self.held_count += 1

    def _release(self, inbound: InboundStream) -> None:
        """Deliver what has become the next in order."""
        while (message := inbound.ready.pop(inbound.expected, None)) is not None:
            self.messages.append(message)
            self.held_size -= len(message.data)
            self.held_count -= 1
            inbound.expected = (inbound.expected + 1) & self._modulus

    # -- what will never come ------------------------------------------------------------------------------------------

    def skip(self, cumulative: int, skipped: list[tuple[int, bool, int]]) -> None:
        """FORWARD-TSN: forget fragments up to this TSN, and wait no longer for these numbers (RFC 3758 section 3.6)."""
        if self._starts:
            for run in [run for run in self._starts.values() if run.start <= cumulative]:
                del self._starts[run.start], self._ends[run.end]
                self.held_size -= run.size
                self.held_count -= len(run.parts)
        for stream, unordered, number in skipped:
            inbound = self._streams.get(stream) or self._new_stream(stream)
            self._drop_partials(inbound, unordered, number)
            if unordered or (number - inbound.expected) & self._modulus > self._modulus >> 1:
                continue
            if inbound.ready:
                for waiting in sorted(inbound.ready, key=lambda ready: (ready - inbound.expected) & self._modulus):
                    if (number - waiting) & self._modulus > self._modulus >> 1:
                        break
                    if waiting not in inbound.ready:
                        continue  # released by the one before
                    inbound.expected = waiting
                    self._release(inbound)
            if (number - inbound.expected) & self._modulus <= self._modulus >> 1:
                inbound.expected = (number + 1) & self._modulus
                self._release(inbound)

    def _drop_partials(self, inbound: InboundStream, unordered: bool, number: int) -> None:
        half = self._modulus >> 1
        gone = [key for key in inbound.partials if key[1] is unordered and (number - key[0]) & self._modulus <= half]
        for key in gone:
            partial = inbound.partials.pop(key)
            self.held_size -= partial.size
            self.held_count -= len(partial.parts) + len(partial.later)

    def reset(self, stream: int) -> None:
        """The peer counts from zero again on this stream (RFC 6525 section 5.2.2); what waits for a number is void.

        Fragments of DATA wait for TSNs, not for numbers, and all of these have come before a stream is reset.
        """
        inbound = self._streams.pop(stream, None)
        if inbound is None:
            return
        for message in inbound.ready.values():
            self.held_size -= len(message.data)
            self.held_count -= 1
        for partial in inbound.partials.values():
            self.held_size -= partial.size
            self.held_count -= len(partial.parts) + len(partial.later)
