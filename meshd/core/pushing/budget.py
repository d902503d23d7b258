"""How often one peer may be pushed to: no push service is to take us for a sender of spam, no phone to wake all day.

Two limits: a span between two pushes, and so many in a day. What the first forbids waits; what the second forbids
waits too if there will be room before its time is over, and fails otherwise. An answer to a push of the peer's is not
charged to the day, and does not wait for the span since we have pushed of our own accord: calling somebody in vain must
not keep us from answering when it comes back, nor two that call each other at one moment from meeting at once.
"""

from __future__ import annotations

from typing import TypeVar

from meshd.core.context import Context
from meshd.rates import RateLimiter

_Value = TypeVar("_Value", int, float)

# Policy
MIN_PUSH_INTERVAL = 5.0  # seconds between two pushes to one peer; one that no service took does not count
MAX_DAILY_PUSHES = 36  # to one peer, tries included; a member that is off all day is called some 15 times
MAX_BURST = 14  # on top of that: what was not used before. So at most 50 in any day
MAX_ANSWERS = 3  # owed to one peer: it may have pushed several times, and its offer may need a repeated answer
MAX_ACCOUNTS = 4096  # peers, tokens and strangers whose pushes are counted


class PushBudget:
    """One account for each peer (or token) that we push to."""

    __slots__ = ("_answered", "_answers", "_ctx", "_daily", "_last")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._daily = RateLimiter(MAX_DAILY_PUSHES / 86400.0, MAX_BURST, MAX_ACCOUNTS)
        self._last: dict[bytes, float] = {}
        self._answered: dict[bytes, float] = {}
        self._answers: dict[bytes, int] = {}

    def heard(self, account: bytes) -> None:
        """It has pushed to us: one push more may go there, to answer."""
        _enter(self._answers, account, min(self._answers.get(account, 0) + 1, MAX_ANSWERS))

    def spaced_at(self, account: bytes) -> float:
        """From when on (monotonic seconds) the span since the last push is long enough."""
        last = self._answered if account in self._answers else self._last
        return last.get(account, -MIN_PUSH_INTERVAL) + MIN_PUSH_INTERVAL

    def charge(self, account: bytes) -> float:
        """Take one from the account: 0.0 if it was there, else after how many seconds it will be."""
        owed = self._answers.pop(account, 0)
        if owed > 1:
            self._answers[account] = owed - 1
        wait = 0.0 if owed else self._daily.take(account, self._ctx.now.mono)
        if wait == 0.0:
            _enter(self._last, account, self._ctx.now.mono)
        if owed:
            _enter(self._answered, account, self._ctx.now.mono)
        return wait

    def not_taken(self, account: bytes) -> None:
        """No service has taken that push: the peer has not been bothered, and the next try need not wait."""
        self._last.pop(account, None)
        self._answered.pop(account, None)


def _enter(table: dict[bytes, _Value], account: bytes, value: _Value) -> None:
    """At the end of the table; the account that was entered longest ago is forgotten when there are too many."""
    table.pop(account, None)
    table[account] = value
    if len(table) > MAX_ACCOUNTS:
        del table[next(iter(table))]
