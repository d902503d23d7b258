"""What machines tell each other. A machine states a fact; ``Node`` hands it to whom it concerns.

So no machine calls upwards: the ones below (links, push) need not know who builds on them.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshd.core.pushing.statuses import Verdict
from meshd.ids import ChannelId, LinkId, MessageId, PeerId, SessionId, Ticket
from meshd.wire.link_state import LinkState
from meshd.wire.record import Record


@dataclass(frozen=True, slots=True)
class LinkProved:
    """The other end's hello has verified and ours is said."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class NeighborUp:
    """The peer at the other end of a link has proved who it is, or a link to it goes on over another path."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class NeighborDown:
    """We have no link to that peer any more."""

    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class LinkEnded:
    """That link, whether or not it was the current one to its peer, is gone or being closed."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class RecordAccepted:
    """A newer record of a member, ours included; ``previous`` is None for one we did not know.

    It may be passed on once ``ticket`` is durable. ``source``: the neighbor that it came from.
    """

    record: Record
    previous: Record | None
    ticket: Ticket
    source: PeerId | None = None


@dataclass(frozen=True, slots=True)
class LinkStateAccepted:
    """A newer link state of a member, ours included; ``previous`` is None for one of whom we knew none.

    ``source``: the neighbor that it came from.
    """

    state: LinkState
    previous: LinkState | None
    source: PeerId | None = None


@dataclass(frozen=True, slots=True)
class NewsGathered:
    """There is something to be pushed to neighbors at once."""


@dataclass(frozen=True, slots=True)
class MembershipChanged:
    """We have joined, left, or got another admission."""


@dataclass(frozen=True, slots=True)
class MemberRevoked:
    """That peer is no member any more, since its own admission or its introducer's has been revoked.

    The peer itself is told once ``ticket`` is durable.
    """

    peer: PeerId
    ticket: Ticket | None


@dataclass(frozen=True, slots=True)
class OwnAdmissionRevoked:
    """We are no member any more: ``revoked``, or ``issuer_revoked`` where it was our introducer."""

    reason: str
    ticket: Ticket | None


@dataclass(frozen=True, slots=True)
class DescriptionReady:
    """Gathering for that session is over."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """That attempt at a link has ended without one; ``pushes`` is how often it was made by push.

    ``why`` is a sentence for people, where the candidates of both sides tell.
    """

    session: SessionId
    peer: PeerId
    reason: str
    pushes: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class ChannelReady:
    """A push channel of ours has an endpoint."""

    channel: ChannelId


@dataclass(frozen=True, slots=True)
class ChannelDead:
    """The push service says that this channel of ours is no more: our own push to it was told so."""

    channel: ChannelId


@dataclass(frozen=True, slots=True)
class UserAgentDead:
    """What we are at that push service, for newcomers or for the others, is of no use: pushes do not get through."""

    service: str
    newcomers: bool


@dataclass(frozen=True, slots=True)
class PushOutcome:
    """What became of a push, by the name its sender gave it: ``accepted``, ``gone``, ``failed``, ``withheld``.

    ``withheld``: it was not sent, for the peer's budget is used up or its services want to be left alone. ``verdict``
    is what the last answer of a push service meant; None where there was none, or somebody else has pushed it.
    ``left`` is when (monotonic seconds) it went out for the last time, if we have pushed it.
    """

    name: bytes
    outcome: str
    detail: str
    verdict: Verdict | None = None
    left: float | None = None


@dataclass(frozen=True, slots=True)
class GrantStored:
    """What that peer has given us is durable: of which generation, and to when (Unix seconds, or 0) it serves."""

    peer: PeerId
    generation: int
    until: int


@dataclass(frozen=True, slots=True)
class SubscriptionGone:
    """A push service says that this subscription of a peer's is no more. ``endpoint_hash`` as in the message."""

    peer: PeerId
    generation: int
    endpoint_hash: bytes


@dataclass(frozen=True, slots=True)
class PushedForAnother:
    """We have pushed to ``called`` on behalf of ``asker``, with that outcome: for the audit trail."""

    asker: PeerId
    called: PeerId
    outcome: str


@dataclass(frozen=True, slots=True)
class MessageDurable:
    """A message in the inbox is there for good; ``key`` names it."""

    key: bytes


@dataclass(frozen=True, slots=True)
class MessageWaits:
    """A message for that peer cannot be sent, or is not acknowledged: keepers may take it."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class DepositSettled:
    """A message that keepers have is acknowledged; they may be told once ``ticket`` is durable."""

    peer: PeerId
    message: MessageId
    kept_by: tuple[bytes, ...]
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class NotDurable:
    """The changes of that ticket were not written and will not be; its request has been refused."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class OwnRecordMet:
    """A newer record of ours than our own, which another instance has signed: a twin's, or from a lost future."""

    record: Record


@dataclass(frozen=True, slots=True)
class SealingKeyReady:
    """A new sealing key of ours is durable: it may be announced."""


@dataclass(frozen=True, slots=True)
class PathFailed:
    """Something that we sent to ``peer`` through others came back: they have no way to it."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class CircuitAsked:
    """A neighbor wants a circuit that ends here; ``tag`` says for what."""

    link: LinkId
    circuit: int
    tag: bytes


@dataclass(frozen=True, slots=True)
class CircuitOver:
    """A circuit that ends here is gone, or has come to nothing, for that reason."""

    link: LinkId
    circuit: int
    reason: str


Fact = (
    LinkProved
    | NeighborUp
    | NeighborDown
    | LinkEnded
    | RecordAccepted
    | LinkStateAccepted
    | NewsGathered
    | MembershipChanged
    | MemberRevoked
    | OwnAdmissionRevoked
    | DescriptionReady
    | SessionFailed
    | ChannelReady
    | ChannelDead
    | UserAgentDead
    | PushOutcome
    | GrantStored
    | SubscriptionGone
    | OwnRecordMet
    | SealingKeyReady
    | PushedForAnother
    | PathFailed
    | MessageWaits
    | DepositSettled
    | CircuitAsked
    | CircuitOver
    | NotDurable
    | MessageDurable
)
