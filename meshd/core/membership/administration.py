"""Revoking members, appointing and removing admins: as the people of this machine ask for it.

The mesh key, where one is given, signs and is forgotten.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.membership.admissions import ADMIN_LIFETIME, ADMIN_TIMEOUT
from meshd.core.membership.admitting import MEMBER_LIFETIME
from meshd.core.membership.first_seen import FirstSeen
from meshd.core.membership.lookup import find_key, find_member
from meshd.core.membership.membership import Membership
from meshd.core.membership.revocations import MAX_OF_ONE_ADMIN, MAX_REVOCATIONS, Revocations
from meshd.core.membership.revoking import Revoking
from meshd.crypto.admission import Certificate, Chain, Rights, Sign, digest, issue
from meshd.crypto.revocation import MAX_KEPT, MAX_LIFETIME, Scope, revoke
from meshd.errors import Code, ControlError
from meshd.ids import CLOCK_SKEW, PREFIX_SIZE, PeerId, RequestId, Ticket, short
from meshd.wire.messages import AdmissionIssued
from meshd.wire.record import Record

# Policy
RETENTION_SLACK = 31 * 86400  # seconds a revocation outlives all that it could concern


@dataclass(frozen=True, slots=True)
class _Statement:
    """A certificate that somebody has signed: its digest, its date (0: not known here), when it was seen (or dated)."""

    digest: bytes
    issued: int
    when: float


@dataclass(slots=True)
class _Plan:
    """What a revocation would do to those whom its subject has admitted, directly or not."""

    void_from: int
    digests: set[bytes] = field(default_factory=set)
    kept: list[PeerId] = field(default_factory=list)
    fallen: list[PeerId] = field(default_factory=list)

    def keep(self, digest: bytes, issued: int) -> None:
        """That stays good, also where it was signed by a clock ahead of ours."""
        self.digests.add(digest)
        self.void_from = max(self.void_from, issued)


class Administration:
    """What admins, and whoever has the mesh key, do."""

    __slots__ = ("_ctx", "_first_seen", "_membership", "_post", "_revocations", "_revoking", "_waiting")

    def __init__(
        self,
        ctx: Context,
        revocations: Revocations,
        revoking: Revoking,
        membership: Membership,
        first_seen: FirstSeen,
        post: Post,
    ) -> None:
        self._ctx = ctx
        self._revocations = revocations
        self._revoking = revoking
        self._membership = membership
        self._first_seen = first_seen
        self._post = post
        self._waiting: dict[PeerId, RequestId] = {}  # appointed, but has not said so yet: who waits for it

    def on_request(self, request: RequestId, method: str, params: dict[str, Any]) -> None:
        """``members.revoke``, ``admins.appoint``, ``admins.remove``. Raises ControlError and Rejected."""
        sign = self._mesh_key(params.get("mesh_key"))
        if self._ctx.store_failing:
            raise ControlError(Code.STORE_FAILED)
        if method == "members.revoke":
            self._revoke(request, params, sign)
        elif sign is None:
            raise ControlError(Code.INVALID_PARAMS, "Only the mesh key appoints and removes admins.")
        elif method == "admins.appoint":
            self._appoint(request, find_member(self._membership, params["peer"]), sign)
        else:
            self._remove(request, find_member(self._membership, params["peer"]), sign)

    def _mesh_key(self, seed: bytes | None) -> Sign | None:
        """Signs with the mesh key; None if none was given. Raises ControlError for another key."""
        if seed is None:
            return None
        if self._ctx.suite.identity_of(seed) != self._membership.mesh:
            raise ControlError(Code.MESH_KEY_WRONG, f"This node is in the mesh {self._mesh_name()}.")
        return lambda message: self._ctx.suite.sign_with(seed, message)

    def _mesh_name(self) -> str:
        row = self._membership.row
        return "" if row is None else row.mesh_name

    # -- revoking -----------------------------------------------------------------------------------------------------

    def _revoke(self, request: RequestId, params: dict[str, Any], sign: Sign | None) -> None:
        subject = find_key(self._membership, params["peer"])
        record = self._membership.record(subject)
        is_admin = record is not None and bool(self._membership.rights_of(record) & Rights.ADMIN)
        if subject == self._ctx.own_id:
            raise ControlError(Code.REFUSED, "That is this node itself. Revoke it from another, or: meshctl leave")
        if sign is None and not self._membership.rights & Rights.ADMIN:
            raise ControlError(Code.REFUSED, "Only an admin revokes members, or whoever has the mesh key.")
        if sign is None and is_admin:
            raise ControlError(Code.REFUSED, "Only the mesh key revokes an admin: --mesh-key FILE")
        since = 0.0 if params.get("all") else self._since(params.get("since"))
        plan = self._plan(subject, since)
        name = self._membership.name_of(subject) or ""
        known_since = self._known_since()
        kept, fallen = ([self._described(peer, known_since) for peer in peers] for peers in (plan.kept, plan.fallen))
        ticket = None
        if not params.get("preview"):
            expires = self._concerned_until(subject, record)
            ticket = self._publish(subject, Scope.MEMBER, name, plan, expires, sign)
        self._ctx.respond_after(
            ticket,
            request,
            peer_id=subject,
            name=name,
            admin=is_admin,
            member=record is not None or bool(name),
            done=ticket is not None,
            kept=kept,
            fallen=fallen,
        )

    def _since(self, wanted: float | None) -> float:
        if wanted is not None and wanted > self._ctx.now.unix + CLOCK_SKEW:
            raise ControlError(Code.INVALID_PARAMS, "`since` lies in the future.")
        return math.inf if wanted is None else wanted

    def _plan(self, subject: PeerId, since: float = math.inf) -> _Plan:
        """Who hangs on that key: kept if all that it signed for them was known here at ``since``; 0: nobody is.

        What it has revoked, if it is an admin, and its own new names are kept by that rule, too.
        """
        plan = _Plan(int(self._ctx.now.unix if since == math.inf else since))
        for key, revocation in self._revocations.signed_by(subject):
            if max(float(revocation.issued), self._first_seen.of_digest(key)) <= since:
                plan.keep(key, revocation.issued)
        for chain in self._membership.chains():
            signed = self._signed_for(chain, subject)
            good = [each for each in signed if each.when <= since]
            for each in good:
                plan.keep(each.digest, each.issued)
            if signed and chain[-1].subject != subject:
                (plan.kept if good == signed else plan.fallen).append(chain[-1].subject)
        plan.kept = list(dict.fromkeys(plan.kept))
        plan.fallen = [peer for peer in dict.fromkeys(plan.fallen) if peer not in plan.kept]
        if self._ctx.own_id in plan.fallen:
            raise ControlError(Code.REFUSED, "This node itself would fall with it. Appoint it an admin before.")
        if len(plan.digests) > MAX_KEPT:
            raise ControlError(
                Code.TOO_LARGE,
                f"{len(plan.digests)} admissions would be kept, and {MAX_KEPT} can be: keep fewer (meshctl revoke "
                "--since), or none (--all).",
            )
        return plan

    def _signed_for(self, chain: Chain, issuer: PeerId) -> list[_Statement]:
        """What that key has signed in a chain, or that the chain rests on since somebody else has renewed it."""
        mesh = self._membership.mesh
        signed = [below for above, below in pairwise(chain) if above.subject == issuer]
        found = [_Statement(digest(each, mesh), each.issued, self._first_seen.when(each)) for each in signed]
        grounds = [ground for certificate in chain for ground in certificate.grounds]
        rested_on = [ground.digest for ground in grounds if ground.issuer == issuer[:PREFIX_SIZE]]
        return found + [_Statement(each, 0, self._first_seen.of_digest(each)) for each in rested_on]

    def _concerned_until(self, subject: PeerId, record: Record | None) -> int:
        """When all that the key was given, or may still be given by admins that have not heard, has expired."""
        now = int(self._ctx.now.unix)
        if record is None:  # it may have been anything
            return now + ADMIN_LIFETIME
        return max(now + MEMBER_LIFETIME, *(certificate.expires for certificate in self._held_by(subject)))

    def _publish(
        self,
        subject: PeerId,
        scope: Scope,
        name: str,
        plan: _Plan,
        until: int,
        sign: Sign | None,
        instead: Certificate | None = None,
    ) -> Ticket | None:
        """Make the revocation, and go by it. Raises ControlError and Rejected."""
        mesh, now = self._membership.mesh, int(self._ctx.now.unix)
        authority = None if sign is not None else self._authority()
        issuer: bytes = mesh if authority is None else self._ctx.own_id
        if not self._revocations.has_room(issuer):
            most = MAX_REVOCATIONS if authority is None else MAX_OF_ONE_ADMIN
            raise ControlError(Code.BUSY, f"{most} revocations of one issuer are kept; old ones expire by themselves.")
        until = min(until + RETENTION_SLACK, now + MAX_LIFETIME)
        revocation = revoke(
            sign or self._ctx.suite.sign,
            mesh,
            issuer,
            subject=subject,
            scope=scope,
            name=name,
            issued=self._later_than_its_own(subject, now),
            expires=until if authority is None else min(until, authority.expires),
            void_from=plan.void_from,
            kept=plan.digests,
            authority=authority,
            instead=instead,
        )
        return self._revoking.publish(revocation.encoded)

    def _later_than_its_own(self, subject: PeerId, now: int) -> int:
        """Not before what the mesh key has said of the subject, which would be taken for its pardon."""
        roots = [chain[0] for chain in self._membership.chains()]
        return max(now, *(root.issued for root in roots if root.subject == subject), 0)

    def _authority(self) -> Certificate:
        """The mesh key's certificate that makes us an admin."""
        return self._membership.chain[0]

    def _known_since(self) -> dict[PeerId, float]:
        """When what each member is admitted by was first seen here, or was dated."""
        found: dict[PeerId, float] = {}
        for chain in self._membership.chains():
            subject, when = chain[-1].subject, self._first_seen.when(chain[-1])
            found[subject] = max(when, found.get(subject, when))
        return found

    def _described(self, peer: PeerId, known_since: dict[PeerId, float]) -> dict[str, Any]:
        """One that hangs on a key that is to be revoked."""
        name = self._membership.name_of(peer) or short(peer)
        return {"peer_id": peer, "name": name, "known_since": known_since[peer]}

    def _held_by(self, peer: PeerId) -> list[Certificate]:
        """What that peer is admitted by: one certificate, or two until it has taken the newer one."""
        return [chain[-1] for chain in self._membership.chains() if chain[-1].subject == peer]

    # -- admins -------------------------------------------------------------------------------------------------------

    def _certificate(self, sign: Sign, peer: PeerId, rights: Rights, lifetime: int, after: int = 0) -> Certificate:
        """Of the mesh key's own hand, and later than ``after`` (Unix seconds) and than all that was said of that peer.

        It would not take an older one than it has, which a clock ahead of ours may have dated.
        """
        said = [revocation.issued for revocation in self._revocations.revoked.concerning(peer)]
        held = [certificate.issued for certificate in self._held_by(peer)]
        issued = max(int(self._ctx.now.unix), *held, *(moment + 1 for moment in (*said, after)))
        return issue(
            sign,
            self._membership.mesh,
            self._membership.mesh,
            subject=peer,
            name=self._membership.name_of(peer) or "peer",
            rights=rights,
            issued=issued,
            expires=issued + lifetime,
        )

    def _appoint(self, request: RequestId, peer: PeerId, sign: Sign) -> None:
        """Make a member an admin: done when its record says so."""
        certificate = self._certificate(sign, peer, Rights.ADMIN | Rights.INTRODUCE, ADMIN_LIFETIME)
        if peer == self._ctx.own_id:
            ticket = self._membership.adopt((certificate,))
            self._ctx.notify("admin_appointed", peer=peer, name=certificate.name)
            self._ctx.respond_after(ticket, request, peer_id=peer, name=certificate.name)
            return
        if not self._post.send(peer, AdmissionIssued(0, (certificate.encoded,))):
            raise ControlError(Code.PEER_UNREACHABLE, "It has to be there to be appointed.")
        self._abandon(peer)
        self._waiting[peer] = request
        self._ctx.timer("appointing", peer, ADMIN_TIMEOUT)
        self._ctx.notify("admin_appointed", peer=peer, name=certificate.name)

    def on_record(self, record: Record) -> None:
        """One that was appointed here has taken it."""
        if record.peer in self._waiting and self._membership.rights_of(record) & Rights.ADMIN:
            self._ctx.cancel_timer("appointing", record.peer)
            self._ctx.respond(self._waiting.pop(record.peer), peer_id=record.peer, name=record.name)

    def on_timeout(self, about: bytes) -> None:
        """It has not said so in time."""
        self._abandon(PeerId(about))

    def _abandon(self, peer: PeerId) -> None:
        request = self._waiting.pop(peer, None)
        if request is not None:
            self._ctx.refuse(request, Code.PEER_UNREACHABLE, "It may still become an admin.")

    def abandon(self, request: RequestId) -> None:
        """Nobody waits any more."""
        for peer in [peer for peer, waiting in self._waiting.items() if waiting == request]:
            del self._waiting[peer]
            self._ctx.cancel_timer("appointing", peer)

    def _remove(self, request: RequestId, peer: PeerId, sign: Sign) -> None:
        """Take an admin's rights; it stays a member, and what it has admitted and revoked so far stays as it is."""
        record = self._membership.record(peer)
        if record is None or not self._membership.rights_of(record) & Rights.ADMIN:
            raise ControlError(Code.REFUSED, f"{self._membership.name_of(peer)} is no admin.")
        plan = self._plan(peer)
        revoked_at = self._later_than_its_own(peer, int(self._ctx.now.unix))
        instead = self._certificate(sign, peer, Rights.INTRODUCE, MEMBER_LIFETIME, after=revoked_at)
        ticket = self._publish(peer, Scope.ADMIN, record.name, plan, record.chain[0].expires, sign, instead)
        self._ctx.respond_after(
            ticket, request, peer_id=peer, name=record.name, admins_left=len(self._membership.admins())
        )

    # -- views --------------------------------------------------------------------------------------------------------

    def view_admins(self) -> list[dict[str, Any]]:
        """For ``admins.list``."""
        admins = [record for record in self._membership if self._membership.rights_of(record) & Rights.ADMIN]
        return [
            {
                "peer_id": record.peer,
                "short_id": short(record.peer),
                "name": record.name,
                "this_node": record.peer == self._ctx.own_id,
                "appointed_at": float(record.chain[0].issued),
                "expires_at": float(record.chain[0].expires),
            }
            for record in sorted(admins, key=lambda record: (record.name, record.peer))
        ]

    def view_revocations(self) -> list[dict[str, Any]]:
        """For ``revocations.list``."""
        return [
            {
                "peer_id": one.subject,
                "name": one.name,
                "scope": "member" if one.scope is Scope.MEMBER else "admin",
                "by": None if one.by_mesh_key else self._membership.name_of(PeerId(one.issuer)) or short(one.issuer),
                "revoked_at": float(one.issued),
                "void_from": float(one.void_from) if one.void_from else None,
                "kept": len(one.kept),
                "until": float(one.expires),
            }
            for one in self._revocations.all()
        ]
