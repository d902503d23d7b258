"""Keepers: members that are up nearly always, and hold capabilities of others, grants and more on their behalf.

Who is one says so in its record. Whose keepers they are is settled by a hash, so that everybody agrees without a word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from meshd.core.commands import Put
from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.core.overlay.routing import Routing
from meshd.core.state import Stored, UptimeRow, rows
from meshd.ids import PeerId
from meshd.wire.codec import encode
from meshd.wire.record import KEEPS, Record

# Policy
KEEPERS = 3  # of each member: two may be away
KEEPER_WINDOW = 36  # hours that are looked at
KEEPER_UPTIME = 24  # of them, up: from then on a keeper
KEEPER_LEAST = 18  # below that no more; the gap keeps it from wavering
UPTIME_INTERVAL = 1200.0  # seconds between looks at the hour; each hour is seen at least twice
MAX_FRIENDS = 4  # members that one thing is asked of, one after the other

_ROW = b"uptime"


class Keepers:
    """Which members keep for which, and whether we are one. Iterating gives our own keepers."""

    __slots__ = ("_able", "_ctx", "_keeps", "_membership", "_routing", "_uptime")

    def __init__(self, ctx: Context, stored: Stored, membership: Membership, routing: Routing) -> None:
        self._ctx = ctx
        self._membership = membership
        self._routing = routing
        self._uptime = rows(stored, "uptime", UptimeRow).get(_ROW, UptimeRow(0, 0))
        self._keeps = False
        self._able: tuple[int, list[Record]] = (-1, [])  # members that keep, after so many changes of records

    def __iter__(self) -> Iterator[PeerId]:
        return iter(self.of(self._ctx.own_id))

    def look(self) -> None:
        """Note that we are up in this hour, and say in our record whether we keep for others."""
        self._ctx.timer("uptime", b"", self._ctx.jitter(UPTIME_INTERVAL))
        hour = int(self._ctx.now.unix // 3600)
        passed = hour - self._uptime.hour
        if passed != 0:
            bits = self._uptime.bits << passed if 0 < passed < KEEPER_WINDOW else 0  # a clock set back begins anew
            self._uptime = UptimeRow(hour, (bits | 1) & (1 << KEEPER_WINDOW) - 1)
            self._ctx.persist(Put("uptime", _ROW, encode(self._uptime)))
        wanted = self._ctx.config.mesh.keeper
        least = KEEPER_LEAST if self._keeps else KEEPER_UPTIME
        self._keeps = wanted == "always" or (wanted == "auto" and self._uptime.bits.bit_count() >= least)
        self._membership.offers_changed(features=KEEPS if self._keeps else 0)

    def of(self, peer: PeerId) -> list[PeerId]:
        """Those that keep for ``peer``: the highest by rendezvous hash of all members that keep."""
        if self._able[0] != self._membership.changes:
            self._able = (self._membership.changes, [r for r in self._membership if r.features & KEEPS])
        now = self._ctx.now.unix
        able = (r.peer for r in self._able[1] if r.expires > now < r.admitted_until and r.peer != peer)
        return sorted(able, key=lambda keeper: share(peer, keeper), reverse=True)[:KEEPERS]

    def friends(self, peer: PeerId) -> list[PeerId]:
        """Whom to ask for something about ``peer``, best first: its keepers, then its last neighbors; in our reach."""
        wanted = dict.fromkeys((*self.of(peer), *self._routing.listed(peer)))
        return [f for f in wanted if f not in (peer, self._ctx.own_id) and self._routing.in_reach(f)][:MAX_FRIENDS]


def share(peer: PeerId, member: PeerId) -> bytes:
    """How much ``member`` is one to care for ``peer``: the same for everybody who asks, another for each pair."""
    return hashlib.sha256(peer + member).digest()
