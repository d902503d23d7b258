"""What can happen to a node. Past tense; plain values; nothing else lives here.

The driver (or the simulator) builds these and hands each to ``Node.handle``. Secrets never show in a ``repr``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from meshd.config import Config
from meshd.ids import ChannelId, LinkId, PushId, RequestId, Ticket
from meshd.wire.session_description import SessionDescription

# -- life -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The shell is ready to carry out commands. Always the first event."""


@dataclass(frozen=True, slots=True)
class TimerFired:
    """``next_deadline()`` has come, more or less: a late one only makes things late."""


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The configuration has been read again; what can change while running is as it says."""

    config: Config


@dataclass(frozen=True, slots=True)
class Stopping:
    """The daemon is about to end: say goodbye to the neighbors."""


# -- store ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Persisted:
    """The changes of that ``Persist`` would survive a power cut now."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class PersistFailed:
    """Nothing of that ``Persist`` was written (disk full, I/O error). What depended on it must not leave."""

    ticket: Ticket
    reason: str


# -- links ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkPrepared:
    """Gathering is over (or its time is): our side's description of that link."""

    link: LinkId
    description: SessionDescription


@dataclass(frozen=True, slots=True)
class LinkConnected:
    """ICE, DTLS and SCTP stand and the data channel is open. Who is at the other end is not proved yet.

    ``local_kind`` and ``remote_kind`` are ICE candidate types, the addresses are text for people.
    """

    link: LinkId
    local_fingerprint: bytes
    remote_fingerprint: bytes
    local_kind: str = "host"
    remote_kind: str = "host"
    local_address: str = ""
    remote_address: str = ""


@dataclass(frozen=True, slots=True)
class LinkResumed:
    """``link`` goes on over the path of the newer link ``by``, which is no more. Nothing was lost or doubled."""

    link: LinkId
    by: LinkId
    local_kind: str = "host"
    remote_kind: str = "host"
    local_address: str = ""
    remote_address: str = ""


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """All paths of a link have been asked for ``elapsed`` seconds, and none has answered. Said again while that lasts.

    The asking goes on: it may only be a slow path.
    """

    link: LinkId
    elapsed: float


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """That link is gone, or never came to be. ``reason`` is a counter's name: ``ice_failed``, ``closed_by_peer``, …"""

    link: LinkId
    reason: str


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """This machine's addresses are these now; the first comes soon after the first ``UseStunServers``.

    ``addresses`` are local ones, without port. ``reflexive`` are what servers and routers say we look like from
    outside, ``answering`` where strangers can reach us and STUN is answered, both as ``host:port``.
    """

    addresses: tuple[str, ...]
    reflexive: tuple[str, ...] = ()
    answering: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """One whole peer message, put together from its frames."""

    link: LinkId
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HeartbeatReceived:
    """The peer has asked whether we live, and has been answered. So it lives, too."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class HeartbeatAnswered:
    """The answer to ``SendHeartbeat`` with that number."""

    link: LinkId
    number: int


@dataclass(frozen=True, slots=True)
class SendBufferHigh:
    """The link's outbox is half full: hold back what can wait."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class SendBufferLow:
    """The link's outbox has drained."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The bytes of that stream have stopped, and its descriptor is closed. Comes before the ``LinkClosed`` of its link.

    ``reason`` ``done``: both ways to their end, and handed on. Otherwise ``closed_here``, ``closed_by_peer``,
    ``withdrawn``, ``failed_here``, ``failed_there``, ``link_lost``. Sizes in bytes.
    """

    link: LinkId
    stream: int
    reason: str
    sent_size: int
    received_size: int


@dataclass(frozen=True, slots=True)
class RelayedStreamConnected:
    """The other end has answered by the circuit that the stream was given last."""

    stream: int


@dataclass(frozen=True, slots=True)
class RelayedStreamStalled:
    """The circuit of that stream is of no use; the stream waits for another.

    ``reason``: ``stalled``, or what a relay must have done: ``session_forged``, ``session_replayed``, ``session_gap``.
    """

    stream: int
    reason: str


@dataclass(frozen=True, slots=True)
class RelayedStreamEnded:
    """As ``StreamEnded``, of a relayed stream. ``code`` (``ResetCode``) is what the other end is to be told."""

    stream: int
    reason: str
    code: int
    sent_size: int
    received_size: int


# -- push -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UserAgentConnected:
    """The push service knows us as ``uaid``. If that is not the one we asked for, all channels of that user agent are
    gone. ``newcomers`` says which of our two user agents it is about, as in the commands.
    """

    service: str
    uaid: str = field(repr=False)
    newcomers: bool = False


@dataclass(frozen=True, slots=True)
class UserAgentDisconnected:
    """No connection to that push service now, as that user agent; the receiver keeps trying."""

    service: str
    reason: str
    newcomers: bool = False


@dataclass(frozen=True, slots=True)
class ChannelRegistered:
    """The push service takes messages for that channel at ``endpoint``."""

    channel: ChannelId
    endpoint: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChannelRefused:
    """The push service would not register that channel. ``status`` is its own (autopush: 400, 409, 500)."""

    channel: ChannelId
    status: int


@dataclass(frozen=True, slots=True)
class PushReceived:
    """An encrypted push. Unanswered ones are delivered again, so each needs an ``AcknowledgePush``."""

    service: str
    channel: ChannelId
    version: str = field(repr=False)
    body: bytes = field(repr=False)
    newcomers: bool = False


@dataclass(frozen=True, slots=True)
class PushAnswered:
    """What became of a ``SendPush``. ``status`` 0: no answer, ``detail`` says why. ``retry_after`` in seconds."""

    push: PushId
    status: int
    detail: str = ""
    retry_after: float | None = None


# -- the control socket -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Requested:
    """A request that changes something or takes time. Answered by one ``Respond`` or ``Refuse``, sooner or later.

    ``method`` is one of the control API's, ``params`` has been checked against its table, defaults filled in.
    In here and in results values are native: ``bytes`` for the table's kinds ``id`` and ``bytes``, Unix seconds
    (float) for ``time``; the shell encodes them by the table. Methods that only read (``node.status``, ``peers.list``,
    ``messages.list``, ``introductions.list``) are answered from ``Node.view()`` and never come here.
    """

    request: RequestId
    method: str
    params: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RequestAbandoned:
    """Nobody waits for that answer any more."""

    request: RequestId


Event = (
    Started
    | TimerFired
    | Reconfigured
    | Stopping
    | Persisted
    | PersistFailed
    | LinkPrepared
    | LinkConnected
    | LinkResumed
    | ProbeFailed
    | LinkClosed
    | AddressesChanged
    | MessageReceived
    | HeartbeatReceived
    | HeartbeatAnswered
    | SendBufferHigh
    | SendBufferLow
    | StreamEnded
    | RelayedStreamConnected
    | RelayedStreamStalled
    | RelayedStreamEnded
    | UserAgentConnected
    | UserAgentDisconnected
    | ChannelRegistered
    | ChannelRefused
    | PushReceived
    | PushAnswered
    | Requested
    | RequestAbandoned
)
