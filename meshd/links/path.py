"""One local address of one link, or a relay: what its datagrams leave from."""

from __future__ import annotations

import asyncio
import functools
import ipaddress

from aioice import Connection, stun
from aioice import ice as aioice_ice

from meshd.links.checks import CHECK_RETRANSMISSIONS
from meshd.links.demux import Address
from meshd.links.socket import SharedSocket
from meshd.links.turn import RelaySocket

# Policy
MAX_KINDS = 1_024  # addresses; those of all links being tried at one time
ASK_AGAIN_INTERVAL = 0.02  # seconds, Ta: a check sent less long ago may well be answered yet


@functools.lru_cache(MAX_KINDS)
def _kind_of(host: str) -> tuple[int, bool]:
    """Its family, and whether it is loopback. Asked about every candidate of every link at each round of checks."""
    address = ipaddress.ip_address(host)
    return address.version, address.is_loopback


class LinkPath(aioice_ice.StunProtocol):
    """One local address of a link, on a socket that all links share: what aioice takes for a socket of its own.

    ``name`` is that address, or the relay's name.
    """

    def __init__(
        self, connection: Connection, shared: SharedSocket | RelaySocket, name: str, relay: RelaySocket | None = None
    ) -> None:
        super().__init__(connection)
        self.transactions = shared.transactions  # responses are found by their transaction id alone
        self.name = name
        self.address: Address = (relay.address if relay else name, shared.port)
        self.shared = shared
        self.is_relay = relay is not None
        self.seen_by: dict[Address, Address] = {}  # what we look like to each remote address that has answered
        self._asking: dict[Address, tuple[stun.Message, float]] = {}  # what awaits an answer, and when it was last sent

    def reaches(self, remote: Address) -> bool:
        """Whether packets from there may get to that address at all: one family, and loopback only to itself."""
        return _kind_of(self.address[0]) == _kind_of(remote[0])

    async def request(
        self,
        request: stun.Message,
        addr: Address,
        integrity_key: bytes | None = None,
        retransmissions: int | None = CHECK_RETRANSMISSIONS,
    ) -> tuple[stun.Message, Address]:
        """Ask, and give up after 7.5 s where upstream takes 63. Raises stun.TransactionError."""
        self._asking[addr] = request, asyncio.get_running_loop().time()
        try:
            response, source = await super().request(request, addr, integrity_key, retransmissions)
        finally:
            if addr in self._asking and self._asking[addr][0] is request:
                del self._asking[addr]
        self.seen_by[addr] = response.attributes.get("XOR-MAPPED-ADDRESS", self.address)
        return response, source

    def ask_again(self, addr: Address) -> None:
        """Send what awaits an answer from there once more: something has come from there (RFC 8445 section 7.3.1.4).

        The first checks to a peer behind a router are lost until it sends some of its own. Upstream goes on waiting for
        its timer then, up to 4 s.
        """
        asking = self._asking.get(addr)
        now = asyncio.get_running_loop().time()
        if asking is not None and now - asking[1] >= ASK_AGAIN_INTERVAL:
            self._asking[addr] = asking[0], now
            self.send_stun(asking[0], addr)

    def send_stun(self, message: stun.Message, addr: Address) -> None:
        """Send a STUN message. Nothing here can fail: retransmissions come due after the end, too."""
        self.shared.send(bytes(message), addr, self.address[0])

    def send(self, datagram: bytes, remote: Address) -> bool:
        """Send one datagram. False: there is no way there."""
        return self.shared.send(datagram, remote, self.address[0])

    def send_batch(self, batch: bytes, size: int, addr: Address) -> bool:
        """Send datagrams of ``size`` bytes, the last one perhaps shorter. False: there is no way there."""
        return self.shared.send_batch(batch, size, addr, self.address[0])

    async def close(self) -> None:
        """The socket stays: it is everybody's."""
