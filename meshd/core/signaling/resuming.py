"""A new path for a link whose own does not answer, looked for before its peer counts as silent.

To be sure of silence takes 4.5 s, since routes lead elsewhere then, and the peer is said to be gone. A new path that
was not needed costs two envelopes and nothing else: the link is the same before and after it. So it is looked for as
soon as all paths have been asked in vain, if others can carry the offer. If nobody can, a push would have to: that can
wait.
"""

from __future__ import annotations

from meshd.core.context import Context
from meshd.core.events import ProbeFailed
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.overlay.routing import Routing
from meshd.core.signaling.signaling import Signaling
from meshd.ids import PeerId

# Policy
POLITE_DELAY = 0.3  # seconds the larger id leaves to the smaller: mostly both find out at the same time


class Resuming:
    """Offers a new path to neighbors that do not answer."""

    __slots__ = ("_ctx", "_doubted", "_neighbors", "_routing", "_signaling")

    def __init__(self, ctx: Context, neighbors: Neighbors, routing: Routing, signaling: Signaling) -> None:
        self._ctx = ctx
        self._neighbors = neighbors
        self._routing = routing
        self._signaling = signaling
        self._doubted: dict[PeerId, float] = {}  # neighbors about to be offered a path, and since when

    def on_probe_failed(self, event: ProbeFailed) -> None:
        """No path of that link has answered so far. On a slow one no answer can be there yet."""
        link = self._neighbors.link(event.link)
        if link is None or self._neighbors.current(link.peer) is not link or event.elapsed < link.pulse.rto():
            return
        now = self._ctx.now.mono
        if now - link.pulse.heard >= link.pulse.rto() and link.peer not in self._doubted:
            self._doubted[link.peer] = now
            self._ctx.timer("resume", link.peer, 0.0 if self._ctx.own_id < link.peer else POLITE_DELAY)

    def on_timer(self, key: bytes) -> None:
        """The peer has had its time to offer, and nothing has been heard of it since."""
        peer = PeerId(key)
        since = self._doubted.pop(peer)
        link = self._neighbors.current(peer)
        if (
            link is not None
            and link.pulse.heard < since
            and self._routing.around(peer) is not None
            and self._signaling.dial(peer, doubted=link.id)
        ):
            self._ctx.count("links_doubted")
