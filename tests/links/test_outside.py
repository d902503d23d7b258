"""With ``ice = "none"`` and ``"mesh"`` nothing is sent to servers of others: a peer's relay gets no answer either."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from link_ends import LOOPBACK, run_clean, settle, spoil, two_ends
from test_hostile_outside import answers, check, known_description, place_of

from meshd.core.events import LinkConnected, LinkPrepared
from meshd.links import consent
from meshd.wire.session_description import Candidate, SessionDescription

COUNTER = "check_from_relay"


def server(address: str) -> socket.socket:
    """Where checks of the peer come from, passed on."""
    outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    outside.bind((address, 0))
    outside.setblocking(False)
    return outside


def candidate(kind: str, outside: socket.socket) -> Candidate:
    return Candidate(kind, *outside.getsockname())


def of_peer(*candidates: Candidate) -> SessionDescription:
    return SessionDescription("theirs", "p" * 24, b"\x01" * 32, "active", candidates)


@pytest.mark.parametrize(("ice", "is_answered"), [("none", False), ("mesh", False), ("stun", True)])
def test_a_check_by_the_peers_relay_is_not_answered(ice: str, is_answered: bool) -> None:
    """It has the link's password: only where it comes from tells. Before the description is here nobody can know."""

    async def main() -> None:
        async with two_ends(replace(LOOPBACK, ice=ice)) as (a, _):
            a.prepare(offerer=True)
            own = (await a.wait(LinkPrepared)).description
            ask = check(own, own.pwd, theirs="theirs")
            with server("127.0.0.2") as relay, server("127.0.0.2") as moved, server("127.0.0.3") as peer:
                for place in (relay, moved, peer):
                    place.sendto(ask, place_of(own))
                early = a.link()._connection._early
                await settle(lambda: len(early) == 3)
                assert answers(peer) == answers(relay) == []
                a.connect(of_peer(candidate("relay", relay), candidate("host", peer)))
                for place in (relay, moved, peer):
                    place.sendto(check(own, own.pwd, theirs="theirs"), place_of(own))
                heard: dict[socket.socket, list[bytes]] = {relay: [], moved: [], peer: []}

                def is_answering(*places: socket.socket) -> bool:
                    for place in places:
                        heard[place] += answers(place)
                    return all(heard[place] for place in places)

                await settle(lambda: is_answering(peer))
                if is_answered:
                    await settle(lambda: is_answering(relay, moved))
                    assert a.port.counters[COUNTER] == 0
                else:
                    await settle(lambda: a.port.counters[COUNTER] >= 4)
                    answered = len(heard[peer])
                    await settle(lambda: is_answering(peer) and len(heard[peer]) > answered)  # checked once more
                    is_answering(relay, moved)
                    assert heard[relay] == heard[moved] == []

    run_clean(main)


@pytest.mark.parametrize(("ice", "is_answered"), [("mesh", False), ("stun", True)])
def test_nor_when_the_link_is_up(ice: str, is_answered: bool) -> None:
    """The peer has found a way to its relay: the link does not follow it there."""

    async def main() -> None:
        async with two_ends(replace(LOOPBACK, ice=ice)) as (a, b):
            with server("127.0.0.2") as relay:
                a.prepare(offerer=True)
                b.prepare(offerer=False)
                of_a, of_b = [(await end.wait(LinkPrepared)).description for end in (a, b)]
                b.connect(of_a)
                a.connect(spoil(of_b, candidates=(*of_b.candidates, candidate("relay", relay))))
                await a.wait(LinkConnected)
                answers(relay)  # with "stun" it may have been checked
                ask = check(of_a, of_a.pwd, theirs=known_description(b).ufrag, role=consent.ICE_CONTROLLED)
                relay.sendto(ask, place_of(of_a))
                heard: list[bytes] = []

                def is_heard() -> bool:
                    heard.extend(answers(relay))
                    return any(each[8:20] == ask[8:20] for each in heard)

                if is_answered:
                    await settle(is_heard)
                else:
                    await settle(lambda: a.port.counters[COUNTER] == 1)
                    assert not is_heard()
                    assert heard == []

    run_clean(main)


def test_a_peer_beside_its_own_relay_is_answered() -> None:
    """Who runs a TURN server on the same machine is there, too, and not on the ports of the server alone."""

    async def main() -> None:
        async with two_ends() as (a, _):
            a.prepare(offerer=True)
            own = (await a.wait(LinkPrepared)).description
            with server("127.0.0.2") as relay, server("127.0.0.2") as peer:
                a.connect(of_peer(candidate("relay", relay), candidate("host", peer)))
                await settle(lambda: bool(a.link()._connection._check_list))
                for place in (relay, peer):
                    place.sendto(check(own, own.pwd, theirs="theirs"), place_of(own))
                await settle(lambda: bool(answers(peer)))
                await settle(lambda: a.port.counters[COUNTER] == 1)
                assert answers(relay) == []

    run_clean(main)
