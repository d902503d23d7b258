"""One side begins before the other: what it sends meanwhile is not lost time when the other follows."""

from __future__ import annotations

import os
import socket

import pytest
import trio
from aioice import stun
from link_ends import run_clean, settle, spoil, two_ends
from test_hostile_outside import answers, check, place_of, stranger

from meshd.core.events import LinkConnected, LinkPrepared
from meshd.links import consent
from meshd.wire.session_description import Candidate, SessionDescription


@pytest.fixture(autouse=True)
def _never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No check is repeated because of its timer."""
    monkeypatch.setattr(stun, "RETRY_RTO", 3_600.0)


@pytest.fixture
def nobody() -> Candidate:
    """An address from which nothing ever comes."""
    with socket.socket(type=socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        return Candidate("host", *deaf.getsockname())


@pytest.mark.parametrize("offerer_begins", [True, False])
def test_checks_that_come_too_early_are_answered_as_soon_as_the_description_is_here(
    offerer_begins: bool, nobody: Candidate
) -> None:
    """Who begins late knows no address of the other's here: only the answer to the early check leads to a link."""

    async def main() -> None:
        async with two_ends() as (a, b):
            a.prepare(offerer=True)
            b.prepare(offerer=False)
            of_a, of_b = [(await end.wait(LinkPrepared)).description for end in (a, b)]
            early, late = (a, b) if offerer_begins else (b, a)
            of_early, of_late = (of_a, of_b) if offerer_begins else (of_b, of_a)
            early.connect(of_late)
            kept = late.link()._connection._early
            await settle(lambda: len(kept) == 1)
            late.connect(spoil(of_early, candidates=(nobody,)))
            began = trio.current_time()
            for end in (a, b):
                await end.wait(LinkConnected)
            assert trio.current_time() - began < 2.0, "a few round trips"

    run_clean(main)


def test_a_check_that_was_lost_is_sent_again_when_the_peer_has_sent_one() -> None:
    """The peer's router has dropped ours, and lets the next one in, since the peer has sent something."""

    async def main() -> None:
        async with two_ends() as (a, _):
            a.prepare(offerer=False)
            own = (await a.wait(LinkPrepared)).description
            with stranger() as peer:
                of_peer = SessionDescription(
                    "theirs", "p" * 24, os.urandom(32), "actpass", (Candidate("host", *peer.getsockname()),)
                )
                a.connect(of_peer)
                first: list[bytes] = []
                await settle(lambda: bool(first.extend(answers(peer)) or first))
                request = next(each for each in first if each[:2] == b"\0\1")
                again: list[bytes] = []

                def is_asked_again() -> bool:
                    peer.sendto(check(own, own.pwd, theirs="theirs", role=consent.ICE_CONTROLLING), place_of(own))
                    again.extend(answers(peer))
                    return request in again

                await settle(is_asked_again)

    run_clean(main)
