"""One question to a router and its answer, over UDP or HTTP. Nothing here raises for what the network does not do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import httpcore
import trio

from meshd.errors import MalformedMessage
from meshd.portmap.igd import Location
from meshd.portmap.values import Gateway

# Policy
RETRY_TIMEOUTS = (0.25, 0.5, 1.0)  # seconds for an answer to each datagram, as RFC 6886 section 3.1 begins; a router is
# one hop away, so who has not answered after 1.75 s will not after the RFC's 64 s either
MAX_DATAGRAM_SIZE = 1_500
HTTP_TIMEOUT = 3.0  # seconds for one request; small routers make their pages in a shell script
MAX_HTTP_BODY_SIZE = 131_072  # bytes

T = TypeVar("T")


def endpoint(gateway: Gateway, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """A port of the router as a socket address: a link-local one needs its interface."""
    return (gateway.address, port, 0, gateway.interface) if gateway.is_ipv6 else (gateway.address, port)


async def ask(
    gateway: Gateway,
    port: int,
    request: bytes,
    understand: Callable[[bytes], T | None],
    timeouts: tuple[float, ...] = RETRY_TIMEOUTS,
) -> T | None:
    """Send until there is an answer; None without one. ``understand`` gives None for what is not the answer.

    It may raise MalformedMessage, which means the same. The socket is connected: the kernel drops what does not come
    from that very address and port.
    """
    try:
        with _socket(gateway) as socket:
            await socket.bind((gateway.local_address, 0))
            await socket.connect(endpoint(gateway, port))
            for timeout in timeouts:
                await socket.send(request)
                with trio.move_on_after(timeout):
                    while True:
                        data = await socket.recv(MAX_DATAGRAM_SIZE)
                        if (answer := _understood(understand, data)) is not None:
                            return answer
    except OSError:  # the address has gone, there is no way, or ICMP says that nobody listens
        pass
    return None


def _understood(understand: Callable[[bytes], T | None], data: bytes) -> T | None:
    try:
        return understand(data)
    except MalformedMessage:
        return None


async def tell(gateway: Gateway, port: int, datagram: bytes) -> None:
    """Send once, and wait for nothing."""
    with suppress(OSError), _socket(gateway) as socket:
        await socket.bind((gateway.local_address, 0))
        await socket.sendto(datagram, endpoint(gateway, port))


def _socket(gateway: Gateway) -> trio.socket.SocketType:
    """Raises OSError without file descriptors."""
    return trio.socket.socket(trio.socket.AF_INET6 if gateway.is_ipv6 else trio.socket.AF_INET, trio.socket.SOCK_DGRAM)


async def http(
    gateway: Gateway, method: str, at: Location, headers: dict[str, str], body: bytes = b""
) -> tuple[int, bytes] | None:
    """One HTTP request to the router: status and body; None if there is no answer, or one that is too long.

    Redirects are not followed, and no proxy is asked: httpcore does neither.
    """
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), HTTP_TIMEOUT)
    try:
        with trio.fail_after(HTTP_TIMEOUT):
            async with (
                httpcore.AsyncConnectionPool(local_address=gateway.local_address, max_connections=1) as pool,
                pool.stream(
                    method,
                    at.url,
                    headers=list(headers.items()),
                    content=body or None,
                    extensions={"timeout": timeouts},
                ) as answer,
            ):
                received = b""
                async for part in answer.aiter_stream():
                    received += part
                    if len(received) > MAX_HTTP_BODY_SIZE:
                        # Ends the loop by NetworkError; leaving it would leave httpcore's generators to the collector.
                        await answer.aclose()
                return answer.status, received
    except (httpcore.ProtocolError, httpcore.NetworkError, httpcore.TimeoutException, OSError, trio.TooSlowError):
        return None
