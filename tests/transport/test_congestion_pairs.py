"""The controller under SCTP: associations in virtual time over a bottleneck."""

from __future__ import annotations

import pytest
from congestion_pairs import Bottleneck
from congestion_paths import Path, path, quantile

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
