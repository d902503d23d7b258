"""The messages about what is kept for members that are away: to keepers, and from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from meshd.ids import MESSAGE_ID_SIZE, PEER_ID_SIZE
from meshd.wire.codec import Blob, Many, Text, Uint, fixed
from meshd.wire.parts import MAX_BODY_SIZE, MAX_REASON_CHARS, Layout

# Specification (ours: docs/protocol.md)
MAX_SEALED_MESSAGE_SIZE = MAX_BODY_SIZE + 448  # fits into an envelope with all that is around it
MAX_RECEIPT_SIZE = 512
MAX_WITHDRAWN = 256  # in one message


@dataclass(frozen=True, slots=True)
class MessageDeposit:
    """To a keeper: keep this message of mine for ``recipient``, to whom I have no way. One issued later replaces it.

    Answered by ``DepositKept`` or ``DepositRefused``. Times in Unix seconds.
    """

    recipient: bytes
    message: bytes
    issued: int
    expires: int
    sealed: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (
        fixed(PEER_ID_SIZE),
        fixed(MESSAGE_ID_SIZE),
        Uint(40),
        Uint(40),
        Blob(1, MAX_SEALED_MESSAGE_SIZE),
    )


@dataclass(frozen=True, slots=True)
class DepositKept:
    """From a keeper to the sender: that message for ``recipient`` is durable here."""

    recipient: bytes
    message: bytes
    WIRE: ClassVar[Layout] = (fixed(PEER_ID_SIZE), fixed(MESSAGE_ID_SIZE))


@dataclass(frozen=True, slots=True)
class DepositRefused:
    """From a keeper to the sender: not kept here: ``full``, ``quota``, ``busy``, ``refused``, ``out_of_date``."""

    recipient: bytes
    message: bytes
    reason: str
    WIRE: ClassVar[Layout] = (fixed(PEER_ID_SIZE), fixed(MESSAGE_ID_SIZE), Text(MAX_REASON_CHARS))


@dataclass(frozen=True, slots=True)
class MessageKept:
    """From a keeper to the recipient: what ``sender`` has deposited for you. Answered by ``KeptTaken`` once durable."""

    sender: bytes
    message: bytes
    sealed: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (fixed(PEER_ID_SIZE), fixed(MESSAGE_ID_SIZE), Blob(1, MAX_SEALED_MESSAGE_SIZE))


@dataclass(frozen=True, slots=True)
class KeptTaken:
    """From the recipient to a keeper: keep ``receipt`` for ``sender`` in the place of that message of its.

    Without a receipt: drop the message, it is of no use to me.
    """

    sender: bytes
    message: bytes
    receipt: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (fixed(PEER_ID_SIZE), fixed(MESSAGE_ID_SIZE), Blob(0, MAX_RECEIPT_SIZE))


@dataclass(frozen=True, slots=True)
class ReceiptKept:
    """From a keeper to the sender: what ``recipient`` left for you when it took your message.

    Answered by ``DepositWithdrawn``.
    """

    recipient: bytes
    message: bytes
    sealed: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (fixed(PEER_ID_SIZE), fixed(MESSAGE_ID_SIZE), Blob(1, MAX_RECEIPT_SIZE))


@dataclass(frozen=True, slots=True)
class DepositWithdrawn:
    """From the sender to a keeper: drop what you have of those messages for ``recipient``, receipts as well."""

    recipient: bytes
    messages: tuple[bytes, ...]
    WIRE: ClassVar[Layout] = (fixed(PEER_ID_SIZE), Many(fixed(MESSAGE_ID_SIZE), MAX_WITHDRAWN))
