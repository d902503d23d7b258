"""Two associations and a simulated path between them, in virtual time, seeded."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

from meshd.transport.association import Association
from meshd.transport.config import AssociationConfig
from meshd.transport.events import Closed, Event, Message


@dataclass
class Path:
    """One direction. ``rate`` in bytes a second, ``queue_size`` in bytes, ``delay`` and ``jitter`` in seconds."""

    delay: float = 0.01
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    rate: float = 0.0
    queue_size: int = 1_000_000
    mtu: int = 65_536
    is_down: bool = False
    free_at: float = 0.0
    dropped: int = 0

    def arrivals(self, packet: bytes, now: float, rng: random.Random, is_whole: bool = True) -> list[float]:
        if self.is_down or (is_whole and len(packet) > self.mtu) or rng.random() < self.loss:
            self.dropped += 1
            return []
        start = now
        if self.rate:
            start = max(now, self.free_at)
            if (start - now) * self.rate > self.queue_size:
                self.dropped += 1
                return []
            self.free_at = start = start + len(packet) / self.rate
        copies = 2 if rng.random() < self.duplicate else 1
        return [start + self.delay + rng.random() * self.jitter for _ in range(copies)]


@dataclass
class End:
    association: Association
    events: list[Event] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    keep: bool = False

    @property
    def messages(self) -> list[Message]:
        return [event for event in self.events if isinstance(event, Message)]

    @property
    def closed(self) -> Closed | None:
        return next((event for event in self.events if isinstance(event, Closed)), None)


class World:
    """``ends[0]`` and ``ends[1]``; ``paths[0]`` carries what end 0 sends."""

    def __init__(
        self,
        *,
        seed: int = 0,
        path: Path | None = None,
        back: Path | None = None,
        configs: tuple[AssociationConfig, AssociationConfig] | None = None,
        initial_tsns: tuple[int, int] = (1000, 0xFFFFFFF0),
    ) -> None:
        self.rng = random.Random(seed)
        self.now = 100.0
        self.paths = (path or Path(), back or Path(**vars(path)) if path else Path())
        if configs is None:
            configs = (AssociationConfig(), AssociationConfig())
        self.ends = tuple(
            End(
                Association(
                    configs[i],
                    tag=0x11111111 * (i + 1),
                    initial_tsn=initial_tsns[i],
                    cookie_key=bytes([i]) * 32,
                    now=100.0,
                )
            )
            for i in range(2)
        )
        self._flying: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self._turns = 0
        self._last_timer = 0.0
        self.on_packet = lambda sender, packet: packet
        self.before_transmit = lambda sender: None

    @property
    def a(self) -> Association:
        return self.ends[0].association

    @property
    def b(self) -> Association:
        return self.ends[1].association

    def flush(self, index: int) -> None:
        end = self.ends[index]
        end.events += end.association.take_events()
        self.before_transmit(index)
        for packet in end.association.transmit(self.now):
            if end.keep:
                end.sent.append(packet)
            is_whole = not end.association.may_be_fragmented(packet)
            packet = self.on_packet(index, packet)
            if packet is None:
                continue
            for at in self.paths[index].arrivals(packet, self.now, self.rng, is_whole):
                self._count += 1
                heapq.heappush(self._flying, (at, self._count, 1 - index, packet))
        end.events += end.association.take_events()

    def step(self, until: float) -> bool:
        """Go to the next thing that happens, at most to ``until``; whether there was one."""
        deadlines = [end.association.next_deadline() for end in self.ends]
        due = [(max(at, self.now), index) for index, at in enumerate(deadlines) if at is not None]
        arrival = self._flying[0][0] if self._flying else float("inf")
        timer = min(due)[0] if due else float("inf")
        at = min(arrival, timer)
        if at > until:
            self.now = until
            return False
        self.now = at
        if arrival <= timer:
            _, _, index, packet = heapq.heappop(self._flying)
            self.ends[index].association.receive(packet, self.now)
        else:
            for moment, index in due:
                if moment <= self.now:
                    self.ends[index].association.handle_timer(self.now)
            self._turns = self._turns + 1 if at == self._last_timer else 0
            self._last_timer = at
            assert self._turns < 10, "a deadline that nothing moves: the owner would turn in circles"
        self.flush(0)
        self.flush(1)
        return True

    def run(self, seconds: float, condition=lambda: False) -> bool:
        """Run for so long, or until the condition holds; whether it does."""
        until = self.now + seconds
        steps = 0
        self.flush(0)
        self.flush(1)
        while not condition():
            # The condition may have sent something.
            self.flush(0)
            self.flush(1)
            if not self.step(until):
                return condition()
            steps += 1
            assert steps < 2_000_000, "a loop that does not end"
        return True

    def connect(self) -> World:
        self.a.connect(self.now)
        self.b.connect(self.now)
        assert self.run(30, lambda: self.a.is_established and self.b.is_established)
        self.flush(0)
        self.flush(1)
        return self
