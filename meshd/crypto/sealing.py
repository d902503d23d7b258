"""Sealing to one recipient: HPKE base mode (RFC 9180), X25519, HKDF-SHA256, ChaCha20-Poly1305.

The ephemeral key is drawn inside ``cryptography``; that is why sealing is handed to the core from outside.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from meshd.errors import Rejected

# Specification
KEY_SIZE = 32
OVERHEAD_SIZE = 48  # encapsulated key and tag

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


def public_of(seed: bytes) -> bytes:
    """The public key of a 32-byte seed."""
    return X25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def seal(recipient: bytes, info: bytes, plaintext: bytes) -> bytes:
    """``plaintext`` for the holder of that key alone, bound to ``info``; 48 bytes longer. Raises Rejected."""
    try:
        return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(recipient), info)
    except ValueError as error:  # a low-order point for a key: the exchange would be all zeros
        raise Rejected("bad_sealing_key", str(error)) from None


def open_sealed(seed: bytes, info: bytes, sealed: bytes) -> bytes:
    """The inverse of ``seal``. Raises Rejected("not_for_us") for anything that this key and info did not seal."""
    try:
        return _SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(seed), info)
    except (InvalidTag, ValueError):
        raise Rejected("not_for_us") from None
