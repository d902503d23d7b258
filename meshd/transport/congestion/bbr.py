"""A congestion controller in the manner of BBR: led by a model of the path, not by its losses.

After draft-ietf-ccwg-bbr, with three things of our own, for paths that lose at random and for others who fill queues:
which losses count (``losses``), what to do beside CUBIC (``competition``), and a bandwidth that falls is believed
at once. ``docs/congestion.md`` explains it and has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from meshd.transport.congestion.aggregation import Aggregation
from meshd.transport.congestion.bandwidth import FULL_ROUNDS, Bandwidth
from meshd.transport.congestion.competition import EMPTY_RATIO, Competition
from meshd.transport.congestion.controller import Packet, initial_window
from meshd.transport.congestion.delivery_rate import DeliveryRate
from meshd.transport.congestion.interruption import Interruption
from meshd.transport.congestion.losses import LossJudge
from meshd.transport.congestion.phases import (
    DOWN_GAIN,
    DOWN_ROUNDS,
    DRAIN_GAIN,
    STARTUP_GAIN,
    UP_GAIN,
    UP_GROWTH,
    UP_ROUNDS,
    Cruises,
    Phase,
    probe_duration,
)

# Specification: draft-ietf-ccwg-bbr section 2
WINDOW_GAIN = 2.0
PACING_MARGIN = 0.99
MIN_WINDOW_PACKETS = 4
PROBE_WINDOW_GAIN = 0.5

# Policy
SEGMENT_SIZE = 1448
"""Bytes that a fair window counts as one packet, if ours are not larger: what TCP has in a packet of 1,500 bytes. A
window counted in smaller ones would be cut like TCP's and grow by less."""
MIN_RTT_WINDOW = 10.0
"""Seconds after which the shortest round trip is measured anew, by emptying the path. The draft has half of it."""
MAX_INFLATED_TIME = 30.0
"""The same, no matter how often it was seen: a queue that is always full shows a round trip that never changes."""
MIN_RTT_SLACK = 1.01
"""A round trip this near to the shortest shows that the shortest is still true."""
MIN_BUFFERED_TIME = 0.001
"""The window holds at least so much time, and three bursts: on the shortest paths the hosts are slower than the path.
What it holds more stands before small messages in the peer's socket. Slower hosts are ``aggregation``'s to notice."""
MAX_EXTRA_TIME = 0.1
"""Heaps of acknowledgements widen the window by so much time at most. Not less on short paths, though small messages
wait behind it: at 5 ms, simulated heaps of 10 ms had window and bandwidth shrink each other to a seventieth."""
QUANTUM_INTERVAL = 0.001
MAX_QUANTUM = 128 * 1024
"""Bytes; the window holds three of them, and twice as much was no faster on loopback."""
MAX_WINDOW = 1 << 30
MIN_RATE = 1000.0
MAX_RATE = 1e11
COMPETING_PACING_GAIN = 1.2
REST_TIME = 3.0
"""Seconds without anything in flight after which the share beside others is looked for as at the start: CUBIC takes
what is free in less, and a share grows back slowly. In simulation a flow had a third of what a new one gets."""


class Bbr:
    """See ``Controller``, and the module."""

    __slots__ = (
        "_aggregation",
        "_bandwidth",
        "_competition",
        "_cruise_rounds",
        "_cruises",
        "_cut_at",
        "_gain",
        "_interruption",
        "_judge",
        "_min_rtt",
        "_min_rtt_at",
        "_mtu",
        "_phase",
        "_phase_rounds",
        "_phase_start",
        "_probe_end",
        "_probed_at",
        "_ramp",
        "_rate",
        "_round_end",
        "_round_in_flight",
        "_round_rtt",
        "_rtt",
        "_segment",
        "_up_rate",
        "_up_rounds",
        "pacing_rate",
        "send_quantum",
        "window",
    )

    def __init__(self, now: float, mtu: int, *, seed: int = 0) -> None:
        self._mtu = mtu
        self._segment = max(mtu, SEGMENT_SIZE)  # what the fair window counts
        self._cruises = Cruises(seed, now)
        self._rate = DeliveryRate(now)
        self._bandwidth = Bandwidth(now)
        self._aggregation = Aggregation(now)
        self._judge = LossJudge()
        self._competition = Competition(now)
        self._interruption = Interruption(now)
        self._rtt = math.inf
        self._min_rtt = math.inf
        self._min_rtt_at = self._probed_at = now
        self._round_end = 0  # the round ends when a packet is acknowledged that left with so much delivered
        self._round_rtt = math.inf
        self._round_in_flight = 0
        self._phase = Phase.STARTUP
        self._phase_start = now
        self._phase_rounds = 0
        self._gain = STARTUP_GAIN
        self._cruise_rounds = 0
        self._up_rounds = 0
        self._up_rate = 0.0
        self._probe_end = math.inf
        self._cut_at = -math.inf
        self.window = initial_window(mtu)
        # At the start and after a timeout, the window until it has grown to the model's
        self._ramp = float(self.window)
        self.pacing_rate = STARTUP_GAIN * self.window / QUANTUM_INTERVAL
        self.send_quantum = self.window

    @property
    def phase(self) -> Phase:
        """Where in its search the controller is."""
        return self._phase

    @property
    def bandwidth(self) -> float:
        """What the path is thought to carry, in bytes a second; zero while nothing is known."""
        return self._bandwidth.value

    @property
    def is_competing(self) -> bool:
        """Whether somebody else keeps a queue standing, so that we take what CUBIC would."""
        return self._competition.is_competing

    # -- what the association says ------------------------------------------------------------------------------------

    def on_sent(self, now: float, size: int, in_flight: int) -> Packet:
        """Note the counters in a packet that leaves."""
        if in_flight <= 0:
            self._interruption.on_idle_end(now)
            if self._competition.fair is not None and now - self._rate.delivered_at > REST_TIME:
                self._begin_again(now)
        return self._rate.on_sent(now, size, in_flight)

    def on_acknowledged(self, now: float, packets: Sequence[Packet], in_flight: int, rtt: float | None) -> None:
        """Learn from one SACK: bandwidth, round trip, and where in the search we are."""
        if not packets:
            return
        sampler = self._rate
        sampler.on_acknowledged(now, packets)
        newest = packets[-1]
        bandwidth = self._bandwidth
        shortest = self._min_rtt if bandwidth.is_full else math.inf
        self._interruption.on_acknowledged(now, shortest, self._mtu / max(bandwidth.value, MIN_RATE))
        is_disturbed = self._interruption.has_met(newest.sent)
        is_changed = False
        if rtt is not None and rtt > 0:
            self._rtt = rtt
            if not is_disturbed:
                self._judge.on_round_trip(newest.sent, rtt)
                if rtt < self._round_rtt:
                    self._round_rtt = rtt
            if rtt <= self._min_rtt * MIN_RTT_SLACK:
                is_changed = self._on_short_round_trip(now, rtt)
        if bandwidth.on_sample(now, sampler.rate, sampler.is_app_limited, is_disturbed, self._rtt, self._min_rtt):
            is_changed = True
        if newest.in_flight > self._round_in_flight:
            self._round_in_flight = newest.in_flight
        if not is_disturbed:
            self._judge.on_acknowledged(len(packets), self._rtt, self._gain > 1 and bandwidth.is_full)
        self._aggregation.on_acknowledged(now, sampler.acknowledged, bandwidth.value)
        if newest.delivered >= self._round_end:
            self._round_end = sampler.delivered
            self._on_round(now, is_disturbed)
            is_changed = True
        is_changed |= self._search(now, newest, in_flight)
        if self._ramp != math.inf:
            self._ramp += sampler.acknowledged
            is_changed = True
        if is_changed:
            self._apply()

    def on_lost(self, now: float, packets: Sequence[Packet], in_flight: int) -> None:
        """Judge losses: only those of a full queue change anything."""
        if not packets:
            return
        newest = packets[-1]
        if newest.sent <= self._cut_at:
            return  # the queue was told of already
        is_untypical = (self._gain > 1 and self._bandwidth.is_full) or self._interruption.has_met(newest.sent)
        means_congestion = self._judge.on_lost(len(packets), newest.sent, newest.in_flight / self._mtu, is_untypical)
        in_flight_then = max(newest.in_flight, self._round_in_flight)
        if not self._bandwidth.is_full:
            # A first flight that meets a full queue says nothing of our share: others have filled it.
            is_first = in_flight_then <= initial_window(self._mtu) + self._mtu
            means_congestion = self._judge.is_flood and not is_first
        if means_congestion:
            self._cut_at = now
            self._competition.on_congestion(in_flight_then / self._segment)
            self._bandwidth.is_full = True
            if self._phase in (Phase.UP, Phase.DRAIN):
                self._enter(now, Phase.DOWN, DOWN_GAIN)
            self._apply()

    def on_timeout(self, now: float) -> None:
        """Begin again with a few packets and grow by what arrives; what is known of the path is kept."""
        self._ramp = float(MIN_WINDOW_PACKETS * self._mtu)
        self._apply()

    def on_spurious(self, now: float, packets: Sequence[Packet]) -> None:
        """Count what has arrived after all, and take the cut back that it led to."""
        for packet in packets:
            self._rate.delivered += packet.size
        if packets and packets[-1].sent <= self._cut_at:
            self._cut_at = -math.inf
            self._competition.undo()
            self._apply()

    def on_app_limited(self, in_flight: int) -> None:
        """Note that samples of what is in flight say nothing of the path."""
        self._rate.on_app_limited(in_flight)

    def on_mtu_change(self, mtu: int) -> None:
        """Count in packets of another size."""
        segment = max(mtu, SEGMENT_SIZE)
        self._competition.scale(self._segment / segment)
        self._mtu = mtu
        self._segment = segment
        self._apply()

    def _begin_again(self, now: float) -> None:
        """Look for the bandwidth anew: what was left to us beside others, they have long taken, or have gone."""
        self._competition.forget()
        self._bandwidth = Bandwidth(now)
        self._enter(now, Phase.STARTUP, STARTUP_GAIN)
        window = initial_window(self._mtu)
        self._ramp = float(window)
        self.pacing_rate = STARTUP_GAIN * window / QUANTUM_INTERVAL
        self._apply()

    # -- the model ----------------------------------------------------------------------------------------------------

    def _on_short_round_trip(self, now: float, rtt: float) -> bool:
        self._min_rtt_at = now
        if rtt >= self._min_rtt:
            return False
        self._min_rtt = rtt
        self._judge.set_floor(min(rtt, self._competition.base))
        return True

    def _on_round(self, now: float, is_disturbed: bool) -> None:
        self._phase_rounds += 1
        # While the bandwidth is searched packets leave in flights, with silence between them that says nothing.
        may_forget = not self._bandwidth.is_full or self._interruption.on_round(now, is_disturbed)
        if not is_disturbed:
            self._learn(now, self._round_rtt)
        if may_forget:
            self._bandwidth.advance()
        self._aggregation.extra.advance()
        self._round_rtt = math.inf
        self._round_in_flight = 0

    def _learn(self, now: float, rtt: float) -> None:
        """Take what a round has shown; ``rtt`` is its shortest round trip, infinite if there was none."""
        bandwidth = self._bandwidth.value
        is_queue = rtt != math.inf and rtt > EMPTY_RATIO * self._least() and self._judge.is_queue(rtt)
        self._bandwidth.on_round(self._rate.is_app_limited, is_queue)
        if self._phase is Phase.UP and bandwidth > UP_GROWTH * self._up_rate:
            self._up_rate = bandwidth
            self._up_rounds = self._phase_rounds + UP_ROUNDS
        if rtt != math.inf:
            self._competition.on_round_trip(now, rtt)
        if rtt != math.inf and self._bandwidth.is_full and self._phase is not Phase.PROBE_RTT:
            self._competition.on_round(
                now,
                round_trip=rtt,
                is_queue=is_queue,
                bandwidth=bandwidth,
                in_flight=self._round_in_flight / self._segment,
                window=WINDOW_GAIN * bandwidth * self._min_rtt / self._segment,
                least=self._least(),
            )
        self._judge.on_round(self._rtt)

    def _least(self) -> float:
        """Seconds that the path takes for the least window."""
        bandwidth = self._bandwidth.value
        return MIN_WINDOW_PACKETS * self._mtu / bandwidth if bandwidth > 0 else 0.0

    # -- the search ---------------------------------------------------------------------------------------------------

    def _enter(self, now: float, phase: Phase, gain: float) -> None:
        self._phase = phase
        self._phase_start = now
        self._phase_rounds = 0
        self._gain = gain

    def _search(self, now: float, newest: Packet, in_flight: int) -> bool:
        """Go on to the next phase if it is time; True if it was."""
        phase = self._phase
        bdp = self._bandwidth.value * self._min_rtt
        if phase is Phase.CRUISE:
            if self._phase_rounds >= self._cruise_rounds:
                self._up_rounds = UP_ROUNDS
                self._up_rate = self._bandwidth.value
                self._enter(now, Phase.UP, UP_GAIN)
        elif phase is Phase.STARTUP:
            if self._bandwidth.is_full:
                self._enter(now, Phase.DRAIN, DRAIN_GAIN)
        elif phase is Phase.DRAIN:
            if in_flight <= bdp or self._phase_rounds > FULL_ROUNDS:
                self._enter(now, Phase.DOWN, DOWN_GAIN)
        elif phase is Phase.UP:
            is_reached = in_flight >= min(UP_GAIN * bdp, self.window - self._mtu)
            if now - self._phase_start > self._min_rtt and (is_reached or self._phase_rounds >= self._up_rounds):
                self._enter(now, Phase.DOWN, DOWN_GAIN)
        elif phase is Phase.DOWN:
            if in_flight <= bdp or self._phase_rounds >= DOWN_ROUNDS:
                self._cruise(now)
        else:
            return self._search_rtt(now, in_flight)
        return self._consider_probe(now, newest) or self._phase is not phase

    def _cruise(self, now: float) -> None:
        self._cruise_rounds = self._cruises.draw()
        self._enter(now, Phase.CRUISE, 1.0)

    def _consider_probe(self, now: float, newest: Packet) -> bool:
        """Begin to empty the path if its round trip has not been seen for long, or somebody else empties his part."""
        competition = self._competition
        since_probe = now - self._probed_at
        is_stale = now - self._min_rtt_at > MIN_RTT_WINDOW
        if competition.is_competing:
            is_stale = since_probe > MIN_RTT_WINDOW or competition.is_emptied_by_another(self._rtt, since_probe)
        if not (is_stale or since_probe > MAX_INFLATED_TIME) or self._rtt == math.inf:
            return False
        self._min_rtt = self._rtt
        self._min_rtt_at = now
        if newest.in_flight <= MIN_WINDOW_PACKETS * self._mtu:
            # One that left when hardly anything was in flight has seen the path empty already.
            self._probed_at = now
            return True
        self._probe_end = math.inf
        self._enter(now, Phase.PROBE_RTT, 1.0)
        return True

    def _search_rtt(self, now: float, in_flight: int) -> bool:
        if self._probe_end == math.inf:
            if in_flight <= self.window:
                self._probe_end = now + probe_duration(self._min_rtt)
                self._phase_rounds = 0
            return False
        if now < self._probe_end or self._phase_rounds == 0:
            return False
        self._min_rtt_at = self._probed_at = now
        self._competition.on_emptied(self._min_rtt, self._bandwidth.value, self._least())
        self._judge.set_floor(min(self._min_rtt, self._competition.base))
        if self._bandwidth.is_full:
            self._cruise(now)
        else:
            self._enter(now, Phase.STARTUP, STARTUP_GAIN)
        return True

    # -- what follows from it -----------------------------------------------------------------------------------------

    def _apply(self) -> None:
        mtu = self._mtu
        bandwidth = self._bandwidth.value
        min_rtt = self._min_rtt
        smallest = float(MIN_WINDOW_PACKETS * mtu)
        if bandwidth <= 0 or min_rtt == math.inf:
            window = max(float(initial_window(mtu)), smallest)
            pacing = self.pacing_rate
        else:
            if not self._bandwidth.is_full:
                # As long as little was said, nothing speaks against the initial window.
                bandwidth = max(bandwidth, initial_window(mtu) / min_rtt)
            pacing = self._gain * bandwidth * PACING_MARGIN
            competition = self._competition
            if self._phase is Phase.PROBE_RTT:
                window = PROBE_WINDOW_GAIN * bandwidth * min(min_rtt, competition.base)
            else:
                extra = min(self._aggregation.extra.value, MAX_EXTRA_TIME * bandwidth)
                window = WINDOW_GAIN * bandwidth * min_rtt + extra
                window = max(window, bandwidth * MIN_BUFFERED_TIME, 3.0 * self.send_quantum)
                fair = competition.fair
                if fair is not None:
                    if competition.is_competing:
                        window = fair.packets * self._segment
                        pacing = max(pacing, COMPETING_PACING_GAIN * window / self._rtt)
                    else:
                        window = min(window, fair.packets * self._segment)
        if window < smallest:
            window = smallest
        if self._ramp < window:
            window = max(self._ramp, smallest)
        else:
            self._ramp = math.inf
        self.window = int(min(window, MAX_WINDOW))
        self.pacing_rate = pacing = min(max(pacing, MIN_RATE), MAX_RATE)
        self.send_quantum = int(max(2 * mtu, min(pacing * QUANTUM_INTERVAL, MAX_QUANTUM)))
