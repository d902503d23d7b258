"""The short form of what ``python -m meshd.sim liveness`` shows at length."""

from __future__ import annotations

import pytest

from meshd.sim.__main__ import main
from meshd.sim.liveness_study import false_alarms, noticed_after, outage_survived, slowing_survived


@pytest.mark.parametrize("rtt", [0.05, 0.5, 2.0])
def test_the_living_are_not_blamed(rtt: float) -> None:
    assert false_alarms(30.0, rtt, 0.05, seed=1).count == 0


def test_the_study_does_find_false_alarms() -> None:
    assert false_alarms(3.0, 0.5, 0.5, seed=1).count > 10


@pytest.mark.parametrize("rtt", [0.02, 0.5])
@pytest.mark.parametrize("share", [0.0, 0.05])
def test_the_dead_are_noticed_within_five_seconds(rtt: float, share: float) -> None:
    times = noticed_after(200, rtt, share, seed=1)
    assert times[197] < 5.0
    assert times[0] > 2.0


def test_short_outages_are_survived() -> None:
    assert outage_survived(100, 0.05, 0.0, 2.0, seed=1) == 1.0
    assert outage_survived(100, 0.05, 0.0, 5.0, seed=1) == 0.0


def test_paths_that_become_slow_are_survived() -> None:
    assert slowing_survived(100, 0.05, 2.0, 0.0, seed=1) == 1.0


def test_the_tables_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["liveness", "--hours", "1", "--seed", "3"]) == 0
    assert "| 500 ms | 5% |" in capsys.readouterr().out
