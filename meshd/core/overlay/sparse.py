"""Which links to have in a mesh that is too large for all: a few, with members chosen at random.

After HyParView (Leitão, Pereira, Rodrigues 2007) and Spray (Nédelec and others 2018), but everybody knows everybody
here, so there are no views to shuffle: who wants a link draws members and offers it to the one with the fewest. Those
that have more than they need give up one at a time, where both ends can spare it and another way is left. One timer
looks after all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.core.overlay.degree import SPARE_LINKS, accepted_links, wanted_links
from meshd.core.overlay.neighbors import Link, Neighbors
from meshd.core.overlay.routing import Routing
from meshd.core.signaling.signaling import Signaling
from meshd.ids import LinkId, PeerId

# Policy
OWN_CHOICE = 2  # links that we have chosen ourselves at least: whoever crowds in cannot have all of them
DRAWN = 12  # members drawn for one link, of whom the best few are weighed
WEIGHED = 3
MAX_DIALS = 4  # at one time; a hundred that start together would otherwise all offer all at once
DIAL_PATIENCE = 5.0  # seconds until an offer that nobody answers does not count any more
RETRY_INTERVAL = 1.0  # seconds between looks while links are missing
LOOK_INTERVAL = 10.0  # seconds, when none is
SHED_INTERVAL = 5.0  # seconds between two that are given up
FAST_SHED_INTERVAL = 1.0  # the same with more than one accepts: an introducer that many came by
SETTLED_TIME = 15.0  # seconds a link is kept at least: until everybody knows of it
REFUSED_TIME = 60.0  # seconds until a member that did not want a link, or that none came up with, is asked again
MAX_REFUSED = 256

NETWORK_BITS_CHARS = 2  # groups of an address that name its network: IPv4's first two numbers, IPv6's first two groups


class Sparse:
    """Keeps the number of our neighbors near ``wanted_links``."""

    __slots__ = (
        "_chosen",
        "_ctx",
        "_dialed",
        "_everybody",
        "_membership",
        "_neighbors",
        "_refused",
        "_routing",
        "_shed",
        "_signaling",
        "in_use",
        "is_needed",
    )

    def __init__(
        self, ctx: Context, membership: Membership, neighbors: Neighbors, routing: Routing, signaling: Signaling
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._routing = routing
        self._signaling = signaling
        self._everybody: tuple[int, list[PeerId]] = (-1, [])  # after so many changes of records
        self._dialed: dict[PeerId, float] = {}  # offers of ours that are open, and since when (monotonic)
        self._chosen: dict[PeerId, None] = {}  # neighbors that we have dialed
        self._refused: dict[PeerId, float] = {}  # until when not to be asked
        self._shed = float("-inf")
        self.in_use: Callable[[LinkId], bool] = lambda link: False
        """Whether somebody would miss that very link."""
        self.is_needed: Callable[[PeerId], bool] = lambda peer: False
        """Whether news comes from or goes to that neighbor at once: another would have to be found for it."""

    @property
    def _wanted(self) -> int:
        return wanted_links(self._membership.size, self._ctx.config.mesh.max_full_mesh)

    @property
    def _accepted(self) -> int:
        return accepted_links(self._membership.size, self._ctx.config.mesh.max_full_mesh)

    def look_soon(self, delay: float = 0.0) -> None:
        """Something has changed."""
        self._ctx.timers.set_at_latest(("links", b""), self._ctx.now.mono + delay)

    def clear(self) -> None:
        """No mesh any more."""
        for held in (self._dialed, self._chosen, self._refused):
            held.clear()
        self._ctx.cancel_timer("links", b"")

    def on_up(self, peer: PeerId) -> None:
        """There is a link."""
        if self._dialed.pop(peer, None) is not None:
            self._chosen[peer] = None
        self.look_soon(RETRY_INTERVAL)

    def on_down(self, peer: PeerId, reason: str) -> None:
        """A link is lost: another takes its place at once."""
        self._chosen.pop(peer, None)
        if reason == "surplus":
            self._refuse(peer)
        self.look_soon()

    def on_failed(self, peer: PeerId) -> None:
        """An offer of ours, or an answer, has come to nothing."""
        self._dialed.pop(peer, None)
        self._refuse(peer)
        self.look_soon(self._ctx.jitter(RETRY_INTERVAL))

    def _refuse(self, peer: PeerId) -> None:
        self._refused.pop(peer, None)
        self._refused[peer] = self._ctx.now.mono + self._ctx.jitter(REFUSED_TIME)
        if len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]

    def look(self) -> None:
        """Offer links while some are missing; else give up one that is too many."""
        missing = self._missing()
        if missing > 0:
            self._dial(missing)
            self.look_soon(self._ctx.jitter(RETRY_INTERVAL))
            return
        many = len(self._neighbors) > self._accepted
        if self._ctx.now.mono - self._shed >= (FAST_SHED_INTERVAL if many else SHED_INTERVAL):
            self._shed_one(many=many)
        surplus = len(self._neighbors) > self._wanted + SPARE_LINKS
        interval = FAST_SHED_INTERVAL if many else SHED_INTERVAL if surplus else LOOK_INTERVAL
        self.look_soon(self._ctx.jitter(interval))

    # -- more ---------------------------------------------------------------------------------------------------------

    def _missing(self) -> int:
        """Links. One to a member with far too many will be given up: it is replaced before, one at a time."""
        have, accepted = len(self._neighbors), self._accepted
        if have >= accepted:
            return 0
        crowded = any(self._routing.degree(peer) > accepted for peer in self._neighbors.peers())
        return max(self._wanted + crowded - have, OWN_CHOICE - len(self._chosen))

    def _dial(self, missing: int) -> None:
        now = self._ctx.now.mono
        for peer in [p for p in self._dialed if self._signaling.with_peer(p) is None]:
            del self._dialed[peer]
        open_dials = sum(1 for since in self._dialed.values() if now - since < DIAL_PATIENCE)
        for _ in range(min(missing, MAX_DIALS) - open_dials):
            drawn = self._draw()
            if drawn is None:
                return
            if self._signaling.dial(drawn):
                self._dialed[drawn] = now

    def _draw(self) -> PeerId | None:
        """Of some members drawn at random, the one that has the fewest links and the least in common with others."""
        if self._everybody[0] != self._membership.changes:
            self._everybody = (self._membership.changes, [record.peer for record in self._membership])
        everybody, now = self._everybody[1], self._ctx.now.mono
        fitting: list[PeerId] = []
        for _ in range(DRAWN):
            peer = self._ctx.rng.choice(everybody)
            if (
                peer != self._ctx.own_id
                and peer not in fitting
                and self._refused.get(peer, now) <= now
                and self._neighbors.current(peer) is None
                and self._signaling.with_peer(peer) is None
                and self._routing.in_reach(peer)
            ):
                fitting.append(peer)
                if len(fitting) == WEIGHED:
                    break
        if not fitting:
            return None
        introducers = Counter(self._introducer(peer) for peer in self._neighbors.peers())
        half = len(self._neighbors) / 2
        return min(fitting, key=lambda peer: (introducers[self._introducer(peer)] > half, self._routing.degree(peer)))

    def _introducer(self, peer: PeerId) -> bytes:
        record = self._membership.record(peer)
        return b"" if record is None else record.chain[-1].issuer

    # -- fewer --------------------------------------------------------------------------------------------------------

    def _shed_one(self, *, many: bool) -> None:
        """The one that both ends can spare best. Make before break: never the last way to somebody."""
        if len(self._neighbors) <= self._wanted + SPARE_LINKS:
            return
        least = self._wanted if many else self._wanted + 1
        networks = Counter(_network(link) for link in map(self._neighbors.current, self._neighbors.peers()) if link)
        spare: list[tuple[bool, int, int, float, Link]] = []
        for peer in self._neighbors.peers():
            link = self._neighbors.current(peer)
            degree = self._routing.degree(peer)
            own = peer in self._chosen and len(self._chosen) <= OWN_CHOICE
            if link is None or own or degree < least or self.in_use(link.id):
                continue
            if self._ctx.now.mono - link.neighbor_since >= SETTLED_TIME:
                needless = not self.is_needed(peer)
                spare.append((needless, degree, networks[_network(link)], self._ctx.rng.random(), link))
        for *_, link in sorted(spare, key=lambda each: each[:4], reverse=True)[:WEIGHED]:
            if self._routing.around(link.peer) is not None:
                self._shed = self._ctx.now.mono
                self._ctx.count("links_shed")
                self._neighbors.close(link, "surplus")
                return


def _network(link: Link) -> str:
    """Where the other end is, roughly."""
    address = "" if link.connected is None else link.connected.remote_address.rpartition(":")[0].strip("[]")
    separator = ":" if ":" in address else "."
    return separator.join(address.split(separator)[:NETWORK_BITS_CHARS])
