"""Revocation: statements that take a membership, or an admin's rights, away again (docs/protocol.md, revocation).

A revocation names a key and what of all that this key has signed stays good, by digests of the signed bytes. Whatever
else it has signed is void, whenever it claims to have been signed: a thief that backdates gains nothing. Admins revoke
members; the mesh key revokes anybody, and takes an admin's rights alone.

``Revoked`` is what a set of revocations says together. It depends on the set alone, never on the order in which they
came: of two about one key each voids what it voids, and what the mesh key says goes before what admins say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from meshd.crypto.admission import (
    DIGEST_SIZE,
    MAX_CERTIFICATE_SIZE,
    SIGNATURE_SIZE,
    Certificate,
    Chain,
    Ground,
    Rights,
    Sign,
    Verify,
    decode_certificate,
    grounds_of,
    verify_chain,
)
from meshd.crypto.admission import digest as digest_of
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import CLOCK_SKEW, PEER_ID_SIZE, PREFIX_SIZE, MeshId, PeerId, is_name
from meshd.wire.codec import Blob, Kind, Many, Text, Uint, decode, encode, fixed

# Specification (ours: docs/protocol.md)
MAX_KEPT = 256  # digests in one revocation
MAX_REVOCATION_SIZE = 6 * 1024  # bytes; a full one takes 5,400
_CONTEXT = b"meshd revocation 1\0"

# Policy
MAX_LIFETIME = 11 * 365 * 86400  # seconds a revocation may be kept: a little longer than an admin's certificate lasts


class Scope(IntEnum):
    """What is taken away."""

    MEMBER = 1  # everything: the key is no member any more
    ADMIN = 2  # an admin's rights; it stays a member. Only the mesh key says that


@dataclass(frozen=True, slots=True)
class _Body:
    subject: bytes
    issuer: bytes
    scope: int
    name: str
    issued: int
    expires: int
    void_from: int
    kept: tuple[bytes, ...]
    authority: bytes
    instead: bytes
    WIRE: ClassVar[tuple[Kind, ...]] = (
        fixed(PEER_ID_SIZE),
        fixed(PEER_ID_SIZE),
        Uint(8),
        Text(32),
        Uint(40),
        Uint(40),
        Uint(40),
        Many(fixed(DIGEST_SIZE), MAX_KEPT),
        Blob(0, MAX_CERTIFICATE_SIZE),
        Blob(0, MAX_CERTIFICATE_SIZE),
    )


@dataclass(frozen=True, slots=True)
class _Signed:
    body: bytes
    signature: bytes
    WIRE: ClassVar[tuple[Kind, ...]] = (Blob(1, MAX_REVOCATION_SIZE), fixed(SIGNATURE_SIZE))


@dataclass(frozen=True, slots=True)
class Revocation:
    """One statement. Times in whole seconds since 1970; ``name`` is what the subject was called, for people.

    What the subject signed stays good if it is in ``kept`` and is not dated after ``void_from``. ``authority`` is the
    mesh key's certificate that makes the issuer an admin; None where the mesh key itself is the issuer. ``instead`` is
    the mesh key's certificate with which an admin that was removed goes on as a member.
    """

    subject: PeerId
    issuer: bytes
    scope: Scope
    name: str
    issued: int
    expires: int
    void_from: int
    kept: frozenset[bytes]
    authority: Certificate | None
    instead: Certificate | None
    encoded: bytes

    @property
    def by_mesh_key(self) -> bool:
        """Whether the mesh key itself says so."""
        return self.authority is None


def revoke(
    sign: Sign,
    mesh: MeshId,
    issuer: bytes,
    *,
    subject: PeerId,
    scope: Scope,
    name: str,
    issued: int,
    expires: int,
    void_from: int,
    kept: Iterable[bytes] = (),
    authority: Certificate | None = None,
    instead: Certificate | None = None,
) -> Revocation:
    """Make a revocation; ``sign`` signs with the issuer's key. At most ``MAX_KEPT`` are ``kept``."""
    body = encode(
        _Body(
            subject,
            issuer,
            scope,
            name,
            issued,
            expires,
            void_from,
            tuple(sorted(kept)),
            b"" if authority is None else authority.encoded,
            b"" if instead is None else instead.encoded,
        )
    )
    return decode_revocation(encode(_Signed(body, sign(_CONTEXT + mesh + body))))


def decode_revocation(data: bytes) -> Revocation:
    """Parse, without verifying anything. Raises MalformedMessage."""
    body = decode(_Body, decode(_Signed, data, MAX_REVOCATION_SIZE).body, MAX_REVOCATION_SIZE)
    if body.scope not in tuple(Scope):
        raise MalformedMessage("a revocation of something that is not known here")
    if body.name and not is_name(body.name):
        raise MalformedMessage("a revocation names its subject with something that is no name")
    return Revocation(
        PeerId(body.subject),
        body.issuer,
        Scope(body.scope),
        body.name,
        body.issued,
        body.expires,
        body.void_from,
        frozenset(body.kept),
        decode_certificate(body.authority) if body.authority else None,
        decode_certificate(body.instead) if body.instead else None,
        data,
    )


def revocation_digest(revocation: Revocation, mesh: MeshId) -> bytes:
    """Its public name: of what was signed, so that a signature of another form makes no second one of it."""
    body = decode(_Signed, revocation.encoded, MAX_REVOCATION_SIZE).body
    return hashlib.sha256(_CONTEXT + mesh + body).digest()[:DIGEST_SIZE]


def verify_revocation(revocation: Revocation, mesh: MeshId, now: float, verify: Verify) -> None:
    """Check times, right and signature at Unix time ``now``. Raises Rejected.

    Whether its issuer has been removed is for ``Revoked`` to say: that depends on the others.
    """
    if revocation.issued > now + CLOCK_SKEW:
        raise Rejected("revocation_in_future")
    if revocation.expires <= now:
        raise Rejected("revocation_expired")
    if revocation.expires - revocation.issued > MAX_LIFETIME:
        raise Rejected("revocation_too_long")
    authority, instead = revocation.authority, revocation.instead
    if authority is None:
        if revocation.issuer != mesh:
            raise Rejected("may_not_revoke")
    else:
        is_admins = authority.subject == revocation.issuer and authority.rights & Rights.ADMIN
        if not is_admins or revocation.scope is not Scope.MEMBER or instead is not None:
            raise Rejected("may_not_revoke")
        if revocation.expires > authority.expires:
            raise Rejected("revocation_too_long")
        verify_chain((authority,), mesh, now, verify)
    if instead is not None:
        if instead.subject != revocation.subject or instead.rights & Rights.ADMIN:
            raise Rejected("revocation_contradicts_itself")
        verify_chain((instead,), mesh, instead.issued, verify)
    signed = decode(_Signed, revocation.encoded, MAX_REVOCATION_SIZE)
    if not verify(revocation.issuer, _CONTEXT + mesh + signed.body, signed.signature):
        raise Rejected("bad_signature")


class Revoked:
    """What a set of verified revocations says. Immutable: made anew when one comes or goes."""

    __slots__ = ("_mesh", "_of", "_of_prefix", "counting")

    def __init__(self, mesh: MeshId, revocations: Iterable[Revocation] = ()) -> None:
        known = list(revocations)
        self._mesh = mesh
        self._of: dict[PeerId, tuple[Revocation, ...]] = {}
        self._of_prefix: dict[bytes, tuple[Revocation, ...]] = {}
        self.counting: list[Revocation] = []
        """Those that count: their issuer had the right, and the mesh key has not voided them."""
        for revocation in known:
            if revocation.by_mesh_key:
                self._add(revocation)
        # What admins say may depend on what the mesh key says of them, and on nothing else: so this is the order.
        for revocation in [one for one in known if not one.by_mesh_key and self.may_count(one)]:
            self._add(revocation)

    def _add(self, revocation: Revocation) -> None:
        self.counting.append(revocation)
        subject, prefix = revocation.subject, revocation.subject[:PREFIX_SIZE]
        self._of[subject] = (*self._of.get(subject, ()), revocation)
        self._of_prefix[prefix] = (*self._of_prefix.get(prefix, ()), revocation)

    def may_count(self, revocation: Revocation) -> bool:
        """Whether the mesh key has not voided what that admin says."""
        authority = revocation.authority
        said = [other for other in self._of.get(PeerId(revocation.issuer), ()) if other.by_mesh_key]
        if authority is None or not said:
            return True
        digest = revocation_digest(revocation, self._mesh)
        return not any(_voids(other, authority, authority, revocation.issued, digest) for other in said)

    def concerning(self, peer: PeerId) -> tuple[Revocation, ...]:
        """The revocations of that key."""
        return self._of.get(peer, ())

    def bars(self, peer: PeerId) -> bool:
        """Whether that key is revoked as a member, whatever chain it may show but one from the mesh key's own hand."""
        return any(revocation.scope is Scope.MEMBER for revocation in self._of.get(peer, ()))

    def judge(self, chain: Chain) -> None:
        """Whether a chain still holds. Raises Rejected: ``revoked`` for its subject, else ``issuer_revoked``."""
        root = chain[0]
        for depth, certificate in enumerate(chain):
            for ground in certificate.grounds:
                if any(_voids_ground(revocation, ground) for revocation in self._of_prefix.get(ground.issuer, ())):
                    raise Rejected("issuer_revoked")
            for revocation in self._of.get(certificate.subject, ()):
                if depth + 1 == len(chain):
                    if revocation.scope is Scope.MEMBER and not _is_over(revocation, root):
                        raise Rejected("revoked")
                    continue
                signed = chain[depth + 1]
                if _voids(revocation, root, certificate, signed.issued, digest_of(signed, self._mesh)):
                    raise Rejected("issuer_revoked")

    def holds(self, chain: Chain) -> bool:
        """The same as a question."""
        try:
            self.judge(chain)
        except Rejected:
            return False
        return True

    def rights(self, chain: Chain) -> Rights:
        """What the subject of a chain that holds may still do."""
        leaf = chain[-1]
        if any(not _is_over(revocation, chain[0]) for revocation in self._of.get(leaf.subject, ())):
            return leaf.rights & ~Rights.ADMIN
        return leaf.rights

    def grounds(self, chain: Chain, renewing: PeerId) -> tuple[Ground, ...]:
        """See ``grounds_of``. Raises Rejected.

        Also what a revocation keeps: a later one may keep less, and must find whom it concerns.
        """
        return grounds_of(chain, self._mesh, renewing)

    def leans_on(self, chain: Chain) -> bool:
        """Whether a chain that holds does so only because a revocation keeps it: better have another."""
        return any(self._of.get(certificate.subject) for certificate in chain[:-1])


def _is_over(revocation: Revocation, root: Certificate) -> bool:
    """Whether the mesh key has said something else of the subject: appointed or admitted it since, or made it an admin
    over those who say this."""
    same = root.subject == revocation.subject
    return same and (_is_above(revocation, root) or root.issued > revocation.issued)


def _is_above(revocation: Revocation, root: Certificate) -> bool:
    """Whether admins have nothing to say about whoever has that certificate of the mesh key."""
    return not revocation.by_mesh_key and bool(root.rights & Rights.ADMIN)


def _voids(revocation: Revocation, root: Certificate, standing: Certificate, issued: int, digest: bytes) -> bool:
    """Whether what the subject has signed, by virtue of the certificate ``standing`` of a chain from ``root``, is void.

    What is signed under a later certificate of the mesh key must be dated after that, or be kept like the rest.
    """
    if revocation.scope is Scope.ADMIN and not standing.rights & Rights.ADMIN:
        return False  # as the ordinary member that it still is
    if _is_over(revocation, root) and (issued >= root.issued or _is_above(revocation, root)):
        return False
    return issued > revocation.void_from or digest not in revocation.kept


def _voids_ground(revocation: Revocation, ground: Ground) -> bool:
    """The same for a statement that somebody else has taken for granted since, and of which the digest is left."""
    if ground.by_admin and not revocation.by_mesh_key:
        return False
    if revocation.scope is Scope.ADMIN and not ground.by_admin:
        return False
    return ground.digest not in revocation.kept
