"""The small value types that every room shares: who, where, when.

Ids are plain ``bytes`` under a type of their own (``NewType``): they hash and compare at C speed and go into msgpack
as they are. ``text_of`` gives the form for people: base32 in lower case without padding, as in file names and URLs.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import NewType

# Specification
PEER_ID_SIZE = 32  # an Ed25519 public key, RFC 8032 section 5.1.5
CHANNEL_ID_SIZE = 16  # autopush channelIDs are UUIDs

# Policy
SESSION_ID_SIZE = 8  # names one signaling attempt between two known peers; signed, so guessing gains nothing
MESSAGE_ID_SIZE = 16  # drawn by the sender, unique for ever
INTRODUCTION_ID_SIZE = 8  # the public name of a token
INSTANCE_SIZE = 8  # drawn at each start of a daemon
SHORT_ID_CHARS = 10  # 50 bits: enough to tell members apart by eye and on a command line
PREFIX_SIZE = 8  # a neighbor in a record; two of 10,000 honest ids collide with probability 3e-12
MAX_NAME_CHARS = 32
CLOCK_SKEW = (
    600.0  # seconds two honest clocks may differ by: a laptop that just woke is off, an offer lives five minutes
)

PeerId = NewType("PeerId", bytes)  # Ed25519 public key
MeshId = NewType("MeshId", bytes)  # Ed25519 public key of the mesh
SessionId = NewType("SessionId", bytes)
MessageId = NewType("MessageId", bytes)
IntroductionId = NewType("IntroductionId", bytes)
ChannelId = NewType("ChannelId", bytes)
Instance = NewType("Instance", bytes)

LinkId = NewType("LinkId", int)  # counts up within one run of the daemon
PushId = NewType("PushId", int)
Ticket = NewType("Ticket", int)
RequestId = NewType("RequestId", int)

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of the two clocks, taken together.

    ``mono`` (seconds, any origin, never goes back) is for timers; ``unix`` (seconds since 1970) is for everything
    that another machine will compare with its own clock: expiry of tokens, certificates, envelopes and JWTs.
    """

    mono: float
    unix: float


def text_of(identifier: bytes) -> str:
    """The whole id in base32, lower case, unpadded (52 characters for a peer id)."""
    return base64.b32encode(identifier).decode().rstrip("=").lower()


def short(identifier: bytes) -> str:
    """The first ``SHORT_ID_CHARS`` characters of ``text_of``."""
    return text_of(identifier)[:SHORT_ID_CHARS]


def from_text(text: str) -> bytes:
    """The inverse of ``text_of``. Raises ValueError for anything that ``text_of`` does not give."""
    try:
        raw = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except binascii.Error as error:
        raise ValueError(f"not a base32 id: {error}") from None
    if text_of(raw) != text:
        raise ValueError("not a canonical base32 id")
    return raw


def is_name(text: str) -> bool:
    """Whether ``text`` may name a member: 1 to 32 of a-z, 0-9, dot, dash, underscore; a letter or digit at both ends.

    Lower case only, so that no two names look the same; never longer than a host name label plus room for a number.
    """
    return len(text) <= MAX_NAME_CHARS and _NAME.match(text) is not None
