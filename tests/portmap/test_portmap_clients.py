"""The three protocols over real sockets, against routers that do odd things."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from routers import GATEWAY, LOOPBACK, OUTSIDE, Upnp, pcp_answer, search_answer, udp_server

from meshd.portmap.igd import SERVICE_TYPES
from meshd.portmap.igd_client import IgdClient
from meshd.portmap.nat_pmp_client import NatPmpClient
from meshd.portmap.pcp_client import PcpClient
from meshd.portmap.port_mapper import PortMapper, Surroundings
from meshd.portmap.values import Found, Gateway, Grant, PortMapping, Refusal
from meshd.portmap.words import describe

SECRET = bytes(32)
NAT_PMP_ADDRESS = bytes.fromhex("0080 0000 00000064 08080807")


# -- PCP and NAT-PMP --------------------------------------------------------------------------------------------------


async def test_pcp_asks_again_when_a_datagram_is_lost_and_keeps_its_nonce() -> None:
    seen: list[bytes] = []

    def lossy(data: bytes) -> bytes | None:
        seen.append(data)
        return pcp_answer(data) if len(seen) % 2 == 0 else None

    async with udp_server(lossy) as port:
        client = PcpClient(GATEWAY, SECRET, port)
        assert await client.probe() == Found(epoch=100)
        granted = await client.request(4_242, None, 600)
        assert granted == Grant(4_242, (OUTSIDE, 4_242), 600.0, 100)
        again = await PcpClient(GATEWAY, SECRET, port).request(4_242, granted.external, 600)
        assert again == granted
        other = await PcpClient(GATEWAY, b"other".ljust(32), port).request(4_242, None, 600)
        assert isinstance(other, Grant)
        await client.release(granted)
        with trio.fail_after(5):
            while seen[-1][4:8] != bytes(4):
                await trio.testing.wait_all_tasks_blocked(0.01)
    nonces = [data[24:36] for data in seen if data[1] == 1]
    assert len(set(nonces[:4])) == 1, "a daemon that was started again is the owner still"
    assert nonces[4] != nonces[0]


async def test_pcp_answers_that_are_not_ours_do_not_count() -> None:
    def foreign(data: bytes) -> bytes:
        answer = bytearray(pcp_answer(data))
        if data[1] == 1:
            answer[24] ^= 1  # the nonce
        return bytes(answer)

    async with udp_server(foreign) as port:
        assert await PcpClient(GATEWAY, SECRET, port).request(4_242, None, 600) == Refusal("silent")
    async with udp_server(lambda data: pcp_answer(data, result=2)) as port:
        refused = await PcpClient(GATEWAY, SECRET, port).request(4_242, None, 600)
        assert refused == Refusal("not_authorized", retry_after=600.0)


async def test_nobody_there_is_known_at_once() -> None:
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind((LOOPBACK, 0))
        free = socket.getsockname()[1]
    began = trio.current_time()
    assert await PcpClient(GATEWAY, SECRET, free).probe() == Refusal("silent")
    assert await NatPmpClient(GATEWAY, free).probe() == Refusal("silent")
    assert trio.current_time() - began < 1
    gone = Gateway("192.0.2.1", "192.0.2.2")
    assert await PcpClient(gone, SECRET, free).probe() == Refusal("silent"), "an address that is not ours any more"


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ({0: NAT_PMP_ADDRESS, 1: bytes.fromhex("0081 0000 00000064 1092 1093 00000258")}, (OUTSIDE, 4_243)),
        ({0: NAT_PMP_ADDRESS, 1: bytes.fromhex("0081 0002 00000064")}, "not_authorized"),
        ({0: NAT_PMP_ADDRESS, 1: bytes.fromhex("0081 0000 00000064 1092 0000 00000258")}, "malformed"),
        ({0: NAT_PMP_ADDRESS, 1: bytes.fromhex("0081 0000 00000064 0001 1093 00000258")}, "silent"),
        ({0: bytes.fromhex("0080 0000 00000064 00000000")}, "no_external_address"),
        ({0: bytes.fromhex("0080 0003 00000064 00000000")}, "network_failure"),
    ],
)
async def test_nat_pmp(answers: dict[int, bytes], outcome: tuple[str, int] | str) -> None:
    async with udp_server(lambda data: answers.get(data[1])) as port:
        granted = await NatPmpClient(GATEWAY, port).request(4_242, None, 600)
    assert (granted.external if isinstance(granted, Grant) else granted.reason) == outcome


# -- UPnP -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def upnp(router: Upnp) -> AsyncIterator[IgdClient]:
    async with router.serve() as url, udp_server(search_answer(url)) as port:
        yield IgdClient(GATEWAY, random.Random(1), (LOOPBACK, port))


async def test_upnp_maps_checks_renews_and_takes_back() -> None:
    router = Upnp()
    async with upnp(router) as client:
        assert await client.probe() == Found(OUTSIDE)
        granted = await client.request(4_242, None, 600)
        assert granted == Grant(4_242, (OUTSIDE, 4_242), 600.0)
        assert router.entries == {4_242: (LOOPBACK, "4242", "600")}
        assert await client.check(granted) == Found(OUTSIDE)
        assert await client.request(4_242, granted.external, 600) == granted
        router.entries[4_242] = ("127.0.0.9", "4242", "600")
        assert await client.check(granted) == Found(OUTSIDE, is_lost=True), "somebody else's now"
        router.entries.clear()
        assert await client.check(granted) == Found(OUTSIDE, is_lost=True)
        await client.request(4_242, None, 600)
        await client.release(granted)
        assert router.entries == {}


async def test_upnp_may_be_looked_for_anew_under_a_request() -> None:
    """A router announces itself while it is asked: what has been found out counts until the request is over."""
    router = Upnp()
    async with upnp(router) as client, trio.open_nursery() as nursery:
        assert await client.probe() == Found(OUTSIDE)
        router.on_action = lambda action: (
            nursery.start_soon(client.probe) if action == "GetExternalIPAddress" and len(router.asked) == 2 else None
        )
        assert await client.request(4_242, None, 600) == Grant(4_242, (OUTSIDE, 4_242), 600.0)


@pytest.mark.parametrize(
    ("kind", "faults", "lifetime", "tries"),
    [
        (SERVICE_TYPES[1], [718], 600.0, 2),  # the port is somebody else's: another one
        (SERVICE_TYPES[1], [718, 718, 724], 600.0, 4),  # which it does not allow: ours, again
        (SERVICE_TYPES[2], [725], None, 2),  # it knows mappings without an end alone
        (SERVICE_TYPES[1], [402], None, 2),  # and says it less clearly
        (SERVICE_TYPES[0], [718], 600.0, 1),  # it chooses a port itself
    ],
)
async def test_upnp_routers_with_wishes(kind: str, faults: list[int], lifetime: float | None, tries: int) -> None:
    router = Upnp(kind=kind, faults={"AddPortMapping": faults})
    async with upnp(router) as client:
        granted = await client.request(4_242, None, 600)
    assert isinstance(granted, Grant)
    assert granted.lifetime == lifetime
    assert router.asked.count("AddPortMapping") == tries
    assert list(router.entries) == [granted.external[1]]


@pytest.mark.parametrize(
    ("router", "reason"),
    [
        (Upnp(faults={"AddPortMapping": [606]}), "not_authorized"),
        (Upnp(faults={"AddPortMapping": [718] * 9}), "port_taken"),
        (Upnp(faults={"AddPortMapping": [501] * 9}), "action_failed"),
        (Upnp(external=""), "no_external_address"),
        (Upnp(external="not an address"), "no_external_address"),
        (Upnp(kind="urn:schemas-upnp-org:service:Layer3Forwarding:1"), "no_service"),
    ],
)
async def test_upnp_routers_that_refuse(router: Upnp, reason: str) -> None:
    async with upnp(router) as client:
        refused = await client.request(4_242, None, 600)
    assert isinstance(refused, Refusal)
    assert refused.reason == reason


REDIRECT = b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:%d/elsewhere\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "page",
    [
        REDIRECT,
        b"HTTP/1.1 200 X\r\nContent-Length: 999999999\r\n\r\n" + b"<root>" + b" " * 300_000,
        b"HTTP/1.1 200 X\r\n\r\n<!DOCTYPE a [<!ENTITY b 'c'>]><root>&b;</root>",
        b"HTTP/1.1 200 X\r\nX: " + b"y" * 200_000,
        b"no http at all",
        b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_redirects_and_endless_pages_are_no_answer(page: bytes) -> None:
    router = Upnp()
    async with upnp(router) as client:
        router.pages["/desc.xml"] = page % router.port if page is REDIRECT else page
        assert isinstance(await client.probe(), Refusal)
    assert router.asked == []


async def test_upnp_from_elsewhere_is_not_believed(autojump_clock: trio.testing.MockClock) -> None:
    router = Upnp()
    async with router.serve() as url:
        for location, host in ((url.replace(LOOPBACK, "127.0.0.2"), LOOPBACK), (url, "127.0.0.2")):
            async with udp_server(search_answer(location), host) as port:
                assert await IgdClient(GATEWAY, random.Random(1), (host, port)).probe() == Refusal("silent")
    assert router.asked == []


# -- all together -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    port_mapping: bool = True
    ice: str = "mesh"
    addresses: tuple[str, ...] = ()
    lab_addresses: bool = False


async def test_the_mapper_tells_of_mappings_and_takes_them_back_at_its_end() -> None:
    released = trio.Event()

    def server(data: bytes) -> bytes:
        if data[1] == 1 and data[4:8] == bytes(4):
            released.set()
        return pcp_answer(data)

    told: list[tuple[PortMapping, ...]] = []
    async with udp_server(server) as port, udp_server(lambda data: None) as silent:
        around = Surroundings(lambda config: [GATEWAY], port, 0, (LOOPBACK, silent))
        mapper = PortMapper(Wish(), lambda address: 4_242, told.append, SECRET, random.Random(1), around)
        async with trio.open_nursery() as nursery:
            await nursery.start(mapper.run)
            with trio.fail_after(10):
                await mapper.settled()
            assert mapper.mappings() == (PortMapping("pcp", LOOPBACK, (LOOPBACK, 4_242), (OUTSIDE, 4_242)),)
            assert told[-1] == mapper.mappings()
            (report,) = mapper.reports()
            assert describe(report) == f"The router at 127.0.0.1 lets UDP in at {OUTSIDE}:4242 (PCP)."
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            await released.wait()
    assert told[-1] == ()
    assert mapper.counters["release"] == 1


@pytest.mark.parametrize("wish", [Wish(port_mapping=False), Wish(ice="none"), Wish(ice="relay_only")])
async def test_who_does_not_want_it_asks_nobody(wish: Wish) -> None:
    def never(config: object) -> list[Gateway]:
        raise AssertionError("looked for routers")

    mapper = PortMapper(wish, lambda address: 1, lambda found: None, SECRET, random.Random(1), Surroundings(never))
    async with trio.open_nursery() as nursery:
        await nursery.start(mapper.run)
    await mapper.settled()
    assert mapper.reports() == ()


@pytest.mark.parametrize(
    ("external", "words"),
    [("10.1.2.3", "double NAT"), ("100.64.1.1", "CGNAT"), ("127.0.0.1", "not believed")],
)
async def test_what_is_wrong_is_said_in_words(external: str, words: str) -> None:
    async with udp_server(lambda data: pcp_answer(data, external=external)) as port, udp_server(lambda d: None) as mute:
        around = Surroundings(lambda config: [GATEWAY], port, 0, (LOOPBACK, mute))
        mapper = PortMapper(Wish(), lambda address: 4_242, lambda found: None, SECRET, random.Random(1), around)
        async with trio.open_nursery() as nursery:
            await nursery.start(mapper.run)
            with trio.fail_after(10):
                await mapper.settled()
            assert mapper.mappings() == ()
            assert words in describe(mapper.reports()[0])
            assert external in describe(mapper.reports()[0])
            nursery.cancel_scope.cancel()
