"""How often a member may renew its record or its link state: every one costs everybody a message."""

from __future__ import annotations

from meshd.core.context import Context
from meshd.errors import Rejected
from meshd.ids import PeerId
from meshd.rates import RateLimiter

# Policy
RECORD_RATE = 2.0  # records a second of one member, with a burst: a newcomer's links come up one after another
RECORD_BURST = 64
MAX_ALLOWANCES = 2048  # members whose renewals are remembered; of more, the one that began first is forgotten


class RecordRate:
    """An allowance for each member."""

    __slots__ = ("_allowances", "_ctx")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._allowances = RateLimiter(RECORD_RATE, RECORD_BURST, min(MAX_ALLOWANCES, ctx.config.mesh.max_members))

    def charge(self, peer: PeerId) -> None:
        """What is refused comes with the next comparison. Raises Rejected."""
        if self._allowances.take(peer, self._ctx.now.mono) > 0:
            raise Rejected("record_flood")
