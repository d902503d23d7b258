"""``python -m meshd.sim SCENARIO [--seed N | --seeds A..B] [--nodes N] [--counters]``; without a scenario: the list.

``python -m meshd.sim liveness [--hours N]`` prints the tables of ``docs/liveness.md``.
"""

from __future__ import annotations

import argparse
import sys

import meshd.sim.joining_scenarios
import meshd.sim.key_scenarios
import meshd.sim.push_scenarios
import meshd.sim.revocation_scenarios
import meshd.sim.roaming_scenarios
import meshd.sim.trouble_scenarios  # noqa: F401  all enter their scenarios into the table
from meshd.sim import liveness_study
from meshd.sim.report import Report
from meshd.sim.scenarios import SCENARIOS, run


def _seeds(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def main(arguments: list[str] | None = None) -> int:
    """Play; 1 if an invariant did not hold."""
    parser = argparse.ArgumentParser(prog="python -m meshd.sim", description="Play scenarios against the core.")
    parser.add_argument("scenario", nargs="*", help="names, or `all`; none: list them; `liveness`: that study")
    parser.add_argument("--seed", "--seeds", dest="seeds", type=_seeds, default=range(1, 2), help="N or A..B")
    parser.add_argument("--nodes", type=int, help="machines (each scenario has a number of its own)")
    parser.add_argument("--counters", action="store_true", help="show what the nodes have counted")
    parser.add_argument("--hours", type=float, default=30_000, help="of a link, for the liveness study (%(default)s)")
    parsed = parser.parse_args(arguments)
    if parsed.scenario == ["liveness"]:
        for line in liveness_study.report(parsed.hours, parsed.seeds[0]):
            print(line, flush=True)
        return 0
    if not parsed.scenario:
        for chosen in SCENARIOS.values():
            print(f"{chosen.name:28} {chosen.doc.splitlines()[0]}")
        return 0
    names = list(SCENARIOS) if parsed.scenario == ["all"] else parsed.scenario
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {unknown[0]!r}; without a name they are listed")
    failed = 0
    for name in names:
        for seed in parsed.seeds:
            report = Report(name, seed)
            stage = run(name, seed, parsed.nodes)
            print(report.summary(stage), flush=True)
            for line in report.violations(stage) + (report.counters(stage) if parsed.counters else []):
                print(line, flush=True)
            failed += bool(stage.violations)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
