"""The curve P-256 as Web Push uses it: scalars from seeds, points in both encodings (SEC 1 section 2.3).

Keys travel as plain ``bytes``; the key objects of ``cryptography`` stay in here, in small caches.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshd.errors import LocalMisuse, MalformedMessage

# Specification
SCALAR_SIZE = 32
POINT_SIZE = 65  # uncompressed: 0x04, x, y
COMPRESSED_POINT_SIZE = 33  # 0x02 or 0x03, x
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # FIPS 186-4 D.1.2.3

# Policy
MAX_CACHED_PUBLIC_KEYS = 256  # the working set of a node: its neighbors' keys; loading one costs a square root
MAX_CACHED_PRIVATE_KEYS = 64  # our own user agents and VAPID keys; a secret lives here until newer ones push it out


def scalar_from_seed(seed: bytes) -> bytes:
    """A private scalar from 32 uniformly random bytes: the seed itself, unless it is no scalar (once in 2^32).

    Rejection, not reduction, so the scalar is exactly uniform and a published test vector's key is its own seed.
    """
    if len(seed) != SCALAR_SIZE:
        raise LocalMisuse(f"a seed has {SCALAR_SIZE} bytes, not {len(seed)}")
    while not 0 < int.from_bytes(seed) < ORDER:
        seed = hashlib.sha256(seed).digest()
    return seed


@lru_cache(maxsize=MAX_CACHED_PRIVATE_KEYS)
def private_key(scalar: bytes) -> ec.EllipticCurvePrivateKey:
    """The key object for a scalar of our own. Raises LocalMisuse for one that is out of range."""
    return one_time_private_key(scalar)


def one_time_private_key(scalar: bytes | None) -> ec.EllipticCurvePrivateKey:
    """As ``private_key``, for a key that is used once and should not stay in a cache.

    None: a random one, drawn by the library, in half the time that one takes from its scalar.
    """
    if scalar is None:
        return ec.generate_private_key(ec.SECP256R1())
    if len(scalar) != SCALAR_SIZE or not 0 < int.from_bytes(scalar) < ORDER:
        raise LocalMisuse("not a P-256 private scalar")
    return ec.derive_private_key(int.from_bytes(scalar), ec.SECP256R1())


@lru_cache(maxsize=MAX_CACHED_PRIVATE_KEYS)
def public_point(scalar: bytes) -> bytes:
    """The uncompressed public point (65 bytes) of a scalar of our own."""
    return point_of(private_key(scalar).public_key())


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """The uncompressed point (65 bytes) of a key object."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


@lru_cache(maxsize=MAX_CACHED_PUBLIC_KEYS)
def public_key(point: bytes) -> ec.EllipticCurvePublicKey:
    """The key object for a point of 33 or 65 bytes. Raises MalformedMessage for what is no point of the curve."""
    if len(point) not in (POINT_SIZE, COMPRESSED_POINT_SIZE):
        raise MalformedMessage(f"a P-256 point has {COMPRESSED_POINT_SIZE} or {POINT_SIZE} bytes, not {len(point)}")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedMessage("not a point of P-256") from None


@lru_cache(maxsize=MAX_CACHED_PUBLIC_KEYS)
def uncompress_point(point: bytes) -> bytes:
    """``point`` (33 or 65 bytes) in 65 bytes, checked to lie on the curve. Raises MalformedMessage."""
    return point_of(public_key(point))


def compress_point(point: bytes) -> bytes:
    """``point`` (33 or 65 bytes) in 33 bytes, checked to lie on the curve. Raises MalformedMessage."""
    whole = uncompress_point(point)
    return bytes([2 + (whole[-1] & 1)]) + whole[1:33]
