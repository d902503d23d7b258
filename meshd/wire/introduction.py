"""The introduction token: everything a new machine needs to reach its introducer, as one word to paste.

``meshd1_`` and then base64url of: version, length, body, checksum. The length tells a token that was cut off from one
that was damaged. The text survives line breaks, spaces, quotes, zero-width characters and chat clients' quote marks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import struct
from dataclasses import dataclass, field
from typing import ClassVar

from meshd.errors import Code, ControlError, MalformedMessage
from meshd.ids import INTRODUCTION_ID_SIZE, PEER_ID_SIZE, IntroductionId, MeshId, PeerId, SessionId
from meshd.wire.codec import Kind, Many, Nested, Text, Uint, decode, encode, fixed
from meshd.wire.parts import MAX_SUBSCRIPTIONS, SubscriptionPart

# Specification (ours)
PREFIX = "meshd1_"
VERSION = 1
SECRET_SIZE = 16
CHECKSUM_SIZE = 6
_FRAME = struct.Struct(">BH")
_PROOF_CONTEXT = b"meshd introduction proof 1\0"

# Policy
MAX_TOKEN_SIZE = 4096
MAX_TEXT_CHARS = 16384  # of what a person pastes, the noise around the token included
MAX_STUN_SERVERS = 4
_NOISE = re.compile("[\\s\u00ad\"'`<>|*\u200b-\u200f\u2018-\u201f\u2060\ufeff]+")
_WORD = re.compile(r"[A-Za-z0-9_-]*")


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
    body = encode(introduction)
    framed = _FRAME.pack(VERSION, _FRAME.size + len(body) + CHECKSUM_SIZE) + body
    data = framed + hashlib.sha256(framed).digest()[:CHECKSUM_SIZE]
    return PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode_token(text: str) -> Introduction:
    """The content of a pasted token. Raises ControlError: foreign, truncated or mangled, told apart."""
    if len(text) > MAX_TEXT_CHARS:
        raise ControlError(Code.TOKEN_FOREIGN, f"It is longer than {MAX_TEXT_CHARS} characters.")
    word = _NOISE.sub("", text)
    start = word.find(PREFIX)
    if start < 0:
        raise ControlError(Code.TOKEN_FOREIGN, f"A token begins with {PREFIX}")
    encoded = word[start + len(PREFIX) :]
    if _WORD.fullmatch(encoded) is None:
        # Chat clients append a full stop or a bracket; anything else inside means damage, found by the checksum.
        matched = _WORD.match(encoded)
        encoded = matched.group() if matched else ""
    try:
        data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        # One character too many for base64: cut short in the middle of a byte.
        data = base64.urlsafe_b64decode(encoded[: len(encoded) // 4 * 4])
    return _decode_bytes(data)


def _decode_bytes(data: bytes) -> Introduction:
    if len(data) < _FRAME.size:
        raise ControlError(Code.TOKEN_TRUNCATED)
    version, length = _FRAME.unpack_from(data)
    if version != VERSION:
        raise ControlError(Code.TOKEN_MANGLED, f"Or it is of a later version ({version}) than this meshd knows.")
    if len(data) < length:
        raise ControlError(Code.TOKEN_TRUNCATED, f"{len(data)} of {length} bytes are there.")
    framed, checksum = data[: length - CHECKSUM_SIZE], data[length - CHECKSUM_SIZE : length]
    if length < _FRAME.size + CHECKSUM_SIZE or hashlib.sha256(framed).digest()[:CHECKSUM_SIZE] != checksum:
        raise ControlError(Code.TOKEN_MANGLED)
    try:
        return decode(Introduction, framed[_FRAME.size :], MAX_TOKEN_SIZE)
    except MalformedMessage as error:
        raise ControlError(Code.TOKEN_MANGLED, str(error)) from None
