"""Leaving messages of ours with keepers, where there is no way to their recipient.

A few keep each, so that it is delivered as long as one of them is honest and there when the recipient is; and we go on
trying as long as we are awake ourselves. Whoever has nobody that is always up leaves it with whoever is up now.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from meshd.core.commands import Priority
from meshd.core.context import Context
from meshd.core.delivery.outbox import Outbox, Waiting
from meshd.core.delivery.post import Post
from meshd.core.facts import DepositSettled
from meshd.core.membership.membership import Membership
from meshd.core.overlay.routing import Routing
from meshd.core.pushing.keepers import Keepers, share
from meshd.errors import Rejected
from meshd.ids import PEER_ID_SIZE, MessageId, PeerId
from meshd.wire.kept_message import MAX_KEPT_LIFETIME, seal_kept
from meshd.wire.messages import ApplicationMessage, DepositKept, DepositRefused, DepositWithdrawn, MessageDeposit
from meshd.wire.record import DEPOSITS

# Policy
COPIES = 3  # keepers of each message: one that lies or is lost, and one that is away, do no harm
MAX_PLACES = 6  # members that are asked to keep a message
DEPOSIT_DELAY = 2.0  # seconds without a way: most ways that break come back at once
BATCH_DELAY = 0.05  # seconds; answers that come together are looked at once
MAX_ASKED = 8  # messages that one keeper has not answered for
ANSWER_TIMEOUT = 20.0  # seconds
BUSY_WAIT = 60.0  # seconds until a keeper that did not answer, or was busy, is asked again
REFUSED_WAIT = 900.0  # the same for one that will not, or has no room
MAX_REFUSED = 4096  # pairs of keeper and recipient; the oldest is forgotten first
LOOK_INTERVAL = 1800.0  # seconds between looks whether there are keepers enough
RENEW_INTERVAL = 86400.0  # seconds after which it is deposited anew: keepers are lost, sealing keys change


class Deposits:
    """What we have others keep."""

    __slots__ = ("_asked", "_ctx", "_keepers", "_membership", "_outbox", "_post", "_refused", "_routing")

    def __init__(
        self, ctx: Context, membership: Membership, routing: Routing, post: Post, keepers: Keepers, outbox: Outbox
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._routing = routing
        self._post = post
        self._keepers = keepers
        self._outbox = outbox
        self._asked: dict[PeerId, dict[MessageId, tuple[PeerId, float]]] = {}  # keeper → message → for whom, since
        self._refused: dict[bytes, tuple[float, bool]] = {}  # keeper ‖ recipient → until when; for good

    # -- where to -----------------------------------------------------------------------------------------------------

    def _places(self, peer: PeerId) -> list[PeerId]:
        """Who could keep something for ``peer``, best first: its keepers, its last neighbors, then anybody in reach."""
        wanted = list(self._keepers.friends(peer))
        if len(wanted) < COPIES:
            able = (r.peer for r in self._membership if r.peer not in (peer, self._ctx.own_id))
            near = (member for member in able if self._routing.in_reach(member))
            wanted += heapq.nlargest(MAX_PLACES, near, key=lambda member: share(peer, member))
        return [place for place in dict.fromkeys(wanted) if self._knows_deposits(place)][:MAX_PLACES]

    def _knows_deposits(self, peer: PeerId) -> bool:
        record = self._membership.record(peer)
        return record is not None and bool(record.features & DEPOSITS)

    # -- asking -------------------------------------------------------------------------------------------------------

    def on_waiting(self, peer: PeerId) -> None:
        """Something for that peer does not get on."""
        self._ctx.timers.set_at_latest(("deposit", peer), self._ctx.now.mono + DEPOSIT_DELAY)

    def on_timer(self, about: bytes) -> None:
        """It has waited for long enough; or it is time to see whether enough keepers have it."""
        peer = PeerId(about)
        self._give_up_waiting()
        if self._outbox.is_stuck(peer) and self._knows_deposits(peer):
            places = self._places(peer)
            if places:
                self._ctx.timer("deposit", peer, self._ctx.jitter(self._place_all(peer, places)))

    def _place_all(self, peer: PeerId, places: list[PeerId]) -> float:
        """Ask as many as are needed for each message; after how many seconds to look again."""
        delay = LOOK_INTERVAL
        for waiting in self._outbox.waiting(peer):
            if waiting.row.expires <= self._ctx.now.unix:
                continue
            asked = [place for place in places if waiting.message in self._asked.get(place, ())]
            kept = [keeper for keeper in self._kept_by(waiting) if self._membership.is_member(keeper)]
            missing = COPIES - len(asked) - len(kept)
            free = [
                place for place in places if place not in asked and place not in kept and self._may_ask(place, peer)
            ]
            if missing > 0 and free:
                asked += self._deposit(peer, waiting, free[:missing])
            if asked:
                delay = min(delay, ANSWER_TIMEOUT)
            elif not kept:
                delay = min(delay, BUSY_WAIT)
        return delay

    def _kept_by(self, waiting: Waiting) -> Iterable[PeerId]:
        """Who has it, unless that was so long ago that it is to be seen to anew."""
        if waiting.row.deposited + RENEW_INTERVAL <= self._ctx.now.unix:
            return ()
        return (PeerId(keeper) for keeper in waiting.row.kept_by)

    def _may_ask(self, place: PeerId, peer: PeerId) -> bool:
        until = self._refused.get(place + peer)
        return len(self._asked.get(place, ())) < MAX_ASKED and (until is None or until[0] <= self._ctx.now.mono)

    def _deposit(self, peer: PeerId, waiting: Waiting, places: list[PeerId]) -> list[PeerId]:
        """Seal it, and ask them; gives those that were asked."""
        key, row, issued = self._membership.sealing_key(peer), waiting.row, int(self._ctx.now.unix)
        if key is None:
            return []
        expires = int(min(row.expires, issued + MAX_KEPT_LIFETIME))
        inside = ApplicationMessage(waiting.message, row.application, row.sent_at, row.expires, row.body)
        try:
            sealed = seal_kept(self._ctx.suite, self._membership.mesh, peer, key, inside, issued, expires)
        except Rejected:
            self._ctx.count("envelopes_unsealable")
            return []
        message = MessageDeposit(peer, waiting.message, issued, expires, sealed)
        asked = [place for place in places if self._post.send(place, message, Priority.MESSAGE, waiting.ticket)]
        for place in asked:
            self._asked.setdefault(place, {})[waiting.message] = (peer, self._ctx.now.mono)
            self._ctx.count("deposits_asked_for")
        return asked

    # -- answers ------------------------------------------------------------------------------------------------------

    def on_kept(self, keeper: PeerId, message: DepositKept) -> None:
        """A keeper has it for good."""
        peer = PeerId(message.recipient)
        if self._answered(keeper, MessageId(message.message)):
            self._outbox.on_deposited(peer, MessageId(message.message), keeper, RENEW_INTERVAL)
            self._look_soon(peer)

    def on_refused(self, keeper: PeerId, message: DepositRefused) -> None:
        """A keeper cannot: somebody else may."""
        peer = PeerId(message.recipient)
        if self._answered(keeper, MessageId(message.message)):
            self._ctx.count("deposits_not_taken")
            self._pass_over(keeper, peer, for_good=message.reason != "busy")
            self._look_soon(peer)

    def _answered(self, keeper: PeerId, message: MessageId) -> bool:
        """Whether that keeper was asked."""
        asked = self._asked.get(keeper, {})
        known = asked.pop(message, None) is not None
        if known and not asked:
            del self._asked[keeper]
        return known

    def _pass_over(self, keeper: PeerId, peer: PeerId, *, for_good: bool) -> None:
        self._refused.pop(keeper + peer, None)
        wait = REFUSED_WAIT if for_good else BUSY_WAIT
        self._refused[keeper + peer] = (self._ctx.now.mono + wait, for_good)
        if len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]

    def _look_soon(self, peer: PeerId) -> None:
        self._ctx.timers.set_at_latest(("deposit", peer), self._ctx.now.mono + BATCH_DELAY)

    def _give_up_waiting(self) -> None:
        """For answers that have not come."""
        horizon = self._ctx.now.mono - ANSWER_TIMEOUT
        late = [
            (keeper, message, peer)
            for keeper, asked in self._asked.items()
            for message, (peer, since) in asked.items()
            if since <= horizon
        ]
        for keeper, message, peer in late:
            self._answered(keeper, message)
            self._pass_over(keeper, peer, for_good=False)
            self._ctx.count("deposits_unanswered")

    def on_neighbor_up(self, keeper: PeerId) -> None:
        """What it was asked before, or its answer, may be lost: ask again."""
        again = {peer for peer, _ in self._asked.pop(keeper, {}).values()}
        for key in [key for key, (_, for_good) in self._refused.items() if key.startswith(keeper) and not for_good]:
            del self._refused[key]
            again.add(PeerId(key[PEER_ID_SIZE:]))
        for peer in sorted(again):
            self._look_soon(peer)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def on_settled(self, fact: DepositSettled) -> None:
        """It is acknowledged: who keeps it may drop it."""
        for keeper in fact.kept_by:
            self._post.send(PeerId(keeper), DepositWithdrawn(fact.peer, (fact.message,)), ticket=fact.ticket)

    def forget(self, peer: PeerId) -> None:
        """That peer is no member any more."""
        self._asked.pop(peer, None)
        self._ctx.cancel_timer("deposit", peer)

    def forget_all(self) -> None:
        """We are no member any more."""
        self._asked.clear()
        self._refused.clear()
