"""Next hops: shortest paths over the graph that the members' records draw.

An edge counts when both ends list it, so that nobody can claim a neighbor that does not agree. Our own links count at
once, without waiting for records. Paths go only through members that relay.
"""

from __future__ import annotations

from collections import deque

from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.ids import PREFIX_SIZE, PeerId
from meshd.wire.record import RELAYS

# Policy
MAX_LEARNED = 256  # ways back to senders that the graph has no way to yet
MAX_HOPS = 8  # links an envelope may cross; a random graph of 10,000 with degree 11 has a diameter of 6


class Routing:
    """Recomputed as a whole when something has changed and somebody asks: 1,000 members take about 3 ms."""

    __slots__ = ("_ctx", "_distance", "_learned", "_membership", "_neighbors", "_next_hop", "_previous", "_stale")

    def __init__(self, ctx: Context, membership: Membership, neighbors: Neighbors) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._next_hop: dict[PeerId, PeerId] = {}
        self._distance: dict[PeerId, int] = {}
        self._previous: dict[PeerId, PeerId] = {}  # whom each is reached from; us for our neighbors
        self._learned: dict[PeerId, PeerId] = {}
        self._stale = True

    def learn(self, peer: PeerId, hop: PeerId) -> None:
        """An envelope from ``peer`` came by the neighbor ``hop``: that is a way back, should the graph know none.

        A newcomer's offer overtakes the records that show where it is linked.
        """
        self._learned.pop(peer, None)
        self._learned[peer] = hop
        if len(self._learned) > MAX_LEARNED:
            del self._learned[next(iter(self._learned))]

    def changed(self) -> None:
        """A record or a link has changed."""
        self._stale = True

    def unlearn(self, peer: PeerId) -> None:
        """What was sent to ``peer`` came back: the way that it once came by itself is none any more."""
        self._learned.pop(peer, None)

    def next_hop(self, peer: PeerId, but: PeerId | None = None) -> PeerId | None:
        """The neighbor to hand something for ``peer`` to; None if there is no way. ``but`` is where it came from."""
        if self._neighbors.current(peer) is not None:
            return peer if peer != but else None
        self._refresh()
        hop = self._next_hop.get(peer)
        if hop is None:
            hop = self._learned.get(peer)
            if hop is not None and self._neighbors.current(hop) is None:
                hop = None
        return hop if hop != but else None

    def around(self, peer: PeerId) -> PeerId | None:
        """The neighbor by which ``peer``, a neighbor itself, is reached without the link to it; None if by nobody."""
        _, previous = self._search(without=peer)
        hop = peer
        while (before := previous.get(hop)) is not None and before != self._ctx.own_id:
            hop = before
        if hop == peer:
            learned = self._learned.get(peer)
            return learned if learned is not None and self._neighbors.current(learned) is not None else None
        return hop

    def hops(self, peer: PeerId) -> int | None:
        """Links between us and ``peer``; None if there is no way."""
        if self._neighbors.current(peer) is not None:
            return 1
        self._refresh()
        return self._distance.get(peer)

    def path(self, peer: PeerId) -> tuple[PeerId, ...]:
        """Whom an envelope for ``peer`` passes, as far as we can see; empty for neighbors and the unreachable."""
        self._refresh()
        hops: list[PeerId] = []
        at = self._previous.get(peer)
        while at is not None and at != self._ctx.own_id:
            hops.append(at)
            at = self._previous.get(at)
        return tuple(reversed(hops))

    def _refresh(self) -> None:
        if self._stale:
            self._distance, self._previous = self._search()
            self._next_hop = {}
            for peer in self._distance:  # in order of distance, so that the one before is known already
                before = self._previous[peer]
                self._next_hop[peer] = peer if before == self._ctx.own_id else self._next_hop[before]
            self._stale = False

    def _search(self, without: PeerId | None = None) -> tuple[dict[PeerId, int], dict[PeerId, PeerId]]:
        """Breadth first from us: distances in their order, and whom each was reached from.

        Our link to ``without`` does not count.
        """
        distance: dict[PeerId, int] = {}
        previous: dict[PeerId, PeerId] = {}
        queue: deque[PeerId] = deque()
        for peer in self._neighbors.peers():
            if peer != without:
                distance[peer], previous[peer] = 1, self._ctx.own_id
                queue.append(peer)
        now = self._ctx.now.unix
        while queue:
            at = queue.popleft()
            record = self._membership.record(at)
            if record is None or record.expires <= now or not record.flags & RELAYS:
                continue
            own_prefix = at[:PREFIX_SIZE]
            for prefix in record.neighbors:
                other = self._membership.by_prefix(prefix)
                if other is None or other.departed or other.peer in distance or other.peer == self._ctx.own_id:
                    continue
                if other.expires > now and own_prefix in other.neighbors:
                    distance[other.peer], previous[other.peer] = distance[at] + 1, at
                    queue.append(other.peer)
        return distance, previous
