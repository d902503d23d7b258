"""The introduction token: everything a new machine needs to reach its introducer, as one word to paste."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import ClassVar

from meshd.errors import Code, ControlError, MalformedMessage
from meshd.ids import INTRODUCTION_ID_SIZE, PEER_ID_SIZE, IntroductionId, MeshId, PeerId, SessionId
from meshd.wire.codec import Kind, Many, Nested, Text, Uint, decode, encode, fixed
from meshd.wire.parts import MAX_SUBSCRIPTIONS, SubscriptionPart
from meshd.wire.paste import Faults, decode_text, encode_text

# Specification (ours)
PREFIX = "meshd1_"
SECRET_SIZE = 16
_PROOF_CONTEXT = b"meshd introduction proof 1\0"
_FAULTS = Faults(Code.TOKEN_FOREIGN, Code.TOKEN_TRUNCATED, Code.TOKEN_MANGLED)

# Policy
MAX_TOKEN_SIZE = 4096
MAX_STUN_SERVERS = 4


@dataclass(frozen=True, slots=True)
class Introduction:
    """A token's content. ``expires`` in Unix seconds; ``stun_servers`` as ``host:port``."""

    mesh: MeshId
    introducer: PeerId
    sealing_key: bytes
    secret: bytes = field(repr=False)
    expires: int
    subscriptions: tuple[SubscriptionPart, ...] = field(repr=False)
    stun_servers: tuple[str, ...] = ()
    WIRE: ClassVar[tuple[Kind, ...]] = (
        fixed(PEER_ID_SIZE),
        fixed(PEER_ID_SIZE),
        fixed(32),
        fixed(SECRET_SIZE),
        Uint(40),
        Many(Nested(SubscriptionPart), MAX_SUBSCRIPTIONS),
        Many(Text(128), MAX_STUN_SERVERS),
    )

    @property
    def id(self) -> IntroductionId:
        """The public name, for lists and logs; says nothing about the secret."""
        return introduction_id(self.sealing_key)


def introduction_id(sealing_key: bytes) -> IntroductionId:
    """A token is named by a hash of its public sealing key."""
    return IntroductionId(hashlib.sha256(b"meshd introduction id 1\0" + sealing_key).digest()[:INTRODUCTION_ID_SIZE])


def proof_of(secret: bytes, joiner: PeerId, session: SessionId) -> bytes:
    """What shows that ``joiner`` holds the secret, in that session alone (HMAC-SHA256, RFC 2104)."""
    return hmac.digest(secret, _PROOF_CONTEXT + joiner + session, "sha256")


def encode_token(introduction: Introduction) -> str:
    """The text to hand over."""
    return encode_text(PREFIX, encode(introduction))


def decode_token(text: str) -> Introduction:
    """The content of a pasted token. Raises ControlError: foreign, truncated or mangled, told apart."""
    try:
        return decode(Introduction, decode_text(PREFIX, text, _FAULTS), MAX_TOKEN_SIZE)
    except MalformedMessage as error:
        raise ControlError(Code.TOKEN_MANGLED, str(error)) from None
