"""Heartbeats on all links: whom to ask, whom to give up, and when we were not listening ourselves.

One timer serves all links. A node whose own loop was blocked, or whose machine slept, has heard nobody, and blames
nobody: it gives everyone the time back and asks anew.
"""

from __future__ import annotations

import math

from meshd.core.commands import ProbePath, SendHeartbeat, SendMessage
from meshd.core.context import Context
from meshd.core.overlay.neighbors import PROVED, Link, LinkState, Neighbors
from meshd.core.overlay.pulse import Pace, PulseState, Step
from meshd.ids import LinkId, PeerId
from meshd.wire.messages import Heartbeat, HeartbeatAnswer, encode_message

# Policy
LATE = 0.1  # seconds; later than this a timer tells that we were held up
MAX_CLOCK_STEP = 5.0  # seconds the wall clock may gain on the other; more means that the machine has slept
MIN_LOOK_INTERVAL = 0.05  # seconds; what is due sooner waits, so that one waking does for many links


class Liveness:
    """Asks idle links, gives up silent ones."""

    __slots__ = ("_ctx", "_due", "_neighbors", "_offset")

    def __init__(self, ctx: Context, neighbors: Neighbors) -> None:
        self._ctx = ctx
        self._neighbors = neighbors
        self._due = math.inf  # when we meant to look next
        self._offset = math.inf  # of the wall clock against the monotonic one, when we looked last

    @property
    def _pace(self) -> Pace:
        mesh = self._ctx.config.mesh
        return Pace(mesh.heartbeat_interval, mesh.link_timeout)

    def on_up(self, peer: PeerId) -> None:
        """There is a new link: ask at once, so that its round trip is known."""
        link = self._neighbors.current(peer)
        if link is not None:
            link.pulse.polite = self._ctx.own_id > peer
            self._ctx.do(SendHeartbeat(link.id, link.pulse.ask(self._ctx.now.mono)))
            self._arm()

    def on_addresses(self) -> None:
        """This machine's addresses have changed: no path is what it was."""
        pace = self._pace
        for link in self._links():
            self._ctx.do(ProbePath(link.id))
            link.pulse.wake(self._ctx.now.mono, pace)
        self.on_timer()

    def on_heard(self, link: Link) -> None:
        """Anything at all has come on it: the peer lives."""
        self._look_back()  # first: what waited while we were held up must not look like a slow path
        link.pulse.hear(self._ctx.now.mono)
        if link.state is LinkState.SILENT:
            self._neighbors.revive(link)

    def on_asked(self, link_id: LinkId) -> None:
        """The peer has asked; the transport has answered."""
        link = self._neighbors.link(link_id)
        if link is not None:
            self.on_heard(link)

    def on_answer(self, link_id: LinkId, number: int) -> None:
        """Our question is answered: measure."""
        link = self._neighbors.link(link_id)
        if link is not None:
            self.on_heard(link)
            link.pulse.answer(number, self._ctx.now.mono)

    def on_message(self, link: Link, message: Heartbeat | HeartbeatAnswer) -> None:
        """Who cannot ask the transport (a page in a browser) asks by message, and is answered by one."""
        if isinstance(message, Heartbeat):
            # Once, and past whatever waits: an answer that comes late says nothing.
            self._ctx.do(SendMessage(link.id, encode_message(HeartbeatAnswer(message.number)), reliable=False))

    def on_timer(self) -> None:
        """Look after all links that are up."""
        was_late = self._look_back()
        now, pace = self._ctx.now.mono, self._pace
        for link in self._links():
            step = link.pulse.look(now, pace)
            match step:
                case Step.ASK:
                    self._ctx.do(SendHeartbeat(link.id, link.pulse.number))
                    if link.pulse.state in (PulseState.PROBING, PulseState.SILENT):
                        self._ctx.do(ProbePath(link.id))
                case Step.GIVE_UP if was_late and not link.spared:
                    link.pulse.spare()  # what it has said may lie unread: that is taken in before the next look
                case Step.GIVE_UP if link.state is LinkState.UP:
                    self._neighbors.give_up(link)
            link.spared = was_late and step is Step.GIVE_UP
        self._arm()

    def _look_back(self) -> bool:
        """Whether we were held up since the last look, or asleep; if so, everyone gets the time back."""
        now = self._ctx.now
        lateness = now.mono - self._due
        slept = now.unix - now.mono - self._offset
        self._offset = now.unix - now.mono
        if lateness <= LATE and slept <= MAX_CLOCK_STEP:
            return False
        has_slept = slept > MAX_CLOCK_STEP
        self._ctx.count("slept" if has_slept else "held_up")
        self._due = now.mono
        self._ctx.timers.set_at_latest(("heartbeat", b""), now.mono)
        pace = self._pace
        for link in self._links():
            if has_slept:
                link.pulse.wake(now.mono, pace)
            else:
                link.pulse.give_back(lateness, now.mono, pace)
        return True

    def _arm(self) -> None:
        """Links that are heard are due later than this thinks, never sooner; so nothing is done when they are."""
        now, pace = self._ctx.now.mono, self._pace
        looks = (link.pulse.next_look(pace) for link in self._links())
        self._due = max(now + MIN_LOOK_INTERVAL, min(looks, default=math.inf))
        if math.isinf(self._due):
            self._ctx.cancel_timer("heartbeat", b"")
        else:
            self._ctx.timers.set(("heartbeat", b""), self._due)

    def _links(self) -> list[Link]:
        return [link for link in self._neighbors.links() if link.state in PROVED]
