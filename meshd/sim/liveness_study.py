"""How soon a dead peer is noticed, and how often a living one is blamed: ``python -m meshd.sim liveness``.

Two pulses (``meshd.core.overlay.pulse``, the very code of the daemon) talk over a path that delays and loses, in
virtual time. ``docs/liveness.md`` has the tables and what they mean.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Protocol

from meshd.config import MeshConfig
from meshd.core.overlay.liveness import MIN_LOOK_INTERVAL
from meshd.core.overlay.pulse import Pace, Pulse, Step

# Policy
WARM_UP = 60.0  # seconds of a link's life before anything counts
JITTER = 0.1  # of each delay, give or take
LOOK_LATENESS = 0.02  # seconds at most; a timer of a busy daemon
HOUR = 3600.0
DEATHS = 2000  # for each row of the table
OUTAGES = 1000


class Loss(Protocol):
    """Decides about each message of one direction."""

    def loses(self, now: float, dice: Random) -> bool:
        """Whether a message that is sent now is lost."""


@dataclass(slots=True)
class Independent:
    """Each message is lost with that share."""

    share: float

    def loses(self, now: float, dice: Random) -> bool:
        """See ``Loss``."""
        return dice.random() < self.share


@dataclass(slots=True)
class Bursts:
    """Gilbert and Elliott's channel in continuous time: good and bad spells (mean seconds), all lost in a bad one."""

    good: float
    bad: float
    is_bad: bool = False
    until: float = 0.0

    def loses(self, now: float, dice: Random) -> bool:
        """See ``Loss``."""
        while self.until <= now:
            self.is_bad = not self.is_bad
            self.until += dice.expovariate(1 / (self.bad if self.is_bad else self.good))
        return self.is_bad


@dataclass(slots=True)
class Outage:
    """Nothing passes in between; independent losses before and after."""

    share: float
    begin: float = math.inf
    end: float = math.inf

    def loses(self, now: float, dice: Random) -> bool:
        """See ``Loss``."""
        return self.begin <= now < self.end or dice.random() < self.share


def default_pace() -> Pace:
    """As configured if nothing is configured."""
    return Pace(MeshConfig().heartbeat_interval, MeshConfig().link_timeout)


class StudiedLink:
    """Both ends of a link that carries heartbeats alone. ``rtt`` (seconds) may be changed while it runs."""

    def __init__(self, dice: Random, rtt: float, losses: tuple[Loss, Loss], pace: Pace | None = None) -> None:
        self.rtt = rtt
        self.now = 0.0
        self.alarms: list[tuple[int, float]] = []  # which end gave up, and when
        self.alive = [True, True]
        self.ends = (Pulse(), Pulse(polite=True))
        self._dice = dice
        self._losses = losses
        self._pace = pace or default_pace()
        self._heap: list[tuple[float, int, int, int | None, bool]] = []  # when, order, at whom, number or look, asked?
        self._sequence = 0
        for end in (0, 1):
            self._ask(end)
            self._look_at(end)

    def run(self, until: float, stop_at_alarm: bool = False) -> None:
        """Let time pass, or most of it: up to the first alarm."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, end, number, is_question = heapq.heappop(self._heap)
            if number is None:
                if self.alive[end] and self._look(end) and stop_at_alarm:
                    return
                continue
            if self.alive[end]:
                pulse = self.ends[end]
                pulse.hear(self.now)
                if is_question:
                    self._send(end, number, False)
                else:
                    pulse.answer(number, self.now)
        self.now = until

    def kill(self, end: int) -> None:
        """That end says nothing more; what it has said is still on its way."""
        self.alive[end] = False

    def _look(self, end: int) -> bool:
        pulse = self.ends[end]
        step = pulse.look(self.now, self._pace)
        if step is Step.ASK:
            self._send(end, pulse.number, True)
        elif step is Step.GIVE_UP:
            self.alarms.append((end, self.now))
            for side in self.ends:  # a new link is made, and counts from here
                side.hear(self.now)
        self._look_at(end)
        return step is Step.GIVE_UP

    def _ask(self, end: int) -> None:
        self._send(end, self.ends[end].ask(self.now), True)

    def _send(self, end: int, number: int, is_question: bool) -> None:
        if not self._losses[end].loses(self.now, self._dice):
            delay = self.rtt / 2 * self._dice.uniform(1 - JITTER, 1 + JITTER)
            self._push(self.now + delay, 1 - end, number, is_question)

    def _look_at(self, end: int) -> None:
        due = max(self.ends[end].next_look(self._pace), self.now + MIN_LOOK_INTERVAL)
        self._push(due + self._dice.random() * LOOK_LATENESS, end, None, False)

    def _push(self, when: float, end: int, number: int | None, is_question: bool) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (when, self._sequence, end, number, is_question))


# -- what is asked of it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Alarms:
    """``hours``: of links, not of ends."""

    count: int
    hours: float

    @property
    def bound(self) -> float:
        """In 10,000 link-hours, with 95 % confidence, no more than so many (Poisson; the rule of three for none)."""
        return (self.count + 1.645 * math.sqrt(self.count + 1) + 1.355) / self.hours * 10_000


def false_alarms(hours: float, rtt: float, share: float, seed: int) -> Alarms:
    """At independent losses of ``share`` each way."""
    link = StudiedLink(Random(seed), rtt, (Independent(share), Independent(share)))
    link.run(WARM_UP)
    link.alarms.clear()
    link.run(WARM_UP + hours * HOUR)
    return Alarms(len(link.alarms), hours)


def false_alarms_in_bursts(hours: float, rtt: float, good: float, bad: float, seed: int) -> Alarms:
    """Where each direction is dead for ``bad`` seconds after ``good`` seconds on average, at random."""
    link = StudiedLink(Random(seed), rtt, (Bursts(good, bad), Bursts(good, bad)))
    link.run(WARM_UP)
    link.alarms.clear()
    link.run(WARM_UP + hours * HOUR)
    return Alarms(len(link.alarms), hours)


def noticed_after(count: int, rtt: float, share: float, seed: int) -> list[float]:
    """Seconds from a peer's death at a random moment until the other end gives it up; sorted."""
    found = []
    for number in range(count):
        dice = Random(seed * 1_000_003 + number)
        link = StudiedLink(dice, rtt, (Independent(share), Independent(share)))
        link.run(WARM_UP + dice.uniform(0.0, 20.0))
        link.alarms.clear()
        died = link.now
        link.kill(number % 2)
        link.run(died + 600.0, stop_at_alarm=True)
        found.append(link.alarms[0][1] - died)
    return sorted(found)


def outage_survived(count: int, rtt: float, share: float, length: float, seed: int) -> float:
    """The share of links that outlive ``length`` seconds in which nothing passes either way."""
    survived = 0
    for number in range(count):
        dice = Random(seed * 1_000_003 + number)
        outages = (Outage(share), Outage(share))
        link = StudiedLink(dice, rtt, outages)
        begin = WARM_UP + dice.uniform(0.0, 20.0)
        for outage in outages:
            outage.begin, outage.end = begin, begin + length
        link.run(begin)
        link.alarms.clear()
        link.run(begin + length + 20.0, stop_at_alarm=True)
        survived += not link.alarms
    return survived / count


def slowing_survived(count: int, before: float, after: float, share: float, seed: int) -> float:
    """The share of links that outlive a round trip which changes from one moment to the next (seconds)."""
    survived = 0
    for number in range(count):
        dice = Random(seed * 1_000_003 + number)
        link = StudiedLink(dice, before, (Independent(share), Independent(share)))
        link.run(WARM_UP + dice.uniform(0.0, 20.0))
        link.alarms.clear()
        link.rtt = after
        link.run(link.now + 120.0, stop_at_alarm=True)
        survived += not link.alarms
    return survived / count


# -- the report -------------------------------------------------------------------------------------------------------


def report(hours: float, seed: int) -> Iterator[str]:
    """All tables, line by line, as ``docs/liveness.md`` has them. ``hours`` for the row that has to be sure."""
    scale = min(1.0, hours / 30_000)
    deaths, outages = max(200, int(DEATHS * scale)), max(100, int(OUTAGES * scale))
    yield "| round trip | loss each way | link-hours | false alarms | in 10,000 h, 95 % sure |"
    yield "|---|---|---|---|---|"
    for rtt, share, part in (
        (0.05, 0.05, 1.0),
        (0.5, 0.05, 1.0),
        (2.0, 0.05, 0.1),
        (0.05, 0.10, 0.03),
        (0.05, 0.20, 0.03),
        (0.05, 0.30, 0.01),
        (0.5, 0.10, 0.03),
        (0.5, 0.20, 0.03),
        (0.5, 0.30, 0.01),
    ):
        alarms = false_alarms(hours * part, rtt, share, seed)
        yield f"| {rtt * 1000:,.0f} ms | {share:.0%} | {alarms.hours:,.0f} | {alarms.count} | {alarms.bound:.3g} |"
    yield ""
    yield "| bursts: all lost for, on average | every | loss each way | link-hours | false alarms | in 10,000 h |"
    yield "|---|---|---|---|---|---|"
    for bad, good in ((0.1, 1.9), (0.3, 5.7), (1.0, 19.0), (1.0, 99.0), (3.0, 297.0)):
        alarms = false_alarms_in_bursts(hours * 0.005, 0.05, good, bad, seed)
        share = bad / (good + bad)
        rate = alarms.count / alarms.hours * 10_000
        yield f"| {bad:g} s | {good:g} s | {share:.0%} | {alarms.hours:,.0f} | {alarms.count} | {rate:,.0f} |"
    yield ""
    yield "| round trip | loss each way | deaths | noticed after: median | p99 | at the latest |"
    yield "|---|---|---|---|---|---|"
    for rtt in (0.02, 0.1, 0.25, 0.5, 1.0, 2.0):
        for share in (0.0, 0.05):
            times = noticed_after(deaths, rtt, share, seed)
            p50, p99 = times[len(times) // 2], times[math.ceil(len(times) * 0.99) - 1]
            cells = [f"{rtt * 1000:,.0f} ms", f"{share:.0%}", f"{len(times):,}"]
            cells += [f"{seconds:.2f} s" for seconds in (p50, p99, times[-1])]
            yield f"| {' | '.join(cells)} |"
    yield ""
    yield "| nothing passes for | links that live on, 50 ms | 500 ms | 50 ms and 5 % loss |"
    yield "|---|---|---|---|"
    for length in (1.0, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5):
        cells = [
            f"{outage_survived(outages, rtt, share, length, seed):.1%}"
            for rtt, share in ((0.05, 0.0), (0.5, 0.0), (0.05, 0.05))
        ]
        yield f"| {length:g} s | {' | '.join(cells)} |"
    yield ""
    yield "| the round trip jumps from 50 ms to | links that live on | with 5 % loss |"
    yield "|---|---|---|"
    for after in (0.5, 1.0, 2.0, 2.5, 3.0):
        cells = [f"{slowing_survived(outages, 0.05, after, share, seed):.1%}" for share in (0.0, 0.05)]
        yield f"| {after * 1000:,.0f} ms | {' | '.join(cells)} |"
