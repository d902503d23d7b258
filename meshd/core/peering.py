"""What comes from peers, taken apart: messages on links and letters in envelopes, each to the machine it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshd.core.context import Context
from meshd.core.overlay.neighbors import Link, LinkState
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import LinkId, PeerId, Ticket
from meshd.rates import RateLimiter
from meshd.wire import messages as ms
from meshd.wire.envelope import Letter

if TYPE_CHECKING:
    from meshd.core.node import Node

# Policy
MAX_STRANGERS = 64  # letters from senders that we do not know yet, kept for a moment
# Grants and admissions of one peer, at once and per second after that: each costs signatures and a write. They are said
# again until they are confirmed, so none is lost.
COSTLY_BURST, COSTLY_RATE = 16, 0.1
STRANGER_WAIT = 2.0  # seconds: an offer may overtake the news that its sender has joined
_COSTLY = (ms.Grant, ms.AdmissionWanted, ms.AdmissionIssued)


class Peering:
    """The door for everything that peers send."""

    __slots__ = ("_costly", "_ctx", "_node", "_strangers")

    def __init__(self, node: Node, ctx: Context) -> None:
        self._node = node
        self._ctx = ctx
        self._costly = RateLimiter(COSTLY_RATE, COSTLY_BURST, 2 * ctx.config.mesh.max_members)
        self._strangers: dict[PeerId, list[tuple[Letter, PeerId | None]]] = {}

    # -- on links -----------------------------------------------------------------------------------------------------

    def on_message(self, link_id: LinkId, data: bytes) -> None:
        """A whole message on a link. What is no message ends the link: the other end is broken, or worse."""
        link = self._node.neighbors.link(link_id)
        if link is None:
            return  # its last words, while we were closing it
        self._node.liveness.on_heard(link)
        try:
            message = ms.decode_message(data, ms.LINK_MESSAGES)
            if link.state is not LinkState.UP:
                if isinstance(message, ms.Heartbeat | ms.HeartbeatAnswer):
                    return  # it has overtaken the hello
                if not isinstance(message, ms.Hello):
                    self._node.neighbors.fail(link, "hello_missing")
                    return
                self._node.neighbors.on_hello(link, message)
            elif message is None:
                self._ctx.count("messages_unknown")
            else:
                self._on_link_message(link, message)
        except MalformedMessage as error:
            self._ctx.count("messages_malformed")
            self._ctx.notify("message_malformed", peer=link.peer, reason=str(error))
            self._node.neighbors.fail(link, "malformed")
        except Rejected as rejected:
            self._ctx.count(f"rejected_{rejected.reason}")
            self._ctx.notify("envelope_rejected", peer=link.peer, reason=str(rejected))

    def _on_link_message(self, link: Link, message: ms.Message) -> None:
        node, peer = self._node, link.peer
        match message:
            case ms.Heartbeat() | ms.HeartbeatAnswer():
                node.liveness.on_message(link, message)
            case ms.Records():
                node.reconciliation.on_records(peer, message)
            case ms.News():
                node.broadcast.on_news(peer, message)
            case ms.Have():
                node.broadcast.on_have(peer, message)
            case ms.Graft():
                node.broadcast.on_graft(peer, message)
            case ms.Prune():
                node.broadcast.on_prune(peer)
            case ms.Digest():
                node.reconciliation.on_digest(peer, message)
            case ms.Summary():
                node.reconciliation.on_summary(peer, message)
            case ms.RecordsWanted():
                node.reconciliation.on_records_wanted(peer, message)
            case ms.RevocationsKnown():
                node.revoking.on_known(peer, message)
            case ms.Revocations():
                node.revoking.on_revocations(peer, message)
            case ms.Forward():
                envelope = node.relay.on_forward(link, message)
                if envelope is not None:
                    self._on_relayed(envelope, peer)
            case ms.Undeliverable():
                node.relay.on_undeliverable(message)
            case ms.StreamWanted():
                node.streams.on_wanted(link, message)
            case ms.StreamAccepted():
                node.streams.on_accepted(link, message)
            case ms.StreamRefused():
                node.streams.on_refused(link, message)
            case ms.CircuitWanted():
                node.circuits.on_wanted(link, message)
            case ms.CircuitClosed():
                node.circuits.on_closed(link, message)
            case ms.Goodbye():
                reason = message.reason if message.reason.isidentifier() else "closed_by_peer"
                node.neighbors.dismiss(link, reason)
            case ms.Hello():
                node.neighbors.fail(link, "hello_out_of_turn")
            case _:
                self._on_member_message(peer, message)

    def _on_member_message(self, peer: PeerId, message: ms.Message) -> None:
        """The messages that mean the same on a link and in an envelope."""
        node = self._node
        if isinstance(message, _COSTLY) and self._costly.take((peer, type(message)), self._ctx.now.mono):
            raise Rejected("too_often", type(message).__name__)
        match message:
            case ms.ApplicationMessage():
                node.inbox.on_message(peer, message)
            case ms.Acknowledgement():
                node.outbox.on_acknowledged(peer, message)
            case ms.MessageRefused():
                node.outbox.on_refused(peer, message)
            case ms.Grant():
                node.grants.on_grant(peer, message)
            case ms.SubscriptionDead():
                node.subscription_change.on_report(peer, message)
            case ms.TwinSeen():
                node.twin.on_shown(message)
            case ms.GrantTaken():
                node.granting.on_taken(peer, message)
            case ms.PushWanted():
                node.serving.on_wanted(peer, message)
            case ms.PushReported():
                node.asking.on_reported(peer, message)
            case ms.GrantDeposit():
                node.kept_grants.on_deposit(peer, message)
            case ms.GrantKept():
                if node.kept_grants.on_kept(message):
                    node.topology.can_be_called(PeerId(message.owner))
            case ms.MessageDeposit():
                node.keeping.on_deposit(peer, message)
            case ms.DepositKept():
                node.deposits.on_kept(peer, message)
            case ms.DepositRefused():
                node.deposits.on_refused(peer, message)
            case ms.MessageKept():
                node.collecting.on_message(peer, message)
            case ms.KeptTaken():
                node.keeping.on_taken(peer, message)
            case ms.ReceiptKept():
                node.collecting.on_receipt(peer, message)
            case ms.DepositWithdrawn():
                node.keeping.on_withdrawn(peer, message)
            case ms.Ping():
                node.pinging.on_ping(peer, message)
            case ms.PingAnswer():
                node.pinging.on_answer(peer, message)
            case ms.HopWanted():
                node.tracing.on_wanted(peer, message)
            case ms.HopTold():
                node.tracing.on_told(peer, message)
            case ms.RelayedStreamWanted():
                node.relayed_streams.on_wanted(peer, message)
            case ms.RelayedStreamAccepted():
                node.relayed_streams.on_accepted(peer, message)
            case ms.RelayedStreamRefused():
                node.relayed_streams.on_refused(peer, message)
            case ms.RelayedStreamOver():
                node.relayed_streams.on_over(peer, message)
            case ms.PathWanted():
                node.relayed_streams.on_path_wanted(peer, message)
            case ms.AnswerWanted():
                node.assisting.on_wanted(peer, message)
            case ms.AnswerGiven():
                node.arrivals.on_answer(peer, message)
            case ms.AdmissionWanted():
                node.admissions.on_wanted(peer, message)
            case ms.AdmissionIssued():
                node.admissions.on_issued(peer, message)
            case ms.AdmissionRefused():
                node.admissions.on_refused(peer, message)

    # -- in envelopes -------------------------------------------------------------------------------------------------

    def on_envelope(self, data: bytes, *, via: PeerId | None = None) -> Ticket | None:
        """An envelope for us as a member, from the neighbor ``via`` or by push.

        The ticket is that of having remembered it. Raises MalformedMessage and Rejected.
        """
        if self._node.membership.row is None:
            raise Rejected("no_mesh")
        letter = self._node.post.open(data, self._node.membership.mesh)
        if not self._node.membership.is_member(letter.sender):
            if self._node.revocations.bars(letter.sender):
                self._ctx.count("envelopes_revoked")
                raise Rejected("revoked")
            self._keep_stranger(letter, via)
            return None
        return self._on_letter(letter, via)

    def _on_relayed(self, envelope: bytes, via: PeerId) -> None:
        """The neighbor cannot look inside, so it is not to blame for what it finds there. Raises Rejected."""
        try:
            self.on_envelope(envelope, via=via)
        except MalformedMessage as error:
            raise Rejected("envelope_malformed", str(error)) from None

    def _keep_stranger(self, letter: Letter, via: PeerId | None) -> None:
        if sum(len(letters) for letters in self._strangers.values()) >= MAX_STRANGERS:
            raise Rejected("stranger")
        self._strangers.setdefault(letter.sender, []).append((letter, via))
        self._ctx.timer("stranger", letter.sender, STRANGER_WAIT)

    def on_member_known(self, peer: PeerId) -> None:
        """A record has come: letters of that peer may have waited for it."""
        waiting = self._strangers.pop(peer, None)
        if waiting is not None:
            self._ctx.cancel_timer("stranger", peer)
            for letter, via in waiting:
                try:
                    self._on_letter(letter, via)
                except (MalformedMessage, Rejected) as error:
                    self._ctx.notify("envelope_rejected", peer=peer, reason=str(error))

    def on_stranger_timeout(self, about: bytes) -> None:
        """Nobody has told us who that is."""
        self._ctx.count("envelopes_stranger", len(self._strangers.pop(PeerId(about), [])))

    def _on_letter(self, letter: Letter, via: PeerId | None) -> Ticket:
        message = ms.decode_message(letter.body, ms.SIGNALING | ms.TO_A_MEMBER)
        ticket = self._node.post.remember(letter)
        if via is not None:  # a member's, and not an old one played again: only such a one shows a way
            self._node.routing.learn(letter.sender, via)
        else:
            self._node.pushing.heard(letter.sender)
        if message is None:
            self._ctx.count("messages_unknown")
        elif isinstance(message, ms.Offer | ms.Answer | ms.OfferDeclined):
            self._on_signaling(letter, message, ticket, by_push=via is None)
        else:
            self._on_member_message(letter.sender, message)
        return ticket

    def _on_signaling(self, letter: Letter, message: ms.Message, ticket: Ticket, *, by_push: bool) -> None:
        signaling = self._node.signaling
        match message:
            case ms.Offer():
                signaling.on_offer(letter, message, ticket, by_push)
            case ms.Answer():
                signaling.on_answer(letter, message)
            case ms.OfferDeclined():
                signaling.on_declined(letter.sender, letter.session, message)
