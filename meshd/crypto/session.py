"""The records of an end-to-end session: numbered, sealed, under keys that follow one another.

A record is ``counter: 8 bytes, big-endian | ciphertext | tag: 16 bytes``. The counter is the nonce and says which key
of its way applies: ``EPOCH_RECORDS`` to each, then the next one (Noise, section 4.2). Counters only grow, at both ends,
so nothing is taken twice, nor anything that was overtaken: each path of a session keeps its order, and what was lost
with a path comes again under a number of its own.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from meshd.crypto.noise import MAX_NONCE, TAG_SIZE, nonce_of, rekey
from meshd.errors import LocalMisuse, Rejected

# Specification (ours: docs/protocol.md, sessions)
COUNTER_SIZE = 8
OVERHEAD_SIZE = COUNTER_SIZE + TAG_SIZE
EPOCH_RECORDS = 65_536  # under one key: 1 GiB at most

# Policy
MAX_EPOCHS_AHEAD = 8  # keys that are made for a record that claims to be so far ahead; lost ones are fewer


class RecordSealer:
    """One way out. ``turn`` takes the next key before it is due."""

    __slots__ = ("_cipher", "_counter", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cipher = ChaCha20Poly1305(key)
        self._counter = 0

    def seal(self, plaintext: bytes) -> bytes:
        """The record, ``OVERHEAD_SIZE`` bytes longer. Raises LocalMisuse after 2^64 - 2 of them."""
        counter = self._counter
        if counter >= MAX_NONCE:
            raise LocalMisuse("a session has used all its counters")
        if counter and counter % EPOCH_RECORDS == 0:
            self._key = rekey(self._key)
            self._cipher = ChaCha20Poly1305(self._key)
        self._counter = counter + 1
        sealed = self._cipher.encrypt(nonce_of(counter), plaintext, None)
        return counter.to_bytes(COUNTER_SIZE, "big") + sealed

    def turn(self) -> None:
        """The next record is the first one under another key. Nothing, if the present one is unused."""
        left = -self._counter % EPOCH_RECORDS
        if left and self._counter + left < MAX_NONCE:
            self._counter += left

    def __repr__(self) -> str:
        return "RecordSealer(…)"


class RecordOpener:
    """One way in."""

    __slots__ = ("_cipher", "_epoch", "_key", "_next")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cipher = ChaCha20Poly1305(key)
        self._epoch = 0
        self._next = 0  # the lowest counter that is still taken

    def open(self, record: bytes) -> bytes:
        """What is in it. Raises Rejected: ``session_replayed``, ``session_forged``; nothing has changed then."""
        if len(record) < OVERHEAD_SIZE:
            raise Rejected("session_forged", "a record that is cut off")
        counter = int.from_bytes(record[:COUNTER_SIZE], "big")
        if counter < self._next:
            raise Rejected("session_replayed")
        epoch, key, cipher = counter // EPOCH_RECORDS, self._key, self._cipher
        ahead = epoch - self._epoch
        if ahead:
            if ahead > MAX_EPOCHS_AHEAD:
                raise Rejected("session_forged", "a record from too far ahead")
            for _ in range(ahead):
                key = rekey(key)
            cipher = ChaCha20Poly1305(key)
        try:
            plaintext = cipher.decrypt(nonce_of(counter), memoryview(record)[COUNTER_SIZE:], None)
        except InvalidTag:
            raise Rejected("session_forged") from None
        self._next, self._epoch, self._key, self._cipher = counter + 1, epoch, key, cipher
        return plaintext

    def __repr__(self) -> str:
        return "RecordOpener(…)"
