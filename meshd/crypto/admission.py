"""Admission: the certificates that make a peer a member, and the chains they form.

The mesh key appoints admins; admins admit members; a member with the right to introduce admits others for a time.
A chain runs from the mesh key down to its subject and is at most ``MAX_CHAIN_LENGTH`` long. What a certificate may
grant never exceeds what its issuer was granted (docs/protocol.md, admission). What takes all that away again is in
``revocation``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntFlag
from functools import lru_cache
from typing import ClassVar

from meshd.errors import MalformedMessage, Rejected
from meshd.ids import CLOCK_SKEW, PEER_ID_SIZE, PREFIX_SIZE, MeshId, PeerId, is_name
from meshd.wire.codec import Blob, Kind, Text, Uint, decode, encode, fixed

# Specification (ours: docs/protocol.md)
SIGNATURE_SIZE = 64
MAX_CHAIN_LENGTH = 4
DIGEST_SIZE = 16  # of a certificate or revocation: second preimages stay out of reach with thousands of targets
MAX_GROUNDS = 8  # of one certificate
_GROUND_SIZE = 1 + PREFIX_SIZE + DIGEST_SIZE
_CONTEXT = b"meshd admission 1\0"

# Policy
MAX_CERTIFICATE_SIZE = 400  # body and signature; a full one takes 393
MAX_SHARED = 4096  # certificates of introducers held once for all whom they have let in

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes, bytes], bool]


class Rights(IntFlag):
    """What a member may do beyond being one."""

    NONE = 0
    INTRODUCE = 1  # admit others
    ADMIN = 2  # admit, rename, renew, revoke anyone; only the mesh key gives this


@dataclass(frozen=True, slots=True)
class Ground:
    """An earlier certificate that a renewal rests on: who signed it (id prefix; as an admin?), and its digest.

    An admin that renews whomever asks does not know who asks: should the one who let it in be revoked, this falls too.
    """

    issuer: bytes
    digest: bytes
    by_admin: bool


@dataclass(frozen=True, slots=True)
class _Body:
    subject: PeerId
    issuer: bytes
    name: str
    rights: int
    issued: int
    expires: int
    grounds: bytes = b""
    WIRE: ClassVar[tuple[Kind, ...]] = (
        fixed(PEER_ID_SIZE),
        fixed(PEER_ID_SIZE),
        Text(32),
        Uint(8),
        Uint(40),
        Uint(40),
        Blob(0, _GROUND_SIZE * MAX_GROUNDS),
    )


@dataclass(frozen=True, slots=True)
class _Signed:
    body: bytes
    signature: bytes
    WIRE: ClassVar[tuple[Kind, ...]] = (Blob(1, MAX_CERTIFICATE_SIZE), fixed(SIGNATURE_SIZE))


@dataclass(frozen=True, slots=True)
class Certificate:
    """One link of a chain. Times in whole seconds since 1970; ``issuer`` is a peer id or, for an admin, the mesh key.

    ``encoded`` is what was signed and travels; it is kept because signatures are over bytes, not over values.
    """

    subject: PeerId
    issuer: bytes
    name: str
    rights: Rights
    issued: int
    expires: int
    encoded: bytes
    grounds: tuple[Ground, ...] = ()


def issue(
    sign: Sign,
    mesh: MeshId,
    issuer: bytes,
    *,
    subject: PeerId,
    name: str,
    rights: Rights,
    issued: int,
    expires: int,
    grounds: tuple[Ground, ...] = (),
) -> Certificate:
    """Make a certificate; ``sign`` signs with the issuer's key. At most ``MAX_GROUNDS`` grounds."""
    packed = b"".join(bytes([ground.by_admin]) + ground.issuer + ground.digest for ground in grounds)
    body = encode(_Body(subject, issuer, name, int(rights), issued, expires, packed))
    encoded = encode(_Signed(body, sign(_CONTEXT + mesh + body)))
    return Certificate(subject, issuer, name, rights, issued, expires, encoded, grounds)


def decode_certificate(data: bytes) -> Certificate:
    """Parse, without verifying anything. Raises MalformedMessage."""
    signed = decode(_Signed, data, MAX_CERTIFICATE_SIZE)
    body = decode(_Body, signed.body, MAX_CERTIFICATE_SIZE)
    if not is_name(body.name):
        raise MalformedMessage("a certificate names its subject with something that is no name")
    rights = Rights(body.rights & 3)
    grounds = _grounds_in(body.grounds)
    return Certificate(PeerId(body.subject), body.issuer, body.name, rights, body.issued, body.expires, data, grounds)


def _grounds_in(packed: bytes) -> tuple[Ground, ...]:
    if len(packed) % _GROUND_SIZE:
        raise MalformedMessage("grounds that do not add up")
    entries = (packed[i : i + _GROUND_SIZE] for i in range(0, len(packed), _GROUND_SIZE))
    return tuple(Ground(e[1 : 1 + PREFIX_SIZE], e[1 + PREFIX_SIZE :], bool(e[0] & 1)) for e in entries)


Chain = tuple[Certificate, ...]
Judge = Callable[[Chain], None]  # raises Rejected for a chain that a revocation voids


def digest(certificate: Certificate, mesh: MeshId) -> bytes:
    """What names a certificate in a revocation: of what was signed, never of the signature or of what is around it.

    So nobody but the signer can make another digest for the same statement.
    """
    body = decode(_Signed, certificate.encoded, MAX_CERTIFICATE_SIZE).body
    return hashlib.sha256(_CONTEXT + mesh + body).digest()[:DIGEST_SIZE]


def decode_chain(items: Iterable[bytes]) -> Chain:
    """Parse a chain, mesh key's certificate first. Raises MalformedMessage."""
    encoded = tuple(items)
    if not 1 <= len(encoded) <= MAX_CHAIN_LENGTH:
        raise MalformedMessage(f"a chain of {len(encoded)} certificates")
    return (*map(_shared, encoded[:-1]), decode_certificate(encoded[-1]))


_shared = lru_cache(MAX_SHARED)(decode_certificate)  # a value of its bytes alone; all members below one hold the same


def verify_chain(chain: Chain, mesh: MeshId, now: float, verify: Verify, revoked: Judge | None = None) -> None:
    """Check the whole chain at Unix time ``now``. Raises Rejected with the reason.

    ``revoked`` knows what has been taken back (``revocation.Revoked.judge``). The order of the checks is the order of
    their cost: signatures come last.
    """
    issuer: bytes = mesh
    granted = Rights.ADMIN | Rights.INTRODUCE
    for depth, certificate in enumerate(chain):
        if certificate.issuer != issuer:
            raise Rejected("chain_broken")
        if not granted & (Rights.INTRODUCE | Rights.ADMIN):
            raise Rejected("may_not_introduce")
        itself = certificate.subject == certificate.issuer
        if certificate.rights & Rights.ADMIN and depth > 0 and not (itself and granted & Rights.ADMIN):
            raise Rejected("may_not_appoint")
        if itself and not granted & Rights.ADMIN:  # an admin may rename itself; others could take anybody's name
            raise Rejected("may_not_rename")
        if certificate.issued > now + CLOCK_SKEW:
            raise Rejected("admission_in_future")
        if certificate.expires <= now:
            raise Rejected("admission_expired")
        issuer, granted = certificate.subject, certificate.rights
    if revoked is not None:
        revoked(chain)
    for certificate in chain:
        signed = decode(_Signed, certificate.encoded, MAX_CERTIFICATE_SIZE)
        if not verify(certificate.issuer, _CONTEXT + mesh + signed.body, signed.signature):
            raise Rejected("bad_signature")


def grounds_of(chain: Chain, mesh: MeshId, renewing: PeerId) -> tuple[Ground, ...]:
    """What ``renewing`` takes for granted when it gives the subject of that chain a certificate of its own.

    The oldest of each issuer; admins' last, since a thief could have itself renewed by one after the other to push out
    what counts. Raises Rejected where there is no room for all others: such a chain has to stay as it is.
    """
    found: dict[bytes, Ground] = {}
    for depth, certificate in enumerate(chain):
        own = Ground(
            certificate.issuer[:PREFIX_SIZE], digest(certificate, mesh), bool(chain[depth - 1].rights & Rights.ADMIN)
        )
        for ground in (*certificate.grounds, *((own,) if depth else ())):
            found.setdefault(ground.issuer, ground)
    for known in (renewing, chain[-1].subject):
        found.pop(known[:PREFIX_SIZE], None)
    ordered = sorted(found.values(), key=lambda ground: ground.by_admin)
    if sum(not ground.by_admin for ground in ordered) > MAX_GROUNDS:
        raise Rejected("too_far_from_admin")
    return tuple(ordered[:MAX_GROUNDS])


def expires_at(chain: Chain) -> int:
    """When the chain as a whole ends (Unix seconds)."""
    return min(certificate.expires for certificate in chain)
