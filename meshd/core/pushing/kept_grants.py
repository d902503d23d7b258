"""Grants kept for members who are away: so that two whose subscriptions both changed meanwhile find each other.

An owner that cannot reach a holder leaves a sealed copy with friends of that holder: its keepers, or the neighbors it
had. They hand it over when the holder appears. A copy that is older than what the holder has changes nothing.
"""

from __future__ import annotations

from meshd.core.commands import Delete, Put
from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.overlay.routing import Routing
from meshd.core.pushing.grants import Grants
from meshd.core.pushing.keepers import Keepers
from meshd.core.state import KeptGrantRow, Stored, rows
from meshd.errors import Rejected
from meshd.ids import CLOCK_SKEW, PEER_ID_SIZE, PeerId
from meshd.rates import RateLimiter
from meshd.wire.codec import encode
from meshd.wire.granting import GrantDeposit, GrantKept
from meshd.wire.kept_grant import open_grant, seal_grant
from meshd.wire.parts import Grant

# Policy
KEPT_LIFETIME = 15 * 86400.0  # seconds; a fortnight's capabilities have ended by then
MAX_KEPT = 2048  # copies for all; most take 1 KB
MAX_KEPT_OF_ONE = 128  # copies of one owner's; its oldest gives way
DEPOSIT_DAILY, DEPOSIT_BURST = 256, 128  # deposits taken from one owner
TELL_INTERVAL = 3600.0  # seconds until a copy that went over others is handed over again: it may have been lost
MAX_ACCOUNTS = 4096


class KeptGrants:
    """What we leave with friends, what we keep for others, and what others have kept for us."""

    __slots__ = (
        "_accounts",
        "_ctx",
        "_grants",
        "_keepers",
        "_membership",
        "_neighbors",
        "_post",
        "_routing",
        "_rows",
        "_told",
    )

    def __init__(
        self,
        ctx: Context,
        stored: Stored,
        membership: Membership,
        neighbors: Neighbors,
        routing: Routing,
        post: Post,
        grants: Grants,
        keepers: Keepers,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._routing = routing
        self._post = post
        self._grants = grants
        self._keepers = keepers
        self._accounts = RateLimiter(DEPOSIT_DAILY / 86400.0, DEPOSIT_BURST, MAX_ACCOUNTS)
        self._rows = rows(stored, "kept_grants", KeptGrantRow)  # owner ‖ holder → the newest copy
        self._told: dict[bytes, float] = {}  # owner ‖ holder → when (monotonic) it was handed over by others

    # -- as the owner -------------------------------------------------------------------------------------------------

    def deposit(self, holder: PeerId, grant: Grant) -> None:
        """Leave our grant for ``holder`` with friends of its."""
        key = self._membership.sealing_key(holder)
        if key is None:
            return
        issued = int(self._ctx.now.unix)
        try:
            sealed = seal_grant(self._ctx.suite, self._membership.mesh, holder, key, grant, issued)
        except Rejected:
            self._ctx.count("grants_unsealable")
            return
        message = GrantDeposit(self._ctx.own_id, holder, grant.generation, issued, sealed)
        for friend in self._keepers.friends(holder):
            if self._post.send(friend, message):
                self._ctx.count("grants_deposited")

    # -- as a friend --------------------------------------------------------------------------------------------------

    def on_deposit(self, owner: PeerId, message: GrantDeposit) -> None:
        """Keep it, if it is news. Raises Rejected."""
        key, now = owner + message.holder, self._ctx.now
        known = self._rows.get(key)
        holder = PeerId(message.holder)
        if message.owner != owner or holder in (owner, self._ctx.own_id) or self._membership.record(holder) is None:
            raise Rejected("deposit_refused")
        if self._ctx.config.mesh.keeper == "never" or not -KEPT_LIFETIME < message.issued - now.unix <= CLOCK_SKEW:
            raise Rejected("deposit_refused")
        if known is not None and (message.generation, message.issued) <= (known.generation, known.issued):
            return
        if self._accounts.take(owner, now.mono):
            raise Rejected("deposit_quota")
        if known is None:
            self._make_room(owner)
        self._rows.pop(key, None)
        self._rows[key] = KeptGrantRow(message.generation, message.issued, message.sealed)
        self._told.pop(key, None)
        self._ctx.persist(Put("kept_grants", key, encode(self._rows[key])))
        self._ctx.count("grants_kept")
        self._hand_over(key)

    def _make_room(self, owner: PeerId) -> None:
        of_owner = [key for key in self._rows if key.startswith(owner)]
        if len(of_owner) >= MAX_KEPT_OF_ONE:
            self._drop(min(of_owner, key=lambda key: self._rows[key].issued))
        elif len(self._rows) >= MAX_KEPT:
            self._drop(min(self._rows, key=lambda key: self._rows[key].issued))

    def _drop(self, key: bytes) -> None:
        del self._rows[key]
        self._told.pop(key, None)
        self._ctx.persist(Delete("kept_grants", key))

    def flush(self) -> None:
        """Holders may have appeared."""
        for key in list(self._rows):
            self._hand_over(key)

    def _hand_over(self, key: bytes) -> None:
        owner, holder = PeerId(key[:PEER_ID_SIZE]), PeerId(key[PEER_ID_SIZE:])
        told = self._told.get(key)
        if self._routing.next_hop(holder) is None:
            self._told.pop(key, None)  # it is gone again: next time it may be another daemon
        elif told is None or told + TELL_INTERVAL <= self._ctx.now.mono:
            row = self._rows[key]
            if self._post.send(holder, GrantKept(owner, holder, row.generation, row.issued, row.sealed)):
                self._ctx.count("grants_handed_over")
                self._told[key] = self._ctx.now.mono
                if self._neighbors.current(holder) is not None:  # nothing is lost on a link
                    self._drop(key)

    def sweep(self) -> None:
        """What has outlived its capabilities goes."""
        horizon = self._ctx.now.unix - KEPT_LIFETIME
        for key in [key for key, row in self._rows.items() if row.issued < horizon]:
            self._drop(key)

    def forget(self, peer: PeerId) -> None:
        """That peer is no member any more: neither what it has left nor what waits for it."""
        for key in [key for key in self._rows if peer in (key[:PEER_ID_SIZE], key[PEER_ID_SIZE:])]:
            self._drop(key)

    def forget_all(self) -> None:
        """We are no member any more."""
        for key in list(self._rows):
            self._drop(key)

    # -- as the holder ------------------------------------------------------------------------------------------------

    def on_kept(self, message: GrantKept) -> bool:
        """A friend hands over what ``owner`` left for us; True if we can push to it now. Raises MalformedMessage,
        Rejected.
        """
        owner = PeerId(message.owner)
        if message.holder != self._ctx.own_id or self._membership.record(owner) is None:
            raise Rejected("deposit_refused")
        grant, issued = open_grant(self._ctx.suite, self._membership.mesh, owner, message.sealed)
        if not -KEPT_LIFETIME < issued - self._ctx.now.unix <= CLOCK_SKEW:
            raise Rejected("deposit_out_of_date")
        self._grants.on_kept(owner, grant, issued)
        return self._grants.can_push(owner)
