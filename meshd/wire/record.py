"""Records: what a member says about itself, signed and numbered (docs/protocol.md, records)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import ClassVar

from meshd.crypto.admission import (
    MAX_CERTIFICATE_SIZE,
    MAX_CHAIN_LENGTH,
    Chain,
    Judge,
    decode_chain,
    expires_at,
    verify_chain,
)
from meshd.crypto.suite import Suite
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import CLOCK_SKEW, INSTANCE_SIZE, PREFIX_SIZE, Instance, MeshId, PeerId
from meshd.wire.codec import Blob, Kind, Many, Uint, decode, encode, fixed
from meshd.wire.parts import MAX_RECORD_SIZE

# Specification (ours)
_CONTEXT = b"meshd record 1\0"
DEPARTED = 1  # flag: the member has left the mesh on purpose
RELAYS = 2  # flag: forwards other members' envelopes
KEEPS = 1  # feature: keeps capabilities and grants for others, and pushes on their behalf
DEPOSITS = 2  # feature: knows the messages about deposits
_IPV4_SIZE, _IPV6_SIZE = 6, 18  # an address and a port

# Policy
MAX_NEIGHBORS = 256
MAX_ANSWERING = 2  # of its addresses: one of each family
RECORD_LIFETIME = 7 * 86400.0  # seconds; a member away for longer drops out of the graph, not out of the mesh


@dataclass(frozen=True, slots=True)
class _Body:
    number: int
    chain: tuple[bytes, ...]
    sealing_key: bytes
    neighbors: bytes
    generation: int
    features: int
    instance: bytes
    issued: int
    expires: int
    flags: int
    answering: tuple[bytes, ...] = ()  # address and port, 6 or 18 bytes
    WIRE: ClassVar[tuple[Kind, ...]] = (
        Uint(40),
        Many(Blob(1, MAX_CERTIFICATE_SIZE), MAX_CHAIN_LENGTH),
        fixed(32),
        Blob(0, PREFIX_SIZE * MAX_NEIGHBORS),
        Uint(40),
        Uint(64),
        fixed(INSTANCE_SIZE),
        Uint(40),
        Uint(40),
        Uint(16),
        Many(Blob(_IPV4_SIZE, _IPV6_SIZE), MAX_ANSWERING),
    )


@dataclass(frozen=True, slots=True)
class _Signed:
    body: bytes
    signature: bytes
    WIRE: ClassVar[tuple[Kind, ...]] = (Blob(1, MAX_RECORD_SIZE), fixed(64))


@dataclass(frozen=True, slots=True)
class Record:
    """A member's record. ``number`` only grows; ``neighbors`` are sorted id prefixes (8 bytes); times in Unix seconds.

    ``generation`` counts its push subscriptions; ``instance`` was drawn when its daemon started.
    """

    number: int
    chain: Chain
    sealing_key: bytes
    neighbors: tuple[bytes, ...]
    generation: int
    features: int
    instance: Instance
    issued: int
    expires: int
    flags: int
    encoded: bytes
    admitted_until: int  # when the chain ends
    answering: tuple[str, ...] = ()  # ``host:port`` where it answers STUN of whoever asks

    @property
    def peer(self) -> PeerId:
        """Whose record it is."""
        return self.chain[-1].subject

    @property
    def name(self) -> str:
        """The name that its admission gives it."""
        return self.chain[-1].name

    @property
    def departed(self) -> bool:
        """Whether the member says that it has left."""
        return bool(self.flags & DEPARTED)


def make_record(
    suite: Suite,
    mesh: MeshId,
    *,
    number: int,
    chain: Chain,
    neighbors: tuple[bytes, ...],
    generation: int,
    features: int,
    instance: Instance,
    issued: int,
    flags: int,
    answering: tuple[str, ...] = (),
) -> Record:
    """Our own record, signed."""
    expires = issued + int(RECORD_LIFETIME)
    body = encode(
        _Body(
            number,
            tuple(c.encoded for c in chain),
            suite.sealing_key,
            b"".join(neighbors),
            generation,
            features,
            instance,
            issued,
            expires,
            flags,
            tuple(_pack(server) for server in answering),
        )
    )
    return decode_record(encode(_Signed(body, suite.sign(_CONTEXT + mesh + body))))


def decode_record(data: bytes) -> Record:
    """Parse, without verifying anything. Raises MalformedMessage."""
    body = decode(_Body, decode(_Signed, data, MAX_RECORD_SIZE).body, MAX_RECORD_SIZE)
    if len(body.neighbors) % PREFIX_SIZE:
        raise MalformedMessage("neighbors that are no row of prefixes")
    neighbors = tuple(body.neighbors[i : i + PREFIX_SIZE] for i in range(0, len(body.neighbors), PREFIX_SIZE))
    chain = decode_chain(body.chain)
    return Record(
        body.number,
        chain,
        body.sealing_key,
        neighbors,
        body.generation,
        body.features,
        Instance(body.instance),
        body.issued,
        body.expires,
        body.flags,
        data,
        expires_at(chain),
        tuple(_text_of(packed) for packed in body.answering),
    )


def _pack(server: str) -> bytes:
    host, _, port = server.rpartition(":")
    return ipaddress.ip_address(host.strip("[]")).packed + int(port).to_bytes(2, "big")


def _text_of(packed: bytes) -> str:
    if len(packed) not in (_IPV4_SIZE, _IPV6_SIZE):
        raise MalformedMessage("an address of another size")
    host, port = str(ipaddress.ip_address(packed[:-2])), int.from_bytes(packed[-2:], "big")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def verify_record(record: Record, suite: Suite, mesh: MeshId, now: float, revoked: Judge | None = None) -> None:
    """Check chain, times and signature at Unix time ``now``; ``revoked`` as in ``verify_chain``. Raises Rejected."""
    if record.expires <= now:
        raise Rejected("record_expired")
    if record.issued > now + CLOCK_SKEW:
        raise Rejected("record_in_future")
    if record.expires - record.issued > RECORD_LIFETIME:
        raise Rejected("record_too_long")
    verify_chain(record.chain, mesh, now, suite.verify, revoked)
    signed = decode(_Signed, record.encoded, MAX_RECORD_SIZE)
    if not suite.verify(record.peer, _CONTEXT + mesh + signed.body, signed.signature):
        raise Rejected("bad_signature")
