"""A call: how to push to somebody, and an offer, as a text that a person carries to a member of the mesh.

Who calls says by it: here is my push subscription and what lets you use it, answer me there. It is signed, not sealed:
nobody knows yet who will answer. A web page can always make one, also where it may not post to a push service.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from meshd.crypto.suite import Suite
from meshd.errors import Code, ControlError, MalformedMessage
from meshd.ids import INSTANCE_SIZE, PEER_ID_SIZE, SESSION_ID_SIZE, PeerId, SessionId
from meshd.wire.call_json import read_json
from meshd.wire.codec import Blob, Kind, Many, Nested, Text, Uint, decode, encode, fixed
from meshd.wire.joining import MAX_FURTHER, FurtherOffer
from meshd.wire.parts import MAX_DESCRIPTION_SIZE, Grant
from meshd.wire.paste import MAX_TEXT_CHARS, PREFIXES, Faults, decode_text, encode_text

# Specification (ours: docs/protocol.md)
SIGNATURE_SIZE = 64
_CONTEXT = b"meshd call 1\0"

# Policy
MAX_CALL_SIZE = 8192  # bytes; one with an offer, a subscription and a capability has some 500
_FAULTS = Faults(Code.CALL_FOREIGN, Code.PASTE_TRUNCATED, Code.PASTE_MANGLED)


@dataclass(frozen=True, slots=True)
class Call:
    """What the caller signs. Times in whole Unix seconds by its clock.

    ``mesh``: the one that it is a member of; empty for a newcomer, to whom any will do. ``description``: its offer;
    empty if it wants to be offered to, and can answer. ``grant``: what lets the callee push to it. ``further``: offers
    for other members.
    """

    caller: PeerId
    mesh: bytes
    sealing_key: bytes
    name: str
    session: SessionId
    instance: bytes
    issued: int
    expires: int
    description: bytes
    grant: Grant = field(repr=False)
    further: tuple[FurtherOffer, ...] = ()
    WIRE: ClassVar[tuple[Kind, ...]] = (
        fixed(PEER_ID_SIZE),
        Blob(0, PEER_ID_SIZE),
        fixed(32),
        Text(32),
        fixed(SESSION_ID_SIZE),
        fixed(INSTANCE_SIZE),
        Uint(40),
        Uint(40),
        Blob(0, MAX_DESCRIPTION_SIZE),
        Nested(Grant),
        Many(Nested(FurtherOffer), MAX_FURTHER),
    )


@dataclass(frozen=True, slots=True)
class _Signed:
    call: bytes
    signature: bytes
    WIRE: ClassVar[tuple[Kind, ...]] = (Blob(1, MAX_CALL_SIZE), fixed(SIGNATURE_SIZE))


@dataclass(frozen=True, slots=True)
class PastedCall:
    """A call as it was pasted; its signature is still to be checked.

    ``vapid_private``: the private half of the subscription's VAPID key, where the caller shares it with everybody
    instead of giving capabilities; else empty. ``ends``: when (Unix seconds) the browser ends the subscription.
    """

    call: Call
    signed: bytes
    signature: bytes
    vapid_private: bytes = field(default=b"", repr=False)
    ends: float = math.inf

    def is_signed(self, suite: Suite) -> bool:
        """Whether the caller itself has made it."""
        return suite.verify(self.call.caller, _CONTEXT + self.signed, self.signature)


def sign_call(suite: Suite, call: Call) -> tuple[bytes, bytes]:
    """What of a call is signed, and the caller's signature over it."""
    signed = encode(call)
    return signed, suite.sign(_CONTEXT + signed)


def encode_call(suite: Suite, call: Call) -> str:
    """The text to hand over, signed by the caller."""
    return encode_text(PREFIXES["call"], encode(_Signed(*sign_call(suite, call))))


def decode_call(text: str) -> PastedCall:
    """A pasted call: a text of ours, or JSON as a page writes it. Raises ControlError that says what is wrong."""
    if len(text) > MAX_TEXT_CHARS:
        raise ControlError(Code.CALL_FOREIGN, f"It is longer than {MAX_TEXT_CHARS} characters.")
    try:
        if not text.lstrip().startswith("{"):
            signed = decode(_Signed, decode_text(PREFIXES["call"], text, _FAULTS), 2 * MAX_CALL_SIZE)
            return PastedCall(_decode(signed.call), signed.call, signed.signature)
        read = read_json(text)
        call = Call(
            PeerId(read.caller),
            read.mesh,
            read.sealing_key,
            read.name,
            SessionId(read.session),
            read.instance,
            read.issued,
            read.expires,
            read.description,
            read.grant,
        )
        signed_bytes = encode(call)
        # There and back: what JSON can say is then what a text of ours can.
        return PastedCall(_decode(signed_bytes), signed_bytes, read.signature, read.vapid_private, read.ends)
    except MalformedMessage as error:
        raise ControlError(Code.PASTE_MANGLED, f"{error}.") from None


def _decode(data: bytes) -> Call:
    call = decode(Call, data, MAX_CALL_SIZE)
    if len(call.mesh) not in (0, PEER_ID_SIZE):
        raise MalformedMessage("the id of a mesh has 32 bytes")
    if not call.grant.subscriptions:
        raise MalformedMessage("a call without a push subscription")
    if call.further and not call.description:
        raise MalformedMessage("further offers without a first")
    return call
