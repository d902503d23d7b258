"""Which losses mean congestion: those that a full queue explains, and not those that would have happened anyway.

A lost packet is judged by the round trip of its neighbours. A queue that overflows loses packets when the round trip
is at its longest; a radio loses them at any time. So what is lost while the round trip is in its lower part (or
shows no queue at all) gives the path's own rate of loss, and only what is lost beyond that rate in the upper part
counts as congestion. Round trips that jitter are no queue: then both parts lose alike.
"""

from __future__ import annotations

import math
from collections import deque

# Policy
MAX_OWN_LOSS = 0.25
"""Above this a path is not lossy but overfull, whatever the round trip says: a queue may be too short to be seen."""
MEMORY_PACKETS = 1500
"""Packets after which what was learned of the path's own loss counts half."""
DEVIATIONS = 4.0
"""How far above the expected number of losses a round must be: chance alone gets there once in a thousand rounds."""
RECENT_ROUNDS = 64
"""The lower part is that of so many rounds: of one cycle of a CUBIC flow, more or less."""
LOWER_SHARE = 0.4
"""It ends at this share of the way between the tenth and the ninetieth of a hundred round trips. Not at the median:
where a queue is always nearly full, most losses would be at or below that, and pass for the path's own."""
SEEN_ROUND_TRIPS = 128
"""Samples kept to judge losses by: a loss is told some packets after it happened."""
MIN_SPREAD = 0.25
"""A spread of round trips below this share of what they are above the shortest is no jitter but a queue that is always
full, and says nothing: all of its losses are alike, and all are congestion."""
MIN_QUIET_PACKETS = 30
"""Packets without a queue after which their losses say something."""
FLOOD_LOSS = 0.15
FLOOD_PACKETS = 8
"""While the bandwidth is first searched a queue is of our own making and proves little: it takes this much loss."""
MIN_QUEUE_SHARE = 0.12
MIN_QUEUE_DELAY = 0.0015
"""A round trip above its minimum by this share and by this many seconds shows a queue; below are jitter and bursts."""


class LossJudge:
    """Counts packets acknowledged and lost, with and without a queue."""

    __slots__ = (
        "_floor",
        "_loud",
        "_quiet_lost",
        "_quiet_total",
        "_recent",
        "_round_lost",
        "_round_total",
        "_seen",
        "_threshold",
    )

    def __init__(self) -> None:
        self._quiet_total = 0.0
        self._quiet_lost = 0.0
        self._round_total = 0.0
        self._round_lost = 0.0
        self._floor = 0.0
        self._threshold = math.inf
        self._loud = math.inf  # the upper part begins above this
        self._seen: deque[tuple[float, float]] = deque(maxlen=SEEN_ROUND_TRIPS)
        self._recent: deque[float] = deque(maxlen=RECENT_ROUNDS)

    @property
    def own_loss(self) -> float:
        """The path's own rate of loss, 0 to MAX_OWN_LOSS."""
        if self._quiet_total < MIN_QUIET_PACKETS:
            return 0.0
        return min(self._quiet_lost / self._quiet_total, MAX_OWN_LOSS)

    def set_floor(self, round_trip: float) -> None:
        """Say what the round trip is without a queue, in seconds."""
        if self._floor > round_trip + _margin(round_trip):
            # What was taken for an empty path was a queue, and its losses for the path's own.
            self._quiet_total = self._quiet_lost = 0.0
        self._floor = round_trip
        self._threshold = round_trip + _margin(round_trip)
        self._loud = max(self._threshold, self._middle())

    def is_queue(self, round_trip: float) -> bool:
        """Whether such a round trip shows a queue."""
        return round_trip > self._threshold

    def on_round_trip(self, sent: float, round_trip: float) -> None:
        """Note the round trip of a packet that left at ``sent``; both in seconds."""
        self._seen.append((sent, round_trip))

    def on_acknowledged(self, packets: int, round_trip: float, is_untypical: bool) -> None:
        """Count acknowledged packets; ``is_untypical``: more is being sent than the path is known to carry."""
        if round_trip > self._loud:
            self._round_total += packets
        elif not is_untypical:
            self._quiet_total += packets
            if self._quiet_total > 2 * MEMORY_PACKETS:
                self._quiet_total /= 2
                self._quiet_lost /= 2

    def on_lost(self, packets: int, sent: float, in_flight: float, is_untypical: bool) -> bool:
        """Count lost packets of ``in_flight``, the last of which left at ``sent``; ``is_untypical``: teach nothing.

        True if, with the others of this round, they mean congestion.
        """
        round_trip = self._seen[0][1] if self._seen else 0.0
        for neighbour, its_round_trip in reversed(self._seen):
            if neighbour <= sent:
                round_trip = its_round_trip  # what the one met that left just before
                break
        if round_trip > self._loud:
            self._round_lost += packets
            expected = self.own_loss * max(self._round_total + self._round_lost, in_flight)
            return self._round_lost > expected + DEVIATIONS * math.sqrt(expected)
        if not is_untypical:
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

    def on_round(self, round_trip: float) -> None:
        """Begin a new round; ``round_trip`` is the last of the one before."""
        self._round_total = self._round_lost = 0.0
        if round_trip != math.inf:
            self._recent.append(round_trip)
            self._loud = max(self._threshold, self._middle())

    def _middle(self) -> float:
        recent = sorted(self._recent)
        if not recent:
            return 0.0
        margin = len(recent) // 10
        low, high = recent[margin], recent[-1 - margin]
        if high - low < MIN_SPREAD * (high - self._floor):
            return 0.0
        return low + LOWER_SHARE * (high - low)


def _margin(shortest: float) -> float:
    return max(MIN_QUEUE_SHARE * shortest, MIN_QUEUE_DELAY)
