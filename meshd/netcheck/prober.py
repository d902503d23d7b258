"""Asks STUN servers, from UDP sockets that nothing else uses: what a NAT does shows from any socket."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

import trio

from meshd.errors import MalformedMessage
from meshd.netcheck.classification import mapping_of
from meshd.netcheck.observations import Address, Family, FamilySeen, Filtering, Reply, Seen, Server
from meshd.special_addresses import forbidden_by
from meshd.wire import stun

# Policy
MAX_SERVERS = 16  # asked in one check
MAX_ADDRESSES = 2  # of one name in one family
FIRST_RETRY_INTERVAL = 0.25  # seconds until a datagram is sent again; doubled each time
HAIRPIN_TIMEOUT = 1.0  # seconds: the way is to the router and back
MAX_HEARD = 64  # requests that are remembered; a hairpin brings three
_ANYWHERE: dict[Family, Address] = {"ipv4": ("192.0.2.1", 9), "ipv6": ("2001:db8::1", 9)}  # nothing is sent there


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer, where it came from, and how long after the question."""

    message: stun.BindingSuccess | stun.BindingError
    source: Address
    round_trip_time: float


class StunSocket:
    """One UDP socket that asks. To be used as a context; ``run`` receives."""

    def __init__(self, family: Family) -> None:
        kind = trio.socket.AF_INET6 if family == "ipv6" else trio.socket.AF_INET
        self._socket = trio.socket.socket(kind, trio.socket.SOCK_DGRAM)
        self._sent: dict[bytes, float] = {}
        self._answers: dict[bytes, Answer] = {}
        self._heard: set[bytes] = set()
        self._news = trio.Event()

    def __enter__(self) -> StunSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @classmethod
    async def bound(cls, family: Family, local_host: str) -> StunSocket:
        """One with a port of its own. Raises OSError without that address family, or without file descriptors."""
        made = cls(family)
        try:
            await made._socket.bind((local_host or ("::" if family == "ipv6" else "0.0.0.0"), 0))
        except BaseException:
            made._socket.close()
            raise
        return made

    @property
    def port(self) -> int:
        """Our port."""
        return int(self._socket.getsockname()[1])

    async def run(self) -> None:
        """Receive until cancelled."""
        while True:
            try:
                data, source = await self._socket.recvfrom(stun.MAX_MESSAGE_SIZE + 1)
                message = stun.decode(data)
            except (OSError, MalformedMessage):  # the former: ICMP about an earlier datagram
                continue
            now = trio.current_time()
            if isinstance(message, stun.BindingRequest):
                if len(self._heard) < MAX_HEARD:
                    self._heard.add(message.transaction)
            elif (sent := self._sent.pop(message.transaction, None)) is not None:
                self._answers[message.transaction] = Answer(message, (source[0], source[1]), now - sent)
            self._news.set()
            self._news = trio.Event()

    async def ask(
        self, server: Address, timeout: float, *, change_address: bool = False, change_port: bool = False
    ) -> Answer | None:
        """The answer, or None within ``timeout`` seconds. Each datagram is a transaction, so that times are exact."""
        transactions: list[bytes] = []
        interval = FIRST_RETRY_INTERVAL
        with trio.move_on_after(timeout):
            while True:
                transactions.append(await self.send(server, change_address=change_address, change_port=change_port))
                with trio.move_on_after(interval):
                    while not (found := [self._answers[t] for t in transactions if t in self._answers]):
                        await self._news.wait()
                    return found[0]
                interval *= 2
        return None

    async def send(self, server: Address, *, change_address: bool = False, change_port: bool = False) -> bytes:
        """Send one request; its transaction."""
        transaction = os.urandom(stun.TRANSACTION_SIZE)
        self._sent[transaction] = trio.current_time()
        try:
            request = stun.BindingRequest(transaction, change_address, change_port)
            await self._socket.sendto(stun.encode(request), server)
        except OSError:  # no way there: nothing will come
            pass
        return transaction

    async def hears(self, transactions: Sequence[bytes], timeout: float) -> bool:
        """Whether one of these requests comes in here within ``timeout`` seconds."""
        with trio.move_on_after(timeout):
            while not self._heard.intersection(transactions):
                await self._news.wait()
            return True
        return False


async def probe(servers: Sequence[Server], timeout: float, local_hosts: Sequence[str] = ()) -> Seen:
    """Ask all of them over both families; ``timeout`` seconds for each of up to seven rounds.

    ``local_hosts``: local addresses to use; empty: whatever the system chooses.
    """
    results: dict[Family, tuple[tuple[Reply, ...], FamilySeen]] = {}

    async def one(family: Family) -> None:
        hosts = [host for host in local_hosts if (":" in host) == (family == "ipv6")]
        if local_hosts and not hosts:
            results[family] = (), FamilySeen(family)
            return
        results[family] = await _probe_family(family, servers[:MAX_SERVERS], timeout, hosts[0] if hosts else "")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "ipv4")
        nursery.start_soon(one, "ipv6")
    replies = [reply for replies, _ in (results["ipv4"], results["ipv6"]) for reply in replies]
    # a name with addresses of one family alone is nothing to complain about
    kept = [reply for reply in replies if reply.error != "unresolved"]
    tried, resolved = {reply.server for reply in replies}, {reply.server for reply in kept}
    lost = [server for server in servers[:MAX_SERVERS] if server not in resolved]
    kept += [Reply(server, "ipv4", error="unresolved" if server in tried else "no_way") for server in lost]
    return Seen(tuple(kept), results["ipv4"][1], results["ipv6"][1])


async def _probe_family(
    family: Family, servers: Sequence[Server], timeout: float, local_host: str
) -> tuple[tuple[Reply, ...], FamilySeen]:
    replies: list[Reply] = []
    source = local_host or await _source(family)
    if not source:
        return (), FamilySeen(family)
    try:
        main = await StunSocket.bound(family, local_host)
    except OSError:
        return (), FamilySeen(family)
    with main:
        local = (source, main.port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(main.run)
            async with trio.open_nursery() as asking:
                for server in servers:
                    asking.start_soon(_ask_server, main, server, family, timeout, replies)
            order = {server: number for number, server in enumerate(servers)}
            replies.sort(key=lambda reply: order[reply.server])
            mappings = [(r.address, r.mapped) for r in replies if r.address and r.mapped]
            filtering: list[Filtering | None] = [None]
            hairpin: list[bool | None] = [None]
            async with trio.open_nursery() as further:
                able = next((r for r in replies if r.other and r.address), None)
                if able is not None:
                    further.start_soon(_try_other, main, family, local_host, able, timeout, mappings, filtering)
                if mappings and mapping_of(local, mappings) != "none":
                    further.start_soon(_try_hairpin, main, family, local_host, mappings[0][1], hairpin)
            nursery.cancel_scope.cancel()
    return tuple(replies), FamilySeen(family, local, tuple(mappings), filtering[0], hairpin[0])


async def _ask_server(main: StunSocket, server: Server, family: Family, timeout: float, replies: list[Reply]) -> None:
    wanted = trio.socket.AF_INET6 if family == "ipv6" else trio.socket.AF_INET
    try:
        with trio.fail_after(timeout):
            found = await trio.socket.getaddrinfo(server.host, server.port, wanted, trio.socket.SOCK_DGRAM)
    except (OSError, UnicodeError, trio.TooSlowError):
        replies.append(Reply(server, family, error="unresolved"))
        return
    addresses = list(dict.fromkeys((str(entry[4][0]), int(entry[4][1])) for entry in found))[:MAX_ADDRESSES]
    for address in addresses:
        answer = await main.ask(address, timeout / len(addresses))
        if answer is not None:
            if isinstance(answer.message, stun.BindingError):
                replies.append(Reply(server, family, address, error="refused"))
            else:
                message, seconds = answer.message, answer.round_trip_time
                other = message.other if _may_be_asked(message.other, address) else None
                replies.append(Reply(server, family, address, message.mapped, seconds, other))
            return
    replies.append(Reply(server, family, addresses[0], error="silent"))


def _may_be_asked(other: Address | None, server: Address) -> bool:
    """Whether that can be a server's second address: one in the world must not make us knock inside our network."""
    if other is None or other[0] == server[0] or not other[1] or (":" in other[0]) != (":" in server[0]):
        return False
    kinds = [forbidden_by(ipaddress.ip_address(host.partition("%")[0])) for host in (other[0], server[0])]
    return kinds[0] in (None, kinds[1])


async def _try_other(
    main: StunSocket,
    family: Family,
    local_host: str,
    able: Reply,
    timeout: float,
    mappings: list[tuple[Address, Address]],
    filtering: list[Filtering | None],
) -> None:
    """In this order: some NATs let in whoever anybody at home has sent to, and the second test sends everywhere."""
    with suppress(OSError):  # no second socket is to be had: then it stays unknown
        await _try_filter(family, local_host, able, timeout, filtering)
    await _vary_server(main, able, timeout, mappings)


async def _vary_server(main: StunSocket, able: Reply, timeout: float, mappings: list[tuple[Address, Address]]) -> None:
    """RFC 5780 section 4.3, tests II and III: the same socket as its other address sees it, at either port."""
    assert able.address
    assert able.other
    for at in ((able.other[0], able.address[1]), able.other):
        answer = await main.ask(at, timeout)
        if answer is not None and isinstance(answer.message, stun.BindingSuccess):
            mappings.append((at, answer.message.mapped))


async def _try_filter(
    family: Family, local_host: str, able: Reply, timeout: float, result: list[Filtering | None]
) -> None:
    """RFC 5780 section 4.4, with a socket that has not sent to the server's other address."""
    assert able.address
    with await StunSocket.bound(family, local_host) as fresh:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fresh.run)
            if await fresh.ask(able.address, timeout) is not None:
                result[0] = await _filtering(fresh, able.address, timeout)
            nursery.cancel_scope.cancel()


async def _filtering(fresh: StunSocket, server: Address, timeout: float) -> Filtering | None:
    both = await fresh.ask(server, timeout, change_address=True, change_port=True)
    if both is not None:
        came = isinstance(both.message, stun.BindingSuccess) and both.source[0] != server[0]
        return Filtering(True, True) if came else None  # it says that it cannot, or sends from the same place
    port = await fresh.ask(server, timeout, change_port=True)
    return Filtering(False, port is not None and isinstance(port.message, stun.BindingSuccess))


async def _try_hairpin(
    main: StunSocket, family: Family, local_host: str, mapped: Address, result: list[bool | None]
) -> None:
    """RFC 5780 section 4.5, from a second socket to how the first looks from outside."""
    with suppress(OSError), await StunSocket.bound(family, local_host) as second:
        transactions = [await second.send(mapped)]
        result[0] = await main.hears(transactions, HAIRPIN_TIMEOUT / 2)
        if not result[0]:
            transactions.append(await second.send(mapped))
            result[0] = await main.hears(transactions, HAIRPIN_TIMEOUT / 2)


async def _source(family: Family) -> str:
    """The address that packets to the world leave from here; empty if there is no way."""
    kind = trio.socket.AF_INET6 if family == "ipv6" else trio.socket.AF_INET
    try:
        with trio.socket.socket(kind, trio.socket.SOCK_DGRAM) as socket:
            await socket.connect(_ANYWHERE[family])
            return str(socket.getsockname()[0])
    except OSError:
        return ""
