"""How often a member may renew its record: every one costs everybody a write and a message."""

from __future__ import annotations

from meshd.core.context import Context
from meshd.errors import Rejected
from meshd.ids import PeerId

# Policy
RECORD_RATE = 2.0  # records a second of one member, with a burst: a newcomer's links come up one after another
RECORD_BURST = 64.0


class RecordRate:
    """An allowance for each member."""

    __slots__ = ("_allowances", "_ctx")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._allowances: dict[PeerId, tuple[float, float]] = {}  # of members only, so as many as they

    def charge(self, peer: PeerId) -> None:
        """What is refused comes with the next comparison. Raises Rejected."""
        allowance, since = self._allowances.get(peer, (RECORD_BURST, self._ctx.now.mono))
        allowance = min(RECORD_BURST, allowance + (self._ctx.now.mono - since) * RECORD_RATE)
        if allowance < 1:
            raise Rejected("record_flood")
        self._allowances[peer] = (allowance - 1, self._ctx.now.mono)
