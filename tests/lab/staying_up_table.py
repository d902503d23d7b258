"""Plays every disturbance and writes the table into docs/links.md: ``make lab``. Words choose rows that have them."""

from __future__ import annotations

import os
import platform
import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/system")]

from staying_up import BLOAT_NAME, MAX_DELAY, ROWS, Survival, play, play_bloat  # noqa: E402
from two_homes import TwoHomes  # noqa: E402

from demo.processes import Failed  # noqa: E402

PAGE = ROOT / "docs/links.md"
BEGIN, END = "<!-- staying up: made by `make lab` -->", "<!-- end of staying up -->"
PLAYS = [(row.name, partial(play, row=row), row.within) for row in ROWS] + [(BLOAT_NAME, play_bloat, MAX_DELAY)]


def main() -> None:
    began = time.monotonic()
    results: dict[str, Survival | str] = {}
    for name, action, _ in PLAYS:
        if sys.argv[1:] and not all(word in name for word in sys.argv[1:]):
            continue
        with TwoHomes() as lab:
            lab.settle("mesh STUN")
            try:
                results[name] = action(lab)
            except Failed as failure:
                results[name] = f"FAILED: {failure}"
                for daemon in lab.daemons.values():
                    print(f"--- {daemon.name}:\n{daemon.last_lines(40)}", file=sys.stderr)
        print(f"{name:75} {results[name]}", flush=True)
    failed = any(isinstance(result, str) for result in results.values())
    if not sys.argv[1:]:
        lines = ["| what happens | goes on after, by | at most |", "|---|---|---|"]
        for name, _, within in PLAYS:
            result = results[name]
            lines.append(f"| {name} | {'**failed**' if isinstance(result, str) else result} | {within:.0f} s |")
        machine = f"{time.strftime('%Y-%m-%d')}, Linux {platform.release().partition('-')[0]}, {os.cpu_count()} cores"
        told = f"{machine}; {len(PLAYS)} rows in {(time.monotonic() - began) / 60:.0f} min."
        text = PAGE.read_text()
        before, rest = text.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{told}\n\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
