"""What the controller is for, path by path, in a simulator of one bottleneck. ``bench.congestion`` has more of it."""

from __future__ import annotations

import math
from functools import partial

import pytest
from congestion_paths import MEGABIT, Flow, Path, Simulation, path, quantile
from tcp_cubic import TcpCubic

from meshd.transport.congestion.bbr import Bbr
from meshd.transport.congestion.reno import Reno


def ours(name: str = "ours", start: float = 0.0, seed: int = 1, **more: float) -> Flow:
    size = int(more.pop("size", 1200))
    return Flow(name, Bbr(start, size, seed=seed), start=start, size=size, **more)


def cubic(name: str = "cubic", start: float = 0.0, **more: float) -> Flow:
    return Flow(name, TcpCubic(start), start=start, size=1500, **more)


def alone(path: Path, seconds: float, seed: int = 1, **more: float) -> tuple[Simulation, Flow]:
    flow = ours(seed=seed, **more)
    return Simulation(path, [flow], seed, series_interval=0.1).run(seconds), flow


@pytest.mark.parametrize(("loss", "least"), [(0.01, 80), (0.03, 70), (0.05, 65)])
def test_random_loss_costs_what_is_lost_and_little_more(loss: float, least: float) -> None:
    simulation, flow = alone(path(100, 0.05, 1, loss), 3)
    assert simulation.rate_of(flow, 1) / MEGABIT > least


@pytest.mark.parametrize(("jitter", "heaps"), [(0.01, 0.0), (0.0, 0.02), (0.005, 0.01)])
def test_random_loss_is_told_from_congestion_though_round_trips_jitter(jitter: float, heaps: float) -> None:
    simulation, flow = alone(path(30, 0.05, 1, 0.03, jitter=jitter, ack_interval=heaps), 6)
    assert simulation.share(flow, 2) > 0.7


@pytest.mark.parametrize("heaps", [0.01, 0.02])
def test_a_short_path_between_busy_hosts_is_used(heaps: float) -> None:
    """A window without room for what a scheduler holds back lowers the bandwidth, which lowers the window."""
    simulation, flow = alone(path(400, 0.0005, 2_000, ack_interval=heaps), 1)
    assert simulation.share(flow, 0.5) > 0.8


@pytest.mark.parametrize("size", [1200, 16_384])
def test_on_a_short_path_little_stands_before_a_peer_that_is_held_up(size: int) -> None:
    """A small message stands behind it, in the peer's socket, however soon the sender would let it go."""
    flow = ours(size=size, app_rate=250e6)
    simulation = Simulation(path(2_400, 0.0002, 2_000), [flow], series_interval=0.01).run(0.1)
    assert simulation.rate_of(flow, 0.05) > 225e6
    assert flow.controller.window < 0.002 * 300e6


def test_twenty_times_what_reno_and_cubic_reach() -> None:
    simulation, flow = alone(path(100, 0.05, 1, 0.01), 3)
    others = [Flow("reno", Reno(0.0, 1200)), cubic()]
    for other in others:
        yardstick = Simulation(path(100, 0.05, 1, 0.01), [other]).run(10)
        assert simulation.rate_of(flow, 1) > 20 * yardstick.rate_of(other, 3)


@pytest.mark.parametrize(("megabits", "round_trip"), [(50, 0.02), (50, 0.05)])
def test_without_loss_the_path_is_full_at_once(megabits: float, round_trip: float) -> None:
    simulation, flow = alone(path(megabits, round_trip, 1), 3)
    assert simulation.share(flow, 0, 1) > 0.65
    assert simulation.share(flow, 1) > 0.94


@pytest.mark.parametrize("round_trip", [0.02, 0.05, 0.1])
def test_a_deep_buffer_is_not_filled(round_trip: float) -> None:
    simulation, flow = alone(Path(5 * MEGABIT, round_trip, 1000 * 1200), 25)
    assert simulation.share(flow, 1) > 0.9
    assert sum(flow.queue_delays) / len(flow.queue_delays) < 0.03
    assert quantile(flow.queue_delays, 0.97) < 0.1


@pytest.mark.parametrize("buffer", [0.5, 1, 4])
def test_two_of_ours_share(buffer: float) -> None:
    flows = [ours("first"), ours("second", 3, seed=2)]
    simulation = Simulation(path(5, 0.05, buffer), flows).run(30)
    assert min(simulation.share(flow, 5) for flow in flows) > 1 / 6
    assert sum(simulation.share(flow, 5) for flow in flows) > 0.93


@pytest.mark.parametrize("buffer", [0.5, 1, 4])
@pytest.mark.parametrize("first", ["ours", "cubic"])
def test_beside_cubic_neither_starves(buffer: float, first: str) -> None:
    flows = [ours(), cubic("other", 5)] if first == "ours" else [cubic(), ours("other", 5)]
    simulation = Simulation(path(5, 0.05, buffer), flows).run(60)
    assert min(simulation.share(flow, 5) for flow in flows) > 1 / 6
    assert sum(simulation.share(flow, 5) for flow in flows) > 0.93


def test_a_token_bucket_is_nobodys_queue() -> None:
    """Its first packets show a bandwidth and a round trip that are never seen again: four packets take 38 ms there."""
    flow = ours()
    simulation = Simulation(Path(1 * MEGABIT, 0.0005, 256_000, burst=10_000), [flow]).run(3)
    seen = len(flow.queue_delays)
    simulation.run(15)
    assert quantile(flow.queue_delays[:seen], 1.0) < 1.0
    assert quantile(flow.queue_delays[seen:], 0.95) < 0.1
    assert simulation.rate_of(flow, 3) / MEGABIT > 0.95


def test_two_of_ours_do_not_take_each_other_for_cubic() -> None:
    flows = [ours("first"), ours("second", 3, seed=2)]
    simulation = Simulation(Path(5 * MEGABIT, 0.05, 1000 * 1200), flows).run(40)
    assert all(simulation.share(flow, 5) > 0.3 for flow in flows)
    assert all(quantile(flow.queue_delays, 0.9) < 0.15 for flow in flows)


def test_once_cubic_has_left_the_queue_goes_too() -> None:
    flows = [ours(), cubic("cubic", 3, stop=20)]
    simulation = Simulation(Path(5 * MEGABIT, 0.05, 400 * 1500), flows).run(45)
    assert simulation.share(flows[0], 35) > 0.93
    assert quantile(flows[0].queue_delays[-2000:], 0.95) < 0.05
    assert not flows[0].controller.is_competing  # type: ignore[attr-defined]


def change(simulation: Simulation, *, rate: float | None = None, round_trip: float | None = None) -> None:
    simulation.path.rate = simulation.path.rate if rate is None else rate
    simulation.path.round_trip = simulation.path.round_trip if round_trip is None else round_trip


def test_a_tenth_of_the_bandwidth_is_followed_at_once_and_ten_times_of_it_in_seconds() -> None:
    flow = ours()
    simulation = Simulation(path(50, 0.05, 1), [flow], series_interval=0.1)
    simulation.at(4, partial(change, rate=5 * MEGABIT))
    simulation.run(4)
    before = len(flow.queue_delays)
    simulation.run(8)
    # What was in flight is half a second of the new rate, and a round trip later leaves what that has taught.
    late = flow.queue_delays[before + 1_100 :]
    assert quantile(late, 0.95) < 0.05
    assert simulation.rate_of(flow, 5, 8) / MEGABIT > 4.3
    simulation.at(8.001, partial(change, rate=50 * MEGABIT))
    simulation.run(13)
    assert simulation.rate_of(flow, 12, 13) / MEGABIT > 40


def test_a_longer_way_is_believed_after_some_seconds() -> None:
    flow = ours()
    simulation = Simulation(path(20, 0.02, 5), [flow], series_interval=0.1)
    simulation.at(3, partial(change, round_trip=0.1))
    simulation.run(25)
    assert simulation.share(flow, 20) > 0.85


def test_a_sender_with_little_to_say_keeps_what_it_knows() -> None:
    flow = ours()
    simulation = Simulation(path(50, 0.05, 2), [flow], series_interval=0.1).run(2)
    flow.app_rate, flow.app_updated = MEGABIT, simulation.now
    simulation.run(15)
    assert flow.controller.bandwidth / MEGABIT > 40  # type: ignore[attr-defined]
    flow.app_rate = math.inf
    simulation.run(17)
    assert simulation.share(flow, 15.5) > 0.9


def test_after_silence_it_goes_on_where_it_was() -> None:
    flow = ours(stop=2.0)
    simulation = Simulation(path(50, 0.05, 2), [flow], series_interval=0.1).run(60)
    flow.stop = math.inf
    simulation.run(62)
    assert simulation.share(flow, 60.5) > 0.9


@pytest.mark.parametrize(("jitter", "heaps"), [(0.01, 0), (0.02, 0), (0, 0.01), (0.005, 0.02)])
def test_acknowledgements_may_come_late_and_in_heaps(jitter: float, heaps: float) -> None:
    simulation, flow = alone(path(20, 0.02, 10, jitter=jitter, ack_interval=heaps), 10)
    assert simulation.share(flow, 1) > 0.9
    assert quantile(flow.queue_delays, 0.95) < 0.1


@pytest.mark.parametrize(
    ("megabits", "round_trip", "seconds"), [(50, 0.0005, 2), (50, 0.002, 2), (5, 0.3, 20), (5, 0.6, 30), (2, 2, 100)]
)
def test_short_and_long_ways(megabits: float, round_trip: float, seconds: float) -> None:
    simulation, flow = alone(path(megabits, round_trip, 4), seconds)
    # On the shortest the simulated timer of a millisecond and a queue of a few packets cost something.
    assert simulation.share(flow, seconds / 4) > 0.8


@pytest.mark.parametrize("size", [300, 1191, 16384])
def test_packets_of_any_size(size: int) -> None:
    simulation, flow = alone(path(20, 0.05, 4), 3, size=size)
    assert simulation.share(flow, 1) > 0.93


def test_a_fifth_lost_at_random_is_still_borne() -> None:
    simulation, flow = alone(path(20, 0.05, 2, 0.2), 15)
    assert simulation.share(flow, 5) > 0.3


def test_the_same_seed_gives_the_same_run() -> None:
    runs = [alone(path(20, 0.02, 1, 0.02), 3, seed=5)[1] for _ in range(2)]
    assert runs[0].delivered_series == runs[1].delivered_series
    other = alone(path(20, 0.02, 1, 0.02), 3, seed=6)[1]
    assert other.delivered_series != runs[0].delivered_series


def test_a_process_that_was_held_up_has_not_seen_a_slower_path() -> None:
    flow = ours()
    simulation = Simulation(path(50, 0.02, 4), [flow], series_interval=0.1).run(1)
    for second in (1, 2, 3):
        simulation.hold_up(flow, second + 0.3)
        simulation.run(second + 1)
        assert simulation.rate_of(flow, second + 0.5, second + 1) / MEGABIT > 40
