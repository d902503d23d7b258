"""The graph that the members' link states draw, and searches in it.

An edge counts when both ends list it, so that nobody can claim a neighbor that does not agree. Our own links count at
once, without waiting for link states. Paths go only through members that relay. Members are their id prefixes here.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.core.overlay.link_states import LinkStates
from meshd.core.overlay.neighbors import Neighbors
from meshd.ids import PREFIX_SIZE
from meshd.wire.record import RELAYS


class Graph:
    """Searches breadth first; each ends at the latest when all members have been looked at."""

    __slots__ = ("_ctx", "_link_states", "_membership", "_neighbors")

    def __init__(self, ctx: Context, membership: Membership, neighbors: Neighbors, link_states: LinkStates) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._link_states = link_states

    @property
    def own(self) -> bytes:
        """Where all searches begin."""
        return self._ctx.own_id[:PREFIX_SIZE]

    def _links(self, without: bytes | None) -> list[bytes]:
        """Our neighbors, but for ``without``."""
        return [p for peer in self._neighbors.peers() if (p := peer[:PREFIX_SIZE]) != without]

    def edges(self, at: bytes, but: Container[bytes] = ()) -> Iterator[bytes]:
        """The members that agree with ``at`` that they are neighbors, us and those in ``but`` left out.

        None of somebody whose record has run out.
        """
        state = self._link_states.of(at)
        if state is None:
            return
        own = self.own
        for prefix in state.neighbors:
            if prefix == own or prefix in but:
                continue
            there = self._link_states.of(prefix)
            if there is not None and at in there.neighbors and self._serves(prefix):
                yield prefix

    def is_linked(self, prefix: bytes) -> bool:
        """Whether that member is anybody's neighbor, other than ours."""
        return next(self.edges(prefix), None) is not None

    def _serves(self, at: bytes, flags: int = 0) -> bool:
        """Whether that member is one still, by a record that has not run out and has these flags."""
        record = self._membership.by_prefix(at)
        if record is None or record.departed or record.expires <= self._ctx.now.unix:
            return False
        return record.flags & flags == flags

    def _relays(self, at: bytes) -> bool:
        return self._serves(at, RELAYS)

    def search(self, without: bytes | None = None) -> tuple[dict[bytes, int], dict[bytes, bytes]]:
        """From us to everybody: distances in their order, and whom each was reached from.

        Our link to ``without`` does not count.
        """
        own = self.own
        level = self._links(without)
        distance = dict.fromkeys(level, 1)
        previous = dict.fromkeys(level, own)
        hops = 1
        while level:
            hops += 1
            following: list[bytes] = []
            for at in level:
                if not self._relays(at):
                    continue
                for other in self.edges(at, distance):
                    distance[other], previous[other] = hops, at
                    following.append(other)
            level = following
        return distance, previous

    def path(self, target: bytes, without: bytes | None = None) -> list[bytes] | None:
        """A shortest way to that member: all on it, the member itself last; None if there is none.

        It is looked for from both ends, so that two small circles do for a large one. ``without`` as in ``search``.
        """
        links = self._links(without)
        if target in links:
            return [target]
        if not self._serves(target):
            return None
        ours, theirs = dict.fromkeys(links, self.own), {target: target}
        near, far = links, [target]
        while near and far:
            if len(near) <= len(far):
                near, met = self._widen(near, ours, theirs)
            else:
                far, met = self._widen(far, theirs, ours, first=target)
            if met:
                return min((self._joined(at, ours, theirs, target) for at in met), key=len)
        return None

    def _widen(
        self, level: list[bytes], side: dict[bytes, bytes], other_side: dict[bytes, bytes], first: bytes | None = None
    ) -> tuple[list[bytes], list[bytes]]:
        """One step further on one side: the new level, and where it has met the other side."""
        following: list[bytes] = []
        met: list[bytes] = []
        for at in level:
            if at != first and not self._relays(at):
                continue
            for other in self.edges(at, side):
                side[other] = at
                following.append(other)
                # What the other side has come to is passed through, unless it is the end: so it must relay.
                if other in other_side and (other_side[other] == other or self._relays(other)):
                    met.append(other)
        return following, met

    def _joined(self, at: bytes, ours: dict[bytes, bytes], theirs: dict[bytes, bytes], target: bytes) -> list[bytes]:
        before, step = [at], ours[at]
        while step != self.own:
            before.append(step)
            step = ours[step]
        before.reverse()
        while at != target:
            at = theirs[at]
            before.append(at)
        return before
