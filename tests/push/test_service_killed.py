"""``meshd-push`` killed in the middle of its work: every message that was answered 201 is delivered all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from push_service_client import UserAgent, authorization, body_of, connected, sending
from test_service_process import Running, running
from trio_websocket import ConnectionClosed

pytestmark = pytest.mark.e2e

ENOUGH = 60  # pushes accepted before it is killed
SENDERS = (b"a", b"b", b"c")
# A public name, so that it may come back on another port.
PUBLIC = ("--public-url", "http://push.test", "--limit", "max_stored_per_channel=150")


async def flood(service: Running, endpoint: str, name: bytes, accepted: list[bytes]) -> None:
    """Push one after the other until the service is gone; it is killed once enough have been accepted."""
    path, header = endpoint.removeprefix("http://push.test"), authorization(endpoint)
    port = int(service.url.rpartition(":")[2])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for number in range(1000):
            body = body_of(name + b"%d" % number)
            head = (
                f"POST {path} HTTP/1.1\r\nHost: push.test\r\nTTL: 60\r\nContent-Encoding: aes128gcm\r\n"
                f"Authorization: {header}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            try:
                await stream.send_all(head.encode() + body)
                answer = await stream.receive_some(4096)
            except trio.BrokenResourceError:
                answer = b""
            if not answer:
                return  # it has been killed
            assert answer.startswith(b"HTTP/1.1 201 "), answer
            accepted.append(name + b"%d" % number)
            if len(accepted) == ENOUGH:
                service.process.kill()


async def take_what_comes(agent: UserAgent, received: set[bytes]) -> None:
    try:
        while True:
            received.update(await agent.receive())
    except ConnectionClosed:
        pass


async def test_what_waits_for_the_absent_is_kept(tmp_path: Path):
    accepted: list[bytes] = []
    async with running(tmp_path, *PUBLIC) as service:
        async with connected(service.websocket_url) as agent:
            endpoint = await agent.register()
        async with trio.open_nursery() as floods:
            for name in SENDERS:
                floods.start_soon(flood, service, endpoint, name, accepted)
    assert ENOUGH <= len(accepted) < 150
    async with running(tmp_path, *PUBLIC) as service, connected(service.websocket_url, agent.uaid) as again:
        assert again.uaid == agent.uaid
        received: set[bytes] = set()
        while not received >= set(accepted):  # what was stored and not yet answered for may come as well
            received.update(await again.receive())
        assert await again.register() != endpoint
        local = endpoint.replace("http://push.test", service.url)
        async with sending() as sender:
            await sender.deliver(local, b"the endpoint is the same", authorization=authorization(endpoint))


async def test_what_was_on_its_way_comes_in_the_end(tmp_path: Path):
    """Some of it is delivered and acknowledged when the end comes, some is only written down, some on its way."""
    accepted: list[bytes] = []
    received: set[bytes] = set()
    async with running(tmp_path, *PUBLIC) as service, connected(service.websocket_url) as agent:
        endpoint = await agent.register()
        async with trio.open_nursery() as work:
            work.start_soon(take_what_comes, agent, received)
            for name in SENDERS:
                work.start_soon(flood, service, endpoint, name, accepted)
    assert len(accepted) >= ENOUGH
    assert received
    async with running(tmp_path, *PUBLIC) as service, connected(service.websocket_url, agent.uaid) as again:
        assert again.uaid == agent.uaid
        while not received >= set(accepted):
            received.update(await again.receive())
