"""Records: what a member says about itself, signed and numbered (docs/protocol.md, records).

Which neighbors it has is said apart, in link states, since that changes with every link.
"""

from __future__ import annotations

import hashlib
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
from meshd.ids import CLOCK_SKEW, INSTANCE_SIZE, Instance, MeshId, PeerId
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
MAX_ANSWERING = 2  # of its addresses: one of each family
RECORD_LIFETIME = 7 * 86400.0  # seconds; a member away for longer drops out of the graph, not out of the mesh


@dataclass(frozen=True, slots=True)
class _Body:
    number: int
    chain: tuple[bytes, ...]
    sealing_key: bytes
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
    """A member's record. ``number`` only grows; times in Unix seconds.

    ``generation`` counts its push subscriptions; ``instance`` was drawn when its daemon started. ``pieces`` are its
    bytes around the certificates of the chain: those of its introducers are held once for all whom they have let in.
    ``digest`` stands for id and number.
    """

    number: int
    chain: Chain
    sealing_key: bytes
    generation: int
    features: int
    instance: Instance
    issued: int
    expires: int
    flags: int
    pieces: tuple[bytes, ...]
    admitted_until: int  # when the chain ends
    digest: int
    answering: tuple[str, ...] = ()  # ``host:port`` where it answers STUN of whoever asks

    @property
    def peer(self) -> PeerId:
        """Whose record it is."""
        return self.chain[-1].subject

    @property
    def encoded(self) -> bytes:
        """The bytes that travel, put together."""
        between = [part for pair in zip(self.pieces, self.chain, strict=False) for part in (pair[0], pair[1].encoded)]
        return b"".join((*between, self.pieces[-1]))

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
    chain = decode_chain(body.chain)
    digest = hashlib.sha256(b"record" + chain[-1].subject + body.number.to_bytes(5, "big")).digest()
    return Record(
        body.number,
        chain,
        body.sealing_key,
        body.generation,
        body.features,
        Instance(body.instance),
        body.issued,
        body.expires,
        body.flags,
        _around(chain, data),
        expires_at(chain),
        int.from_bytes(digest[:8], "big"),
        tuple(_text_of(packed) for packed in body.answering),
    )


def _around(chain: Chain, data: bytes) -> tuple[bytes, ...]:
    """What is before, between and after the certificates."""
    pieces, at = [], 0
    for certificate in chain:
        begins = data.index(certificate.encoded, at)
        pieces.append(data[at:begins])
        at = begins + len(certificate.encoded)
    return (*pieces, data[at:])


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
