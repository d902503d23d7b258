"""Pairs of associations in virtual time, all over one bottleneck: what the controller does when SCTP drives it."""

from __future__ import annotations

import heapq
import math
from random import Random

from congestion_paths import DELAYED_ACK, TIMER_GRAIN, Path

from meshd.transport.association import Association
from meshd.transport.config import AssociationConfig
from meshd.transport.events import Message

OVERHEAD = 28 + 29
"""UDP over IPv4, and DTLS: bytes on the wire for each packet that the association knows nothing of."""
MESSAGE = bytes(16_000)
AHEAD = 400_000

assert DELAYED_ACK >= TIMER_GRAIN


class Pair:
    """A sender that never runs dry, and a receiver."""

    def __init__(self, number: int, start: float, config: AssociationConfig) -> None:
        self.start = start
        self.ends = tuple(
            Association(config, tag=1000 * number + side + 1, initial_tsn=7 * number, cookie_key=bytes(32), now=start)
            for side in range(2)
        )
        self.received = 0
        self.arrivals: list[tuple[float, int]] = []
        self.queue_delays: list[float] = []
        self.timers = [math.inf, math.inf]
        self.is_full = True
        self.messages = 0

    def rate(self, since: float, until: float) -> float:
        return sum(size for when, size in self.arrivals if since <= when < until) / (until - since)


class Bottleneck:
    """Data goes through the queue of ``path``; what comes back has no queue and the same loss."""

    def __init__(self, path: Path, starts: list[float], seed: int = 1, config: AssociationConfig | None = None) -> None:
        self.path = path
        self.random = Random(seed)
        self.now = 0.0
        self.pairs = [
            Pair(seed * 10 + number, start, config or AssociationConfig()) for number, start in enumerate(starts)
        ]
        self._events: list[tuple[float, int, Pair, int, bytes | None]] = []
        self._count = 0
        for pair in self.pairs:
            pair.ends[0].connect(pair.start)
            self._push(pair.start, pair, 0, None)

    def _push(self, when: float, pair: Pair, side: int, packet: bytes | None) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, pair, side, packet))

    def run(self, until: float) -> Bottleneck:
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, pair, side, packet = heapq.heappop(events)
            end = pair.ends[side]
            if packet is not None:
                end.receive(packet, self.now)
            elif self.now >= pair.timers[side]:
                pair.timers[side] = math.inf
                end.handle_timer(self.now)
            self._flush(pair, side)
        self.now = until
        return self

    def _flush(self, pair: Pair, side: int) -> None:
        now, path, end = self.now, self.path, pair.ends[side]
        if side == 0 and pair.is_full and end.is_established:
            while end.unsent_size() < AHEAD:
                end.send(1, 53, MESSAGE, priority=2)
        for packet in end.transmit(now):
            size = len(packet) + OVERHEAD
            when = now
            if side == 0:
                free_at = max(path.free_at, now)
                if (free_at - now) * path.rate + size > path.queue_size:
                    path.drops += 1
                    continue
                path.free_at = when = free_at + size / path.rate
                pair.queue_delays.append(when - now)
            if path.loss and self.random.random() < path.loss:
                continue
            self._push(when + path.round_trip / 2, pair, 1 - side, packet)
        for event in end.take_events():
            if isinstance(event, Message) and side == 1:
                pair.received += len(event.data)
                pair.arrivals.append((now, len(event.data)))
        due = end.next_deadline()
        if due is not None:
            due = max(math.ceil(due / TIMER_GRAIN) * TIMER_GRAIN, now)
            if due < pair.timers[side]:
                pair.timers[side] = due
                self._push(due, pair, side, None)
