"""Web Push message encryption: the published vector, round trips, and what a decoder meets."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshd.crypto import p256, webpush
from meshd.crypto.base64url import decode_base64url, encode_base64url
from meshd.errors import LocalMisuse, MalformedMessage

# RFC 8291 section 5 and appendix A
PLAINTEXT = b"When I grow up, I want to be a watermelon"
AS_PRIVATE = decode_base64url("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")
UA_PRIVATE = decode_base64url("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94")
UA_PUBLIC = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = decode_base64url("BTBZMqHH6r4Tts7J_aSIgg")
SALT = decode_base64url("DGv6ra1nlYgDCS1FRnbzlw")
BODY = decode_base64url(
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml"
    "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT"
    "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)
KEYS = webpush.UserAgentKeys(UA_PRIVATE, AUTH)
OWN = webpush.derive_user_agent_keys(bytes(range(32)))


def encrypt(plaintext: bytes, padded_size: int | None = None, keys: webpush.UserAgentKeys = OWN) -> bytes:
    return webpush.encrypt(
        plaintext, keys.public, keys.auth, ephemeral_seed=b"\x11" * 32, salt=b"\x22" * 16, padded_size=padded_size
    )


def test_the_published_vector_byte_for_byte():
    assert encode_base64url(KEYS.public) == UA_PUBLIC
    body = webpush.encrypt(PLAINTEXT, KEYS.public, AUTH, ephemeral_seed=AS_PRIVATE, salt=SALT, padded_size=None)
    assert len(BODY) == 144
    assert body == BODY
    assert webpush.decrypt(BODY, KEYS) == PLAINTEXT


def test_a_compressed_key_gives_the_same_body():
    compressed = webpush.compress_point(KEYS.public)
    assert len(compressed) == 33
    assert webpush.uncompress_point(compressed) == KEYS.public
    body = webpush.encrypt(PLAINTEXT, compressed, AUTH, ephemeral_seed=AS_PRIVATE, salt=SALT, padded_size=None)
    assert body == BODY


@given(st.binary(max_size=webpush.MAX_PLAINTEXT_SIZE), st.booleans())
@example(b"\x00" * 40 + b"\x02\x00\x00", True)
@example(b"", True)
def test_what_is_encrypted_is_decrypted(plaintext: bytes, padded: bool):
    size = webpush.padded_size_for(len(plaintext)) if padded else None
    body = encrypt(plaintext, size)
    assert len(body) == (len(plaintext) if size is None else size) + webpush.OVERHEAD_SIZE
    assert webpush.decrypt(body, OWN) == plaintext


@given(st.binary(max_size=5000))
def test_any_bytes_are_a_push_or_malformed(body: bytes):
    with pytest.raises(MalformedMessage):
        webpush.decrypt(body, OWN)


@settings(max_examples=200)
@given(st.integers(0, 143), st.integers(1, 255))
def test_a_changed_byte_is_malformed(position: int, change: int):
    damaged = bytearray(BODY)
    damaged[position] ^= change
    if 16 <= position < 20 and int.from_bytes(damaged[16:20]) >= 58:
        return  # the record size is not authenticated; a bigger or still sufficient one changes nothing
    with pytest.raises(MalformedMessage):
        webpush.decrypt(bytes(damaged), KEYS)


@pytest.mark.parametrize("record_size", [0, 17, 57])
def test_a_record_size_too_small_for_one_record_is_refused(record_size: int):
    with pytest.raises(MalformedMessage):
        webpush.decrypt(BODY[:16] + record_size.to_bytes(4) + BODY[20:], KEYS)


def test_a_record_that_is_not_the_last_is_refused():
    # the same keys as the vector's, with delimiter 1 in place of 2
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key, nonce = decode_base64url("oIhVW04MRdy2XN9CiKLxTg"), decode_base64url("4h_95klXJ5E_qnoN")
    for padded in (PLAINTEXT + b"\x01", PLAINTEXT, b"\x00" * 20):
        with pytest.raises(MalformedMessage, match="delimiter"):
            webpush.decrypt(BODY[: webpush.HEADER_SIZE] + AESGCM(key).encrypt(nonce, padded, None), KEYS)


def test_a_message_for_somebody_else_is_malformed():
    with pytest.raises(MalformedMessage):
        webpush.decrypt(encrypt(b"x"), KEYS)
    with pytest.raises(MalformedMessage):
        webpush.decrypt(encrypt(b"x"), webpush.UserAgentKeys(OWN.private, b"\x00" * 16))


def test_too_much_is_our_own_fault_and_said_before_any_work():
    with pytest.raises(LocalMisuse, match="3993"):
        webpush.encrypt(bytes(3994), b"no point", b"", ephemeral_seed=b"", salt=b"", padded_size=None)
    with pytest.raises(LocalMisuse):
        encrypt(bytes(10), 9)
    with pytest.raises(LocalMisuse):
        encrypt(bytes(10), 3994)
    assert len(encrypt(bytes(3993))) == webpush.MAX_BODY_SIZE == 4096


def test_a_bad_p256dh_is_malformed():
    for point in (b"", bytes(65), b"\x04" + bytes(64), bytes(33), b"\x02" + b"\xff" * 32):
        with pytest.raises(MalformedMessage):
            webpush.encrypt(b"x", point, bytes(16), ephemeral_seed=b"\x11" * 32, salt=bytes(16), padded_size=None)


@given(st.binary(max_size=70) | st.binary(min_size=33, max_size=33) | st.binary(min_size=65, max_size=65))
def test_any_bytes_are_a_point_or_malformed(data: bytes):
    try:
        compressed = webpush.compress_point(data)
    except MalformedMessage:
        return
    assert webpush.uncompress_point(compressed) == webpush.uncompress_point(data)


def test_buckets():
    sizes = [(0, 1200), (1200, 1200), (1201, 2640), (2640, 2640), (2641, 3993), (3993, 3993)]
    assert [(size, webpush.padded_size_for(size)) for size, _ in sizes] == sizes
    assert webpush.padded_size_for(2000) + webpush.OVERHEAD_SIZE <= 2744
    with pytest.raises(LocalMisuse):
        webpush.padded_size_for(3994)


def test_derived_keys_differ_by_seed_and_hide_in_repr():
    other = webpush.derive_user_agent_keys(b"\x01" * 32)
    assert other != OWN
    assert webpush.derive_user_agent_keys(bytes(range(32))) == OWN
    for secret in (OWN.private, OWN.auth):
        assert repr(secret) not in repr(OWN)
        assert secret.hex() not in repr(OWN)
    assert OWN.auth not in OWN.private


def test_seeds_that_are_no_scalar_still_give_a_key():
    for seed in (bytes(32), b"\xff" * 32, p256.ORDER.to_bytes(32)):
        assert 0 < int.from_bytes(p256.scalar_from_seed(seed)) < p256.ORDER
    assert p256.scalar_from_seed((1).to_bytes(32)) == (1).to_bytes(32)
    with pytest.raises(LocalMisuse):
        p256.scalar_from_seed(b"short")
