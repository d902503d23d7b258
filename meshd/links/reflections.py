"""What this machine looks like from outside: one reflexive address for each local address and STUN server (RFC 8489).

Asked from the sockets that all links share, so what is learnt holds for every link, and learning it once is enough for
a while. Upstream asks one server, from a socket of each link's own, and waits 5 s for a silent one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aioice import stun

from meshd.links.demux import Address
from meshd.links.sockets import LinkSockets
from meshd.special_addresses import is_loopback

# Policy
FRESH_TIME = 30.0  # seconds; routers forget a mapping that nothing passes after that time or later
DOUBT_TIME = 3.0  # seconds; a path is missed for longer before it counts as gone, and others ask about the same time
GRACE = 0.1  # seconds that other answers get once there is one
RETRANSMISSIONS = 3  # 0.5 + 1 + 2 + 4 s
MAX_SERVERS = 32
MAX_ADDRESSES = 4  # of one family from which servers are asked; the others are containers' bridges
DNS_LIFETIME = 300.0  # seconds


class _NoWay(Exception):
    """From that address to that server nothing leads."""


@dataclass(slots=True)
class _Reflection:
    mapped: Address | None = None
    answered_at: float = float("-inf")
    silent: bool = False  # the last question was not answered: nobody waits for the next
    asking: asyncio.Task[None] | None = None


class Reflections:
    """``servers`` are ``host:port`` each. ``on_change`` is called when an answer is another than before."""

    def __init__(self, sockets: LinkSockets, counters: Counter[str], on_change: Callable[[], None]) -> None:
        self._sockets = sockets
        self._counters = counters
        self._on_change = on_change
        self._servers: tuple[str, ...] = ()
        self._reflections: dict[tuple[str, str], _Reflection] = {}  # by local address and server
        self._valid_since = float("-inf")
        self._names: dict[tuple[str, int], tuple[Address, float]] = {}

    def use(self, servers: Iterable[str]) -> None:
        """Ask these from now on."""
        self._servers = tuple(dict.fromkeys(servers))[:MAX_SERVERS]
        self._keep(lambda address, server: server in self._servers)

    def keep_addresses(self, addresses: Iterable[str]) -> None:
        """These are all our local addresses: forget what was learnt from others."""
        present = set(addresses)
        self._keep(lambda address, server: address in present)

    def _keep(self, wanted: Callable[[str, str], bool]) -> None:
        for (address, server), reflection in list(self._reflections.items()):
            if not wanted(address, server):
                del self._reflections[address, server]
                if reflection.asking is not None:
                    reflection.asking.cancel()

    def of(self, address: str) -> list[Address]:
        """What a local address looks like, the newest answer first; several where it depends on who looks."""
        known = [r for (a, _), r in self._reflections.items() if a == address and r.mapped and not r.silent]
        known.sort(key=lambda reflection: -reflection.answered_at)
        return list(dict.fromkeys(r.mapped for r in known if r.mapped is not None))

    def ask(self, addresses: Iterable[str], *, older_than: float = 0.0) -> list[asyncio.Task[None]]:
        """Ask every server from every address unless it has answered in the last ``older_than`` seconds.

        Gives the questions under way, without those that most likely nobody answers.
        """
        now = asyncio.get_running_loop().time()
        under_way = []
        for address in _askers(addresses):
            for server in self._servers:
                reflection = self._reflections.setdefault((address, server), _Reflection())
                if now - reflection.answered_at < older_than and reflection.answered_at >= self._valid_since:
                    continue
                if reflection.asking is None:
                    reflection.asking = asyncio.create_task(self._ask(address, server, reflection), name="stun-server")
                if not reflection.silent:
                    under_way.append(reflection.asking)
        return under_way

    def doubt(self) -> None:
        """A path of ours is gone: a router may have forgotten what it had mapped, so what is known is too old."""
        self._valid_since = max(self._valid_since, asyncio.get_running_loop().time() - DOUBT_TIME)

    async def settled(self, addresses: list[str], timeout: float) -> None:
        """Wait until it is known what these look like, as far as anybody answers; at most ``timeout`` seconds."""
        loop = asyncio.get_running_loop()
        waiting: set[asyncio.Task[None]] = set(self.ask(addresses, older_than=FRESH_TIME))
        if self._all_fresh(addresses):
            return  # one answer for each is enough; the others come when they come
        end = loop.time() + timeout
        while waiting and loop.time() < end:
            # From a container bridge no answer ever comes: what is known already counts as the first one.
            if any(self._is_fresh(address) for address in addresses):
                end = min(end, loop.time() + GRACE)
            _, waiting = await asyncio.wait(waiting, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            if self._all_fresh(addresses):
                return

    def _all_fresh(self, addresses: list[str]) -> bool:
        return bool(self._servers) and all(self._is_fresh(address) for address in _askers(addresses))

    def _is_fresh(self, address: str) -> bool:
        now = asyncio.get_running_loop().time()
        since = max(now - FRESH_TIME, self._valid_since)
        return any(a == address and r.answered_at >= since for (a, _), r in self._reflections.items())

    async def _ask(self, address: str, server: str, reflection: _Reflection) -> None:
        try:
            mapped = await self._answer(address, server)
        except _NoWay:
            reflection.silent = True
        except (OSError, ValueError, KeyError, stun.TransactionError):
            self._counters["stun_server_silent"] += not reflection.silent
            reflection.silent = True
        else:
            changed = mapped != reflection.mapped or reflection.silent
            reflection.mapped, reflection.silent = mapped, False
            reflection.answered_at = asyncio.get_running_loop().time()
            if changed:
                self._on_change()
        finally:
            reflection.asking = None

    async def _answer(self, address: str, server: str) -> Address:
        shared = self._sockets.for_address(address)
        remote = await self._resolve(server, socket.AF_INET6 if ":" in address else socket.AF_INET)
        if shared is None or is_loopback(address) != is_loopback(remote[0]):
            raise _NoWay
        request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        response = await shared.request(request, remote, address, retransmissions=RETRANSMISSIONS)
        mapped: Address = response.attributes["XOR-MAPPED-ADDRESS"]
        return mapped

    async def _resolve(self, server: str, family: int) -> Address:
        """Raises _NoWay for an address of the other family, OSError if there is no such name, or none of the family."""
        host, _, port = server.rpartition(":")
        host = host.strip("[]")
        loop = asyncio.get_running_loop()
        known, until = self._names.get((server, family), (None, 0.0))
        if known is not None and loop.time() < until:
            return known
        try:
            if (ipaddress.ip_address(host).version == 6) != (family == socket.AF_INET6):
                raise _NoWay
            return host, int(port)
        except ValueError:
            found = await loop.getaddrinfo(host, int(port), family=family, type=socket.SOCK_DGRAM)
        address = (str(found[0][4][0]), int(port))
        if len(self._names) >= 2 * MAX_SERVERS:
            self._names.clear()
        self._names[server, family] = (address, loop.time() + DNS_LIFETIME)
        return address

    def close(self) -> None:
        """Ask no more."""
        self._keep(lambda address, server: False)


def _askers(addresses: Iterable[str]) -> list[str]:
    """The first few of each family."""
    kept: list[str] = []
    count = Counter[bool]()
    for address in addresses:
        family = ":" in address
        count[family] += 1
        if count[family] <= MAX_ADDRESSES:
            kept.append(address)
    return kept
