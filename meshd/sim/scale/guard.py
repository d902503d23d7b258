"""What must hold all along in a mesh of any size. The name of an invariant is its function's.

They look at what the world sees: what is delivered, posted, linked; and at a few nodes at a time from inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.ids import CLOCK_SKEW
from meshd.sim.limits import LIMITS, containers
from meshd.sim.machine import Machine
from meshd.sim.network import EPOCH
from meshd.sim.scale.mesh import Mesh
from meshd.sim.scale.traffic import Traffic
from meshd.sim.violation import MAX_VIOLATIONS, Violation, violation

# Policy
LOOKED_INTO = 8  # nodes at each look, other ones each time
FEW = 64  # what may hold fewer is full in the course of its duties
RECONNECT_TIME = 60.0  # seconds until living members that can connect are one part again
FAREWELL_TIME = 60.0  # seconds after which nobody takes one for a member that has left or was revoked


@dataclass(slots=True)
class Guard:
    """Checks, and keeps what it finds. ``excused_until``: the network is cut, or was just now."""

    mesh: Mesh
    traffic: Traffic
    dice: Random
    violations: list[Violation] = field(default_factory=list)
    apart_since: float | None = None
    excused_until: float = 0.0
    fullest: tuple[float, str] = (0.0, "")
    intruders: int = 0
    dead_pushes: list[str] = field(default_factory=list)
    looked_into: list[int] = field(default_factory=list)
    _turn: int = 0

    def look(self, parts: int) -> None:
        """Now and then; ``parts``: how many the living members are in."""
        now = self.mesh.network.now
        if parts <= 1 or now < self.excused_until:
            self.apart_since = None
        elif self.apart_since is None:
            self.apart_since = now
        living = self.mesh.honest()
        self.looked_into = [living[(self._turn + i) % len(living)] for i in range(min(LOOKED_INTO, len(living)))]
        self._turn += LOOKED_INTO
        for check in CHECKS:
            for what in check(self):
                self.report(check.__name__, what)

    def report(self, invariant: str, what: str) -> None:
        """Something does not hold."""
        known = any((v.invariant, v.what) == (invariant, what) for v in self.violations)
        if not known and len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(violation(invariant, what, self.mesh.network))

    def on_handled(self, machine: Machine, event: ev.Event, commands: list[cm.Command]) -> None:
        """See ``Watcher``."""
        for command in commands:
            if isinstance(command, cm.SendPush):
                _, exp, _, _ = command.authorization.split(" ", 3)
                left = int(exp) - (EPOCH + self.mesh.network.now)
                if left < -CLOCK_SKEW or left > 86_400 + CLOCK_SKEW:
                    self.dead_pushes.append(f"n{machine.index} pushes with a capability that serves for {left:.0f} s")

    def on_started(self, machine: Machine) -> None:
        """See ``Watcher``."""

    def on_killed(self, machine: Machine) -> None:
        """See ``Watcher``."""


def deliveries_are_genuine(guard: Guard) -> Iterator[str]:
    """What is delivered was written by whom it is said to be from, to whom it came, and comes once."""
    wrong, guard.traffic.wrong = guard.traffic.wrong, []
    yield from wrong


def capabilities_end(guard: Guard) -> Iterator[str]:
    """Nobody pushes with a capability past its end, or with one that serves for longer than the standard allows."""
    dead, guard.dead_pushes = guard.dead_pushes, []
    yield from dead


def queues_are_bounded(guard: Guard) -> Iterator[str]:
    """Every queue and map of the nodes looked into is within its named limit, and has one."""
    for index in guard.looked_into:
        config = guard.mesh.network.machines[index].config
        for name, size in containers(guard.mesh.node(index)):
            limit = LIMITS.get(name)
            if limit is None:
                yield f"{name} has no limit in meshd.sim.limits"
                continue
            most = limit(config)
            if size > most:
                yield f"n{index}: {name} holds {size}, of {most}"
            elif most >= FEW and size / most > guard.fullest[0]:
                guard.fullest = (size / most, f"n{index}: {name} {size} of {most}")


def members_are_admitted(guard: Guard) -> Iterator[str]:
    """Whom the nodes looked into take for a member or have as a neighbor is one: not revoked, not invented."""
    mesh, now = guard.mesh, guard.mesh.network.now
    if now < guard.excused_until:
        return
    for index in guard.looked_into:
        node = mesh.node(index)
        for peer in [*(record.peer for record in node.membership), *node.neighbors.peers()]:
            who = mesh.index_of(peer)
            if who is None or mesh.gone.get(who, now) + FAREWELL_TIME < now:
                guard.intruders += 1
                yield f"n{index} takes {'an invented peer' if who is None else f'n{who}'} for a member"


def the_living_are_connected(guard: Guard) -> Iterator[str]:
    """Living members that are apart are together again within a minute, unless the network itself is cut."""
    since, now = guard.apart_since, guard.mesh.network.now
    if since is not None and now > since + RECONNECT_TIME:
        parts = guard.mesh.parts_of_honest(guard.mesh.graph())
        lost = ", ".join(f"n{part[0]}" for part in parts[1:4])
        yield f"{len(parts)} parts since {since:.0f} s; not in the largest: {lost}"


CHECKS: tuple[Callable[[Guard], Iterator[str]], ...] = (
    deliveries_are_genuine,
    capabilities_end,
    queues_are_bounded,
    members_are_admitted,
    the_living_are_connected,
)
