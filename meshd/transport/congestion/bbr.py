"""A congestion controller in the manner of BBR: paced by a model of the path, not by its losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

from meshd.transport.congestion.controller import Packet
from meshd.transport.congestion.delivery_rate import DeliveryRate
from meshd.transport.congestion.fair_window import FairWindow
from meshd.transport.congestion.filters import WindowedMax, WindowedMin
from meshd.transport.congestion.losses import LossJudge

# Specification: draft-ietf-ccwg-bbr section 2
STARTUP_GAIN = 2.77
DRAIN_GAIN = 0.5
WINDOW_GAIN = 2.0
FULL_BANDWIDTH_GROWTH = 1.25
FULL_BANDWIDTH_ROUNDS = 3
MIN_ROUND_TRIP_WINDOW = 10.0
PROBE_ROUND_TRIP_DURATION = 0.2
MIN_WINDOW_PACKETS = 4
INITIAL_PACKETS = 10

# Policy
UP_GAIN = 1.25
DOWN_GAIN = 0.75
BANDWIDTH_ROUNDS = 10
CRUISE_ROUNDS = (4, 8)
BASE_ROUND_TRIP_WINDOW = 45.0
COMPETING_ROUNDS = 12
PACING_MARGIN = 0.99
MAX_WINDOW = 1 << 30
MAX_RATE = 1e12
MAX_QUANTUM = 256 * 1024
QUANTUM_INTERVAL = 0.001
MIN_BUFFERED_TIME = 0.004
PROBE_ROUND_TRIP_GAIN = 0.5
LOW_RATE = 0.6


class Phase(Enum):
    """Where in its search the controller is."""

    STARTUP = "startup"
    DRAIN = "drain"
    DOWN = "down"
    CRUISE = "cruise"
    UP = "up"
    PROBE_ROUND_TRIP = "probe_round_trip"


class Bbr:
    """See docs/congestion.md."""

    def __init__(self, now: float, mtu: int, *, seed: int = 0) -> None:
        self._mtu = mtu
        self._random = (seed ^ int(now * 1e6) ^ 0x5DEECE66D) & 0xFFFFFFFFFFFF
        self._rate = DeliveryRate(now)
        self._bandwidth = WindowedMax(BANDWIDTH_ROUNDS)
        self._extra = WindowedMax(BANDWIDTH_ROUNDS)
        self._extra_from = now
        self._extra_bytes = 0
        self._judge = LossJudge()
        self._fair: FairWindow | None = None
        self._is_competing = False
        self._base: WindowedMin | None = None
        self._min_rtt = math.inf
        self._min_rtt_at = now
        self._rtt = math.inf
        self._quiet_rounds = 0
        self._queued_rounds = 0
        self._round_end = 0
        self._round_start = now
        self._round_min_rtt = math.inf
        self._round_rate = 0.0
        self._round_in_flight = 0
        self._full_bandwidth = 0.0
        self._full_rounds = 0
        self._is_full = False
        self._cut_at = -math.inf
        self._phase = Phase.STARTUP
        self._phase_start = now
        self._phase_rounds = 0
        self._cruise_rounds = 0
        self._up_rounds = 0
        self._up_rate = 0.0
        self._gain = STARTUP_GAIN
        self._ramp = math.inf
        self._probe_done = math.inf
        self._good_at = now
        self._recent_rate = 0.0
        self._max_in_flight = 0
        self.window = INITIAL_PACKETS * mtu
        self.pacing_rate = STARTUP_GAIN * self.window / 0.001
        self.send_quantum = self.window

    # -- what the association says ------------------------------------------------------------------------------------

    def on_sent(self, now: float, size: int, in_flight: int) -> Packet:
        """Note the model's counters in a packet that leaves."""
        return self._rate.on_sent(now, size, in_flight)

    def on_acknowledged(self, now: float, packets: Sequence[Packet], in_flight: int, rtt: float | None) -> None:
        """Learn from one SACK: bandwidth, round trip, and where in the search we are."""
        if not packets:
            return
        sampler = self._rate
        sampler.on_acknowledged(now, packets)
        newest = packets[-1]
        if rtt is not None and rtt > 0:
            self._on_round_trip(now, rtt)
        rate = sampler.rate
        if rate > self._bandwidth.value or not sampler.is_app_limited:
            self._bandwidth.update(rate)
            if rate > self._round_rate:
                self._round_rate = rate
        if newest.in_flight > self._round_in_flight:
            self._round_in_flight = newest.in_flight
        self._judge.on_acknowledged(len(packets), self._rtt, self._gain > 1)
        self._count_extra(now, sampler.acknowledged)
        self._watch_for_drop(now, rate, sampler.is_app_limited)
        if newest.delivered >= self._round_end:
            self._round_end = sampler.delivered
            self._on_round(now, in_flight)
        self._step(now, in_flight)
        if self._ramp != math.inf:
            self._ramp += sampler.acknowledged
        self._set(now)

    def on_lost(self, now: float, packets: Sequence[Packet], in_flight: int) -> None:
        """Judge losses: only those of a full queue change anything."""
        if not packets:
            return
        for packet in packets:
            self._rate.lost += packet.size
        newest = packets[-1]
        if newest.sent <= self._cut_at:
            return
        count = len(packets)
        if self._judge.on_lost(count, self._rtt, self._gain > 1) and (self._is_full or self._judge.is_flood):
            self._on_congestion(now, newest.in_flight)

    def on_timeout(self, now: float) -> None:
        """Begin again with a few packets and grow by what arrives; what the model knows is kept."""
        self._ramp = MIN_WINDOW_PACKETS * self._mtu
        self._set(now)

    def on_spurious(self, now: float, packets: Sequence[Packet]) -> None:
        """Nothing to take back: the model did not count them delivered."""
        return

    def on_app_limited(self, in_flight: int) -> None:
        """Samples of what is in flight say nothing about the path."""
        self._rate.on_app_limited(in_flight)

    def on_mtu_change(self, mtu: int) -> None:
        """Count in packets of another size."""
        if self._fair is not None:
            self._fair.packets *= self._mtu / mtu
        self._mtu = mtu

    # -- the model ----------------------------------------------------------------------------------------------------

    def _on_round_trip(self, now: float, rtt: float) -> None:
        self._rtt = rtt
        if rtt < self._round_min_rtt:
            self._round_min_rtt = rtt
        if self._base is None:
            self._base = WindowedMin(BASE_ROUND_TRIP_WINDOW, rtt, now)
        else:
            self._base.update(now, rtt)
        if rtt < self._min_rtt:
            self._min_rtt = rtt
            self._min_rtt_at = now
            self._judge.set_floor(min(rtt, self._base.value))
        elif rtt <= self._min_rtt * 1.01 + 0.0001:
            self._min_rtt_at = now

    def _count_extra(self, now: float, acknowledged: int) -> None:
        expected = self._bandwidth.value * (now - self._extra_from)
        if self._extra_bytes <= expected:
            self._extra_from = now
            self._extra_bytes = 0
            expected = 0.0
        self._extra_bytes += acknowledged
        extra = self._extra_bytes - expected
        if extra > 0:
            self._extra.update(extra)

    def _watch_for_drop(self, now: float, rate: float, is_app_limited: bool) -> None:
        if is_app_limited or rate >= LOW_RATE * self._bandwidth.value or self._rtt < 1.5 * self._min_rtt:
            self._good_at = now
            self._recent_rate = 0.0
            return
        if rate > self._recent_rate:
            self._recent_rate = rate
        if now - self._good_at > max(4 * self._min_rtt, 0.02) and self._is_full:
            self._bandwidth.reset(self._recent_rate)
            self._good_at = now
            self._recent_rate = 0.0

    def _on_round(self, now: float, in_flight: int) -> None:
        self._bandwidth.advance()
        self._extra.advance()
        self._judge.on_round()
        self._phase_rounds += 1
        if self._phase is Phase.UP and self._bandwidth.value > 1.1 * self._up_rate:
            self._up_rate = self._bandwidth.value
            self._up_rounds = self._phase_rounds + 2
        if not self._is_full and not self._rate.is_app_limited:
            if self._bandwidth.value >= self._full_bandwidth * FULL_BANDWIDTH_GROWTH:
                self._full_bandwidth = self._bandwidth.value
                self._full_rounds = 0
            else:
                self._full_rounds += 1
                self._is_full = self._full_rounds >= FULL_BANDWIDTH_ROUNDS
        low = self._round_min_rtt
        if low != math.inf and self._is_full and self._phase is not Phase.PROBE_ROUND_TRIP:
            if self._judge.is_queue(low):
                self._queued_rounds += 1
            else:
                self._queued_rounds = 0
        self._compete(now)
        self._round_min_rtt = math.inf
        self._round_rate = 0.0
        self._round_in_flight = 0
        self._round_start = now

    def _compete(self, now: float) -> None:
        fair = self._fair
        if self._is_competing:
            if self._queued_rounds == 0 and self._phase is not Phase.PROBE_ROUND_TRIP:
                self._is_competing = False
        elif self._queued_rounds >= COMPETING_ROUNDS:
            self._is_competing = True
            if fair is None:
                fair = self._fair = FairWindow(max(self._round_in_flight / self._mtu, MIN_WINDOW_PACKETS))
        if fair is None or self._phase is Phase.PROBE_ROUND_TRIP:
            return
        if self._round_in_flight >= 0.85 * fair.packets * self._mtu:
            fair.on_round(now, self._rtt)
        if not self._is_competing:
            if self._round_min_rtt != math.inf and not self._judge.is_queue(self._rtt):
                fair.packets *= 1.03
            if fair.packets * self._mtu > 1.5 * self._target(WINDOW_GAIN):
                self._fair = None

    def _on_congestion(self, now: float, in_flight: int) -> None:
        self._cut_at = now
        packets = in_flight / self._mtu
        if self._fair is None:
            self._fair = FairWindow(packets)
        self._fair.on_congestion(packets)
        if self._phase is Phase.STARTUP:
            self._is_full = True
        elif self._phase is Phase.UP:
            self._enter(now, Phase.DOWN, DOWN_GAIN)
        self._set(now)

    # -- the search ---------------------------------------------------------------------------------------------------

    def _enter(self, now: float, phase: Phase, gain: float) -> None:
        self._phase = phase
        self._phase_start = now
        self._phase_rounds = 0
        self._gain = gain

    def _step(self, now: float, in_flight: int) -> None:
        phase = self._phase
        if phase is Phase.CRUISE:
            if self._phase_rounds >= self._cruise_rounds:
                self._up_rounds = 2
                self._up_rate = self._bandwidth.value
                self._enter(now, Phase.UP, UP_GAIN)
        elif phase is Phase.STARTUP:
            if self._is_full:
                self._enter(now, Phase.DRAIN, DRAIN_GAIN)
        elif phase is Phase.DRAIN:
            if in_flight <= self._target(1.0) or self._phase_rounds > 3:
                self._enter(now, Phase.DOWN, DOWN_GAIN)
        elif phase is Phase.UP:
            if now - self._phase_start > self._min_rtt and (
                self._phase_rounds >= self._up_rounds
                or in_flight >= self._target(UP_GAIN)
                or in_flight >= self.window - self._mtu
            ):
                self._enter(now, Phase.DOWN, DOWN_GAIN)
        elif phase is Phase.DOWN:
            if in_flight <= self._target(1.0) or self._phase_rounds >= 2:
                self._cruise_rounds = self._draw(*CRUISE_ROUNDS)
                self._enter(now, Phase.CRUISE, 1.0)
        elif now >= self._probe_done and self._phase_rounds >= 1:
            self._end_probe(now)
            return
        elif self._probe_done == math.inf and in_flight <= self.window:
            self._probe_done = now + PROBE_ROUND_TRIP_DURATION
            self._phase_rounds = 0
        if now - self._min_rtt_at > MIN_ROUND_TRIP_WINDOW and phase is not Phase.PROBE_ROUND_TRIP:
            self._min_rtt = self._rtt
            self._min_rtt_at = now
            self._probe_done = math.inf
            self._enter(now, Phase.PROBE_ROUND_TRIP, 1.0)

    def _end_probe(self, now: float) -> None:
        self._min_rtt_at = now
        assert self._base is not None
        self._judge.set_floor(min(self._min_rtt, self._base.value))
        if self._is_full:
            self._cruise_rounds = self._draw(*CRUISE_ROUNDS)
            self._enter(now, Phase.CRUISE, 1.0)
        else:
            self._enter(now, Phase.STARTUP, STARTUP_GAIN)

    def _draw(self, low: int, high: int) -> int:
        self._random = (self._random * 0x5DEECE66D + 0xB) & 0xFFFFFFFFFFFF
        return low + (self._random >> 17) % (high - low + 1)

    # -- what follows -------------------------------------------------------------------------------------------------

    def _target(self, gain: float) -> float:
        if self._min_rtt == math.inf:
            return INITIAL_PACKETS * self._mtu
        return gain * self._bandwidth.value * self._min_rtt

    def _set(self, now: float) -> None:
        bandwidth = self._bandwidth.value
        if bandwidth <= 0 or self._min_rtt == math.inf:
            if self._ramp != math.inf:
                self.window = int(min(self._ramp, MAX_WINDOW))
            return
        gain = self._gain
        bdp = bandwidth * self._min_rtt
        mtu = self._mtu
        fair = self._fair
        pacing = gain * bandwidth * PACING_MARGIN
        if self._phase is Phase.PROBE_ROUND_TRIP:
            window = PROBE_ROUND_TRIP_GAIN * bdp
        else:
            window = (STARTUP_GAIN if self._phase is Phase.STARTUP else WINDOW_GAIN) * bdp + min(
                self._extra.value, 0.1 * bandwidth
            )
            window = max(window, bandwidth * MIN_BUFFERED_TIME, 3.0 * self.send_quantum)
            if fair is not None:
                if self._is_competing:
                    window = max(fair.packets * mtu, 0.5 * bdp)
                    pacing = max(pacing, 1.2 * window / self._rtt)
                else:
                    window = min(window, fair.packets * mtu)
        if not self._is_full and pacing < self.pacing_rate and self._phase is Phase.STARTUP:
            pacing = self.pacing_rate if self._rate.delivered < 2 * INITIAL_PACKETS * mtu else pacing
        window = max(window, MIN_WINDOW_PACKETS * mtu)
        if window >= self._ramp:
            window = max(self._ramp, MIN_WINDOW_PACKETS * mtu)
            self._ramp = math.inf
        elif self._ramp != math.inf:
            window = self._ramp
        self.window = int(min(window, MAX_WINDOW))
        self.pacing_rate = min(max(pacing, 1000.0), MAX_RATE)
        self.send_quantum = int(max(2 * mtu, min(self.pacing_rate * QUANTUM_INTERVAL, MAX_QUANTUM)))
