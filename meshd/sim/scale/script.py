"""What a scenario file says: how many nodes, how they come to be, what the world does to them, what is to be reached.

The sections are read as those of the daemon's configuration are, so a wrong key is named with its file, its section
and what was probably meant. ``[mesh]`` is the configuration's own section: what all daemons of the scenario are told.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from importlib import resources
from typing import Any

from meshd.config import Config, MeshConfig
from meshd.config_setting import setting
from meshd.config_toml import raise_if_any, read_section
from meshd.errors import ConfigError
from meshd.sim.scale.aims import AIMS, Aim

# Policy
MAX_NODES = 100_000
MAX_PHASES = 32
SHORTEST = 20.0  # seconds of a phase that is cut: grants are given and trees are built in less
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class About:
    """What it is, and who plays."""

    title: str = setting("", "What happens, in a line.")
    nodes: int = setting(100, "How many machines there are.", low=2, high=MAX_NODES)


@dataclass(frozen=True, slots=True)
class Growth:
    """How the mesh comes to be."""

    how: str = setting(
        "grown",
        "`one_by_one`: each is introduced by a random member; `flash`: all join by one token of the founder's; "
        "`grown`: all begin with the disks and links that a grown mesh has.",
        choices=("one_by_one", "flash", "grown"),
    )
    interval: float = setting(1.0, "Between two introductions one by one.", unit="seconds", low=0.01, high=3600)
    within: float = setting(10.0, "The time in which all of a flash crowd come.", unit="seconds", low=0.01, high=3600)


@dataclass(frozen=True, slots=True)
class World:
    """What lies between the machines."""

    latency_scale: float = setting(1.0, "Of all latencies; 1.0: a world with a median of 55 ms one way.", high=100)
    nat: str = setting(
        "published",
        "`published`: NAT kinds by measured shares, 30 % of pairs cannot connect; `none`.",
        choices=("none", "published"),
    )
    loss: float = setting(0.005, "Share of messages on links that are lost, and mostly sent again.", high=0.5)
    push_loss: float = setting(0.0, "Share of pushes that are lost.", high=0.9)
    clock_skew: float = setting(0.0, "Each clock is off by up to so much, either way.", unit="seconds", high=3600)


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """What people do meanwhile."""

    messages: float = setting(0.0, "A second, between random pairs in the whole mesh.", high=10_000)
    broadcasts: float = setting(0.0, "A minute, from random members: one has renewed its keys.", high=10_000)
    size: int = setting(200, "Of a message's body.", unit="bytes", low=32, high=60_000)


@dataclass(frozen=True, slots=True)
class Settle:
    """Let time pass."""

    seconds: float = setting(60.0, "How long.", unit="seconds", high=30 * DAY)


@dataclass(frozen=True, slots=True)
class Crash:
    """A share of all machines dies at once and does not come back."""

    share: float = setting(0.3, "How many of those that run.", high=0.99)
    seconds: float = setting(60.0, "How long to look on afterwards.", unit="seconds", high=DAY)


@dataclass(frozen=True, slots=True)
class Churn:
    """Machines die at random, and come back after a while."""

    per_minute: float = setting(0.05, "Share of all machines that dies each minute.", high=1)
    seconds: float = setting(600.0, "How long.", unit="seconds", high=30 * DAY)
    away: float = setting(60.0, "How long one stays away, on average.", unit="seconds", low=1, high=DAY)


@dataclass(frozen=True, slots=True)
class Partition:
    """The network falls into two halves that live on their own, and is healed."""

    share: float = setting(0.5, "Of the machines on the second side.", high=1)
    seconds: float = setting(DAY, "How long it lasts.", unit="seconds", high=30 * DAY)
    joins: int = setting(0, "Newcomers on each side meanwhile.", high=1000)
    leaves: int = setting(0, "Members that leave on each side.", high=1000)
    renames: int = setting(0, "Members that are given another name on each side.", high=1000)
    revocations: int = setting(0, "Members that are revoked on each side, while they are on the other.", high=1000)
    afterwards: float = setting(300.0, "How long to look on once it is healed.", unit="seconds", high=DAY)


@dataclass(frozen=True, slots=True)
class Malice:
    """A share of the members, without the right to introduce, turns malicious for the rest of the scenario."""

    share: float = setting(0.1, "How many of those that run.", high=0.9)
    deeds: tuple[str, ...] = setting(
        ("drop", "replay", "forge", "flood", "lie"),
        "`drop`: forwards nothing; `replay`: says again what it has heard; `forge`: records and envelopes of others; "
        "`flood`: more than anybody can use; `lie`: claims neighbors that it does not have.",
        choices=("drop", "replay", "forge", "flood", "lie"),
    )
    seconds: float = setting(300.0, "How long to look on.", unit="seconds", high=30 * DAY)


PHASES: dict[str, type[Any]] = {
    "settle": Settle,
    "crash": Crash,
    "churn": Churn,
    "partition": Partition,
    "malice": Malice,
}
Phase = Settle | Crash | Churn | Partition | Malice
SECTIONS: dict[str, type[Any]] = {
    "scenario": About,
    "growth": Growth,
    "world": World,
    "traffic": TrafficPlan,
    "mesh": MeshConfig,
}


@dataclass(frozen=True, slots=True)
class Script:
    """A whole file. ``name`` is the file's, without its ending."""

    name: str
    scenario: About = About()
    growth: Growth = Growth()
    world: World = World()
    traffic: TrafficPlan = TrafficPlan()
    mesh: MeshConfig = MeshConfig()  # noqa: RUF009  frozen
    phases: tuple[Phase, ...] = ()
    aims: dict[str, float] = field(default_factory=dict)  # measure → at most, or at least, as AIMS says

    @property
    def config(self) -> Config:
        """What each daemon is told."""
        return Config(mesh=self.mesh)

    def aim(self, measure: str) -> Aim:
        """What is known about a measure."""
        return AIMS[measure]


def parse(text: str, file: str) -> Script:
    """The scenario that ``text`` describes. Raises ConfigError, one line for each thing that is wrong."""
    try:
        document = tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{file}: not TOML: {error}; mend that line") from None
    problems: list[str] = []
    phases = _phases(document.pop("phases", []), file, problems)
    aims = _aims(document.pop("aims", {}), file, problems)
    sections: dict[str, Any] = {}
    for name, table in document.items():
        if name not in SECTIONS or not isinstance(table, dict):
            problems.append(f"{file}: {name}: there are [{'], ['.join(SECTIONS)}], [[phases]] and [aims]")
            continue
        values, wrong = read_section(name, SECTIONS[name], table)
        problems += [f"{file}: {line}" for line in wrong]
        sections[name] = SECTIONS[name](**values)
    if any(isinstance(phase, Malice) for phase in phases) and sections.get("growth", Growth()).how != "grown":
        problems.append(f'{file}: [[phases]] do = "malice" needs members without rights; write [growth] how = "grown"')
    raise_if_any(problems, file)
    return Script(file.rpartition("/")[2].removesuffix(".toml"), phases=phases, aims=aims, **sections)


def _phases(tables: object, file: str, problems: list[str]) -> tuple[Phase, ...]:
    if not isinstance(tables, list) or len(tables) > MAX_PHASES or not all(isinstance(table, dict) for table in tables):
        problems.append(f"{file}: phases: write each as a table of its own below [[phases]], at most {MAX_PHASES}")
        return ()
    phases: list[Phase] = []
    for number, table in enumerate(tables, 1):
        where, do = f"phases {number}", table.pop("do", None)
        if do not in PHASES:
            problems.append(f"{file}: [[{where}]] do = {do!r}: write one of {', '.join(PHASES)}")
            continue
        values, wrong = read_section(where, PHASES[do], table)
        problems += [f"{file}: {line}" for line in wrong]
        phases.append(PHASES[do](**values))
    return tuple(phases)


def _aims(table: object, file: str, problems: list[str]) -> dict[str, float]:
    if not isinstance(table, dict):
        problems.append(f"{file}: aims: write [aims] and its keys below")
        return {}
    aims: dict[str, float] = {}
    for key, value in table.items():
        if key not in AIMS:
            problems.append(f"{file}: [aims] has no key {key!r}; there are: {', '.join(AIMS)}")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            problems.append(f"{file}: [aims] {key} = {value!r}: write a number ({AIMS[key].doc})")
        else:
            aims[key] = float(value)
    return aims


def names() -> list[str]:
    """The scenarios that come with the simulator."""
    folder = resources.files("meshd.sim") / "scenarios"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load(name: str) -> Script:
    """One of them, by its name. Raises ConfigError for one that is wrong, KeyError if there is none."""
    if name not in names():
        raise KeyError(name)
    file = resources.files("meshd.sim") / "scenarios" / f"{name}.toml"
    return parse(file.read_text(), f"meshd/sim/scenarios/{name}.toml")


def shortened(phase: Phase, factor: float) -> Phase:
    """The same phase in less time: only what is a mere length is cut, and not below what a mesh needs to settle."""
    known = {item.name: getattr(phase, item.name) for item in fields(phase)}
    least = min(known["seconds"], SHORTEST)
    return type(phase)(**(known | {"seconds": max(least, known["seconds"] * factor)}))
