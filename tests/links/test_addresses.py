"""The address book: local addresses, what servers see of them, mappings; and the kernel's news of addresses."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st
from link_ends import End, open_end, run_clean, settle

from meshd.config import LinksConfig
from meshd.core.commands import UseStunServers
from meshd.core.events import AddressesChanged
from meshd.links import addresses, netlink, reflections
from meshd.links.addresses import AddressBook, host_addresses
from meshd.links.guest import from_asyncio
from meshd.links.netlink import AddressChange, address_changes
from meshd.links.reflections import DOUBT_TIME
from meshd.links.sockets import LinkSockets
from meshd.wire import stun as our_stun

FOUND = ["192.0.2.1", "2001:db8::1", "127.0.0.1", "127.0.0.2", "::1"]
LOOPBACK = LinksConfig(allow_loopback=True, addresses=("127.0.0.1",), gather_timeout=60.0)
SEEN, SEEN_TOO = ("198.51.100.7", 4_242), ("198.51.100.7", 31_337)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LinksConfig(), ["192.0.2.1", "2001:db8::1"]),
        (LinksConfig(allow_loopback=True), ["192.0.2.1", "2001:db8::1", "127.0.0.1"]),
        (LinksConfig(addresses=("2001:db8::1",)), ["2001:db8::1"]),
        (LinksConfig(addresses=("127.0.0.1",)), []),
        (LinksConfig(allow_loopback=True, addresses=("127.0.0.1",)), ["127.0.0.1"]),
        (LinksConfig(allow_loopback=True, addresses=("::1",)), ["::1"]),
        (LinksConfig(addresses=("198.51.100.1",)), []),
    ],
)
def test_which_addresses_are_used(config: LinksConfig, expected: list[str]) -> None:
    assert host_addresses(config, FOUND) == expected


# -- asking -----------------------------------------------------------------------------------------------------------


class Server(asyncio.DatagramProtocol):
    """A STUN server that sees everybody at ``seen``; None: it is silent."""

    def __init__(self, seen: tuple[str, int] | None) -> None:
        self.seen = seen
        self.asked = 0
        self.deaf_to = ""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    @property
    def name(self) -> str:
        host, port = self.transport.get_extra_info("sockname")
        return f"{host}:{port}"

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        if self.seen is not None and addr[0] != self.deaf_to:
            request = stun.parse_message(data)
            answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
            answer.attributes["XOR-MAPPED-ADDRESS"] = self.seen
            self.transport.sendto(bytes(answer), addr)


@dataclass
class Desk:
    """An address book and what it said."""

    book: AddressBook
    told: list[AddressesChanged]
    counters: Counter[str]
    sockets: LinkSockets

    def candidates(self) -> list[tuple[str, tuple[str, int]]]:
        return [(c.kind, (c.host, c.port)) for c in self.book.snapshot()]

    async def news(self, count: int) -> AddressesChanged:
        while len(self.told) < count:  # noqa: ASYNC110 - as in settle()
            await asyncio.sleep(0.005)
        return self.told[count - 1]


@asynccontextmanager
async def desk(config: LinksConfig, *seen: tuple[str, int] | None) -> AsyncIterator[tuple[Desk, list[Server]]]:
    """A book that may ask a server for each of ``seen``."""
    loop = asyncio.get_running_loop()
    servers = []
    for each in seen:
        _, server = await loop.create_datagram_endpoint(lambda each=each: Server(each), local_addr=("127.0.0.1", 0))
        servers.append(server)
    counters: Counter[str] = Counter()
    sockets = LinkSockets(config, counters)
    told: list[AddressesChanged] = []
    book = AddressBook(config, sockets, told.append, counters, lambda error: pytest.fail(str(error)))
    book.use_servers(server.name for server in servers)
    try:
        yield Desk(book, told, counters, sockets), servers
    finally:
        await book.close()
        sockets.close()
        for server in servers:
            server.transport.close()


def play(work: Callable[[], object]) -> None:
    async def main() -> None:
        with trio.fail_after(10):
            await from_asyncio(work())

    run_clean(main)


def test_servers_are_raced_and_a_silent_one_costs_nothing() -> None:
    async def work() -> None:
        async with desk(LOOPBACK, None, SEEN) as (one, servers):
            await one.book.settled()
            assert one.candidates()[1:] == [("srflx", SEEN)]
            assert [server.asked for server in servers] == [1, 1]

    play(work)


def test_an_answer_serves_all_links_for_a_while() -> None:
    async def work() -> None:
        async with desk(LOOPBACK, SEEN) as (one, servers):
            for _ in range(5):
                await one.book.settled()
                assert one.candidates()[1:] == [("srflx", SEEN)]
            assert servers[0].asked == 1

    play(work)


def test_after_a_path_is_gone_everybody_is_asked_again() -> None:
    """The router that has forgotten it shows another address now."""

    async def work() -> None:
        async with desk(LOOPBACK, SEEN) as (one, servers):
            await one.book.settled()
            one.book.doubt()
            await one.book.settled()
            assert servers[0].asked == 1, "only just now"
            asked = one.book._reflections
            asked._valid_since -= 2 * DOUBT_TIME  # time passes
            for reflection in asked._reflections.values():
                reflection.answered_at -= 2 * DOUBT_TIME
            await one.book.settled()
            assert servers[0].asked == 1, "nothing has happened since"
            one.book.doubt()
            await one.book.settled()
            assert servers[0].asked == 2

    play(work)


def test_an_address_from_which_nobody_answers_costs_nothing() -> None:
    """As a container bridge's, whose packets find no way back."""
    config = replace(LOOPBACK, addresses=("127.0.0.1", "127.0.0.2"))

    async def work() -> None:
        async with desk(config, SEEN) as (one, servers):
            servers[0].deaf_to = "127.0.0.2"
            for _ in range(2):
                async with asyncio.timeout(2):
                    await one.book.settled()
                assert ("srflx", SEEN) in one.candidates()

    play(work)


def test_servers_that_are_all_silent_are_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stun, "RETRY_RTO", 0.001)

    async def work() -> None:
        async with desk(LOOPBACK, None) as (one, servers):
            await one.book.settled()
            assert one.counters["stun_server_silent"] == 1
            await one.book.settled()  # asks again, and does not wait
            assert [kind for kind, _ in one.candidates()] == ["host"]
            servers[0].seen = SEEN
            while len(one.candidates()) < 2:
                await one.book.settled()
                await asyncio.sleep(0.005)
            assert one.counters["stun_server_silent"] == 1

    play(work)


def test_a_router_that_shows_another_port_to_each_is_told_by_two_candidates() -> None:
    async def work() -> None:
        async with desk(LOOPBACK, SEEN, SEEN_TOO) as (one, _):
            while len(one.candidates()) < 3:
                await one.book.settled()
            assert {address for _, address in one.candidates()[1:]} == {SEEN, SEEN_TOO}

    play(work)


@pytest.mark.parametrize(("ice", "asked"), [("none", 0), ("mesh", 1), ("stun", 1)])
def test_who_is_asked_is_up_to_the_mode(ice: str, asked: int) -> None:
    async def work() -> None:
        async with desk(replace(LOOPBACK, ice=ice), SEEN) as (one, servers):
            await one.book.settled()
            assert servers[0].asked == asked
            assert len(one.candidates()) == 1 + asked

    play(work)


def test_while_an_offer_is_out_its_mapping_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "KEEPALIVE_INTERVAL", 0.01)

    async def work() -> None:
        async with desk(LOOPBACK, SEEN) as (one, servers):
            await one.book.settled()
            one.book.hold()
            while servers[0].asked < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            one.book.release()
            await asyncio.sleep(0.03)
            asked = servers[0].asked
            await asyncio.sleep(0.05)
            assert servers[0].asked == asked

    play(work)


def test_another_answer_than_before_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflections, "FRESH_TIME", 0.0)

    async def work() -> None:
        async with desk(LOOPBACK, SEEN) as (one, servers):
            one.book.begin()
            await one.book.settled()
            first = await one.news(1)
            assert first.addresses == ("127.0.0.1",)
            assert first.reflexive == ("198.51.100.7:4242",)
            servers[0].seen = SEEN_TOO
            await one.book.settled()
            assert (await one.news(2)).reflexive == ("198.51.100.7:31337",)
            one.book.use_servers(())
            one.book.set_mappings(())
            assert (await one.news(3)).reflexive == ()

    play(work)


@dataclass(frozen=True)
class Mapping:
    internal: tuple[str, int]
    external: tuple[str, int]


def test_a_port_mapping_is_offered_and_answers_stun() -> None:
    async def work() -> None:
        async with desk(LOOPBACK) as (one, _):
            one.book.begin()
            port = one.sockets.all[0].port
            one.book.set_mappings([Mapping(("127.0.0.1", port), ("45.0.0.7", 4_000))])
            assert one.candidates()[1:] == [("srflx", ("45.0.0.7", 4_000))]
            told = await one.news(1)
            assert told.reflexive == told.answering == ("45.0.0.7:4000",)

    play(work)


def test_what_a_router_forwards_by_hand_is_offered_like_a_mapping() -> None:
    config = replace(LOOPBACK, announce=("45.0.0.7:7000", "[2a0e:7::1]:7000"))

    async def work() -> None:
        async with desk(config, ("45.0.0.7", 31_337)) as (one, _):
            one.book.begin()
            await one.book.settled()
            assert one.candidates()[1:] == [("srflx", ("45.0.0.7", 7_000))], "no IPv6 here to forward to"
            assert (await one.news(1)).answering == ("45.0.0.7:7000", "[2a0e:7::1]:7000")
            one.book.set_mappings([Mapping(("127.0.0.1", 1), ("45.0.0.7", 4_000))])
            one.book.set_mappings(())
            assert one.candidates()[1:] == [("srflx", ("45.0.0.7", 7_000))]

    play(work)


def test_beside_a_port_mapping_reflections_of_the_same_router_are_left_out() -> None:
    async def work() -> None:
        async with desk(LOOPBACK, SEEN) as (one, _):
            await one.book.settled()
            one.book.set_mappings([Mapping(("127.0.0.1", 1), ("198.51.100.7", 4_000))])
            assert one.candidates()[1:] == [("srflx", ("198.51.100.7", 4_000))]
            one.book.set_mappings([Mapping(("127.0.0.1", 1), ("45.0.0.7", 4_000))])
            assert one.candidates()[1:] == [("srflx", ("45.0.0.7", 4_000)), ("srflx", SEEN)], "another router"

    play(work)


def test_who_shows_relays_alone_names_no_address_of_its_own(tmp_path: Path) -> None:
    credentials = tmp_path / "turn"
    credentials.touch(mode=0o600)
    credentials.write_text("user\npassword\n")
    config = replace(LOOPBACK, ice="relay_only", turn_servers=("turn:127.0.0.1:9",), turn_credentials=str(credentials))

    async def work() -> None:
        async with desk(config) as (one, _):
            one.book.begin()
            one.book.set_mappings([Mapping(("127.0.0.1", 1), ("45.0.0.7", 4_000))])
            assert (await one.news(1)).answering == ()
            assert one.candidates() == []

    play(work)


# -- answering --------------------------------------------------------------------------------------------------------


def test_links_answer_stun_on_their_own_port() -> None:
    async def main() -> None:
        end = End()
        with trio.fail_after(10), trio.socket.socket(type=socket.SOCK_DGRAM) as asker:
            async with open_end(end, LOOPBACK) as port:
                port.submit(UseStunServers(()))
                await asker.bind(("127.0.0.1", 0))
                request = our_stun.encode(our_stun.BindingRequest(bytes(12)))
                await asker.sendto(request, ("127.0.0.1", port.sockets.all[0].port))
                answer = our_stun.decode(await asker.recv(2_000))
                assert answer == our_stun.BindingSuccess(bytes(12), asker.getsockname())
                assert port.counters["stun_answered"] == 1
                await settle(lambda: bool(end.events))
                assert end.events == [AddressesChanged(("127.0.0.1",))]

    run_clean(main)


# -- netlink ----------------------------------------------------------------------------------------------------------


def address_message(kind: int, family: int, address: bytes, interface: int = 2, attribute: int = 2) -> bytes:
    attributes = struct.pack("=HH", 4 + len(address), attribute) + address
    body = struct.pack("=BBBBI", family, 24, 0, 0, interface) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def test_addresses_that_come_and_go_are_read() -> None:
    v4, v6 = socket.inet_aton("192.0.2.7"), socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    data = (
        address_message(netlink.RTM_NEWADDR, socket.AF_INET, v4)
        + address_message(16, socket.AF_INET, v4)  # RTM_NEWLINK: of no interest
        + address_message(netlink.RTM_DELADDR, socket.AF_INET6, v6, 3, netlink.IFA_ADDRESS)
    )
    assert list(address_changes(data)) == [
        AddressChange("192.0.2.7", 2, present=True),
        AddressChange("2001:db8::7", 3, present=False),
    ]


@given(
    st.binary(max_size=200)
    | st.binary(max_size=60).map(lambda body: struct.pack("=IHHII", 16 + len(body), 20, 0, 1, 0) + body)
)
def test_any_bytes_are_some_changes(data: bytes) -> None:
    for change in address_changes(data):
        socket.inet_pton(socket.AF_INET6 if ":" in change.address else socket.AF_INET, change.address)
