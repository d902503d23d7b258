"""A scenario file, played: the mesh comes to be, phases happen to it, traffic flows, everything is watched."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from meshd.sim.conditions import Conditions
from meshd.sim.network import Network
from meshd.sim.scale.agenda import Agenda
from meshd.sim.scale.grown import Grown
from meshd.sim.scale.growth import Growth
from meshd.sim.scale.guard import Guard
from meshd.sim.scale.mesh import Mesh
from meshd.sim.scale.meter import Meter
from meshd.sim.scale.phases import Phases
from meshd.sim.scale.script import Churn, Malice, Partition, Script, shortened
from meshd.sim.scale.traffic import PATIENCE, Traffic
from meshd.sim.terrain import Terrain

# Policy
LOOK_INTERVAL = 5.0  # seconds between looks at the whole
REMEMBERED = 12  # of each machine's last events, for whoever asks why
NOTICES = 8  # of what each daemon would have logged
PAIRS = 1000  # whose next hops are followed at the end
CHURNING = 3.0  # times as many as die at the same time may be among those that die at all


@dataclass(frozen=True, slots=True)
class Look:
    """The whole at one moment. ``rate``: bytes of control traffic a second and member since the look before."""

    when: float
    living: int
    parts: int
    mean_degree: float
    max_degree: int
    rate: float


@dataclass(slots=True)
class Play:
    """One run of a script. ``nodes``: other than the script's; ``shorten``: the share of their time phases take."""

    script: Script
    seed: int = 1
    nodes: int = 0
    shorten: float = 1.0
    progress: Callable[[Play], None] = lambda _: None
    figures: dict[str, float] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    doing: str = "growing"
    network: Network = field(init=False)
    mesh: Mesh = field(init=False)
    meter: Meter = field(init=False)
    traffic: Traffic = field(init=False)
    guard: Guard = field(init=False)
    growth: Growth = field(init=False)
    _agenda: Agenda = field(init=False)
    _phases: Phases = field(init=False)
    _dice: Random = field(init=False)
    _sent: int = 0

    def __post_init__(self) -> None:
        """Put everything in its place; nothing happens yet."""
        script, world = self.script, self.script.world
        self.nodes = self.nodes or script.scenario.nodes
        self._dice = Random(self.seed ^ 0x5CA1E)
        extra = sum(2 * phase.joins for phase in script.phases if isinstance(phase, Partition))
        conditions = Conditions(loss=world.loss, push_loss=world.push_loss)
        self.network = Network(self.seed, self.nodes + extra, conditions, script.config)
        self.network.terrain = Terrain(self.seed, world.latency_scale, world.nat == "published")
        for machine in self.network.machines:
            machine.recent, machine.notices = deque(maxlen=REMEMBERED), deque(maxlen=NOTICES)
            machine.skew = self._dice.uniform(-world.clock_skew, world.clock_skew)
        self.mesh = Mesh(self.network)
        self._agenda = Agenda(self.network)
        self.meter = Meter(len(self.network.machines))
        self.traffic = Traffic(self.mesh, script.traffic.size, Random(self._dice.getrandbits(32)))
        self.guard = Guard(self.mesh, self.traffic, Random(self._dice.getrandbits(32)))
        self.network.watchers += [self.meter, self.traffic, self.guard]
        self.growth = Growth(self.mesh, self._agenda, self._dice)
        self._phases = Phases(self.mesh, self._agenda, self.guard, self.growth, self._dice, self.figures)
        self._phases.newcomers = list(range(self.nodes, self.nodes + extra))
        self._cast()

    def _cast(self) -> None:
        """Who may restart, so that its disk keeps something; who may turn malicious, so that it gets no rights."""
        phases = [phase for phase in self.script.phases if isinstance(phase, Churn)]
        away = max((phase.per_minute / 60.0 * phase.away * CHURNING for phase in phases), default=0.0)
        dying = max((phase.per_minute / 60.0 * phase.seconds for phase in phases), default=0.0)
        wanted = math.ceil(self.nodes * min(1.0, max(away, dying)))
        self._phases.cast = sorted(self._dice.sample(range(self.nodes), wanted))
        for machine in self.network.machines:
            machine.forgetful = True
        for index in self._phases.cast:
            self.network.machines[index].forgetful = False
        share = max((phase.share for phase in self.script.phases if isinstance(phase, Malice)), default=0.0)
        able = range(4, self.nodes)  # after the admins
        self._phases.powerless = self._dice.sample(able, min(len(able), int(self.nodes * share)))

    def run(self) -> None:
        """All of it. Raises Stopped at ``network.stop_at``."""
        self._agenda.every(LOOK_INTERVAL, self._look)
        self._grow()
        self.meter.restart(self.network.now)
        self._talk()
        for number, phase in enumerate(self.script.phases, 1):
            self.doing = f"{number}/{len(self.script.phases)} {type(phase).__name__.lower()}"
            self._phases.play(shortened(phase, self.shorten))
        self.doing = "done"
        self._look()
        self._measure()

    def wait(self, seconds: float) -> None:
        """Let more time pass, as in a phase."""
        self._agenda.wait(seconds)

    def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until something holds; False if it does not in that time."""
        return self._agenda.wait(seconds, condition)

    def _grow(self) -> None:
        growth, how = self.script.growth, self.script.growth.how
        if how == "grown":
            Grown(self.mesh, self.nodes, self._dice, set(self._phases.powerless)).plant()
            return
        self.growth.found()
        others = list(range(1, self.nodes))
        if how == "flash":
            self.growth.flash(others, growth.within)
        else:
            self.growth.one_by_one(others, growth.interval)
        self.figures["joined_share"] = len(self.mesh.since) / self.growth.tried
        self.figures["joined_seconds"] = self.growth.ended - self.growth.began

    # -- traffic ------------------------------------------------------------------------------------------------------

    def _talk(self) -> None:
        plan = self.script.traffic
        self._often(plan.messages, self._write)
        self._often(plan.broadcasts / 60.0, self._broadcast)

    def _often(self, rate: float, deed: Callable[[], None]) -> None:
        def again() -> None:
            deed()
            self._agenda.after(self._dice.expovariate(rate), again)

        if rate:
            self._agenda.after(self._dice.expovariate(rate), again)

    def _write(self) -> None:
        number = self.traffic.write()
        if number is not None:
            self._agenda.after(PATIENCE, lambda: self.traffic.judge(number))

    def _broadcast(self) -> None:
        made = self.traffic.broadcast()
        if made is not None:
            self._agenda.after(PATIENCE, lambda: self.traffic.judge_broadcast(made))

    # -- looking ------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        graph = self.mesh.graph()
        parts = len(self.mesh.parts_of_honest(graph))
        degrees = [len(others) for others in graph.values()] or [0]
        sent, elapsed = self.meter.control_size(), self.network.now - (self.looks[-1].when if self.looks else 0.0)
        rate = (sent - self._sent) / elapsed / len(degrees) if elapsed > 0 and sent >= self._sent else 0.0
        self._sent = sent
        look = Look(self.network.now, len(graph), parts, statistics.fmean(degrees), max(degrees), rate)
        self.looks.append(look)
        self.guard.look(parts)
        self.progress(self)

    def _measure(self) -> None:
        figures, network = self.figures, self.network
        graph = self.mesh.graph()
        degrees = [len(others) for others in graph.values()]
        figures["mean_degree"], figures["min_degree"] = statistics.fmean(degrees), min(degrees)
        figures["max_degree"] = max(look.max_degree for look in self.looks)
        figures["components"] = len(self.mesh.parts_of_honest(graph))
        walks = self.mesh.walks(PAIRS, self._dice)
        arrived = [hops for hops in walks if hops is not None]
        figures["routable_share"] = len(arrived) / len(walks) if walks else math.nan
        figures["mean_hops"] = statistics.fmean(arrived) if arrived else math.nan
        figures["max_hops"] = max(arrived, default=math.nan)
        self._measure_traffic()
        elapsed = network.now - self.meter.began
        living = statistics.fmean(look.living for look in self.looks if look.when >= self.meter.began)
        if elapsed > 0:
            figures["control_rate"] = self.meter.control_size() / elapsed / living
            figures["max_control_rate"] = max(self.meter.by_machine) / elapsed
        figures["fullest"] = self.guard.fullest[0]
        figures["cpu_share"] = network.cpu / network.now / living
        figures["intruders"] = self.guard.intruders
        figures["impersonations"] = self.traffic.impersonations

    def _measure_traffic(self) -> None:
        letters, broadcasts = self.traffic.letters, self.traffic.broadcasts
        if letters.counted:
            self.figures["delivered_share"] = letters.arrived / letters.counted
        if letters.delays:
            self.figures["delivery_median"] = statistics.median(letters.delays)
        if broadcasts.counted:
            self.figures["broadcast_share"] = broadcasts.arrived / broadcasts.counted
            self.figures["broadcast_copies"] = self.traffic.copies / broadcasts.counted
