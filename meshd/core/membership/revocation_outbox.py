"""Revocations that neighbors lack: sent in parts, at the pace that a link takes and that a neighbor may ask for.

All that a node can keep (2,048 of them) would overflow a link's outbox, and whoever says again and again that it has
none must not have them sent again and again as fast as it can ask.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshd.core.commands import SendMessage
from meshd.core.context import Context
from meshd.core.membership.revocations import Revocations
from meshd.core.overlay.neighbors import Neighbors
from meshd.ids import PeerId
from meshd.rates import RateLimiter
from meshd.wire.messages import encode_message
from meshd.wire.revoking import MAX_REVOCATIONS_SENT
from meshd.wire.revoking import Revocations as RevocationsSent

# Policy
# Parts (of 48 KiB at most) that one neighbor is sent at once, and per second after that: the first by what a link's
# outbox has room for beside everything else, the second by what one may ask for: everything once, and news beside it.
PACE_BURST, PACE_RATE = 8, 10.0
ASKED_BURST, ASKED_RATE = 320, 1.0


class RevocationOutbox:
    """What is still to be sent to whom. At most all revocations for each neighbor; a neighbor that goes takes its."""

    __slots__ = ("_asked", "_ctx", "_neighbors", "_owed", "_pace", "_revocations")

    def __init__(self, ctx: Context, revocations: Revocations, neighbors: Neighbors) -> None:
        self._ctx = ctx
        self._revocations = revocations
        self._neighbors = neighbors
        self._pace = RateLimiter(PACE_RATE, PACE_BURST, ctx.config.mesh.max_members)
        self._asked = RateLimiter(ASKED_RATE, ASKED_BURST, ctx.config.mesh.max_members)
        self._owed: dict[PeerId, dict[bytes, None]] = {}  # digests, in the order in which they go

    def lacks(self, peer: PeerId, digests: Iterable[bytes]) -> None:
        """A neighbor lacks these, and nothing else: it has said what it has."""
        self._owed[peer] = dict.fromkeys(digests)
        self.flush(peer)

    def tell(self, peer: PeerId, digests: list[bytes]) -> None:
        """News for a neighbor: before anything that is owed to it."""
        owed = self._owed.get(peer, {})
        self._owed[peer] = dict.fromkeys((*digests, *owed))
        self.flush(peer)

    def tell_at_once(self, peer: PeerId, encoded: list[bytes]) -> None:
        """The last words to a neighbor whose link is about to end. Only news, which is never much."""
        link = self._neighbors.current(peer)
        if link is not None:
            for i in range(0, len(encoded), MAX_REVOCATIONS_SENT):
                part = RevocationsSent(tuple(encoded[i : i + MAX_REVOCATIONS_SENT]))
                self._ctx.after(self._revocations.ticket, SendMessage(link.id, encode_message(part)))

    def has(self, peer: PeerId, digest: bytes) -> None:
        """A neighbor has brought that one itself."""
        self._owed.get(peer, {}).pop(digest, None)

    def flush(self, peer: PeerId) -> None:
        """Send what may go now; the rest when it may."""
        owed, link, now = self._owed.get(peer), self._neighbors.current(peer), self._ctx.now.mono
        if not owed or link is None:
            self._owed.pop(peer, None)
            return
        if link.congested:
            return  # ``flush`` comes again when it has drained
        while owed:
            wait = self._pace.take(peer, now) or self._asked.take(peer, now)
            if wait:
                self._ctx.timer("revocations", peer, wait)
                return
            self.tell_at_once(peer, self._take_part(owed))
        del self._owed[peer]

    def _take_part(self, owed: dict[bytes, None]) -> list[bytes]:
        """Those that go next, without those that are forgotten by now."""
        part: list[bytes] = []
        while owed and len(part) < MAX_REVOCATIONS_SENT:
            digest = next(iter(owed))
            del owed[digest]
            encoded = self._revocations.encoded(digest)
            if encoded is not None:
                part.append(encoded)
        return part

    def on_timer(self, about: bytes) -> None:
        """Time for the next part."""
        self.flush(PeerId(about))

    def forget(self, peer: PeerId) -> None:
        """It is no neighbor any more; it says what it has on its next link."""
        self._ctx.cancel_timer("revocations", peer)
        self._owed.pop(peer, None)
