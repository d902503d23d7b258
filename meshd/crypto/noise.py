"""The handshake of an end-to-end session: Noise, revision 34, pattern IK, ``Noise_IK_25519_ChaChaPoly_SHA256``.

One pattern, one suite, and nothing that a session does not need. The initiator knows the responder's static key::

    <- s
    ...
    -> e, es, s, ss     the first message: 96 bytes and the payload
    <- e, ee, se        the second message: 48 bytes and the payload

What the keys are worth follows from section 7.7 of the specification: the first payload can be read by whoever has the
responder's static key, now or later, and played again; all that comes after is forward secret and authentic both ways.
Randomness comes in: each ephemeral seed is for one handshake.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from meshd.errors import Rejected

# Specification (Noise revision 34)
PROTOCOL_NAME = b"Noise_IK_25519_ChaChaPoly_SHA256"  # 32 bytes: it is the first hash itself (section 5.2)
DH_SIZE = 32
TAG_SIZE = 16
MAX_MESSAGE_SIZE = 65_535  # section 3
FIRST_OVERHEAD_SIZE = DH_SIZE + DH_SIZE + TAG_SIZE + TAG_SIZE
SECOND_OVERHEAD_SIZE = DH_SIZE + TAG_SIZE
MAX_NONCE = 2**64 - 1  # reserved for rekeying (section 4.2)


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """What a handshake ends with: a key of 32 bytes for each way, and the hash of all that was said (channel binding).

    The hash is no secret (section 11.2).
    """

    sending: bytes = field(repr=False)
    receiving: bytes = field(repr=False)
    handshake_hash: bytes


def nonce_of(counter: int) -> bytes:
    """Section 12.3: 32 bits of zeros, then the counter, little-endian."""
    return bytes(4) + counter.to_bytes(8, "little")


class _SymmetricState:
    """Section 5.2, with the cipher state (5.1) in it."""

    def __init__(self, prologue: bytes, responder_key: bytes) -> None:
        self.hash = self._chaining_key = PROTOCOL_NAME
        self._key: bytes | None = None
        self._nonce = 0
        self.mix_hash(prologue)
        self.mix_hash(responder_key)  # the pre-message

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_exchange(self, private: X25519PrivateKey, public: bytes) -> None:
        """Raises Rejected for a point of low order: its exchange would be all zeros."""
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise Rejected("bad_session_key", str(error)) from None
        self._chaining_key, self._key = _hkdf(self._chaining_key, shared)
        self._nonce = 0

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        assert self._key is not None  # in IK, an exchange comes before whatever is encrypted
        sealed = ChaCha20Poly1305(self._key).encrypt(nonce_of(self._nonce), plaintext, self.hash)
        self._nonce += 1
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes) -> bytes:
        """Raises Rejected."""
        assert self._key is not None
        try:
            plaintext = ChaCha20Poly1305(self._key).decrypt(nonce_of(self._nonce), sealed, self.hash)
        except InvalidTag:
            raise Rejected("session_not_for_us") from None
        self._nonce += 1
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The initiator's sending key, and the responder's."""
        return _hkdf(self._chaining_key, b"")


class Initiator:
    """Who wants the session. ``write`` once, then ``read`` the answer, or several until one fits."""

    def __init__(self, static_seed: bytes, responder_key: bytes, prologue: bytes, ephemeral_seed: bytes) -> None:
        self._static = X25519PrivateKey.from_private_bytes(static_seed)
        self._ephemeral = X25519PrivateKey.from_private_bytes(ephemeral_seed)
        self._responder_key = responder_key
        self._state = _SymmetricState(prologue, responder_key)

    def __repr__(self) -> str:
        return "Initiator(…)"

    def write(self, payload: bytes) -> bytes:
        """The first message. Raises Rejected if the responder's key is none."""
        state = self._state
        ephemeral = self._ephemeral.public_key().public_bytes_raw()
        state.mix_hash(ephemeral)
        state.mix_exchange(self._ephemeral, self._responder_key)
        static = state.encrypt_and_hash(self._static.public_key().public_bytes_raw())
        state.mix_exchange(self._static, self._responder_key)
        return ephemeral + static + state.encrypt_and_hash(payload)

    def read(self, message: bytes) -> tuple[bytes, SessionKeys]:
        """The answer's payload, and the keys. Raises Rejected; another message may be read after that."""
        state = _copy(self._state)
        ephemeral, sealed = message[:DH_SIZE], message[DH_SIZE:]
        if len(sealed) < TAG_SIZE:
            raise Rejected("session_not_for_us", "the answer is cut off")
        state.mix_hash(ephemeral)
        state.mix_exchange(self._ephemeral, ephemeral)
        state.mix_exchange(self._static, ephemeral)
        payload = state.decrypt_and_hash(sealed)
        sending, receiving = state.split()
        return payload, SessionKeys(sending, receiving, state.hash)


class Responder:
    """Who is asked for a session. Raises Rejected at once for a message that was not made for that static key."""

    def __init__(self, static_seed: bytes, prologue: bytes, message: bytes, ephemeral_seed: bytes) -> None:
        self._ephemeral = X25519PrivateKey.from_private_bytes(ephemeral_seed)
        static = X25519PrivateKey.from_private_bytes(static_seed)
        state = self._state = _SymmetricState(prologue, static.public_key().public_bytes_raw())
        if len(message) < FIRST_OVERHEAD_SIZE:
            raise Rejected("session_not_for_us", "the message is cut off")
        self._initiator_ephemeral, rest = message[:DH_SIZE], message[DH_SIZE:]
        state.mix_hash(self._initiator_ephemeral)
        state.mix_exchange(static, self._initiator_ephemeral)
        self.initiator_key = state.decrypt_and_hash(rest[: DH_SIZE + TAG_SIZE])
        state.mix_exchange(static, self.initiator_key)
        self.payload = state.decrypt_and_hash(rest[DH_SIZE + TAG_SIZE :])

    def __repr__(self) -> str:
        return "Responder(…)"

    def write(self, payload: bytes) -> tuple[bytes, SessionKeys]:
        """The second message, and the keys. Once. Raises Rejected if the initiator's keys are none."""
        state = self._state
        ephemeral = self._ephemeral.public_key().public_bytes_raw()
        state.mix_hash(ephemeral)
        state.mix_exchange(self._ephemeral, self._initiator_ephemeral)
        state.mix_exchange(self._ephemeral, self.initiator_key)
        message = ephemeral + state.encrypt_and_hash(payload)
        receiving, sending = state.split()
        return message, SessionKeys(sending, receiving, state.hash)


def rekey(key: bytes) -> bytes:
    """The key after that one, from which it cannot be found again (section 4.2)."""
    return ChaCha20Poly1305(key).encrypt(nonce_of(MAX_NONCE), bytes(DH_SIZE), b"")[:DH_SIZE]


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """Section 4.3, two outputs."""
    temporary = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(temporary, b"\1", "sha256")
    return first, hmac.digest(temporary, first + b"\2", "sha256")


def _copy(state: _SymmetricState) -> _SymmetricState:
    other = _SymmetricState.__new__(_SymmetricState)
    other.__dict__.update(state.__dict__)
    return other
