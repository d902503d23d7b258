"""The keys of one node and everything done with them, as one object that is handed to the core.

``RealSuite`` is the daemon's; the simulator has a fast and deterministic one. The core never sees a private key but
the seeds that it keeps in the store: of tokens, push channels, and its sealing keys.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from meshd.crypto import identity, p256, sealing, vapid, webpush
from meshd.crypto.noise import Initiator, Responder, SessionKeys
from meshd.errors import Rejected
from meshd.ids import PeerId
from meshd.push_services import MAX_BODY_SIZE

# Specification (ours: docs/protocol.md)
SUITE_NUMBER = 1  # Ed25519; HPKE with X25519, HKDF-SHA256, ChaCha20-Poly1305


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChannelKeys:
    """The public half of a push channel's keys; all derive from one seed. Points are compressed (33 bytes)."""

    p256dh: bytes = field(repr=False)
    auth: bytes = field(repr=False)
    vapid_key: bytes = field(repr=False)


class SessionWish(Protocol):
    """Our half of a session's handshake, until the answer is there."""

    def read(self, message: bytes) -> tuple[bytes, SessionKeys]:
        """The answer's payload, and the keys. Raises Rejected, and goes on waiting."""
        ...


class SessionRequest(Protocol):
    """Another's wish for a session. ``payload`` is what it says about it."""

    payload: bytes

    def write(self, payload: bytes) -> tuple[bytes, SessionKeys]:
        """Our answer, with ``payload`` in it, and the keys; once. Raises Rejected."""
        ...


class Suite(Protocol):
    """What the core asks of cryptography. Nothing here blocks or keeps time; sealing and sessions draw randomness."""

    number: int
    peer_id: PeerId
    sealing_key: bytes
    """The current one, public."""
    first_sealing_seed: bytes
    """Of the sealing key that serves until the store has others."""

    def use_sealing_seeds(self, seeds: Sequence[bytes]) -> None:
        """From now on, these open what is sealed to this node; the first one is the current key's."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign with this node's identity (64 bytes)."""
        ...

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """Check a signature of any key: a peer's or the mesh's."""
        ...

    def parsed(self, parse: Callable[[bytes], T], data: bytes) -> T:
        """``parse(data)``, which depends on nothing else. A simulation's nodes share such values."""
        ...

    def identity_of(self, seed: bytes) -> bytes:
        """The public signing key of a 32-byte seed."""
        ...

    def sign_with(self, seed: bytes, message: bytes) -> bytes:
        """Sign with a key that is not the node's own: the mesh key, while founding."""
        ...

    def sealing_key_of(self, seed: bytes) -> bytes:
        """The public sealing key of a 32-byte seed: a token's."""
        ...

    def seal(self, recipient: bytes, info: bytes, plaintext: bytes) -> bytes:
        """Seal to a public sealing key. Raises Rejected for a key that is none."""
        ...

    def open(self, seed: bytes | None, info: bytes, sealed: bytes) -> bytes:
        """Open with a seed, or with this node's own sealing keys, whichever fits. Raises Rejected."""
        ...

    def begin_session(self, recipient: bytes, prologue: bytes, payload: bytes) -> tuple[bytes, SessionWish]:
        """The first message of a handshake with the holder of that sealing key. Raises Rejected for a key that is none.

        ``prologue`` is what both sides have to agree about.
        """
        ...

    def answer_session(self, prologue: bytes, message: bytes) -> SessionRequest:
        """What came as a first message, opened with whichever of our sealing keys fits. Raises Rejected."""
        ...

    def channel_keys(self, seed: bytes) -> ChannelKeys:
        """The public keys of the push channel with this seed."""
        ...

    def uncompressed_vapid_key(self, seed: bytes) -> bytes:
        """The VAPID key of that channel as push services want it: 65 bytes."""
        ...

    def issue_capability(self, seed: bytes, audience: str, exp: int, subject: str) -> bytes:
        """The 64-byte signature of the VAPID JWT for that channel (RFC 8292 section 2)."""
        ...

    def verify_capability(self, key: bytes, audience: str, exp: int, subject: str, signature: bytes) -> bool:
        """Whether that signature makes a JWT of that VAPID key (33 bytes)."""
        ...

    def authorization(self, key: bytes, audience: str, exp: int, subject: str, signature: bytes) -> str:
        """The Authorization header (RFC 8292 section 3)."""
        ...

    def encrypt_push(self, p256dh: bytes, auth: bytes, plaintext: bytes, max_body: int = MAX_BODY_SIZE) -> bytes:
        """Encrypt for a user agent (RFC 8291), padded to a fixed size, in at most ``max_body`` bytes.

        Raises LocalMisuse when it does not fit.
        """
        ...

    def decrypt_push(self, seed: bytes, body: bytes) -> bytes:
        """Decrypt what came on the channel with this seed. Raises MalformedMessage."""
        ...


class RealSuite:
    """The real keys. Both seeds are 32 bytes; see ``meshd.daemon.keys`` for where they live."""

    number = SUITE_NUMBER

    def __init__(self, identity_seed: bytes, sealing_seed: bytes) -> None:
        self._identity_seed = identity_seed
        self.peer_id = identity.public_of(identity_seed)
        self.first_sealing_seed = sealing_seed
        self.use_sealing_seeds((sealing_seed,))

    def __repr__(self) -> str:
        return "RealSuite(…)"

    def use_sealing_seeds(self, seeds: Sequence[bytes]) -> None:
        """See ``Suite``."""
        self._sealing_seeds = tuple(seeds)
        self.sealing_key = sealing.public_of(seeds[0])

    def sign(self, message: bytes) -> bytes:
        """See ``Suite``."""
        return identity.sign(self._identity_seed, message)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """See ``Suite``."""
        return identity.verify(public, message, signature)

    def parsed(self, parse: Callable[[bytes], T], data: bytes) -> T:
        """See ``Suite``."""
        return parse(data)

    def identity_of(self, seed: bytes) -> bytes:
        """See ``Suite``."""
        return identity.public_of(seed)

    def sign_with(self, seed: bytes, message: bytes) -> bytes:
        """See ``Suite``."""
        return identity.sign(seed, message)

    def sealing_key_of(self, seed: bytes) -> bytes:
        """See ``Suite``."""
        return sealing.public_of(seed)

    def seal(self, recipient: bytes, info: bytes, plaintext: bytes) -> bytes:
        """See ``Suite``."""
        return sealing.seal(recipient, info, plaintext)

    def open(self, seed: bytes | None, info: bytes, sealed: bytes) -> bytes:
        """See ``Suite``."""
        for candidate in self._sealing_seeds if seed is None else (seed,):
            with suppress(Rejected):
                return sealing.open_sealed(candidate, info, sealed)
        raise Rejected("not_for_us")

    def begin_session(self, recipient: bytes, prologue: bytes, payload: bytes) -> tuple[bytes, SessionWish]:
        """See ``Suite``."""
        initiator = Initiator(self._sealing_seeds[0], recipient, prologue, os.urandom(sealing.KEY_SIZE))
        return initiator.write(payload), initiator

    def answer_session(self, prologue: bytes, message: bytes) -> SessionRequest:
        """See ``Suite``."""
        for seed in self._sealing_seeds:
            with suppress(Rejected):
                return Responder(seed, prologue, message, os.urandom(sealing.KEY_SIZE))
        raise Rejected("session_not_for_us")

    def channel_keys(self, seed: bytes) -> ChannelKeys:
        """See ``Suite``."""
        agent = webpush.derive_user_agent_keys(seed)
        return ChannelKeys(
            p256.compress_point(agent.public), agent.auth, p256.compress_point(vapid.derive_key(seed).public)
        )

    def uncompressed_vapid_key(self, seed: bytes) -> bytes:
        """See ``Suite``."""
        return vapid.derive_key(seed).public

    def issue_capability(self, seed: bytes, audience: str, exp: int, subject: str) -> bytes:
        """See ``Suite``."""
        return vapid.issue(vapid.derive_key(seed), audience, exp, subject).signature

    def verify_capability(self, key: bytes, audience: str, exp: int, subject: str, signature: bytes) -> bool:
        """See ``Suite``."""
        return vapid.verify(vapid.Capability(exp, signature, subject), audience, p256.uncompress_point(key))

    def authorization(self, key: bytes, audience: str, exp: int, subject: str, signature: bytes) -> str:
        """See ``Suite``."""
        capability = vapid.Capability(exp, signature, subject)
        return vapid.authorization(capability, audience, p256.uncompress_point(key))

    def encrypt_push(self, p256dh: bytes, auth: bytes, plaintext: bytes, max_body: int = MAX_BODY_SIZE) -> bytes:
        """See ``Suite``."""
        return webpush.encrypt(
            plaintext,
            p256dh,
            auth,
            salt=os.urandom(16),
            padded_size=webpush.padded_size_for(len(plaintext), max_body),
        )

    def decrypt_push(self, seed: bytes, body: bytes) -> bytes:
        """See ``Suite``."""
        return webpush.decrypt(body, webpush.derive_user_agent_keys(seed))
