"""Who may ask how much of the push service: by VAPID key, page and address, and whose address counts behind a proxy."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio
from hypothesis import given
from hypothesis import strategies as st
from push_service_client import KEY, OTHER_KEY, WAIT, authorization, connected, sending
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from meshd.push.service.app import PushService, serve
from meshd.push.service.config import Limits, ServiceConfig
from meshd.push.service.proxies import TrustedProxies

PROXY = ("127.0.0.0/8",)


async def started(nursery: trio.Nursery, state: Path, proxies: tuple[str, ...] = (), **limits: float) -> PushService:
    held = Limits(**limits)  # type: ignore[arg-type]
    return await nursery.start(serve, ServiceConfig(state, "127.0.0.1:0", limits=held, trusted_proxies=proxies))


def refused(answer: httpx.Response, within: int) -> bool:
    """429, with a time to come back that is kept to."""
    return answer.status_code == 429 and 1 <= int(answer.headers["Retry-After"]) <= within


async def test_one_key_has_one_quota_over_all_its_channels(nursery: trio.Nursery, tmp_path: Path):
    service = await started(nursery, tmp_path, key_rate=0.1, key_burst=3)
    async with connected(service.websocket_url) as agent, sending() as sender:
        first, second = await agent.register(), await agent.register()
        other = await agent.register(key=OTHER_KEY.public)
        # What is not signed by the key is not charged to it: nobody uses up what is another's.
        for _ in range(5):
            stranger = authorization(first, key=OTHER_KEY)
            assert (await sender.post(first, authorization=stranger)).status_code == 401
        await sender.deliver(first, b"1", b"2")
        await sender.deliver(second, b"3")
        assert refused(await sender.post(first), 10)
        assert refused(await sender.post(second), 10)
        await sender.deliver(other, b"4", authorization=authorization(other, key=OTHER_KEY))
    assert service.counters["refused_key_rate"] == 2


async def test_pages_of_one_origin_have_one_quota(nursery: trio.Nursery, tmp_path: Path):
    service = await started(nursery, tmp_path, origin_rate=0.1, origin_burst=2)
    async with connected(service.websocket_url) as agent, sending() as sender:
        endpoint = await agent.register()
        await sender.deliver(endpoint, b"1", b"2", origin="https://page.example")
        assert refused(await sender.post(endpoint, origin="https://page.example"), 10)
        await sender.deliver(endpoint, b"3", origin="https://other.example")
        await sender.deliver(endpoint, b"4")
    assert service.counters["refused_origin_rate"] == 1


async def asked(service: PushService, client: str) -> int:
    async with sending() as sender:
        path = f"{service.public_url}/wpush/v2/x"
        return (await sender.http.post(path, headers={"X-Forwarded-For": client})).status_code


async def test_behind_a_proxy_the_address_that_it_names_is_charged(nursery: trio.Nursery, tmp_path: Path):
    service = await started(nursery, tmp_path, PROXY, source_rate=0.1, source_burst=2)
    assert [await asked(service, "192.0.2.1") for _ in range(3)] == [404, 404, 429]
    assert await asked(service, "192.0.2.2") == 404
    # What the client wrote before its own address is of no use to it.
    assert await asked(service, "192.0.2.7, 192.0.2.1") == 429
    # All of an IPv6 customer's addresses are one.
    assert [await asked(service, f"2001:db8::{number}") for number in range(3)] == [404, 404, 429]


async def test_without_a_proxy_nobody_is_believed(nursery: trio.Nursery, tmp_path: Path):
    service = await started(nursery, tmp_path, source_rate=0.1, source_burst=2)
    assert [await asked(service, f"192.0.2.{number}") for number in range(3)] == [404, 404, 429]


@asynccontextmanager
async def through_a_proxy(service: PushService, client: str) -> AsyncIterator[WebSocketConnection]:
    async with await trio.open_tcp_stream("127.0.0.1", service.port) as stream, trio.open_nursery() as nursery:
        headers = [("X-Forwarded-For", client)]
        host = f"127.0.0.1:{service.port}"
        ws = await wrap_client_stream(nursery, stream, host, "/", extra_headers=headers)
        try:
            yield ws
        finally:
            with trio.move_on_after(WAIT, shield=True):
                await ws.aclose()


async def greeted(ws: WebSocketConnection) -> int:
    """The status of the answer to hello, or the code that the service closes with."""
    try:
        await ws.send_message('{"messageType":"hello"}')
        with trio.fail_after(WAIT):
            return json.loads(await ws.get_message())["status"]
    except ConnectionClosed as closed:
        return closed.reason.code if closed.reason is not None else 1006


async def test_behind_a_proxy_connections_are_counted_for_whom_they_are(nursery: trio.Nursery, tmp_path: Path):
    service = await started(nursery, tmp_path, PROXY, max_connections_per_source=1)
    async with through_a_proxy(service, "192.0.2.1") as first, through_a_proxy(service, "192.0.2.2") as second:
        assert await greeted(first) == 200
        assert await greeted(second) == 200
        async with through_a_proxy(service, "192.0.2.1") as third:
            assert await greeted(third) == 1013
    assert service.counters["refused_connections"] == 1


def test_proxies_are_believed_as_far_as_they_are_ours():
    by_custom = TrustedProxies(("10.0.0.0/8", "::1"), "x-forwarded-for")
    for header, client in [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.1.1.1", "192.0.2.1"),  # two of ours in a row
        ("192.0.2.9, 192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:5060", "192.0.2.1"),
        ("[2001:db8::1]:5060", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", "10.0.0.1"),
        ("192.0.2.1, garbage", "10.0.0.1"),
        ("", "10.0.0.1"),
    ]:
        assert by_custom.client("10.0.0.1", {"x-forwarded-for": header}) == client, header
    assert by_custom.client("198.51.100.1", {"x-forwarded-for": "192.0.2.1"}) == "198.51.100.1"
    assert by_custom.client("::1", {"forwarded": "for=192.0.2.1"}) == "::1"  # a header that no proxy of ours writes
    assert by_custom.client("::ffff:10.0.0.1", {"x-forwarded-for": "192.0.2.1"}) == "192.0.2.1"


def test_the_header_of_rfc_7239():
    standard = TrustedProxies(("10.0.0.1",), "forwarded")
    for header, client in [
        ("for=192.0.2.1;proto=https", "192.0.2.1"),
        ('For="192.0.2.1:4711"', "192.0.2.1"),
        ('by=10.0.0.1; for="[2001:db8::1]:4711"', "2001:db8::1"),
        ("for=192.0.2.9, for=192.0.2.1", "192.0.2.1"),
        ("for=_hidden", "10.0.0.1"),
        ("proto=https", "10.0.0.1"),
    ]:
        assert standard.client("10.0.0.1", {"forwarded": header}) == client, header
    assert standard.client("10.0.0.1", {"x-forwarded-for": "192.0.2.1"}) == "10.0.0.1"


@given(st.text(max_size=200))
def test_any_header_gives_an_address(text: str):
    for header in ("forwarded", "x-forwarded-for"):
        assert TrustedProxies(("0.0.0.0/0", "::/0"), header).client("127.0.0.1", {header: text})


async def test_what_a_key_may_is_not_what_its_owner_may_elsewhere(nursery: trio.Nursery, tmp_path: Path):
    """The rate of an endpoint is met first, and costs its key nothing more."""
    service = await started(nursery, tmp_path, endpoint_rate=0.1, endpoint_burst=1, key_rate=0.1, key_burst=2)
    async with connected(service.websocket_url) as agent, sending() as sender:
        first, second = await agent.register(key=KEY.public), await agent.register(key=KEY.public)
        await sender.deliver(first, b"1")
        for _ in range(5):
            assert refused(await sender.post(first), 10)
        await sender.deliver(second, b"2")
