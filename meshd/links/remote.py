"""The other side's description, as aiortc wants it."""

from __future__ import annotations

import asyncio
import ipaddress

from aioice.ice import unref_mdns_protocol

from meshd.links.gathering import GatheringConfig
from meshd.links.webrtc import RTCIceCandidate, RTCIceTransport
from meshd.wire.session_description import Candidate, SessionDescription, candidate_priority, is_mdns_name


def dtls_role(offerer: bool, remote_setup: str) -> str | None:
    """Our side's DTLS role, ``client`` or ``server`` (RFC 8842 section 5); None if the two setups do not go together.

    Our offers say actpass, our answers active.
    """
    if offerer:
        return {"active": "server", "passive": "client"}.get(remote_setup)
    return None if remote_setup == "active" else "client"


def usable(candidate: Candidate, config: GatheringConfig) -> bool:
    """Whether we send anything there: a description must not make us knock at services of our own machine."""
    if is_mdns_name(candidate.host):
        return True
    address = ipaddress.ip_address(candidate.host)
    if address.is_unspecified or address.is_multicast:
        return False
    return config.allow_loopback or not address.is_loopback


async def add_addresses(
    ice: RTCIceTransport, remote: SessionDescription, config: GatheringConfig
) -> list[RTCIceCandidate]:
    """Give ICE the remote candidates that are addresses, which takes no time; the others are returned."""
    names = []
    for index, candidate in enumerate(remote.candidates):
        if not usable(candidate, config):
            continue
        listed = RTCIceCandidate(
            component=1,
            foundation=str(index + 1),
            ip=candidate.host,
            port=candidate.port,
            priority=candidate_priority(candidate.kind, index),
            protocol=candidate.transport,
            type=candidate.kind,
        )
        if is_mdns_name(candidate.host):
            names.append(listed)
        else:
            await ice.addRemoteCandidate(listed)
    return names


async def add_names(ice: RTCIceTransport, names: list[RTCIceCandidate]) -> None:
    """Give ICE the remaining candidates as multicast DNS resolves them, then say that there are no more.

    Takes a second at most. Not to be cancelled: aioice would lose the socket that all its resolving shares.
    """
    if names:
        # An interface without multicast makes the resolver raise; the other candidates must not suffer.
        await asyncio.gather(*(ice.addRemoteCandidate(name) for name in names), return_exceptions=True)
    await ice.addRemoteCandidate(None)
    if names and ice.state in ("closed", "failed"):
        await unref_mdns_protocol(ice._connection)  # the link was closed before it came to hold the resolver
