"""The key that made an ECDSA signature over P-256, from the signature alone (SEC 1 version 2, section 4.1.6).

For texts of others that carry no key. Only public values pass through here, so that nothing has to take constant time;
it takes some 20 ms, and is for what a person pastes.
"""

from __future__ import annotations

import hashlib

from meshd.crypto import p256
from meshd.errors import MalformedMessage

# Specification
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1  # FIPS 186-4 D.1.2.3, and the next two
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)

_Point = tuple[int, int] | None  # None: the point at infinity


def recover_public_key(message: bytes, r: int, s: int, *, odd: bool) -> bytes:
    """The compressed key (33 bytes) under which (``r``, ``s``) is a signature with SHA-256 of ``message``.

    ``odd``: of the two points with the x coordinate ``r``, the one whose y is odd. Nearly every signature fits some
    key, so that this proves nothing by itself. Raises MalformedMessage where there is none.
    """
    if not (0 < r < p256.ORDER and 0 < s < p256.ORDER):
        raise MalformedMessage("not an ECDSA signature: r or s is out of range")
    inverse = pow(r, -1, p256.ORDER)
    digest = int.from_bytes(hashlib.sha256(message).digest())
    key = _add(_multiply(inverse * s % p256.ORDER, _point(r, odd=odd)), _multiply(-inverse * digest % p256.ORDER, _G))
    if key is None:
        raise MalformedMessage("no key makes that signature")
    return bytes([2 + (key[1] & 1)]) + key[0].to_bytes(32)


def _point(x: int, *, odd: bool) -> _Point:
    square = (x**3 - 3 * x + _B) % _P
    y = pow(square, (_P + 1) // 4, _P)
    if y * y % _P != square:
        raise MalformedMessage("no key makes that signature")
    return x, y if y & 1 == odd else _P - y


def _multiply(factor: int, point: _Point) -> _Point:
    product: _Point = None
    for bit in bin(factor)[2:]:
        product = _add(product, product)
        if bit == "1":
            product = _add(product, point)
    return product


def _add(one: _Point, other: _Point) -> _Point:
    if one is None or other is None:
        return one or other
    if one[0] == other[0]:
        if (one[1] + other[1]) % _P == 0:
            return None
        slope = (3 * one[0] ** 2 - 3) * pow(2 * one[1], -1, _P)
    else:
        slope = (other[1] - one[1]) * pow(other[0] - one[0], -1, _P)
    x = (slope**2 - one[0] - other[0]) % _P
    return x, (slope * (one[0] - x) - one[1]) % _P
