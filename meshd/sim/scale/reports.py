"""What came of a scenario: a table for people, JSON for programs, both dated and repeatable."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from meshd.sim.scale.aims import AIMS
from meshd.sim.scale.play import Play

# Policy
MAX_KINDS = 14  # of messages shown
MAX_VIOLATIONS_SHOWN = 8
GIT_TIMEOUT = 5.0  # seconds; without git, the commit is not named


def provenance(play: Play, cpu: float) -> dict[str, Any]:
    """What it takes to repeat it, and what was spent."""
    return {
        "scenario": play.script.name,
        "title": play.script.scenario.title,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),  # noqa: UP017  3.11 has it, too
        "commit": _commit(),
        "python": platform.python_version(),
        "seed": play.seed,
        "nodes": play.nodes,
        "shorten": play.shorten,
        "simulated_seconds": play.network.now,
        "events": play.network.events,
        "cpu_seconds": cpu,
        "peak_memory": _peak_memory(),
        "trace": play.network.trace(),
    }


def _commit() -> str:
    """The commit of the source, with a mark if it has changes; ``unknown`` for an installed package."""
    here = Path(__file__).parent
    try:
        said = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude", "*"],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.stdout.strip()


def _peak_memory() -> int:
    """Of this process, in bytes."""
    import resource  # POSIX alone has it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


_NAN = float("nan")


def missed(play: Play) -> list[str]:
    """The measures that are not what the script wants."""
    figures = play.figures
    return [name for name, wanted in play.script.aims.items() if not AIMS[name].is_met(figures.get(name, _NAN), wanted)]


def table(play: Play, cpu: float) -> Iterator[str]:
    """For people."""
    about = provenance(play, cpu)
    yield f"{about['scenario']}: {about['title']}"
    yield (
        f"  seed {about['seed']}, {about['nodes']} nodes, {about['simulated_seconds']:,.0f} s simulated"
        f"{'' if play.shorten == 1.0 else f' (phases cut to {play.shorten:g})'}, "
        f"{about['date']}, commit {about['commit']}, Python {about['python']}"
    )
    rate = about["events"] / cpu if cpu else 0.0
    memory = about["peak_memory"] / 2**20
    yield (
        f"  {about['events']:,} events in {cpu:,.1f} s of CPU ({rate:,.0f}/s), {memory:,.0f} MB, "
        f"{memory * 1024 / play.nodes:,.0f} KB a node; trace {about['trace'][:16]}"
    )
    yield ""
    yield from _figures(play)
    yield ""
    yield from _kinds(play)
    yield from _lost(play)
    yield from _violations(play)


def _figures(play: Play) -> Iterator[str]:
    for name, aim in AIMS.items():
        value, wanted = play.figures.get(name), play.script.aims.get(name)
        if value is None and wanted is None:
            continue
        value = _NAN if value is None else value
        shown, verdict = aim.shown(value), ""
        if wanted is not None:
            sign = "≤" if aim.at_most else "≥"
            verdict = f"{'ok    ' if aim.is_met(value, wanted) else 'MISSED'} {sign} {aim.shown(wanted)}"
        yield f"  {name:18} {shown:>14}  {verdict:24} {aim.doc}"
    yield f"  fullest: {play.guard.fullest[1] or 'nothing in particular'}"


def _kinds(play: Play) -> Iterator[str]:
    elapsed, nodes = play.network.now - play.meter.began, play.nodes
    if elapsed <= 0:
        return
    yield "  on the links, a second and node:     messages       bytes"
    kinds = sorted(play.meter.kinds.items(), key=lambda item: -item[1].size)
    for kind, sent in kinds[:MAX_KINDS]:
        yield f"    {kind:32} {sent.messages / elapsed / nodes:10.3f}  {sent.size / elapsed / nodes:10.1f}"


def _lost(play: Play) -> Iterator[str]:
    for letter in play.traffic.lost[:5]:
        late = "never" if letter.arrived is None else f"after {letter.arrived - letter.written:.0f} s"
        yield (
            f"  not there in time: n{letter.sender} to n{letter.receiver}, written at {letter.written:.2f} s, "
            f"on {letter.crossings} links, arrived {late}"
        )


def _violations(play: Play) -> Iterator[str]:
    for found in play.guard.violations[:MAX_VIOLATIONS_SHOWN]:
        yield f"  VIOLATED {found.invariant} at {found.when:.3f} s, seed {play.seed}: {found.what}"
        yield from (f"    {line}" for line in found.story)
    if not play.guard.violations:
        yield "  all invariants held"


def as_json(play: Play, cpu: float) -> dict[str, Any]:
    """For programs: everything, and the looks as rows."""
    return {
        **provenance(play, cpu),
        "figures": play.figures,
        "aims": play.script.aims,
        "missed": missed(play),
        "kinds": {kind: asdict(sent) for kind, sent in sorted(play.meter.kinds.items())},
        "looks": [asdict(look) for look in play.looks],
        "violations": [asdict(found) for found in play.guard.violations],
    }
