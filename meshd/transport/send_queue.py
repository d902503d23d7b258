"""What is to be sent: messages by priority and stream, cut into chunks when there is room for one.

Nothing is cut ahead of time, so that a small urgent message passes a long one between two of its fragments (RFC 8260),
and so that fragments fit the path as it is now.
"""

from __future__ import annotations

from collections import deque

from meshd.transport.chunks import (
    DATA,
    DATA_HEADER,
    DATA_SIZE,
    FIRST,
    I_DATA,
    I_DATA_HEADER,
    I_DATA_SIZE,
    IMMEDIATE,
    LAST,
    UNORDERED,
)
from meshd.transport.outstanding import SentChunk

# Policy
PRIORITIES = 8
MAX_MESSAGES = 65_536  # in a queue: small ones have weight, too
MIN_FRAGMENT_SIZE = 256  # bytes; what is left of a packet is not worth a fragment below this


class Outgoing:
    """One message on its way out."""

    __slots__ = (
        "data",
        "fragment",
        "is_abandoned",
        "max_retransmits",
        "number",
        "offset",
        "ordered",
        "ppid",
        "priority",
        "size",
        "stream",
    )

    def __init__(
        self, stream: int, ppid: int, data: bytes, priority: int, ordered: bool, max_retransmits: int | None
    ) -> None:
        self.stream = stream
        self.ppid = ppid
        self.data = memoryview(data)
        self.size = len(data)
        self.priority = priority
        self.ordered = ordered
        self.max_retransmits = max_retransmits
        self.offset = 0
        self.fragment = 0
        self.number = -1
        """Message identifier, or stream sequence number; given when the first fragment is cut."""
        self.is_abandoned = False


Lane = deque[Outgoing]


class SendQueue:
    """Messages wait in one lane for each priority and stream; the lanes of one priority take turns."""

    __slots__ = ("_current", "_lanes", "_numbers", "_turns", "count", "interleaving", "size", "sizes")

    def __init__(self) -> None:
        self.interleaving = False
        self.count = 0
        """Messages not wholly cut yet."""
        self.size = 0
        """Unsent bytes; ``sizes`` has them by priority."""
        self.sizes = [0] * PRIORITIES
        self._turns: list[list[Lane]] = [[] for _ in range(PRIORITIES)]  # lists: a deque has 600 bytes from the start
        self._lanes: dict[tuple[int, int], Lane] = {}
        self._numbers: dict[tuple[int, bool], int] = {}
        self._current: dict[int, Outgoing] = {}
        """Messages begun and not yet wholly cut: by stream where they interleave (an ordered one must be over before
        the next of its stream begins, whatever their priorities), and one in all, under -1, where they do not."""

    def put(self, message: Outgoing) -> None:
        """Queue a message."""
        lane = self._lanes.get(key := (message.priority, message.stream))
        if lane is None:
            lane = self._lanes[key] = deque()
        if not lane:
            self._turns[message.priority].append(lane)
        lane.append(message)
        self.count += 1
        self.size += message.size
        self.sizes[message.priority] += message.size

    def has(self, stream: int) -> bool:
        """Whether anything of this stream waits."""
        return any(lane for (_, number), lane in self._lanes.items() if number == stream)

    def next_chunk(self, space: int, tsn: int) -> SentChunk | None:
        """The next fragment of at most ``space`` bytes, header and all; None if that is not enough for a sensible one.

        Asked only while ``size`` is above zero.
        """
        interleaving = self.interleaving
        for turns in self._turns:
            if turns:
                break
        message = turns[0][0]
        begun = self._current
        if begun:
            other = begun.get(message.stream if interleaving else -1)
            if other is not None and (message.ordered or not interleaving):
                message = other
        size = message.size
        offset = message.offset
        room = space - (I_DATA_SIZE if interleaving else DATA_SIZE)
        left = size - offset
        if left <= room:
            end = size
            flags = LAST
        elif room < MIN_FRAGMENT_SIZE:
            return None
        else:
            end = offset + (room & ~3)
            flags = 0
        taken = end - offset
        if offset == 0:
            flags |= FIRST
            self._begin(message)
        if not message.ordered:
            flags |= UNORDERED
        if message.max_retransmits == 0:
            flags |= IMMEDIATE  # RFC 7053: no answer is worth waiting for, and a probe would be for nothing
        if interleaving:
            fragment = message.fragment
            message.fragment = fragment + 1
            header = I_DATA_HEADER.pack(
                I_DATA,
                flags,
                taken + I_DATA_SIZE,
                tsn & 0xFFFFFFFF,
                message.stream,
                0,
                message.number,
                fragment if fragment else message.ppid,
            )
        else:
            header = DATA_HEADER.pack(
                DATA, flags, taken + DATA_SIZE, tsn & 0xFFFFFFFF, message.stream, message.number, message.ppid
            )
        payload = message.data if taken == size else message.data[offset:end]
        message.offset = end
        self.size -= taken
        self.sizes[message.priority] -= taken
        if flags & LAST:
            self._remove(message)
        elif interleaving and len(turns) > 1 and turns[0][0] is message:
            turns.append(turns.pop(0))
        return SentChunk(tsn, header, payload, None if message.max_retransmits is None else message)

    def _begin(self, message: Outgoing) -> None:
        """Give the message its number. A message of one chunk pays for the entry in ``_current`` too; it is cheap."""
        key = (message.stream, message.ordered)
        if self.interleaving:
            number = self._numbers.get(key, 0)
            self._numbers[key] = (number + 1) & 0xFFFFFFFF
            message.number = number
            if message.ordered:
                self._current[message.stream] = message
            return
        message.number = 0
        if message.ordered:
            message.number = self._numbers.get(key, 0)
            self._numbers[key] = (message.number + 1) & 0xFFFF
        self._current[-1] = message

    def _remove(self, message: Outgoing) -> None:
        """Take the message out of its lane, and the lane out of the turns if it was the last."""
        current = self._current
        key = message.stream if self.interleaving else -1
        if current.get(key) is message:
            del current[key]
        self.count -= 1
        lane = self._lanes[message.priority, message.stream]
        turns = self._turns[message.priority]
        if lane[0] is message:
            lane.popleft()
        else:
            lane.remove(message)
        # This very lane: those that are equal in content are not meant.
        del turns[next(index for index, other in enumerate(turns) if other is lane)]
        if lane:
            turns.append(lane)

    def abandon(self, message: Outgoing) -> bool:
        """Send no more of a message that has been begun (RFC 3758 section 3.5); whether there was more of it."""
        message.is_abandoned = True
        left = message.size - message.offset
        if left:
            self.size -= left
            self.sizes[message.priority] -= left
            message.offset = message.size
            self._remove(message)
        return left > 0

    def restart_stream(self, stream: int) -> None:
        """Number the messages of this stream from zero again (RFC 6525 section 5.2.2)."""
        self._numbers.pop((stream, True), None)
        self._numbers.pop((stream, False), None)
