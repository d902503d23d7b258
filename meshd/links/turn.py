"""Relay candidates (RFC 8656), by aioice's TURN client: one allocation for all links, of the first server to grant it.

Upstream uses the first server of a list only, allocates anew for each link, and knows no private CA. Its channels are
refreshed every 500 s, but the permission that comes with them ends after 300 (section 9). A task for each datagram
carries it; here one takes the short way once its channel stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from aioice import stun, turn

from meshd.errors import ConfigError, MeshError
from meshd.ice_servers import IceServer, parse_ice_server
from meshd.links.consent import USERNAME, attributes_of
from meshd.links.demux import Address, Demux, Kind, kind_of
from meshd.links.socket import Link
from meshd.secret_file import read_secret

# Policy
ALLOCATION_LIFETIME = 600  # seconds asked for; the protocol's default. Refreshed after five sixths of what is granted
CHANNEL_REFRESH_TIME = 240  # seconds; permissions end after 300 (RFC 8656 section 9)
ALLOCATE_TIMEOUT = 8.0  # seconds a server may take, name, connection and TLS included
DELETE_TIMEOUT = 1.0  # seconds for giving an allocation back
MIN_RETRY_INTERVAL, MAX_RETRY_INTERVAL = 2.0, 120.0  # seconds until all servers are tried again
REFUSED_TIME = 30.0  # seconds a peer is not tried again that the server will not relay to
MAX_BINDING = 256  # datagrams that wait for a channel, of all peers together
MAX_REFUSED = 1_024
MAX_CREDENTIAL_SIZE = 512  # bytes; RFC 8489 section 14.3 has 508 for a user name

_CHANNEL_DATA = struct.Struct("!HH")


class TurnConfig(Protocol):
    """What this file reads of ``meshd.config.LinksConfig``."""

    @property
    def turn_servers(self) -> tuple[str, ...]:
        """Their URIs."""

    @property
    def turn_credentials(self) -> str:
        """The path of the file with user and password."""

    @property
    def turn_ca_file(self) -> str:
        """The path of a file with CA certificates; empty: the system's."""


class TurnFailed(MeshError):
    """No TURN server gives us a relay candidate; the text says why of each."""


class RelaySocket:
    """An allocation, as a socket that all links share: see ``meshd.links.socket.SharedSocket``."""

    def __init__(self, client: Any, relayed: Address, demux: Demux[Link], counters: Counter[str]) -> None:
        self.relayed = relayed
        self.address, self.port = relayed
        self.name = f"relay {relayed[0]}"  # its path's: the address may be one of this machine's own, too
        self.transactions: dict[bytes, stun.Transaction] = {}
        self.on_lost: Callable[[], None] = lambda: None
        self._client = client
        self._demux = demux
        self._counters = counters
        self._tasks: set[asyncio.Task[None]] = set()
        self._refreshing: set[int] = set()
        self._refused: dict[Address, float] = {}
        client.receiver = self

    # -- out ----------------------------------------------------------------------------------------------------------

    def send(self, datagram: bytes, remote: Address, local_address: str | None = None) -> bool:
        """Send one datagram by the relay. What cannot leave is counted. False: the relay is gone."""
        client = self._client
        if client.transport.is_closing():
            self._counters["datagram_unsent"] += 1
            return False
        channel = client.peer_to_channel.get(remote)
        if channel is None:
            self._bind_and_send(datagram, remote)
            return True
        client._send(_CHANNEL_DATA.pack(channel, len(datagram)) + datagram)
        if time.time() > client.channel_refresh_at[channel] and channel not in self._refreshing:
            self._refreshing.add(channel)
            self._start(self._refresh(channel, remote))
        return True

    def permit(self, remote: Address) -> None:
        """Let packets of that peer in, and have a channel to it, before the first check needs both."""
        if remote not in self._client.peer_to_channel and remote not in self._client.peer_connect_waiters:
            self._bind_and_send(b"", remote)

    def send_batch(self, batch: bytes, size: int, remote: Address, local_address: str | None = None) -> bool:
        """Send what stands in ``batch`` as datagrams of ``size`` bytes, the last one perhaps shorter; see ``send``."""
        return all(self.send(batch[start : start + size], remote) for start in range(0, len(batch), size))

    def let_fragment(self, allowed: bool) -> None:
        """The way to the relay is TURN's own socket's, which fragments as the kernel does by default."""

    def _bind_and_send(self, datagram: bytes, remote: Address) -> None:
        refused_until = self._refused.get(remote, 0.0)
        if len(self._tasks) >= MAX_BINDING or asyncio.get_running_loop().time() < refused_until:
            self._counters["datagram_unsent"] += 1
        else:
            self._start(self._send_when_bound(datagram, remote))

    async def _send_when_bound(self, datagram: bytes, remote: Address) -> None:
        try:
            if datagram or remote not in self._client.peer_to_channel:
                await self._client.send_data(datagram, remote)
        except stun.TransactionFailed:
            self._counters["turn_peer_refused"] += 1
            if len(self._refused) >= MAX_REFUSED:
                self._refused.clear()
            self._refused[remote] = asyncio.get_running_loop().time() + REFUSED_TIME
        except (stun.TransactionError, OSError):
            self._counters["datagram_unsent"] += 1

    async def _refresh(self, channel: int, remote: Address) -> None:
        try:
            await self._client.channel_bind(channel, remote)
            self._client.channel_refresh_at[channel] = time.time() + CHANNEL_REFRESH_TIME
        except (stun.TransactionError, OSError):
            self._counters["turn_refresh_failed"] += 1
            self._client.channel_refresh_at[channel] = time.time() + REFUSED_TIME
        finally:
            self._refreshing.discard(channel)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work, name="turn-channel")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- in: what aioice's client calls -------------------------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """A peer's datagram has come by the relay."""
        kind = kind_of(data)
        if kind is Kind.DTLS:
            self._demux.deliver(data, addr)
            self._demux.flush()
        elif kind is Kind.STUN_REQUEST:
            attributes = attributes_of(data)
            username = attributes.get(USERNAME)
            link = None if username is None else self._demux.of_username(username[1])
            if link is None or link.receive_check(data, attributes, addr, self.name):
                return
            if not link.is_authentic(data, attributes):  # no answer, as in meshd.links.socket
                self._counters["stun_unauthentic"] += 1
            elif (message := self._parse(data)) is not None:
                link.receive_request(message, addr, self.name)
        elif kind is Kind.STUN_RESPONSE:
            if self._demux.take_response(data, addr) or (message := self._parse(data)) is None:
                return
            transaction = self.transactions.get(message.transaction_id)
            if transaction is not None:
                transaction.response_received(message, addr)
        else:
            self._counters["datagram_unknown"] += 1

    def _parse(self, data: bytes) -> stun.Message | None:
        try:
            return stun.parse_message(data)
        except Exception:  # whatever the sender thought of, as in meshd.links.socket
            self._counters["stun_malformed"] += 1
            return None

    def connection_lost(self, exc: Exception | None) -> None:
        """The allocation could not be refreshed, or the connection to the server is gone."""
        for task in self._tasks:
            task.cancel()
        self.on_lost()

    async def delete(self) -> None:
        """Give the allocation back."""
        with contextlib.suppress(OSError, TimeoutError, stun.TransactionError):
            async with asyncio.timeout(DELETE_TIMEOUT):
                await self._client.delete()
        self._client.transport.abort()  # TLS would wait for the server's goodbye
        await asyncio.sleep(0)


class Relays:
    """Keeps one allocation. ``complain`` gets a ``TurnFailed`` when it has become impossible.

    Raises ConfigError for credentials or a CA file that cannot be used.
    """

    def __init__(
        self, config: TurnConfig, demux: Demux[Link], counters: Counter[str], complain: Callable[[TurnFailed], None]
    ) -> None:
        self.current: RelaySocket | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._servers = [parse_ice_server(text, "turn", "turns") for text in config.turn_servers]
        self._username, self._password = read_credentials(config.turn_credentials)
        self._context = _tls_context(config.turn_ca_file) if any(s.scheme == "turns" for s in self._servers) else None
        self._demux = demux
        self._counters = counters
        self._complain = complain
        self._race: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._retry_interval = MIN_RETRY_INTERVAL
        self._tried = False
        self._closed = False

    async def settled(self, timeout: float) -> None:
        """Wait for the first allocation, at most ``timeout`` seconds; if there was none, nobody waits for the next."""
        if self._race is None and not self._tried:
            self._begin()
        if self._race is not None and not self._tried:
            await asyncio.wait({self._race}, timeout=timeout)
            self._tried = True

    async def close(self) -> None:
        """Give everything back, in a second or so."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        if self._race is not None:
            self._race.cancel()
            await asyncio.wait({self._race})
        if self.current is not None:
            await self.current.delete()

    def _begin(self) -> None:
        self._retry = None
        if not self._closed:
            self._race = asyncio.create_task(self._establish(), name="turn-allocate")

    async def _establish(self) -> None:
        """Try all servers at once."""
        problems: list[str] = []
        asking = {asyncio.create_task(self._allocate(server), name="turn-server"): server for server in self._servers}
        waiting = set(asking)
        try:
            while waiting and self.current is None:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    try:
                        relay = task.result()
                    except (OSError, TimeoutError, stun.TransactionError) as error:
                        self._counters["turn_server_failed"] += 1
                        problems.append(f"{asking[task]}: {_in_words(error)}")
                        continue
                    if self.current is None:
                        self.current = relay
                    else:
                        await relay.delete()
        finally:
            self._race, self._tried = None, True
            for task in waiting:
                task.cancel()
            if waiting:
                await asyncio.wait(waiting)
        if self.current is not None:
            self.current.on_lost = self._lost
            self._retry_interval = MIN_RETRY_INTERVAL
            self.on_change()
        else:
            self._complain(TurnFailed("no TURN server gives a relay candidate: " + "; ".join(problems)))
            self._again()

    def _lost(self) -> None:
        self._counters["turn_lost"] += 1
        self.current = None
        self.on_change()
        self._again()

    def _again(self) -> None:
        if not self._closed and self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(self._retry_interval, self._begin)
            self._retry_interval = min(2 * self._retry_interval, MAX_RETRY_INTERVAL)

    async def _allocate(self, server: IceServer) -> RelaySocket:
        """Raises OSError, TimeoutError, stun.TransactionError."""
        loop = asyncio.get_running_loop()
        address = (server.host, server.port)
        kind = turn.TurnClientTcpProtocol if server.transport == "tcp" else turn.TurnClientUdpProtocol
        client = kind(address, self._username, self._password, ALLOCATION_LIFETIME, CHANNEL_REFRESH_TIME)
        async with asyncio.timeout(ALLOCATE_TIMEOUT):
            try:
                if server.transport == "tcp":
                    context = self._context if server.scheme == "turns" else None
                    await loop.create_connection(lambda: client, server.host, server.port, ssl=context)
                else:
                    await loop.create_datagram_endpoint(lambda: client, remote_addr=address)
                relayed = await client.connect()
            except BaseException:
                if hasattr(client, "transport"):
                    client.transport.abort()
                raise
        return RelaySocket(client, relayed, self._demux, self._counters)


def _in_words(error: BaseException) -> str:
    if isinstance(error, stun.TransactionFailed):
        code = error.response.error_code
        known = {401: "it does not know our user and password", 438: "it does not take our nonce", 486: "quota reached"}
        return known.get(code or 0, f"it refuses with {code}")
    if isinstance(error, (TimeoutError, stun.TransactionTimeout)):
        return "no answer"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not hold: {error.verify_message}; see links.turn_ca_file"
    return str(error) or type(error).__name__


def read_credentials(path: str) -> tuple[str, str]:
    """User and password out of a file of two lines that only its owner can read. Raises ConfigError."""
    data = read_secret("links.turn_credentials", path, 2 * MAX_CREDENTIAL_SIZE + 4)
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 2 or not all(0 < len(line.encode()) <= MAX_CREDENTIAL_SIZE for line in lines):
        raise ConfigError(f"links.turn_credentials: {path} must have two lines, the user name and the password")
    return lines[0], lines[1]


def _tls_context(ca_file: str) -> ssl.SSLContext:
    """Raises ConfigError."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"links.turn_ca_file: {ca_file} is no file of CA certificates: {error.strerror}") from None
