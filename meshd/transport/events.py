"""What an association tells its owner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CloseReason = Literal[
    "shutdown",  # either side ended it in good order
    "aborted",  # by us
    "aborted_by_peer",
    "timeout",  # too many retransmissions unanswered
    "handshake_timeout",
    "peer_restarted",  # it lost its state; what was on the way may be lost: take a new link
    "peer_misbehaved",  # it broke the protocol or a limit; ``detail`` says which
]


@dataclass(frozen=True, slots=True)
class Established:
    """The handshake is over; what was queued leaves now."""

    interleaving: bool
    """Whether I-DATA is in use, so that a long message never holds up one of lower priority number."""


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message: in order within its stream, or unordered and at once."""

    stream: int
    ppid: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The peer has closed its side of a stream (RFC 6525), after everything it had sent on it."""

    stream: int


@dataclass(frozen=True, slots=True)
class ChannelOpened:
    """The peer opened a data channel in band (RFC 8832); the acknowledgement is on its way."""

    stream: int
    label: str


@dataclass(frozen=True, slots=True)
class Writable:
    """The unsent bytes have fallen below ``low_water_size``, having been above."""


@dataclass(frozen=True, slots=True)
class Drained:
    """Everything that was sent has been acknowledged."""


@dataclass(frozen=True, slots=True)
class HeartbeatReceived:
    """The peer has asked whether we live (RFC 9260 section 8.3), and will be answered; it does, then.

    Several that come in one go are told once.
    """


@dataclass(frozen=True, slots=True)
class HeartbeatAcknowledged:
    """The peer has answered the heartbeat of that number."""

    number: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The last event. ``detail`` is for the log."""

    reason: CloseReason
    detail: str = ""


Event = (
    Established
    | Message
    | StreamReset
    | ChannelOpened
    | Writable
    | Drained
    | HeartbeatReceived
    | HeartbeatAcknowledged
    | Closed
)
