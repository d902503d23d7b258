"""Scenario files are read strictly: what is wrong is named with file and key."""

from __future__ import annotations

import pytest

from meshd.errors import ConfigError
from meshd.sim.scale.aims import AIMS
from meshd.sim.scale.script import Churn, Crash, Settle, load, names, parse, shortened

GOOD = """
[scenario]
title = "a test"
nodes = 20

[mesh]
heartbeat_interval = 5

[[phases]]
do = "settle"
seconds = 10

[[phases]]
do = "crash"
share = 0.5

[aims]
mean_degree = 12
"""


def test_a_file_is_read() -> None:
    script = parse(GOOD, "somewhere/good.toml")
    assert script.name == "good"
    assert script.scenario.nodes == 20
    assert script.config.mesh.heartbeat_interval == 5.0
    assert script.phases == (Settle(10.0), Crash(0.5, 60.0))
    assert script.aims == {"mean_degree": 12.0}


@pytest.mark.parametrize(
    ("replaced", "by", "named"),
    [
        ("nodes = 20", "nods = 20", ["good.toml", "[scenario]", "nods", "nodes"]),
        ("nodes = 20", "nodes = 1", ["good.toml", "[scenario] nodes = 1", "from 2 to"]),
        ("share = 0.5", "share = 5", ["good.toml", "[phases 2] share = 5", "0 to 1"]),
        ("share = 0.5", "away = 5", ["good.toml", "[phases 2]", "'away'", "share"]),
        ('do = "crash"', 'do = "crush"', ["good.toml", "[[phases 2]]", "crush", "crash"]),
        ("mean_degree = 12", 'mean_degree = "few"', ["good.toml", "[aims] mean_degree", "a number"]),
        ("mean_degree = 12", "meandegree = 12", ["good.toml", "[aims]", "meandegree", "mean_degree"]),
        ("[mesh]", "[mash]", ["good.toml", "mash", "[mesh]"]),
        ("[[phases]]\ndo", "[phases]\ndo", ["good.toml"]),
        ("[mesh]", "[mesh", ["good.toml", "not TOML"]),
    ],
)
def test_what_is_wrong_is_named(replaced: str, by: str, named: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(replaced, by), "good.toml")
    assert all(word in str(caught.value) for word in named), caught.value


def test_several_faults_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace("nodes", "nods").replace("share", "shore"), "good.toml")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("name", names())
def test_every_scenario_of_ours_can_be_read_and_says_what_it_is(name: str) -> None:
    script = load(name)
    assert script.scenario.title
    assert script.phases
    assert script.aims
    assert all(AIMS[measure].doc for measure in script.aims)


def test_malice_needs_members_without_rights() -> None:
    text = '[growth]\nhow = "flash"\n[[phases]]\ndo = "malice"'
    with pytest.raises(ConfigError, match="grown"):
        parse(text, "x.toml")


def test_a_phase_is_cut_in_time_and_in_nothing_else() -> None:
    assert shortened(Churn(0.05, 1800.0, 60.0), 0.1) == Churn(0.05, 180.0, 60.0)
