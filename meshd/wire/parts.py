"""What several messages are made of, and its limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from meshd.crypto.admission import MAX_CERTIFICATE_SIZE, MAX_CHAIN_LENGTH
from meshd.push_services import MAX_ENDPOINT_SIZE
from meshd.wire.codec import Blob, Kind, Many, Nested, Text, Uint, fixed

# Specification (ours: docs/protocol.md)
MAX_BODY_SIZE = 64 * 1024  # of an application message
MAX_RECORD_SIZE = 4096  # a chain of four, 256 neighbors
MAX_DESCRIPTION_SIZE = 1024
MAX_SUBSCRIPTIONS = 4
MAX_CAPABILITIES = 16
MAX_REASON_CHARS = 32

Layout: TypeAlias = tuple[Kind, ...]
CHAIN = Many(Blob(1, MAX_CERTIFICATE_SIZE), MAX_CHAIN_LENGTH)
RECORD = Blob(1, MAX_RECORD_SIZE)


@dataclass(frozen=True, slots=True)
class CapabilityPart:
    """A VAPID JWT without what can be rebuilt (RFC 8292): expiry in Unix seconds, signature, subject if not ours."""

    exp: int
    signature: bytes = field(repr=False)
    subject: str = ""
    WIRE: ClassVar[Layout] = (Uint(40), fixed(64), Text(200))


@dataclass(frozen=True, slots=True)
class SubscriptionPart:
    """A push subscription (RFC 8030, 8291) with the capabilities to use it. Points are compressed (33 bytes).

    ``endpoint`` is ``prefix`` followed by ``tail`` in base64url, which is how push services write theirs.
    """

    prefix: str = field(repr=False)
    tail: bytes = field(repr=False)
    p256dh: bytes = field(repr=False)
    auth: bytes = field(repr=False)
    vapid_key: bytes = field(repr=False)
    capabilities: tuple[CapabilityPart, ...] = ()
    WIRE: ClassVar[Layout] = (
        Text(MAX_ENDPOINT_SIZE),
        Blob(0, MAX_ENDPOINT_SIZE),
        fixed(33),
        fixed(16),
        fixed(33),
        Many(Nested(CapabilityPart), MAX_CAPABILITIES),
    )


@dataclass(frozen=True, slots=True)
class Grant:
    """What lets its receiver push to its sender. A higher ``generation`` replaces everything given before."""

    generation: int
    subscriptions: tuple[SubscriptionPart, ...]
    WIRE: ClassVar[Layout] = (Uint(40), Many(Nested(SubscriptionPart), MAX_SUBSCRIPTIONS))
