"""Whose part it is to call, by push, a member that there is no way to.

Not everybody's: of those in reach who surely hold its capabilities (its keepers, and the neighbors that it had) the few
that a hash chooses, at first all of them, then one after the other, ever more rarely: a machine that is off is not
woken by asking it often, and calls by itself when it is back. When many have vanished together, a few of them are
called first: the first that answers brings the others. Both circles grow while nothing comes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.core.overlay.routing import Routing
from meshd.core.pushing.behalf import Asking
from meshd.core.pushing.grants import Grants
from meshd.core.pushing.keepers import Keepers, share
from meshd.ids import PeerId
from meshd.wire.record import KEEPS

# Policy
CALLERS = 3  # of one member; more may be behind routers that do not let its links in, or hold nothing that serves
CALLERS_STEP = 3600.0  # seconds after which one more calls; then after twice as long
CALLED_AT_FIRST = 4  # of those that have vanished together
CALLED_STEP = 60.0  # seconds after which one more of them is called
CALLED_BY_ALL = 120.0  # seconds that all of the circle call; then one of it in each span of time, by turns
FIRST_SPAN = 60.0  # seconds; each is twice as long as the one before
MAX_SPAN = 6 * 3600.0  # of somebody that is off, most likely
MANY_APART = 16  # members that have vanished together are a network that has fallen apart: then spans stay shorter
MAX_SPAN_APART = 1800.0
INSISTENT = 60.0  # seconds that a member is gone during which a call is two pushes: one may get lost
RESTING = 1800.0  # seconds until somebody that has said that it stops is called at all: a reboot is over by then
MAX_AGE = 7 * 86400.0  # seconds that a member is taken to be gone for by the age of its record
SLOW_LOOK_INTERVAL = 15.0  # seconds between looks at everybody, in a mesh that is not full
TOGETHER = 60.0  # seconds within which members vanish together: until all links to them have been found dead


class Calling:
    """Keeps in mind who is out of reach, and since when."""

    __slots__ = (
        "_alone",
        "_asking",
        "_ctx",
        "_grants",
        "_keepers",
        "_looked",
        "_membership",
        "_resting",
        "_routing",
        "_since",
    )

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
        self._alone = True  # there was a way to nobody
        self._since: dict[PeerId, float] = {}  # monotonic
        self._looked = float("-inf")
        self._resting: dict[PeerId, float] = {}  # those that have said that they stop: when (monotonic) that was

    def look(self) -> None:
        """The graph has changed: note who is out of reach, at once for all that have vanished together."""
        now = self._ctx.now.mono
        others = [record for record in self._membership if record.peer != self._ctx.own_id]
        away = [record for record in others if not self._is_in_reach(record.peer)]
        was_alone, self._alone = self._alone, len(away) == len(others)
        has_come = was_alone and not self._alone
        for record in others:
            if self._is_in_reach(record.peer):
                self._since.pop(record.peer, None)
        for record in away:
            since = self._since.setdefault(record.peer, now)
            if has_come:  # whoever is not there either may be gone for as long as nothing was heard of it
                age = self._ctx.now.unix - record.issued
                self._since[record.peer] = min(since, now - min(max(0.0, age), MAX_AGE))

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

    def begin_anew(self) -> None:
        """Whoever is out of reach has been called in vain, since no push service was there: as if it were lost now."""
        self._resting.clear()
        self._since = dict.fromkeys(self._since, self._ctx.now.mono)

    def rests(self, peer: PeerId) -> None:
        """It has said that it stops. When it is back it will call by itself."""
        self._resting[peer] = self._ctx.now.mono

    def is_back(self, peer: PeerId) -> None:
        """There is a link to it again."""
        self._resting.pop(peer, None)

    def forget(self, peer: PeerId) -> None:
        """It is no member any more."""
        self._since.pop(peer, None)
        self._resting.pop(peer, None)

    def clear(self) -> None:
        """No mesh any more."""
        self._since.clear()
        self._resting.clear()
        self._alone = True

    # -- how often ----------------------------------------------------------------------------------------------------

    def _lost(self, peer: PeerId) -> float:
        return self._ctx.now.mono - self._since.get(peer, self._ctx.now.mono)

    def interval(self, peer: PeerId, calls: int) -> float:
        """Seconds until that member may be called by us again, after so many calls in vain."""
        doubled = FIRST_SPAN * (1 << calls - 1)
        return min(max(doubled, self._lost(peer) if calls > 1 else 0.0), self._max_span(peer))

    def next_look(self, peer: PeerId) -> float:
        """Seconds until it may be our part to call that member, where it is not now: whose turn it is changes then."""
        now, lost, longest = self._ctx.now.mono, self._lost(peer), self._max_span(peer)
        if lost < longest:
            left = max(CALLED_BY_ALL, FIRST_SPAN * (1 << self._span(lost, longest))) - lost
        else:
            left = longest - lost % longest
        return max(FIRST_SPAN, left, self._resting.get(peer, now - RESTING) + RESTING - now)

    def _max_span(self, peer: PeerId) -> float:
        return MAX_SPAN_APART if sum(1 for _ in islice(self._lost_with(peer), MANY_APART)) == MANY_APART else MAX_SPAN

    def _lost_with(self, peer: PeerId) -> Iterator[PeerId]:
        """Who has vanished together with it, itself included."""
        since = self._since.get(peer, self._ctx.now.mono)
        return (other for other, when in self._since.items() if abs(when - since) <= TOGETHER)

    @staticmethod
    def _span(lost: float, longest: float) -> int:
        """Which span of time it is, so long after a member was lost."""
        if lost < longest:
            return int(lost / FIRST_SPAN).bit_length()
        return int(longest / FIRST_SPAN).bit_length() + int(lost / longest)

    def is_insistent(self, peer: PeerId) -> bool:
        """Whether a call is to be pushed twice, in case a push is lost."""
        return self._lost(peer) < INSISTENT

    @property
    def is_mostly_alone(self) -> bool:
        """Whether fewer members are in reach than are not."""
        return 2 * len(self._since) > len(self._membership)

    # -- whose part it is ---------------------------------------------------------------------------------------------

    def is_ours(self, peer: PeerId) -> bool:
        """Whether we are to call that member now, and can: it is our turn."""
        now, lost = self._ctx.now.mono, self._lost(peer)
        if self._resting.get(peer, now - RESTING) + RESTING > now:
            return False
        return self.may_call(peer) and (
            lost < CALLED_BY_ALL or self._place(peer, self._circle(lost)) == self._turn(peer, lost)
        )

    def may_call(self, peer: PeerId) -> bool:
        """Whether we are one of those that call that member, whosever turn it is, and can."""
        lost = self._lost(peer)
        if not self.can_call(peer):
            return False
        return self._is_first_called(peer, lost) and self._place(peer, circle := self._circle(lost)) < circle

    def _is_first_called(self, peer: PeerId, lost: float) -> bool:
        most = CALLED_AT_FIRST + int(lost / CALLED_STEP)
        first = self._is_seldom_there(peer), peer
        together = (other for other in self._lost_with(peer) if (self._is_seldom_there(other), other) < first)
        return sum(1 for other in together if self._grants.can_push(other)) < most  # nobody waits for the long dead

    def _is_seldom_there(self, peer: PeerId) -> bool:
        """Not a keeper: those will answer if anybody does, so they are called first."""
        record = self._membership.record(peer)
        return record is None or not record.features & KEEPS

    @staticmethod
    def _circle(lost: float) -> int:
        """How many call, if there are so many."""
        return CALLERS + int(lost / CALLERS_STEP).bit_length()

    def _turn(self, peer: PeerId, lost: float) -> int:
        """The place of the one that calls in this span."""
        in_reach = (r for r in self._membership if r.peer != peer and self._is_in_reach(r.peer))
        able = sum(1 for _ in islice(in_reach, self._circle(lost)))
        return self._span(lost, self._max_span(peer)) % max(1, able)

    def _place(self, peer: PeerId, circle: int) -> int:
        """Ours among those that could call, from 0 on: who surely holds its capabilities, then all others in reach,
        each by their hashes; ``circle`` if it is none of the first so many.
        """
        near, ours = self._near(peer), share(peer, self._ctx.own_id)
        if self._ctx.own_id in near:
            return sum(1 for other in near if share(peer, other) > ours)
        if len(near) >= circle:
            return circle
        others = (r.peer for r in self._membership if r.peer != peer and r.peer not in near)
        return len(near) + sum(1 for other in others if share(peer, other) > ours and self._is_in_reach(other))

    def _near(self, peer: PeerId) -> set[PeerId]:
        """Those in reach, us included, that hold its capabilities as far as can be known."""
        known = {*self._keepers.of(peer), *self._routing.listed(peer)}
        return {other for other in known if other != peer and self._is_in_reach(other)}

    def _is_in_reach(self, peer: PeerId) -> bool:
        return peer == self._ctx.own_id or self._routing.in_reach(peer)
