"""Below SCTP: floods of STUN and DTLS, from strangers and from a peer that knows the link's password."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from contextlib import ExitStack

import pytest
import trio
from aioice import stun
from link_ends import LOOPBACK, End, link_up, run_clean, settle, spoil, two_ends

from meshd.core.events import LinkClosed, LinkConnected, LinkPrepared, MessageReceived
from meshd.links import consent, ice
from meshd.links import link as link_module
from meshd.links.early import MAX_EARLY_CHECKS
from meshd.links.ice import MAX_REFLEXIVE_PAIRS
from meshd.wire.session_description import Candidate, SessionDescription

Place = tuple[str, int]


def place_of(description: SessionDescription) -> Place:
    return description.candidates[0].host, description.candidates[0].port


def check(
    description: SessionDescription,
    pwd: str | None = None,
    *,
    theirs: str = "",
    role: int = consent.ICE_CONTROLLED,
    tie_breaker: int = 7,
) -> bytes:
    """A connectivity check for who has given that description; without its password unless it is given."""
    attributes = consent.attribute(consent.USERNAME, f"{description.ufrag}:{theirs or description.ufrag}".encode())
    attributes += consent.attribute(consent.PRIORITY, (1 << 24).to_bytes(4))
    attributes += consent.attribute(role, tie_breaker.to_bytes(8))
    key = (pwd or "not the password at all").encode()
    return consent.sealed(consent.REQUEST, os.urandom(12), attributes, key)


async def still_well(a: End, b: End, link: int) -> None:
    for n in range(3):
        a.send(b"ping", link=link)
        await b.wait(MessageReceived, link, n + 1)
        b.send(b"pong", link=link)
        await a.wait(MessageReceived, link, n + 1)


def stranger() -> socket.socket:
    outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    outside.bind(("127.0.0.1", 0))
    outside.setblocking(False)
    return outside


def answers(outside: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(outside.recv(65_536))
        except BlockingIOError:
            return found


@pytest.mark.parametrize("ufrag", ["right", "wrong"])
def test_a_flood_of_stun_without_the_password_is_neither_parsed_nor_answered(ufrag, monkeypatch):
    """Upstream takes a third of a millisecond to parse one, and tells everybody that a password is wrong."""
    parse, parsed = stun.parse_message, 0

    def counted(data: bytes) -> stun.Message:
        nonlocal parsed
        parsed += 1
        return parse(data)

    async def main() -> None:
        nonlocal parsed
        async with two_ends() as (a, b):
            await link_up(a, b)
            description = (await a.wait(LinkPrepared)).description
            monkeypatch.setattr(stun, "parse_message", counted)
            parsed = 0
            name = "stun_unauthentic" if ufrag == "right" else "stun_stray"
            with stranger() as outside:
                if ufrag == "wrong":
                    description = spoil(description, ufrag="nope")
                for n in range(3_000):
                    outside.sendto(check(description), place_of(known_description(a)))
                    if n % 100 == 0:
                        await settle(lambda n=n: a.port.counters[name] > n)
                await settle(lambda: a.port.counters[name] == 3_000)
                assert answers(outside) == []
            assert parsed == 0
            await still_well(a, b, 1)

    run_clean(main)


def known_description(end: End, link: int = 1) -> SessionDescription:
    return end.of(LinkPrepared, link)[0].description


@pytest.mark.parametrize("state", ["prepared", "connecting", "connected"])
def test_checks_from_a_thousand_sources_make_few_candidates(state, monkeypatch):
    """Each would have us send checks to where it seems to come from."""

    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b, 2)
            if state == "connected":
                await link_up(a, b)
            else:
                a.prepare(1, offerer=True)
            description = (await a.wait(LinkPrepared)).description
            if state == "connecting":
                silent = spoil(description, candidates=(Candidate("host", "127.0.0.1", 9),), setup="active")
                a.connect(silent)
                await settle(lambda: bool(a.link()._connection._check_list))
            connection = a.link()._connection
            theirs = known_description(b).ufrag if state == "connected" else description.ufrag
            with ExitStack() as stack:
                sources = [stack.enter_context(stranger()) for _ in range(1_000 if state == "prepared" else 300)]
                for _ in range(2):
                    for n, source in enumerate(sources):
                        source.sendto(check(description, description.pwd, theirs=theirs), place_of(description))
                        if n % 50 == 49:
                            await trio.sleep(0.002)
                await settle(lambda: a.port.counters["candidate_overflow"] > 0 or state == "connected")
                if state == "prepared":
                    assert not any(answers(source) for source in sources), "not before the peer's description is here"
                else:
                    await settle(lambda: any(answers(source) for source in sources))
            assert len(connection._early) <= MAX_EARLY_CHECKS
            assert len(connection._check_list) <= MAX_REFLEXIVE_PAIRS + 8
            assert len(connection._remote_candidates) <= MAX_REFLEXIVE_PAIRS + 8
            assert len(a.port.sockets.demux._claims) <= MAX_REFLEXIVE_PAIRS + 8
            await still_well(a, b, 2)

    run_clean(main)


def test_a_role_conflict_back_and_forth_does_not_keep_a_link_from_coming_up():
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b, 2)
            a.prepare(1, offerer=True)
            b.prepare(1, offerer=False)
            of_a, of_b = [(await end.wait(LinkPrepared)).description for end in (a, b)]
            roles = (consent.ICE_CONTROLLING, consent.ICE_CONTROLLED)

            def conflict(outside: socket.socket) -> None:
                for n in range(20):
                    number = 2**64 - 1 if n % 2 == 0 else 0
                    packet = check(of_a, of_a.pwd, theirs=of_b.ufrag, role=roles[n % 2], tie_breaker=number)
                    outside.sendto(packet, place_of(of_a))

            with stranger() as outside:
                conflict(outside)
                b.connect(of_a)
                a.connect(of_b)
                for _ in range(20):
                    conflict(outside)
                    await trio.sleep(0.002)
            await settle(lambda: bool(a.of(LinkConnected) or a.of(LinkClosed)))
            await still_well(a, b, 2)

    run_clean(main)


@pytest.mark.parametrize("when", ["before", "in the middle", "after"])
def test_a_foreign_client_hello_wins_no_race(when):
    """Who is first with a ClientHello must not be who is spoken to: only the peer's own addresses count."""

    async def main() -> None:
        async with two_ends() as (a, b):
            a.prepare(1, offerer=True)
            b.prepare(1, offerer=False)
            of_a, of_b = [(await end.wait(LinkPrepared)).description for end in (a, b)]
            hello = bytes.fromhex("16feff0000000000000000002e010000220000000000000022fefd") + bytes(36)
            with stranger() as outside:

                def race() -> None:
                    for _ in range(50):
                        outside.sendto(hello, place_of(of_a))
                        outside.sendto(hello, place_of(of_b))

                if when == "before":
                    race()
                b.connect(of_a)
                a.connect(of_b)
                if when == "in the middle":
                    for _ in range(10):
                        race()
                        await trio.lowlevel.checkpoint()
                await a.wait(LinkConnected)
                await b.wait(LinkConnected)
                if when == "after":
                    race()
                await settle(lambda: a.port.counters["datagram_foreign"] >= 50)
                assert answers(outside) == []
            await still_well(a, b, 1)

    run_clean(main)


def records_of(seed: int) -> list[bytes]:
    rng = random.Random(seed)
    made = []
    for _ in range(300):
        epoch, kind = rng.choice([0, 0, 1, 2, 65_535]), rng.choice([20, 21, 22, 23, 24, 63])
        body = rng.randbytes(rng.choice([0, 1, 12, 40, 300]))
        if kind == 22 and rng.random() < 0.7:
            length = rng.choice([0, len(body), 2**24 - 1])
            head = bytes([rng.choice([0, 1, 2, 3, 11, 20, 99])]) + length.to_bytes(3) + rng.randbytes(2)
            body = head + rng.choice([bytes(3), (2**24 - 1).to_bytes(3)]) + len(body).to_bytes(3) + body
        size = rng.choice([len(body), len(body), 65_535])
        made.append(struct.pack(">BHH", kind, 0xFEFD, epoch) + rng.randbytes(6) + size.to_bytes(2) + body)
    return made


@pytest.mark.parametrize("state", ["handshake", "connected"])
@pytest.mark.parametrize("seed", range(3))
def test_malformed_and_endless_dtls_of_the_peer_hurts_its_own_link_only(state, seed):
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b, 2)
            if state == "connected":
                await link_up(a, b)
            else:
                a.prepare(1, offerer=True)
                b.prepare(1, offerer=False)
                of_a, of_b = [(await end.wait(LinkPrepared)).description for end in (a, b)]
                b.connect(of_a)
                a.connect(of_b)
                await settle(lambda: 1 not in b.port._links or b.link()._connection.selected is not None)
            before = time.process_time()
            for datagram in records_of(seed) * 3:
                if 1 in b.port._links:
                    connection = b.link()._connection
                    connection.send_batch(datagram, len(datagram))
                await trio.lowlevel.checkpoint()
            assert time.process_time() - before < 5
            await still_well(a, b, 2)
            assert a.of(LinkClosed, 2) == []
            a.faults.clear()
            b.faults.clear()

    run_clean(main)


def test_a_description_with_sixteen_useless_candidates(monkeypatch):
    monkeypatch.setattr(link_module, "ICE_TIMEOUT", 0.6)

    async def main() -> None:
        async with two_ends(LOOPBACK) as (a, b):
            await link_up(a, b, 2)
            a.prepare(1, offerer=True)
            description = (await a.wait(LinkPrepared)).description
            with ExitStack() as stack:
                targets = [stack.enter_context(stranger()) for _ in range(16)]
                useless = tuple(Candidate("host", *target.getsockname()) for target in targets)
                a.connect(spoil(description, candidates=useless, setup="active"))
                assert (await a.wait(LinkClosed)).reason == "ice_failed"
                knocks = [len(answers(target)) for target in targets]
            assert sum(knocks) <= 16 * (1 + ice.CHECK_RETRANSMISSIONS if hasattr(ice, "CHECK_RETRANSMISSIONS") else 4)
            assert len(a.port.sockets.demux._claims) <= 2
            await still_well(a, b, 2)

    run_clean(main)
