"""The scenarios of thousands, played by a few: that they run, hold, and measure. ``make sim`` plays them in full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from meshd.sim.__main__ import main
from meshd.sim.network import Network
from meshd.sim.scale import plots
from meshd.sim.scale.grown import graph
from meshd.sim.scale.mesh import Mesh
from meshd.sim.scale.play import Play
from meshd.sim.scale.script import load, names, parse
from meshd.sim.scenarios import SCENARIOS
from meshd.sim.terrain import Terrain

# name → nodes, the share of their time that phases take, and the seed. What they are to reach is judged in full size
# alone: the aims of a thousand members say nothing about forty.
SMALL = {
    "churn": (40, 0.03, 1),
    "crash": (80, 0.1, 1),
    "flash-crowd": (14, 0.2, 1),
    "growth-one-by-one": (18, 0.1, 1),
    "malice": (40, 0.05, 2),
    "day-apart": (32, 0.003, 2),
    "snapshot-10000": (100, 0.03, 1),
}
TINY = """
[scenario]
title = "tiny"
nodes = 18
[traffic]
messages = 2.0
broadcasts = 6.0
[[phases]]
do = "settle"
seconds = 20
[[phases]]
do = "churn"
per_minute = 0.3
seconds = 40
away = 10
[aims]
components = 1
"""


def test_each_scenario_has_a_small_version() -> None:
    assert set(SMALL) == set(names())
    assert not set(names()) & set(SCENARIOS)  # no two of one name


@pytest.mark.timeout(300)  # of a machine that does much else; CPU is some seconds
@pytest.mark.parametrize("name", SMALL)
def test_it_runs_and_holds(name: str) -> None:
    nodes, shorten, seed = SMALL[name]
    play = Play(load(name), seed, nodes, shorten)
    play.run()
    assert play.guard.violations == [], "\n".join(line for v in play.guard.violations for line in (v.what, *v.story))
    assert play.until(lambda: play.mesh.is_whole(100, play.guard.dice), 90.0), "whole again soon after"
    assert play.figures["intruders"] == play.figures["impersonations"] == 0
    assert play.figures.get("delivered_share", 1.0) > 0.9  # a pair may be cut off by the moment, at twenty


@pytest.mark.timeout(300)
def test_the_same_seed_gives_the_same_trace_whatever_hashes_are() -> None:
    program = (
        "from meshd.sim.scale.play import Play; from meshd.sim.scale.script import load\n"
        "import sys; play = Play(load('malice'), int(sys.argv[1]), 18, 0.05); play.run(); print(play.network.trace())"
    )

    def trace(seed: str, hash_seed: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-c", program, seed],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        )
        return ran.stdout

    assert trace("7", "0") == trace("7", "1")
    assert trace("8", "0") != trace("7", "0")


def test_a_run_is_reported_as_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script, out = tmp_path / "tiny.toml", tmp_path / "out.jsonl"
    script.write_text(TINY)
    assert main([str(script), "--seed", "3", "--json", str(out)]) == 0
    shown = capsys.readouterr()
    assert "seed 3, 18 nodes" in shown.out
    assert "commit" in shown.out
    assert "delivered_share" in shown.out
    assert "ok" in shown.out
    assert "tiny done" in shown.err
    report = json.loads(out.read_text())
    assert report["seed"] == 3
    assert report["figures"]["components"] == 1
    assert report["missed"] == []
    assert report["looks"][-1]["living"] > 0
    assert report["kinds"]["heartbeats"]["messages"] > 0


def test_an_aim_that_is_missed_fails_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "strict.toml"
    script.write_text(TINY.replace("components = 1", "mean_degree = 0.5"))
    assert main([str(script), "--shorten", "0.1"]) == 1
    assert "MISSED" in capsys.readouterr().out


def test_a_file_that_is_wrong_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "wrong.toml"
    script.write_text("[scenario]\nnodes = 0\n")
    with pytest.raises(SystemExit) as caught:
        main([str(script)])
    assert caught.value.code == 2
    assert "wrong.toml: [scenario] nodes" in capsys.readouterr().err


def test_the_state_of_any_node_at_any_moment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "tiny.toml"
    script.write_text(TINY)
    assert main([str(script), "--at", "17.5", "--node", "4"]) == 0
    shown = capsys.readouterr().out
    assert "n4 at 17.5000 s" in shown
    for subject in ("neighbors", "routes:", "timers:", "containers", "counters:", "last events:"):
        assert subject in shown
    assert main(["one-by-one", "--at", "3", "--node", "1", "--nodes", "3"]) == 0
    assert "n1 at 3.0000 s" in capsys.readouterr().out


def test_plots_are_an_extra(tmp_path: Path) -> None:
    play = Play(parse(TINY, "tiny.toml"), shorten=0.05)
    play.run()
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        with pytest.raises(plots.PlotsUnavailable, match="pip install"):
            plots.plot(play, tmp_path)
    else:
        assert plots.plot(play, tmp_path / "pictures").stat().st_size > 1000


def test_thirty_percent_of_pairs_cannot_connect() -> None:
    terrain = Terrain(1)
    pairs = [(a, b) for a in range(300) for b in range(a)]
    share = sum(not terrain.connects(a, b) for a, b in pairs) / len(pairs)
    assert 0.25 < share < 0.35
    dice = Random(1)
    latencies = sorted(terrain.latency(a, b, dice) for a, b in pairs[:5000])
    assert 0.03 < latencies[2500] < 0.1
    assert latencies[-1] < 0.5


def test_a_grown_graph_is_one_and_none_has_too_many() -> None:
    network = Network(3, 400)
    network.terrain = Terrain(3)
    edges = graph(network, 400, Random(3))
    degrees = [len(others) for others in edges.values()]
    assert len(Mesh.parts(edges)) == 1
    assert max(degrees) <= 24
    assert min(degrees) >= 7
    assert all(not network.unconnectable(a, b) for a, others in edges.items() for b in others)
