"""What happens to a mesh once it is there: crashes, churn, partitions, malice."""

from __future__ import annotations

import math
from functools import partial
from random import Random

from meshd.ids import text_of
from meshd.sim.scale.agenda import Agenda, Deed
from meshd.sim.scale.growth import Growth
from meshd.sim.scale.guard import RECONNECT_TIME, Guard
from meshd.sim.scale.malice import INTERVAL, Malicious
from meshd.sim.scale.mesh import Mesh
from meshd.sim.scale.script import Churn, Crash, Malice, Partition, Phase, Settle

# Policy
HEAL_INTERVAL = 0.5  # seconds between looks at whether the mesh is whole
HEAL_PAIRS = 100  # whose next hops are followed at each of these
SIDE_ADMINS = 2  # of the grown admins, on each side


class Phases:
    """``figures`` gets what a phase measures by itself."""

    def __init__(
        self, mesh: Mesh, agenda: Agenda, guard: Guard, growth: Growth, dice: Random, figures: dict[str, float]
    ) -> None:
        self._mesh = mesh
        self._network = mesh.network
        self._agenda = agenda
        self._guard = guard
        self._growth = growth
        self._dice = dice
        self._figures = figures
        self.newcomers: list[int] = []  # machines that have not been in it
        self.cast: list[int] = []  # who may die and come back: their disks keep what they are told
        self._doomed: set[int] = set()  # who will be revoked by the other side of a partition
        self.powerless: list[int] = []  # who may turn malicious

    def play(self, phase: Phase) -> None:
        """One of them, to its end."""
        match phase:
            case Settle():
                self._agenda.wait(phase.seconds)
            case Crash():
                self._crash(phase)
            case Churn():
                self._churn(phase)
            case Partition():
                self._partition(phase)
            case Malice():
                self._malice(phase)

    # -- crash and churn ----------------------------------------------------------------------------------------------

    def _crash(self, phase: Crash) -> None:
        living = self._mesh.living()
        for index in self._dice.sample(living, int(len(living) * phase.share)):
            self._network.kill(index)
        self._figures["healed_seconds"] = self._until_whole(phase.seconds)

    def _until_whole(self, seconds: float) -> float:
        """Seconds until the mesh is whole; nan if it is not in that time. The rest of the time passes, too."""
        began = self._network.now
        healed = math.nan

        def look() -> bool:
            return self._mesh.is_whole(HEAL_PAIRS, self._dice)

        while self._network.now < began + seconds:
            if look():
                healed = self._network.now - began
                break
            self._agenda.wait(HEAL_INTERVAL)
        self._agenda.wait(max(0.0, began + seconds - self._network.now))
        return healed

    def _churn(self, phase: Churn) -> None:
        end = self._network.now + phase.seconds
        rate = phase.per_minute / 60.0 * len(self._mesh.since)

        def die() -> None:
            able = [index for index in self.cast if self._mesh.is_up(index)]
            if able:
                victim = self._dice.choice(able)
                self._network.kill(victim)
                self._agenda.after(self._dice.expovariate(1.0 / phase.away), lambda: self._network.start(victim))
            following = self._dice.expovariate(rate)
            if self._network.now + following < end:
                self._agenda.after(following, die)

        if rate:
            self._agenda.after(self._dice.expovariate(rate), die)
        self._agenda.wait(phase.seconds)

    # -- partition ----------------------------------------------------------------------------------------------------

    def _partition(self, phase: Partition) -> None:
        second = self._second_side(phase.share)
        first = set(range(len(self._network.machines))) - second
        joiners = [self.newcomers.pop() for _ in range(2 * phase.joins)]
        second.update(joiners[: phase.joins])
        first.difference_update(second)
        self._mesh.sides = (first, second)
        self._network.links.cut(first, second)
        end = self._network.now + phase.seconds
        self._guard.excused_until = end + RECONNECT_TIME
        self._doomed = {index for side in (first, second) for index in self._to_revoke(side, phase.revocations)}
        for side, there in ((first, joiners[phase.joins :]), (second, joiners[: phase.joins])):
            self._live_apart(side, there, phase)
        self._agenda.wait(end - self._network.now)
        self._mesh.sides = ()
        self._network.links.heal()
        self._figures["merged_seconds"] = self._until_whole(phase.afterwards)

    def _second_side(self, share: float) -> set[int]:
        members = [index for index in self._mesh.since if index >= 2 * SIDE_ADMINS]
        chosen = set(self._dice.sample(members, int(len(self._mesh.since) * share) - SIDE_ADMINS))
        return chosen | set(range(SIDE_ADMINS, 2 * SIDE_ADMINS))  # each side has admins

    def _live_apart(self, side: set[int], joiners: list[int], phase: Partition) -> None:
        """Joins, leaves, renames and revocations of one side, at moments of its own."""
        members = [i for i in self._mesh.living() if i in side and i >= 2 * SIDE_ADMINS]
        admin = min(i for i in self._mesh.living() if i in side)
        members = [i for i in members if i not in self._doomed]
        leaving = self._dice.sample(members, phase.leaves + phase.renames)
        revoked = [i for i in sorted(self._doomed) if i not in side]
        deeds: list[Deed] = [partial(self._join, i, side) for i in joiners]
        deeds += [partial(self._leave, i) for i in leaving[: phase.leaves]]
        deeds += [partial(self._rename, admin, i) for i in leaving[phase.leaves :]]
        deeds += [partial(self._revoke, admin, i) for i in revoked]
        for deed in deeds:
            self._agenda.at(self._dice.uniform(self._network.now, self._network.now + 0.8 * phase.seconds), deed)

    def _to_revoke(self, side: set[int], count: int) -> list[int]:
        return self._dice.sample([i for i in self._mesh.living() if i in side and i >= 2 * SIDE_ADMINS], count)

    def _join(self, index: int, side: set[int]) -> None:
        """Through somebody whom nobody will revoke: what one that is revoked has signed since is void."""
        able = [i for i in self._mesh.living() if i in side and i not in self._doomed]
        near = [i for i in able if not self._network.unconnectable(i, index)]
        self._growth.join(index, self._dice.choice(near or able))

    def _leave(self, index: int) -> None:
        if self._mesh.is_up(index) and index in self._mesh.since:
            self._network.request(index, "mesh.leave")
            self._mesh.drop(index)

    def _rename(self, admin: int, index: int) -> None:
        self._network.request(
            admin, "node.rename", peer=text_of(self._network.machines[index].peer), name=f"new-{index}"
        )

    def _revoke(self, admin: int, index: int) -> None:
        self._network.request(admin, "members.revoke", peer=text_of(self._network.machines[index].peer))
        self._mesh.drop(index)

    # -- malice -------------------------------------------------------------------------------------------------------

    def _malice(self, phase: Malice) -> None:
        count = int(len(self._mesh.living()) * phase.share)
        for index in self.powerless[:count]:
            member = Malicious(self._mesh, index, phase.deeds, Random(self._dice.getrandbits(32)))
            first = self._dice.uniform(0.0, INTERVAL)
            self._agenda.after(first, partial(self._agenda.every, INTERVAL, member.act))
        self._agenda.wait(phase.seconds)
