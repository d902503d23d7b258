"""Names on their way to members: given, not taken yet."""

from __future__ import annotations

from meshd.core.context import Context
from meshd.ids import PeerId

# Policy
MAX_PROMISED = 64  # names
PROMISE_TIMEOUT = 30.0  # seconds a name is kept for the member that asked for it


class Promises:
    """So that nobody else gets such a name meanwhile."""

    __slots__ = ("_ctx", "_promised")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._promised: dict[str, tuple[PeerId, float]] = {}  # for whom, until when

    def holder(self, name: str) -> PeerId | None:
        """For whom that name is kept."""
        peer, until = self._promised.get(name, (None, 0.0))
        return peer if until > self._ctx.now.mono else None

    def make(self, name: str, peer: PeerId) -> None:
        """Keep it; with too many, the oldest is forgotten."""
        self._promised.pop(name, None)
        self._promised[name] = (peer, self._ctx.now.mono + PROMISE_TIMEOUT)
        if len(self._promised) > MAX_PROMISED:
            del self._promised[next(iter(self._promised))]
