"""Streams between members without a link: two messages from hop to hop, five from end to end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from meshd.ids import PEER_ID_SIZE
from meshd.wire.codec import Blob, Text, Uint, decode, encode, fixed
from meshd.wire.parts import MAX_REASON_CHARS, Layout

# Specification (ours: docs/protocol.md, relayed streams)
TAG_SIZE = 16  # of a circuit: says to its destination, and to nobody else, which stream it is for
STREAM_SESSION_SIZE = 16  # names a relayed stream between two members; drawn by its opener
CIRCUIT_KEY_SIZE = 16  # what the tags of a stream's circuits are made with
CIRCUIT_BITS = 62
MAX_APPLICATION_CHARS = 32
MAX_PARAMETERS_SIZE = 1024
MAX_HANDSHAKE_SIZE = 2048  # a message of the handshake, with what is in it


@dataclass(frozen=True, slots=True)
class CircuitWanted:
    """Open a circuit on this link that ends at ``destination``, over at most ``hops`` more links.

    Numbers as for streams, apart from them. CIRCUIT and CIRCUIT_CREDIT frames may follow at once, both ways.
    """

    circuit: int
    destination: bytes
    hops: int
    tag: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (Uint(CIRCUIT_BITS), fixed(PEER_ID_SIZE), Uint(8), fixed(TAG_SIZE))


@dataclass(frozen=True, slots=True)
class CircuitClosed:
    """That circuit is over, or will not be: ``no_route``, ``refused``, ``busy``, ``too_far``, ``link_lost``, ``done``.

    Travels on along the circuit.
    """

    circuit: int
    reason: str
    WIRE: ClassVar[Layout] = (Uint(CIRCUIT_BITS), Text(MAX_REASON_CHARS))


@dataclass(frozen=True, slots=True)
class RelayedStreamWanted:
    """Let us have a stream over others. ``handshake`` is the first message of Noise IK, with the purpose in it.

    ``session`` names the stream from now on. The same message may come again; the answer is the same.
    """

    session: bytes
    handshake: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (fixed(STREAM_SESSION_SIZE), Blob(1, MAX_HANDSHAKE_SIZE))


@dataclass(frozen=True, slots=True)
class RelayedStreamAccepted:
    """That stream is open; its opener asks for a circuit. ``handshake``: the second message, with the circuit key."""

    session: bytes
    handshake: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (fixed(STREAM_SESSION_SIZE), Blob(1, MAX_HANDSHAKE_SIZE))


@dataclass(frozen=True, slots=True)
class RelayedStreamRefused:
    """That stream will not be: ``no_acceptor``, ``busy``, ``handshake``."""

    session: bytes
    reason: str
    WIRE: ClassVar[Layout] = (fixed(STREAM_SESSION_SIZE), Text(MAX_REASON_CHARS))


@dataclass(frozen=True, slots=True)
class RelayedStreamOver:
    """That stream is over; ``code`` as in a RESET frame. Also the answer about one that is not known."""

    session: bytes
    code: int
    WIRE: ClassVar[Layout] = (fixed(STREAM_SESSION_SIZE), Uint(32))


@dataclass(frozen=True, slots=True)
class PathWanted:
    """To the opener of that stream: its circuit is of no use, please ask for another."""

    session: bytes
    WIRE: ClassVar[Layout] = (fixed(STREAM_SESSION_SIZE),)


@dataclass(frozen=True, slots=True)
class StreamPurpose:
    """What the opener says in the handshake: for which application, and what that wants to know."""

    application: str
    parameters: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (Text(MAX_APPLICATION_CHARS), Blob(0, MAX_PARAMETERS_SIZE))


def encode_purpose(purpose: StreamPurpose) -> bytes:
    """The payload of the first handshake message."""
    return encode(purpose)


def decode_purpose(data: bytes) -> StreamPurpose:
    """Raises MalformedMessage."""
    return decode(StreamPurpose, data, MAX_HANDSHAKE_SIZE)
