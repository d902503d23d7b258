"""Which neighbors every member has, as it says itself: the graph, held in memory only.

A link state is believed from a member whose record we hold. One that comes before the record of its member waits for
it for a while.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshd.core.context import Context
from meshd.core.facts import LinkStateAccepted
from meshd.core.membership.membership import Membership
from meshd.core.membership.record_rate import RecordRate
from meshd.core.overlay.neighbors import Neighbors
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import PREFIX_SIZE, PeerId
from meshd.wire.link_state import (
    MAX_NEIGHBORS,
    NUMBERS_A_SECOND,
    LinkState,
    decode_link_state,
    make_link_state,
    verify_link_state,
)

# Policy
BATCH_INTERVAL = 0.05  # seconds; changes of neighbors within it make one link state
CROWDED_INTERVAL = 1.0  # seconds between two of ours in a mesh that is not full: everybody hears each
RENEW_INTERVAL = 2 * 86400.0  # seconds; well within a link state's lifetime of a week
MAX_EARLY = 256  # link states that wait for the records of their members; the oldest is forgotten first
MAX_NUMBER = 1 << 39  # of a link state of ours that is believed; half of what fits


class LinkStates:
    """The newest link state of each member, ours included."""

    __slots__ = ("_ctx", "_early", "_membership", "_neighbors", "_published", "_rate", "_states")

    def __init__(self, ctx: Context, membership: Membership, neighbors: Neighbors) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._states: dict[bytes, LinkState] = {}
        self._early: dict[bytes, tuple[bytes, PeerId]] = {}  # prefix → what came too early, and who brought it
        self._published = float("-inf")  # when (monotonic) we made our last one
        self._rate = RecordRate(ctx)

    def __iter__(self) -> Iterator[LinkState]:
        return iter(self._states.values())

    def of(self, prefix: bytes) -> LinkState | None:
        """The newest of the member with that id prefix, if it still serves."""
        state = self._states.get(prefix)
        return None if state is None or state.expires <= self._ctx.now.unix else state

    @property
    def own(self) -> LinkState | None:
        """Our newest."""
        return self._states.get(self._ctx.own_id[:PREFIX_SIZE])

    # -- ours ---------------------------------------------------------------------------------------------------------

    def neighbors_changed(self) -> None:
        """Our links are others now: a new link state follows soon, if we are a member."""
        if self._membership.row is not None:
            due = self._ctx.now.mono + BATCH_INTERVAL
            if not self._membership.is_small:
                due = max(due, self._published + CROWDED_INTERVAL)
            self._ctx.timers.set_at_latest(("link_state", b""), due)

    def on_timer(self) -> None:
        """Time for a new one: something has changed, or the last one grows old."""
        if self._membership.row is None:
            return
        now, previous = self._ctx.now, self.own
        floor = 0 if previous is None else previous.number + 1
        state = make_link_state(
            self._ctx.suite,
            self._membership.mesh,
            number=max(floor, int(now.unix * NUMBERS_A_SECOND)),
            issued=int(now.unix),
            neighbors=tuple(peer[:PREFIX_SIZE] for peer in self._neighbors.peers()[:MAX_NEIGHBORS]),
        )
        self._published = now.mono
        self._states[state.prefix] = state
        self._ctx.timer("link_state", b"", self._ctx.jitter(RENEW_INTERVAL))
        self._ctx.state(LinkStateAccepted(state, previous))

    def _meet_own(self, state: LinkState) -> None:
        """Somebody shows us one of ours that is newer: from before a restart with a clock that was set back."""
        own = self.own
        if own is None or state.number < own.number or state.encoded == own.encoded:
            return
        verify_link_state(state, self._ctx.own_id, self._ctx.suite, self._membership.mesh, self._ctx.now.unix)
        if state.number > MAX_NUMBER:
            raise Rejected("own_number_too_high")
        self._ctx.count("own_link_state_newer")
        self._states[state.prefix] = state  # until ours takes its place, with a higher number
        self.neighbors_changed()

    # -- everybody's --------------------------------------------------------------------------------------------------

    def accept(self, data: bytes, source: PeerId) -> bool:
        """Take a link state that ``source`` brought, whosever it is; whether it is news.

        Raises MalformedMessage and Rejected.
        """
        state = self._ctx.suite.parsed(decode_link_state, data)
        if state.prefix == self._ctx.own_id[:PREFIX_SIZE]:
            self._meet_own(state)
            return False
        known = self._states.get(state.prefix)
        if known is not None and state.number <= known.number:
            return False
        record = self._membership.by_prefix(state.prefix)
        if record is None or record.departed:
            self._keep_early(state.prefix, data, source)
            return False
        verify_link_state(state, record.peer, self._ctx.suite, self._membership.mesh, self._ctx.now.unix)
        self._rate.charge(record.peer)
        self._states[state.prefix] = state
        self._ctx.state(LinkStateAccepted(state, known, source))
        return True

    def _keep_early(self, prefix: bytes, data: bytes, source: PeerId) -> None:
        self._early.pop(prefix, None)
        self._early[prefix] = (data, source)
        if len(self._early) > MAX_EARLY:
            del self._early[next(iter(self._early))]

    def on_record(self, peer: PeerId) -> None:
        """Its record is here: what it has said of its links may have waited for it."""
        early = self._early.pop(peer[:PREFIX_SIZE], None)
        if early is None:
            return
        try:
            self.accept(*early)
        except (MalformedMessage, Rejected):
            self._ctx.count("link_states_rejected")

    def forget(self, peer: PeerId) -> LinkState | None:
        """It is no member any more: gives what it had said last."""
        self._early.pop(peer[:PREFIX_SIZE], None)
        return self._states.pop(peer[:PREFIX_SIZE], None)

    def clear(self) -> None:
        """No mesh any more. Our own number is kept: none is used again."""
        own = self.own
        self._states = {} if own is None else {own.prefix: own}
        self._early.clear()
        self._ctx.cancel_timer("link_state", b"")

    def sweep(self) -> None:
        """Forget what has run out, and what nobody is a member for any more."""
        now, own = self._ctx.now.unix, self._ctx.own_id[:PREFIX_SIZE]
        gone = [
            prefix
            for prefix, state in self._states.items()
            if prefix != own and (state.expires <= now or self._membership.by_prefix(prefix) is None)
        ]
        for prefix in gone:
            del self._states[prefix]
