"""Mobility: a link goes on over whichever path works, with no word through anybody else.

ICE is done with once a pair has been nominated (RFC 8445 section 8); when a router forgets a mapping or an address is
replaced, upstream (aioice 0.13) follows at one end only. Here checks go on being sent when a path is in doubt:

* A *round* asks every known remote address from every local address there is now, again and again, until one answers.
* The peer's authentic check by another pair than the one in use says only that somebody has a message of the peer's,
  which may be an old one, sent again from elsewhere: no check bears a time. So it is answered, with no more bytes than
  it had, and makes us ask that address too (RFC 8445 section 7.3.1.4). Nothing moves.
* A pair is *valid* once the very address asked has answered with the peer's password a transaction id that was drawn
  for this question. Nobody can keep such an answer for later, or make one.
* Of the valid pairs the one in use stays. Another takes its place if the one in use has not answered in the same round,
  in twice the time that the other took; if the controlling side has nominated the other (RFC 8445 section 8.1.1); or if
  the one in use leads over a relay and the other does not. A relay is taken if nothing else answers for a while.

Who not only sends old checks again but also passes our questions on to the peer and its answers back can so become a
router on the way, like anybody else on it (RFC 9000 section 9.3.3 is about the same): while the true path answers only
with an old nomination, and when it stops passing packets on, the next round leaves it. All packets are of DTLS.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from meshd.links.checks import RELAY_DELAY
from meshd.links.consent import (
    RESPONSE,
    XOR_MAPPED_ADDRESS,
    CheckKey,
    attributes_of,
    is_authentic,
    unmasked_address,
)
from meshd.links.demux import STUN_HEADER_SIZE, Address, Awaiting

# Policy
TIMER_SLACK = 0.002  # the loop's timers count milliseconds, and may come one early
SCHEDULE = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0)  # seconds into a round at which everything is asked
SLOW_INTERVAL = 5.0  # seconds between two questions after that
MIN_PROBE_INTERVAL = 0.5  # seconds; who wants it sooner gets it then
MAX_CHECKED = 32  # pairs that one round asks
MAX_BURST, CHECK_RATE = 96, 64  # checks of one link at once, and each second: 10 KB
MAX_AWAITED = 256  # checks that may still be answered; paths of 4 s at that rate
MAX_HEARD = 16  # addresses that the peer, or somebody with old checks of the peer, was heard from in one round
MAX_SEEN = 64  # remote addresses of which a path remembers what it looks like there
MIN_GRACE, MAX_GRACE = 0.05, 0.5  # seconds the pair in use gets to answer when another has
UNANSWERED_TIME = 0.7  # seconds into a full round, three times asked: from then on it is said that nobody answers


class Path(Protocol):
    """One of our addresses, or a relay."""

    @property
    def is_relay(self) -> bool:
        """Whether a TURN server carries what goes by it."""

    @property
    def seen_by(self) -> dict[Address, Address]:
        """What we look like to each remote address that has answered."""

    def reaches(self, remote: Address) -> bool:
        """Whether packets from there may get to that address at all."""

    def send(self, datagram: bytes, remote: Address) -> bool:
        """False: there is no way there."""


P = TypeVar("P", bound=Path)


class Moving(Protocol[P]):
    """The ICE connection of a link, as seen from here."""

    @property
    def in_use(self) -> tuple[P, Address]:
        """Where data goes."""

    @property
    def is_controlling(self) -> bool:
        """Whether we nominate."""

    def paths(self) -> list[P]:
        """All that there are now; what is not among them is gone."""

    def remotes(self) -> Iterable[Address]:
        """Where the peer may be, the likeliest first."""

    def move(self, pair: tuple[P, Address]) -> None:
        """Send data there from now on."""

    def answered(self) -> None:
        """The pair in use works."""

    def on_unanswered(self, elapsed: float) -> None:
        """No pair has answered for that long (seconds)."""


@dataclass(slots=True)
class _Round(Generic[P]):
    began: float
    pairs: dict[tuple[P, Address], None]
    is_full: bool  # all pairs there are: goes on until something answers
    asked: int = 0  # times
    is_wanted: bool = False  # somebody would like it to be sooner
    valid: dict[tuple[P, Address], None] = field(default_factory=dict)  # in the order of their answers
    nominated: tuple[P, Address] | None = None  # by the peer, who may
    direct_at: float | None = None  # when a direct pair that is not in use may be taken


class Mobility(Awaiting, Generic[P]):
    """One link's, from when its first pair is nominated. Called on asyncio's loop; nothing waits.

    ``awaiting`` maps transaction ids to whom their responses are for; this one lists its own there.
    """

    def __init__(
        self, owner: Moving[P], key: CheckKey, awaiting: dict[bytes, Awaiting], counters: Counter[str]
    ) -> None:
        self._owner = owner
        self._key = key
        self._awaiting = awaiting
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._asked: OrderedDict[bytes, tuple[tuple[P, Address], float]] = OrderedDict()
        self._round: _Round[P] | None = None
        self._asked_at = -MIN_PROBE_INTERVAL
        self._allowance, self._allowed_at = float(MAX_BURST), self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._stopped = False

    @property
    def is_searching(self) -> bool:
        """Whether it is in doubt which path works, or whether any does."""
        return self._round is not None

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True
        self._finish()

    def probe(self) -> None:
        """The path in use is in doubt, or there may be a better one: ask all, now or half a second after the last."""
        if self._stopped:
            return
        now = self._loop.time()
        current = self._round
        if current is None or not current.is_full:
            self._counters["path_probed"] += 1
            nominated = None if current is None else current.nominated
            self._round = current = _Round(now, self._all_pairs(), True, nominated=nominated)
        current.is_wanted = True
        self._arm(self._due(current))

    def hear(self, pair: tuple[P, Address], *, nominates: bool) -> None:
        """An authentic check of the peer has come by that pair."""
        current = self._round
        if self._stopped or (pair == self._owner.in_use and current is None):
            return
        now = self._loop.time()
        if current is None:
            current = self._round = _Round(now, {self._owner.in_use: None}, False)
            current.asked, self._asked_at = 1, now
            self._ask(self._owner.in_use, now)
            self._arm(self._due(current))
        if pair not in current.pairs:
            if len(current.pairs) >= MAX_CHECKED + MAX_HEARD:
                self._counters["candidate_overflow"] += 1
                return
            current.pairs[pair] = None
        if nominates and not self._owner.is_controlling:
            current.nominated = pair
        if pair in current.valid:
            self._decide(now)
        else:
            self._ask(pair, now)

    # -- asking -------------------------------------------------------------------------------------------------------

    def _all_pairs(self) -> dict[tuple[P, Address], None]:
        """The one in use first, those of the likeliest remote addresses next."""
        pairs: dict[tuple[P, Address], None] = {}
        paths = self._owner.paths()
        in_use = self._owner.in_use
        if in_use[0] in paths:
            pairs[in_use] = None
        for remote in self._owner.remotes():
            for path in paths:
                if len(pairs) >= MAX_CHECKED:
                    return pairs
                if path.reaches(remote):
                    pairs[path, remote] = None
        return pairs

    def _ask(self, pair: tuple[P, Address], now: float) -> None:
        self._allowance = min(self._allowance + (now - self._allowed_at) * CHECK_RATE, MAX_BURST)
        self._allowed_at = now
        if self._allowance < 1:
            self._counters["check_limit"] += 1
            return
        self._allowance -= 1
        transaction = secrets.token_bytes(12)
        if len(self._asked) >= MAX_AWAITED:
            self._awaiting.pop(self._asked.popitem(last=False)[0], None)
        self._asked[transaction] = (pair, now)
        self._awaiting[transaction] = self
        path, remote = pair
        path.send(self._key.request(transaction), remote)

    def _on_timer(self) -> None:
        self._timer = None
        current = self._round
        if current is None:
            return
        now = self._loop.time()
        self._decide(now)
        if self._round is not current:
            return
        due = self._due(current)
        if now >= due - TIMER_SLACK:
            if current.is_full:
                fresh = self._all_pairs()  # addresses come and go while we look
                current.pairs = {**fresh, **{p: None for p in current.pairs if p not in fresh and self._is_there(p)}}
            elif current.asked >= len(SCHEDULE):
                self._finish()  # nobody answers: somebody had an old check of the peer's
                return
            current.asked += 1
            current.is_wanted = False
            self._asked_at = now
            for pair in current.pairs:
                if pair not in current.valid:
                    self._ask(pair, now)
        self._arm(self._due(current))
        if current.is_full and not current.valid:
            elapsed = now - current.began
            if elapsed < UNANSWERED_TIME - TIMER_SLACK:
                self._arm(current.began + UNANSWERED_TIME)
            else:
                self._owner.on_unanswered(elapsed)

    def _due(self, current: _Round[P]) -> float:
        """When everything is asked again."""
        due = self._asked_at + SLOW_INTERVAL
        if current.asked < len(SCHEDULE):
            due = max(current.began + SCHEDULE[current.asked], self._asked_at + SCHEDULE[1])
        return min(due, self._asked_at + MIN_PROBE_INTERVAL) if current.is_wanted else due

    def _is_there(self, pair: tuple[P, Address]) -> bool:
        return pair[0] in self._owner.paths()

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._on_timer)

    # -- answers ------------------------------------------------------------------------------------------------------

    def take_response(self, response: bytes, source: Address) -> None:
        """A response to one of our questions; none if it is not authentic, or not from where it was asked."""
        transaction = response[8:STUN_HEADER_SIZE]
        asked = self._asked.get(transaction)
        attributes = attributes_of(response)
        if asked is None or int.from_bytes(response[:2], "big") != RESPONSE:
            return
        pair, asked_at = asked
        if pair[1] != source or not is_authentic(response, attributes, self._key.password):
            self._counters["check_unauthentic"] += 1
            return
        del self._asked[transaction]
        del self._awaiting[transaction]
        mapped = unmasked_address(attributes.get(XOR_MAPPED_ADDRESS, (0, b""))[1], transaction)
        if mapped is not None:
            if len(pair[0].seen_by) >= MAX_SEEN:
                pair[0].seen_by.clear()
            pair[0].seen_by[source] = mapped
        now = self._loop.time()
        current = self._round
        if pair == self._owner.in_use:
            self._owner.answered()
        if current is not None:
            current.valid[pair] = None
            if current.direct_at is None and not pair[0].is_relay:
                current.direct_at = now + min(max(now - asked_at, MIN_GRACE), MAX_GRACE)
            self._decide(now)

    def _decide(self, now: float) -> None:
        """Stay, move, or wait for another answer."""
        current = self._round
        if current is None or not current.valid:
            return
        in_use = self._owner.in_use
        direct = next((pair for pair in current.valid if not pair[0].is_relay), None)
        chosen: tuple[P, Address] | None = None
        at: float | None = None
        if current.nominated in current.valid:
            chosen = current.nominated
        elif in_use in current.valid and (direct is None or not in_use[0].is_relay):
            if current.is_full and in_use[0].is_relay and now < current.began + RELAY_DELAY:
                at = current.began + RELAY_DELAY
            else:
                chosen = in_use
        elif direct is not None:
            at = current.direct_at
            if at is None or now >= at - TIMER_SLACK or in_use[0].is_relay or not self._is_there(in_use):
                chosen = direct
        else:
            at = current.began + RELAY_DELAY
            if now >= at - TIMER_SLACK or all(path.is_relay for path, _ in current.pairs):
                chosen = next(iter(current.valid))
        if chosen is None:
            if at is not None:
                self._arm(at)
        elif chosen != in_use:
            self._finish()
            self._owner.move(chosen)
        elif current.nominated is None or current.nominated == in_use or current.asked > 2:
            self._finish()

    def _finish(self) -> None:
        self._round = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for transaction in self._asked:
            self._awaiting.pop(transaction, None)
        self._asked.clear()
