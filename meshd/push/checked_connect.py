"""Connecting to the address that was checked: the network under the sender's HTTP client.

A name is resolved once, every address it has is judged, and those very addresses are dialled. Resolving again after
the check would let a name show a public address to the check and a private one to the connection (DNS rebinding).
TLS still verifies the name: httpcore starts it with the host of the URL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import httpcore
import trio

from meshd.errors import Rejected
from meshd.special_addresses import forbidden_address

# Policy
MAX_ADDRESSES = 8  # of one name; more would only be a way to make us knock at many doors
ATTEMPT_INTERVAL = 0.25  # seconds until the next address is tried beside the last (RFC 8305 section 5: 250 ms)

Judge = Callable[[str], str | None]  # an address to the rule that forbids it


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that ``judge`` has nothing against. A refusal is a ``Rejected`` that names the rule."""

    def __init__(self, judge: Judge = forbidden_address) -> None:
        self._judge = judge
        self._trio = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, judge, connect. Raises Rejected, socket.gaierror, httpcore.ConnectError."""
        addresses = await resolve_checked(host, port, self._judge)
        return await self._connect_first(addresses, port)

    async def _connect_first(self, addresses: list[str], port: int) -> httpcore.AsyncNetworkStream:
        """The first of these that answers; each is tried when the one before fails or dawdles (RFC 8305)."""
        connected: list[httpcore.AsyncNetworkStream] = []
        errors: list[httpcore.ConnectError] = []

        async def attempt(address: str, failed: trio.Event) -> None:
            try:
                stream = await self._trio.connect_tcp(address, port)
            except httpcore.ConnectError as error:
                errors.append(error)
                failed.set()
                return
            connected.append(stream)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed)
                with trio.move_on_after(ATTEMPT_INTERVAL):
                    await failed.wait()
        for spare in connected[1:]:
            await spare.aclose()
        if not connected:
            raise errors[0]
        return connected[0]

    async def sleep(self, seconds: float) -> None:
        """What httpcore waits with."""
        await trio.sleep(seconds)


async def resolve_checked(host: str, port: int, judge: Judge = forbidden_address) -> list[str]:
    """The addresses of ``host``, at most ``MAX_ADDRESSES``, in the resolver's order.

    One forbidden address refuses the name: who mixes public with private ones is not to be trusted with either.
    Raises Rejected (``reason`` is the rule) and socket.gaierror.
    """
    found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if (rule := judge(address)) is not None:
            raise Rejected(rule)
    return addresses[:MAX_ADDRESSES]
