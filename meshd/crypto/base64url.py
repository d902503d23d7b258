"""Base64 with the URL alphabet and no padding (RFC 4648 section 5): how Web Push writes bytes in headers and JSON."""

from __future__ import annotations

import binascii
import re

from meshd.errors import MalformedMessage

_TEXT = re.compile(r"[A-Za-z0-9_-]*\Z")
_TO_URL = str.maketrans("+/", "-_")
_FROM_URL = str.maketrans("-_", "+/")


def encode_base64url(data: bytes) -> str:
    """``data`` in base64url without padding."""
    return binascii.b2a_base64(data, newline=False).decode("ascii").translate(_TO_URL).rstrip("=")


def decode_base64url(text: str) -> bytes:
    """The bytes that ``text`` stands for. Raises MalformedMessage.

    Padding and the standard alphabet are taken as well, because real senders use both (autopush takes them too);
    anything else is refused, which Python's own decoder would skip without a word.
    """
    text = text.rstrip("=").translate(_TO_URL)
    if not _TEXT.match(text):
        raise MalformedMessage("not base64url: a character outside its alphabet")
    try:
        return binascii.a2b_base64(text.translate(_FROM_URL) + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise MalformedMessage(f"not base64url: {error}") from None
