"""Every message that peers exchange, in one append-only table.

A message on a link is ``[type, field, field, …]``. The same messages travel inside envelopes when there is no link to
their recipient: ``ON_LINK`` and ``IN_ENVELOPE`` say where each may appear. Numbers are never used again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from meshd.errors import MalformedMessage
from meshd.ids import INSTANCE_SIZE, MESSAGE_ID_SIZE, PEER_ID_SIZE, PREFIX_SIZE, SESSION_ID_SIZE, SessionId
from meshd.wire.broadcasting import Graft as Graft
from meshd.wire.broadcasting import Have as Have
from meshd.wire.broadcasting import News as News
from meshd.wire.broadcasting import NewsItem as NewsItem
from meshd.wire.broadcasting import Prune as Prune
from meshd.wire.codec import Blob, Many, Maybe, Nested, Text, Uint, fixed, from_array, pack, to_array, unpack
from meshd.wire.depositing import DepositKept as DepositKept
from meshd.wire.depositing import DepositRefused as DepositRefused
from meshd.wire.depositing import DepositWithdrawn as DepositWithdrawn
from meshd.wire.depositing import KeptTaken as KeptTaken
from meshd.wire.depositing import MessageDeposit as MessageDeposit
from meshd.wire.depositing import MessageKept as MessageKept
from meshd.wire.depositing import ReceiptKept as ReceiptKept
from meshd.wire.doubling import TwinSeen as TwinSeen
from meshd.wire.granting import GrantDeposit as GrantDeposit
from meshd.wire.granting import GrantKept as GrantKept
from meshd.wire.granting import GrantTaken as GrantTaken
from meshd.wire.granting import PushReported as PushReported
from meshd.wire.granting import PushWanted as PushWanted
from meshd.wire.granting import SubscriptionDead as SubscriptionDead
from meshd.wire.joining import AnswerGiven as AnswerGiven
from meshd.wire.joining import AnswerWanted as AnswerWanted
from meshd.wire.joining import JoinAccepted as JoinAccepted
from meshd.wire.joining import JoinAnswered as JoinAnswered
from meshd.wire.joining import JoinRefused as JoinRefused
from meshd.wire.joining import JoinRequest as JoinRequest
from meshd.wire.parts import CHAIN, MAX_DESCRIPTION_SIZE, MAX_REASON_CHARS, Layout
from meshd.wire.parts import MAX_BODY_SIZE as MAX_BODY_SIZE
from meshd.wire.parts import CapabilityPart as CapabilityPart
from meshd.wire.parts import Grant as Grant
from meshd.wire.parts import SubscriptionPart as SubscriptionPart
from meshd.wire.reconciling import Digest as Digest
from meshd.wire.reconciling import Records as Records
from meshd.wire.reconciling import RecordsWanted as RecordsWanted
from meshd.wire.reconciling import Summary as Summary
from meshd.wire.relaying import CircuitClosed as CircuitClosed
from meshd.wire.relaying import CircuitWanted as CircuitWanted
from meshd.wire.relaying import PathWanted as PathWanted
from meshd.wire.relaying import RelayedStreamAccepted as RelayedStreamAccepted
from meshd.wire.relaying import RelayedStreamOver as RelayedStreamOver
from meshd.wire.relaying import RelayedStreamRefused as RelayedStreamRefused
from meshd.wire.relaying import RelayedStreamWanted as RelayedStreamWanted
from meshd.wire.revoking import Revocations as Revocations
from meshd.wire.revoking import RevocationsKnown as RevocationsKnown
from meshd.wire.tracing import HopTold as HopTold
from meshd.wire.tracing import HopWanted as HopWanted

# Specification (ours: docs/protocol.md)
PROTOCOL_VERSION = 2  # 1 had neighbors in records
MIN_PROTOCOL_VERSION = 2
MAX_ENVELOPE_SIZE = MAX_BODY_SIZE + 1024
MAX_PEER_MESSAGE_SIZE = MAX_ENVELOPE_SIZE + 64
MAX_APPLICATION_CHARS = 32
MAX_PARAMETERS_SIZE = 1024  # what the opener of a stream says about it
STREAM_BITS = 62  # a stream's number is a variable-length integer in frames


# -- on a link: its own affairs ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message both ways. ``signature`` binds both ids, both fingerprints and the session together."""

    version: int
    min_version: int
    features: int
    agent: str
    instance: bytes
    signature: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (Uint(16), Uint(16), Uint(64), Text(64), fixed(INSTANCE_SIZE), fixed(64))


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The sender closes the link on purpose: ``stopping``, ``leaving``, ``replaced``, ``departed``, ``revoked``.

    Or ``surplus``: it has more than it needs.
    """

    reason: str
    WIRE: ClassVar[Layout] = (Text(MAX_REASON_CHARS),)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Answered at once by ``HeartbeatAnswer`` with the same number: for who cannot send SCTP's HEARTBEAT chunks."""

    number: int
    WIRE: ClassVar[Layout] = (Uint(32),)


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """See ``Heartbeat``."""

    number: int
    WIRE: ClassVar[Layout] = (Uint(32),)


# -- on a link: relaying ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Forward:
    """An envelope on its way; ``hops`` is how many more links it may cross."""

    hops: int
    envelope: bytes
    WIRE: ClassVar[Layout] = (Uint(8), Blob(1, MAX_ENVELOPE_SIZE))


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """An envelope went no further: ``no_route``, ``busy``, ``too_far``, ``refused``. Travels back the way it came.

    ``envelope`` is the first 8 bytes of the SHA-256 of the envelope.
    """

    envelope: bytes
    reason: str
    WIRE: ClassVar[Layout] = (fixed(8), Text(MAX_REASON_CHARS))


# -- on a link: streams ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamWanted:
    """Open a byte stream on this link for ``application``. The smaller peer id opens odd numbers, the other even ones.

    Each number is higher than the last that its side opened on the link. ``parameters`` are the application's own.
    """

    stream: int
    application: str
    parameters: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (Uint(STREAM_BITS), Text(MAX_APPLICATION_CHARS), Blob(0, MAX_PARAMETERS_SIZE))


@dataclass(frozen=True, slots=True)
class StreamAccepted:
    """That stream is open: DATA, CREDIT and RESET frames may follow, both ways."""

    stream: int
    WIRE: ClassVar[Layout] = (Uint(STREAM_BITS),)


@dataclass(frozen=True, slots=True)
class StreamRefused:
    """That stream will not be: ``no_acceptor``, ``busy``."""

    stream: int
    reason: str
    WIRE: ClassVar[Layout] = (Uint(STREAM_BITS), Text(MAX_REASON_CHARS))


# -- to a member: on its link, or in an envelope ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """Let us have a link. The envelope's session names the attempt. ``grant`` lets the answer come by push.

    ``resumes`` names the session of an older link between the two: it is to go on over the new path.
    """

    description: bytes
    instance: bytes
    grant: Grant | None
    resumes: SessionId | None = None
    WIRE: ClassVar[Layout] = (
        Blob(1, MAX_DESCRIPTION_SIZE),
        fixed(INSTANCE_SIZE),
        Maybe(Nested(Grant)),
        Maybe(fixed(SESSION_ID_SIZE)),
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to the offer of the same session. Without the offer's ``resumes`` the link will be a new one."""

    description: bytes
    instance: bytes
    resumes: SessionId | None = None
    WIRE: ClassVar[Layout] = (Blob(1, MAX_DESCRIPTION_SIZE), fixed(INSTANCE_SIZE), Maybe(fixed(SESSION_ID_SIZE)))


@dataclass(frozen=True, slots=True)
class OfferDeclined:
    """No link now: ``busy``. Or, to an answer that came too late: the offer is ``withdrawn``."""

    reason: str
    WIRE: ClassVar[Layout] = (Text(MAX_REASON_CHARS),)


@dataclass(frozen=True, slots=True)
class ApplicationMessage:
    """From a person or program to another. ``sent_at`` and ``expires`` in milliseconds and seconds since 1970."""

    message: bytes
    application: str
    sent_at: int
    expires: int
    body: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (fixed(MESSAGE_ID_SIZE), Text(32), Uint(48), Uint(40), Blob(0, MAX_BODY_SIZE))


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Those messages are durable at the sender of this."""

    messages: tuple[bytes, ...]
    WIRE: ClassVar[Layout] = (Many(fixed(MESSAGE_ID_SIZE), 256),)


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """That message was not taken: ``inbox_full``, ``expired``, ``busy``, ``id_taken``. The sender may try again."""

    message: bytes
    reason: str
    WIRE: ClassVar[Layout] = (fixed(MESSAGE_ID_SIZE), Text(MAX_REASON_CHARS))


@dataclass(frozen=True, slots=True)
class Ping:
    """A person's ping, end to end over whatever path there is."""

    number: int
    WIRE: ClassVar[Layout] = (Uint(64),)


@dataclass(frozen=True, slots=True)
class PingAnswer:
    """See ``Ping``."""

    number: int
    WIRE: ClassVar[Layout] = (Uint(64),)


@dataclass(frozen=True, slots=True)
class AdmissionWanted:
    """To an admin: please renew my admission, under ``name`` if it is free (empty: the one I have)."""

    number: int
    name: str
    WIRE: ClassVar[Layout] = (Uint(64), Text(32))


@dataclass(frozen=True, slots=True)
class AdmissionIssued:
    """From an admin: your chain from now on. ``number`` is the request's, 0 if unasked."""

    number: int
    chain: tuple[bytes, ...]
    WIRE: ClassVar[Layout] = (Uint(64), CHAIN)


@dataclass(frozen=True, slots=True)
class AdmissionRefused:
    """From an admin: ``name_taken``, ``not_member``."""

    number: int
    reason: str
    WIRE: ClassVar[Layout] = (Uint(64), Text(MAX_REASON_CHARS))


ON_LINK: dict[int, type[Any]] = {
    1: Hello,
    2: Goodbye,
    3: Heartbeat,
    4: HeartbeatAnswer,
    8: Digest,
    9: Summary,
    10: Records,
    11: RecordsWanted,
    12: RevocationsKnown,
    13: Revocations,
    16: Forward,
    17: Undeliverable,
    18: StreamWanted,
    19: StreamAccepted,
    20: StreamRefused,
    21: News,
    22: Have,
    23: Graft,
    5: Prune,
    70: CircuitWanted,
    71: CircuitClosed,
}
JOINING: dict[int, type[Any]] = {24: JoinRequest, 25: JoinAccepted, 26: JoinRefused, 30: JoinAnswered}
SIGNALING: dict[int, type[Any]] = {27: Offer, 28: Answer, 29: OfferDeclined}
TO_A_MEMBER: dict[int, type[Any]] = {
    32: Grant,
    33: ApplicationMessage,
    34: Acknowledgement,
    35: MessageRefused,
    36: Ping,
    37: PingAnswer,
    38: AdmissionWanted,
    39: AdmissionIssued,
    40: AdmissionRefused,
    41: AnswerWanted,
    42: AnswerGiven,
    43: GrantTaken,
    44: SubscriptionDead,
    45: PushWanted,
    46: PushReported,
    47: GrantDeposit,
    48: GrantKept,
    60: TwinSeen,
    78: MessageDeposit,
    79: DepositKept,
    80: DepositRefused,
    81: MessageKept,
    82: KeptTaken,
    83: ReceiptKept,
    84: DepositWithdrawn,
    90: HopWanted,
    91: HopTold,
    72: RelayedStreamWanted,
    73: RelayedStreamAccepted,
    74: RelayedStreamRefused,
    75: RelayedStreamOver,
    76: PathWanted,
}
LINK_MESSAGES: dict[int, type[Any]] = ON_LINK | TO_A_MEMBER
ENVELOPE_MESSAGES: dict[int, type[Any]] = JOINING | SIGNALING | TO_A_MEMBER
_NUMBER_OF: dict[type[Any], int] = {cls: number for number, cls in (LINK_MESSAGES | ENVELOPE_MESSAGES).items()}

Message = Any  # one of the classes above; the tables are the union


def encode_message(message: Message) -> bytes:
    """The bytes of any message of the tables."""
    return pack([_NUMBER_OF[type(message)], *to_array(message)])


def decode_message(data: bytes, table: dict[int, type[Any]]) -> Message | None:
    """A message of that table; None if its number is unknown here (a later version's: ignore it).

    Raises MalformedMessage.
    """
    raw = unpack(data, MAX_PEER_MESSAGE_SIZE)
    if type(raw) is not list or not raw or type(raw[0]) is not int:
        raise MalformedMessage("not a message")
    cls = table.get(raw[0])
    return None if cls is None else from_array(cls, raw[1:])


def peer_prefixes(blob: bytes) -> list[bytes]:
    """A run of id prefixes, cut up."""
    return [blob[i : i + PREFIX_SIZE] for i in range(0, len(blob), PREFIX_SIZE)]


assert len(_NUMBER_OF) == len(LINK_MESSAGES | ENVELOPE_MESSAGES)
assert PEER_ID_SIZE == 32
