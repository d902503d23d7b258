"""The messages of a join: by push between the two, and among members when others answer for the introducer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from meshd.ids import INSTANCE_SIZE, INTRODUCTION_ID_SIZE, SESSION_ID_SIZE
from meshd.wire.codec import Blob, Many, Maybe, Nested, Text, Uint, fixed
from meshd.wire.parts import CHAIN, MAX_DESCRIPTION_SIZE, MAX_REASON_CHARS, RECORD, Grant, Layout

# Specification (ours: docs/protocol.md)
MAX_FURTHER = 3  # offers of a joiner beside the first, each for one other member to answer
MAX_ANSWER_SIZE = 2048  # of a member's answer to a joiner, in its envelope


@dataclass(frozen=True, slots=True)
class FurtherOffer:
    """A joiner's offer that any one member may answer, in a session of its own."""

    session: bytes
    description: bytes
    WIRE: ClassVar[Layout] = (fixed(SESSION_ID_SIZE), Blob(1, MAX_DESCRIPTION_SIZE))


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """From a bearer of a token to its introducer, sealed to the token's key.

    ``further`` offers are for other members, lest the two cannot connect.
    """

    introduction: bytes
    proof: bytes = field(repr=False)
    name: str
    sealing_key: bytes
    instance: bytes
    description: bytes
    grant: Grant
    further: tuple[FurtherOffer, ...] = ()
    WIRE: ClassVar[Layout] = (
        fixed(INTRODUCTION_ID_SIZE),
        fixed(32),
        Text(32),
        fixed(32),
        fixed(INSTANCE_SIZE),
        Blob(1, MAX_DESCRIPTION_SIZE),
        Nested(Grant),
        Many(Nested(FurtherOffer), MAX_FURTHER),
    )


@dataclass(frozen=True, slots=True)
class JoinAccepted:
    """The answer: our description, your admission, the mesh's name, our record.

    ``answers`` are other members' envelopes to the joiner, each with a ``JoinAnswered``.
    """

    description: bytes
    chain: tuple[bytes, ...]
    mesh_name: str
    record: bytes
    grant: Grant | None
    answers: tuple[bytes, ...] = ()
    WIRE: ClassVar[Layout] = (
        Blob(1, MAX_DESCRIPTION_SIZE),
        CHAIN,
        Text(32),
        RECORD,
        Maybe(Nested(Grant)),
        Many(Blob(1, MAX_ANSWER_SIZE), MAX_FURTHER),
    )


@dataclass(frozen=True, slots=True)
class JoinAnswered:
    """From another member to a joiner, in its introducer's answer: my description, my sealing key, my admission.

    The first ``shared`` certificates of my chain are those of yours; ``chain`` has the rest.
    """

    description: bytes
    sealing_key: bytes
    shared: int
    chain: tuple[bytes, ...]
    WIRE: ClassVar[Layout] = (Blob(1, MAX_DESCRIPTION_SIZE), fixed(32), Uint(8), CHAIN)


@dataclass(frozen=True, slots=True)
class JoinRefused:
    """The answer to a bearer who may not: ``used_up``, ``revoked``, ``expired``, ``clock``, ``busy``,
    ``key_revoked``."""

    reason: str
    WIRE: ClassVar[Layout] = (Text(MAX_REASON_CHARS),)


@dataclass(frozen=True, slots=True)
class AnswerWanted:
    """From an introducer: answer this newcomer's offer, for it and I may be unable to connect.

    ``chain`` is the newcomer's admission, issued by the sender; the session and the description are the offer's. The
    newcomer may begin to connect ``patience`` seconds from now.
    """

    session: bytes
    chain: tuple[bytes, ...]
    sealing_key: bytes
    description: bytes
    patience: int
    WIRE: ClassVar[Layout] = (fixed(SESSION_ID_SIZE), CHAIN, fixed(32), Blob(1, MAX_DESCRIPTION_SIZE), Uint(16))


@dataclass(frozen=True, slots=True)
class AnswerGiven:
    """My answer to the newcomer, sealed to it; empty: I am busy."""

    session: bytes
    envelope: bytes
    WIRE: ClassVar[Layout] = (fixed(SESSION_ID_SIZE), Blob(0, MAX_ANSWER_SIZE))
