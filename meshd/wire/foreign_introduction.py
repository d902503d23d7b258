"""Introductions of a browser system that came before, so that whoever pastes one is told what it is.

The form of evan-brass/web3.0-test, autumn 2020, as its ``Introductions.md`` shows it: base64, in lines of 30, of

    1, p256dh (33 bytes), auth (16), the signature of a VAPID JWT (64),
    raw deflate (RFC 1951) of: exp (4 bytes, big-endian), endpoint, zero, subscriber
    a signature (64) over all that, the parity of its point in the highest bit of s; the key is recovered from it

That key also signs the JWT, so the JWT tells an introduction that is whole from one that is not. Nothing is done with
any of it: no node of ours speaks what follows there.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from dataclasses import dataclass, field

from meshd.crypto import p256, vapid
from meshd.crypto.recovery import recover_public_key
from meshd.errors import MalformedMessage, Rejected
from meshd.push_services import MAX_ENDPOINT_SIZE
from meshd.wire.paste import MAX_TEXT_CHARS, NOISE

# Specification (theirs)
_TAG = 1
_HEAD_SIZE = 1 + p256.COMPRESSED_POINT_SIZE + 16 + vapid.SIGNATURE_SIZE
_PARITY = 1 << 255
MAX_CHARS = 4096

# Policy
MAX_INFLATED_SIZE = 4 + MAX_ENDPOINT_SIZE + 1 + 256  # its exp, an endpoint as long as we take, a subscriber


@dataclass(frozen=True, slots=True)
class ForeignIntroduction:
    """What such a text says. ``key``: who signed it, compressed (33 bytes); ``expires`` in Unix seconds."""

    key: bytes
    p256dh: bytes
    auth: bytes = field(repr=False)
    endpoint: str = field(repr=False)
    capability: vapid.Capability

    @property
    def expires(self) -> int:
        """When its JWT ends, and with it the introduction."""
        return self.capability.exp


def decode_foreign_introduction(text: str) -> ForeignIntroduction:
    """Read such an introduction and check both of its signatures. Raises MalformedMessage."""
    data = _bytes_of(text)
    if len(data) < _HEAD_SIZE + vapid.SIGNATURE_SIZE or data[0] != _TAG:
        raise MalformedMessage("not an introduction of that system")
    signed, r, s = data[:-64], int.from_bytes(data[-64:-32]), int.from_bytes(data[-32:])
    expires, endpoint, subscriber = _inflated(signed[_HEAD_SIZE:])
    key = recover_public_key(signed, r, s & (_PARITY - 1), odd=s >= _PARITY)
    signature = signed[_HEAD_SIZE - vapid.SIGNATURE_SIZE : _HEAD_SIZE]
    capability = vapid.Capability(expires, signature, subscriber)
    try:
        vapid.verify_jwt(vapid.jwt(capability, vapid.origin_of(endpoint)), key)
    except Rejected as refusal:
        raise MalformedMessage(f"damaged: {refusal}") from None
    return ForeignIntroduction(key, signed[1:34], signed[34:50], endpoint, capability)


def _bytes_of(text: str) -> bytes:
    if len(text) > MAX_TEXT_CHARS:
        raise MalformedMessage("too long")
    word = NOISE.sub("", text).rstrip("=").replace("-", "+").replace("_", "/")
    if len(word) > MAX_CHARS or not re.fullmatch("[A-Za-z0-9+/]*", word):
        raise MalformedMessage("not base64")
    try:
        return base64.b64decode(word + "=" * (-len(word) % 4))
    except binascii.Error:
        raise MalformedMessage("not base64") from None


def _inflated(deflated: bytes) -> tuple[int, str, str]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(deflated, MAX_INFLATED_SIZE)
        endpoint, zero, subscriber = data[4:].decode().partition("\0")
    except (zlib.error, UnicodeDecodeError):
        raise MalformedMessage("not deflated text") from None
    if not inflater.eof or inflater.unused_data or not zero:
        raise MalformedMessage("not an expiry, an endpoint and a subscriber")
    return int.from_bytes(data[:4]), endpoint, subscriber
