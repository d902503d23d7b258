"""Who holds what of ours, and until when.

Everybody who may push to us is a holder: members, introduction tokens (until they end), and those who are being asked
to let us in. A holder is a newcomer for its first day here, by our own clock (a thief among the introducers can date
an admission back as far as it likes), and its channels belong to our user agent for newcomers until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from meshd.core.commands import Delete, Put
from meshd.core.context import Context
from meshd.core.pushing.audit import Audit
from meshd.core.pushing.capabilities import (
    CLOCK_SLACK,
    GRANT_SPAN,
    MAX_SPAN,
    OWN_GRANT_SPAN,
    OWN_TOP_UP_SPAN,
    TOP_UP_SPAN,
    expiries,
    further_expiries,
    lasting,
)
from meshd.core.pushing.channels import SHARED, Channels
from meshd.core.state import HolderRow, Stored, rows
from meshd.ids import PEER_ID_SIZE, ChannelId, Ticket
from meshd.wire.codec import encode
from meshd.wire.parts import Grant

# Policy
ESTABLISHED_AFTER = 86400.0  # seconds from the first channel on; a flood by a fresh thief comes sooner
HOLD_TIME = 3600.0  # seconds that nobody's channels are given up after it has come, used or not


class Holders:
    """All holders, with what they have been given."""

    __slots__ = ("_audit", "_channels", "_ctx", "_kept", "_rows")

    def __init__(self, ctx: Context, stored: Stored, channels: Channels, audit: Audit) -> None:
        self._ctx = ctx
        self._channels = channels
        self._audit = audit
        self._rows = rows(stored, "holders", HolderRow)
        self._kept = set(self._rows)  # those that the store has
        self._adopt()

    def _adopt(self) -> None:
        """Holders of channels that no row tells of: it was lost, or made before there were such rows."""
        for channel, row in self._channels:
            if row.holder not in self._rows and row.holder not in (SHARED, self._ctx.own_id) and not row.retired:
                since = 0 if not row.newcomer else int(self._ctx.now.unix)
                given = (channel,) if row.granted_until else ()
                self._rows[row.holder] = HolderRow(since, row.newcomer, 0, given, row.granted_until)

    # -- the whole ----------------------------------------------------------------------------------------------------

    def activate(self) -> None:
        """Be reachable by push from now on."""
        self._channels.activate()

    def deactivate(self, ticket: Ticket | None = None) -> None:
        """Take everything back and disconnect, once ``ticket`` is durable."""
        for holder in sorted(self._kept):
            self._ctx.persist(Delete("holders", holder))
        self._rows.clear()
        self._kept.clear()
        self._audit.clear()
        self._channels.deactivate(ticket)

    @property
    def receiving(self) -> bool:
        """Whether some push service is connected."""
        return self._channels.receiving

    @property
    def has_lasting(self) -> bool:
        """Whether a push service of ours takes capabilities that last for longer than ``MAX_SPAN``."""
        return self._channels.has_lasting

    def __iter__(self) -> Iterator[bytes]:
        """All holders."""
        return iter(list(self._rows))

    # -- one ----------------------------------------------------------------------------------------------------------

    def ensure(self, holder: bytes) -> None:
        """Have channels for that holder (a peer id or an introduction id). The least useful gives way, if it must."""
        row = self._rows.setdefault(holder, HolderRow(int(self._ctx.now.unix), 1))
        while not self._channels.has_room(holder, bool(row.newcomer)):
            victim = self._least_useful(holder)
            if victim is None:
                break
            self._ctx.count("channels_given_up")
            self.release(victim)
        self._channels.ensure(holder, bool(row.newcomer))
        if not self._channels.current(holder, bool(row.newcomer)) and holder not in self._kept:
            del self._rows[holder]  # there was no room

    def _least_useful(self, beside: bytes) -> bytes | None:
        """Whose channels to give up: nothing that serves any more; else a member's that was away longest."""
        now = self._ctx.now.unix
        candidates = [
            (row.granted_until > now, row.granted_until, holder)
            for holder, row in self._rows.items()
            if holder != beside
            and row.since + HOLD_TIME < now
            and (len(holder) == PEER_ID_SIZE or row.granted_until <= now)
        ]
        return min(candidates)[2] if candidates else None

    def is_newcomer(self, holder: bytes) -> bool:
        """Whether its channels belong to the user agent for newcomers."""
        row = self._rows.get(holder)
        return row is None or bool(row.newcomer)

    def _ready(self, holder: bytes) -> tuple[ChannelId, ...]:
        return self._channels.ready(holder, self.is_newcomer(holder)) if holder in self._rows else ()

    def is_ready(self, holder: bytes) -> bool:
        """Whether something could be granted to that holder now."""
        return bool(self._ready(holder))

    def of_channel(self, channel: ChannelId) -> list[bytes]:
        """Whose channel that is: one holder's; everybody's, where it is shared."""
        row = self._channels.row(channel)
        if row is None:
            return []
        if row.holder != SHARED:
            return [row.holder]
        return [holder for holder, held in self._rows.items() if held.newcomer == row.newcomer]

    def row(self, holder: bytes) -> HolderRow | None:
        """What is known of that holder."""
        return self._rows.get(holder)

    def _keep(self, holder: bytes, row: HolderRow) -> None:
        self._rows[holder] = row
        self._kept.add(holder)
        self._ctx.persist(Put("holders", holder, encode(row)))

    def release(self, holder: bytes, ticket: Ticket | None = None) -> None:
        """Take everything back that this holder has, once ``ticket`` is durable. A shared channel stays."""
        row = self._rows.pop(holder, None)
        services = set()
        for channel, known in self._channels:
            if known.holder == holder:
                services.add(known.service)
                self._channels.take_back(channel, ticket)
        if holder in self._kept:
            self._kept.discard(holder)
            self._ctx.persist(Delete("holders", holder))
        if row is not None and row.channels:
            for service in sorted(services) or [""]:
                self._audit.record("taken_back", holder, service, row.granted_until)

    # -- granting -----------------------------------------------------------------------------------------------------

    def _spans(self) -> tuple[float, float]:
        """For how long a holder is given capabilities, and below what it gets more; seconds."""
        return (GRANT_SPAN, TOP_UP_SPAN) if self._channels.is_shared else (OWN_GRANT_SPAN, OWN_TOP_UP_SPAN)

    def _is_same(self, row: HolderRow, generation: int, channels: tuple[ChannelId, ...]) -> bool:
        return row.generation == generation and set(row.channels) == set(channels)

    def is_current(self, holder: bytes, generation: int) -> bool:
        """Whether it has confirmed our present subscriptions, and can use them now."""
        row = self._rows.get(holder)
        return (
            row is not None
            and row.taken_until > self._ctx.now.unix
            and self._is_same(row, generation, self._ready(holder))
        )

    def is_due(self, holder: bytes, generation: int) -> bool:
        """Whether there is something to be given to that holder: new, more, or what it has not confirmed."""
        if not self.is_ready(holder):
            return False
        return (
            not self.is_current(holder, generation)
            or self._rows[holder].taken_until < self._ctx.now.unix + self._spans()[1]
        )

    def grant(self, holder: bytes, generation: int, span: float = GRANT_SPAN) -> Grant | None:
        """Capabilities for ``span`` seconds, whatever it has: for tokens and for what travels by push.

        None if no channel of it is ready.
        """
        row, channels = self._rows.get(holder), self._ready(holder)
        if row is None or not channels:
            return None
        until = int(self._ctx.now.unix + span)
        if not self._is_same(row, generation, channels):
            self._give(holder, replace(row, generation=generation, channels=channels, taken_until=0), until)
        elif row.granted_until < until:
            self._give(holder, row, until)
        parts = (self._channels.subscription(channel, self._exps(channel, span)) for channel in channels)
        return Grant(generation, tuple(parts))

    def _exps(self, channel: ChannelId, span: float) -> list[int]:
        """What to give for ``span`` at the channel's service; where that takes too many, as much as can be given."""
        if span > GRANT_SPAN and self._channels.traits(channel).lasting:
            return lasting(self._ctx.now.unix, span)
        return expiries(self._ctx.now.unix, min(span, MAX_SPAN))

    def renewal(self, holder: bytes, generation: int) -> Grant | None:
        """What that holder lacks of the whole span, for a path over the mesh; None if nothing could be granted.

        What it has confirmed is not said again. What it has not is, the very same, until it does.
        """
        row, channels = self._rows.get(holder), self._ready(holder)
        if row is None or not channels:
            return None
        now, (span, top_up) = self._ctx.now.unix, self._spans()
        end = now + span
        if not self._is_same(row, generation, channels):
            end = max(end, row.granted_until + 1)  # so that no answer to an older grant is taken for one to this
            row = replace(row, generation=generation, channels=channels, granted_until=0, taken_until=0)
        elif row.taken_until < row.granted_until and row.granted_until >= now + top_up:
            end = row.granted_until
        held = row.taken_until
        exps = further_expiries(held, now, end - now, top_up) if held > now else expiries(now, end - now)
        if not exps:
            return None
        until = exps[-1] - CLOCK_SLACK
        if row.granted_until != until:
            self._give(holder, row, until)
        return self._grant(channels, generation, exps)

    def _give(self, holder: bytes, row: HolderRow, until: int) -> None:
        kind = "renewed" if row.taken_until else "issued"
        self._keep(holder, replace(row, granted_until=until))
        self._audit.record(kind, holder, ", ".join(self._services_of(row.channels)), until)

    def _services_of(self, channels: tuple[bytes, ...]) -> list[str]:
        known = (self._channels.row(ChannelId(channel)) for channel in channels)
        return [row.service for row in known if row is not None]

    def _grant(self, channels: tuple[ChannelId, ...], generation: int, exps: list[int]) -> Grant:
        return Grant(generation, tuple(self._channels.subscription(channel, exps) for channel in channels))

    def on_taken(self, holder: bytes, generation: int, until: float) -> bool:
        """It keeps what it was given, and that serves until then. False if that is not (yet) our last grant."""
        row = self._rows.get(holder)
        if row is None or row.generation != generation or not row.channels or until < row.granted_until:
            return False
        if row.taken_until != row.granted_until:
            self._keep(holder, replace(row, taken_until=row.granted_until))
        self._drop_retired(holder, generation)
        return True

    # -- as time goes by ----------------------------------------------------------------------------------------------

    def promote(self, holder: bytes) -> bool:
        """From a newcomer to an established holder, if it is time: new channels; the old ones until it has taken them.

        Only for one that the new grant can be said to, and while the services are there to make it.
        """
        row = self._rows.get(holder)
        if row is None or not row.newcomer or len(holder) != PEER_ID_SIZE:
            return False
        if self._ctx.now.unix - row.since < ESTABLISHED_AFTER or not self._channels.has_room(holder, newcomer=False):
            return False
        if not all(self._channels.is_connected((service, False)) for service in self._channels.services):
            return False
        if not self._channels.is_shared:
            for channel in self._channels.current(holder, newcomer=True):
                self._channels.retire(channel, self._ctx.now.unix, row.granted_until)
        self._keep(holder, replace(row, newcomer=0))
        self._channels.ensure(holder, newcomer=False)
        self._audit.record("changed", holder, detail="established")
        return True

    def renew(self, holder: bytes, keep: float) -> None:
        """New channels and keys for one holder; the old ones are kept ``keep`` seconds at least."""
        row = self._rows.get(holder)
        if row is not None:
            for channel in self._channels.current(holder, bool(row.newcomer)):
                self._channels.renew(channel, self._ctx.now.unix + keep, self._held_until(channel))

    def renew_all(self, keep: float, *, at_once: bool = False) -> int:
        """The same for all members; how many they are. ``at_once``: the old channels are gone from now on."""
        now = self._ctx.now.unix
        for channel, known in self._channels:
            if known.retired or not (known.holder == SHARED or len(known.holder) == PEER_ID_SIZE):
                continue
            if at_once:
                self._channels.replace(channel)
            elif known.holder != self._ctx.own_id:
                self._channels.renew(channel, now + keep, self._held_until(channel))
        return sum(1 for holder in self._rows if len(holder) == PEER_ID_SIZE)

    def mistrust(self, holder: bytes) -> None:
        """It does not have what it has confirmed, or not any more: it is to be given everything again."""
        row = self._rows.get(holder)
        if row is not None and row.taken_until:
            self._keep(holder, replace(row, taken_until=0))

    def _held_until(self, channel: ChannelId) -> float:
        return max((row.granted_until for row in self._rows.values() if channel in row.channels), default=0)

    def _drop_retired(self, holder: bytes, generation: int) -> None:
        """Take back the channels that this holder has new ones for."""
        now = self._ctx.now.unix
        for channel, known in self._channels:
            if known.holder != holder or not known.retired or known.retired > now:
                continue
            if known.granted_until <= now or self.is_current(holder, generation):
                self._channels.take_back(channel)
                self._audit.record("taken_back", holder, known.service, known.granted_until, "replaced")

    def sweep(self, generation: int, is_member: Callable[[bytes], bool]) -> None:
        """Take back what nobody uses any more: replaced, run out, or of somebody who never became a member."""
        now = self._ctx.now.unix
        for holder, row in list(self._rows.items()):
            self._drop_retired(holder, generation)
            if len(holder) != PEER_ID_SIZE:
                continue  # a token's channels end with it
            ended = bool(row.granted_until) and row.granted_until + CLOCK_SLACK < now
            strange = not row.granted_until and row.since + ESTABLISHED_AFTER < now and not is_member(holder)
            if ended or strange:
                self.release(holder)
        waiting = any(not self.is_current(h, generation) and row.granted_until > now for h, row in self._rows.items())
        for channel, known in self._channels:
            if known.holder == SHARED:
                if known.retired and known.retired <= now and (known.granted_until <= now or not waiting):
                    self._channels.take_back(channel)
            elif known.holder not in self._rows and known.holder != self._ctx.own_id:
                self._channels.take_back(channel)
        self._channels.close_idle()

    # -- view ---------------------------------------------------------------------------------------------------------

    def held(self) -> list[tuple[bytes, HolderRow, list[str]]]:
        """Every holder with what it was given, and the services it can use."""
        return [(holder, row, self._services_of(row.channels)) for holder, row in self._rows.items()]
