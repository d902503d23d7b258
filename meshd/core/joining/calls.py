"""Calls that people paste: whoever made one is answered by one push, and admitted first if it is no member.

The caller brings no token: the person who pastes its text vouches for it, so who it is has to be shown before. What the
caller gives of its own (its subscription and capabilities) is kept as its grant. A member that calls has lost its ways
to the others and only gets a link.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.joining.arrivals import Arrivals
from meshd.core.membership.admitting import Admitting
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.pushing.capabilities import expiries
from meshd.core.pushing.grants import Grants, destination_of
from meshd.core.signaling.signaling import Signaling
from meshd.crypto import p256, vapid
from meshd.crypto.admission import Rights
from meshd.errors import Code, ControlError, MalformedMessage, Rejected
from meshd.ids import CLOCK_SKEW, PeerId, RequestId, Ticket, is_name
from meshd.wire.call import Call, PastedCall, decode_call
from meshd.wire.envelope import MAX_LIFETIME, Letter
from meshd.wire.messages import Offer
from meshd.wire.parts import CapabilityPart
from meshd.wire.session_description import decode as decode_description

# Policy
MAX_RING_LIFETIME = 12 * 3600.0  # seconds from issued to expires of a call without an offer: nothing in it grows stale
MAX_CALLS = 16  # that people wait for at once


@dataclass(slots=True)
class _Waiting:
    """A person waits for the link. ``admits``: the caller becomes a member by it. Monotonic seconds."""

    request: RequestId | None
    admits: bool
    began: float


class Calls:
    """All calls that were pasted here."""

    __slots__ = (
        "_admitting",
        "_arrivals",
        "_ctx",
        "_grants",
        "_membership",
        "_neighbors",
        "_post",
        "_signaling",
        "_waiting",
    )

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        admitting: Admitting,
        neighbors: Neighbors,
        grants: Grants,
        post: Post,
        signaling: Signaling,
        arrivals: Arrivals,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._admitting = admitting
        self._neighbors = neighbors
        self._grants = grants
        self._post = post
        self._signaling = signaling
        self._arrivals = arrivals
        self._waiting: dict[PeerId, _Waiting] = {}

    # -- what was pasted ----------------------------------------------------------------------------------------------

    def answer(self, request: RequestId, text: str, name: str, *, preview: bool) -> None:
        """Answer that call; responds when the link is up. ``name``: to be given to a newcomer in place of its wish.

        ``preview``: only say who it is and what would be done. Raises ControlError and Rejected.
        """
        pasted = decode_call(text)
        try:
            self._check(pasted)
            call = self._with_capabilities(pasted)
        except MalformedMessage as error:
            raise ControlError(Code.PASTE_MANGLED, f"{error}.") from None
        if not self._grants.would_serve(call.grant):
            raise ControlError(
                Code.CALL_UNANSWERABLE, "None of its capabilities holds now: is its clock right, and this one's?"
            )
        is_member = self._membership.is_member(call.caller)
        given = self._name_for(call, name)
        if not is_member:
            self._check_admission(call)
        if preview:
            services = [destination_of(part).origin for part in call.grant.subscriptions]
            self._respond(request, call.caller, not is_member, name=given, services=services)
            return
        link = self._neighbors.current(call.caller)
        if link is not None and link.instance == call.instance:
            self._respond(request, call.caller, False)
            return
        self._go(request, call, given)

    def _check(self, pasted: PastedCall) -> None:
        """Raises ControlError, or MalformedMessage, for what is not to be answered by anybody, or not here."""
        call, now = pasted.call, self._ctx.now.unix
        if not pasted.is_signed(self._ctx.suite):
            raise ControlError(Code.PASTE_MANGLED, "Its signature does not hold.")
        if call.description:
            decode_description(call.description)
        if call.caller == self._ctx.own_id:
            raise ControlError(Code.CALL_FOREIGN, "It is this node's own: paste it on another.")
        if call.mesh not in (b"", self._membership.mesh):
            raise ControlError(Code.CALL_FOREIGN, "It is for a member of another mesh.")
        most = MAX_LIFETIME if call.description else MAX_RING_LIFETIME
        if call.issued > now + CLOCK_SKEW:
            raise ControlError(Code.CLOCK_WRONG, f"The call was made {call.issued - now:+.0f} s from now.")
        if call.expires - call.issued > most:
            wanted = call.expires - call.issued
            raise ControlError(Code.PASTE_MANGLED, f"It is to be good for {wanted:,} s, and none may for {most:,.0f}.")
        if call.expires + CLOCK_SKEW < now or pasted.ends < now:
            raise ControlError(Code.CALL_EXPIRED)
        if self._membership.is_barred(call.caller):
            raise ControlError(Code.REFUSED, "The caller's key has been revoked.")

    def _with_capabilities(self, pasted: PastedCall) -> Call:
        """Where the caller shares its VAPID key with everybody, we sign for ourselves what it would have given."""
        if not pasted.vapid_private:
            return pasted.call
        part = pasted.call.grant.subscriptions[0]
        key = vapid.VapidKey(pasted.vapid_private, p256.uncompress_point(part.vapid_key))
        origin = destination_of(part).origin
        signed = (vapid.issue(key, origin, exp) for exp in expiries(self._ctx.now.unix))
        capabilities = tuple(CapabilityPart(capability.exp, capability.signature) for capability in signed)
        grant = replace(pasted.call.grant, subscriptions=(replace(part, capabilities=capabilities),))
        return replace(pasted.call, grant=grant)

    def _check_admission(self, call: Call) -> None:
        """Whether we could let it in. Raises ControlError."""
        if not self._admitting.may_admit:
            if self._membership.rights & (Rights.INTRODUCE | Rights.ADMIN):
                raise ControlError(Code.REFUSED, "This node was introduced too far from an admin; meet one first.")
            raise ControlError(Code.REFUSED, "An admin has not given this node the right to introduce others.")
        if self._membership.is_full:
            raise ControlError(Code.BUSY, "The mesh has as many members as it may have.")
        if call.mesh:
            raise ControlError(Code.PEER_UNKNOWN, "The caller says that it is a member, and is not known as one here.")

    def _name_for(self, call: Call, name: str) -> str:
        known = self._membership.name_of(call.caller)
        if known is not None:
            return known
        if name and not is_name(name):
            raise ControlError(Code.NAME_INVALID)
        return self._admitting.free_name(name or call.name, call.caller)

    def _respond(
        self,
        request: RequestId,
        peer: PeerId,
        admits: bool,
        *,
        name: str = "",
        services: list[str] | None = None,
        elapsed: float = 0.0,
    ) -> None:
        row = self._membership.row
        self._ctx.respond(
            request,
            peer_id=peer,
            name=name or self._membership.name_of(peer) or "",
            mesh_name=row.mesh_name if row is not None else "",
            admits=admits,
            services=services or [],
            linked=self._neighbors.current(peer) is not None,
            elapsed=elapsed,
        )

    # -- answering ----------------------------------------------------------------------------------------------------

    def _go(self, request: RequestId, call: Call, name: str) -> None:
        """Once, durably. Raises ControlError and Rejected."""
        if len(self._waiting) >= MAX_CALLS and call.caller not in self._waiting:
            raise ControlError(Code.BUSY, f"{MAX_CALLS} calls are being answered.")
        letter = Letter(call.caller, call.session, 0, call.issued, call.expires, b"")
        if self._ctx.store_failing:
            raise ControlError(Code.STORE_FAILED)
        try:
            ticket = self._post.remember(letter)
        except Rejected as rejected:
            raise ControlError(Code.CALL_USED if rejected.reason == "replayed" else Code.BUSY) from None
        self._refuse(call.caller, Code.CALL_USED, "A newer call has taken its place.")
        admits = not self._membership.is_member(call.caller)
        began = self._link_to(call, letter, ticket) if call.mesh else self._call_back(call, name)
        if not began:
            self._take_back(call.caller, admits)
            raise ControlError(Code.BUSY, "There is no room for another link.")
        self._waiting[call.caller] = _Waiting(request, admits, self._ctx.now.mono)
        self._ctx.count("calls_answered")

    def _link_to(self, call: Call, letter: Letter, ticket: Ticket) -> bool:
        """With a member it is as if its offer had come by push; or we make one, if it has none."""
        if not call.description:
            self._grants.on_grant(call.caller, call.grant)
            return self._signaling.dial(call.caller) or self._signaling.with_peer(call.caller) is not None
        offer = Offer(call.description, call.instance, call.grant)
        self._signaling.on_offer(letter, offer, ticket, by_push=True)
        return self._signaling.with_peer(call.caller) is not None

    def _call_back(self, call: Call, name: str) -> bool:
        """One that knows of no mesh is told all that a joiner is told; with its old admission, if it has one here."""
        chain = next((chain for chain in self._membership.chains() if chain[-1].subject == call.caller), None)
        if chain is None or not self._membership.is_member(call.caller):
            chain = self._admitting.chain_for(call.caller, name)
            self._ctx.notify("peer_admitted", peer=call.caller, name=name, introduction=b"")
        self._grants.forget(call.caller)  # whoever comes anew begins anew, whatever it granted in an earlier life
        self._grants.on_grant(call.caller, call.grant)
        ticket = self._ctx.persist(self._membership.remember_admitted(call.caller, chain, call.sealing_key))
        return self._arrivals.call_back(call, chain, ticket)

    # -- what comes of it ---------------------------------------------------------------------------------------------

    def on_neighbor_up(self, peer: PeerId) -> None:
        """There is a link."""
        waiting = self._waiting.pop(peer, None)
        if waiting is not None and waiting.request is not None:
            elapsed = self._ctx.now.mono - waiting.began
            self._respond(waiting.request, peer, waiting.admits, elapsed=elapsed)

    def on_session_failed(self, peer: PeerId, reason: str, why: str) -> None:
        """There will be none of that session; perhaps of another."""
        waiting = self._waiting.get(peer)
        if waiting is None or self._signaling.with_peer(peer) is not None:
            return
        kind, _, detail = reason.partition(": ")
        if kind not in ("push_failed", "no_capability", "no_push_service"):
            self._refuse(
                peer, Code.LINK_FAILED, f"{why} It was answered by push, and may still come. ({reason})".strip()
            )
            return
        self._take_back(peer, waiting.admits)
        code = Code.PUSH_UNAVAILABLE if kind == "no_push_service" else Code.CALL_UNANSWERABLE
        self._refuse(peer, code, f"{detail[:1].upper()}{detail[1:]}." if detail else "")

    def _take_back(self, peer: PeerId, admitted: bool) -> None:
        """It has not been told that it was admitted: so it was not, and its name is free again."""
        if admitted and self._membership.record(peer) is None:
            self._membership.forget_admitted(peer)
            self._grants.forget(peer)

    def _refuse(self, peer: PeerId, code: Code, detail: str) -> None:
        waiting = self._waiting.pop(peer, None)
        if waiting is not None and waiting.request is not None:
            self._ctx.refuse(waiting.request, code, detail)

    def abandon(self, request: RequestId) -> None:
        """Nobody waits any more. The caller is answered all the same."""
        for waiting in self._waiting.values():
            if waiting.request == request:
                waiting.request = None
