"""How often a member may renew its record: every one costs everybody a write and a message."""

from __future__ import annotations

from meshd.core.context import Context
from meshd.errors import Rejected
from meshd.ids import PeerId
from meshd.rates import RateLimiter

# Policy
RECORD_RATE = 2.0  # records a second of one member, with a burst: a newcomer's links come up one after another
RECORD_BURST = 64


class RecordRate:
    """An allowance for each member."""

    __slots__ = ("_allowances", "_ctx")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._allowances = RateLimiter(RECORD_RATE, RECORD_BURST, ctx.config.mesh.max_members)

    def charge(self, peer: PeerId) -> None:
        """What is refused comes with the next comparison. Raises Rejected."""
        if self._allowances.take(peer, self._ctx.now.mono) > 0:
            raise Rejected("record_flood")
