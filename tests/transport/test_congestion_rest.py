"""After a minute with nothing to say a flow does as well as a new one: in what it gets, and in the queue it makes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from congestion_paths import MEGABIT, Flow, Path, Simulation, path, quantile
from tcp_cubic import TcpCubic

from meshd.transport.congestion.bbr import Bbr

BEGIN, END = 5.0, 65.0  # of the rest


def ours(start: float = 0.0) -> Flow:
    return Flow("ours", Bbr(start, 1200, seed=1), start=start)


def figures(simulation: Simulation, flow: Flow, start: float, seconds: float) -> tuple[float, float]:
    """The share of so many seconds from ``start`` on, and the queue that is seldom exceeded."""
    simulation.run(start - 0.01)
    seen = len(flow.queue_delays)
    simulation.run(start + seconds)
    return simulation.share(flow, start, start + seconds), quantile(flow.queue_delays[seen:], 0.95)


@pytest.mark.parametrize("interval", [math.inf, 5.0, 0.3], ids=["silence", "seldom", "keystrokes"])
@pytest.mark.parametrize(
    "way",
    [Path(5 * MEGABIT, 0.05, 1000 * 1200), path(20, 0.005, 4), path(20, 0.05, 1, 0.01), path(10, 0.2, 1)],
    ids=["deep", "short", "lossy", "long"],
)
def test_alone(way: Path, interval: float) -> None:
    fresh = ours()
    share, queue = figures(Simulation(replace(way), [fresh], series_interval=0.1), fresh, 0.0, 2.0)
    rested = ours()
    simulation = Simulation(replace(way), [rested], series_interval=0.1)
    simulation.rest(rested, BEGIN, END, interval)
    share_after, queue_after = figures(simulation, rested, END, 2.0)
    assert share_after > 0.97 * share
    assert queue_after < queue + 0.001


@pytest.mark.parametrize("buffer", [1, 4])
def test_beside_cubic_which_has_taken_everything_meanwhile(buffer: float) -> None:
    """What was left to us when we fell silent is not all that we may have."""

    def beside(flow: Flow) -> Simulation:
        return Simulation(path(5, 0.05, buffer), [flow, Flow("cubic", TcpCubic(0.0), size=1500)])

    fresh = ours(END)
    share, _ = figures(beside(fresh), fresh, END, 10.0)
    rested = ours()
    simulation = beside(rested)
    simulation.rest(rested, BEGIN, END)
    share_after, _ = figures(simulation, rested, END, 10.0)
    assert share_after > 0.9 * share
