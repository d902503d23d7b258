"""The node: the machines put together, and the only way in (``handle``).

The order of building is the order of dependence: a machine holds those above it in ``__init__`` and no others. What a
lower one has to tell, it states as a fact (``facts``), and ``_on_fact`` passes it on.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from meshd.config import Config
from meshd.core import events as ev
from meshd.core import facts as fa
from meshd.core.admissions import Admissions
from meshd.core.arrivals import Arrivals
from meshd.core.assisting import Assisting
from meshd.core.channels import Channels
from meshd.core.commands import Command
from meshd.core.context import Context
from meshd.core.delivery import Delivery
from meshd.core.grant_answers import GrantAnswers
from meshd.core.grants import Grants
from meshd.core.introductions import Introductions
from meshd.core.joining import Joining
from meshd.core.liveness import Liveness
from meshd.core.membership import Membership
from meshd.core.neighbors import PROVED, Neighbors
from meshd.core.pasting import Pasting
from meshd.core.peering import Peering
from meshd.core.pinging import Pinging
from meshd.core.post import Post
from meshd.core.pushed import Pushed
from meshd.core.pushing import Pushing
from meshd.core.reachability import Outlook
from meshd.core.reconciliation import Reconciliation
from meshd.core.relay import Relay
from meshd.core.replay import ReplayMemory
from meshd.core.requests import Requests
from meshd.core.resuming import Resuming
from meshd.core.routing import Routing
from meshd.core.session import Purpose
from meshd.core.signaling import Signaling
from meshd.core.state import Stored
from meshd.core.streams import Streams
from meshd.core.stun_servers import StunServers
from meshd.core.topology import Topology
from meshd.core.views import NodeView, Window
from meshd.crypto.suite import Suite
from meshd.ids import INSTANCE_SIZE, ChannelId, Instance, LinkId, Now, PeerId, SessionId
from meshd.wire.parts import Grant

# Policy
ROUTES_DELAY = 0.02  # seconds; many records that come together are looked at once
TOP_UP_INTERVAL = 1800.0  # seconds between looks at what neighbors hold


class Node:
    """A member of a mesh, or one that is about to be.

    ``config``: the whole configuration. ``identity``: our keys. ``rng``: the system's in the daemon, a seeded one in
    the simulator. ``stored``: what the store had when the daemon started.
    """

    def __init__(self, config: Config, identity: Suite, rng: Random, stored: Stored | None = None) -> None:
        stored = stored or {}
        ctx = self._ctx = Context(config, identity, rng, Instance(rng.randbytes(INSTANCE_SIZE)))
        self.membership = Membership(ctx, stored)
        self.neighbors = Neighbors(ctx, self.membership)
        self.liveness = Liveness(ctx, self.neighbors)
        self.reconciliation = Reconciliation(ctx, self.membership, self.neighbors)
        self.routing = Routing(ctx, self.membership, self.neighbors)
        self.relay = Relay(ctx, self.membership, self.neighbors, self.routing)
        self.channels = Channels(ctx, stored)
        self.grants = Grants(ctx, stored)
        self.pushing = Pushing(ctx, self.grants)
        self.replay = ReplayMemory(ctx, stored)
        self.post = Post(ctx, self.membership, self.neighbors, self.relay, self.pushing, self.replay)
        self.grant_answers = GrantAnswers(ctx, self.post)
        self.signaling = Signaling(
            ctx, self.membership, self.neighbors, self.routing, self.post, self.pushing, self.channels
        )
        self.topology = Topology(ctx, self.membership, self.neighbors, self.routing, self.signaling, self.pushing)
        self.resuming = Resuming(ctx, self.neighbors, self.routing, self.signaling)
        self.outlook = Outlook(ctx)
        self.stun_servers = StunServers(ctx, self.membership, self.routing)
        self.introductions = Introductions(ctx, stored, self.membership, self.channels, self.outlook, self.stun_servers)
        self.arrivals = Arrivals(
            ctx,
            self.membership,
            self.neighbors,
            self.channels,
            self.pushing,
            self.post,
            self.signaling,
            self.introductions,
        )
        self.assisting = Assisting(ctx, self.membership, self.post, self.signaling)
        self.joining = Joining(
            ctx, self.membership, self.channels, self.pushing, self.post, self.signaling, self.stun_servers
        )
        self.pasting = Pasting(
            ctx, self.membership, self.post, self.signaling, self.introductions, self.arrivals, self.joining
        )
        self.admissions = Admissions(ctx, self.membership, self.channels, self.routing, self.post)
        self.delivery = Delivery(ctx, stored, self.membership, self.neighbors, self.post)
        self.pinging = Pinging(ctx, self.membership, self.routing, self.post)
        self.streams = Streams(ctx, self.membership, self.neighbors)
        self.peering = Peering(self, ctx)
        self.pushed = Pushed(self, ctx)
        self.requests = Requests(self, ctx)
        self._timers = self._timer_table()

    # -- the contract -------------------------------------------------------------------------------------------------

    def handle(self, event: ev.Event, now: Now) -> list[Command]:
        """Take one event; gives what is to be done, in order. Total for anything that comes from outside."""
        self._ctx.now = now
        self._on_event(event)
        while self._ctx.facts:
            self._on_fact(self._ctx.facts.popleft())
        return self._ctx.take_commands()

    def next_deadline(self) -> float | None:
        """When (monotonic seconds) a ``TimerFired`` is due at the latest; None for never."""
        return self._ctx.timers.next_deadline()

    def view(self) -> NodeView:
        """What can be seen from outside."""
        return Window(self, self._ctx)

    def timer_count(self) -> int:
        """How many timers are set: what it keeps an eye on."""
        return len(self._ctx.timers)

    # -- events -------------------------------------------------------------------------------------------------------

    def _on_event(self, event: ev.Event) -> None:
        match event:
            case ev.MessageReceived(link, data):
                self.peering.on_message(link, data)
            case ev.TimerFired():
                self._on_timers()
            case ev.Persisted(ticket):
                self._ctx.persisted(ticket)
                self.pushed.take_held()
            case ev.PersistFailed(ticket, reason):
                self._ctx.persist_failed(ticket, reason)
            case ev.LinkPrepared():
                if not self.outlook.on_prepared(event):
                    self.signaling.on_prepared(event)
            case ev.LinkConnected():
                self.neighbors.on_connected(event)
            case ev.LinkResumed():
                self.neighbors.on_resumed(event)
            case ev.ProbeFailed():
                self.resuming.on_probe_failed(event)
            case ev.LinkClosed(link, reason):
                self._on_link_closed(link, reason)
            case ev.AddressesChanged():
                self.stun_servers.on_addresses(event)
                if self.membership.row is not None:
                    self.outlook.on_addresses(event)
                self.liveness.on_addresses()
            case ev.StreamEnded():
                self.streams.on_ended(event)
            case ev.SendBufferHigh(link) | ev.SendBufferLow(link):
                self._on_send_buffer(link, isinstance(event, ev.SendBufferHigh))
            case ev.UserAgentConnected(service, uaid):
                if self.channels.on_connected(service, uaid):
                    self.membership.new_generation()
            case ev.UserAgentDisconnected(service, reason):
                self.channels.on_disconnected(service, reason)
            case ev.ChannelRegistered(channel, endpoint):
                self.channels.on_registered(channel, endpoint)
            case ev.ChannelRefused(channel, status):
                self.channels.on_refused(channel, status)
            case ev.PushReceived():
                self.pushed.on_push(event)
            case ev.PushAnswered():
                self.pushing.on_answer(event)
            case ev.Requested(request, method, params):
                self.requests.on_request(request, method, params)
            case ev.RequestAbandoned(request):
                self.requests.on_abandoned(request)
            case ev.Started():
                self._on_started()
            case ev.Reconfigured(config):
                self._ctx.config = config
            case ev.Stopping():
                self.neighbors.close_all("stopping")

    def _on_started(self) -> None:
        self.stun_servers.update()
        if self.membership.row is not None:
            self._begin_membership()
            self.topology.begin()

    def _begin_membership(self) -> None:
        """Set going what a member does."""
        self.channels.activate()
        self.stun_servers.join_ended()
        self.outlook.refresh()
        self.membership.neighbors_changed(self.neighbors.peers())
        mono = self._ctx.now.mono
        for name in ("compare", "sweep", "messages", "renewal", "grants"):
            self._ctx.timers.set_at_latest((name, b""), mono + self._ctx.jitter(1.0))

    def _end_membership(self) -> None:
        for name in ("compare", "renewal", "grants"):
            self._ctx.cancel_timer(name, b"")
        self.outlook.stop()
        self.stun_servers.update()
        self.topology.clear()

    def _on_link_closed(self, link: LinkId, reason: str) -> None:
        if self.outlook.on_closed(link):
            return
        self.neighbors.on_closed(link, reason)
        self.signaling.on_link_closed(link, reason)

    def _on_send_buffer(self, link_id: LinkId, high: bool) -> None:
        link = self.neighbors.link(link_id)
        if link is not None:
            link.congested = high
            if not high:
                self.delivery.flush(link.peer)

    # -- facts --------------------------------------------------------------------------------------------------------

    def _on_fact(self, fact: fa.Fact) -> None:
        match fact:
            case fa.LinkProved(link):
                self.neighbors.on_proved(link)
            case fa.NeighborUp(peer, _):
                self._on_neighbor_up(peer)
            case fa.NeighborDown(peer, reason):
                self._on_neighbor_down(peer, reason)
            case fa.LinkEnded(link):
                self.streams.on_link_ended(link)
            case fa.RecordAccepted():
                self._on_record(fact)
            case fa.MembershipChanged():
                self.routing.changed()
                if self.membership.row is not None:
                    self._begin_membership()
                else:
                    self._end_membership()
            case fa.DescriptionReady(session_id):
                self._on_description(session_id)
            case fa.SessionFailed(session_id, peer, reason, pushes, why):
                self.joining.on_session_failed(session_id, reason)
                self.arrivals.on_session_over(session_id)
                self.assisting.on_session_over(session_id)
                self.pasting.on_session_failed(session_id, reason)
                self.topology.on_failed(peer, reason, pushes, why)
            case fa.ChannelReady(channel):
                self._on_channel_ready(channel)
            case fa.PushOutcome(name, outcome, detail):
                if not self.joining.on_push_outcome(name, outcome, detail) and outcome != "accepted":
                    self.signaling.on_push_failed(name, detail)
            case fa.GrantStored(peer, generation, until):
                self.grant_answers.on_stored(peer, generation, until)
            case fa.SubscriptionGone(peer, generation, endpoint):
                self.grant_answers.on_gone(peer, generation, endpoint)
            case fa.PathFailed(peer, _):
                self.routing.unlearn(peer)
                self.signaling.on_path_failed(peer)
            case fa.NotDurable(ticket):
                if not self.admissions.on_not_durable(ticket):
                    self.delivery.on_not_durable(ticket)
            case fa.MessageDurable(key):
                self.delivery.on_durable(key)

    def _on_neighbor_up(self, peer: PeerId) -> None:
        self.liveness.on_up(peer)
        self.routing.changed()
        self.arrivals.on_neighbor_up(peer)
        self.signaling.on_neighbor_up(peer)
        self.topology.on_up(peer)
        self.joining.on_neighbor_up(peer)
        self.pasting.on_neighbor_up(peer)
        self.membership.neighbors_changed(self.neighbors.peers())
        own = self.membership.own_record
        if own is not None:
            self.reconciliation.introduce(peer, own)
        if self._ctx.own_id < peer:
            self.reconciliation.compare_with(peer)
        self.channels.ensure(peer)
        self.grant(peer)
        self.delivery.again(peer)
        self.grant_answers.flush()
        self._flush_waiting()

    def _flush_waiting(self) -> None:
        for peer in self.delivery.waiting_peers():
            self.delivery.flush(peer)

    def _on_neighbor_down(self, peer: PeerId, reason: str) -> None:
        self.routing.changed()
        if self.membership.row is None:
            return
        self.membership.neighbors_changed(self.neighbors.peers())
        self.relay.neighbor_gone(peer)
        self.signaling.paths_changed()
        self.topology.on_down(peer, reason)
        self.delivery.again(peer)

    def _on_record(self, fact: fa.RecordAccepted) -> None:
        record = fact.record
        self.routing.changed()
        self._ctx.timers.set_at_latest(("routes", b""), self._ctx.now.mono + ROUTES_DELAY)
        if record.peer == self._ctx.own_id:
            self.reconciliation.spread([record], fact.ticket)
            return
        if record.departed:
            self._forget_member(record.peer)
            return
        self.admissions.on_record(record)
        self.topology.want(record)
        self.peering.on_member_known(record.peer)

    def _forget_member(self, peer: PeerId) -> None:
        for link in self.neighbors.proved(peer):
            self.neighbors.close(link, "departed")
        self.signaling.forget(peer)
        self.topology.forget(peer)
        self.grants.forget(peer)
        self.grant_answers.forget(peer)
        self.channels.release(peer)

    def _on_description(self, session_id: SessionId) -> None:
        session = self.signaling.session(session_id)
        if session is None:
            return
        match session.purpose:
            case Purpose.MEMBER:
                self.signaling.ready(session)
            case Purpose.JOIN:
                self.joining.ready(session)
            case Purpose.ADMIT:
                self.arrivals.ready(session)
            case Purpose.ASSIST:
                self.assisting.ready(session)
            case Purpose.PASTE:
                self.pasting.ready(session)

    def _on_channel_ready(self, channel: ChannelId) -> None:
        holder = self.channels.holder(channel)
        if holder is None:
            return
        self.introductions.on_channel_ready(holder)
        self.arrivals.on_channel_ready(holder)
        self.joining.on_channel_ready(holder)
        self.signaling.on_channel_ready(holder)
        self.grant(PeerId(holder))

    def grant(self, peer: PeerId) -> None:
        """Give a neighbor new capabilities if it is time."""
        if self.neighbors.current(peer) is not None and self.channels.needs_top_up(peer):
            row = self.membership.row
            grant = self.channels.grant(peer, row.generation if row is not None else 0)
            if grant is not None:
                self.neighbors.send_to(peer, Grant(grant.generation, grant.subscriptions))

    # -- timers -------------------------------------------------------------------------------------------------------

    def _timer_table(self) -> dict[str, Callable[[bytes], None]]:
        return {
            "hello": self.neighbors.on_hello_timeout,
            "silence": self.neighbors.on_silence_timeout,
            "heartbeat": lambda _: self.liveness.on_timer(),
            "record": lambda _: self.membership.on_timer(),
            "compare": lambda _: self.reconciliation.on_timer(),
            "session": self.signaling.on_timeout,
            "resend": self.signaling.on_resend,
            "grant": self.signaling.on_grant_possible,
            "dial": self.topology.on_timer,
            "resume": self.resuming.on_timer,
            "push": self.pushing.on_timer,
            "mint": self.introductions.on_mint_timeout,
            "accept": self.arrivals.on_grant_wait_over,
            "help": self.arrivals.on_help_wait_over,
            "further": self.joining.on_further_wait_over,
            "join": lambda _: self.joining.on_timer("join"),
            "join_push": lambda _: self.joining.on_timer("join_push"),
            "join_retry": lambda _: self.joining.on_timer("join_retry"),
            "admission": self.admissions.on_timeout,
            "naming": self.admissions.on_naming_timeout,
            "renewal": lambda _: self.admissions.on_renewal_timer(),
            "deliver": self.delivery.on_retry,
            "send": self.delivery.on_wait_over,
            "messages": lambda _: self.delivery.sweep(),
            "ping": self.pinging.on_timeout,
            "stream": self.streams.on_open_timeout,
            "acceptor": self.streams.on_accept_timeout,
            "sweep": lambda _: self._sweep(),
            "grants": lambda _: self._top_up(),
            "routes": lambda _: self._on_routes(),
            "outlook": lambda _: self.outlook.refresh(),
            "stranger": self.peering.on_stranger_timeout,
            "store": lambda _: self._ctx.retry_store(),
        }

    def _on_timers(self) -> None:
        """All that are due. Each sets its next one later than now, so this ends."""
        while (due := self._ctx.timers.pop_due(self._ctx.now.mono)) is not None:
            name, about = due[0]
            self._timers[name](about)

    def _on_routes(self) -> None:
        """Records have changed the graph: members that were out of reach may be in it now."""
        self.topology.on_routes()
        self.grant_answers.flush()
        self.stun_servers.update()
        self._flush_waiting()

    def _sweep(self) -> None:
        self.replay.sweep()
        for link in self.neighbors.links():
            if link.state in PROVED and not self.membership.is_member(link.peer):
                self.neighbors.close(link, "admission_expired")
        self.introductions.sweep()
        self.arrivals.sweep()
        self.assisting.sweep()

    def _top_up(self) -> None:
        self._ctx.timer("grants", b"", self._ctx.jitter(TOP_UP_INTERVAL))
        for peer in self.neighbors.peers():
            self.grant(peer)
