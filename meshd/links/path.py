"""One local address of one link, or a relay: what its datagrams leave from."""

from __future__ import annotations

import ipaddress

from aioice import Connection, stun
from aioice import ice as aioice_ice

from meshd.links.checks import CHECK_RETRANSMISSIONS
from meshd.links.demux import Address
from meshd.links.socket import SharedSocket
from meshd.links.turn import RelaySocket


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

    def reaches(self, remote: Address) -> bool:
        """Whether packets from there may get to that address at all: one family, and loopback only to itself."""
        ours, theirs = ipaddress.ip_address(self.address[0]), ipaddress.ip_address(remote[0])
        return ours.version == theirs.version and ours.is_loopback == theirs.is_loopback

    async def request(
        self,
        request: stun.Message,
        addr: Address,
        integrity_key: bytes | None = None,
        retransmissions: int | None = CHECK_RETRANSMISSIONS,
    ) -> tuple[stun.Message, Address]:
        """Ask, and give up after 7.5 s where upstream takes 63. Raises stun.TransactionError."""
        response, source = await super().request(request, addr, integrity_key, retransmissions)
        self.seen_by[addr] = response.attributes.get("XOR-MAPPED-ADDRESS", self.address)
        return response, source

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
