"""Which chunks are lost, and when to ask: RACK and tail-loss probes (RFC 8985) and T3-rtx (RFC 9260 section 6.3).

RACK calls a chunk lost when one that left later has arrived, and a little time for reordering has gone by. It looks
only at the front of the order of sending, so a SACK that shows no loss costs nothing but the chunks it names.
"""

from __future__ import annotations

from collections import deque

from meshd.transport.outstanding import IN_FLIGHT, LOST, SentChunk
from meshd.transport.round_trip import RoundTrip

# Specification
DUPLICATE_THRESHOLD = (
    3  # RFC 8985 section 6.2: chunks above a gap that make waiting needless while no reordering is seen
)
REORDERING_ROUNDS = 16  # section 6.2 step 4: how long a widened reordering window lasts

# Policy
MAX_REORDERING_FACTOR = 8  # quarters of the round trip; section 6.2 caps the window at the round trip
PEER_ACK_DELAY = 0.025  # seconds a lone packet may wait for its acknowledgement (ours: 20 ms), for the probe's timer

LATE = 0.01  # seconds; a timer that comes later than this tells that we were held up
SPARE_TIME = 0.005
"""Once it is given this: what the peer has said meanwhile lies unread, for event loops look at their timers first."""


class LossRecovery:
    """One sender's view of what is in flight in the order it left."""

    __slots__ = (
        "_factor",
        "_is_reordering_seen",
        "_may_repeat",
        "_newest",
        "_newest_rtt",
        "_order",
        "_probe_allowed",
        "_rounds_left",
        "_spared",
        "_t3_since",
        "_tail_since",
        "reordering_deadline",
        "round_trip",
    )

    def __init__(self) -> None:
        self.round_trip = RoundTrip()
        self._order: deque[SentChunk] = deque()
        self._newest = 0
        self._newest_rtt = 0.0
        self._is_reordering_seen = False
        self._factor = 1
        self._rounds_left = 0
        self._t3_since: float | None = None
        self._tail_since = 0.0
        self._probe_allowed = True
        self._may_repeat = False  # something that left since all was acknowledged may leave again
        self._spared: float | None = None  # until then the timers wait
        self.reordering_deadline: float | None = None

    def on_sent(self, chunk: SentChunk, now: float) -> None:
        """Note a chunk that leaves, for the first time or again."""
        self._order.append(chunk)
        self._tail_since = now
        if not self._may_repeat:
            self._may_repeat = _may_repeat(chunk)
        if self._t3_since is None:
            self._t3_since = now

    def on_acknowledged(self, newly: list[SentChunk], now: float, is_waiting: bool) -> float | None:
        """Take what a SACK newly names; answer a sample of the round trip or None. ``is_waiting``: there is more."""
        newest = self._newest
        sample: SentChunk | None = None
        minimum = self.round_trip.min_rtt or 0.0
        for chunk in newly:
            number = chunk.number
            if number > newest:
                if chunk.sends > 1 and now - chunk.sent < minimum:
                    continue  # what arrived must have been the former transmission (RFC 8985 section 6.2 step 2)
                newest = number
                sample = chunk
            elif number < newest and chunk.sends == 1 and chunk.number < self._newest:
                self._is_reordering_seen = True
        rtt: float | None = None
        if sample is not None:
            self._newest = newest
            self._newest_rtt = now - sample.sent
            if sample.sends == 1:
                rtt = self._newest_rtt
                self.round_trip.sample(rtt, now)
                # Not by what was sent twice (RFC 6298 section 5): on a path slower than the timeout nothing else
                # would ever wait long enough to be measured.
                self.round_trip.on_progress()
        self._t3_since = now if is_waiting else None
        self._may_repeat = self._may_repeat and is_waiting
        self._tail_since = now
        self._probe_allowed = True
        self._spared = None
        return rtt

    def on_duplicate(self) -> None:
        """The peer got something twice: a retransmission was needless, so reordering is given more time."""
        self._is_reordering_seen = True
        self._factor = min(self._factor + 1, MAX_REORDERING_FACTOR)
        self._rounds_left = REORDERING_ROUNDS

    def detect(self, now: float) -> list[SentChunk]:
        """The chunks that are lost by now; their states are set. Sets ``reordering_deadline`` if some may be soon."""
        order = self._order
        self.reordering_deadline = None
        lost: list[SentChunk] = []
        newest = self._newest
        window = -1.0
        while order:
            chunk = order[0]
            if chunk.state != IN_FLIGHT:
                order.popleft()
                continue
            if chunk.number >= newest:
                break
            if window < 0:
                window = self._reordering_window(newest - chunk.number)
            due = chunk.sent + self._newest_rtt + window
            if due > now:
                self.reordering_deadline = due
                break
            order.popleft()
            chunk.state = LOST
            lost.append(chunk)
        if lost and self._rounds_left:
            self._rounds_left -= 1
            if not self._rounds_left:
                self._factor = 1
        return lost

    def _reordering_window(self, packets_behind: int) -> float:
        """RFC 8985 section 6.2 step 4."""
        if not self._is_reordering_seen and packets_behind >= DUPLICATE_THRESHOLD:
            return 0.0
        round_trip = self.round_trip
        minimum = round_trip.min_rtt or 0.0
        smoothed = round_trip.srtt or 0.0
        return min(self._factor * minimum / 4, smoothed)

    def deadline(self, in_flight: int) -> float | None:
        """When ``handle_timer`` is due next."""
        due = self._due(in_flight)
        return due if due is None or self._spared is None else max(due, self._spared)

    def _due(self, in_flight: int) -> float | None:
        if self._t3_since is None:
            return self.reordering_deadline
        due = self._t3_since + self.round_trip.timeout()
        if self._probe_allowed and self._may_repeat and in_flight:
            due = min(due, self._probe_due())
        if self.reordering_deadline is not None:
            due = min(due, self.reordering_deadline)
        return due

    def _probe_due(self) -> float:
        """RFC 8985 section 7.2: two round trips without a word, and the time a peer may sit on an acknowledgement."""
        srtt = self.round_trip.srtt
        if srtt is None:
            return self._tail_since + self.round_trip.rto
        return self._tail_since + 2 * srtt + PEER_ACK_DELAY

    def is_held_up(self, now: float, in_flight: int) -> bool:
        """Whether the timers are to wait a moment more, because they come so late that we must have been held up."""
        if self._spared is not None:
            return now < self._spared
        due = self._due(in_flight)
        if due is None or now - due <= LATE:
            return False
        self._spared = now + SPARE_TIME
        return True

    def is_timed_out(self, now: float) -> bool:
        """Whether T3-rtx has run out."""
        return self._t3_since is not None and now >= self._t3_since + self.round_trip.timeout()

    def take_probe(self, now: float, in_flight: int) -> bool:
        """Whether a tail-loss probe is due; there is one until the next acknowledgement."""
        if (
            not (self._probe_allowed and self._may_repeat and in_flight)
            or self._t3_since is None
            or now < self._probe_due()
        ):
            return False
        self._probe_allowed = False
        return True

    def tail(self) -> SentChunk | None:
        """Take the chunk that left last, is still in flight and may leave again out of the order, as a probe.

        Not one that goes once (RFC 3758): it would break its promise, and a heartbeat would be answered twice.
        """
        order = self._order
        while order and order[-1].state != IN_FLIGHT:
            order.pop()
        for index in range(len(order) - 1, -1, -1):
            chunk = order[index]
            if chunk.state == IN_FLIGHT and _may_repeat(chunk):
                del order[index]
                return chunk
        return None

    def on_timeout(self, now: float) -> list[SentChunk]:
        """T3-rtx ran out: everything in flight is lost (RFC 9260 section 6.3.3)."""
        self.round_trip.on_timeout()
        lost = [chunk for chunk in self._order if chunk.state == IN_FLIGHT]
        for chunk in lost:
            chunk.state = LOST
        self._order.clear()
        self.reordering_deadline = None
        self._t3_since = now
        self._probe_allowed = False
        self._spared = None
        return lost

    def expire(self, now: float) -> None:
        """Let T3-rtx run out now, and wait no longer than at the beginning after that."""
        self.round_trip.on_progress()
        if self._t3_since is not None:
            self._t3_since = now - self.round_trip.timeout()

    def start_timer(self, now: float) -> None:
        """Run T3-rtx though nothing is in flight: a FORWARD-TSN may get lost too."""
        if self._t3_since is None:
            self._t3_since = now

    def stop_timer(self) -> None:
        """Everything is acknowledged."""
        self._t3_since = None


def _may_repeat(chunk: SentChunk) -> bool:
    """Whether a chunk that has left may leave once more."""
    message = chunk.message
    return message is None or message.max_retransmits is None or chunk.sends <= message.max_retransmits
