"""A selection of scenarios, each with a few seeds. ``make sim`` plays all of them with many."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from meshd.sim.__main__ import main
from meshd.sim.report import Report
from meshd.sim.scenarios import SCENARIOS, run

QUICK = {
    "one-by-one": (1,),
    "all-at-once": (1,),
    "one-too-many": (1, 2),
    "many-introducers": (1,),
    "killed-while-joining": (1, 2, 3),
    "push-down-while-joining": (1, 2),
    "clocks": (1,),
    "leave-and-return": (1, 3),
    "killed-while-leaving": (1, 20),
    "renamed-by-two": (1,),
    "introducer-out-of-reach": (1, 2, 3),
    "one-member-in-reach": (1, 2, 3),
    "nobody-in-reach": (1,),
    "copy-and-paste": (1, 2, 3),
    "killed-at-random": (1,),
    "relay-dies": (1, 2),
    "glare-storm": (1,),
    "power-cut": (1, 2),
    "power-cut-one-by-one": (1,),
    "deaths-are-noticed": (1,),
    "asleep-14-days": (1,),
    "asleep-16-days": (1,),
    "subscriptions-lost": (1,),
    "subscription-lost-while-away": (1,),
    "clock-jumps": (1,),
    "streams-come-and-go": (1, 2, 3),
    "store-fails": (1, 2),
    "store-fails-while-joining": (1, 2, 3),
    "some-pairs-cannot": (1,),
    "neighbors-asleep": (1,),
    "both-changed-while-away": (1,),
    "two-revocations": (1, 2),
    "keys-renewed": (1, 2),
    "thief-dates-back": (1, 2),
    "never-awake-together": (1,),
    "small-mesh-without-keepers": (1,),
    "keepers-crash": (1, 2),
    "keepers-disk-full": (2,),
    "false-keepers": (1,),
    "revoked-while-kept": (1,),
    "few-days": (1,),
}


SMALLER = {
    "all-at-once": 6,
    "glare-storm": 5,
    "killed-at-random": 4,
    "many-introducers": 6,
    "one-by-one": 6,
    "some-pairs-cannot": 8,
}


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name, seeds in QUICK.items() for seed in seeds])
def test_nothing_is_wrong(name: str, seed: int) -> None:
    stage = run(name, seed, SMALLER.get(name))
    assert stage.violations == [], "\n".join(Report.violations(stage))


def test_every_scenario_says_what_it_plays() -> None:
    assert all(chosen.doc.strip().endswith(".") for chosen in SCENARIOS.values())


def test_command_line_lists_and_plays(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "power-cut " in capsys.readouterr().out
    assert main(["relay-dies", "--seeds", "4..5", "--nodes", "3", "--counters"]) == 0
    shown = capsys.readouterr().out
    assert "seed 4" in shown
    assert "seed 5" in shown
    assert "links_opened" in shown
    with pytest.raises(SystemExit):
        main(["no-such-scenario"])


def test_the_same_seed_gives_the_same_trace_whatever_hashes_are() -> None:
    program = "from meshd.sim.__main__ import run; print(run('killed-in-rough-weather', 7, 4).network.trace())"
    traces = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "1")
    }
    assert len(traces) == 1
    assert run("killed-in-rough-weather", 8, 4).network.trace() not in traces.pop()
