"""Link states: which neighbors a member has, signed and numbered (docs/protocol.md, link states).

They change with every link, so they are small, apart from the record, and held in memory only. An edge of the graph
counts when both of its ends list it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from meshd.crypto.suite import Suite
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import CLOCK_SKEW, PREFIX_SIZE, MeshId, PeerId
from meshd.wire.codec import Blob, Kind, Uint, decode, encode, fixed

# Specification (ours)
_CONTEXT = b"meshd link state 1\0"
NUMBERS_A_SECOND = 256  # the clock is a floor for numbers, so fine that a restart does not use one again
STATE_ID_SIZE = 8  # of what digests are made of

# Policy
MAX_NEIGHBORS = 256
MAX_LINK_STATE_SIZE = PREFIX_SIZE * MAX_NEIGHBORS + 128
LINK_STATE_LIFETIME = 7 * 86400.0  # seconds, as for records


@dataclass(frozen=True, slots=True)
class _Body:
    prefix: bytes
    number: int
    issued: int
    neighbors: bytes
    WIRE: ClassVar[tuple[Kind, ...]] = (fixed(PREFIX_SIZE), Uint(40), Uint(40), Blob(0, PREFIX_SIZE * MAX_NEIGHBORS))


@dataclass(frozen=True, slots=True)
class _Signed:
    body: bytes
    signature: bytes
    WIRE: ClassVar[tuple[Kind, ...]] = (Blob(1, MAX_LINK_STATE_SIZE), fixed(64))


@dataclass(frozen=True, slots=True)
class LinkState:
    """A member's link state. ``number`` only grows; ``neighbors`` are id prefixes (8 bytes) in rising order.

    ``prefix`` is the member's own; ``issued`` in Unix seconds; ``digest`` stands for prefix and number.
    """

    prefix: bytes
    number: int
    issued: int
    neighbors: tuple[bytes, ...]
    encoded: bytes
    digest: int

    @property
    def expires(self) -> float:
        """When (Unix seconds) it says nothing any more."""
        return self.issued + LINK_STATE_LIFETIME


def make_link_state(suite: Suite, mesh: MeshId, *, number: int, issued: int, neighbors: tuple[bytes, ...]) -> LinkState:
    """Our own, signed. ``neighbors``: id prefixes, in any order."""
    body = encode(_Body(suite.peer_id[:PREFIX_SIZE], number, issued, b"".join(sorted(neighbors))))
    return decode_link_state(encode(_Signed(body, suite.sign(_CONTEXT + mesh + body))))


def decode_link_state(data: bytes) -> LinkState:
    """Parse, without verifying anything. Raises MalformedMessage."""
    body = decode(_Body, decode(_Signed, data, MAX_LINK_STATE_SIZE).body, MAX_LINK_STATE_SIZE)
    packed = body.neighbors
    if len(packed) % PREFIX_SIZE:
        raise MalformedMessage("neighbors that are no row of prefixes")
    neighbors = tuple([packed[i : i + PREFIX_SIZE] for i in range(0, len(packed), PREFIX_SIZE)])
    if any(a >= b for a, b in pairwise(neighbors)) or body.prefix in neighbors:
        raise MalformedMessage("neighbors out of order")
    digest = hashlib.sha256(b"link state" + body.prefix + body.number.to_bytes(5, "big")).digest()[:STATE_ID_SIZE]
    return LinkState(body.prefix, body.number, body.issued, neighbors, data, int.from_bytes(digest, "big"))


def verify_link_state(state: LinkState, peer: PeerId, suite: Suite, mesh: MeshId, now: float) -> None:
    """Check that ``peer`` has signed it and that it serves at Unix time ``now``. Raises Rejected."""
    if state.expires <= now:
        raise Rejected("link_state_expired")
    if state.issued > now + CLOCK_SKEW:
        raise Rejected("link_state_in_future")
    signed = decode(_Signed, state.encoded, MAX_LINK_STATE_SIZE)
    if peer[:PREFIX_SIZE] != state.prefix or not suite.verify(peer, _CONTEXT + mesh + signed.body, signed.signature):
        raise Rejected("bad_signature")
