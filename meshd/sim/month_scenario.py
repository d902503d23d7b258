"""A month of fifty members: machines that sleep, travel and restart, push services that fail, a theft.

What is not as in life, so that a month takes minutes: heartbeats go once in some hours, and a death is told by the
shell after 30 s, as the consent checks of ICE do; the costlier invariants are looked at rarely (``CHECKS``).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from itertools import count

from meshd.config import Config
from meshd.ids import PeerId, text_of
from meshd.sim.conditions import Conditions
from meshd.sim.month_ledger import Ledger
from meshd.sim.month_pace import unhurried
from meshd.sim.month_plan import DAY, HOUR, Absence, absences, kinds_of
from meshd.sim.network import EPOCH
from meshd.sim.scenarios import scenario
from meshd.sim.stage import MESH_KEY, Stage
from meshd.sim.theft import pervert

# Policy
HEARTBEAT = 6 * HOUR
CONSENT = 30.0  # seconds; RFC 7675 section 5.1
CHECKS = 2000  # steps of each machine between two looks at the costlier invariants
ACCOMPLICES = 2
LOOK = 300.0  # seconds between two looks at who is overdue
MAX_UNASKED = 50  # pushes of one to one in a day that answer none: 36 and a burst of 14
MAX_FIRST_DAY, MAX_LATER_DAY = 30, 8  # pushes to a member that is off, of all together
AT_ONCE = 60.0  # seconds until all that are there have dropped who was revoked
REST = 4 * HOUR


def _conditions() -> Conditions:
    return Conditions(push_loss=0.01, push_duplication=0.02, unconnectable=0.1, consent_timeout=CONSENT)


def _config() -> Config:
    config = Config()
    mesh = replace(config.mesh, heartbeat_interval=HEARTBEAT, link_timeout=3 * HEARTBEAT)
    return replace(config, mesh=mesh)


class Month:
    """The calendar, and what is on it."""

    def __init__(self, stage: Stage, days: float) -> None:
        self._stage = stage
        self._days = days
        self._members = stage.size - ACCOMPLICES
        self._kinds = kinds_of(self._members)
        self._calendar: list[tuple[float, int, Callable[[], None]]] = []
        self._count = count()
        self._revoked: set[int] = set()
        self._thieves: list[int] = []
        self._agents: dict[int, list[str]] = {}  # of machines that are away
        stage.steps_between_checks = CHECKS
        stage.undisturbed = False

    def play(self) -> None:
        """From the founding to the last count."""
        stage = self._stage
        self._set_up()
        self._ledger = Ledger(stage)
        self._began = stage.network.now
        self._plan()
        while self._calendar:
            when, _, act = heapq.heappop(self._calendar)
            stage.wait(max(0.0, self._began + when - stage.network.now))
            act()
        self._end()

    def _set_up(self) -> None:
        stage = self._stage
        for index, kind in enumerate(self._kinds):
            machine = stage.network.machines[index]
            if kind.shared:
                push = replace(machine.config.push, subscription="shared")
                machine.config = replace(machine.config, push=push)
        stage.start(*range(self._members))
        stage.found()
        waiting = list(range(1, self._members))
        while waiting:
            index = next(i for i in waiting if stage.introducer_for(i) is not None)
            waiting.remove(index)
            stage.join_all((index,), stage.introducer_for(index) or 0)
        stage.network.ask(0, "admins.appoint", peer="n1", mesh_key=MESH_KEY)
        stage.rest()

    # -- planning -----------------------------------------------------------------------------------------------------

    def _at(self, when: float, act: Callable[[], None]) -> None:
        """``when``: seconds from the beginning."""
        heapq.heappush(self._calendar, (when, next(self._count), act))

    def _plan(self) -> None:
        dice, days = self._stage.dice, self._days
        for index, kind in enumerate(self._kinds):
            for absence in absences(kind, days, dice):
                self._at(absence.begins, lambda index=index, absence=absence: self._leave(index, absence))  # type: ignore[misc]
        for _ in range(max(1, round(days / 4))):
            begins = dice.uniform(0.0, (days - 0.5) * DAY)
            self._at(begins, lambda: self._service(down=True))
            self._at(begins + dice.uniform(1 * HOUR, 9 * HOUR), lambda: self._service(down=False))
        for _ in range(round(days / 2)):
            self._at(dice.uniform(0.0, days * DAY), self._forget_agents)
            self._at(dice.uniform(0.0, days * DAY), self._renew)
        for number in range(int(days * DAY / LOOK)):
            self._at(number * LOOK, self._look)
        for number in range(int(days * 8)):
            self._at(number * 3 * HOUR, lambda: self._stage.talk(2))
        first, second, stolen = dice.sample(range(2, self._members), 3)
        self._at(0.25 * days * DAY, lambda: self._revoke(first))
        self._at(0.45 * days * DAY, lambda: self._revoke_absent(second))
        self._at(0.6 * days * DAY, lambda: self._steal(stolen))

    # -- people -------------------------------------------------------------------------------------------------------

    def _leave(self, index: int, absence: Absence) -> None:
        stage, machine = self._stage, self._stage.network.machines[index]
        if machine.node is None or index in self._revoked:
            return
        self._agents[index] = list(machine.user_agents.values())
        self._ledger.left(index)
        if absence.rude:
            stage.kill(index)
        else:
            stage.network.stop(index)
        ends = min(stage.network.now - self._began + absence.lasts, self._days * DAY)
        self._at(ends, lambda: self._return(index, absence.lasts))

    def _return(self, index: int, away: float) -> None:
        machine = self._stage.network.machines[index]
        if machine.node is None:
            if index not in self._revoked and machine.peer not in self._stage.history.hostile:
                self._ledger.returned(index, away)
            self._stage.start(index)

    def _service(self, *, down: bool) -> None:
        ledger = self._ledger
        ledger.service_down = down
        if not down:
            ledger.service_up_since = self._stage.network.now
        self._stage.network.set_push(down=down)

    def _forget_agents(self) -> None:
        """The service forgets somebody, who may be away."""
        stage = self._stage
        index = stage.dice.randrange(self._members)
        if stage.network.machines[index].node is None:
            for uaid in self._agents.get(index, ()):
                stage.network.push.forget(uaid)
        else:
            stage.network.forget_user_agent(index)

    def _renew(self) -> None:
        running = [index for index in range(self._members) if self._stage.is_member(index)]
        self._stage.network.request(self._stage.dice.choice(running), "push.renew")

    def _look(self) -> None:
        for late in self._ledger.overdue():
            away, now = late.away / HOUR, self._stage.network.now - late.began
            self._stage.expect(False, f"n{late.index} is home {now:.0f} s after its start; it was away {away:.1f} h")

    # -- trouble ------------------------------------------------------------------------------------------------------

    def _admin(self) -> int | None:
        return next((index for index in (0, 1) if self._stage.is_member(index)), None)

    def _revoke(self, index: int, since: float | None = None) -> None:
        stage, admin = self._stage, self._admin()
        if admin is None:
            self._at(stage.network.now - self._began + 900.0, lambda: self._revoke(index, since))
            return
        self._revoked.add(index)
        self._ledger.left(index)
        stage.network.ask(admin, "members.revoke", peer=text_of(stage.network.machines[index].peer), since=since)
        out = stage.until(self._are_out, AT_ONCE)
        stage.expect(out, f"n{index} is dropped at once")

    def _revoke_absent(self, index: int) -> None:
        """The second one is revoked while it is away, and finds out when it comes back."""
        stage = self._stage
        if stage.network.machines[index].node is not None:
            self._leave(index, Absence(0.0, 3 * DAY, True))
        self._revoke(index)

    def _are_out(self) -> bool:
        """Whether nobody honest that has a way to the admin knows any of the revoked."""
        gone = self._gone()
        honest = [n for m, n in self._stage.network.running() if m.peer not in gone and n.membership.row is not None]
        linked = [node for node in honest if len(node.neighbors)]
        return not any(
            node.membership.is_member(peer) or node.neighbors.current(peer) is not None
            for node in linked
            for peer in gone
        )

    def _gone(self) -> set[PeerId]:
        machines = self._stage.network.machines
        return {machines[index].peer for index in (*self._revoked, *self._thieves)}

    def _steal(self, index: int) -> None:
        """A thief has the disk of that machine. It is alone with it, or a double of the one that runs on."""
        stage, network = self._stage, self._stage.network
        stolen = EPOCH + network.now
        alone = stage.dice.random() < 0.5
        if alone and network.machines[index].node is not None:
            self._leave(index, Absence(0.0, 30 * DAY, True))
        double = network.double(index).index
        accomplices = list(range(self._members, self._members + ACCOMPLICES))
        self._ledger.left(index)
        stage.history.hostile |= {network.machines[each].peer for each in (double, *accomplices)}
        stage.start(double, *accomplices)
        self._pervert(double)
        stage.join_all(accomplices, introducer=double)
        for accomplice in accomplices:
            self._pervert(accomplice)
        ends = network.now - self._began + stage.dice.uniform(0.5, 2.0) * DAY
        thieves = [double, *accomplices]
        stage.figures.append(
            f"stolen: n{index}, {'alone' if alone else 'a double'}, "
            f"{sum(stage.is_member(each) for each in accomplices)} accomplices admitted"
        )
        self._at(ends, lambda: self._expel(index, thieves, stolen))

    def _pervert(self, index: int) -> None:
        node = self._stage.network.machines[index].node
        assert node is not None
        pervert(node)

    def _expel(self, index: int, thieves: list[int], since: float) -> None:
        self._thieves = thieves
        self._revoke(index, since)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        stage, network = self._stage, self._stage.network
        stage.expect(self._are_out(), "nobody revoked is in the mesh, whatever they have tried")
        unaware = [index for index in self._revoked if stage.is_member(index)]
        stage.kill(*self._thieves, *unaware)  # these have met nobody who could tell them
        for index in range(self._members):
            if network.machines[index].node is None and index not in self._revoked:
                self._return(index, 0.0)
        self._service(down=False)
        stage.rest(REST)
        stay = [index for index in range(self._members) if index not in self._revoked]
        nodes = [network.machines[index].node for index in stay]
        stage.expect(all(stage.is_member(index) for index in stay), "everybody who was not revoked is a member")
        known = {len(node.membership) for node in nodes if node is not None}
        stage.expect(known == {len(stay)}, f"each knows all {len(stay)} of them: {known}")
        worst = max(self._ledger.unasked.values(), default=0)
        stage.expect(worst <= MAX_UNASKED, f"{worst} pushes of one to one in a day")
        stage.figures.append(
            f"revoked: {len(self._revoked)}; of them {len(unaware)} had met nobody who could tell them"
        )
        stage.figures += self._ledger.lines(self._days, self._members)


@scenario(50 + ACCOMPLICES, _conditions, _config(), long=True)
def month(stage: Stage) -> None:
    """Fifty members for a month: absences of 0 h to 10 days, push failing for hours, two revocations, a theft."""
    with unhurried():
        Month(stage, 30.0).play()


@scenario(14 + ACCOMPLICES, _conditions, _config(), long=True)
def week(stage: Stage) -> None:
    """The same with fourteen members for a week."""
    with unhurried():
        Month(stage, 7.0).play()


@scenario(9 + ACCOMPLICES, _conditions, _config())
def few_days(stage: Stage) -> None:
    """The same with nine members for three days."""
    with unhurried():
        Month(stage, 3.0).play()


@scenario(12, _conditions, _config())
def many_off(stage: Stage) -> None:
    """Half of all are off for three days: pushes in vain fall to a few a day, and all are back within minutes."""
    with unhurried():
        stage.start()
        stage.found()
        stage.join_everybody()
        stage.rest()
        off = range(stage.size // 2, stage.size)
        stage.kill(*off)
        push, a_day = stage.network.push, []
        for _ in range(3):
            before = push.accepted - push.accepted_by_oneself
            stage.wait(DAY)
            a_day.append((push.accepted - push.accepted_by_oneself - before) / len(off))
        stage.expect(a_day[0] <= MAX_FIRST_DAY, f"{a_day[0]:.1f} pushes to each on the first day")
        stage.expect(a_day[-1] <= MAX_LATER_DAY, f"{a_day[-1]:.1f} pushes to each on the third day")
        stage.figures.append("pushes a day to each that is off: " + ", ".join(f"{pushes:.1f}" for pushes in a_day))
        stage.start(*off)
        stage.rest(REST)
