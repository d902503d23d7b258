"""What can happen to a mesh, played out. ``python -m meshd.sim`` lists and runs them.

A scenario does things and lets time pass; the invariants judge. What a scenario itself expects (an error of a certain
name, a time by which something is back) it says with ``Stage.expect``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from meshd.config import Config
from meshd.sim.conditions import Conditions
from meshd.sim.stage import Stage

Play = Callable[[Stage], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """``size``: machines, unless told otherwise. ``long``: takes minutes, so ``all`` leaves it out."""

    name: str
    doc: str
    play: Play
    size: int
    conditions: Callable[[], Conditions] = Conditions
    config: Config = field(default_factory=Config)
    long: bool = False


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    size: int,
    conditions: Callable[[], Conditions] = Conditions,
    config: Config | None = None,
    *,
    long: bool = False,
) -> Callable[[Play], Play]:
    """Enter a function into the table, under its name."""

    def enter(play: Play) -> Play:
        name = play.__name__.replace("_", "-")
        SCENARIOS[name] = Scenario(name, play.__doc__ or "", play, size, conditions, config or Config(), long)
        return play

    return enter


def run(name: str, seed: int, size: int | None = None, prepare: Callable[[Stage], None] = lambda _: None) -> Stage:
    """Play a scenario; the stage has what was found. ``prepare`` gets it first. KeyError: no such name."""
    chosen = SCENARIOS[name]
    stage = Stage(seed, size or chosen.size, chosen.conditions(), chosen.config)
    prepare(stage)
    chosen.play(stage)
    return stage
