"""What the path carries: the largest delivery rate of late, unless the path has become slower."""

from __future__ import annotations

from meshd.transport.congestion.filters import WindowedMax

# Specification: draft-ietf-ccwg-bbr section 5.3.1.2
FULL_GROWTH = 1.25
FULL_ROUNDS = 3

# Policy
ROUNDS = 10
"""The bandwidth is the largest sample of so many rounds: of one cycle of probing at least."""
LOW_RATE = 0.6
LOW_ROUND_TRIP = 1.5
LOW_ROUND_TRIPS = 4
LOW_TIME = 0.02
"""Samples below this part of the bandwidth, at round trips this much above the shortest, for so many round trips and
seconds: the bandwidth has fallen, and is not looked for in the past any more. Silence counts as one round trip at most:
a path that is slow goes on saying so, and a process that was held up, ours or the peer's, is silent once."""


class Bandwidth:
    """``value`` in bytes a second, zero while nothing is known; ``is_full``: the search for it has come to an end."""

    __slots__ = ("_full", "_full_rounds", "_heard", "_largest", "_low_rate", "_low_time", "is_full", "value")

    def __init__(self, now: float) -> None:
        self.value = 0.0
        self.is_full = False
        self._largest = WindowedMax(ROUNDS)
        self._heard = now
        self._low_rate = 0.0
        self._low_time = 0.0  # how long all samples have been low
        self._full = 0.0
        self._full_rounds = 0

    def on_sample(
        self, now: float, rate: float, is_app_limited: bool, is_disturbed: bool, round_trip: float, shortest: float
    ) -> bool:
        """Take a sample in bytes a second, with the round trip and the shortest in seconds; True if it changes much.

        One that is ``is_disturbed`` covers a time in which a process was held up.
        """
        heard, self._heard = self._heard, now
        is_more = rate > self.value
        # A sender with little to say shows what the path carries only if that is more than was known.
        if is_more or not is_app_limited:
            self._largest.update(rate)
            self.value = self._largest.value
        if is_disturbed:
            return is_more
        if is_app_limited or rate >= LOW_RATE * self.value or round_trip <= LOW_ROUND_TRIP * shortest:
            self._low_rate = self._low_time = 0.0
            return is_more
        if rate > self._low_rate:
            self._low_rate = rate
        self._low_time += min(now - heard, shortest)
        if self.is_full and self._low_time > max(LOW_ROUND_TRIPS * shortest, LOW_TIME):
            self._largest.reset(self._low_rate)
            self.value = self._low_rate
            self._low_rate = self._low_time = 0.0
            return True
        return is_more

    def on_round(self, is_app_limited: bool, is_queue: bool) -> None:
        """Begin a new round. While the bandwidth is searched: has it still grown in the last?"""
        if not self.is_full and not is_app_limited:
            if self.value >= self._full * FULL_GROWTH:
                self._full = self.value
                self._full_rounds = 0
            else:
                # That there is a queue says it too: half the rounds, half the queue.
                self._full_rounds += 2 if is_queue else 1
                self.is_full = self._full_rounds >= FULL_ROUNDS

    def advance(self) -> None:
        """Forget the oldest round."""
        self._largest.advance()
        self.value = self._largest.value
