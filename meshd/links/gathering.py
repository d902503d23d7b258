"""Gathering (RFC 8445 section 5.1): what the address book has, as candidates of one link.

Of our own rather than aioice's, because that leaves out loopback, asks only the first STUN server, waits 5 s for a
silent one, and binds sockets of each link's own.
"""

from __future__ import annotations

from aioice import Candidate as IceCandidate
from aioice.candidate import candidate_foundation

from meshd.links.addresses import AddressBook, LocalCandidate
from meshd.links.ice import IceConnection
from meshd.links.path import LinkPath
from meshd.wire.session_description import Candidate, candidate_priority


async def gather(connection: IceConnection, book: AddressBook, *, restart: bool = False) -> tuple[Candidate, ...]:
    """Take a path on each address; our candidates in order of preference. ``restart``: another path is gone."""
    if restart:
        book.doubt()
    await book.settled()
    paths: dict[str, LinkPath] = {}
    candidates: list[Candidate] = []
    for local in book.snapshot():
        path = paths.get(local.base) or _path(connection, local)
        if path is None:
            continue
        paths[local.base] = path
        index = len(candidates)
        candidates.append(Candidate(local.kind, local.host, local.port))
        listed = IceCandidate(
            foundation=candidate_foundation(local.kind, "udp", local.base),
            component=1,
            transport="udp",
            priority=candidate_priority(local.kind, index),
            host=local.host,
            port=local.port,
            type=local.kind,
        )
        if local.kind in ("host", "relay"):
            path.local_candidate = listed
        connection.add_local_candidate(listed)
    connection.gathered()
    return tuple(candidates)


def _path(connection: IceConnection, local: LocalCandidate) -> LinkPath | None:
    if local.kind == "srflx":
        return None  # its host candidate has gone
    return connection.add_path(local.base, local.relay)
