"""Revocations on their way through the mesh, and what follows from one that has come.

On each new link both sides name those they have and send what the other lacks; news is passed on at once. Whoever falls
by it is forgotten like one that was never admitted; a chain that holds only because a revocation keeps it is replaced.
"""

from __future__ import annotations

from meshd.core.context import Context
from meshd.core.facts import MemberRevoked, OwnAdmissionRevoked
from meshd.core.membership.first_seen import FirstSeen
from meshd.core.membership.membership import Membership
from meshd.core.membership.revocation_outbox import RevocationOutbox
from meshd.core.membership.revocations import Revocations
from meshd.core.overlay.neighbors import Neighbors
from meshd.crypto.admission import Rights
from meshd.crypto.revocation import Revocation, Scope
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import PeerId, Ticket
from meshd.wire.revoking import Revocations as RevocationsSent
from meshd.wire.revoking import RevocationsKnown

# Policy
REPLACE_DELAY = 5.0  # seconds, give or take a quarter, until who hangs on somebody revoked asks an admin for better


class Revoking:
    """Keeps neighbors' revocations equal to ours, and does what they say."""

    __slots__ = ("_ctx", "_first_seen", "_membership", "_neighbors", "_outbox", "_revocations")

    def __init__(
        self,
        ctx: Context,
        revocations: Revocations,
        membership: Membership,
        neighbors: Neighbors,
        first_seen: FirstSeen,
        outbox: RevocationOutbox,
    ) -> None:
        self._ctx = ctx
        self._revocations = revocations
        self._membership = membership
        self._neighbors = neighbors
        self._first_seen = first_seen
        self._outbox = outbox

    # -- on links -----------------------------------------------------------------------------------------------------

    def greet(self, peer: PeerId) -> None:
        """First thing on a new link, before anything is believed of what follows."""
        self._neighbors.send_to(peer, RevocationsKnown(self._revocations.digests()))

    def on_known(self, peer: PeerId, message: RevocationsKnown) -> None:
        """Send what they lack. Raises MalformedMessage."""
        self._outbox.lacks(peer, self._revocations.beyond(message.digests))

    def on_revocations(self, source: PeerId, message: RevocationsSent) -> None:
        """Take what is new, pass it on, and do as it says. One bad one spoils neither the others nor the link."""
        news: dict[bytes, Revocation] = {}
        for data in message.revocations:
            try:
                taken = self._take(data)
            except MalformedMessage:
                self._ctx.count("revocations_malformed")
                continue
            except Rejected as rejected:
                self._ctx.count("revocations_rejected")
                self._ctx.notify("revocation_rejected", peer=source, reason=rejected.reason)
                continue
            if taken is not None:
                digest, news[digest] = taken
            elif (known := self._revocations.digest_of(data)) is not None:
                self._outbox.has(source, known)
        if news:
            self._go_by(news, but=source)

    def publish(self, data: bytes) -> Ticket | None:
        """One that was made here. Gives the ticket of keeping it. Raises Rejected."""
        taken = self._take(data)
        if taken is not None:
            self._go_by(dict([taken]), but=None)
        return self._revocations.ticket

    def _take(self, data: bytes) -> tuple[bytes, Revocation] | None:
        taken = self._revocations.take(data)
        if taken is None:
            return None
        digest, revocation = taken
        self._first_seen.note_digests([digest])
        self._ctx.count("revocations_taken")
        self._ctx.notify(
            "revoked",
            peer=revocation.subject,
            name=revocation.name,
            scope="member" if revocation.scope is Scope.MEMBER else "admin",
            by="mesh" if revocation.by_mesh_key else "admin",
        )
        return taken

    # -- what follows -------------------------------------------------------------------------------------------------

    def _go_by(self, news: dict[bytes, Revocation], but: PeerId | None) -> None:
        fallen = dict.fromkeys(self._membership.rejudge())
        for revocation in news.values():
            if revocation.scope is Scope.MEMBER and not self._membership.is_member(revocation.subject):
                fallen[revocation.subject] = None
        for peer in self._neighbors.peers():
            if peer == but:
                continue
            if peer in fallen:  # those that it concerns hear of it, too, before their links end
                self._outbox.tell_at_once(peer, [revocation.encoded for revocation in news.values()])
            else:
                self._outbox.tell(peer, list(news))
        fallen.pop(self._ctx.own_id, None)
        for peer in fallen:
            self._ctx.state(MemberRevoked(peer, self._revocations.ticket))
        self.look_at_ourselves()

    def look_at_ourselves(self) -> None:
        """Whether we still are what we were. Also after a start, which may have come between a write and the next."""
        if self._membership.row is None:
            return
        chain = self._membership.chain
        try:
            self._revocations.judge(chain)
        except Rejected as rejected:
            self._ctx.state(OwnAdmissionRevoked(rejected.reason, self._revocations.ticket))
            return
        if chain[-1].rights & Rights.ADMIN and not self._membership.rights & Rights.ADMIN:
            self._step_down()
        elif self._revocations.revoked.leans_on(chain):
            self._ctx.timers.set_at_latest(("renewal", b""), self._ctx.now.mono + self._ctx.jitter(REPLACE_DELAY))

    def _step_down(self) -> None:
        """The mesh key has removed us as an admin: we go on as the member that it has made us."""
        for revocation in reversed(self._revocations.all()):
            if revocation.subject == self._ctx.own_id and revocation.instead is not None:
                try:
                    self._membership.adopt((revocation.instead,))
                except Rejected:
                    continue
                self._ctx.notify("admin_removed", name=revocation.name)
                return
