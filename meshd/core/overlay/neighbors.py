"""Links and who is at their other end.

A link passes through: prepared, connected, and — once the other side's ``Hello`` has verified — *up*. Before that
nothing is delivered from it and nothing but our own hello is sent on it. A peer has one current link; a new one that
comes up takes its place (make before break).

A link whose peer is not heard any more is *silent*: its peer is no neighbor now, but the association and its streams
wait for a while. When something is heard on it, or it goes on over another path (``LinkResumed``), it is up again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from meshd import VERSION
from meshd.core.commands import CloseLink, Priority, SendMessage
from meshd.core.context import Context
from meshd.core.events import LinkConnected, LinkResumed
from meshd.core.facts import LinkEnded, LinkProved, NeighborDown, NeighborUp
from meshd.core.membership.membership import Membership
from meshd.core.overlay.pulse import Pulse
from meshd.ids import LinkId, MeshId, PeerId, SessionId, Ticket
from meshd.wire.messages import (
    MIN_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    Goodbye,
    Hello,
    Message,
    encode_message,
)

# Specification (ours)
_BINDING = b"meshd link binding 1\0"

# Policy
HELLO_TIMEOUT = 10.0  # seconds from connected to verified
SAME_MOMENT = 10.0  # seconds; two links of one pair that come up this close together are a race
AGENT = f"meshd {VERSION}"

# Why links are lost, as counters name it; whatever else is said, also by the peer, counts as ``other``
LOSS_REASONS = frozenset(
    {
        "admission_expired",
        "closed_by_peer",
        "connection_lost",
        "consent_expired",
        "departed",
        "fault",
        "hello_out_of_turn",
        "leaving",
        "malformed",
        "peer_misbehaved",
        "peer_restarted",
        "revoked",
        "send_overflow",
        "silent",
        "stopping",
        "stream_number",
        "surplus",
    }
)


class LinkState(Enum):
    """How far a link is."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    UP = "up"
    SILENT = "silent"


PROVED = (LinkState.UP, LinkState.SILENT)  # the peer has shown who it is


@dataclass(slots=True)
class Link:
    """One link."""

    id: LinkId
    peer: PeerId
    session: SessionId
    mesh: MeshId
    state: LinkState = LinkState.CONNECTING
    ticket: Ticket | None = None  # our hello waits for it: an admission must be durable before it is used
    connected: LinkConnected | None = None
    instance: bytes = b""
    agent: str = ""
    up_since: float = 0.0  # Unix seconds
    up_mono: float = 0.0
    neighbor_since: float = 0.0  # monotonic seconds; later than ``up_mono`` where it was silent, or has another path
    pulse: Pulse = field(default_factory=Pulse)
    spared: bool = False  # it would have been given up, had we not been late ourselves
    congested: bool = False


class Neighbors:
    """All links of this node."""

    __slots__ = ("_ctx", "_current", "_links", "_membership")

    def __init__(self, ctx: Context, membership: Membership) -> None:
        self._ctx = ctx
        self._membership = membership
        self._links: dict[LinkId, Link] = {}
        self._current: dict[PeerId, Link] = {}

    # -- reading ------------------------------------------------------------------------------------------------------

    def peers(self) -> tuple[PeerId, ...]:
        """Our neighbors, in the order they came up."""
        return tuple(self._current)

    def current(self, peer: PeerId) -> Link | None:
        """The link to that peer that is up."""
        return self._current.get(peer)

    def link(self, link: LinkId) -> Link | None:
        """That link, if it still is one of ours."""
        return self._links.get(link)

    def silent(self, peer: PeerId) -> Link | None:
        """The link to that peer that waits to be heard again."""
        return next(
            (link for link in self._links.values() if link.peer == peer and link.state is LinkState.SILENT), None
        )

    def proved(self, peer: PeerId) -> list[Link]:
        """All links at whose other end that peer has proved itself: the current one, and one that is silent."""
        return [link for link in (self._current.get(peer), self.silent(peer)) if link is not None]

    def links(self) -> list[Link]:
        """All links, in whatever state."""
        return list(self._links.values())

    def __len__(self) -> int:
        """How many neighbors we have."""
        return len(self._current)

    def total(self) -> int:
        """How many links there are in any state."""
        return len(self._links)

    # -- the life of a link -------------------------------------------------------------------------------------------

    def add(self, link: LinkId, peer: PeerId, session: SessionId, mesh: MeshId, ticket: Ticket | None = None) -> None:
        """A link that is being made."""
        self._links[link] = Link(link, peer, session, mesh, ticket=ticket)

    def on_connected(self, event: LinkConnected) -> None:
        """DTLS stands: prove who we are."""
        link = self._links.get(event.link)
        if link is None:
            return
        link.connected, link.state = event, LinkState.CONNECTED
        link.pulse.hear(self._ctx.now.mono)
        self._ctx.timer("hello", event.link.to_bytes(8, "big"), HELLO_TIMEOUT)
        signature = self._ctx.suite.sign(
            self._binding(link, self._ctx.own_id, link.peer, event.local_fingerprint, event.remote_fingerprint)
        )
        hello = Hello(PROTOCOL_VERSION, MIN_PROTOCOL_VERSION, 0, AGENT, self._ctx.instance, signature)
        self._ctx.after(link.ticket, SendMessage(event.link, encode_message(hello)))

    @staticmethod
    def _binding(link: Link, signer: PeerId, other: PeerId, signer_print: bytes, other_print: bytes) -> bytes:
        return _BINDING + link.mesh + link.session + signer + other + signer_print + other_print

    def on_hello(self, link: Link, hello: Hello) -> None:
        """The other side proves who it is. What does not verify ends the link."""
        connected = link.connected
        if connected is None or link.state is not LinkState.CONNECTED:
            self.fail(link, "hello_out_of_turn")
            return
        binding = self._binding(
            link, link.peer, self._ctx.own_id, connected.remote_fingerprint, connected.local_fingerprint
        )
        if not self._ctx.suite.verify(link.peer, binding, hello.signature):
            self.fail(link, "hello_forged")
            return
        if self._membership.row is not None and self._membership.is_barred(link.peer):
            self.fail(link, "revoked")
            return
        if hello.min_version > PROTOCOL_VERSION or hello.version < MIN_PROTOCOL_VERSION:
            self.fail(link, "version_unsupported")
            return
        self._ctx.cancel_timer("hello", link.id.to_bytes(8, "big"))
        link.instance, link.agent = hello.instance, hello.agent
        # Up is both ways: what we say next must find our own hello said, and that may still wait for the disk.
        self._ctx.state_after(link.ticket, LinkProved(link.id))

    def on_proved(self, link_id: LinkId) -> None:
        """Both hellos are said, and theirs has verified: the link is up."""
        link = self._links.get(link_id)
        if link is None or link.state is not LinkState.CONNECTED:
            return
        old = self._current.get(link.peer)
        if old is not None and old.instance == link.instance:
            raced = self._ctx.now.mono - old.up_mono < SAME_MOMENT
            if raced and old.session > link.session:  # both sides see the same two sessions, so both keep the same
                self.close(link, "replaced")
                return
        link.state, link.up_since, link.up_mono = LinkState.UP, self._ctx.now.unix, self._ctx.now.mono
        silent = self.silent(link.peer)
        self._current.pop(link.peer, None)
        self._current[link.peer] = link
        if old is not None:
            self.close(old, "replaced")
        if silent is not None:
            self._drop(silent, "replaced")
        self._ctx.count("links_opened")
        self._say_up(link, replaced=old is not None)

    def _say_up(self, link: Link, *, replaced: bool) -> None:
        link.neighbor_since = self._ctx.now.mono
        connected = link.connected
        self._ctx.notify(
            "link_up",
            peer=link.peer,
            name=self._membership.name_of(link.peer) or "",
            link=link.id,
            kind=connected.local_kind if connected else "",
            replaced=replaced,
        )
        self._ctx.state(NeighborUp(link.peer))

    def on_closed(self, event_link: LinkId, reason: str) -> Link | None:
        """The links room says that it is gone."""
        link = self._links.pop(event_link, None)
        if link is not None:
            self._forget(link, reason)
        return link

    def close(self, link: Link, reason: str, ticket: Ticket | None = None) -> None:
        """End it politely; the other side hears of it once ``ticket`` is durable."""
        if link.state is LinkState.UP:
            self._ctx.after(ticket, SendMessage(link.id, encode_message(Goodbye(reason))))
        self._drop(link, reason, ticket)

    def close_all(self, reason: str, ticket: Ticket | None = None) -> None:
        """End all that are proved, politely."""
        for link in self.links():
            if link.state in PROVED:
                self.close(link, reason, ticket)

    def dismiss(self, link: Link, reason: str) -> None:
        """The other side has said goodbye, or has started again."""
        self._drop(link, reason)

    def give_up(self, link: Link) -> None:
        """The other side is silent: no neighbor for now, but the link may be heard again."""
        link.state = LinkState.SILENT
        self._ctx.timer("silence", link.id.to_bytes(8, "big"), self._ctx.config.mesh.silence_timeout)
        self._down(link, "silent")

    def on_silence_timeout(self, about: bytes) -> None:
        """It has been silent for too long."""
        link = self._links.get(LinkId(int.from_bytes(about, "big")))
        if link is not None:
            self._ctx.count("links_silent_closed")
            self._drop(link, "silent")

    def revive(self, link: Link) -> None:
        """A silent link is heard again."""
        self._ctx.cancel_timer("silence", link.id.to_bytes(8, "big"))
        link.state = LinkState.UP
        self._current[link.peer] = link
        self._ctx.count("links_revived")
        self._say_up(link, replaced=False)

    def on_resumed(self, event: LinkResumed) -> None:
        """A link goes on over another path, which had a number of its own until now."""
        made = self._links.pop(event.by, None)
        link = self._links.get(event.link)
        if made is None or link is None or link.connected is None:
            return
        self._ctx.state(LinkEnded(made.id))
        link.connected = replace(
            link.connected,
            local_kind=event.local_kind,
            remote_kind=event.remote_kind,
            local_address=event.local_address,
            remote_address=event.remote_address,
        )
        link.pulse.hear(self._ctx.now.mono)
        self._ctx.count("links_resumed")
        if link.state is LinkState.SILENT:
            self.revive(link)
        else:
            self._say_up(link, replaced=True)

    def fail(self, link: Link, reason: str) -> None:
        """End it because of what the other side did."""
        self._ctx.count(f"link_{reason}")
        self._ctx.notify("link_refused", peer=link.peer, link=link.id, reason=reason)
        self._drop(link, reason)

    def _drop(self, link: Link, reason: str, ticket: Ticket | None = None) -> None:
        if self._links.pop(link.id, None) is not None:
            self._ctx.after(ticket, CloseLink(link.id))
            self._forget(link, reason)

    def _forget(self, link: Link, reason: str) -> None:
        self._ctx.cancel_timer("hello", link.id.to_bytes(8, "big"))
        self._ctx.cancel_timer("silence", link.id.to_bytes(8, "big"))
        self._ctx.state(LinkEnded(link.id))
        self._down(link, reason)

    def _down(self, link: Link, reason: str) -> None:
        """If it was the one to its peer, that is no neighbor any more."""
        if self._current.get(link.peer) is link:
            del self._current[link.peer]
            self._count_loss(reason)
            self._ctx.notify(
                "link_down", peer=link.peer, name=self._membership.name_of(link.peer) or "", link=link.id, reason=reason
            )
            self._ctx.state(NeighborDown(link.peer, reason))

    def _count_loss(self, reason: str) -> None:
        self._ctx.count("links_lost")
        reason = reason if reason in LOSS_REASONS else "other"
        self._ctx.count(f"links_lost_{reason}")

    def on_hello_timeout(self, about: bytes) -> None:
        """Connected, but silent about who it is."""
        link = self._links.get(LinkId(int.from_bytes(about, "big")))
        if link is not None:
            self.fail(link, "hello_missing")

    # -- talking ------------------------------------------------------------------------------------------------------

    def send(self, link: Link, message: Message, priority: Priority = Priority.CONTROL) -> None:
        """Send on a link that is up."""
        self._ctx.do(SendMessage(link.id, encode_message(message), priority))

    def send_to(
        self, peer: PeerId, message: Message, priority: Priority = Priority.CONTROL, ticket: Ticket | None = None
    ) -> bool:
        """Send to a neighbor, once ``ticket`` is durable; False if it is none."""
        link = self._current.get(peer)
        if link is None:
            return False
        self._ctx.after(ticket, SendMessage(link.id, encode_message(message), priority))
        return True
