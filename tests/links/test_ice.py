"""The mendings of aioice; each test fails on upstream's own method."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from link_ends import LOOPBACK, link_up, run_clean, settle, spoil, two_ends

from meshd.config import LinksConfig
from meshd.core.events import LinkClosed, LinkConnected, LinkPrepared
from meshd.links import consent, ice, names, path
from meshd.links.ice import IceConnection
from meshd.links.remote import dtls_role, may_turn_to_ipv6, usable
from meshd.links.sockets import LinkSockets
from meshd.wire.session_description import Candidate


def test_opening_does_not_sleep_out_the_check_interval(monkeypatch):
    sleep = asyncio.sleep
    monkeypatch.setattr(ice, "CHECK_INTERVAL", 3_600.0)
    monkeypatch.setattr(asyncio, "sleep", lambda delay: sleep(3_600.0 if delay == 0.02 else delay))  # upstream's own

    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)

    run_clean(main)


@pytest.fixture
def _quick_consent(monkeypatch):
    """Time passes a hundred times as fast for consent."""
    monkeypatch.setattr(consent, "INTERVAL", 0.05)
    monkeypatch.setattr(consent, "TIMEOUT", 0.3)
    monkeypatch.setattr(consent, "GIVE_UP_TIMEOUT", 0.9)
    monkeypatch.setattr(consent, "RETRY_INTERVAL", 0.005)


@pytest.mark.usefixtures("_quick_consent")
def test_round_trips_longer_than_a_retransmission_keep_consent(monkeypatch):
    answers_after = 0.03  # six times the first retransmission: 3 s on a real link

    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            prompt = ice.IceConnection.receive_check
            late = 0

            def delayed(self, *check) -> bool:
                nonlocal late
                late += 1
                asyncio.get_running_loop().call_later(answers_after, prompt, self, *check)
                return True

            monkeypatch.setattr(ice.IceConnection, "receive_check", delayed)
            until = trio.current_time() + 0.6  # twice what it takes without consent
            await settle(lambda: late > 4 and trio.current_time() > until)
            assert a.of(LinkClosed) == b.of(LinkClosed) == []

    run_clean(main)


@pytest.mark.usefixtures("_quick_consent")
def test_a_peer_with_other_software_answers_too(monkeypatch):
    """Whatever is not exactly what we send ourselves goes the way of all checks."""
    monkeypatch.setattr(ice.IceConnection, "receive_check", lambda self, *check: False)

    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            await trio.sleep(0.6)
            assert a.of(LinkClosed) == b.of(LinkClosed) == []

    run_clean(main)


@pytest.mark.usefixtures("_quick_consent")
def test_without_any_answer_consent_expires(monkeypatch):
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            monkeypatch.setattr(ice.IceConnection, "receive_check", lambda self, *check: True)
            assert (await a.wait(LinkClosed)).reason == "consent_expired"

    run_clean(main)


# -- paths ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def connection_of(config: LinksConfig, counters: Counter[str]) -> AsyncIterator[IceConnection]:
    """A connection on sockets of its own."""
    sockets = LinkSockets(config, counters)
    connection = IceConnection(controlling=True, ufrag="abcd", pwd="a" * 24, sockets=sockets, counters=counters)
    yield connection
    await connection.close()
    sockets.close()


def test_links_over_ipv6_loopback():
    if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6 on this machine")

    async def main() -> None:
        async with two_ends(replace(LOOPBACK, addresses=("::1",))) as (a, b):
            await link_up(a, b)
            assert (await a.wait(LinkConnected)).local_address.startswith("[::1]:")

    run_clean(main)


def test_an_address_that_is_gone_is_left_out():
    async def main() -> None:
        async with two_ends(replace(LOOPBACK, addresses=("127.0.0.1", "127.99.99.99"))) as (a, _):
            a.prepare(offerer=True)
            prepared = await a.wait(LinkPrepared)
            assert [c.host for c in prepared.description.candidates] == ["127.0.0.1", "127.99.99.99"]

    run_clean(main)


# -- the remote description -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offerer", "setup", "role"),
    [
        (True, "active", "server"),
        (True, "passive", "client"),
        (True, "actpass", None),
        (False, "actpass", "client"),
        (False, "passive", "client"),
        (False, "active", None),
    ],
)
def test_dtls_roles_follow_the_description(offerer, setup, role):
    assert dtls_role(offerer, setup) == role


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1"])
def test_a_description_cannot_make_us_knock_at_our_own_door(host):
    assert not usable(Candidate("host", host, 22), LinksConfig())


def test_names_that_nobody_resolves_do_not_hold_the_others_up(monkeypatch):
    async def main() -> None:
        gave_up = asyncio.Event()

        async def create():
            await gave_up.wait()
            raise OSError("no multicast here")

        monkeypatch.setattr(names, "create_mdns_protocol", create)
        async with two_ends() as (a, b):
            a.prepare(offerer=True)
            b.prepare(offerer=False)
            of_a, of_b = (await a.wait(LinkPrepared)).description, (await b.wait(LinkPrepared)).description
            name = Candidate("host", "5f0b1c9e-0000-4000-8000-000000000000.local", 5_000)
            a.connect(replace(of_b, candidates=(name, *of_b.candidates)))
            b.connect(of_a)
            await a.wait(LinkConnected)
            await b.wait(LinkConnected)
            assert not gave_up.is_set()
            gave_up.set()

    run_clean(main)


def test_names_alone_wait_for_the_resolver_and_fail_with_it(monkeypatch):
    async def main() -> None:
        async def create():
            await asyncio.sleep(0.03)
            raise OSError("no multicast here")

        monkeypatch.setattr(names, "create_mdns_protocol", create)
        async with two_ends(replace(LOOPBACK, connect_timeout=5.0)) as (a, b):
            a.prepare(offerer=True)
            b.prepare(offerer=False)
            await a.wait(LinkPrepared)
            name = Candidate("host", "5f0b1c9e-0000-4000-8000-000000000001.local", 5_000)
            a.connect(replace((await b.wait(LinkPrepared)).description, candidates=(name,)))
            assert (await a.wait(LinkClosed)).reason == "ice_failed"

    run_clean(main)


@pytest.mark.parametrize("offerer", [True, False])
def test_a_peer_that_names_no_address_is_learnt_from_its_checks(offerer):
    """A browser that hides its addresses: it knows ours, and checks them."""

    async def main() -> None:
        async with two_ends() as (one, other):
            one.prepare(offerer=offerer)
            other.prepare(offerer=not offerer)
            hidden = spoil((await other.wait(LinkPrepared)).description, candidates=())
            one.connect(hidden)
            other.connect((await one.wait(LinkPrepared)).description)
            assert (await one.wait(LinkConnected)).remote_kind == "prflx"
            await other.wait(LinkConnected)

    run_clean(main)


def test_a_name_that_nobody_answers_to_does_not_hold_up_the_end(monkeypatch):
    """Upstream resolves for a second, and may not be disturbed."""

    async def main() -> None:
        asked: list[str] = []

        class Silent:
            class Transport:
                closed = False

                def close(self) -> None:
                    self.closed = True

            transport = Transport()

            async def resolve(self, name: str) -> None:
                asked.append(name)
                await asyncio.Event().wait()

        silent = Silent()

        async def create():
            return silent

        monkeypatch.setattr(names, "create_mdns_protocol", create)
        async with two_ends() as (a, b):
            b.prepare(offerer=False)
            of_b = (await b.wait(LinkPrepared)).description
            name = Candidate("host", "5f0b1c9e-0000-4000-8000-000000000002.local", 5_000)
            a.prepare(offerer=True)
            await a.wait(LinkPrepared)
            a.connect(replace(of_b, candidates=(name,)))
            await settle(lambda: bool(asked))
            began = trio.current_time()
        assert trio.current_time() - began < 0.5
        assert silent.transport.closed

    run_clean(main)


def test_who_waits_for_the_peer_knocks_again_and_again(monkeypatch):
    """Or our router would forget that we let the peer in. Upstream sends nothing more when its checks have ended."""
    monkeypatch.setattr(ice, "KNOCK_INTERVAL", 0.05)
    monkeypatch.setattr(path.LinkPath.request, "__defaults__", (None, 0))  # a check is over after 0.5 s

    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            there = trio.socket.from_stdlib_socket(silent)
            async with two_ends() as (_, b):
                b.prepare(offerer=False)
                own = (await b.wait(LinkPrepared)).description
                candidate = Candidate("host", *silent.getsockname())
                b.connect(replace(own, ufrag="abcd", setup="actpass", candidates=(candidate,)), patience=60.0)
                transactions = set()
                while len(transactions) < 3:
                    transactions.add((await there.recv(2048))[8:20])
                b.close()

    run_clean(main)


# -- packet sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "may"),
    [
        (["192.0.2.1"], ["192.0.2.2"], False),
        (["192.0.2.1"], ["192.0.2.2", "2001:db8::2"], False),
        (["192.0.2.1", "2001:db8::1"], ["192.0.2.2"], False),
        (["192.0.2.1", "2001:db8::1"], ["192.0.2.2", "2001:db8::2"], True),
        (["192.0.2.1", "::1"], ["192.0.2.2", "2001:db8::2"], False),
    ],
)
def test_over_ipv4_packets_are_as_small_as_over_ipv6_if_the_link_may_turn_there(ours, theirs, may):
    """What is under way when the path changes cannot be cut again, and over IPv6 nobody makes fragments of it."""

    async def main() -> None:
        config = LinksConfig(allow_loopback=True)
        async with connection_of(config, Counter()) as connection:
            shared = connection._sockets.for_address("127.0.0.1")
            assert shared is not None
            paths = [path.LinkPath(connection, shared, address) for address in ours]
            assert may_turn_to_ipv6(paths, [(address, 5_000) for address in theirs]) is may

    run_clean(main)
