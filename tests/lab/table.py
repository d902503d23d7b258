"""Plays every pair of routers in every column and writes the table into docs/links.md: ``make lab``."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/system")]

from pairs import PAIRS, Outcome, outcome_of  # noqa: E402
from two_homes import COLUMNS, TwoHomes  # noqa: E402

from demo.processes import Failed  # noqa: E402

PAGE = ROOT / "docs/links.md"
BEGIN, END = "<!-- made by `make lab` -->", "<!-- end -->"


def play(column: str) -> dict[tuple[str, str], Outcome | str]:
    found: dict[tuple[str, str], Outcome | str] = {}
    with TwoHomes() as lab:
        lab.settle(column)
        for pair in PAIRS:
            try:
                found[pair] = outcome_of(lab, column, *pair)
            except Failed as failure:
                found[pair] = f"FAILED: {failure}"
            result = found[pair]
            words = f"{result}, {result.seconds:.1f} s  {result.why}" if isinstance(result, Outcome) else result
            print(f"{column:13} {pair[0]:21} x {pair[1]:21} {words}", flush=True)
    return found


def cell(result: Outcome | str) -> str:
    if isinstance(result, str):
        return "**failed**"
    joint = "; known in" if result.how == "over a member" else ","
    return f"{result}{joint} {result.seconds:.1f} s"


def main() -> None:
    began = time.monotonic()
    results = {column: play(column) for column in (sys.argv[1:] or COLUMNS)}
    if sys.argv[1:]:
        return
    lines = [f"| routers | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for pair in PAIRS:
        name = ", ".join(kind.replace("_", "-") for kind in pair)
        lines.append(f"| {name} | {' | '.join(cell(results[column][pair]) for column in COLUMNS)} |")
    kernel = platform.release().split("-")[0]
    machine = f"{time.strftime('%Y-%m-%d')}, Linux {kernel}, {os.cpu_count()} cores"
    told = f"{machine}; {len(PAIRS) * len(COLUMNS)} rows in {(time.monotonic() - began) / 60:.0f} min."
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{told}\n\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}")
    if any(isinstance(result, str) for column in results.values() for result in column.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
