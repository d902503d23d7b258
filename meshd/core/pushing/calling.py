"""Whose part it is to call, by push, a member that there is no way to.

Not everybody's: of those in reach who surely hold its capabilities (its keepers, and the neighbors that it had) the few
that a hash chooses. When many have vanished together, a few of them are called first: the first that answers brings the
others. Both circles grow while nothing comes of it.
"""

from __future__ import annotations

from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.core.overlay.routing import Routing
from meshd.core.pushing.behalf import Asking
from meshd.core.pushing.grants import Grants
from meshd.core.pushing.keepers import Keepers, share
from meshd.ids import PeerId

# Policy
CALLERS = 3  # of one member; more may be behind routers that do not let its links in, or hold nothing that serves
CALLERS_STEP = 3600.0  # seconds after which one more calls; then after twice as long
CALLED_AT_FIRST = 4  # of those that have vanished together
CALLED_STEP = 60.0  # seconds after which one more of them is called
SLOW_LOOK_INTERVAL = 15.0  # seconds between looks at everybody, in a mesh that is not full
TOGETHER = 60.0  # seconds within which members vanish together: until all links to them have been found dead


class Calling:
    """Keeps in mind who is out of reach, and since when."""

    __slots__ = ("_asking", "_ctx", "_grants", "_keepers", "_looked", "_membership", "_routing", "_since")

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        routing: Routing,
        grants: Grants,
        keepers: Keepers,
        asking: Asking,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._routing = routing
        self._grants = grants
        self._keepers = keepers
        self._asking = asking
        self._since: dict[PeerId, float] = {}  # monotonic
        self._looked = float("-inf")

    def look(self) -> None:
        """The graph has changed: note who is out of reach, at once for all that have vanished together."""
        now = self._ctx.now.mono
        for record in self._membership:
            if self._is_in_reach(record.peer):
                self._since.pop(record.peer, None)
            else:
                self._since.setdefault(record.peer, now)

    def look_slowly(self) -> list[PeerId]:
        """The same, in a large mesh only now and then; gives those who are out of reach and that we could call."""
        now = self._ctx.now.mono
        if now < self._looked + SLOW_LOOK_INTERVAL:
            return []
        self._looked = now
        self.look()
        return [peer for peer in self._since if self.can_call(peer)]

    def can_call(self, peer: PeerId) -> bool:
        """Whether we hold what it takes, or know somebody who might."""
        return self._grants.can_push(peer) or self._asking.can_ask(peer)

    def lost(self, peer: PeerId) -> None:
        """The way to it that we believed in was none. Only the first time counts."""
        self._since.setdefault(peer, self._ctx.now.mono)

    def forget(self, peer: PeerId) -> None:
        """It is no member any more."""
        self._since.pop(peer, None)

    def clear(self) -> None:
        """No mesh any more."""
        self._since.clear()

    def is_ours(self, peer: PeerId) -> bool:
        """Whether we are to call that member now, and can."""
        lost = self._ctx.now.mono - self._since.get(peer, self._ctx.now.mono)
        if not self.can_call(peer):
            return False
        return self._is_first_called(peer, lost) and self._is_caller(peer, lost)

    def _is_first_called(self, peer: PeerId, lost: float) -> bool:
        since = self._since.get(peer, self._ctx.now.mono)
        most = CALLED_AT_FIRST + int(lost / CALLED_STEP)
        together = (p for p, when in self._since.items() if p < peer and abs(when - since) <= TOGETHER)
        return sum(1 for other in together if self._grants.can_push(other)) < most  # nobody waits for the long dead

    def _is_caller(self, peer: PeerId, lost: float) -> bool:
        circle = CALLERS + int(lost / CALLERS_STEP).bit_length()
        near = self._near(peer)
        if self._ctx.own_id in near or not near:
            candidates, ahead = near, 0
        else:  # those who know it go first
            candidates, ahead = set(), len(near)
        if ahead >= circle:
            return False
        if not candidates:
            candidates = {r.peer for r in self._membership if r.peer not in near and self._is_in_reach(r.peer)}
        ours = share(peer, self._ctx.own_id)
        return ahead + sum(1 for other in candidates if share(peer, other) > ours) < circle

    def _near(self, peer: PeerId) -> set[PeerId]:
        """Those in reach, us included, that hold its capabilities as far as can be known."""
        known = {*self._keepers.of(peer), *self._routing.listed(peer)}
        return {other for other in known if other != peer and self._is_in_reach(other)}

    def _is_in_reach(self, peer: PeerId) -> bool:
        return peer == self._ctx.own_id or self._routing.in_reach(peer)
