"""Pairs of associations in virtual time, all over one bottleneck: what the controller does when SCTP drives it.

Beside them may run flows of ``congestion_paths``, and either end of a pair may be held up for a while, as the processes
of a busy machine are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from congestion_paths import DELAYED_ACK, TIMER_GRAIN, Flow, Path, Simulation

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
        self.held_until = [-math.inf, -math.inf]
        self.unread: tuple[list[bytes], list[bytes]] = ([], [])
        self.is_full = True
        self.messages = 0

    def rate(self, since: float, until: float) -> float:
        return sum(size for when, size in self.arrivals if since <= when < until) / (until - since)


class Bottleneck(Simulation):
    """Data goes through the queue of ``path``; what comes back has no queue and the same loss."""

    def __init__(
        self,
        path: Path,
        starts: list[float],
        seed: int = 1,
        config: AssociationConfig | None = None,
        flows: Sequence[Flow] = (),
    ) -> None:
        super().__init__(path, list(flows), seed, series_interval=0.1)
        self.pairs = [
            Pair(seed * 10 + number, start, config or AssociationConfig()) for number, start in enumerate(starts)
        ]
        for pair in self.pairs:
            pair.ends[0].connect(pair.start)
            self.push(pair.start, self._on_time, None, (pair, 0))

    def hold_up_end(self, pair: Pair, side: int, since: float, until: float) -> None:
        """Have the process at one end (0 sends) do nothing for a while: what comes meanwhile is read after it."""

        def hold(now: float, _flow: Flow | None, _more: object) -> None:
            pair.held_until[side] = max(until, pair.held_until[side])
            self.push(pair.held_until[side], self._resume, None, (pair, side))

        self.push(since, hold, None, None)

    def hold_up_often(self, pair: Pair, since: float, until: float, seed: int, longest: float = 0.4) -> None:
        """Hold up both ends again and again, for half of the time in all, each on its own."""
        for side in range(2):
            random = Random(2 * seed + side)
            when = since + random.random() * longest
            while when < until:
                length = random.uniform(longest / 8, longest)
                self.hold_up_end(pair, side, when, min(when + length, until))
                when += length + random.uniform(longest / 8, longest)

    # -- what happens to an end ---------------------------------------------------------------------------------------

    def _on_packet(self, now: float, _flow: Flow | None, more: object) -> None:
        pair, side, packet = more  # type: ignore[misc]
        if now < pair.held_until[side]:
            pair.unread[side].append(packet)
            return
        pair.ends[side].receive(packet, now)
        self._flush(now, pair, side)

    def _on_time(self, now: float, _flow: Flow | None, more: object) -> None:
        pair, side = more  # type: ignore[misc]
        if now < pair.held_until[side]:
            return
        if now >= pair.timers[side]:
            pair.timers[side] = math.inf
            pair.ends[side].handle_timer(now)
        self._flush(now, pair, side)

    def _resume(self, now: float, _flow: Flow | None, more: object) -> None:
        """As an event loop does: what is due first, then all that has come, and then an answer."""
        pair, side = more  # type: ignore[misc]
        if now < pair.held_until[side]:
            return
        self._on_time(now, None, more)
        packets, pair.unread[side][:] = list(pair.unread[side]), []
        for packet in packets:
            pair.ends[side].receive(packet, now)
        self._flush(now, pair, side)

    def _flush(self, now: float, pair: Pair, side: int) -> None:
        path, end = self.path, pair.ends[side]
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
            self.push(when + path.round_trip / 2, self._on_packet, None, (pair, 1 - side, packet))
        for event in end.take_events():
            if isinstance(event, Message) and side == 1:
                pair.received += len(event.data)
                pair.arrivals.append((now, len(event.data)))
        due = end.next_deadline()
        if due is not None:
            grains = math.ceil(due / TIMER_GRAIN)
            grains += grains * TIMER_GRAIN < due  # rounding: a timer that came a hair early would come for ever
            due = max(grains * TIMER_GRAIN, now)
            if due < pair.timers[side]:
                pair.timers[side] = due
                self.push(due, self._on_time, None, (pair, side))
