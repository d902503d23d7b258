"""The other side's description, as ICE and DTLS want it."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from typing import Protocol

from aioice import Candidate as IceCandidate

from meshd.links.demux import Address
from meshd.links.ice import IceConnection
from meshd.links.mobility import Path
from meshd.links.names import NameResolver
from meshd.wire.session_description import Candidate, SessionDescription, candidate_priority, is_mdns_name

# Policy
NO_FOREIGN_RELAYS = ("none", "mesh")  # values of links.ice with which no packet goes to a server outside the mesh


class RemoteConfig(Protocol):
    """What this file reads of ``meshd.config.LinksConfig``."""

    @property
    def allow_loopback(self) -> bool:
        """Whether loopback addresses may be tried."""

    @property
    def ice(self) -> str:
        """``none``, ``mesh``, ``stun``, ``turn`` or ``relay_only``."""


def dtls_role(offerer: bool, remote_setup: str) -> str | None:
    """Our side's DTLS role, ``client`` or ``server`` (RFC 8842 section 5); None if the two setups do not go together.

    Our offers say actpass, our answers active.
    """
    if offerer:
        return {"active": "server", "passive": "client"}.get(remote_setup)
    return None if remote_setup == "active" else "client"


def usable(candidate: Candidate, config: RemoteConfig) -> bool:
    """Whether we send anything there: a description must not make us knock at services of our own machine.

    A relay candidate is an address of somebody's server, which is for those who allow servers of others.
    """
    if candidate.kind == "relay" and config.ice in NO_FOREIGN_RELAYS:
        return False
    if is_mdns_name(candidate.host):
        return config.ice != "relay_only"  # no relay resolves it, and to resolve it ourselves would show us
    address = ipaddress.ip_address(candidate.host)
    if address.is_unspecified or address.is_multicast:
        return False
    return config.allow_loopback or not address.is_loopback


class ForeignRelays:
    """Where a peer's TURN servers are, which get nothing from us, not even answers: they pass the peer's checks on.

    A server may give the peer another port later, so its whole address counts, unless the peer itself is there, too.
    A relay that no description names looks like any other address.
    """

    def __init__(self, remote: SessionDescription) -> None:
        relays = [candidate for candidate in remote.candidates if candidate.kind == "relay"]
        self._addresses = {(candidate.host, candidate.port) for candidate in relays}
        self._hosts = {c.host for c in relays} - {c.host for c in remote.candidates if c.kind != "relay"}

    def __call__(self, address: Address) -> bool:
        """Whether nothing goes to that address."""
        return address in self._addresses or address[0] in self._hosts


def add_addresses(connection: IceConnection, remote: SessionDescription, config: RemoteConfig) -> list[IceCandidate]:
    """Give ICE the remote candidates that are addresses; those that are names are returned."""
    if config.ice in NO_FOREIGN_RELAYS:
        connection.is_outside = ForeignRelays(remote)
    names = []
    for index, candidate in enumerate(remote.candidates):
        if not usable(candidate, config):
            continue
        listed = IceCandidate(
            component=1,
            foundation=str(index + 1),
            transport=candidate.transport,
            priority=candidate_priority(candidate.kind, index),
            host=candidate.host,
            port=candidate.port,
            type=candidate.kind,
        )
        if is_mdns_name(candidate.host):
            names.append(listed)
        else:
            connection.add_remote(listed, candidate.host)
    if not names:
        connection.end_of_remotes()
    return names


def may_turn_to_ipv6(paths: Iterable[Path], remotes: Iterable[Address]) -> bool:
    """Whether a link over IPv4 may be led over IPv6 later, by what both sides have named.

    There nobody makes fragments of a chunk that was cut for more than the new path carries, and SCTP cuts none again:
    one that is under way when the path changes would be lost for ever if no router says what fits.
    """
    ours = list(paths)
    return any(":" in remote[0] and any(path.reaches(remote) for path in ours) for remote in remotes)


async def add_names(connection: IceConnection, names: list[IceCandidate], resolver: NameResolver) -> None:
    """Give ICE the remaining candidates as multicast DNS resolves them, then say that there are no more.

    Takes a second at most, and may be cancelled.
    """

    async def add(name: IceCandidate) -> None:
        address = await resolver.resolve(name.host)
        if address is not None:
            connection.add_remote(name, address)

    await asyncio.gather(*(add(name) for name in names))
    connection.end_of_remotes()
