"""``python -m meshd.sim SCENARIO … [--seed N | --seeds A..B] [--nodes N]``; without a scenario: the list.

A scenario is a dialogue (a few machines and people, played by a function) or a file (``meshd/sim/scenarios/*.toml``,
or any other ``FILE.toml``: hundreds of machines, phases, measures). ``liveness`` prints the tables of
``docs/liveness.md``; ``replay FILE`` feeds a recording of a real daemon to a node (``docs/simulator.md``).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import meshd.sim.deposit_scenarios
import meshd.sim.joining_scenarios
import meshd.sim.key_scenarios
import meshd.sim.month_scenario
import meshd.sim.push_scenarios
import meshd.sim.revocation_scenarios
import meshd.sim.roaming_scenarios
import meshd.sim.trouble_scenarios  # noqa: F401  all enter their scenarios into the table
from meshd.errors import MeshError
from meshd.sim import liveness_study
from meshd.sim.inspection import inside, state_of
from meshd.sim.network import Stopped
from meshd.sim.replay import Replay
from meshd.sim.report import Report
from meshd.sim.scale import script
from meshd.sim.scale.command import find, play_script
from meshd.sim.scenarios import SCENARIOS, run
from meshd.sim.stage import Stage


def _seeds(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m meshd.sim", description="Play scenarios against the core.")
    parser.add_argument(
        "scenario",
        nargs="*",
        help="names; `all`: every dialogue but the long ones; `scale`: every file; FILE.toml; none: list them; "
        "`liveness`: that study; `replay FILE`: a daemon's recording",
    )
    parser.add_argument("--seed", "--seeds", dest="seeds", type=_seeds, default=range(1, 2), help="N or A..B")
    parser.add_argument("--nodes", type=int, help="machines (each scenario has a number of its own)")
    parser.add_argument("--counters", action="store_true", help="show what the nodes have counted")
    parser.add_argument("--shorten", type=float, default=1.0, metavar="SHARE", help="of their time that phases take")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append a line of JSON for each file that is played")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw what happened (needs matplotlib)")
    parser.add_argument("--at", type=float, metavar="SECONDS", help="stop there and print the state of --node")
    parser.add_argument("--node", type=int, default=0, metavar="N", help="whose state (%(default)s)")
    parser.add_argument("--hours", type=float, default=30_000, help="of a link, for the liveness study (%(default)s)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Play; 1 if an invariant did not hold or an aim was missed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.scenario == ["liveness"]:
        for line in liveness_study.report(options.hours, options.seeds[0]):
            print(line, flush=True)
        return 0
    if options.scenario[:1] == ["replay"]:
        return _replay(parser, options.scenario[1:], options)
    if not options.scenario:
        _list()
        return 0
    short = [name for name, chosen in SCENARIOS.items() if not chosen.long]
    names = {"all": short, "scale": script.names()}.get(options.scenario[0], options.scenario)
    failed = 0
    for name in names:
        for seed in options.seeds:
            try:
                good = (
                    _play_dialogue(name, seed, options) if name in SCENARIOS else play_script(find(name), seed, options)
                )
            except KeyError:
                parser.error(f"no scenario {name!r}; without a name they are listed")
            except (MeshError, OSError) as error:
                parser.exit(2, f"{error}\n")
            failed += not good
    return 1 if failed else 0


def _replay(parser: argparse.ArgumentParser, files: list[str], options: argparse.Namespace) -> int:
    if len(files) != 1:
        parser.error("replay takes one file: the one that `meshd --record FILE` has written")
    try:
        replay = Replay(Path(files[0]))
        for line in replay.play(options.at):
            print(line)
    except (MeshError, OSError) as error:
        parser.exit(2, f"{error}\n")
    if options.at is not None:
        for line in inside(replay.node, {}, replay.now):
            print(line)
    print(replay.summary())
    return 1 if replay.outcome.different else 0


def _list() -> None:
    for chosen in SCENARIOS.values():
        print(f"{chosen.name:28} {chosen.doc.splitlines()[0]}")
    for name in script.names():
        about = script.load(name).scenario
        print(f"{name:28} {about.nodes:,} nodes: {about.title}")


def _play_dialogue(name: str, seed: int, options: argparse.Namespace) -> bool:
    report = Report(name, seed)
    stages: list[Stage] = []

    def prepare(stage: Stage) -> None:
        stages.append(stage)
        if options.at is not None:
            stage.network.stop_at = options.at

    try:
        stage = run(name, seed, options.nodes, prepare)
    except Stopped:
        for line in state_of(stages[0].network, options.node):
            print(line)
        return True
    print(report.summary(stage), flush=True)
    lines = report.violations(stage) + report.figures(stage)
    for line in lines + (report.counters(stage) if options.counters else []):
        print(line, flush=True)
    return not stage.violations


if __name__ == "__main__":
    sys.exit(main())
