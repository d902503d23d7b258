"""The one introduction that the author of web3.0-test has published whole, and texts that are none."""

from __future__ import annotations

import base64
import struct
import zlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st
from published_introduction import PUBLISHED

from meshd.crypto import p256, vapid
from meshd.errors import MalformedMessage
from meshd.wire.foreign_introduction import MAX_CHARS, decode_foreign_introduction

KEY = vapid.derive_key(b"\x07" * 32)


def made(endpoint: str, subscriber: str, key: vapid.VapidKey = KEY, waste: bytes = b"") -> str:
    """As that system made them. Which of the two parities is the right one is tried out."""
    exp = 1_600_000_000
    text = struct.pack(">I", exp) + endpoint.encode() + b"\0" + subscriber.encode()
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(text) + deflater.flush() + waste
    signature = vapid.issue(KEY, vapid.origin_of(endpoint), exp, subscriber).signature
    signed = b"\1" + p256.compress_point(KEY.public) + bytes(16) + signature + deflated
    r, s = decode_dss_signature(p256.private_key(key.private).sign(signed, ec.ECDSA(hashes.SHA256())))
    s = min(s, p256.ORDER - s)
    texts = [base64.b64encode(signed + r.to_bytes(32) + (s | odd << 255).to_bytes(32)).decode() for odd in (0, 1)]
    return next((text for text in texts if readable(text)), texts[0])


def readable(text: str) -> bool:
    try:
        decode_foreign_introduction(text)
    except MalformedMessage:
        return False
    return True


def test_the_published_introduction():
    assert len("".join(PUBLISHED.split())) == 514
    introduction = decode_foreign_introduction(PUBLISHED)
    assert introduction.key.hex() == "029cf7f8624a61e1edddaa2ddca76fb76dfcfdf3bef8d8071484f795de8f21a3f2"
    assert introduction.expires == 4_295_687
    assert introduction.capability.subject == "https://github.com/evan-brass/web3.0-test"
    assert vapid.origin_of(introduction.endpoint) == "https://fcm.googleapis.com"
    assert len(introduction.endpoint) == 188
    assert p256.compress_point(introduction.p256dh) == introduction.p256dh
    assert introduction.endpoint not in repr(introduction)


@pytest.mark.parametrize("place", range(0, 513, 57))
def test_a_damaged_one(place: int):
    text = "".join(PUBLISHED.split())
    assert not readable(text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :])
    assert not readable(text[:place])


def test_one_made_here():
    introduction = decode_foreign_introduction(made("https://push.example/" + "x" * 800, "mailto:x@example.org"))
    assert introduction.key == p256.compress_point(KEY.public)
    assert introduction.expires == 1_600_000_000


def test_one_whose_jwt_is_of_another_key():
    assert not readable(made("https://push.example/x", "", key=vapid.derive_key(b"\x08" * 32)))


def test_bytes_after_the_compressed_ones():
    assert not readable(made("https://push.example/x", "", waste=b"x"))


def test_a_bomb_is_left_alone():
    assert not readable(made("https://push.example/x", "\0" * 1_000_000))
    assert not readable("A" * (MAX_CHARS + 1))


@settings(max_examples=50)
@given(st.text(max_size=300) | st.binary(max_size=400).map(lambda data: base64.b64encode(b"\1" + data).decode()))
def test_any_text_is_malformed(text: str):
    with pytest.raises(MalformedMessage):
        decode_foreign_introduction(text)
