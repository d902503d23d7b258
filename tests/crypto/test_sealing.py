from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.crypto import sealing
from meshd.errors import Rejected

SEED, OTHER = bytes(range(32)), bytes(range(1, 33))
KEY = sealing.public_of(SEED)


@settings(max_examples=30)
@given(st.binary(max_size=2000), st.binary(max_size=100))
def test_what_is_sealed_opens(plaintext: bytes, info: bytes) -> None:
    sealed = sealing.seal(KEY, info, plaintext)
    assert len(sealed) == len(plaintext) + sealing.OVERHEAD_SIZE
    assert sealing.open_sealed(SEED, info, sealed) == plaintext


def test_no_two_are_alike() -> None:
    assert sealing.seal(KEY, b"", b"x") != sealing.seal(KEY, b"", b"x")


def test_only_with_the_key_and_the_info() -> None:
    sealed = sealing.seal(KEY, b"info", b"secret")
    for seed, info in ((OTHER, b"info"), (SEED, b"other")):
        with pytest.raises(Rejected, match="not_for_us"):
            sealing.open_sealed(seed, info, sealed)


def test_every_changed_byte_is_refused() -> None:
    sealed = sealing.seal(KEY, b"", b"secret")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(Rejected):
            sealing.open_sealed(SEED, b"", bytes(changed))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Rejected):
        sealing.open_sealed(SEED, b"", data)


LOW_ORDER = [  # points of X25519 whose products are all zero
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("point", [*LOW_ORDER, b"", b"short", bytes(33)], ids=lambda point: point.hex()[:8])
def test_keys_that_are_none_are_refused(point: bytes) -> None:
    with pytest.raises(Rejected, match="bad_sealing_key"):
        sealing.seal(point, b"", b"secret")


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_an_encapsulated_key_of_low_order_is_refused(point: bytes) -> None:
    with pytest.raises(Rejected):
        sealing.open_sealed(SEED, b"", point + bytes(40))
