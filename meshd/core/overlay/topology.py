"""Which links to want: all of them while the mesh is small; above that, see ``sparse``.

Of a pair, the smaller id dials at once and the other a little later, so that both need not. What failed is tried
again with growing pauses. A member that nobody has a path to is called by push, rarely, and by a few (``calling``).
"""

from __future__ import annotations

from dataclasses import dataclass

from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.overlay.routing import Routing
from meshd.core.overlay.sparse import Sparse
from meshd.core.pushing.calling import Calling
from meshd.core.signaling.session import Purpose
from meshd.core.signaling.signaling import Signaling
from meshd.ids import PeerId
from meshd.wire.record import KEEPS, Record

# Policy
POLITE_DELAY = 2.0  # seconds the larger id leaves to the smaller
FIRST_RETRY_DELAY = 1.0  # seconds; doubles with each failure, give or take a quarter
MAX_RETRY_DELAY = 300.0
FIRST_PUSH_DELAY = 5.0  # seconds from losing a member altogether to calling it by push: it may be on its way back
STOPPED_DELAY = 60.0  # seconds until somebody that has said that it stops is looked for at all
CALL_ANEW_INTERVAL = 900.0  # seconds between two times that everybody is called since there is a network again
ENOUGH_LOOK_DELAY = 2.0  # seconds from news of a member in a large mesh to a look at whether we want more links
MAX_PUSHED_AT_ONCE = 3  # members; the first that answers brings the others


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a link was lost or did not come to be, and when (Unix seconds)."""

    reason: str
    when: float
    why: str = ""  # a sentence for people


class Topology:
    """Keeps this node linked."""

    __slots__ = (
        "_called_anew",
        "_calling",
        "_ctx",
        "_failures",
        "_membership",
        "_neighbors",
        "_out_of_reach",
        "_pushes",
        "_routing",
        "_signaling",
        "_sparse",
        "_troubles",
        "_was_small",
    )

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        neighbors: Neighbors,
        routing: Routing,
        signaling: Signaling,
        calling: Calling,
        sparse: Sparse,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._routing = routing
        self._signaling = signaling
        self._calling = calling
        self._sparse = sparse
        self._was_small = True
        self._called_anew = -CALL_ANEW_INTERVAL
        self._failures: dict[PeerId, int] = {}
        self._pushes: dict[PeerId, int] = {}
        self._troubles: dict[PeerId, Trouble] = {}  # the last one with each member
        self._out_of_reach: dict[PeerId, None] = {}  # to be tried as soon as there is a way

    def last_trouble(self, peer: PeerId) -> Trouble | None:
        """Why the last link was lost, or the last attempt at one failed. It stays until there is a new one."""
        return self._troubles.get(peer)

    def begin(self) -> None:
        """After a start: call a few members; what is missing then is found through them."""
        self._calling.look()
        self._was_small = self._membership.is_small
        for record in sorted(self._membership, key=lambda record: not record.features & KEEPS):
            self.want(record, delay=0.0)
        if not self._was_small:
            self._sparse.look_soon()

    def look(self) -> None:
        """In a large mesh, now and then: at our links, and at those who have got out of reach."""
        if self._membership.row is None or self._is_small():
            return
        self._sparse.look()
        for peer in self._calling.look_slowly():
            record = self._membership.record(peer)
            if record is not None and not self._ctx.timers.is_set(("dial", peer)):
                self.want(record, delay=self._ctx.jitter(FIRST_PUSH_DELAY))

    def _is_small(self) -> bool:
        """Whether there is to be a link with everybody. Where that has become so, they are wanted now."""
        small = self._membership.is_small
        if small and not self._was_small:
            self._was_small = True
            for record in self._membership:
                self.want(record)
        self._was_small = small
        return small

    def clear(self) -> None:
        """No mesh any more."""
        self._failures.clear()
        self._pushes.clear()
        self._troubles.clear()
        self._out_of_reach.clear()
        self._calling.clear()
        self._sparse.clear()

    def forget(self, peer: PeerId) -> None:
        """It has left."""
        for known in (self._failures, self._pushes, self._troubles, self._out_of_reach):
            known.pop(peer, None)
        self._calling.forget(peer)

    def can_be_called(self, peer: PeerId) -> None:
        """What lets us push to it has come just now, by others: perhaps nobody else can."""
        record = self._membership.record(peer)
        if record is not None and self._routing.next_hop(peer) is None:
            self.want(record, delay=self._ctx.jitter(FIRST_PUSH_DELAY))

    def on_network(self) -> None:
        """A push service is there again, or this machine's addresses have changed: call anew.

        For whoever has lost most of the others: it may have called them in vain until now.
        """
        now = self._ctx.now.mono
        if not self._calling.is_mostly_alone or now - self._called_anew < CALL_ANEW_INTERVAL:
            return
        self._called_anew = now
        self._pushes.clear()
        self._calling.look()
        self._calling.begin_anew()
        for record in self._membership:
            if not self._routing.in_reach(record.peer):
                self.want(record, delay=self._ctx.jitter(FIRST_PUSH_DELAY))

    def want(self, record: Record, delay: float | None = None) -> None:
        """A member that we may want a link to has appeared, changed, or come loose."""
        peer = record.peer
        if peer == self._ctx.own_id or record.departed or self._neighbors.current(peer) is not None:
            return
        if not self._is_small():
            if self._routing.in_reach(peer):
                self._sparse.look_soon(ENOUGH_LOOK_DELAY)
                return
            if not self._calling.can_call(peer):
                return
        if delay is None:
            delay = 0.0 if self._ctx.own_id < peer else POLITE_DELAY
        self._ctx.timers.set_at_latest(("dial", peer), self._ctx.now.mono + delay)

    def on_timer(self, key: bytes) -> None:
        """Time to dial that member, if it still is to be."""
        peer = PeerId(key)
        record = self._membership.record(peer)
        if record is None or self._neighbors.current(peer) is not None or self._ctx.aside:
            return
        in_reach = self._routing.next_hop(peer) is not None
        if in_reach and not self._is_small():
            self._sparse.look_soon(ENOUGH_LOOK_DELAY)
            return
        if self._signaling.with_peer(peer) is not None:
            return  # its end will call ``on_failed`` or ``on_up``
        self._out_of_reach.pop(peer, None)
        if not in_reach:
            self._calling.lost(peer)
        if in_reach or (self._may_push() and self._calling.is_ours(peer)):
            if not self._signaling.dial(peer):
                self._ctx.timer("dial", peer, FIRST_RETRY_DELAY)
        else:
            self._out_of_reach[peer] = None
            self._ctx.timer("dial", peer, self._ctx.jitter(self._calling.next_look(peer)))

    def _may_push(self) -> bool:
        """A few calls at once: the first that answers brings the others."""
        calling = [
            session
            for session in self._signaling.sessions()
            if session.purpose is Purpose.MEMBER and self._routing.next_hop(session.peer) is None
        ]
        return len(calling) < MAX_PUSHED_AT_ONCE

    def on_up(self, peer: PeerId) -> None:
        """There is a link: past failures do not count."""
        self._failures.pop(peer, None)
        self._pushes.pop(peer, None)
        self._out_of_reach.pop(peer, None)
        self._calling.is_back(peer)
        self._ctx.cancel_timer("dial", peer)
        if not self._is_small():
            self._sparse.on_up(peer)

    def on_down(self, peer: PeerId, reason: str) -> None:
        """A link is lost. Whoever said goodbye is given time to come back by itself."""
        record = self._membership.record(peer)
        if record is None:
            return
        self._troubles[peer] = Trouble(reason, self._ctx.now.unix)
        if reason in ("stopping", "leaving"):
            self._calling.rests(peer)
        if not self._is_small():
            self._sparse.on_down(peer, reason)
            self.want(record, delay=self._ctx.jitter(FIRST_PUSH_DELAY))
            return
        self._calling.look()
        if reason in ("stopping", "leaving"):
            self.want(record, delay=self._ctx.jitter(STOPPED_DELAY))
        elif self._routing.next_hop(peer) is None:
            self.want(record, delay=self._ctx.jitter(FIRST_PUSH_DELAY))
        else:
            self.want(record)

    def on_failed(self, peer: PeerId, reason: str, pushes: int, why: str = "") -> None:
        """An attempt has failed: again, later. What took pushes is tried rarely, whatever the graph says.

        But for once: since those pushes others may have come to know a way.
        """
        record = self._membership.record(peer)
        if record is None or self._neighbors.current(peer) is not None:
            return
        self._troubles[peer] = Trouble(reason, self._ctx.now.unix, why)
        if not self._is_small():
            self._sparse.on_failed(peer)
            if self._routing.in_reach(peer):
                return
        failures = self._failures.get(peer, 0)
        if self._routing.next_hop(peer) is not None and (pushes == 0 or failures == 0):
            self._failures[peer] = min(failures + 1, 16)
            delay = min(FIRST_RETRY_DELAY * 2**failures, MAX_RETRY_DELAY)
        elif pushes == 0:  # a join whose link failed, or over others that are gone: it has not been called yet
            delay = FIRST_PUSH_DELAY
        else:
            calls = self._pushes[peer] = min(self._pushes.get(peer, 0) + 1, 16)
            delay = self._calling.interval(peer, calls)
        self.want(record, delay=self._ctx.jitter(delay))

    def on_routes(self) -> None:
        """The graph has changed: those that there was no way to may be tried at once."""
        if self._is_small():
            self._calling.look()
        for peer in [peer for peer in self._out_of_reach if self._routing.next_hop(peer) is not None]:
            del self._out_of_reach[peer]
            self._ctx.timer("dial", peer, 0.0 if self._ctx.own_id < peer else POLITE_DELAY)
