"""The controller under SCTP: associations in virtual time over a bottleneck."""

from __future__ import annotations

import pytest
from congestion_pairs import Bottleneck
from congestion_paths import Flow, Path, path, quantile
from tcp_cubic import TcpCubic

from meshd.transport.config import AssociationConfig


def test_one_in_a_hundred_lost_each_way_and_twenty_times_renos_rate() -> None:
    ours = Bottleneck(path(100, 0.05, 1, 0.01), [0.0]).run(2.5).pairs[0]
    reno = Bottleneck(path(100, 0.05, 1, 0.01), [0.0], config=AssociationConfig(congestion="reno")).run(8).pairs[0]
    assert ours.rate(1, 2.5) > 20 * reno.rate(2, 8)


def test_a_deep_buffer_is_used_but_not_filled() -> None:
    pair = Bottleneck(Path(625_000, 0.05, 1_200_000), [0.0]).run(12).pairs[0]
    # What is missing to 1 is headers: of SCTP, DTLS, UDP and IP, some 7 % of such packets.
    assert pair.rate(1, 12) > 0.9 * 625_000
    assert quantile(pair.queue_delays, 0.95) < 0.1


@pytest.mark.parametrize("buffer", [0.5, 4])
def test_two_associations_share(buffer: float) -> None:
    bottleneck = Bottleneck(path(5, 0.05, buffer), [0.0, 2.0]).run(20)
    assert min(pair.rate(4, 20) for pair in bottleneck.pairs) > bottleneck.path.rate / 6


def test_two_seconds_of_round_trip() -> None:
    pair = Bottleneck(path(1, 2, 2), [0.0]).run(80).pairs[0]
    assert pair.rate(40, 80) > 0.6 * 125_000


LINK_RATE = 2_500_000
HEADERS = 1.08
"""What is on the wire for each byte of a message."""


def beside_cubic(buffer: float, ours: float, cubic: float, seed: int = 1) -> Bottleneck:
    """20 Mbit/s and 40 ms with one of ours and one of CUBIC, and when they start."""
    flow = Flow("cubic", TcpCubic(cubic), start=cubic, size=1500)
    return Bottleneck(path(20, 0.04, buffer, jitter=0.0005), [ours], seed, flows=[flow])


def shares(bottleneck: Bottleneck, since: float, until: float) -> tuple[float, ...]:
    """Parts of what would be fair between two: the pairs', then the flows'."""
    rates = [HEADERS * pair.rate(since, until) for pair in bottleneck.pairs]
    rates += [bottleneck.rate_of(flow, since, until) for flow in bottleneck.flows]
    return tuple(2 * rate / LINK_RATE for rate in rates)


def test_who_joins_cubic_in_a_full_deep_queue_has_a_share_in_the_first_seconds() -> None:
    """Its first flight finds no room, which says nothing of what is fair."""
    bottleneck = beside_cubic(4, 7.453, 0.0, 8).run(27.453)
    assert min(shares(bottleneck, 7.453, 27.453)) > 0.4


def test_who_joins_cubic_in_a_full_short_queue_leaves_it_a_share() -> None:
    """The round trip of a queue was the shortest known, and its losses were taken for the path's own."""
    bottleneck = beside_cubic(1, 8.587, 0.0, 6).run(28)
    assert min(shares(bottleneck, 15, 28)) > 0.4


def test_who_was_alone_keeps_a_share_once_cubic_has_come() -> None:
    bottleneck = beside_cubic(4, 0.0, 7.269).run(27)
    assert min(shares(bottleneck, 14, 27)) > 0.6


@pytest.mark.parametrize(("ours", "cubic", "seed"), [(0.0, 7.269, 1), (7.453, 0.0, 8)])
def test_four_seconds_of_a_busy_machine_cost_no_share_in_those_after(ours: float, cubic: float, seed: int) -> None:
    bottleneck = beside_cubic(4, ours, cubic, seed)
    busy = ours + cubic + 2
    bottleneck.hold_up_often(bottleneck.pairs[0], busy, busy + 4, 7 * seed)
    bottleneck.run(busy + 20)
    assert min(shares(bottleneck, busy + 4, busy + 20)) > 1 / 3


def test_losses_of_a_full_queue_are_not_taken_for_the_paths_own_though_processes_were_held_up() -> None:
    bottleneck = Bottleneck(path(20, 0.04, 1, jitter=0.0005), [0.0, 8.912], 2)
    for number, pair in enumerate(bottleneck.pairs):
        bottleneck.hold_up_often(pair, 10.912, 14.912, 14 + number)
    bottleneck.run(30)
    assert min(shares(bottleneck, 15, 30)) > 0.6


def test_a_process_that_is_woken_late_again_and_again_keeps_a_share() -> None:
    bottleneck = beside_cubic(4, 8.912, 0.0, 2)
    bottleneck.hold_up_often(bottleneck.pairs[0], 9.912, 28, 14, longest=0.04)
    bottleneck.run(28)
    assert min(shares(bottleneck, 15, 28)) > 0.4
