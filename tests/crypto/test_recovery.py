"""Whose key made a signature, from the signature alone."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.crypto import p256
from meshd.crypto.recovery import recover_public_key
from meshd.errors import MalformedMessage


@settings(max_examples=20)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_one_of_the_two_keys_is_the_signers(seed: bytes, message: bytes):
    private = p256.private_key(p256.scalar_from_seed(seed))
    r, s = decode_dss_signature(private.sign(message, ec.ECDSA(hashes.SHA256())))
    found = {recover_public_key(message, r, s, odd=odd) for odd in (True, False)}
    assert p256.compress_point(p256.public_point(p256.scalar_from_seed(seed))) in found
    assert len(found) == 2


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (p256.ORDER, 1), (1, p256.ORDER), (2, 1)])
def test_what_nobody_can_have_signed(r: int, s: int):
    with pytest.raises(MalformedMessage):
        recover_public_key(b"x", r, s, odd=False)


@settings(max_examples=20)
@given(st.integers(0, 2**256), st.integers(0, 2**256), st.booleans())
def test_any_numbers_have_a_key_or_none(r: int, s: int, odd: bool):
    try:
        key = recover_public_key(b"x", r, s, odd=odd)
    except MalformedMessage:
        return
    assert p256.compress_point(key) == key
