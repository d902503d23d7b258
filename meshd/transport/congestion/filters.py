"""The largest and the smallest of late, at a small and constant cost."""

from __future__ import annotations

from collections import deque

WINDOW_SLOTS = 3


class WindowedMax:
    """The largest value of this slot and of the ``length - 1`` before it. A slot is a round, or what you like."""

    __slots__ = ("_past", "_slot", "value")

    def __init__(self, length: int) -> None:
        self._past: deque[float] = deque(maxlen=length - 1)
        self._slot = 0.0
        self.value = 0.0

    def update(self, value: float) -> None:
        """Count a value in the current slot."""
        if value > self._slot:
            self._slot = value
            if value > self.value:
                self.value = value

    def advance(self) -> None:
        """Begin a new slot; the oldest is forgotten. A slot without any value is none."""
        if self._slot > 0:
            self._past.append(self._slot)
            self._slot = 0.0
            self.value = max(self._past)

    def reset(self, value: float) -> None:
        """Forget all but this value."""
        self._past.clear()
        self._slot = self.value = value


class WindowedMin:
    """The smallest value of the last ``window`` seconds, or of up to a third less, since it forgets in steps."""

    __slots__ = ("_past", "_slot", "_step", "_turn", "value")

    def __init__(self, window: float, value: float, now: float) -> None:
        self._past: deque[float] = deque(maxlen=WINDOW_SLOTS - 1)
        self._step = window / WINDOW_SLOTS
        self._turn = now + self._step
        self._slot = self.value = value

    def update(self, now: float, value: float) -> None:
        """Count a value."""
        if now >= self._turn:
            self._past.append(self._slot)
            self._turn = now + self._step
            self._slot = value
            self.value = min(value, min(self._past))
        elif value < self._slot:
            self._slot = value
            if value < self.value:
                self.value = value
