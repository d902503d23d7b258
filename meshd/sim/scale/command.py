"""Playing scenario files from the command line."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from meshd.sim.inspection import state_of
from meshd.sim.network import Stopped
from meshd.sim.scale.play import Play
from meshd.sim.scale.plots import plot
from meshd.sim.scale.reports import as_json, missed, table
from meshd.sim.scale.script import Script, load, parse

# Policy
PROGRESS_INTERVAL = 1.0  # seconds of this machine's time between two lines


def find(name: str) -> Script:
    """A scenario of ours by its name, or any file's. Raises KeyError, OSError, ConfigError."""
    if name.endswith(".toml"):
        return parse(Path(name).read_text(), name)
    return load(name)


def _progress() -> Callable[[Play], None]:
    """A line on standard error now and then; on a terminal, always the same one."""
    last = 0.0
    is_terminal = sys.stderr.isatty()

    def show(play: Play) -> None:
        nonlocal last
        now = time.monotonic()
        if now < last + PROGRESS_INTERVAL * (1 if is_terminal else 10) and play.doing != "done":
            return
        last, look = now, play.looks[-1]
        line = (
            f"{play.script.name} {play.doing:14} {look.when:9.1f} s  {look.living} up in {look.parts}, "
            f"{look.mean_degree:.1f} links, {look.rate:,.0f} B/s, {play.network.events:,} events"
        )
        sys.stderr.write(f"\r\033[K{line}" + "\n" * (play.doing == "done") if is_terminal else line + "\n")
        sys.stderr.flush()

    return show


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def play_script(script: Script, seed: int, options: argparse.Namespace) -> bool:
    """Play it, print what came of it; whether all that was to be reached is, and all held."""
    began = time.process_time()
    play = Play(script, seed, options.nodes or 0, options.shorten, _progress())
    if options.at is not None:
        play.network.stop_at = options.at
    try:
        play.run()
    except Stopped:
        for line in state_of(play.network, options.node):
            _say(line)
        return True
    cpu = time.process_time() - began
    for line in table(play, cpu):
        _say(line)
    if options.json is not None:
        with options.json.open("a") as file:
            file.write(json.dumps(as_json(play, cpu)) + "\n")
    if options.plots is not None:
        _say(f"  {plot(play, options.plots)}")
    return not missed(play) and not play.guard.violations
