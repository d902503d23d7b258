"""What follows from facts: what a machine states is passed on to all whom it concerns, in an order that is fixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshd.core import facts as fa
from meshd.core.context import Context
from meshd.core.signaling.session import Purpose
from meshd.ids import ChannelId, PeerId, SessionId, short
from meshd.wire.broadcasting import LINK_STATE_NEWS, RECORD_NEWS

if TYPE_CHECKING:
    from meshd.core.node import Node

# Policy
ROUTES_DELAY = 0.02  # seconds; many records that come together are looked at once


class Consequences:
    """The one place where a machine's fact reaches others."""

    __slots__ = ("_ctx", "_node")

    def __init__(self, node: Node, ctx: Context) -> None:
        self._node = node
        self._ctx = ctx

    def on_fact(self, fact: fa.Fact) -> None:
        """Pass it on to all whom it concerns."""
        node = self._node
        match fact:
            case fa.LinkProved(link):
                node.neighbors.on_proved(link)
            case fa.NeighborUp(peer):
                self._on_neighbor_up(peer)
            case fa.NeighborDown(peer, reason):
                self._on_neighbor_down(peer, reason)
            case fa.LinkEnded(link):
                node.streams.on_link_ended(link)
                node.circuits.on_link_ended(link)
            case fa.CircuitAsked(link, circuit, tag):
                node.relayed_streams.on_circuit((link, circuit), tag)
            case fa.CircuitOver(link, circuit, reason):
                node.relayed_streams.on_circuit_over((link, circuit), reason)
            case fa.RecordAccepted():
                self._on_record(fact)
            case fa.LinkStateAccepted():
                self._on_link_state(fact)
            case fa.NewsGathered():
                node.broadcast.flush_news()
            case fa.MembershipChanged():
                node.routing.changed()
                if node.membership.row is not None:
                    node.departures.is_over()
                    node.begin_membership()
                else:
                    node.end_membership()
            case fa.MemberRevoked(peer, ticket):
                node.departures.on_revoked(peer, ticket)
                node.relayed_streams.end_with(peer, "revoked")
            case fa.OwnAdmissionRevoked(reason, ticket):
                node.departures.expel(reason, ticket)
            case fa.DescriptionReady(session_id):
                self._on_description(session_id)
            case fa.SessionFailed(session_id, peer, reason, pushes, why):
                node.joining.on_session_failed(session_id, reason)
                node.arrivals.on_session_over(session_id)
                node.assisting.on_session_over(session_id)
                node.pasting.on_session_failed(session_id, reason)
                node.calls.on_session_failed(peer, reason, why)
                node.topology.on_failed(peer, reason, pushes, why)
            case fa.ChannelReady(channel):
                self._on_channel_ready(channel)
            case fa.ChannelDead(channel):
                node.subscription_change.on_channel_dead(channel)
            case fa.UserAgentDead(service, newcomers):
                node.subscription_change.on_user_agent_dead((service, newcomers))
            case fa.PushOutcome():
                concerned = (node.self_test, node.serving, node.joining, node.signaling)
                any(machine.on_push_outcome(fact) for machine in concerned)
            case fa.GrantStored(peer, generation, until):
                node.grant_answers.on_stored(peer, generation, until)
            case fa.SubscriptionGone(peer, generation, endpoint):
                node.grant_answers.on_gone(peer, generation, endpoint)
            case fa.OwnRecordMet(record):
                node.twin.on_met(record)
            case fa.SealingKeyReady():
                if node.sealing_keys.on_ready():
                    node.membership.renew_record()
            case fa.PushedForAnother(asker, called, outcome):
                node.audit.record("lent", called, detail=f"{outcome}, for {short(asker)}")
                self._ctx.notify("pushed_for_another", peer=called, asker=asker, outcome=outcome)
            case fa.PathFailed(peer):
                node.routing.unlearn(peer)
                node.signaling.on_path_failed(peer)
                node.outbox.on_path_failed(peer)
            case fa.NotDurable(ticket):
                if not (node.admissions.on_not_durable(ticket) or node.sealing_keys.on_not_durable(ticket)):
                    node.outbox.on_not_durable(ticket)
            case fa.MessageWaits(peer):
                node.deposits.on_waiting(peer)
            case fa.DepositSettled():
                node.deposits.on_settled(fact)
            case fa.MessageDurable(key):
                node.inbox.on_durable(key)

    def _on_neighbor_up(self, peer: PeerId) -> None:
        node = self._node
        node.liveness.on_up(peer)
        node.routing.changed()
        node.arrivals.on_neighbor_up(peer)
        node.signaling.on_neighbor_up(peer)
        node.topology.on_up(peer)
        node.joining.on_neighbor_up(peer)
        node.pasting.on_neighbor_up(peer)
        node.calls.on_neighbor_up(peer)
        node.link_states.neighbors_changed()
        node.broadcast.on_up(peer)
        node.revoking.greet(peer)
        own = node.membership.own_record
        if own is not None:
            node.reconciliation.introduce(peer, own)
        if self._ctx.own_id < peer:
            node.reconciliation.compare_with(peer)
        node.granting.on_neighbor_up(peer)
        node.outbox.on_way(peer)
        node.deposits.on_neighbor_up(peer)
        node.flush_waiting()

    def _on_neighbor_down(self, peer: PeerId, reason: str) -> None:
        node = self._node
        node.revocation_outbox.forget(peer)
        node.routing.changed()
        node.circuits.on_neighbor_down(peer)
        if node.membership.row is None:
            return
        node.link_states.neighbors_changed()
        node.broadcast.on_down(peer)
        node.signaling.paths_changed()
        node.topology.on_down(peer, reason)
        node.outbox.again(peer)

    def _on_record(self, fact: fa.RecordAccepted) -> None:
        node = self._node
        record = fact.record
        node.first_seen.note(record, fact.previous)
        node.broadcast.spread(RECORD_NEWS, record.encoded, fact.ticket, fact.source)
        node.routing.changed()
        self._ctx.timers.set_at_latest(("routes", b""), self._ctx.now.mono + ROUTES_DELAY)
        if record.peer == self._ctx.own_id:
            return
        node.link_states.on_record(record.peer)
        if record.departed:
            node.departures.forget(record.peer)
            return
        node.admissions.on_record(record)
        node.administration.on_record(record)
        node.topology.want(record)
        node.peering.on_member_known(record.peer)

    def _on_link_state(self, fact: fa.LinkStateAccepted) -> None:
        node = self._node
        node.broadcast.spread(LINK_STATE_NEWS, fact.state.encoded, None, fact.source)
        node.routing.on_link_state(fact.state, fact.previous)
        self._ctx.timers.set_at_latest(("routes", b""), self._ctx.now.mono + ROUTES_DELAY)

    def _on_description(self, session_id: SessionId) -> None:
        node = self._node
        session = node.signaling.session(session_id)
        if session is None:
            return
        match session.purpose:
            case Purpose.MEMBER:
                node.signaling.ready(session)
            case Purpose.JOIN:
                node.joining.ready(session)
            case Purpose.ADMIT:
                node.arrivals.ready(session)
            case Purpose.ASSIST:
                node.assisting.ready(session)
            case Purpose.PASTE:
                node.pasting.ready(session)

    def _on_channel_ready(self, channel: ChannelId) -> None:
        node = self._node
        node.self_test.on_channel_ready(channel)
        for holder in node.holders.of_channel(channel):
            node.introductions.on_channel_ready(holder)
            node.arrivals.on_channel_ready(holder)
            node.joining.on_channel_ready(holder)
            node.signaling.on_channel_ready(holder)
            node.granting.on_channel_ready(holder)
