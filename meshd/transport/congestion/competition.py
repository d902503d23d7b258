"""Beside flows that fill the queue: noticing them, taking what CUBIC would take, and noticing that they have gone.

A model of the path alone is no match for a flow that keeps a queue standing: what it adds to the round trip is not in
the model, and the window that follows from the model becomes an ever smaller part of what is in flight. So there is
a window of the kind that flow has (``FairWindow``). It comes to be in two ways, and means two things:

- a loss that means congestion makes one; then it is a cap upon the model, as anybody's who shares a short queue;
- a queue that stands, for rounds, above what flows like ours make, while our own bandwidth falls, makes us
  **competing**: then it takes the place of the model.

Emptying what is ours of the queue shows whether it is anybody else's. A second flow of our kind that competes with us
by mistake sees the queue go down by more than a loss explains, and empties its part at the same time.
"""

from __future__ import annotations

import math

from meshd.transport.congestion.fair_window import FairWindow
from meshd.transport.congestion.filters import WindowedMin

# Policy
BASE_WINDOW = 45.0
"""Seconds for which the shortest round trip counts as the one without a queue: some cycles of a CUBIC flow, which
empties a queue seldom; and not for ever, since routes change."""
QUEUE_RATIO = 2.5
QUEUE_DELAY = 0.005
"""A queue that stands above so many round trips, and seconds, is not made by flows like ours: theirs is about one."""
QUEUE_ROUNDS = 6
LOST_BANDWIDTH = 0.85
"""We compete when our bandwidth has fallen to this part of what it was: a slow radio's delay is nobody's queue."""
FORGETTING = 0.998
"""What the bandwidth was is forgotten by this factor a round, half in 350 rounds."""
USED = 0.85
"""A window of which less is in flight does not grow."""
WHOLE_PACKETS = 2
"""In a window of 5.9 packets there are five, and we see those only that were the last of two to be acknowledged."""
UNTRIED_SHARE = 0.5
UNTRIED_GROWTH = 1.125
"""Who comes to a path that was ours alone is noticed late, when he has most of it and goes on growing. So until the
queue is full our window grows by this factor a round, as long as we have less than this part of what we had: half as
fast as RFC 9406 has those grow who are not sure that they should leave slow start."""
QUIET_GROWTH = 1.03
QUIET_INTERVAL = 0.02
"""While there is no queue the cap grows by this factor, so often at most: others have left, or it was cut by chance."""
CAP_RATIO = 1.5
"""A cap this much above the model's window is dropped."""
DRAIN_DEPTH = 4.0
DRAIN_SHARE = 0.62
"""That another flow empties its part is seen in deep queues only (in round trips), when so much is left. After a loss
CUBIC leaves 0.63 and more of such a queue."""
DRAIN_PAUSE = 5.0
EMPTY_RATIO = 1.3
EMPTY_DELAY = 0.002
"""A round trip within this of the shortest, when our own part of the queue is empty: there was no other's."""


class Competition:
    """Whether we compete, and the fair window, if there is one. Told of each round, each loss, and each emptying."""

    __slots__ = (
        "_base",
        "_before",
        "_grown",
        "_is_untried",
        "_peak",
        "_queued_rounds",
        "_quiet_bandwidth",
        "base",
        "fair",
        "is_competing",
    )

    def __init__(self, now: float) -> None:
        self.base = math.inf
        """The round trip without a queue, as far as we know, in seconds."""
        self.fair: FairWindow | None = None
        self.is_competing = False
        self._base: WindowedMin | None = None
        self._before: FairWindow | None = None
        self._grown = now
        self._peak = 0.0
        self._is_untried = False  # the fair window has not met a full queue yet
        self._queued_rounds = 0
        self._quiet_bandwidth = 0.0

    def on_round_trip(self, now: float, round_trip: float) -> None:
        """Say what the shortest round trip of a round was, in seconds."""
        if self._base is None:
            self._base = WindowedMin(BASE_WINDOW, round_trip, now)
        self._base.update(now, round_trip)
        self.base = self._base.value

    def on_round(
        self,
        now: float,
        *,
        round_trip: float,
        is_queue: bool,
        bandwidth: float,
        in_flight: float,
        window: float,
        least: float,
    ) -> None:
        """Say what a round was like.

        ``round_trip`` is its shortest, and ``is_queue`` what the judge of losses thinks of that; ``in_flight`` what
        was in flight at most and ``window`` what the model would allow, both in packets. ``least`` is how many seconds
        the path takes for the least window that we have: no round trip of ours is shorter than that.
        """
        # A queue that has overflowed before needs no other proof than that it never empties.
        alone = max(self.base, least)
        is_standing = round_trip > QUEUE_RATIO * alone + QUEUE_DELAY if self.fair is None else is_queue
        self._queued_rounds = self._queued_rounds + 1 if is_standing else 0
        self._quiet_bandwidth = max(bandwidth, FORGETTING * self._quiet_bandwidth) if is_queue else bandwidth
        if self.is_competing:
            self.is_competing = is_queue
        elif self._queued_rounds >= QUEUE_ROUNDS and (
            self.fair is not None or bandwidth < LOST_BANDWIDTH * self._quiet_bandwidth
        ):
            self.is_competing = True
            self._peak = round_trip
            if self.fair is None:
                self.fair = FairWindow(in_flight)
                self._is_untried = True
        fair = self.fair
        if fair is None:
            return
        if in_flight >= min(USED * fair.packets, fair.packets - WHOLE_PACKETS):
            fair.on_round(now, round_trip)
            if self.is_competing and self._is_untried and bandwidth < UNTRIED_SHARE * self._quiet_bandwidth:
                fair.packets *= UNTRIED_GROWTH
        if not self.is_competing:
            if not is_queue and now - self._grown >= QUIET_INTERVAL:
                self._grown = now
                fair.packets *= QUIET_GROWTH
            if fair.packets > CAP_RATIO * window:
                self.fair = None

    def on_congestion(self, in_flight: float) -> None:
        """Cut the fair window; ``in_flight`` in packets is what there was when the queue was full."""
        self._before = self.fair
        self._is_untried = False
        self.fair = FairWindow(in_flight) if self.fair is None else self.fair.copy()
        self.fair.on_congestion(in_flight)

    def forget(self) -> None:
        """Compete with nobody until there are signs of it again."""
        self.is_competing = self._is_untried = False
        self.fair = self._before = None
        self._queued_rounds = 0
        self._peak = self._quiet_bandwidth = 0.0

    def scale(self, factor: float) -> None:
        """Count in packets of another size."""
        if self.fair is not None:
            self.fair.scale(factor)
        if self._before is not None and self._before is not self.fair:
            self._before.scale(factor)

    def undo(self) -> None:
        """Take the last cut back: it was no loss."""
        if self._before is None or (self.fair is not None and self._before.packets > self.fair.packets):
            self.fair = self._before

    def is_emptied_by_another(self, round_trip: float, since_probe: float) -> bool:
        """Whether a deep queue goes down as if a flow like ours emptied its part of it."""
        if round_trip > self._peak:
            self._peak = round_trip
        base = self.base
        return (
            since_probe > DRAIN_PAUSE
            and self._peak > DRAIN_DEPTH * base
            and round_trip - base < DRAIN_SHARE * (self._peak - base)
        )

    def on_emptied(self, round_trip: float, bandwidth: float, least: float) -> None:
        """Say what the round trip was, in seconds, when our own part of the queue was empty."""
        self._queued_rounds = 0
        self._peak = 0.0
        if round_trip <= EMPTY_RATIO * max(self.base, least) + EMPTY_DELAY:
            self.is_competing = False
            self.fair = None
            self._quiet_bandwidth = bandwidth
