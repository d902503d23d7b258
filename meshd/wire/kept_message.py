"""What keepers keep for members that are away: signed by its sender, sealed for its recipient, good for days.

It is no envelope: those are good for minutes, and remembered for as long. This is taken once since the message inside
has an id, which the recipient remembers for as long as anybody could bring it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from meshd.crypto.suite import Suite
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import CLOCK_SKEW, PEER_ID_SIZE, MeshId, Now, PeerId
from meshd.wire.codec import Blob, Uint, decode, encode, fixed
from meshd.wire.depositing import MAX_SEALED_MESSAGE_SIZE
from meshd.wire.messages import (
    MAX_BODY_SIZE,
    TO_A_MEMBER,
    Acknowledgement,
    ApplicationMessage,
    Message,
    decode_message,
    encode_message,
)
from meshd.wire.parts import Layout

# Specification (ours: docs/protocol.md)
MAX_KEPT_LIFETIME = 7 * 86400.0  # seconds from issued to expires. Sealed with the key of a record that may be as old:
# a sealing key that its owner has replaced since opens for 15 days, so what is sealed with it can be opened to its end
RECEIPT_WAIT = 86400.0  # seconds that a receipt is kept for longer than its message was to be
_CONTEXT = b"meshd kept message 1\0"
_INSIDE = {number: cls for number, cls in TO_A_MEMBER.items() if cls in (ApplicationMessage, Acknowledgement)}


@dataclass(frozen=True, slots=True)
class _Body:
    sender: bytes
    recipient: bytes
    issued: int
    expires: int
    message: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (
        fixed(PEER_ID_SIZE),
        fixed(PEER_ID_SIZE),
        Uint(40),
        Uint(40),
        Blob(1, MAX_BODY_SIZE + 192),
    )


@dataclass(frozen=True, slots=True)
class _Signed:
    body: bytes = field(repr=False)
    signature: bytes
    WIRE: ClassVar[Layout] = (Blob(1, MAX_SEALED_MESSAGE_SIZE), fixed(64))


class Kept(NamedTuple):
    """What was inside. ``message`` is None for one of a later version. Times in Unix seconds."""

    message: Any
    issued: int
    expires: int


def seal_kept(
    suite: Suite, mesh: MeshId, recipient: PeerId, sealing_key: bytes, message: Message, issued: int, expires: int
) -> bytes:
    """A message (``ApplicationMessage`` or ``Acknowledgement``) of ours, to be kept. Raises Rejected for a bad key."""
    body = encode(_Body(suite.peer_id, recipient, issued, expires, encode_message(message)))
    signed = encode(_Signed(body, suite.sign(_CONTEXT + mesh + body)))
    return suite.seal(sealing_key, _CONTEXT + mesh, signed)


def open_kept(suite: Suite, mesh: MeshId, sender: PeerId, sealed: bytes) -> Kept:
    """What ``sender`` has sealed for us. Raises MalformedMessage, or Rejected: ``not_for_us``, ``bad_signature``."""
    signed = decode(_Signed, suite.open(None, _CONTEXT + mesh, sealed), MAX_SEALED_MESSAGE_SIZE)
    if not suite.verify(sender, _CONTEXT + mesh + signed.body, signed.signature):
        raise Rejected("bad_signature")
    body = decode(_Body, signed.body, MAX_SEALED_MESSAGE_SIZE)
    if body.sender != sender:
        raise MalformedMessage("a kept message signed by another than its sender")
    if body.recipient != suite.peer_id:
        raise Rejected("not_for_us")
    return Kept(decode_message(body.message, _INSIDE), body.issued, body.expires)


def check_kept_times(issued: int, expires: int, now: Now) -> None:
    """Raises Rejected: ``expired``, ``clock`` (issued in our future, or good for longer than allowed)."""
    if issued > now.unix + CLOCK_SKEW or expires - issued > MAX_KEPT_LIFETIME:
        raise Rejected("clock", f"issued {issued - now.unix:+.0f} s from now by our clock")
    if expires + CLOCK_SKEW < now.unix:
        raise Rejected("expired", f"{now.unix - expires:.0f} s ago by our clock")
