"""Real suites from fixed seeds, and chains between them."""

from __future__ import annotations

import hashlib
from functools import cache

from meshd.crypto import identity
from meshd.crypto.admission import Certificate, Chain, Rights, issue
from meshd.crypto.suite import RealSuite
from meshd.ids import MeshId

NOW = 1_800_000_000
DAY = 86_400
MESH_SEED = bytes(range(32))
MESH = MeshId(identity.public_of(MESH_SEED))
FOUNDER = Rights.ADMIN | Rights.INTRODUCE


def seed(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


@cache
def suite(name: str) -> RealSuite:
    return RealSuite(seed(name), seed(f"{name} seals"))


def certificate(
    issuer: str | None,
    subject: str,
    rights: Rights = Rights.INTRODUCE,
    *,
    name: str = "",
    issued: int = NOW,
    expires: int = NOW + DAY,
    mesh: MeshId = MESH,
    signer: str | None = None,
) -> Certificate:
    """``issuer`` None is the mesh key; ``signer`` is who signs, if not the one who is said to issue."""

    def sign(message: bytes) -> bytes:
        who = signer or issuer
        return identity.sign(MESH_SEED, message) if who is None else suite(who).sign(message)

    by = mesh if issuer is None else suite(issuer).peer_id
    return issue(
        sign,
        mesh,
        by,
        subject=suite(subject).peer_id,
        name=name or subject,
        rights=rights,
        issued=issued,
        expires=expires,
    )


def founder_chain(name: str = "anna") -> Chain:
    return (certificate(None, name, FOUNDER),)


def member_chain(name: str, rights: Rights = Rights.INTRODUCE, admin: str = "anna") -> Chain:
    return (*founder_chain(admin), certificate(admin, name, rights))
