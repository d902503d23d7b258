"""Checks that end: who has both descriptions knows soon that there is no way, who waits for the other does not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
import trio
from aioice import stun
from link_ends import LOOPBACK, link_up, run_clean, two_ends

from meshd.core.events import LinkClosed, LinkConnected, LinkPrepared
from meshd.links import checks, link
from meshd.links.checks import MAX_CHECKED_PAIRS
from meshd.wire.session_description import MAX_CANDIDATES, Candidate, SessionDescription


@pytest.fixture
def nobody() -> Iterator[Candidate]:
    """An address from which nothing ever comes."""
    with socket.socket(type=socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        yield Candidate("host", *deaf.getsockname())


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes a hundred times as fast for checks."""
    monkeypatch.setattr(stun, "RETRY_RTO", 0.005)


@pytest.mark.usefixtures("_quick")
def test_a_hopeless_pair_is_known_after_four_tries(nobody: Candidate) -> None:
    async def main() -> None:
        async with two_ends() as (a, b):
            a.prepare(offerer=True)
            b.prepare(offerer=False)
            of_a, of_b = [(await end.wait(LinkPrepared)).description for end in (a, b)]
            b.connect(replace(of_a, candidates=(nobody,)))
            began = trio.current_time()
            a.connect(replace(of_b, candidates=(nobody,)))
            assert (await a.wait(LinkClosed)).reason == "ice_failed"
            assert trio.current_time() - began < 1.0, "7.5 s; upstream takes 63, here 0.63"
            assert b.of(LinkClosed) == [], "its answer may still be on the way"

    run_clean(main)


def test_nothing_that_the_peer_does_makes_it_longer(nobody: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "ICE_TIMEOUT", 0.1)

    async def main() -> None:
        async with two_ends() as (a, b):
            a.prepare(offerer=True)
            b.prepare(offerer=False)
            await a.wait(LinkPrepared)
            a.connect(replace((await b.wait(LinkPrepared)).description, candidates=(nobody,)))
            assert (await a.wait(LinkClosed)).reason == "ice_failed"

    run_clean(main)


@pytest.mark.usefixtures("_quick")
def test_who_answered_connects_even_when_the_first_check_comes_late(nobody: Candidate) -> None:
    async def main() -> None:
        async with two_ends() as (a, b):
            a.prepare(offerer=True)
            b.prepare(offerer=False)
            of_a, of_b = [(await end.wait(LinkPrepared)).description for end in (a, b)]
            b.connect(replace(of_a, candidates=(nobody,)))
            await trio.sleep(0.3)  # all its checks have failed by then
            a.connect(of_b)
            await a.wait(LinkConnected)
            await b.wait(LinkConnected)

    run_clean(main)


def test_the_pairs_are_bounded_and_the_best_ones_stay() -> None:
    addresses = tuple(f"127.0.0.{number}" for number in range(1, MAX_CANDIDATES + 1))
    config = replace(LOOPBACK, addresses=addresses)

    async def main() -> None:
        async with two_ends(config) as (a, b):
            a.prepare(offerer=True)
            b.prepare(offerer=False)
            of_a, of_b = [(await end.wait(LinkPrepared)).description for end in (a, b)]
            assert len(of_a.candidates) * len(of_b.candidates) > MAX_CHECKED_PAIRS
            b.connect(of_a)
            a.connect(of_b)
            await a.wait(LinkConnected)
            assert len(a.link()._connection._check_list) <= MAX_CHECKED_PAIRS

    run_clean(main)


def test_relayed_pairs_wait_for_direct_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a relay candidate of the peer names may answer first, and is not taken."""
    monkeypatch.setattr(checks, "RELAY_DELAY", 3_600.0)

    async def main() -> None:
        async with two_ends(replace(LOOPBACK, ice="stun")) as (a, b):
            a.prepare(offerer=True)
            b.prepare(offerer=False)
            of_a, of_b = [(await end.wait(LinkPrepared)).description for end in (a, b)]
            relayed: SessionDescription = replace(
                of_b, candidates=(*of_b.candidates, Candidate("relay", "127.0.0.1", 9))
            )
            b.connect(of_a)
            a.connect(relayed)
            await a.wait(LinkConnected)
            assert (await a.wait(LinkConnected)).remote_kind == "host"
            await link_up(a, b, 2)

    run_clean(main)
