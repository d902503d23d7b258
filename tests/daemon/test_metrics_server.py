"""The page over HTTP: who gets it, who does not, and what a bad client can do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.abc
import trio.testing

from meshd import metrics_server
from meshd.exposition import CONTENT_TYPE
from meshd.metrics_server import MAX_CONNECTIONS, MAX_REQUEST_SIZE, REQUEST_TIMEOUT

PAGE = "# HELP meshd_links Links.\n# TYPE meshd_links gauge\nmeshd_links 1\n"


@pytest.fixture
async def port(nursery: trio.Nursery) -> AsyncIterator[int]:
    listeners = await metrics_server.open_loopback(0)
    nursery.start_soon(metrics_server.serve, listeners, lambda: PAGE)
    yield listeners[0].socket.getsockname()[1]
    nursery.cancel_scope.cancel()


async def ask(port: int, request: bytes) -> tuple[int, dict[str, str], str]:
    with trio.fail_after(10):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(request)
            answer = b"".join([piece async for piece in stream])
    head, _, body = answer.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, body


def get(target: str = "/metrics", host: str = "localhost:9", method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


@pytest.mark.parametrize("host", ["localhost:9", "127.0.0.1:9", "127.0.0.1", "[::1]:9", "LOCALHOST", "localhost.:9"])
async def test_prometheus_gets_the_page(port: int, host: str) -> None:
    status, headers, body = await ask(port, get(host=host))
    assert (status, body) == (200, PAGE)
    assert headers["content-type"] == CONTENT_TYPE
    assert headers["content-length"] == str(len(PAGE))
    assert headers["connection"] == "close"


async def test_parameters_and_http_1_0_are_no_hindrance(port: int) -> None:
    assert (await ask(port, get("/metrics?collect=all")))[0] == 200
    assert (await ask(port, b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n"))[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9", "localhost.evil.example", "127.0.0.1.evil", "[::2]"]
)
async def test_a_web_page_that_calls_itself_otherwise_gets_nothing(port: int, host: str) -> None:
    """DNS rebinding: its own name resolves to 127.0.0.1, and the browser takes the answer for its own origin's."""
    status, headers, body = await ask(port, get(host=host))
    assert status == 403
    assert "meshd_" not in body
    assert "access-control-allow-origin" not in headers


async def test_everything_else_is_refused(port: int) -> None:
    assert (await ask(port, get("/")))[0] == 404
    assert (await ask(port, get("/metrics/../etc/passwd")))[0] == 404
    status, headers, _ = await ask(port, get(method="POST"))
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    assert (await ask(port, get(method="HEAD")))[::2] == (200, "")
    assert (await ask(port, b"\x16\x03\x01\x02\x00\x01\r\n\r\n"))[0] == 400
    assert (await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n"))[0] == 400


async def test_a_head_that_never_ends_is_cut_off(port: int) -> None:
    head = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2 * MAX_REQUEST_SIZE
    assert (await ask(port, head))[0] == 431


async def test_those_who_say_nothing_do_not_stay(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.socket.socketpair()
    async with trio.open_nursery() as nursery, trio.SocketStream(theirs) as client:
        nursery.start_soon(metrics_server.serve, [OneConnection(trio.SocketStream(ours))], lambda: PAGE)
        with trio.fail_after(REQUEST_TIMEOUT + 0.5):
            assert await client.receive_some(1) == b""
        nursery.cancel_scope.cancel()


class OneConnection(trio.abc.Listener[trio.SocketStream]):
    """A listener that gives one stream, and then none."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._streams = [stream]

    async def accept(self) -> trio.SocketStream:
        if self._streams:
            return self._streams.pop()
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_too_many_at_once_are_turned_away(port: int) -> None:
    silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
    try:
        with trio.fail_after(5):
            while True:  # until the last of them is being served
                async with await trio.open_tcp_stream("127.0.0.1", port) as more:
                    with trio.move_on_after(0.2):
                        if not await more.receive_some(1):
                            break
    finally:
        for stream in silent:
            await trio.aclose_forcefully(stream)
    with trio.fail_after(5):
        while True:
            try:
                assert (await ask(port, get()))[0] == 200
                break
            except (IndexError, trio.BrokenResourceError):
                continue  # the server has not noticed yet that they are gone


async def test_a_bug_costs_a_page_and_no_more(nursery: trio.Nursery) -> None:
    def page() -> str:
        raise ZeroDivisionError

    listeners = await metrics_server.open_loopback(0)
    nursery.start_soon(metrics_server.serve, listeners, page)
    port = listeners[0].socket.getsockname()[1]
    for _ in range(2):
        assert (await ask(port, get()))[0] == 500
    nursery.cancel_scope.cancel()


async def test_a_port_that_is_taken_is_no_reason_to_fail(nursery: trio.Nursery, port: int) -> None:
    with trio.fail_after(5):
        await nursery.start(metrics_server.serve_if_possible, port, lambda: PAGE)
