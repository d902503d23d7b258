"""Requests of the control socket, each to the machine it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshd.core.context import Context
from meshd.core.delivery.outbox import ACKNOWLEDGED, QUEUED
from meshd.core.joining.newcomer import refuse_member
from meshd.core.membership.lookup import find_member
from meshd.errors import Code, ControlError, LocalMisuse, Rejected
from meshd.ids import PeerId, RequestId, Ticket
from meshd.wire.messages import Records

if TYPE_CHECKING:
    from meshd.core.node import Node

# Policy
DEFAULT_JOIN_TIMEOUT = 120.0  # seconds
DEFAULT_TIMEOUT = 10.0  # seconds


class Requests:
    """The door for everything that people and programs on this machine ask for."""

    __slots__ = ("_ctx", "_leaving", "_node")

    def __init__(self, node: Node, ctx: Context) -> None:
        self._node = node
        self._ctx = ctx
        self._leaving: Ticket | None = None

    def on_request(self, request: RequestId, method: str, params: dict[str, Any]) -> None:
        """Do it, or refuse it. Raises LocalMisuse for a method that does not come here."""
        try:
            self._dispatch(request, method, params)
        except ControlError as error:
            self._ctx.refuse(request, error.code, error.detail)
        except Rejected as rejected:
            self._ctx.refuse(request, Code.REFUSED, str(rejected))

    def _dispatch(self, request: RequestId, method: str, params: dict[str, Any]) -> None:
        node = self._node
        in_mesh = node.membership.row is not None
        match method:
            case "messages.read":
                node.inbox.read(request, params["message_ids"])
            case "mesh.join" | "links.offer" if in_mesh and params.get("token"):
                refuse_member(params["token"], node.membership.mesh, self._ctx.own_id, self._ctx.now.unix)
            case "keys.rotate":
                renews_push = in_mesh and params.get("push") is not False and bool(node.channels.services)
                node.sealing_keys.ask(
                    request, lambda: node.subscription_change.renew_all("asked") if renews_push else 0
                )
            case "streams.wait":
                node.stream_book.wait(request, params["stream"])
            case "links.offer" if in_mesh:
                self._dispatch_as_member(request, method, params)
            case "mesh.found" | "mesh.join" | "links.offer" if in_mesh or node.joining.active:
                raise ControlError(Code.IN_MESH if in_mesh else Code.BUSY, "" if in_mesh else "A join is under way.")
            case "mesh.found" | "mesh.join" | "links.offer" if self._ctx.is_pending(self._leaving):
                raise ControlError(Code.BUSY, "The node is just leaving its mesh.")
            case "links.offer" if params.get("token"):
                name = params.get("name") or self._ctx.config.node.name
                node.joining.offer(request, params["token"], name)
            case "links.accept" if params.get("text"):
                node.pasting.accept(request, params["text"])
            case "mesh.found":
                name = params.get("name") or self._ctx.config.node.name
                node.joining.withdraw()
                node.admissions.found(request, params["mesh_name"], name, params["mesh_key"])
            case "mesh.join":
                name = params.get("name") or self._ctx.config.node.name
                node.joining.begin(request, params["token"], name, params.get("timeout") or DEFAULT_JOIN_TIMEOUT)
            case _ if not in_mesh:
                raise ControlError(Code.NO_MESH)
            case _:
                self._dispatch_as_member(request, method, params)

    def _dispatch_as_member(self, request: RequestId, method: str, params: dict[str, Any]) -> None:
        node = self._node
        match method:
            case "messages.send":
                peer = find_member(node.membership, params["peer"])
                wanted = params.get("until") or ACKNOWLEDGED
                if params.get("wait") is False:
                    wanted = QUEUED
                node.outbox.submit(
                    request,
                    peer,
                    params.get("application") or "message",
                    params["body"],
                    wanted,
                    params.get("timeout") or DEFAULT_TIMEOUT,
                )
            case "peers.ping":
                peer = find_member(node.membership, params["peer"])
                node.pinging.begin(request, peer, params.get("timeout") or DEFAULT_TIMEOUT)
            case "peers.trace":
                peer = find_member(node.membership, params["peer"])
                node.tracing.begin(request, peer, params.get("probes") or 1, params.get("timeout") or DEFAULT_TIMEOUT)
            case "streams.open":
                self._open_stream(request, find_member(node.membership, params["peer"]), params)
            case "streams.accept":
                whose = params.get("peer")
                peer_wanted = None if whose is None else find_member(node.membership, whose)
                node.stream_book.accept(
                    request, params["application"], peer_wanted, params["descriptor"], params.get("timeout")
                )
            case "links.offer":
                node.pasting.offer(request, find_member(node.membership, self._peer(params)))
            case "links.answer" if params.get("text"):
                node.pasting.answer(request, params["text"])
            case "links.answer" | "links.accept":
                if not params.get("sdp"):
                    raise ControlError(Code.INVALID_PARAMS, "Either text or sdp has to be there.")
                peer = find_member(node.membership, self._peer(params))
                take = node.pasting.answer_sdp if method == "links.answer" else node.pasting.accept_sdp
                take(request, params["sdp"], peer)
            case "calls.answer":
                node.calls.answer(
                    request, params["text"], params.get("name") or "", preview=bool(params.get("preview"))
                )
            case "push.test":
                node.self_test.ask(request)
            case "push.renew":
                wanted = params.get("peer")
                node.subscription_change.ask(request, None if wanted is None else find_member(node.membership, wanted))
            case "introductions.mint":
                lifetime = params.get("lifetime") or self._ctx.config.introductions.lifetime
                by_hand, uses, label = bool(params.get("by_hand")), params.get("uses") or 1, params.get("label") or ""
                node.introductions.mint(request, lifetime, uses, label, by_hand=by_hand)
            case "introductions.revoke":
                node.introductions.revoke(request, params["introduction_id"])
            case "node.rename":
                peer_text = params.get("peer")
                if peer_text is None or find_member(node.membership, peer_text) == self._ctx.own_id:
                    node.admissions.rename(request, params["name"])
                else:
                    peer = find_member(node.membership, peer_text)
                    node.admissions.rename_other(request, peer, params["name"])
            case "mesh.leave":
                self._leave(request)
            case "members.revoke" | "admins.appoint" | "admins.remove":
                node.administration.on_request(request, method, params)
            case _:
                raise LocalMisuse(f"no method of the core: {method}")

    def _open_stream(self, request: RequestId, peer: PeerId, params: dict[str, Any]) -> None:
        """Over the link, if there is one; else over others."""
        node = self._node
        timeout = params.get("timeout") or DEFAULT_TIMEOUT
        about = (params["application"], params.get("parameters") or b"", params["descriptor"], timeout)
        link = node.neighbors.current(peer)
        if peer == self._ctx.own_id:
            raise ControlError(Code.REFUSED, "That is this node itself.")
        if link is None:
            node.relayed_streams.open(request, peer, *about)
        else:
            node.streams.open(request, link, *about)

    @staticmethod
    def _peer(params: dict[str, Any]) -> str:
        """Whom it is for; an SDP says nothing about that."""
        if not params.get("peer"):
            raise ControlError(Code.INVALID_PARAMS, "Say which member is at the other end (peer), or give a token.")
        return str(params["peer"])

    def _leave(self, request: RequestId) -> None:
        """Forget the mesh, then say goodbye to all. Identity and unread messages stay.

        In this order: whom the others believe gone, and who believes itself a member, would never meet again.
        """
        node = self._node
        mesh = node.membership.mesh
        for session in node.signaling.sessions():
            node.signaling.end(session, "leaving")
        farewell, ticket = node.membership.leave()
        self._leaving = ticket
        for peer in node.neighbors.peers():
            node.neighbors.send_to(peer, Records((farewell.encoded,)), ticket=ticket)
        node.neighbors.close_all("leaving", ticket)
        node.departures.take_down(ticket)
        self._ctx.notify("left", mesh=mesh)
        self._ctx.respond_after(ticket, request, mesh_id=mesh)

    def on_abandoned(self, request: RequestId) -> None:
        """Nobody waits for the answer any more."""
        self._node.joining.abandon(request)
        self._node.outbox.abandon(request)
        self._node.pinging.abandon(request)
        self._node.tracing.abandon(request)
        self._node.admissions.abandon(request)
        self._node.administration.abandon(request)
        self._node.stream_book.abandon(request)
        self._node.streams.abandon(request)
        self._node.relayed_streams.abandon(request)
        self._node.pasting.abandon(request)
        self._node.calls.abandon(request)
        self._node.self_test.abandon(request)
