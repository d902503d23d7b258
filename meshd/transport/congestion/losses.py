"""Which losses mean congestion: those that a full queue explains, and not those that would have happened anyway.

A lost packet is judged by the round trip of its neighbours. Where that is near its minimum there was no queue to
overflow, so the loss is the path's own; such losses give the path's own rate of loss. Only what is lost
beyond that rate while the round trip is raised counts as congestion.
"""

from __future__ import annotations

import math

# Policy
MAX_OWN_LOSS = 0.25
"""Above this a path is not lossy but overfull, whatever the round trip says: a queue may be too short to be seen."""
MEMORY_PACKETS = 1500
"""Packets after which what was learned of the path's own loss counts half."""
DEVIATIONS = 2.5
"""How far above the expected number of losses a round must be: chance alone gets there once in some hundred rounds."""
FLOOD_LOSS = 0.15
FLOOD_PACKETS = 8
"""While the bandwidth is first searched a queue is of our own making and proves little: it takes this much loss."""
MIN_QUEUE_SHARE = 0.12
MIN_QUEUE_DELAY = 0.0015
"""A round trip above its minimum by this share and by this many seconds shows a queue; below are jitter and bursts."""


class LossJudge:
    """Counts packets acknowledged and lost, with and without a queue."""

    __slots__ = ("_quiet_lost", "_quiet_total", "_round_lost", "_round_total", "_threshold")

    def __init__(self) -> None:
        self._quiet_total = 0.0
        self._quiet_lost = 0.0
        self._round_total = 0.0
        self._round_lost = 0.0
        self._threshold = math.inf

    @property
    def own_loss(self) -> float:
        """The path's own rate of loss, 0 to MAX_OWN_LOSS."""
        if self._quiet_total < 1:
            return 0.0
        return min(self._quiet_lost / self._quiet_total, MAX_OWN_LOSS)

    def set_floor(self, round_trip: float) -> None:
        """Say what the round trip is without a queue, in seconds."""
        self._threshold = round_trip + max(MIN_QUEUE_SHARE * round_trip, MIN_QUEUE_DELAY)

    def is_queue(self, round_trip: float) -> bool:
        """Whether such a round trip shows a queue."""
        return round_trip > self._threshold

    def on_acknowledged(self, packets: int, round_trip: float, is_probing: bool) -> None:
        """Count acknowledged packets; ``is_probing``: more is being sent than the path is thought to carry."""
        if round_trip > self._threshold:
            self._round_total += packets
        elif not is_probing:
            self._quiet_total += packets
            if self._quiet_total > 2 * MEMORY_PACKETS:
                self._quiet_total /= 2
                self._quiet_lost /= 2

    def on_lost(self, packets: int, round_trip: float, is_probing: bool) -> bool:
        """Count lost packets; True if, with those of this round, they mean congestion."""
        if round_trip > self._threshold:
            self._round_lost += packets
            expected = self.own_loss * (self._round_total + self._round_lost)
            return self._round_lost > expected + DEVIATIONS * math.sqrt(expected)
        if not is_probing:
            self._quiet_total += packets
            self._quiet_lost += packets
            if self._quiet_total > 100 and self._quiet_lost > MAX_OWN_LOSS * self._quiet_total:
                self._quiet_total = self._quiet_lost = 0.0
                return True
        return False

    @property
    def is_flood(self) -> bool:
        """Whether so much of this round was lost in a queue that the search for the bandwidth has gone past it."""
        return self._round_lost >= FLOOD_PACKETS and self._round_lost > FLOOD_LOSS * (
            self._round_lost + self._round_total
        )

    def on_round(self) -> None:
        """Begin a new round."""
        self._round_total = self._round_lost = 0.0
