"""Who a node is: an Ed25519 key (RFC 8032), whose public half is the peer id."""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from meshd.ids import PeerId

# Specification
SEED_SIZE = 32
SIGNATURE_SIZE = 64

# Policy
MAX_CACHED_KEYS = 4096  # parsed public keys; parsing costs a third of a verification


def public_of(seed: bytes) -> PeerId:
    """The public key of a 32-byte seed."""
    return PeerId(Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())


def sign(seed: bytes, message: bytes) -> bytes:
    """64 bytes; the same message and key give the same signature."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


@lru_cache(maxsize=MAX_CACHED_KEYS)
def _public_key(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is that key's over ``message``; False for anything malformed."""
    try:
        _public_key(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
