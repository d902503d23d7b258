"""What a node wants done. Imperative; plain values; nothing else lives here.

Handing a command to its port never waits: each port has a bounded outbox, and says below what happens when it is full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from meshd.errors import Code
from meshd.ids import ChannelId, LinkId, PeerId, PushId, RequestId, Ticket
from meshd.wire.session_description import SessionDescription


class Priority(IntEnum):
    """The class of a frame on a link; lower goes first. Fixed on the wire (docs/protocol.md, frames)."""

    CONTROL = 0  # keeps the mesh alive: hellos, heartbeats, signaling, records
    MESSAGE = 1  # what people and programs send each other
    BULK = 2  # streams and files


# -- store ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Put:
    """Write one row. Tables are those of ``meshd.core.state.TABLES``."""

    table: str
    key: bytes = field(repr=False)
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove one row, if it is there."""

    table: str
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Clear:
    """Remove every row of a table."""

    table: str


Change = Put | Delete | Clear


@dataclass(frozen=True, slots=True)
class Persist:
    """Write all these changes or none, durably, in the order of the tickets; answer ``Persisted`` or ``PersistFailed``.

    The store's outbox cannot overflow: every change is caused by an event whose number is bounded elsewhere.
    """

    ticket: Ticket
    changes: tuple[Change, ...]


# -- links ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UseStunServers:
    """Links may ask these (``host:port``) what our address is from outside, if they ask anybody of the mesh.

    Replaces what was named before. The first one begins the watch on our own addresses: ``AddressesChanged``.
    """

    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PrepareLink:
    """Gather for a new link; answered by ``LinkPrepared`` or ``LinkClosed``. The offerer is ICE-controlling.

    With ``resumes`` its description has the fingerprint of that older link, whose DTLS association may go on over the
    new path: an ICE restart (RFC 8445 section 9, RFC 8842 section 4).
    """

    link: LinkId
    offerer: bool
    resumes: LinkId | None = None


@dataclass(frozen=True, slots=True)
class ConnectLink:
    """Connect a prepared link to this remote description; answered by ``LinkConnected`` or ``LinkClosed``.

    With ``resume`` the link that it was prepared to resume goes on over the new path: the answer is ``LinkResumed``.
    The peer may begin so many seconds later (``patience``): our description is still on its way to it.
    """

    link: LinkId
    remote: SessionDescription
    resume: bool = False
    patience: float = 0.0


@dataclass(frozen=True, slots=True)
class ProbePath:
    """Check all paths of a link at once: it has fallen silent, or our addresses have changed.

    Whichever path answers carries on; the other side learns our new address by it. If none does: ``ProbeFailed``.
    """

    link: LinkId


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Send one peer message, reliably and in order within its priority.

    A link whose outbox overflows is closed (``send_overflow``): ``SendBufferHigh`` came long before. A message that is
    not ``reliable`` is one frame, goes once, and may overtake: what is late is of no use (RFC 3758).
    """

    link: LinkId
    data: bytes = field(repr=False)
    priority: Priority = Priority.CONTROL
    reliable: bool = True


@dataclass(frozen=True, slots=True)
class SendHeartbeat:
    """Ask whether the peer lives, once, past all that waits; ``HeartbeatAnswered`` follows if the answer comes.

    The other end's transport answers, so that whoever links by WebRTC can be asked.
    """

    link: LinkId
    number: int


@dataclass(frozen=True, slots=True)
class CloseLink:
    """Close a link in whatever state it is, after sending what is queued. No ``LinkClosed`` follows."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Run the bytes of a stream between that link and a file descriptor; answered by ``StreamEnded``, in the end.

    ``descriptor`` is the number under which the shell keeps the descriptor that came with the request.
    """

    link: LinkId
    stream: int
    descriptor: int


@dataclass(frozen=True, slots=True)
class CloseStream:
    """Tell the peer that a stream is over, whether it is open or was only wanted. No ``StreamEnded`` follows.

    ``code`` is one of ``meshd.wire.frame.ResetCode``.
    """

    link: LinkId
    stream: int
    code: int


# -- streams and circuits between members without a link --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenRelayedStream:
    """Run the bytes of a stream between a file descriptor and whatever circuit it is given, sealed with these keys.

    ``stream`` is our own number for it. Answered by ``RelayedStreamEnded``, in the end.
    """

    stream: int
    descriptor: int
    sending_key: bytes = field(repr=False)
    receiving_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AttachCircuit:
    """That stream goes on by this circuit of a link, instead of the one before."""

    stream: int
    link: LinkId
    circuit: int


@dataclass(frozen=True, slots=True)
class EndRelayedStream:
    """That stream is over; ``RelayedStreamEnded`` follows, ``done`` only if it is so here, too."""

    stream: int
    reason: str


@dataclass(frozen=True, slots=True)
class SpliceCircuits:
    """Forward what comes by either circuit to the other, charged to the neighbor of ``link`` and to ``destination``.

    ``rate`` is how many bytes a second all circuits of one neighbor may carry, and all to one destination.
    """

    link: LinkId
    circuit: int
    onward_link: LinkId
    onward_circuit: int
    destination: PeerId
    rate: float


@dataclass(frozen=True, slots=True)
class CloseCircuit:
    """That circuit is over on this link; the other half of a splice is closed by a command of its own."""

    link: LinkId
    circuit: int


# -- push -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenUserAgent:
    """Connect to that push service and stay connected. ``uaid`` is what the service called us last time, or empty.

    We are two user agents at each service: ``newcomers`` is the one whose channels are for tokens and members of a
    day, so that whoever floods it until the service forgets it costs us nobody else.
    """

    service: str
    uaid: str = field(repr=False)
    newcomers: bool = False


@dataclass(frozen=True, slots=True)
class CloseUserAgent:
    """Disconnect from that push service, as that user agent, and do not come back."""

    service: str
    newcomers: bool = False


@dataclass(frozen=True, slots=True)
class RegisterChannel:
    """Have the service accept pushes for ``channel``, restricted to that VAPID key (65 bytes, uncompressed)."""

    service: str
    channel: ChannelId
    vapid_key: bytes = field(repr=False)
    newcomers: bool = False


@dataclass(frozen=True, slots=True)
class UnregisterChannel:
    """Take a channel back: what its endpoint gets from now on is refused by the service."""

    service: str
    channel: ChannelId
    newcomers: bool = False


@dataclass(frozen=True, slots=True)
class AcknowledgePush:
    """Tell the service that it may forget that push. autopush codes: 100 handled, 101 undecryptable, 102 dropped."""

    service: str
    channel: ChannelId
    version: str = field(repr=False)
    code: int = 100
    newcomers: bool = False


@dataclass(frozen=True, slots=True)
class SendPush:
    """POST an encrypted body to a push endpoint (RFC 8030 section 5); answered by ``PushAnswered``.

    ``ttl`` in seconds. ``topic`` (at most 32 base64url characters, or empty) replaces an undelivered older one.
    With the sender's outbox full the answer is status 0, ``busy``.
    """

    push: PushId
    endpoint: str = field(repr=False)
    authorization: str = field(repr=False)
    body: bytes = field(repr=False)
    ttl: int
    urgency: str
    topic: str = ""


# -- control socket and log -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Respond:
    """The result of a request."""

    request: RequestId
    result: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refuse:
    """The error of a request. ``detail`` is a sentence for people that follows the code's own."""

    request: RequestId
    code: Code
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Notify:
    """Something worth a log line and a watcher's notification. Names and fields: ``meshd.core.notifications``."""

    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeliverMessage:
    """A message for the people and programs on this machine, durable in the inbox already.

    ``message`` has the fields of the control API's ``message`` notification, ``body`` as bytes.
    """

    message: Mapping[str, Any] = field(repr=False)


Command = (
    Persist
    | UseStunServers
    | PrepareLink
    | ConnectLink
    | ProbePath
    | SendMessage
    | SendHeartbeat
    | CloseLink
    | OpenStream
    | CloseStream
    | OpenRelayedStream
    | AttachCircuit
    | EndRelayedStream
    | SpliceCircuits
    | CloseCircuit
    | OpenUserAgent
    | CloseUserAgent
    | RegisterChannel
    | UnregisterChannel
    | AcknowledgePush
    | SendPush
    | Respond
    | Refuse
    | Notify
    | DeliverMessage
)
