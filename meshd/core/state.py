"""What a node keeps for good: the tables, and how their rows look.

The store knows tables of bytes to bytes; every row's layout is a message class of this file, so that old rows can be
read by newer daemons by the codec's rule (fields are only appended). The store's schema version changes only when a
table comes or goes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias, TypeVar

from meshd.errors import MalformedMessage
from meshd.ids import CHANNEL_ID_SIZE, PEER_ID_SIZE
from meshd.push_services import MAX_ENDPOINT_SIZE
from meshd.wire.codec import Blob, Kind, Many, Nested, Text, Uint, decode, fixed
from meshd.wire.depositing import MAX_SEALED_MESSAGE_SIZE
from meshd.wire.granting import MAX_SEALED_GRANT_SIZE
from meshd.wire.messages import MAX_BODY_SIZE
from meshd.wire.parts import CHAIN, MAX_SUBSCRIPTIONS, SubscriptionPart

TABLES: tuple[str, ...] = (
    "mesh",  # one row: the mesh we belong to and our place in it
    "records",  # peer id → the newest record, as it travels
    "admitted",  # peer id → whom we have admitted and not yet heard from
    "introductions",  # introduction id → a token of ours
    "channels",  # channel id → a push channel of ours
    "holders",  # peer or introduction id → what it has been given of ours
    "audit",  # a number that counts up → what became of a capability
    "grants",  # peer id → what lets us push to it
    "kept_grants",  # owner ‖ holder → a sealed grant that we keep for the holder
    "kept_messages",  # sender ‖ recipient ‖ message id → a sealed message that we keep, or its receipt
    "uptime",  # one row: in which of the last hours this daemon was up
    "user_agents",  # push service → what it calls us
    "seen",  # sender, session, sequence → when the envelope stops being replayable
    "inbox",  # message id → a message nobody has read yet
    "received",  # message id → when it may be forgotten that it came
    "outbox",  # message id → a message not acknowledged yet
    "revocations",  # digest → a revocation, as it travels
    "first_seen",  # digest of a certificate or revocation → when it came to be known here
    "sealing_keys",  # public sealing key of ours → its seed, while anything sealed to it may come
)

OF_A_MESH = (  # what goes when the mesh is left
    "mesh",
    "records",
    "admitted",
    "introductions",
    "channels",
    "holders",
    "audit",
    "grants",
    "kept_grants",
    "kept_messages",
    "outbox",
    "revocations",
    "first_seen",
)

MAX_ROW_SIZE = MAX_BODY_SIZE + 1024
MAX_KEPT_BY = 8  # keepers that the sender of a message remembers

Stored = dict[str, dict[bytes, bytes]]
Layout: TypeAlias = tuple[Kind, ...]
T = TypeVar("T")

MESH_KEY = b"mesh"
REVOKED_KEY = b"revoked"


@dataclass(frozen=True, slots=True)
class MeshRow:
    """Our membership. ``number`` is that of our newest record, ``generation`` of our push subscriptions."""

    mesh: bytes
    mesh_name: str
    chain: tuple[bytes, ...]
    number: int
    generation: int
    WIRE: ClassVar[Layout] = (fixed(PEER_ID_SIZE), Text(32), CHAIN, Uint(40), Uint(40))


@dataclass(frozen=True, slots=True)
class RevokedRow:
    """The mesh that we were a member of until our admission was revoked, and why. ``when`` in Unix seconds."""

    mesh: bytes
    mesh_name: str
    reason: str
    when: int
    WIRE: ClassVar[Layout] = (fixed(PEER_ID_SIZE), Text(32), Text(32), Uint(40))


@dataclass(frozen=True, slots=True)
class SealingKeyRow:
    """A sealing key of ours. Unix seconds; ``made`` 0: not known, ``retired`` 0: the current one."""

    seed: bytes = field(repr=False)
    made: int
    retired: int = 0
    WIRE: ClassVar[Layout] = (fixed(32), Uint(40), Uint(40))


@dataclass(frozen=True, slots=True)
class AdmittedRow:
    """A peer that we have admitted. Kept until its record is known, so that its name stays taken."""

    chain: tuple[bytes, ...]
    sealing_key: bytes
    WIRE: ClassVar[Layout] = (CHAIN, fixed(32))


@dataclass(frozen=True, slots=True)
class IntroductionRow:
    """A token that we minted. Times in Unix seconds; ``joined`` are the peers it has admitted."""

    sealing_seed: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    label: str
    created: int
    expires: int
    uses: int
    revoked: int
    joined: tuple[bytes, ...] = ()
    WIRE: ClassVar[Layout] = (
        fixed(32),
        fixed(16),
        Text(64),
        Uint(40),
        Uint(40),
        Uint(16),
        Uint(1),
        Many(fixed(PEER_ID_SIZE), 1024),
    )


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """A push channel of ours. Its holder is a peer (32 bytes) or an introduction (8 bytes).

    ``newcomer``: it belongs to our user agent for newcomers. ``retired`` (Unix seconds; 0 for one in use): granted no
    more, and not to be taken back before. ``granted_until``: when the last capability for a retired one ends.
    """

    service: str
    seed: bytes = field(repr=False)
    holder: bytes
    endpoint: str = field(repr=False)
    granted_until: int
    newcomer: int = 0
    retired: int = 0
    WIRE: ClassVar[Layout] = (
        Text(256),
        fixed(32),
        Blob(8, PEER_ID_SIZE),
        Text(MAX_ENDPOINT_SIZE),
        Uint(40),
        Uint(1),
        Uint(40),
    )


@dataclass(frozen=True, slots=True)
class HolderRow:
    """What a holder has been given: the ``channels`` of our last grant, and until when their capabilities serve.

    ``taken_until`` is what the holder has confirmed of that, 0 if nothing. ``since``: when it came to hold something
    here for the first time. Unix seconds.
    """

    since: int
    newcomer: int
    generation: int = 0
    channels: tuple[bytes, ...] = ()
    granted_until: int = 0
    taken_until: int = 0
    WIRE: ClassVar[Layout] = (
        Uint(40),
        Uint(1),
        Uint(40),
        Many(fixed(CHANNEL_ID_SIZE), MAX_SUBSCRIPTIONS),
        Uint(40),
        Uint(40),
    )


@dataclass(frozen=True, slots=True)
class AuditRow:
    """What became of a capability, and when (Unix seconds); ``until``: to when it serves, 0 where that means nothing.

    ``holder`` is a peer or an introduction, or empty: everybody.
    """

    when: int
    kind: str
    holder: bytes
    service: str
    until: int
    detail: str = ""
    WIRE: ClassVar[Layout] = (Uint(40), Text(16), Blob(0, PEER_ID_SIZE), Text(256), Uint(40), Text(64))


@dataclass(frozen=True, slots=True)
class GrantRow:
    """What a peer has given us. ``issued``: when (Unix seconds) it made the last copy that friends kept for us."""

    generation: int
    subscriptions: tuple[SubscriptionPart, ...]
    issued: int = 0
    WIRE: ClassVar[Layout] = (Uint(40), Many(Nested(SubscriptionPart), MAX_SUBSCRIPTIONS), Uint(40))


@dataclass(frozen=True, slots=True)
class KeptGrantRow:
    """A copy of a grant that we keep for its holder; the key is owner ‖ holder. ``issued`` in Unix seconds."""

    generation: int
    issued: int
    sealed: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (Uint(40), Uint(40), Blob(1, MAX_SEALED_GRANT_SIZE))


@dataclass(frozen=True, slots=True)
class KeptMessageRow:
    """What we keep for another member; the key is sender ‖ recipient ‖ message id. Unix seconds.

    ``receipt`` 1: the recipient has the message, and ``sealed`` is what it has left for the sender.
    """

    issued: int
    expires: int
    sealed: bytes = field(repr=False)
    receipt: int = 0
    WIRE: ClassVar[Layout] = (Uint(40), Uint(40), Blob(1, MAX_SEALED_MESSAGE_SIZE), Uint(1))


@dataclass(frozen=True, slots=True)
class UptimeRow:
    """In which hours this daemon was up: bit n of ``bits`` is the hour ``hour`` - n (since 1970)."""

    hour: int
    bits: int
    WIRE: ClassVar[Layout] = (Uint(40), Uint(64))


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A message that waits to be read. Times in milliseconds since 1970."""

    peer: bytes
    application: str
    sent_at: int
    received_at: int
    body: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (fixed(PEER_ID_SIZE), Text(32), Uint(48), Uint(48), Blob(0, MAX_BODY_SIZE))


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message on its way. ``sent_at`` in milliseconds, ``expires`` and ``deposited`` in seconds since 1970.

    ``deposited``: when it was last sealed for keepers, 0 for never; ``kept_by``: who has said since that it has it.
    """

    peer: bytes
    application: str
    sent_at: int
    expires: int
    body: bytes = field(repr=False)
    deposited: int = 0
    kept_by: tuple[bytes, ...] = ()
    WIRE: ClassVar[Layout] = (
        fixed(PEER_ID_SIZE),
        Text(32),
        Uint(48),
        Uint(40),
        Blob(0, MAX_BODY_SIZE),
        Uint(40),
        Many(fixed(PEER_ID_SIZE), MAX_KEPT_BY),
    )


def read_row(cls: type[T], value: bytes) -> T:
    """A row's value. Raises MalformedMessage."""
    return decode(cls, value, MAX_ROW_SIZE)


def rows(stored: Stored, table: str, cls: type[T]) -> dict[bytes, T]:
    """All readable rows of a table. One that cannot be read (a disk's fault) is left out, never fatal."""
    result: dict[bytes, T] = {}
    for key, value in stored.get(table, {}).items():
        try:
            result[key] = read_row(cls, value)
        except MalformedMessage:
            continue
    return result


def encode_time(unix: float) -> bytes:
    """Unix seconds as a row's value."""
    return int(max(0.0, unix)).to_bytes(5, "big")


def decode_time(value: bytes) -> int:
    """The inverse of ``encode_time``; anything else is 0: long ago."""
    return int.from_bytes(value, "big") if len(value) == 5 else 0
