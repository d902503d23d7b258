"""The node: the machines put together, and the only way in (``handle``).

The order of building is the order of dependence: a machine holds those above it in ``__init__`` and no others. What a
lower one has to tell, it states as a fact (``facts``), and ``consequences`` passes it on.
"""

from __future__ import annotations

from random import Random

from meshd.config import Config
from meshd.core import events as ev
from meshd.core.commands import Command
from meshd.core.consequences import Consequences
from meshd.core.context import Context
from meshd.core.delivery.circuits import Circuits
from meshd.core.delivery.collecting import Collecting
from meshd.core.delivery.deposits import Deposits
from meshd.core.delivery.inbox import Inbox
from meshd.core.delivery.keeping import Keeping
from meshd.core.delivery.outbox import Outbox
from meshd.core.delivery.pinging import Pinging
from meshd.core.delivery.post import Post
from meshd.core.delivery.relayed_streams import RelayedStreams
from meshd.core.delivery.replay import ReplayMemory
from meshd.core.delivery.stream_book import StreamBook
from meshd.core.delivery.streams import Streams
from meshd.core.delivery.tracing import Tracing
from meshd.core.joining.arrivals import Arrivals
from meshd.core.joining.assisting import Assisting
from meshd.core.joining.bearers import Bearers
from meshd.core.joining.calls import Calls
from meshd.core.joining.introductions import Introductions
from meshd.core.joining.joining import Joining
from meshd.core.joining.pasting import Pasting
from meshd.core.joining.reachability import Outlook
from meshd.core.membership.administration import Administration
from meshd.core.membership.admissions import Admissions
from meshd.core.membership.admitting import Admitting
from meshd.core.membership.departures import Departures
from meshd.core.membership.first_seen import FirstSeen
from meshd.core.membership.membership import Membership
from meshd.core.membership.revocation_outbox import RevocationOutbox
from meshd.core.membership.revocations import Revocations
from meshd.core.membership.revoking import Revoking
from meshd.core.membership.sealing_keys import SealingKeys
from meshd.core.membership.twin import Twin
from meshd.core.overlay.broadcast import Broadcast
from meshd.core.overlay.link_states import LinkStates
from meshd.core.overlay.liveness import Liveness
from meshd.core.overlay.neighbors import PROVED, Neighbors
from meshd.core.overlay.reconciliation import Reconciliation
from meshd.core.overlay.relay import Relay
from meshd.core.overlay.routing import Routing
from meshd.core.overlay.sparse import Sparse
from meshd.core.overlay.topology import Topology
from meshd.core.peering import Peering
from meshd.core.pushing.audit import Audit
from meshd.core.pushing.behalf import Asking, Serving
from meshd.core.pushing.calling import Calling
from meshd.core.pushing.channels import Channels
from meshd.core.pushing.grant_answers import GrantAnswers
from meshd.core.pushing.granting import Granting
from meshd.core.pushing.grants import Grants
from meshd.core.pushing.holders import Holders
from meshd.core.pushing.keepers import Keepers
from meshd.core.pushing.kept_grants import KeptGrants
from meshd.core.pushing.pushed import Pushed
from meshd.core.pushing.pushing import Pushing
from meshd.core.pushing.self_test import SelfTest
from meshd.core.pushing.subscription_change import SubscriptionChange
from meshd.core.requests import Requests
from meshd.core.signaling.resuming import Resuming
from meshd.core.signaling.saying import Saying
from meshd.core.signaling.signaling import Signaling
from meshd.core.signaling.stun_servers import StunServers
from meshd.core.state import Stored
from meshd.core.timer_table import timer_table
from meshd.core.views import NodeView, Window
from meshd.crypto.suite import Suite
from meshd.ids import INSTANCE_SIZE, Instance, LinkId, Now
from meshd.wire.broadcasting import LINK_STATE_NEWS, RECORD_NEWS


class Node:
    """A member of a mesh, or one that is about to be.

    ``config``: the whole configuration. ``identity``: our keys. ``rng``: the system's in the daemon, a seeded one in
    the simulator. ``stored``: what the store had when the daemon started.
    """

    def __init__(self, config: Config, identity: Suite, rng: Random, stored: Stored | None = None) -> None:
        stored = stored or {}
        ctx = self._ctx = Context(config, identity, rng, Instance(rng.randbytes(INSTANCE_SIZE)))
        self.sealing_keys = SealingKeys(ctx, stored)
        self.revocations = Revocations(ctx, stored)
        self.membership = Membership(ctx, stored, self.revocations)
        self.admitting = Admitting(ctx, self.membership)
        self.first_seen = FirstSeen(ctx, stored, self.membership)
        self.neighbors = Neighbors(ctx, self.membership)
        self.revocation_outbox = RevocationOutbox(ctx, self.revocations, self.neighbors)
        self.revoking = Revoking(
            ctx, self.revocations, self.membership, self.neighbors, self.first_seen, self.revocation_outbox
        )
        self.liveness = Liveness(ctx, self.neighbors)
        self.link_states = LinkStates(ctx, self.membership, self.neighbors)
        self.broadcast = Broadcast(ctx, self.membership, self.neighbors)
        self.broadcast.takes(RECORD_NEWS, lambda source, body: self.membership.accept(body, source))
        self.broadcast.takes(LINK_STATE_NEWS, lambda source, body: self.link_states.accept(body, source))
        self.reconciliation = Reconciliation(ctx, self.membership, self.neighbors, self.link_states)
        self.routing = Routing(ctx, self.membership, self.neighbors, self.link_states)
        self.relay = Relay(ctx, self.membership, self.neighbors, self.routing)
        self.audit = Audit(ctx, stored)
        self.channels = Channels(ctx, stored)
        self.holders = Holders(ctx, stored, self.channels, self.audit)
        self.grants = Grants(ctx, stored)
        self.pushing = Pushing(ctx, self.grants)
        self.replay = ReplayMemory(ctx, stored)
        self.post = Post(ctx, self.membership, self.neighbors, self.relay, self.pushing, self.replay)
        self.grant_answers = GrantAnswers(ctx, self.post)
        self.keepers = Keepers(ctx, stored, self.membership, self.routing)
        self.asking = Asking(ctx, self.post, self.keepers)
        self.serving = Serving(ctx, self.membership, self.grants, self.pushing, self.post)
        self.kept_grants = KeptGrants(
            ctx, stored, self.membership, self.neighbors, self.routing, self.post, self.grants, self.keepers
        )
        self.calling = Calling(ctx, self.membership, self.routing, self.grants, self.keepers, self.asking)
        self.saying = Saying(ctx, self.post, self.pushing, self.asking, self.calling)
        self.signaling = Signaling(
            ctx, self.membership, self.neighbors, self.routing, self.post, self.grants, self.holders, self.saying
        )
        self.granting = Granting(
            ctx,
            self.membership,
            self.neighbors,
            self.routing,
            self.channels,
            self.holders,
            self.pushing,
            self.post,
            self.keepers,
            self.kept_grants,
        )
        self.self_test = SelfTest(ctx, self.channels, self.pushing)
        self.subscription_change = SubscriptionChange(
            ctx,
            stored,
            self.membership,
            self.channels,
            self.holders,
            self.granting,
            self.self_test,
            self.audit,
        )
        self.sparse = Sparse(ctx, self.membership, self.neighbors, self.routing, self.signaling)
        self.sparse.is_needed = self.broadcast.is_needed
        self.topology = Topology(
            ctx, self.membership, self.neighbors, self.routing, self.signaling, self.calling, self.sparse
        )
        self.resuming = Resuming(ctx, self.neighbors, self.routing, self.signaling)
        self.outlook = Outlook(ctx)
        self.stun_servers = StunServers(ctx, self.membership, self.routing)
        self.introductions = Introductions(
            ctx, stored, self.membership, self.admitting, self.holders, self.outlook, self.stun_servers, self.self_test
        )
        self.arrivals = Arrivals(ctx, self.membership, self.neighbors, self.holders, self.post, self.signaling)
        self.bearers = Bearers(
            ctx,
            self.membership,
            self.admitting,
            self.pushing,
            self.post,
            self.signaling,
            self.introductions,
            self.arrivals,
        )
        self.assisting = Assisting(ctx, self.membership, self.post, self.signaling)
        self.joining = Joining(
            ctx, self.membership, self.holders, self.pushing, self.post, self.signaling, self.stun_servers
        )
        self.pasting = Pasting(
            ctx, self.membership, self.post, self.signaling, self.introductions, self.bearers, self.joining
        )
        self.calls = Calls(
            ctx,
            self.membership,
            self.admitting,
            self.neighbors,
            self.grants,
            self.post,
            self.signaling,
            self.arrivals,
        )
        self.admissions = Admissions(ctx, self.membership, self.admitting, self.holders, self.routing, self.post)
        self.administration = Administration(
            ctx, self.revocations, self.revoking, self.membership, self.first_seen, self.post
        )
        self.outbox = Outbox(ctx, stored, self.membership, self.neighbors, self.post)
        self.inbox = Inbox(ctx, stored, self.membership, self.post)
        self.deposits = Deposits(ctx, self.membership, self.routing, self.post, self.keepers, self.outbox)
        self.keeping = Keeping(ctx, stored, self.membership, self.neighbors, self.routing, self.post, self.keepers)
        self.collecting = Collecting(ctx, self.membership, self.post, self.keepers, self.outbox, self.inbox)
        self.pinging = Pinging(ctx, self.membership, self.routing, self.post)
        self.tracing = Tracing(ctx, self.membership, self.neighbors, self.routing, self.post)
        self.stream_book = StreamBook(ctx, self.membership)
        self.streams = Streams(ctx, self.neighbors, self.stream_book)
        self.circuits = Circuits(ctx, self.membership, self.neighbors, self.routing)
        self.relayed_streams = RelayedStreams(
            ctx, self.membership, self.neighbors, self.routing, self.post, self.circuits, self.stream_book
        )
        self.sparse.in_use = lambda link: self.streams.is_used(link) or self.circuits.is_used(link)
        self.peering = Peering(self, ctx)
        self.pushed = Pushed(self, ctx)
        self.consequences = Consequences(self, ctx)
        self.requests = Requests(self, ctx)
        self.departures = Departures(self, ctx, stored)
        self.twin = Twin(self, ctx)
        self._timers = timer_table(self, ctx)

    # -- the contract -------------------------------------------------------------------------------------------------

    def handle(self, event: ev.Event, now: Now) -> list[Command]:
        """Take one event; gives what is to be done, in order. Total for anything that comes from outside."""
        self._ctx.now = now
        self._on_event(event)
        while self._ctx.facts:
            self.consequences.on_fact(self._ctx.facts.popleft())
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
            case ev.HeartbeatReceived(link):
                self.liveness.on_asked(link)
            case ev.HeartbeatAnswered(link, number):
                self.liveness.on_answer(link, number)
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
                self.topology.on_network()
            case ev.StreamEnded():
                self.streams.on_ended(event)
            case ev.RelayedStreamConnected(stream):
                self.relayed_streams.on_connected(stream)
            case ev.RelayedStreamStalled(stream, reason):
                self.relayed_streams.on_stalled(stream, reason)
            case ev.RelayedStreamEnded():
                self.relayed_streams.on_ended(event)
            case ev.SendBufferHigh(link) | ev.SendBufferLow(link):
                self._on_send_buffer(link, isinstance(event, ev.SendBufferHigh))
            case ev.UserAgentConnected(service, uaid, newcomers):
                if self.channels.on_connected((service, newcomers), uaid):
                    self.subscription_change.on_forgotten((service, newcomers))
                self.topology.on_network()
            case ev.UserAgentDisconnected(service, reason, newcomers):
                self.channels.on_disconnected((service, newcomers), reason)
            case ev.ChannelRegistered(channel, endpoint):
                self.channels.on_registered(channel, endpoint)
            case ev.ChannelRefused(channel, status):
                self.channels.on_refused(channel, status)
            case ev.PushReceived():
                if not self._ctx.aside:  # not acknowledged: the other one with our identity gets it
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
        self.twin.begin()
        self.sealing_keys.begin()
        self.stun_servers.update()
        if self.membership.row is not None:
            self.begin_membership()
            self.topology.begin()
            self.revoking.look_at_ourselves()

    def begin_membership(self) -> None:
        """Set going what a member does."""
        self.holders.activate()
        self.stun_servers.join_ended()
        self.outlook.refresh()
        self.membership.renew_record()
        self.link_states.neighbors_changed()
        mono = self._ctx.now.mono
        self.self_test.begin()
        for name in ("compare", "sweep", "messages", "renewal", "grants", "rotation", "uptime"):
            self._ctx.timers.set_at_latest((name, b""), mono + self._ctx.jitter(1.0))

    def end_membership(self) -> None:
        """Nothing of that is to be done any more."""
        for name in ("compare", "renewal", "grants", "rotation", "uptime"):
            self._ctx.cancel_timer(name, b"")
        self.self_test.stop()
        self.relayed_streams.end_all("leaving")
        self.outlook.stop()
        self.stun_servers.update()
        self.topology.clear()
        self.broadcast.clear()
        self.link_states.clear()
        self.first_seen.forget_all()

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
                self.revocation_outbox.flush(link.peer)
                self.outbox.flush(link.peer)

    def flush_waiting(self) -> None:
        """Messages that wait may find a way by now."""
        self.grant_answers.flush()
        self.kept_grants.flush()
        self.keeping.flush()
        for peer in self.outbox.waiting_peers():
            self.outbox.flush(peer)

    # -- timers -------------------------------------------------------------------------------------------------------

    def _on_timers(self) -> None:
        """All that are due. Each sets its next one later than now, so this ends."""
        while (due := self._ctx.timers.pop_due(self._ctx.now.mono)) is not None:
            name, about = due[0]
            self._timers[name](about)

    def on_routes(self) -> None:
        """Records have changed the graph: members that were out of reach may be in it now."""
        self.topology.on_routes()
        self.granting.on_routes()
        self.stun_servers.update()
        self.flush_waiting()

    def sweep_messages(self) -> None:
        """Give up messages of ours that are too old, and forget which came long ago."""
        self.outbox.sweep()
        self.inbox.sweep()

    def sweep(self) -> None:
        """Let go of what has run out."""
        self.replay.sweep()
        self.link_states.sweep()
        for link in self.neighbors.links():
            if link.state in PROVED and not self.membership.is_member(link.peer):
                self.neighbors.close(link, "admission_expired")
        self.relayed_streams.sweep()
        self.introductions.sweep()
        self.arrivals.sweep()
        self.bearers.sweep()
        self.assisting.sweep()
        self.revocations.sweep()
        self.kept_grants.sweep()
        self.keeping.sweep()
