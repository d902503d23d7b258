"""Base64 with the URL alphabet and no padding (RFC 4648 section 5): how Web Push writes bytes in headers and JSON."""

from __future__ import annotations

import binascii
import re

from meshd.errors import MalformedMessage

_TEXT = re.compile(r"[A-Za-z0-9_+/-]*\Z")
# Of bytes: translating text takes twenty times as long, and every push has four such words in its header.
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


def encode_base64url(data: bytes) -> str:
    """``data`` in base64url without padding."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL).decode("ascii")


def decode_base64url(text: str) -> bytes:
    """The bytes that ``text`` stands for. Raises MalformedMessage.

    Padding and the standard alphabet are taken as well, because real senders use both (autopush takes them too);
    anything else is refused, which Python's own decoder would skip without a word.
    """
    text = text.rstrip("=")
    if not _TEXT.match(text):
        raise MalformedMessage("not base64url: a character outside its alphabet")
    try:
        return binascii.a2b_base64(text.encode("ascii").translate(_FROM_URL) + b"=" * (-len(text) % 4))
    except binascii.Error as error:
        raise MalformedMessage(f"not base64url: {error}") from None
