"""Gathering (RFC 8445 section 5.1): which addresses of this machine a link may be reached at.

Of our own rather than aioice's, because that leaves out loopback, asks only the first STUN server, waits 5 s for a
silent one, and binds sockets of each link's own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Protocol

from aioice import Candidate as IceCandidate
from aioice import stun
from aioice.candidate import candidate_foundation
from aioice.ice import get_host_addresses

from meshd.links.ice import IceConnection, LinkPath
from meshd.wire.session_description import MAX_CANDIDATES, Candidate, candidate_priority

# Policy
LOOPBACK_ADDRESS = "127.0.0.1"


class GatheringConfig(Protocol):
    """What gathering reads of ``meshd.config.LinksConfig``."""

    @property
    def allow_loopback(self) -> bool:
        """Whether 127.0.0.1 is offered too."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Use only these local addresses; empty: all."""

    @property
    def stun_servers(self) -> tuple[str, ...]:
        """``host:port`` of each STUN server to ask."""

    @property
    def gather_timeout(self) -> float:
        """Seconds to wait for STUN servers."""


def host_addresses(config: GatheringConfig, found: Sequence[str] | None = None) -> list[str]:
    """The local addresses to bind, loopback last. ``found`` are this machine's; None: look."""
    if found is None:
        found = get_host_addresses(use_ipv4=True, use_ipv6=True)
    addresses = list(dict.fromkeys(a for a in found if not _is_loopback(a)))
    if config.allow_loopback:
        # aioice never offers loopback, and is right about real networks: only the peer's own machine could answer.
        addresses.append(LOOPBACK_ADDRESS)
        addresses += [a for a in config.addresses if a not in addresses and _is_loopback(a)]
    if config.addresses:
        addresses = [a for a in addresses if a in config.addresses]
    return addresses[:MAX_CANDIDATES]


async def gather(connection: IceConnection, config: GatheringConfig) -> tuple[Candidate, ...]:
    """Take a path on each address and ask the STUN servers; our candidates in order of preference."""
    paths = [path for a in host_addresses(config) if (path := connection.add_path(a)) is not None]
    candidates = [Candidate("host", *path.address) for path in paths]
    bases = dict(zip(candidates, paths, strict=True))
    if config.stun_servers and paths:
        for protocol, mapped in await _server_reflexive(paths, config):
            candidate = Candidate("srflx", *mapped)
            if not any((c.host, c.port) == mapped for c in candidates):
                candidates.append(candidate)
                bases[candidate] = protocol
    candidates = candidates[:MAX_CANDIDATES]
    for index, candidate in enumerate(candidates):
        base = bases[candidate]
        listed = IceCandidate(
            foundation=candidate_foundation(candidate.kind, "udp", base.address[0]),
            component=1,
            transport="udp",
            priority=candidate_priority(candidate.kind, index),
            host=candidate.host,
            port=candidate.port,
            type=candidate.kind,
        )
        if candidate.kind == "host":
            base.local_candidate = listed
        connection.add_local_candidate(listed)
    connection.gathered()
    return tuple(candidates)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


async def _server_reflexive(paths: list[LinkPath], config: GatheringConfig) -> list[tuple[LinkPath, tuple[str, int]]]:
    """Ask every server from every IPv4 address; the first answer counts, so that a silent server costs nothing.

    IPv6 is left out: where it is translated at all, host candidates do not work anyway.
    """
    counters = paths[0].receiver.counters

    async def ask(protocol: LinkPath, server: str) -> tuple[str, int] | None:
        host, _, port = server.removeprefix("stun:").rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, int(port), family=socket.AF_INET, type=socket.SOCK_DGRAM)
            address = (str(found[0][4][0]), int(port))
            if _is_loopback(protocol.address[0]) != _is_loopback(address[0]):
                return None  # there is no way between the two
            request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
            response = await protocol.shared.request(request, address, protocol.address[0])
            mapped: tuple[str, int] = response.attributes["XOR-MAPPED-ADDRESS"]
        except (OSError, KeyError, stun.TransactionError):
            counters["stun_server_failed"] += 1
            return None
        return mapped

    async def first_answer(protocol: LinkPath) -> tuple[LinkPath, tuple[str, int]] | None:
        asking = {asyncio.create_task(ask(protocol, server), name="stun-server") for server in config.stun_servers}
        try:
            for answer in asyncio.as_completed(asking):
                if (mapped := await answer) is not None:
                    return protocol, mapped
            return None
        finally:
            for task in asking:
                task.cancel()

    waiting = {asyncio.create_task(first_answer(p), name="server-reflexive") for p in paths if ":" not in p.address[0]}
    try:
        done, silent = await asyncio.wait(waiting, timeout=config.gather_timeout) if waiting else (set(), set())
    finally:
        for task in waiting:
            task.cancel()
    counters["stun_server_silent"] += len(silent)
    return [answer for task in done if (answer := task.result()) is not None]
