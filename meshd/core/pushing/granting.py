"""Giving holders what they are to have: over the mesh where there is a way, else by push and through friends.

What a holder has not confirmed (``GrantTaken``) is said again. A grant by push or through friends is for those who do
not have our present subscriptions: who does will find us, and gets the rest when there is a way.
"""

from __future__ import annotations

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.overlay.routing import Routing
from meshd.core.pushing.channels import Channels
from meshd.core.pushing.holders import Holders
from meshd.core.pushing.keepers import Keepers
from meshd.core.pushing.kept_grants import KeptGrants
from meshd.core.pushing.pushing import Pushing
from meshd.ids import PEER_ID_SIZE, ChannelId, PeerId
from meshd.rates import RateLimiter
from meshd.wire.envelope import MAX_LIFETIME
from meshd.wire.granting import GrantTaken
from meshd.wire.parts import Grant

# Policy
LOOK_INTERVAL = 1800.0  # seconds between looks at what everybody holds
SETTLED_TIME = 600.0  # seconds a link lasts in a large mesh until the neighbor gets capabilities of ours
MIN_HOLDERS = 3  # neighbors that get them at once all the same
FIRST_RETRY_DELAY = 5.0  # seconds for a holder to confirm; doubles, give or take a quarter
MAX_RETRY_DELAY = 1800.0
FIRST_PUSH_DELAY = 20.0  # seconds without a way until a new subscription is told by push: most ways come back
PUSH_INTERVAL = 1800.0  # seconds between pushes of one grant; an envelope is good for five minutes only; doubles
MAX_PUSHES = 2  # of one grant to one holder; then friends and its own coming home have to do: offers need the budget
MAX_GENERATION_GAP = 1_000_000  # generations ahead of ours that a holder is believed
# Times that holders are believed, at once and in a day. Each is a new record and new grants for everybody; and nobody
# shall drive our generation to the end of its 40 bits, where no record of ours would be taken any more.
PASSED_BURST, PASSED_DAILY = 8, 24


class Granting:
    """The way of our grants to their holders."""

    __slots__ = (
        "_channels",
        "_ctx",
        "_deposited",
        "_holders",
        "_keepers",
        "_kept_grants",
        "_membership",
        "_neighbors",
        "_passed",
        "_post",
        "_pushes",
        "_pushing",
        "_routing",
        "_tries",
    )

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        neighbors: Neighbors,
        routing: Routing,
        channels: Channels,
        holders: Holders,
        pushing: Pushing,
        post: Post,
        keepers: Keepers,
        kept_grants: KeptGrants,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._routing = routing
        self._channels = channels
        self._holders = holders
        self._pushing = pushing
        self._post = post
        self._keepers = keepers
        self._kept_grants = kept_grants
        self._tries: dict[PeerId, int] = {}  # of what a holder has not confirmed
        self._pushes: dict[PeerId, int] = {}
        self._passed = RateLimiter(PASSED_DAILY / 86400.0, PASSED_BURST, max_keys=1)
        self._deposited: dict[PeerId, tuple[ChannelId, ...]] = {}  # the channels that friends have been told

    def generation(self) -> int:
        """Of our present subscriptions."""
        row = self._membership.row
        return 0 if row is None else row.generation

    # -- who is to have what ------------------------------------------------------------------------------------------

    def look(self) -> None:
        """At everybody: who is to hold something, who needs more, who is a newcomer no longer."""
        self._ctx.timer("grants", b"", self._ctx.jitter(LOOK_INTERVAL))
        for peer in (*self._settled(), *self._keepers):  # these hold something though they are no neighbors
            if peer != self._ctx.own_id and self._membership.is_member(peer):
                self._holders.ensure(peer)
        self._holders.sweep(self.generation(), lambda holder: self._membership.is_member(PeerId(holder)))
        for holder in self._holders:
            if self._is_member(holder):
                if self._has_way(PeerId(holder)):
                    self._holders.promote(holder)
                self.give(PeerId(holder))

    def _settled(self) -> list[PeerId]:
        """The neighbors that are to hold something. In a large mesh links come and go: those that have lasted."""
        if self._membership.is_small:
            return list(self._neighbors.peers())
        links = (self._neighbors.current(peer) for peer in self._neighbors.peers())
        before = self._ctx.now.mono - SETTLED_TIME
        return [link.peer for link in links if link is not None and link.up_mono <= before]

    def _is_wanted_at_once(self) -> bool:
        """Whether too few neighbors hold something of ours to wait and see."""
        holding = sum(1 for peer in self._neighbors.peers() if self._holders.row(peer) is not None)
        return self._membership.is_small or holding < MIN_HOLDERS

    def look_soon(self) -> None:
        """Something has changed for everybody."""
        self._pushes.clear()
        self._ctx.timers.set_at_latest(("grants", b""), self._ctx.now.mono + self._ctx.jitter(1.0))

    def on_neighbor_up(self, peer: PeerId) -> None:
        """There is a way to it now, and it is one of those who are to have something; in a large mesh, if it stays."""
        if self._holders.row(peer) is not None or self._is_wanted_at_once():
            self._holders.ensure(peer)
        self._tries.pop(peer, None)
        self.give(peer)

    def on_routes(self) -> None:
        """The graph has changed: some whom there was no way to may have one."""
        for peer in [peer for peer in self._pushes if self._has_way(peer)]:
            del self._pushes[peer]
            self.give(peer)

    def on_channel_ready(self, holder: bytes) -> None:
        """A channel of that holder's can be granted."""
        if self._is_member(holder):
            self.give(PeerId(holder))

    def forget(self, peer: PeerId) -> None:
        """It is no member any more: take everything back."""
        self._settle(peer)
        self._holders.release(peer)

    def forget_all(self) -> None:
        """We are no member any more."""
        for peer in dict.fromkeys((*self._tries, *self._pushes, *self._deposited)):
            self._settle(peer)

    def _is_member(self, holder: bytes) -> bool:
        return len(holder) == PEER_ID_SIZE and self._membership.is_member(PeerId(holder))

    def _has_way(self, peer: PeerId) -> bool:
        return self._neighbors.current(peer) is not None or self._routing.next_hop(peer) is not None

    # -- giving -------------------------------------------------------------------------------------------------------

    def give(self, peer: PeerId) -> None:
        """Give that holder what it lacks, by whatever way there is."""
        generation = self.generation()
        if self._membership.row is None or not self._holders.is_due(peer, generation):
            self._settle(peer)
        elif self._has_way(peer):
            grant = self._holders.renewal(peer, generation)
            if grant is not None and self._post.send(peer, grant):
                self._ctx.count("grants_sent")
                tries = self._tries.get(peer, 0)
                self._tries[peer] = min(tries + 1, 16)
                self._again(peer, min(FIRST_RETRY_DELAY * 2**tries, MAX_RETRY_DELAY))
        elif peer not in self._pushes and not self._holders.is_current(peer, generation):
            self._pushes[peer] = 0
            self._again(peer, FIRST_PUSH_DELAY)

    def _give_without_way(self, peer: PeerId, generation: int) -> None:
        """By friends that keep it, and by push; both for who does not know our present subscriptions."""
        if self._membership.record(peer) is None:
            return
        channels = self._channels.ready(peer, self._holders.is_newcomer(peer))
        if self._deposited.get(peer) != channels:
            grant = self._holders.renewal(peer, generation)
            if grant is not None:
                self._deposited[peer] = channels
                self._kept_grants.deposit(peer, grant)
        pushes = self._pushes.get(peer, 0)
        if pushes < MAX_PUSHES and self._pushing.grants.can_push(peer):
            short = self._holders.grant(peer, generation)
            if short is not None and self._push(peer, short):
                self._pushes[peer] = pushes + 1
                self._ctx.count("grants_pushed")
                self._again(peer, PUSH_INTERVAL * 2**pushes)

    def _push(self, peer: PeerId, grant: Grant) -> bool:
        topic = b"grant" + self._ctx.own_id[:12]
        return self._post.push(peer, grant, name=b"grant" + peer, topic=topic, lifetime=MAX_LIFETIME)

    def _again(self, peer: PeerId, delay: float) -> None:
        self._ctx.timer("granting", peer, self._ctx.jitter(delay))

    def on_timer(self, about: bytes) -> None:
        """It has not confirmed, or there is still no way to it."""
        peer, generation = PeerId(about), self.generation()
        if peer not in self._pushes or self._has_way(peer):
            self._pushes.pop(peer, None)
            self.give(peer)
        elif self._holders.is_due(peer, generation) and not self._holders.is_current(peer, generation):
            self._give_without_way(peer, generation)

    def on_taken(self, peer: PeerId, message: GrantTaken) -> None:
        """A holder confirms. One of a later generation than ours has known us before a backup of ours was made."""
        own = self.generation()
        if own < message.generation <= own + MAX_GENERATION_GAP and self._holders.row(peer) is not None:
            if self._passed.take("generation", self._ctx.now.mono):
                self._ctx.count("generation_passed_too_often")
                return
            self._ctx.count("generation_behind")
            self._membership.new_generation(message.generation)
            self.look_soon()
        elif self._holders.on_taken(peer, message.generation, message.until):
            self._settle(peer)
        else:
            self._ctx.count("grants_not_taken")

    def _settle(self, peer: PeerId) -> None:
        """Nothing is owed to it."""
        self._ctx.cancel_timer("granting", peer)
        for owed in (self._tries, self._pushes, self._deposited):
            owed.pop(peer, None)
