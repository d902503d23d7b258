"""A node in one file: its identity and all it keeps, encrypted with a passphrase.

    magic 16 | salt 16 | nonce 12 | ChaCha20-Poly1305 of: rows, each u32 length ‖ msgpack [table, key, value]

The key is scrypt's (RFC 7914) of the passphrase; magic and salt are authenticated, too. Two rows of the table "" come
first: "identity", and "version", the number of the database's version that the other rows are of.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from meshd.errors import MalformedMessage
from meshd.wire.codec import pack, unpack

# Specification (ours)
MAGIC = b"meshd identity 1"
SALT_SIZE = 16
NONCE_SIZE = 12
SEED_SIZE = 32
_OVERHEAD_SIZE = len(MAGIC) + SALT_SIZE + NONCE_SIZE + 16
_LENGTH_SIZE = 4
_IDENTITY = ("", b"identity")
_VERSION = ("", b"version")
_OLDEST_VERSION = 2  # the first files said none
_TABLE = re.compile(r"[a-z][a-z_]{0,31}\Z")

# Policy
SCRYPT_COST = 1 << 16  # with r 8: 64 MiB and 0.2 s for each guess; one of 2^17 would be refused on a small machine
MAX_FILE_SIZE = 256 << 20  # bytes; a thousand times what a busy node has
MAX_ROW_SIZE = 1 << 20
MIN_PASSPHRASE_CHARS = 8

Row = tuple[str, bytes, bytes]

_DAMAGED = "The file is damaged."


@dataclass(frozen=True, slots=True)
class Contents:
    """A node: the seed of its identity, and the rows of its database, which are of that version."""

    seed: bytes = field(repr=False)
    version: int
    rows: list[Row] = field(repr=False)


def seal(seed: bytes, version: int, rows: Iterable[Row], passphrase: str) -> bytes:
    """The file's bytes. ``seed``: the identity's. ``version``: the database's."""
    salt, nonce = os.urandom(SALT_SIZE), os.urandom(NONCE_SIZE)
    entries = [pack([*_IDENTITY, seed]), pack([*_VERSION, b"%d" % version])]
    entries.extend(pack([table, key, value]) for table, key, value in rows)
    plain = b"".join(len(entry).to_bytes(_LENGTH_SIZE, "big") + entry for entry in entries)
    return MAGIC + salt + nonce + _cipher(passphrase, salt).encrypt(nonce, plain, MAGIC + salt)


def open_sealed(data: bytes, passphrase: str) -> bytes:
    """What is encrypted in it, for ``read``. Raises ValueError with a sentence that says what is wrong."""
    if not data.startswith(MAGIC) or len(data) < _OVERHEAD_SIZE:
        raise ValueError("This is no file that `meshctl identity export` has written.")
    salt = data[len(MAGIC) : len(MAGIC) + SALT_SIZE]
    rest = data[len(MAGIC) + SALT_SIZE :]
    try:
        return _cipher(passphrase, salt).decrypt(rest[:NONCE_SIZE], rest[NONCE_SIZE:], MAGIC + salt)
    except InvalidTag:
        raise ValueError("The passphrase is wrong, or the file is damaged.") from None


def read(plain: bytes, version: int, tables: frozenset[str]) -> Contents:
    """The node, for a daemon whose database is of that version and has those tables.

    Raises ValueError; also for a later version and for tables that only a later daemon knows, since what they hold (who
    has been revoked, for instance) must not be overlooked.
    """
    rows = list(_entries(plain))
    if not rows or rows[0][:2] != _IDENTITY or len(rows[0][2]) != SEED_SIZE:
        raise ValueError("The file has no identity in it.")
    seed = rows.pop(0)[2]
    written = _OLDEST_VERSION
    if rows and rows[0][:2] == _VERSION:
        text = rows.pop(0)[2]
        written = int(text) if text.isdigit() and len(text) < 10 else 0
    if written < _OLDEST_VERSION or not all(_TABLE.match(row[0]) for row in rows):
        raise ValueError(_DAMAGED)
    unknown = sorted({row[0] for row in rows} - tables)
    if written > version or (unknown and written == version):
        what = f"tables of version {written}" if written > version else f"the table {unknown[0]}"
        raise ValueError(f"A newer meshd has written the file: this one does not know {what}. Install that one first.")
    return Contents(seed, written, rows)


def _entries(plain: bytes) -> Iterator[Row]:
    at = 0
    while at < len(plain):
        size = int.from_bytes(plain[at : at + _LENGTH_SIZE], "big")
        at += _LENGTH_SIZE
        try:
            entry = unpack(plain[at : at + size], MAX_ROW_SIZE)
        except MalformedMessage:
            entry = None
        at += size
        if not (type(entry) is list and [type(part) for part in entry] == [str, bytes, bytes] and at <= len(plain)):
            raise ValueError(_DAMAGED)
        yield entry[0], entry[1], entry[2]


def _cipher(passphrase: str, salt: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(Scrypt(salt=salt, length=32, n=SCRYPT_COST, r=8, p=1).derive(passphrase.encode()))
