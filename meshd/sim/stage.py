"""A simulation with somebody watching: the network, its history, the invariants, and what people do in scenarios."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from random import Random

from meshd.config import Config
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.errors import Code
from meshd.ids import text_of
from meshd.sim.conditions import Conditions
from meshd.sim.history import History, Step
from meshd.sim.invariants import AT_EVERY_STEP, AT_REST, NOW_AND_THEN, UNDISTURBED
from meshd.sim.machine import Machine
from meshd.sim.network import Network
from meshd.sim.violation import MAX_VIOLATIONS, Violation, violation

# Policy
STEPS_BETWEEN_CHECKS = 30  # for each machine, unless a scenario says otherwise
LOOK_INTERVAL = 2.0  # seconds of simulated time between looks for rest
REMEMBERED = 10  # of each machine's last events, to be shown with a violation
MESH_KEY = b"k" * 32


class Stage:
    """Where a scenario plays. ``dice`` are the scenario's own, so that what it does is no part of the world's luck."""

    def __init__(
        self, seed: int, size: int, conditions: Conditions | None = None, config: Config | None = None
    ) -> None:
        self.network = Network(seed, size, conditions, config)
        self.history = History(self.network)
        self.violations: list[Violation] = []
        self.dice = Random(seed ^ 0x5CE9E)
        self.undisturbed = True  # nobody was killed, cut off or delayed on purpose
        self.steps_between_checks = STEPS_BETWEEN_CHECKS
        self.listeners: list[Callable[[Step], None]] = []  # told of every step, as the history has it
        self.figures: list[str] = []  # what a scenario has measured, to be shown
        self.network.watchers.append(self)
        for machine in self.network.machines:
            machine.recent = deque(maxlen=REMEMBERED)
        self._steps = 0

    @property
    def size(self) -> int:
        """How many machines there are."""
        return len(self.network.machines)

    # -- watching -----------------------------------------------------------------------------------------------------

    def on_started(self, machine: Machine) -> None:
        """See ``Watcher``."""
        self.history.on_boot(machine)

    def on_killed(self, machine: Machine) -> None:
        """See ``Watcher``."""

    def on_handled(self, machine: Machine, event: ev.Event, commands: list[cm.Command]) -> None:
        """See ``Watcher``."""
        step = self.history.step(machine, event, commands)
        for listener in self.listeners:
            listener(step)
        if commands and machine.peer not in self.history.hostile:
            for check in AT_EVERY_STEP:
                self._report(check.__name__, check(step, self.history))
        self._steps += 1
        if self._steps % (self.steps_between_checks * self.size) == 0:
            for look in NOW_AND_THEN:
                self._report(look.__name__, look(self.history))

    def _report(self, name: str, found: Iterable[str]) -> None:
        for what in found:
            known = any(v.invariant == name and v.what == what for v in self.violations)
            if not known and len(self.violations) < MAX_VIOLATIONS:
                self.violations.append(violation(name, what, self.network))

    def rest(self, seconds: float = 600.0) -> bool:
        """Let the world come to rest; what still does not hold after ``seconds`` is reported. True if it came."""
        end = self.network.now + seconds
        while self.network.now < end:
            self.network.run(LOOK_INTERVAL)
            if self._at_rest():
                break
        for check in (*AT_REST, *(UNDISTURBED if self.undisturbed else ())):
            self._report(check.__name__, check(self.history))
        return self._at_rest()

    def _at_rest(self) -> bool:
        return not any(True for check in AT_REST for _ in check(self.history))

    def expect(self, holds: bool, what: str) -> None:
        """What the scenario itself demands."""
        if not holds:
            self._report("expected", [what])

    # -- people -------------------------------------------------------------------------------------------------------

    def start(self, *indices: int) -> None:
        """Switch machines on; all of them if none is named."""
        for index in indices or range(len(self.network.machines)):
            self.network.start(index)

    def found(self, index: int = 0) -> None:
        """That machine's owner founds the mesh."""
        self.network.ask(index, "mesh.found", mesh_name="home", name=f"n{index}", mesh_key=MESH_KEY)

    def mint(self, index: int = 0, uses: int = 1) -> str:
        """A token of that machine's."""
        return str(self.network.ask(index, "introductions.mint", uses=uses)["token"])

    def join(self, index: int, token: str) -> int:
        """Paste a token; gives the request."""
        return self.network.request(index, "mesh.join", token=token, timeout=300.0)

    def join_all(self, indices: Iterable[int], introducer: int = 0) -> None:
        """One after the other, each until it is in. A person whose join fails pastes the token again."""
        for index in indices:
            token = self.mint(introducer)
            for _ in range(5):
                if self.outcome(index, self.join(index, token)) in (None, Code.IN_MESH):
                    break

    def join_everybody(self) -> None:
        """All of them, each through some member that can connect to it; in the order in which that becomes possible."""
        waiting = list(range(1, self.size))
        while waiting:
            index = next((i for i in waiting if self.introducer_for(i) is not None), None)
            if index is None:
                break  # these have nobody to connect to: see the scenario ``introducer-out-of-reach``
            waiting.remove(index)
            self.join_all((index,), self.introducer_for(index) or 0)
            self.talk(3)

    def introducer_for(self, index: int) -> int | None:
        """A random member that may introduce and can connect to that machine; None if there is none."""
        able = []
        for machine, node in self.network.running():
            connects = machine.index != index and not self.network.unconnectable(machine.index, index)
            if connects and node.membership.row is not None and node.admitting.may_admit:
                able.append(machine.index)
        return self.dice.choice(able) if able else None

    def outcome(self, index: int, request: int, timeout: float = 400.0) -> Code | None:
        """How that request ended; None: well. ``Code.JOIN_TIMEOUT`` stands for no answer at all."""
        network = self.network
        network.run(timeout, until=lambda: network.answer(index, request) is not None)
        answer = network.answer(index, request)
        return Code.JOIN_TIMEOUT if answer is None else answer[0]

    def until(self, condition: Callable[[], bool], seconds: float = 120.0) -> bool:
        """Let time pass until something holds."""
        return self.network.run(seconds, until=condition)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.network.run(seconds)

    def kill(self, *indices: int) -> None:
        """kill -9."""
        self.undisturbed = False
        for index in indices:
            if self.network.machines[index].node is not None:
                self.network.kill(index)

    def is_member(self, index: int) -> bool:
        """Whether that machine's daemon runs and belongs to the mesh."""
        node = self.network.machines[index].node
        return node is not None and node.membership.row is not None

    def talk(self, count: int = 1) -> None:
        """Random members write to each other; nobody waits for the answer."""
        members = [machine for machine, node in self.network.running() if node.membership.row is not None]
        for _ in range(count if len(members) > 1 else 0):
            sender, receiver = self.dice.sample(members, 2)
            node = sender.node
            if node is not None and node.membership.record(receiver.peer) is not None:
                params = {"peer": text_of(receiver.peer), "body": b"hi", "wait": False}
                self.network.request(sender.index, "messages.send", **params)

    def end_streams(self) -> None:
        """All byte streams that are open come to a good end."""
        for machine, _ in self.network.running():
            for link, stream in list(machine.streams):
                self.network.links.end_stream(machine, link, stream, "done")
            for relayed in list(machine.relayed):
                self.network.end_relayed(machine, relayed, "done")

    def neighbors(self, index: int) -> int:
        """How many links that machine has."""
        node = self.network.machines[index].node
        return 0 if node is None else len(node.neighbors)
