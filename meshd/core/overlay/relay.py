"""Forwarding other members' envelopes, under quotas charged to the neighbor that hands them over.

A relay sees its previous hop, the destination and the size. What goes no further is reported back along the way it
came, so that the sender can try something else at once.
"""

from __future__ import annotations

import hashlib

from meshd.core.commands import Priority, SendMessage
from meshd.core.context import Context
from meshd.core.facts import PathFailed
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Link, Neighbors
from meshd.core.overlay.routing import MAX_HOPS, Routing
from meshd.ids import PeerId, Ticket
from meshd.rates import RateLimiter
from meshd.wire.envelope import read_header
from meshd.wire.messages import Forward, Undeliverable, encode_message

# Policy
MESSAGE_RATE = 200.0  # envelopes a second from one neighbor, with a burst of twice that
BYTE_RATE = 2 * 1024 * 1024  # bytes a second, likewise
MAX_TRACES = 4096  # envelopes whose way back is remembered; the oldest is forgotten first
TRACE_SIZE = 8


class Relay:
    """This node as a relay, and as a sender through relays."""

    __slots__ = ("_bytes", "_ctx", "_membership", "_messages", "_neighbors", "_routing", "_traces")

    def __init__(self, ctx: Context, membership: Membership, neighbors: Neighbors, routing: Routing) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._routing = routing
        accounts = ctx.config.mesh.max_members
        self._messages = RateLimiter(MESSAGE_RATE, int(2 * MESSAGE_RATE), accounts)
        self._bytes = RateLimiter(BYTE_RATE, 2 * BYTE_RATE, accounts)
        self._traces: dict[bytes, tuple[PeerId | None, PeerId]] = {}  # digest → previous hop (None: us), destination

    def send(
        self,
        peer: PeerId,
        envelope: bytes,
        priority: Priority,
        ticket: Ticket | None = None,
        *,
        around: bool = False,
    ) -> bool:
        """Hand our own envelope to the next hop, once ``ticket`` is durable; False if there is no next hop.

        ``around``: not by our own link to that peer, if there is another way.
        """
        hop = self._routing.around(peer) if around else None
        if hop is None:
            hop = self._routing.next_hop(peer)
        link = None if hop is None else self._neighbors.current(hop)
        if link is None:
            return False
        self._remember(envelope, None, peer)
        self._ctx.after(ticket, SendMessage(link.id, encode_message(Forward(MAX_HOPS, envelope)), priority))
        return True

    def reaches(self, peer: PeerId) -> bool:
        """Whether there is a next hop on the way to that peer."""
        hop = self._routing.next_hop(peer)
        return hop is not None and self._neighbors.current(hop) is not None

    def on_forward(self, link: Link, message: Forward) -> bytes | None:
        """Pass it on; gives the envelope if it is for us. Raises MalformedMessage."""
        destination = read_header(message.envelope).recipient
        if destination == self._ctx.own_id:
            return message.envelope
        reason = self._why_not(link, PeerId(destination), message)
        if reason is None:
            hop = self._routing.next_hop(PeerId(destination), but=link.peer)
            assert hop is not None
            self._remember(message.envelope, link.peer, PeerId(destination))
            priority = Priority.CONTROL if len(message.envelope) < 4096 else Priority.MESSAGE
            hops = min(message.hops, MAX_HOPS) - 1
            self._neighbors.send_to(hop, Forward(hops, message.envelope), priority)
            self._ctx.count("envelopes_relayed")
        else:
            self._ctx.count(f"relay_{reason}")
            self._neighbors.send(link, Undeliverable(_trace(message.envelope), reason))
        return None

    def _why_not(self, link: Link, destination: PeerId, message: Forward) -> str | None:
        if not self._ctx.config.mesh.relay or self._membership.record(link.peer) is None:
            return "refused"
        if message.hops <= 1:
            return "too_far"
        now = self._ctx.now.mono
        if self._messages.take(link.peer, now) or self._bytes.take(link.peer, now, len(message.envelope)):
            return "busy"
        hop = self._routing.next_hop(destination, but=link.peer)
        if hop is None:
            return "no_route"
        next_link = self._neighbors.current(hop)
        if next_link is None or next_link.congested:
            return "busy"
        return None

    def _remember(self, envelope: bytes, previous: PeerId | None, destination: PeerId) -> None:
        self._traces[_trace(envelope)] = (previous, destination)
        if len(self._traces) > MAX_TRACES:
            del self._traces[next(iter(self._traces))]

    def on_undeliverable(self, message: Undeliverable) -> None:
        """Back along the way, or to ourselves."""
        trace = self._traces.pop(message.envelope, None)
        if trace is None:
            return
        previous, destination = trace
        if previous is None:
            self._ctx.count("envelopes_returned")
            self._ctx.state(PathFailed(destination))
        else:
            self._neighbors.send_to(previous, message)


def _trace(envelope: bytes) -> bytes:
    return hashlib.sha256(envelope).digest()[:TRACE_SIZE]
