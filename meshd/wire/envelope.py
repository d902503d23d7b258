"""Envelopes: signed and sealed, the same bytes by push, by relay or by paste (docs/protocol.md, envelopes).

Outside, for relays: version, suite, a hint of the mesh, the recipient. Inside, for the recipient alone: who says it,
in which session, when, and what, under a signature that covers the outside too, so nobody can seal it again for
someone else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from meshd.crypto.suite import Suite
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import CLOCK_SKEW, PEER_ID_SIZE, SESSION_ID_SIZE, MeshId, Now, PeerId, SessionId
from meshd.wire.codec import Blob, Kind, Uint, decode, encode, fixed
from meshd.wire.messages import MAX_ENVELOPE_SIZE

# Specification (ours)
VERSION = 1
MESH_HINT_SIZE = 8
HEADER_SIZE = 2 + MESH_HINT_SIZE + PEER_ID_SIZE
OVERHEAD_SIZE = 224  # at most, of an envelope beside its body
_CONTEXT = b"meshd envelope 1\0"

# Policy
MAX_LIFETIME = 300.0  # seconds from issued to expires: an offer is useless later


class Header(NamedTuple):
    """What a relay reads. ``recipient`` is a peer id, or the sealing key of an introduction."""

    suite: int
    mesh_hint: bytes
    recipient: bytes


@dataclass(frozen=True, slots=True)
class _Signed:
    sender: PeerId
    session: SessionId
    sequence: int
    issued: int
    expires: int
    body: bytes
    WIRE: ClassVar[tuple[Kind, ...]] = (
        fixed(PEER_ID_SIZE),
        fixed(SESSION_ID_SIZE),
        Uint(32),
        Uint(40),
        Uint(40),
        Blob(1, MAX_ENVELOPE_SIZE),
    )


@dataclass(frozen=True, slots=True)
class _Sealed:
    signed: bytes
    signature: bytes
    WIRE: ClassVar[tuple[Kind, ...]] = (Blob(1, MAX_ENVELOPE_SIZE), fixed(64))


@dataclass(frozen=True, slots=True)
class Letter:
    """An opened envelope. ``issued`` and ``expires`` in whole seconds since 1970, by the sender's clock."""

    sender: PeerId
    session: SessionId
    sequence: int
    issued: int
    expires: int
    body: bytes = field(repr=False)
    shown: bytes = field(default=b"", repr=False, compare=False)
    """The outside and what was sealed: with it, anybody can see who signed this (``read_shown``)."""


def read_header(data: bytes) -> Header:
    """What a relay may know; the same in every version, so that it can pass on what it could not open.

    Raises MalformedMessage.
    """
    if not HEADER_SIZE < len(data) <= MAX_ENVELOPE_SIZE:
        raise MalformedMessage(f"an envelope of {len(data)} bytes")
    return Header(data[1], data[2 : 2 + MESH_HINT_SIZE], data[2 + MESH_HINT_SIZE : HEADER_SIZE])


def _covered(header: bytes, mesh: MeshId, signed: bytes) -> bytes:
    return _CONTEXT + header + mesh + signed


def seal(
    suite: Suite,
    mesh: MeshId,
    recipient: bytes,
    sealing_key: bytes,
    *,
    session: SessionId,
    sequence: int,
    body: bytes,
    now: Now,
    lifetime: float = MAX_LIFETIME,
) -> bytes:
    """An envelope from us. Raises Rejected if ``sealing_key`` is no key."""
    header = bytes((VERSION, suite.number)) + mesh[:MESH_HINT_SIZE] + recipient
    issued = int(now.unix)
    signed = encode(_Signed(suite.peer_id, session, sequence, issued, issued + int(lifetime), body))
    signature = suite.sign(_covered(header, mesh, signed))
    return header + suite.seal(sealing_key, _CONTEXT + header, encode(_Sealed(signed, signature)))


def open_envelope(suite: Suite, mesh: MeshId, data: bytes, seed: bytes | None = None) -> Letter:
    """Open and check everything but the times and the replay; ``seed`` opens an introduction's.

    Raises MalformedMessage, or Rejected: ``unknown_version``, ``unknown_suite``, ``wrong_mesh``,
    ``not_for_us``, ``bad_signature``.
    """
    header = read_header(data)
    if data[0] != VERSION:
        raise Rejected("unknown_version")
    if header.suite != suite.number:
        raise Rejected("unknown_suite")
    if header.mesh_hint != mesh[:MESH_HINT_SIZE]:
        raise Rejected("wrong_mesh")
    if header.recipient != (suite.peer_id if seed is None else suite.sealing_key_of(seed)):
        raise Rejected("not_for_us")
    outside = data[:HEADER_SIZE]
    return _read(suite, mesh, outside, suite.open(seed, _CONTEXT + outside, data[HEADER_SIZE:]))


def read_shown(suite: Suite, mesh: MeshId, shown: bytes) -> Letter:
    """A letter to somebody else, who shows it. Raises MalformedMessage, or Rejected: ``bad_signature``."""
    return _read(suite, mesh, shown[:HEADER_SIZE], shown[HEADER_SIZE:])


def _read(suite: Suite, mesh: MeshId, outside: bytes, inside: bytes) -> Letter:
    sealed = decode(_Sealed, inside, MAX_ENVELOPE_SIZE)
    signed = decode(_Signed, sealed.signed, MAX_ENVELOPE_SIZE)
    if not suite.verify(signed.sender, _covered(outside, mesh, sealed.signed), sealed.signature):
        raise Rejected("bad_signature")
    return Letter(
        signed.sender, signed.session, signed.sequence, signed.issued, signed.expires, signed.body, outside + inside
    )


def check_times(letter: Letter, now: Now) -> None:
    """Raises Rejected: ``expired``, ``clock`` (issued in our future, or valid for longer than allowed)."""
    if letter.issued > now.unix + CLOCK_SKEW or letter.expires - letter.issued > MAX_LIFETIME:
        raise Rejected("clock", f"issued {letter.issued - now.unix:+.0f} s from now by our clock")
    if letter.expires + CLOCK_SKEW < now.unix:
        raise Rejected("expired", f"{now.unix - letter.expires:.0f} s ago by our clock")
