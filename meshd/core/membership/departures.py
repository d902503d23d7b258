"""Who is no member any more: one that has left, one that has been revoked, or we ourselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshd.core.context import Context
from meshd.core.state import REVOKED_KEY, RevokedRow, Stored, rows
from meshd.ids import PeerId, Ticket

if TYPE_CHECKING:
    from meshd.core.node import Node


class Departures:
    """Has all machines forget what they keep of a member; and of the mesh, where it is us that it has expelled."""

    __slots__ = ("_ctx", "_node", "_row")

    def __init__(self, node: Node, ctx: Context, stored: Stored) -> None:
        self._node = node
        self._ctx = ctx
        self._row = rows(stored, "mesh", RevokedRow).get(REVOKED_KEY)

    def forget(self, peer: PeerId, reason: str = "departed", ticket: Ticket | None = None) -> None:
        """That peer is gone; it hears of ``reason`` once ``ticket`` is durable."""
        node = self._node
        for link in node.neighbors.proved(peer):
            node.neighbors.close(link, reason, ticket)
        node.signaling.forget(peer)
        node.link_states.forget(peer)
        node.topology.forget(peer)
        node.grants.forget(peer)
        node.grant_answers.forget(peer)
        node.subscription_change.take_back(peer, revoked=reason == "revoked")
        node.kept_grants.forget(peer)
        node.keeping.forget(peer)
        node.deposits.forget(peer)

    def on_revoked(self, peer: PeerId, ticket: Ticket | None) -> None:
        """That peer has been revoked, or whoever admitted it: links end at once, what waits for it is dropped."""
        node = self._node
        node.routing.changed()
        node.routing.unlearn(peer)
        self._ctx.timers.set_at_latest(("routes", b""), self._ctx.now.mono)
        self.forget(peer, "revoked", ticket)
        node.outbox.forget_peer(peer)

    def expel(self, reason: str, ticket: Ticket | None) -> None:
        """Forget the mesh; links end once the revocation, and with it the news of it to others, is durable.

        Identity and unread messages stay. Tokens of ours end, and channels are taken back: nobody else shall use them.
        """
        node = self._node
        row = node.membership.row
        if row is None:
            return
        for session in node.signaling.sessions():
            node.signaling.end(session, "revoked")
        self._row = RevokedRow(row.mesh, row.mesh_name, reason, int(self._ctx.now.unix))
        node.neighbors.close_all("revoked", ticket)
        expelled = node.membership.expel(self._row)
        self.take_down(expelled)
        self._ctx.notify("expelled", mesh=row.mesh, reason=reason)

    def take_down(self, ticket: Ticket) -> None:
        """We are in no mesh any more, once ``ticket`` is durable: what belonged to it goes."""
        node = self._node
        node.introductions.forget_all(ticket)
        node.arrivals.forget_all()
        node.bearers.forget_all()
        node.pushing.forget_all()
        node.grants.forget_all()
        node.grant_answers.forget_all()
        node.granting.forget_all()
        node.holders.deactivate(ticket)
        node.kept_grants.forget_all()
        node.keeping.forget_all()
        node.deposits.forget_all()
        node.serving.forget_all()
        node.outbox.forget_all()

    def is_over(self) -> None:
        """We are a member again, of whatever mesh."""
        if self._row is not None:
            self._row = None
            self._ctx.delete("mesh", REVOKED_KEY)

    @property
    def state(self) -> str:
        """Of a node without a mesh, for ``node.status``."""
        return "no_mesh" if self._row is None else "revoked"

    @property
    def warnings(self) -> list[str]:
        """What somebody should do about it, a sentence each."""
        row = self._row
        if row is None:
            return []
        if row.reason == "revoked":
            return [
                f"This node's key has been revoked in the mesh {row.mesh_name}. It can join again only as another: "
                "see 'A laptop was stolen' in docs/operations.md."
            ]
        return [
            f"Whoever admitted this node to the mesh {row.mesh_name} has been revoked, and this node with it. "
            "Join again with a token of another member: meshctl join TOKEN"
        ]
