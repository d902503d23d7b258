"""Connecting to what is no push service, over real sockets."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from meshd.push.websocket import ConnectionLost, WebSocket, open_stream, parse_service_url

UPGRADE = b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

Handler = Callable[[trio.SocketStream], Awaitable[None]]


def saying(answer: bytes) -> Handler:
    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some(4096)
        await stream.send_all(answer)

    return handler


async def reason_of(handler: Handler, scheme: str = "ws") -> str:
    """Why there is no WebSocket with a server that behaves like that."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        url = parse_service_url(f"{scheme}://127.0.0.1:{listeners[0].socket.getsockname()[1]}/")
        assert url is not None
        context = ssl.create_default_context() if scheme == "wss" else None
        with pytest.raises(ConnectionLost) as lost, trio.fail_after(5):
            async with await open_stream(url, context) as stream:
                await WebSocket(stream).handshake(url)
        nursery.cancel_scope.cancel()
    return lost.value.reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "rejected: 503"),
        (b"HTTP/1.1 301 Moved\r\nLocation: ws://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", "rejected: 301"),
        (UPGRADE + b"Sec-WebSocket-Accept: no\r\n\r\n", "protocol"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "protocol"),
        (b"HTTP/1.1 101 Go\r\nX: " + b"x" * 200_000, "protocol"),
        (b"", "reset"),
    ],
)
async def test_no_websocket_there(answer: bytes, reason: str) -> None:
    assert await reason_of(saying(answer)) == reason


async def test_no_tls_there() -> None:
    assert await reason_of(saying(b"HTTP/1.1 400 Bad\r\n\r\n"), "wss") == "tls"


async def test_nobody_there() -> None:
    with trio.socket.socket() as placeholder:
        await placeholder.bind(("127.0.0.1", 0))
        url = parse_service_url(f"ws://127.0.0.1:{placeholder.getsockname()[1]}/")
        assert url is not None
        with pytest.raises(ConnectionLost, match="refused"):
            await open_stream(url, None)
