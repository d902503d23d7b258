"""A packet-level simulator of one bottleneck: rate, queue in bytes, delay, random loss, and several flows over it.

Deterministic for a seed. Made to be quick rather than general: packets never overtake one another, so what becomes of
a packet is known when it leaves, and only acknowledgements and timers are events.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from meshd.transport.congestion.controller import Controller, Packet
from meshd.transport.congestion.pacer import Pacer

DUPLICATE_THRESHOLD = 3
DELAYED_ACK = 0.02
TIMER_GRAIN = 0.001
MEGABIT = 1e6 / 8


@dataclass
class Path:
    """A bottleneck; rates in bytes a second, the queue in bytes, the round trip without queue in seconds."""

    rate: float
    round_trip: float
    queue_size: float
    loss: float = 0.0
    """Chance of a packet, and of an acknowledgement, to be lost at random."""
    jitter: float = 0.0
    """Acknowledgements come this much late at most, in order (as behind a radio that aggregates)."""
    ack_interval: float = 0.0
    """Acknowledgements are let through at multiples of this only."""
    burst: float = 0.0
    """Bytes that pass at once where there was a pause before, as by a token bucket."""
    free_at: float = -math.inf
    drops: int = 0

    @property
    def bdp(self) -> float:
        return self.rate * self.round_trip


def path(megabits: float, round_trip: float, buffer_bdp: float = 1.0, loss: float = 0.0, **more: float) -> Path:
    rate = megabits * MEGABIT
    return Path(rate, round_trip, max(buffer_bdp * rate * round_trip, 3 * 1500), loss, **more)


@dataclass
class Series:
    """What was seen in each interval."""

    interval: float
    delivered: list[float] = field(default_factory=list)
    queue: list[float] = field(default_factory=list)


class Flow:
    """A sender with endless data (or as much as ``app_rate`` makes), its receiver, and its controller."""

    def __init__(
        self,
        name: str,
        controller: Controller,
        *,
        start: float = 0.0,
        size: int = 1200,
        stop: float = math.inf,
        app_rate: float = math.inf,
    ) -> None:
        self.name = name
        self.controller = controller
        self.start = start
        self.stop = stop
        self.size = size
        self.app_rate = app_rate
        self.app_budget = 0.0
        self.app_updated = start
        self.pacer = Pacer(controller, start)
        self.in_flight = 0
        self.outstanding: dict[int, Packet] = {}
        self.next_sequence = 0
        self.highest_acked = -1
        self.unacked_at_receiver: list[int] = []  # received, their SACK not yet made
        self.unsaid: list[int] = []  # in SACKs that were lost
        self.silent = 0
        self.sack_token = 0
        self.progress = start
        self.srtt = 0.0
        self.pace_at = math.inf
        self.delivered = 0
        self.sent = 0
        self.lost = 0
        self.queue_delays: list[float] = []
        self.delivered_series: list[int] = []
        self.last_ack_arrival = 0.0
        self.held_until = 0.0
        self.rests_until = 0.0
        self.rest_offer = 0.0

    def offered(self, now: float) -> float:
        if now < self.rests_until:
            return self.rest_offer
        if self.app_rate is math.inf:
            return math.inf
        self.app_budget = min(self.app_budget + (now - self.app_updated) * self.app_rate, 64 * 1024)
        self.app_updated = now
        return self.app_budget


class Simulation:
    """Runs flows over a path; ``at`` changes things midway."""

    def __init__(self, path: Path, flows: list[Flow], seed: int = 1, series_interval: float = 1.0) -> None:
        self.path = path
        self.flows = flows
        self.random = Random(seed)
        self.events: list[tuple[float, int, Callable[..., None], Flow | None, object]] = []
        self.count = 0
        self.now = 0.0
        self.series_interval = series_interval
        for flow in flows:
            self.push(flow.start, self.begin, flow, None)

    def push(self, when: float, what: Callable[..., None], flow: Flow | None, more: object) -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, what, flow, more))

    def at(self, when: float, what: Callable[[Simulation], None]) -> None:
        self.push(when, lambda _now, _flow, _more: what(self), None, None)

    def run(self, until: float) -> Simulation:
        events = self.events
        pop = heapq.heappop
        while events and events[0][0] <= until:
            now, _, what, flow, more = pop(events)
            self.now = now
            what(now, flow, more)
        self.now = until
        return self

    def hold_up(self, flow: Flow, until: float) -> None:
        """Have a sender's process do nothing from now on: what comes meanwhile is read when it goes on."""
        flow.held_until = until
        self.push(until, lambda now, it, _: self.transmit(now, it), flow, None)

    def rest(self, flow: Flow, since: float, until: float, interval: float = math.inf) -> None:
        """Have a sender nothing to say between these two moments, or a single packet at each ``interval``."""

        def begin(now: float, it: Flow, _: object) -> None:
            it.rests_until = until

        def say(now: float, it: Flow, _: object) -> None:
            it.rest_offer = it.size
            self.transmit(now, it)
            it.rest_offer = 0.0

        self.push(since, begin, flow, None)
        for number in range(1, int((until - since) / interval) + 1):
            self.push(since + number * interval, say, flow, None)
        self.push(until, lambda now, it, _: self.transmit(now, it), flow, None)

    # -- the sender -----------------------------------------------------------------------------------------------

    def begin(self, now: float, flow: Flow, _: object) -> None:
        self.push(now + 0.1, self.check_timeout, flow, None)
        self.transmit(now, flow)

    def transmit(self, now: float, flow: Flow) -> None:
        controller = flow.controller
        size = flow.size
        if now >= flow.stop or now < flow.held_until:
            return
        budget = flow.pacer.budget(now)
        offered = flow.offered(now)
        random = self.random.random
        path = self.path
        half = path.round_trip / 2
        while budget > 0 and flow.in_flight + size <= controller.window:
            if offered < size:
                controller.on_app_limited(flow.in_flight)
                break
            if not flow.in_flight:
                flow.progress = now  # nobody owes an answer for the time before
            packet = controller.on_sent(now, size, flow.in_flight)
            flow.pacer.on_sent(now, size)
            budget -= size
            offered -= size
            flow.in_flight += size
            flow.sent += 1
            sequence = flow.next_sequence
            flow.next_sequence = sequence + 1
            flow.outstanding[sequence] = packet
            earliest = now - path.burst / path.rate
            free_at = path.free_at if path.free_at > earliest else earliest
            backlog = (free_at - now) * path.rate
            if backlog + size > path.queue_size + 1:
                path.drops += 1
                continue
            path.free_at = free_at = free_at + size / path.rate
            if free_at < now:
                free_at = now
            flow.queue_delays.append(free_at - now)
            if path.loss and random() < path.loss:
                continue
            self.receive(free_at + half, flow, sequence, half)
        if flow.app_rate is not math.inf:
            flow.app_budget = offered
            if offered < size:
                self.schedule_pace(now, flow, now + (size - offered) / flow.app_rate + 1e-6)
        if flow.in_flight + size <= controller.window and budget <= 0:
            when = flow.pacer.next_time()
            if when is not None:
                self.schedule_pace(now, flow, when)

    def schedule_pace(self, now: float, flow: Flow, when: float) -> None:
        when = max(math.ceil(when / TIMER_GRAIN) * TIMER_GRAIN, now + TIMER_GRAIN / 2)
        if when < flow.pace_at:
            flow.pace_at = when
            self.push(when, self.pace, flow, when)

    def pace(self, now: float, flow: Flow, when: object) -> None:
        if when == flow.pace_at:
            flow.pace_at = math.inf
            self.transmit(now, flow)

    def check_timeout(self, now: float, flow: Flow, _: object) -> None:
        """A tail-loss probe, without the probe: what has waited too long is lost. After three, all is (T3-rtx)."""
        probe = max(2 * flow.srtt, 0.01) + DELAYED_ACK if flow.srtt else 3.0
        self.push(now + min(probe / 2, 0.2), self.check_timeout, flow, None)
        if now >= flow.held_until and flow.outstanding and now - flow.progress > probe * 2**flow.silent:
            packets = list(flow.outstanding.values())
            flow.lost += len(packets)
            flow.outstanding.clear()
            flow.in_flight = 0
            flow.progress = now
            flow.silent += 1
            if flow.silent >= 3:
                flow.controller.on_timeout(now)
            else:
                flow.controller.on_lost(now, packets, 0)
        self.transmit(now, flow)

    # -- the receiver ---------------------------------------------------------------------------------------------

    def receive(self, when: float, flow: Flow, sequence: int, half: float) -> None:
        """What the receiver will do at ``when``; nothing that happens before can change it."""
        pending = flow.unacked_at_receiver
        gap = bool(pending) and pending[-1] != sequence - 1
        pending.append(sequence)
        if len(pending) >= 2 or gap:
            self.sack(when + half, flow, pending)
            flow.unacked_at_receiver = []
            flow.sack_token += 1
        else:
            self.push(when + DELAYED_ACK, self.delayed, flow, (flow.sack_token, half))

    def delayed(self, now: float, flow: Flow, more: tuple[int, float]) -> None:
        if more[0] == flow.sack_token:
            self.sack(now + more[1], flow, flow.unacked_at_receiver)
            flow.unacked_at_receiver = []
            flow.sack_token += 1

    def sack(self, when: float, flow: Flow, sequences: list[int]) -> None:
        path = self.path
        if path.loss and self.random.random() < path.loss:
            # Cumulative: the next one says it too. If there is none, a probe would make one.
            flow.unsaid += sequences
            self.push(when + 0.1, self.acknowledged, flow, (sequences, False))
            return
        if flow.unsaid:
            sequences = flow.unsaid + sequences
            flow.unsaid = []
        if path.jitter:
            when = max(when + self.random.random() * path.jitter, flow.last_ack_arrival)
        if path.ack_interval:
            when = math.ceil(when / path.ack_interval) * path.ack_interval
        flow.last_ack_arrival = when
        self.push(when, self.acknowledged, flow, (sequences, True))

    def acknowledged(self, now: float, flow: Flow, more: tuple[list[int], bool]) -> None:
        if now < flow.held_until:
            self.push(flow.held_until, self.acknowledged, flow, more)
            return
        outstanding = flow.outstanding
        packets = [outstanding.pop(sequence) for sequence in more[0] if sequence in outstanding]
        if not packets:
            flow.srtt += 0.1 * flow.srtt  # called lost too early
            return
        controller = flow.controller
        acked = 0
        for packet in packets:
            acked += packet.size
        flow.in_flight -= acked
        flow.delivered += acked
        bucket = int(now / self.series_interval)
        series = flow.delivered_series
        while len(series) <= bucket:
            series.append(0)
        series[bucket] += acked
        flow.progress = now
        flow.silent = 0
        rtt = now - packets[-1].sent
        flow.srtt = flow.srtt * 0.875 + rtt * 0.125 if flow.srtt else rtt
        if more[0][-1] > flow.highest_acked:
            flow.highest_acked = more[0][-1]
        controller.on_acknowledged(now, packets, flow.in_flight, rtt if more[1] else None)
        lost = []
        limit = flow.highest_acked - DUPLICATE_THRESHOLD
        for sequence in outstanding:
            if sequence > limit:
                break
            lost.append(sequence)
        if lost:
            lost_packets = [outstanding.pop(sequence) for sequence in lost]
            flow.lost += len(lost)
            for packet in lost_packets:
                flow.in_flight -= packet.size
            controller.on_lost(now, lost_packets, flow.in_flight)
        self.transmit(now, flow)

    # -- figures --------------------------------------------------------------------------------------------------

    def rate_of(self, flow: Flow, since: float = 0.0, until: float | None = None) -> float:
        """Bytes a second that were acknowledged, by whole intervals."""
        until = self.now if until is None else until
        first, last = int(since / self.series_interval), int(until / self.series_interval)
        return sum(flow.delivered_series[first:last]) / max(until - since, 1e-9)

    def share(self, flow: Flow, since: float = 0.0, until: float | None = None) -> float:
        return self.rate_of(flow, since, until) / self.path.rate


def quantile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0
