"""A fast and deterministic suite: the same shape as the real one, none of the cost.

Nothing here protects anything. It keeps the properties that the core relies on within a simulation: only who holds a
seed can sign or open with it (the simulator's nodes know no other seeds), and what was changed on the way does not
verify. Public keys are hashes of seeds; signing is a keyed hash that a table from public key to seed lets all verify.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from meshd.crypto.noise import SessionKeys
from meshd.crypto.suite import ChannelKeys, SessionRequest, SessionWish
from meshd.crypto.webpush import padded_size_for
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import PeerId
from meshd.push_services import MAX_BODY_SIZE

# Policy
SUITE_NUMBER = 255  # never on a real wire
_TAG_SIZE = 16
_PUSH_HEADER = b"\0" * 86  # so that sizes are as in reality: 103 bytes with the tag and the delimiter
_DELIMITER = b"\2"
MAX_SHARED = 200_000  # parsed values that all nodes of a simulation share; the oldest is forgotten first

T = TypeVar("T")


def _hash(*parts: bytes, size: int = 32) -> bytes:
    return hashlib.blake2b(b"\0".join(parts), digest_size=size).digest()


class KeyTable:
    """Stands for mathematics: knows which seed belongs to which public key. One per simulation."""

    def __init__(self) -> None:
        self._seeds: dict[bytes, bytes] = {}
        self._shared: dict[tuple[Any, bytes], Any] = {}

    def parsed(self, parse: Callable[[bytes], T], data: bytes) -> T:
        """``parse(data)``, once for all nodes: ten thousand need not hold ten thousand copies each."""
        key = (parse, data)
        value: T | None = self._shared.get(key)
        if value is None:
            value = self._shared[key] = parse(data)
            if len(self._shared) > MAX_SHARED:
                del self._shared[next(iter(self._shared))]
        return value

    def public(self, kind: bytes, seed: bytes) -> bytes:
        """The public key of a seed."""
        public = _hash(b"public", kind, seed)
        self._seeds[public] = seed
        return public

    def seed(self, public: bytes) -> bytes | None:
        """The seed of a public key that was made here."""
        return self._seeds.get(public)


def pushed_plaintext(body: bytes) -> bytes:
    """What is in a push, for whoever looks on: nothing hides it here."""
    return body[_TAG_SIZE + len(_PUSH_HEADER) :].rstrip(b"\0")[:-1]


class SimHandshake:
    """Both halves of a session's handshake."""

    def __init__(self, first: bytes, payload: bytes = b"") -> None:
        self._first = first
        self.payload = payload

    def write(self, payload: bytes) -> tuple[bytes, SessionKeys]:
        """See ``SessionRequest``."""
        keys = SessionKeys(*self._keys()[::-1], b"")
        return _hash(b"answer", self._first, payload, size=_TAG_SIZE) + payload, keys

    def read(self, message: bytes) -> tuple[bytes, SessionKeys]:
        """See ``SessionWish``."""
        payload = message[_TAG_SIZE:]
        if message[:_TAG_SIZE] != _hash(b"answer", self._first, payload, size=_TAG_SIZE):
            raise Rejected("session_not_for_us")
        return payload, SessionKeys(*self._keys(), b"")

    def _keys(self) -> tuple[bytes, bytes]:
        return _hash(b"there", self._first), _hash(b"back", self._first)


class SimSuite:
    """See ``meshd.crypto.suite.Suite`` for what each method promises."""

    number = SUITE_NUMBER

    def __init__(self, table: KeyTable, identity_seed: bytes, sealing_seed: bytes) -> None:
        self._table = table
        self._identity_seed = identity_seed
        self.peer_id = PeerId(table.public(b"sign", identity_seed))
        self.first_sealing_seed = sealing_seed
        self.use_sealing_seeds((sealing_seed,))

    def copy(self) -> SimSuite:
        """The same keys, for a second machine that has them."""
        return SimSuite(self._table, self._identity_seed, self.first_sealing_seed)

    def use_sealing_seeds(self, seeds: Sequence[bytes]) -> None:
        """See ``Suite``."""
        self._sealing_keys = [self._table.public(b"seal", seed) for seed in seeds]
        self.sealing_key = self._sealing_keys[0]

    def sign(self, message: bytes) -> bytes:
        """See ``Suite``."""
        return self.sign_with(self._identity_seed, message)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """See ``Suite``."""
        seed = self._table.seed(public)
        return seed is not None and self.sign_with(seed, message) == signature

    def parsed(self, parse: Callable[[bytes], T], data: bytes) -> T:
        """See ``Suite``."""
        return self._table.parsed(parse, data)

    def identity_of(self, seed: bytes) -> bytes:
        """See ``Suite``."""
        return self._table.public(b"sign", seed)

    def sign_with(self, seed: bytes, message: bytes) -> bytes:
        """See ``Suite``."""
        return _hash(b"signature", seed, message, size=64)

    def sealing_key_of(self, seed: bytes) -> bytes:
        """See ``Suite``."""
        return self._table.public(b"seal", seed)

    def seal(self, recipient: bytes, info: bytes, plaintext: bytes) -> bytes:
        """See ``Suite``."""
        if recipient == bytes(len(recipient)):
            raise Rejected("bad_sealing_key")
        return recipient + _hash(b"tag", recipient, info, plaintext, size=_TAG_SIZE) + plaintext

    def open(self, seed: bytes | None, info: bytes, sealed: bytes) -> bytes:
        """See ``Suite``."""
        keys = self._sealing_keys if seed is None else (self.sealing_key_of(seed),)
        recipient = sealed[:32]
        tag, plaintext = sealed[32 : 32 + _TAG_SIZE], sealed[32 + _TAG_SIZE :]
        if recipient not in keys or _hash(b"tag", recipient, info, plaintext, size=_TAG_SIZE) != tag:
            raise Rejected("not_for_us")
        return plaintext

    def begin_session(self, recipient: bytes, prologue: bytes, payload: bytes) -> tuple[bytes, SessionWish]:
        """See ``Suite``."""
        first = self.seal(recipient, b"session" + prologue, payload)
        return first, SimHandshake(first)

    def answer_session(self, prologue: bytes, message: bytes) -> SessionRequest:
        """See ``Suite``."""
        return SimHandshake(message, self.open(None, b"session" + prologue, message))

    def channel_keys(self, seed: bytes) -> ChannelKeys:
        """See ``Suite``; the points look compressed (RFC 5480: a first byte of 2 or 3)."""
        self._table.public(b"channel", seed)
        return ChannelKeys(b"\2" + self._p256dh(seed), _hash(b"auth", seed, size=16), b"\3" + self._vapid(seed))

    def _p256dh(self, seed: bytes) -> bytes:
        return self._table.public(b"p256dh", seed)

    def _vapid(self, seed: bytes) -> bytes:
        return self._table.public(b"vapid", seed)

    def uncompressed_vapid_key(self, seed: bytes) -> bytes:
        """See ``Suite``."""
        return b"\4" + self._vapid(seed) + bytes(32)

    def issue_capability(self, seed: bytes, audience: str, exp: int, subject: str) -> bytes:
        """See ``Suite``."""
        return _hash(b"capability", seed, audience.encode(), str(exp).encode(), subject.encode(), size=64)

    def verify_capability(self, key: bytes, audience: str, exp: int, subject: str, signature: bytes) -> bool:
        """See ``Suite``."""
        seed = self._table.seed(key[1:])
        return seed is not None and self.issue_capability(seed, audience, exp, subject) == signature

    def authorization(self, key: bytes, audience: str, exp: int, subject: str, signature: bytes) -> str:
        """See ``Suite``; the simulated push service reads it back."""
        return f"{key.hex()} {exp} {signature.hex()} {subject}"

    def encrypt_push(self, p256dh: bytes, auth: bytes, plaintext: bytes, max_body: int = MAX_BODY_SIZE) -> bytes:
        """See ``Suite``."""
        record = (plaintext + _DELIMITER).ljust(padded_size_for(len(plaintext), max_body) + 1, b"\0")
        return _hash(b"push", p256dh[1:], auth, record, size=_TAG_SIZE) + _PUSH_HEADER + record

    def decrypt_push(self, seed: bytes, body: bytes) -> bytes:
        """See ``Suite``."""
        keys = self.channel_keys(seed)
        record = body[_TAG_SIZE + len(_PUSH_HEADER) :]
        if body[:_TAG_SIZE] != _hash(b"push", keys.p256dh[1:], keys.auth, record, size=_TAG_SIZE):
            raise MalformedMessage("a push that was not encrypted for this channel")
        return pushed_plaintext(body)
