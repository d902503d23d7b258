"""Deadlines by name, in one heap."""

from __future__ import annotations

import heapq

Key = tuple[str, bytes]  # a machine's timer and what it is about


class Timers:
    """Each key has at most one deadline (monotonic seconds); setting it again moves it.

    The heap keeps superseded entries until they come up; ``_deadlines`` says which entry counts. It is rebuilt when
    more than half of it is superseded, so its size stays within twice the number of live timers.
    """

    __slots__ = ("_deadlines", "_heap", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Key]] = []
        self._deadlines: dict[Key, tuple[float, int]] = {}
        self._sequence = 0  # makes equal deadlines come up in the order they were set: part of being repeatable

    def __len__(self) -> int:
        """How many are set."""
        return len(self._deadlines)

    def set(self, key: Key, deadline: float) -> None:
        """Set or move."""
        self._sequence += 1
        self._deadlines[key] = (deadline, self._sequence)
        heapq.heappush(self._heap, (deadline, self._sequence, key))
        if len(self._heap) > 2 * len(self._deadlines) + 64:
            self._heap = [(when, sequence, name) for name, (when, sequence) in self._deadlines.items()]
            heapq.heapify(self._heap)

    def set_at_latest(self, key: Key, deadline: float) -> None:
        """Set, or move to an earlier time; one that is due sooner anyway stays as it is."""
        known = self._deadlines.get(key)
        if known is None or deadline < known[0]:
            self.set(key, deadline)

    def is_set(self, key: Key) -> bool:
        """Whether it has a deadline."""
        return key in self._deadlines

    def cancel(self, key: Key) -> None:
        """Forget it, if it is set."""
        self._deadlines.pop(key, None)

    def next_deadline(self) -> float | None:
        """The earliest, or None."""
        while self._heap:
            when, sequence, key = self._heap[0]
            if self._deadlines.get(key) == (when, sequence):
                return when
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now: float) -> tuple[Key, float] | None:
        """Take the earliest one that is due, with its deadline; None if none is."""
        deadline = self.next_deadline()
        if deadline is None or deadline > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._deadlines[key]
        return key, deadline
