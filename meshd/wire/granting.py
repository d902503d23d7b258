"""The messages about capabilities among members: what a grant's holder tells, and what friends do for two others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from meshd.crypto.webpush import MAX_PLAINTEXT_SIZE
from meshd.ids import PEER_ID_SIZE
from meshd.wire.codec import Blob, Text, Uint, fixed
from meshd.wire.parts import MAX_REASON_CHARS, Layout

# Specification (ours: docs/protocol.md)
ENDPOINT_HASH_SIZE = 16  # the first bytes of SHA-256 over an endpoint
MAX_TOPIC_SIZE = 32
MAX_SEALED_GRANT_SIZE = 8192  # four subscriptions with a fortnight's capabilities take 6,000


@dataclass(frozen=True, slots=True)
class GrantTaken:
    """To the giver of a ``Grant``: kept durably. What I hold of yours is of that generation, and serves till then.

    ``until`` in Unix seconds; 0: nothing that I hold can be used now.
    """

    generation: int
    until: int
    WIRE: ClassVar[Layout] = (Uint(40), Uint(40))


@dataclass(frozen=True, slots=True)
class SubscriptionDead:
    """To its owner: a push service says (404, 410) that this subscription of yours is no more.

    ``endpoint_hash`` is the first 16 bytes of the SHA-256 of the endpoint.
    """

    generation: int
    endpoint_hash: bytes
    WIRE: ClassVar[Layout] = (Uint(40), fixed(ENDPOINT_HASH_SIZE))


@dataclass(frozen=True, slots=True)
class PushWanted:
    """Please push this envelope to its recipient, whose capability I lack. Answered by ``PushReported``.

    ``topic`` says what it is about, so that a newer one replaces it; ``lifetime`` is in seconds.
    """

    number: int
    recipient: bytes
    envelope: bytes = field(repr=False)
    topic: bytes
    lifetime: int
    WIRE: ClassVar[Layout] = (
        Uint(64),
        fixed(PEER_ID_SIZE),
        Blob(1, MAX_PLAINTEXT_SIZE),
        Blob(0, MAX_TOPIC_SIZE),
        Uint(16),
    )


@dataclass(frozen=True, slots=True)
class PushReported:
    """What became of a ``PushWanted``: ``accepted`` by a push service; or why not, after which another may be asked.

    ``no_capability``, ``quota``, ``busy``, ``refused``, ``failed``, ``gone``.
    """

    number: int
    outcome: str
    WIRE: ClassVar[Layout] = (Uint(64), Text(MAX_REASON_CHARS))


@dataclass(frozen=True, slots=True)
class GrantDeposit:
    """To a keeper: keep this grant of mine for ``holder``, whom I cannot reach. A newer one replaces it.

    ``sealed`` is signed by its owner and sealed for its holder; ``issued`` is in Unix seconds.
    """

    owner: bytes
    holder: bytes
    generation: int
    issued: int
    sealed: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (
        fixed(PEER_ID_SIZE),
        fixed(PEER_ID_SIZE),
        Uint(40),
        Uint(40),
        Blob(1, MAX_SEALED_GRANT_SIZE),
    )


@dataclass(frozen=True, slots=True)
class GrantKept:
    """From a keeper to ``holder``: what ``owner`` has deposited for you. The fields are those of ``GrantDeposit``."""

    owner: bytes
    holder: bytes
    generation: int
    issued: int
    sealed: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = GrantDeposit.WIRE
