"""A relay's part of a circuit: records go from one link to another as they came, under quotas.

What has come and cannot go on yet waits here, within the credit that was granted for it; while a quota is used up, no
more is granted, so the neighbor that asked for the circuit waits and nothing is thrown away.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Hashable

from meshd.ids import LinkId
from meshd.links.circuits import Circuit

# Policy
QUOTA_BURST_TIME = 0.25  # seconds' worth that may pass at once
MIN_QUOTA_WAIT = 0.005  # seconds; a timer for less is not worth it


class Quota:
    """Bytes a second that somebody's circuits may carry, all together, both ways."""

    __slots__ = ("_due", "rate", "users")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.users = 0
        self._due = 0.0

    def wait(self, now: float) -> float:
        """Seconds until a record may pass; 0.0 or less: now."""
        return self._due - QUOTA_BURST_TIME - now

    def take(self, size: int, now: float) -> None:
        """Count a record that passes."""
        self._due = max(self._due, now) + size / self.rate


class Quotas:
    """Those of everybody whose circuits are relayed now: of neighbors, and of destinations."""

    def __init__(self) -> None:
        self._quotas: dict[Hashable, Quota] = {}

    def __len__(self) -> int:
        return len(self._quotas)

    def hold(self, whose: Hashable, rate: float) -> Quota:
        """The quota of ``whose`` circuits, which have one more from now on."""
        quota = self._quotas.setdefault(whose, Quota(rate))
        quota.rate = rate
        quota.users += 1
        return quota

    def release(self, whose: Hashable) -> None:
        """One circuit less."""
        quota = self._quotas[whose]
        quota.users -= 1
        if not quota.users:
            del self._quotas[whose]


class Splice:
    """Two circuits on two links, each the other's end. Charged to all in ``whose``."""

    __slots__ = ("_is_over", "_quotas", "_whose", "counters", "quotas", "sides")

    def __init__(
        self,
        links: tuple[LinkId, LinkId],
        whose: tuple[Hashable, ...],
        rate: float,
        quotas: Quotas,
        counters: Counter[str],
    ) -> None:
        self._whose = whose
        self._quotas = quotas
        self._is_over = False
        self.quotas = tuple(quotas.hold(each, rate) for each in whose)
        self.counters = counters
        self.sides = SpliceSide(self, links[1]), SpliceSide(self, links[0])  # what leaves by one link came by the other
        self.sides[0].other, self.sides[1].other = self.sides[1], self.sides[0]

    def end(self) -> None:
        """One of the two is over: nothing is forwarded any more."""
        if not self._is_over:
            self._is_over = True
            for each in self._whose:
                self._quotas.release(each)
            for side in self.sides:
                side.stop()


class SpliceSide:
    """The user of the circuit on one of the two links. To be given its ``circuit`` before anything comes."""

    __slots__ = ("_splice", "_timer", "circuit", "other", "queue", "source")

    def __init__(self, splice: Splice, source: LinkId) -> None:
        self._splice = splice
        self._timer: asyncio.TimerHandle | None = None
        self.source: LinkId | None = source
        self.queue: deque[bytes] = deque()  # what came by the other side, and is to go out here
        self.circuit: Circuit
        self.other: SpliceSide

    def take_record(self, size: int) -> bytes | None:
        """See ``CircuitUser``."""
        queue = self.queue
        if not queue or len(queue[0]) > size or self._timer is not None:
            return None
        splice, loop = self._splice, asyncio.get_running_loop()
        now = loop.time()
        wait = max(quota.wait(now) for quota in splice.quotas)
        if wait > 0:
            splice.counters["relay_quota_waits"] += 1
            self._timer = loop.call_later(max(wait, MIN_QUOTA_WAIT), self._again)
            return None
        record = queue.popleft()
        taken = len(record)
        for quota in splice.quotas:
            quota.take(taken, now)
        splice.counters["relayed_size"] += taken
        self.other.circuit.consumed(taken)
        return record

    def _again(self) -> None:
        self._timer = None
        self.circuit.wake()

    def on_record(self, record: bytes) -> None:
        """See ``CircuitUser``."""
        self.other.queue.append(record)
        self.other.circuit.wake()

    def on_circuit_over(self) -> None:
        """See ``CircuitUser``."""
        self._splice.end()

    def stop(self) -> None:
        """Forget what waits."""
        self.queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
