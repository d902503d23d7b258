"""What a long simulation comes to in figures: pushes, bytes of renewals, and how those that were away came home."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.ids import PeerId, PushId
from meshd.sim.history import Step
from meshd.sim.machine import Machine
from meshd.sim.month_plan import DAY, HOUR
from meshd.sim.stage import Stage
from meshd.sim.suite import pushed_plaintext
from meshd.wire import messages as ms
from meshd.wire.envelope import HEADER_SIZE
from meshd.wire.parts import Grant

# Policy
COMING_HOME = HOUR  # seconds that somebody may take to come home, from its start or from when the service is back
CLASSES = (600.0, HOUR, 12 * HOUR, 36 * HOUR, 4 * DAY, 10 * DAY + 1.0)  # seconds of absence, the upper ends
ACCEPTED = 201
OWN = "tests of one's own"
ANSWERS = (ms.Answer, ms.JoinAccepted, ms.JoinRefused, ms.OfferDeclined)


@dataclass(slots=True)
class Return:
    """Of one machine: how long it was away, when it was started again.

    ``home``: seconds until links led from it to most members, from its start, or from when the push service was there
    again after it.
    """

    index: int
    away: float
    began: float
    home: float | None = None
    by: str = "others"  # over links that others have made
    called: set[PeerId] = field(default_factory=set)  # whom it has pushed an offer to
    callers: set[PeerId] = field(default_factory=set)
    through: set[PeerId] = field(default_factory=set)  # for whom a keeper has pushed to it, or whom it had one push to
    kept: bool = False  # it was handed grants that friends had kept for it
    pushes: int = 0  # to it and by it, until it was home
    overdue: bool = False


class Ledger:
    """Looks at every step."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.began = stage.network.now
        self.returns: list[Return] = []
        self.away: Counter[int] = Counter()  # day → seconds away of all members together
        self.pushes: dict[int, Counter[str]] = defaultdict(Counter)  # day → what for → how many a service has taken
        self.refused = 0  # tries that no service has taken
        self._under_way: dict[tuple[int, PushId], str] = {}
        self.unasked: Counter[tuple[int, PeerId, int]] = Counter()  # sender, recipient, day → pushes that answer none
        self.grant_bytes: Counter[str] = Counter()  # way → bytes
        self.grants: Counter[str] = Counter()
        self.present = 0.0  # machine-days
        self.service_down = False
        self.service_up_since = self.began
        self._coming: dict[int, Return] = {}
        stage.listeners.append(self.on_step)

    @property
    def day(self) -> int:
        """Since the beginning, from 0 on."""
        return int((self._stage.network.now - self.began) // DAY)

    # -- looking on ---------------------------------------------------------------------------------------------------

    def on_step(self, step: Step) -> None:
        """Everything that any node does."""
        machine = step.machine
        if machine.peer in self._stage.history.hostile:
            return
        for said in step.said:
            if isinstance(said.message, Grant):
                self.grants[said.way] += 1
                self.grant_bytes[said.way] += said.size
            elif isinstance(said.message, ms.GrantKept):
                coming = self._of(said.to)
                if coming is not None:
                    coming.kept = True
            if said.way == "push":
                if not isinstance(said.message, ANSWERS):
                    self.unasked[machine.index, said.to, self.day] += 1
                if isinstance(said.message, ms.Offer):
                    self._offered(machine, said.to)
        for command in step.commands:
            if isinstance(command, cm.SendPush):
                self._pushed(step, command)
        if isinstance(step.event, ev.PushAnswered):
            what = self._under_way.pop((machine.index, step.event.push), "")
            if step.event.status == ACCEPTED and what:
                self.pushes[self.day][what] += 1
            self.refused += step.event.status != ACCEPTED
        if machine.index in self._coming:
            self.look(self._coming[machine.index])

    def _of(self, peer: PeerId) -> Return | None:
        machine = self._stage.history.machine_of(peer)
        return None if machine is None else self._coming.get(machine.index)

    def _offered(self, machine: Machine, to: PeerId) -> None:
        coming, met = self._coming.get(machine.index), self._of(to)
        if coming is not None:
            coming.called.add(to)
        if met is not None:
            met.callers.add(machine.peer)

    def _pushed(self, step: Step, command: cm.SendPush) -> None:
        machine, plaintext = step.machine, pushed_plaintext(command.body)
        if len(plaintext) < HEADER_SIZE:
            self._under_way[machine.index, command.push] = OWN
            return
        recipient = PeerId(plaintext[HEADER_SIZE - 32 : HEADER_SIZE])
        letter = self._stage.history.open(plaintext)
        if letter is not None and letter.sender != machine.peer:
            self._under_way[machine.index, command.push] = "for others"
            self.unasked[machine.index, recipient, self.day] += 1
            for one, other in ((self._of(recipient), letter.sender), (self._of(letter.sender), recipient)):
                if one is not None:
                    one.through.add(other)
        else:
            message = next((said.message for said in step.said if said.way == "push" and said.to == recipient), None)
            self._under_way[machine.index, command.push] = type(message).__name__
        for coming in (self._coming.get(machine.index), self._of(recipient)):
            if coming is not None:
                coming.pushes += 1

    # -- coming home --------------------------------------------------------------------------------------------------

    def left(self, index: int) -> None:
        """That machine goes away."""
        self._coming.pop(index, None)

    def returned(self, index: int, away: float) -> None:
        """That machine is about to start."""
        self._coming[index] = Return(index, away, self._stage.network.now)
        self.returns.append(self._coming[index])

    def look(self, coming: Return) -> None:
        """Whether it has links to most of those that run."""
        stage, machine = self._stage, self._stage.network.machines[coming.index]
        node = machine.node
        if node is None or not len(node.neighbors):
            return
        running = [m.peer for m, n in stage.network.running() if n.membership.row is not None]
        near = reachable(stage, machine)
        if 2 * len(near) < len(running):
            return
        now = stage.network.now
        coming.home = max(0.0, now - max(coming.began, min(now, self.service_up_since)))
        first = set(node.neighbors.peers())
        for by, known in (
            ("it called", coming.called),
            ("it was called", coming.callers),
            ("a keeper called", coming.through),
        ):
            if first & known:
                coming.by = by
                break
        del self._coming[coming.index]

    def overdue(self) -> Iterator[Return]:
        """Who is not home though it should be: each once."""
        now = self._stage.network.now
        for coming in list(self._coming.values()):
            if self.service_down or coming.overdue:
                continue
            self.look(coming)
            if coming.home is None and now > max(coming.began, self.service_up_since) + COMING_HOME:
                coming.overdue = True
                yield coming

    # -- figures ------------------------------------------------------------------------------------------------------

    def lines(self, days: float, members: int) -> Iterator[str]:
        """For people."""
        yield f"{members} members, {days:.0f} days, {len(self.returns)} returns"
        yield (
            "away          returns   home   median      p95      max   pushes  called  was  keeper  others  kept  late"
        )
        lower = 0.0
        for upper in CLASSES:
            some = [r for r in self.returns if lower <= r.away < upper]
            if some:
                yield self._row(f"{_span(lower)}..{_span(upper)}", some)
            lower = upper
        of_days = [self.pushes[day] for day in range(int(days))]
        total = sum(of_days, Counter[str]())
        meant = [of_day.total() - of_day[OWN] for of_day in of_days]
        yield f"pushes: {total.total()}; " + ", ".join(f"{name} {count}" for name, count in total.most_common())
        yield (
            f"without those to oneself a day: mean {sum(meant) / days:.0f}, least {min(meant)}, most {max(meant)}; "
            f"refused by a service that was down, mostly: {self.refused} tries"
        )
        yield f"the most of one to one in a day, answers left out: {max(self.unasked.values(), default=0)}"
        size = sum(self.grant_bytes.values())
        yield (
            f"grants: {self.grants.total()} ("
            + ", ".join(f"{way} {count}" for way, count in self.grants.most_common())
            + f"), {size / days / members:.0f} bytes for each member and day"
        )

    @staticmethod
    def _row(name: str, some: list[Return]) -> str:
        home = sorted(r.home for r in some if r.home is not None)
        by = Counter(r.by for r in some if r.home is not None)
        times = " ".join(f"{_share(home, share):8.1f}" for share in (0.5, 0.95, 1.0))
        pushes = sum(r.pushes for r in some) / len(some)
        return (
            f"{name:14} {len(some):6} {len(home):6} {times} {pushes:8.1f} {by['it called']:7} {by['it was called']:4} "
            f"{by['a keeper called']:7} {by['others']:7} "
            f"{sum(r.kept for r in some):5} {sum(r.overdue for r in some):5}"
        )


def reachable(stage: Stage, machine: Machine) -> set[PeerId]:
    """Whom links lead to from that machine, itself included."""
    seen, queue = {machine.peer}, [machine.peer]
    for at in queue:
        here = stage.history.machine_of(at)
        node = None if here is None else here.node
        for neighbor in () if node is None else node.neighbors.peers():
            if neighbor not in seen:
                seen.add(neighbor)
                queue.append(neighbor)
    return seen


def _share(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def _span(seconds: float) -> str:
    if seconds < HOUR:
        return f"{seconds / 60:.0f}min"
    return f"{seconds / HOUR:.0f}h" if seconds < 2 * DAY else f"{seconds / DAY:.0f}d"
