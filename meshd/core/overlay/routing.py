"""Next hops: shortest paths over the graph that the members' link states draw (``graph``).

A change of the graph costs nothing: a way is looked for when somebody needs one, from both ends, and kept until the
graph changes. In a large mesh, who is out of reach is found out slowly where it cannot be seen at once: whom nobody
lists as a neighbor has gone; whether a part of the mesh has been cut off, a search of the whole tells now and then.
"""

from __future__ import annotations

from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.core.overlay.graph import Graph
from meshd.core.overlay.link_states import LinkStates
from meshd.core.overlay.neighbors import Neighbors
from meshd.ids import PREFIX_SIZE, PeerId
from meshd.wire.link_state import LinkState

# Policy
MAX_LEARNED = 256  # ways back to senders that the graph has no way to yet
MAX_HOPS = 8  # links an envelope may cross; a random graph of 10,000 with degree 11 has a diameter of 6
SEARCHED_WHOLE = 64  # members up to which one search of the whole graph is cheaper than several for single ways
MAX_SINGLE_SEARCHES = 8  # in one state of the graph; then one of the whole serves all who still ask
SURVEY_INTERVAL = 0.01  # seconds for each member between searches of the whole that only look for who is cut off
MAX_SURVEY_INTERVAL = 60.0


class Routing:
    """Ways to members, kept while the graph stays as it is."""

    __slots__ = (
        "_changes",
        "_ctx",
        "_cut_off",
        "_distance",
        "_graph",
        "_learned",
        "_link_states",
        "_membership",
        "_neighbors",
        "_next_survey",
        "_paths",
        "_previous",
        "_torn",
        "_whole",
    )

    def __init__(self, ctx: Context, membership: Membership, neighbors: Neighbors, link_states: LinkStates) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._link_states = link_states
        self._graph = Graph(ctx, membership, neighbors, link_states)
        self._learned: dict[PeerId, PeerId] = {}
        self._paths: dict[bytes, tuple[bytes, ...]] = {}  # prefix → the way there, of single searches
        self._whole = False  # whether ``_distance`` and ``_previous`` are of the graph as it is
        self._distance: dict[bytes, int] = {}
        self._previous: dict[bytes, bytes] = {}
        self._cut_off: set[bytes] = set()  # linked with each other, but not with us, when that was looked at last
        self._torn = False  # whether edges have gone since then
        self._next_survey = float("-inf")

    # -- what changes -------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """A record or a link of ours has changed."""
        self._paths.clear()
        self._whole = False
        self._torn = True

    def on_link_state(self, state: LinkState, previous: LinkState | None) -> None:
        """A member has other neighbors now."""
        self._paths.clear()
        self._whole = False
        self._torn = (
            self._torn
            or bool(self._cut_off)
            or (previous is not None and not set(previous.neighbors) <= set(state.neighbors))
        )

    def learn(self, peer: PeerId, hop: PeerId) -> None:
        """An envelope from ``peer`` came by the neighbor ``hop``: that is a way back, should the graph know none.

        A newcomer's offer overtakes the link states that show where it is linked.
        """
        self._learned.pop(peer, None)
        self._learned[peer] = hop
        if len(self._learned) > MAX_LEARNED:
            del self._learned[next(iter(self._learned))]

    def unlearn(self, peer: PeerId) -> None:
        """What was sent to ``peer`` came back: the way that it once came by itself is none any more."""
        self._learned.pop(peer, None)

    # -- ways ---------------------------------------------------------------------------------------------------------

    def next_hop(self, peer: PeerId, but: PeerId | None = None) -> PeerId | None:
        """The neighbor to hand something for ``peer`` to; None if there is no way. ``but`` is where it came from."""
        if self._neighbors.current(peer) is not None:
            return peer if peer != but else None
        way = self._way(peer[:PREFIX_SIZE])
        hop = self._peer(way[0]) if way else self._learned_hop(peer)
        return hop if hop != but else None

    def _learned_hop(self, peer: PeerId) -> PeerId | None:
        hop = self._learned.get(peer)
        return hop if hop is not None and self._neighbors.current(hop) is not None else None

    def around(self, peer: PeerId) -> PeerId | None:
        """The neighbor by which ``peer``, a neighbor itself, is reached without the link to it; None if by nobody."""
        way = self._graph.path(peer[:PREFIX_SIZE], without=peer[:PREFIX_SIZE])
        return self._peer(way[0]) if way else self._learned_hop(peer)

    def hops(self, peer: PeerId) -> int | None:
        """Links between us and ``peer``; None if there is no way."""
        if self._neighbors.current(peer) is not None:
            return 1
        return len(self._way(peer[:PREFIX_SIZE])) or None

    def path(self, peer: PeerId) -> tuple[PeerId, ...]:
        """Whom an envelope for ``peer`` passes, as far as we can see; empty for neighbors and the unreachable."""
        if self._neighbors.current(peer) is not None:
            return ()
        return tuple(p for prefix in self._way(peer[:PREFIX_SIZE])[:-1] if (p := self._peer(prefix)) is not None)

    def _peer(self, prefix: bytes) -> PeerId | None:
        record = self._membership.by_prefix(prefix)
        if record is not None:
            return record.peer
        return next((peer for peer in self._neighbors.peers() if peer[:PREFIX_SIZE] == prefix), None)

    def _way(self, target: bytes) -> tuple[bytes, ...]:
        """All on a shortest way to that member, itself last; empty if there is none."""
        known = self._paths.get(target)
        if known is not None:
            return known
        small = self._membership.size <= SEARCHED_WHOLE
        if not self._whole and not small and len(self._paths) < MAX_SINGLE_SEARCHES:
            found = self._paths[target] = tuple(self._graph.path(target) or ())
            return found
        self._search()
        if target not in self._distance:
            return ()
        way = [target]
        while (before := self._previous[way[-1]]) != self._graph.own:
            way.append(before)
        return tuple(reversed(way))

    def _search(self) -> None:
        """The whole graph, if that has not been done since it changed."""
        if not self._whole:
            self._distance, self._previous = self._graph.search()
            self._whole = True

    # -- who is there -------------------------------------------------------------------------------------------------

    def listed(self, peer: PeerId) -> list[PeerId]:
        """The members that it has named as its neighbors last."""
        state = self._link_states.of(peer[:PREFIX_SIZE])
        beside = [self._membership.by_prefix(prefix) for prefix in (() if state is None else state.neighbors)]
        return [record.peer for record in beside if record is not None and not record.departed]

    def degree(self, peer: PeerId) -> int:
        """How many neighbors it says it has."""
        state = self._link_states.of(peer[:PREFIX_SIZE])
        return 0 if state is None else len(state.neighbors)

    def in_reach(self, peer: PeerId) -> bool:
        """Whether there is a way to it, as far as can be said without looking for one."""
        if self._neighbors.current(peer) is not None or self._learned_hop(peer) is not None:
            return True
        if not len(self._neighbors):
            return False
        prefix = peer[:PREFIX_SIZE]
        if self._membership.size <= SEARCHED_WHOLE:
            self._search()
            return prefix in self._distance
        self._survey()
        return prefix not in self._cut_off and self._graph.is_linked(prefix)

    def _survey(self) -> None:
        """See now and then who is cut off."""
        now = self._ctx.now.mono
        if not self._torn or now < self._next_survey:
            return
        self._search()
        self._torn = False
        self._next_survey = now + min(MAX_SURVEY_INTERVAL, SURVEY_INTERVAL * self._membership.size)
        prefixes = (record.peer[:PREFIX_SIZE] for record in self._membership)
        self._cut_off = {p for p in prefixes if p not in self._distance and self._graph.is_linked(p)}
