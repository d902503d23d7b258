"""Another daemon with our identity: a copied disk, an old machine that was started again, or a thief.

Both would take each other's links for ever, since a peer takes the newer one for a restart. So one stands aside: the
one that was started later, for whoever starts something by mistake is there to read why it does not work, and the one
that runs goes on. Both tell their people. A thief need not keep to that: revoking is what helps against one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshd.core.context import Context
from meshd.ids import INSTANCE_SIZE, Instance
from meshd.wire.doubling import TwinSeen
from meshd.wire.envelope import read_shown
from meshd.wire.messages import SIGNALING, Offer, decode_message
from meshd.wire.record import Record

if TYPE_CHECKING:
    from meshd.core.node import Node

# Policy
FIRST_REST = 900.0  # seconds to stand aside; doubles each time: a look costs the other one its links for a moment
MAX_REST = 86400.0
ALARM_INTERVAL = 3600.0  # seconds between two alarms about the same twin
SEEN_FOR = 86400.0  # seconds that a twin is spoken of in the status
MAX_STRIKES = 3  # answers to a record of ours that show a twin to be alive, whatever its clock says
_TIME_SIZE = 5
_STILL = ("compare", "renewal", "grants", "rotation", "record", "routes")


class Twin:
    """Knows a twin from a restored backup, and which of the two stands aside."""

    __slots__ = ("_alarmed", "_ctx", "_node", "_other", "_rest", "_seen", "_started", "_strikes")

    def __init__(self, node: Node, ctx: Context) -> None:
        self._node = node
        self._ctx = ctx
        self._started = 0
        self._other = b""
        self._strikes = 0
        self._alarmed: float | None = None
        self._seen: float | None = None
        self._rest = FIRST_REST

    def begin(self) -> None:
        """The daemon has started. Of two instances, the greater one has started later, by their clocks."""
        self._started = max(0, int(self._ctx.now.unix))
        drawn = self._ctx.instance[: INSTANCE_SIZE - _TIME_SIZE]
        self._ctx.instance = Instance(self._started.to_bytes(_TIME_SIZE, "big") + drawn)

    def on_met(self, record: Record) -> None:
        """Somebody has shown us a record of ours that another instance has signed, newer than our own.

        One run of ours never meets a newer one of its past, for numbers are durable; so this is a twin, or what we
        said before a backup was restored. The latter was not signed after our start, and answers nothing.
        """
        self._strikes = self._strikes + 1 if record.instance == self._other else 1
        self._other = record.instance
        self._alarm(record.number)
        if record.issued >= self._started or self._strikes >= MAX_STRIKES:
            self._settle(record.instance)

    def on_shown(self, message: TwinSeen) -> None:
        """A neighbor has had signaling from another instance of us, and shows it. Raises MalformedMessage, Rejected.

        It cannot make that up, and what one of our own former runs has said was said before our start.
        """
        ctx = self._ctx
        letter = read_shown(ctx.suite, self._node.membership.mesh, message.letter)
        said = decode_message(letter.body, SIGNALING)
        if letter.sender != ctx.own_id or not isinstance(said, Offer) or said.instance == ctx.instance:
            ctx.count("twins_unproved")
        elif letter.issued >= self._started:
            self._alarm(0)
            self._settle(said.instance)

    def _settle(self, instance: bytes) -> None:
        self._seen = self._ctx.now.unix
        if self._ctx.instance > instance and not self._ctx.aside:
            self._stand_aside()

    def _alarm(self, number: int) -> None:
        now = self._ctx.now.mono
        if self._alarmed is None or now - self._alarmed >= ALARM_INTERVAL:
            self._alarmed = now
            self._ctx.count("identities_doubled")
            self._ctx.notify("identity_doubled", peer=self._ctx.own_id, number=number)

    def _stand_aside(self) -> None:
        """No links, no pushes, until it is time to look again. Membership, messages and tokens stay as they are."""
        node, ctx = self._node, self._ctx
        ctx.aside = True
        for session in node.signaling.sessions():
            node.signaling.end(session, "identity_doubled")
        node.neighbors.close_all("identity_doubled")
        node.channels.pause()
        node.self_test.stop()
        for name in _STILL:
            ctx.cancel_timer(name, b"")
        ctx.count("stood_aside")
        ctx.notify("stood_aside", seconds=self._rest)
        ctx.timer("twin", b"", self._rest)
        self._rest = min(2 * self._rest, MAX_REST)

    def on_timer(self) -> None:
        """Is the other one gone?"""
        self._ctx.aside = False
        self._seen, self._strikes = None, 0
        if self._node.membership.row is not None:
            self._node.begin_membership()
            self._node.topology.begin()

    # -- seen from outside --------------------------------------------------------------------------------------------

    @property
    def state(self) -> str | None:
        """``aside``, ``kept``: the other one is to stand aside; or None: there is no other."""
        if self._ctx.aside:
            return "aside"
        recent = self._seen is not None and self._ctx.now.unix - self._seen < SEEN_FOR
        return "kept" if recent else None

    @property
    def warnings(self) -> list[str]:
        """What somebody should do about it, a sentence each."""
        see = "See 'Two daemons with one identity' in docs/operations.md."
        if self._ctx.aside:
            return [
                "Another daemon has this node's identity and was started earlier: this one keeps still, without links "
                f"and pushes, and looks again now and then. Stop one of the two, then restart the other. {see}"
            ]
        if self.state == "kept":
            return [
                "Another daemon has shown itself with this node's identity. If it is a copy of yours, stop it; if not, "
                f"somebody has this node's key: have an admin revoke it. {see}"
            ]
        return []
