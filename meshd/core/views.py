"""What can be seen of a node from outside, in the native values of ``meshd.core.events.Requested``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from meshd.core.context import Context
from meshd.core.graph_view import view_graph
from meshd.core.pushing.capability_views import view_audit, view_capabilities
from meshd.crypto.admission import Rights
from meshd.ids import short
from meshd.wire.record import Record

if TYPE_CHECKING:
    from meshd.core.node import Node


class NodeView(Protocol):
    """What the shell reads of a node. Each is the result of the control method it is named after, without what only
    the shell knows (``version``, ``protocol``, ``started_at``, ``uptime`` of the status; ``traffic`` of a peer).
    """

    @property
    def status(self) -> dict[str, Any]:
        """``node.status``."""

    @property
    def peers(self) -> list[dict[str, Any]]:
        """``peers.list``, by name."""

    def graph(self) -> dict[str, Any]:
        """``mesh.graph``. Raises ControlError without a mesh."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """``messages.list``, oldest first."""

    @property
    def outbox(self) -> list[dict[str, Any]]:
        """``messages.outbox``, oldest first."""

    @property
    def introductions(self) -> list[dict[str, Any]]:
        """``introductions.list``, newest first."""

    @property
    def capabilities(self) -> dict[str, Any]:
        """``capabilities.list``."""

    def audit(self, params: dict[str, Any]) -> dict[str, Any]:
        """``capabilities.audit``, with its parameters. Raises ControlError for an unknown member."""

    @property
    def admins(self) -> list[dict[str, Any]]:
        """``admins.list``, by name."""

    @property
    def revocations(self) -> list[dict[str, Any]]:
        """``revocations.list``, oldest first."""

    @property
    def keys(self) -> dict[str, Any]:
        """``keys.show``, without the certificate of the links."""


class Window:
    """A window on the node: each property reads it when asked, and gives values that do not change afterwards."""

    __slots__ = ("_ctx", "_node")

    def __init__(self, node: Node, ctx: Context) -> None:
        self._node = node
        self._ctx = ctx

    @property
    def status(self) -> dict[str, Any]:
        """``node.status``."""
        return _status(self._node, self._ctx)

    @property
    def peers(self) -> list[dict[str, Any]]:
        """``peers.list``, by name."""
        return [_peer(self._node, self._ctx, record) for record in _sorted(self._node, self._ctx)]

    def graph(self) -> dict[str, Any]:
        """``mesh.graph``."""
        return view_graph(self._node, self._ctx)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """``messages.list``, oldest first."""
        return self._node.inbox.view_messages()

    @property
    def outbox(self) -> list[dict[str, Any]]:
        """``messages.outbox``, oldest first."""
        return self._node.outbox.view_messages()

    @property
    def introductions(self) -> list[dict[str, Any]]:
        """``introductions.list``, newest first."""
        return self._node.introductions.view()

    @property
    def capabilities(self) -> dict[str, Any]:
        """``capabilities.list``."""
        return view_capabilities(self._node)

    def audit(self, params: dict[str, Any]) -> dict[str, Any]:
        """``capabilities.audit``."""
        return view_audit(self._node, self._ctx, params)

    @property
    def admins(self) -> list[dict[str, Any]]:
        """``admins.list``, by name."""
        return self._node.administration.view_admins()

    @property
    def revocations(self) -> list[dict[str, Any]]:
        """``revocations.list``, oldest first."""
        return self._node.administration.view_revocations()

    @property
    def keys(self) -> dict[str, Any]:
        """``keys.show``, without the certificate of the links."""
        return {"peer_id": self._ctx.own_id, **self._node.sealing_keys.view()}


def _status(node: Node, ctx: Context) -> dict[str, Any]:
    row = node.membership.row
    state = "member" if row is not None else "joining" if node.joining.active else node.departures.state
    mesh = None
    warnings: list[str] = list(node.departures.warnings) if state == "revoked" else []
    if row is not None:
        mesh = {"id": row.mesh, "name": row.mesh_name, "admin": bool(node.membership.rights & Rights.ADMIN)}
        warnings.extend(node.twin.warnings)
        warnings.extend(node.outlook.warnings)
        if not (node.channels.receiving or ctx.aside):
            warnings.append("No push service is connected: nobody can join through this node, or call it back.")
        if _is_stranded(node, ctx):
            warnings.append(
                "No link, and nothing left to call any member by push: unless one calls here, carry an offer to one "
                "by hand (meshctl offer NAME)."
            )
    if node.pushing.clock_doubted:
        warnings.append("A push service refuses capabilities that should serve now: is this machine's clock right?")
    if ctx.store_failing:
        warnings.append("The state directory cannot be written; free some space.")
    return {
        "state": state,
        "peer_id": ctx.own_id,
        "short_id": short(ctx.own_id),
        "name": node.membership.name if row is not None else None,
        "mesh": mesh,
        "twin": node.twin.state,
        "links": len(node.neighbors),
        "members": len(node.membership),
        "push": _push(node),
        "inbox": node.inbox.view(),
        "outbox": node.outbox.view(),
        "kept": node.keeping.view(),
        "warnings": warnings,
        "counters": dict(sorted(ctx.counters.items())),
    }


def _is_stranded(node: Node, ctx: Context) -> bool:
    """Whether there are others and no way to find them again of our own."""
    others = [record.peer for record in node.membership if record.peer != ctx.own_id]
    return bool(others) and not node.neighbors.peers() and not any(node.grants.can_push(peer) for peer in others)


def _push(node: Node) -> list[dict[str, Any]]:
    """The push services, with the worse of the last tests of our two user agents there."""
    results = [(agent[0], result) for agent, result in node.self_test.results.items()]
    entries = []
    for entry in node.channels.view():
        tests = [result for service, result in results if service == entry["service"]]
        failed = [result for result in tests if result.outcome != "ok"]
        shown = next(iter(failed or tests), None)
        trip = max((result.delivered or 0.0 for result in tests), default=0.0)
        entries.append(
            {
                **entry,
                "test": None if shown is None else shown.outcome,
                "tested_at": None if shown is None else shown.when,
                "round_trip": trip or None,
            }
        )
    return entries


def _sorted(node: Node, ctx: Context) -> list[Record]:
    return sorted((r for r in node.membership if r.peer != ctx.own_id), key=lambda r: (r.name, r.peer))


def _peer(node: Node, ctx: Context, record: Record) -> dict[str, Any]:
    peer, rights = record.peer, node.membership.rights_of(record)
    link = node.neighbors.current(peer)
    session = node.signaling.with_peer(peer)
    connected = link.connected if link is not None else None
    trouble = node.topology.last_trouble(peer)
    path = None
    if connected is not None:
        path = {
            "kind": connected.local_kind,
            "remote_kind": connected.remote_kind,
            "local": connected.local_address,
            "remote": connected.remote_address,
        }
    via = [] if link is not None else [node.membership.name_of(hop) or short(hop) for hop in node.routing.path(peer)]
    return {
        "peer_id": peer,
        "short_id": short(peer),
        "name": record.name,
        "admin": bool(rights & Rights.ADMIN),
        "may_introduce": bool(rights & (Rights.INTRODUCE | Rights.ADMIN)),
        "link": "up" if link is not None else "connecting" if session is not None else "none",
        "link_id": link.id if link is not None else None,
        "path": path,
        "via": via,
        "reachable": node.routing.next_hop(peer) is not None,
        "rtt": link.pulse.srtt if link is not None else None,
        "loss": link.pulse.loss(ctx.now.mono) if link is not None else None,
        "since": link.up_since if link is not None else None,
        "seen": ctx.now.unix - (ctx.now.mono - link.pulse.heard) if link is not None else None,
        "push_until": node.grants.push_until(peer),
        "version": link.agent if link is not None else None,
        "last_error": trouble.reason if trouble is not None else None,
        "last_error_detail": (trouble.why or None) if trouble is not None else None,
        "last_error_at": trouble.when if trouble is not None else None,
    }
