"""Connecting to what is no push service, over real sockets."""

from __future__ import annotations

import base64
import hashlib
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


async def test_what_comes_along_with_the_acceptance_is_not_waited_for() -> None:
    """A server that speaks first, in one packet with it, and then has no more to say, or goes."""

    async def handler(stream: trio.SocketStream) -> None:
        request = bytes(await stream.receive_some(4096)).decode()
        key = request.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        proof = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
        hello = b"\x81\x05hello\x81\x05world"
        await stream.send_all(UPGRADE + b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n" + hello)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        url = parse_service_url(f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/")
        assert url is not None
        with trio.fail_after(5):
            websocket = WebSocket(await open_stream(url, None))
            await websocket.handshake(url)
            assert await websocket.receive() == ["hello", "world"]
            with pytest.raises(ConnectionLost, match="reset"):
                await websocket.receive()
            await websocket.close()
        nursery.cancel_scope.cancel()


async def test_no_tls_there() -> None:
    assert await reason_of(saying(b"HTTP/1.1 400 Bad\r\n\r\n"), "wss") == "tls"


async def test_nobody_there() -> None:
    with trio.socket.socket() as placeholder:
        await placeholder.bind(("127.0.0.1", 0))
        url = parse_service_url(f"ws://127.0.0.1:{placeholder.getsockname()[1]}/")
        assert url is not None
        with pytest.raises(ConnectionLost, match="refused"):
            await open_stream(url, None)
