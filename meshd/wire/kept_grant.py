"""A grant that friends keep for a holder who is away: signed by its owner, sealed for its holder.

Who keeps it learns nothing but whose it is and for whom; nobody can change it, nor give it to somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from meshd.crypto.suite import Suite
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import PEER_ID_SIZE, MeshId, PeerId
from meshd.wire.codec import Blob, Nested, Uint, decode, encode, fixed
from meshd.wire.granting import MAX_SEALED_GRANT_SIZE
from meshd.wire.parts import Grant, Layout

# Specification (ours: docs/protocol.md)
_CONTEXT = b"meshd kept grant 1\0"


@dataclass(frozen=True, slots=True)
class _Body:
    owner: bytes
    holder: bytes
    issued: int
    grant: Grant
    WIRE: ClassVar[Layout] = (fixed(PEER_ID_SIZE), fixed(PEER_ID_SIZE), Uint(40), Nested(Grant))


@dataclass(frozen=True, slots=True)
class _Signed:
    body: bytes = field(repr=False)  # with the capabilities, and the endpoints
    signature: bytes
    WIRE: ClassVar[Layout] = (Blob(1, MAX_SEALED_GRANT_SIZE), fixed(64))


def seal_grant(suite: Suite, mesh: MeshId, holder: PeerId, sealing_key: bytes, grant: Grant, issued: int) -> bytes:
    """Our grant for ``holder``; ``issued`` in Unix seconds. Raises Rejected for a bad key, or when it is too large."""
    body = encode(_Body(suite.peer_id, holder, issued, grant))
    signed = encode(_Signed(body, suite.sign(_CONTEXT + mesh + body)))
    sealed = suite.seal(sealing_key, _CONTEXT + mesh, signed)
    if len(sealed) > MAX_SEALED_GRANT_SIZE:
        raise Rejected("grant_too_large")
    return sealed


def open_grant(suite: Suite, mesh: MeshId, owner: PeerId, sealed: bytes) -> tuple[Grant, int]:
    """The grant that ``owner`` has made for us, and when. Raises MalformedMessage, or Rejected: ``bad_signature``,
    ``not_for_us``.
    """
    signed = decode(_Signed, suite.open(None, _CONTEXT + mesh, sealed), MAX_SEALED_GRANT_SIZE)
    if not suite.verify(owner, _CONTEXT + mesh + signed.body, signed.signature):
        raise Rejected("bad_signature")
    body = decode(_Body, signed.body, MAX_SEALED_GRANT_SIZE)
    if body.owner != owner:
        raise MalformedMessage("a grant signed by another than its owner")
    if body.holder != suite.peer_id:
        raise Rejected("not_for_us")
    return body.grant, body.issued
