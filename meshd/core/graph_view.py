"""The whole mesh as this node knows it, for ``mesh.graph``.

What it knows of links between others comes from ``_listed`` and ``_way`` alone.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from meshd.core.context import Context
from meshd.core.overlay.neighbors import Link
from meshd.crypto.admission import Rights
from meshd.errors import Code, ControlError
from meshd.ids import PREFIX_SIZE, PeerId, short
from meshd.wire.record import KEEPS, RELAYS, Record

if TYPE_CHECKING:
    from meshd.core.node import Node


def view_graph(node: Node, ctx: Context) -> dict[str, Any]:
    """``mesh.graph``. Raises ControlError without a mesh."""
    row = node.membership.row
    if row is None:
        raise ControlError(Code.NO_MESH)
    records = sorted(node.membership, key=lambda record: (record.name, record.peer))
    place = {record.peer: number for number, record in enumerate(records)}
    links, claims = _edges(node, ctx, records)
    return {
        "mesh_id": row.mesh,
        "mesh_name": row.mesh_name,
        "time": ctx.now.unix,
        "members": [_member(node, ctx, record, place) for record in records],
        "links": links,
        "claims": claims,
    }


def _listed(node: Node, ctx: Context, record: Record) -> tuple[bytes, ...]:
    """The id prefixes of those that a member says it is linked to; of ourselves we know."""
    if record.peer == ctx.own_id:
        return tuple(peer[:PREFIX_SIZE] for peer in node.neighbors.peers())
    state = node.link_states.of(record.peer[:PREFIX_SIZE])
    return () if state is None or record.expires <= ctx.now.unix else state.neighbors


def _way(node: Node, peer: PeerId) -> tuple[int | None, PeerId | None]:
    """How many links there are to that member, and the last relay before it."""
    path = node.routing.path(peer)
    return node.routing.hops(peer), path[-1] if path else None


def _edges(node: Node, ctx: Context, records: list[Record]) -> tuple[list[list[int]], list[list[int]]]:
    """Links, and what only one end says, by places in ``records``. Our own links need nobody's word but ours."""
    place = {record.peer[:PREFIX_SIZE]: number for number, record in enumerate(records)}
    said = [
        {place[prefix] for prefix in _listed(node, ctx, record) if prefix in place and place[prefix] != number}
        for number, record in enumerate(records)
    ]
    own = place.get(ctx.own_id[:PREFIX_SIZE], -1)
    links, claims = [], []
    for one, others in enumerate(said):
        for other in sorted(others):
            both = one in said[other]
            if (both and one < other) or (not both and one == own):
                links.append([one, other])
            elif not both:
                claims.append([one, other])
    return links, claims


def _member(node: Node, ctx: Context, record: Record, place: dict[PeerId, int]) -> dict[str, Any]:
    peer = record.peer
    link = node.neighbors.current(peer)
    hops, before = (0, None) if peer == ctx.own_id else _way(node, peer)
    known = "unreachable" if hops is None else "reachable"
    return {
        "peer_id": peer,
        "short_id": short(peer),
        "name": record.name,
        "state": "self" if peer == ctx.own_id else "neighbor" if link is not None else known,
        "hops": hops,
        "before": None if before is None else place.get(before),
        "since": None if link is None else link.up_since,
        "record_at": record.issued,
        "admin": bool(node.membership.rights_of(record) & Rights.ADMIN),
        "relays": bool(record.flags & RELAYS),
        "keeps": bool(record.features & KEEPS),
        "version": None if link is None else link.agent,
        "link": None if link is None else _link(link, ctx),
    }


def _link(link: Link, ctx: Context) -> dict[str, Any] | None:
    connected = link.connected
    if connected is None:
        return None
    return {
        "kind": connected.local_kind,
        "remote_kind": connected.remote_kind,
        "family": _family(connected.local_address),
        "rtt": link.pulse.srtt,
        "loss": link.pulse.loss(ctx.now.mono),
    }


def _family(address: str) -> str | None:
    """Of a text like ``192.0.2.1:4000`` or ``[2001:db8::1]:4000``."""
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        return f"ipv{ipaddress.ip_address(host).version}"
    except ValueError:
        return None
