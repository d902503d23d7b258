"""Circuits: ways over other members' links, made hop by hop, each hop with a number of its own.

A relay learns from which neighbor a circuit comes, where it goes, and what passes: nothing of who or what it is for. It
charges the neighbor that asks and the destination. Bytes never come here: ``SpliceCircuits`` joins two links.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshd.core.commands import CloseCircuit, SpliceCircuits
from meshd.core.context import Context
from meshd.core.delivery.streams import Numbers
from meshd.core.facts import CircuitAsked, CircuitOver
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Link, LinkState, Neighbors
from meshd.core.overlay.routing import MAX_HOPS, Routing
from meshd.ids import LinkId, PeerId
from meshd.rates import RateLimiter
from meshd.wire.messages import CircuitClosed, CircuitWanted

# Policy
MAX_RELAYED_CIRCUITS = 256  # through this node at one time; each may hold a window's worth at each of its two links
MAX_CIRCUITS_PER_NEIGHBOR = 64  # of these, asked for by one neighbor
MAX_CIRCUITS_PER_DESTINATION = 64  # of these, to one member
CIRCUIT_RATE, CIRCUIT_BURST = 5.0, 64  # circuits a second that one neighbor may ask for, and at once

End = tuple[LinkId, int]  # a circuit at one link


@dataclass(frozen=True, slots=True)
class _Splice:
    """A circuit that passes: ``incoming`` is where it was asked for, by ``neighbor``."""

    incoming: End
    outgoing: End
    neighbor: PeerId
    destination: PeerId
    tag: bytes


class Circuits:
    """All circuits of this node: those that end here, and those that it relays."""

    __slots__ = ("_ctx", "_ends", "_membership", "_neighbors", "_numbers", "_rates", "_relayed", "_routing")

    def __init__(self, ctx: Context, membership: Membership, neighbors: Neighbors, routing: Routing) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._routing = routing
        self._numbers: dict[LinkId, Numbers] = {}
        self._ends: dict[End, _Splice | None] = {}  # None: it ends here
        self._relayed: dict[bytes, _Splice] = {}  # by tag
        self._rates = RateLimiter(CIRCUIT_RATE, CIRCUIT_BURST, ctx.config.links.max_links)

    def is_used(self, link: LinkId) -> bool:
        """Whether circuits end at that link or pass it."""
        return any(of == link for of, _ in self._ends)

    # -- of our own ---------------------------------------------------------------------------------------------------

    def ask(self, hop: Link, destination: PeerId, tag: bytes) -> int:
        """Ask that neighbor for a circuit; its number on that link. It may be used at once."""
        number = self._number(hop)
        self._ends[hop.id, number] = None
        self._neighbors.send(hop, CircuitWanted(number, destination, MAX_HOPS, tag))
        return number

    def close(self, end: End, reason: str) -> None:
        """One that ends here is over, or was not wanted. Nothing, if it has been lost already."""
        if end in self._ends:
            del self._ends[end]
            self._ctx.do(CloseCircuit(*end))
            self._say_closed(end, reason)

    # -- what neighbors say -------------------------------------------------------------------------------------------

    def on_wanted(self, link: Link, message: CircuitWanted) -> None:
        """A neighbor wants a circuit, to us or through us."""
        if not self._numbers.setdefault(link.id, Numbers()).take(message.circuit, self._ctx.own_id, link.peer):
            self._neighbors.fail(link, "stream_number")
            return
        end, destination = (link.id, message.circuit), PeerId(message.destination)
        if destination == self._ctx.own_id:
            self._ends[end] = None
            self._ctx.state(CircuitAsked(*end, message.tag))
            return
        onward = self._onward(link, destination)
        reason = self._why_not(link, onward, destination, message)
        if reason is not None or onward is None:
            self._ctx.count(f"circuit_{reason}")
            self._neighbors.send(link, CircuitClosed(message.circuit, reason or ""))
            return
        splice = _Splice(end, (onward.id, self._number(onward)), link.peer, destination, message.tag)
        self._ends[splice.incoming] = self._ends[splice.outgoing] = self._relayed[message.tag] = splice
        self._ctx.count("circuits_relayed")
        # In this order: the credit that the links room gives at once must find the circuit known.
        hops = min(message.hops, MAX_HOPS) - 1
        self._neighbors.send(onward, CircuitWanted(splice.outgoing[1], destination, hops, message.tag))
        rate = self._ctx.config.mesh.relay_rate
        self._ctx.do(SpliceCircuits(*splice.incoming, *splice.outgoing, destination, rate))

    def _why_not(self, link: Link, onward: Link | None, destination: PeerId, message: CircuitWanted) -> str | None:
        if not self._ctx.config.mesh.relay or self._membership.record(link.peer) is None:
            return "refused"
        if message.hops <= 1:
            return "too_far"
        if onward is None or message.tag in self._relayed:
            return "no_route"  # or it has come round: views differ
        splices = self._relayed.values()
        if (
            onward.congested
            or len(splices) >= MAX_RELAYED_CIRCUITS
            or sum(splice.neighbor == link.peer for splice in splices) >= MAX_CIRCUITS_PER_NEIGHBOR
            or sum(splice.destination == destination for splice in splices) >= MAX_CIRCUITS_PER_DESTINATION
            or self._rates.take(link.peer, self._ctx.now.mono)
        ):
            return "busy"
        return None

    def _onward(self, link: Link, destination: PeerId) -> Link | None:
        hop = self._routing.next_hop(destination, but=link.peer)
        return None if hop is None else self._neighbors.current(hop)

    def on_closed(self, link: Link, message: CircuitClosed) -> None:
        """A neighbor says that a circuit is over. One that we have closed meanwhile is known no more."""
        reason = message.reason if message.reason.isidentifier() else "closed"
        self._lose((link.id, message.circuit), reason)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def on_link_ended(self, link: LinkId) -> None:
        """Its circuits end with it."""
        self._numbers.pop(link, None)
        self._lose_link(link)

    def on_neighbor_down(self, peer: PeerId) -> None:
        """A link of it may only be silent; its circuits go another way meanwhile."""
        for link in {end[0]: None for end in self._ends}:
            found = self._neighbors.link(link)
            if found is None or (found.peer == peer and found.state is not LinkState.UP):
                self._lose_link(link)

    def _lose_link(self, link: LinkId) -> None:
        for end in [each for each in self._ends if each[0] == link]:
            self._say_closed(end, "link_lost")  # heard if the link is only silent
            self._lose(end, "link_lost")

    def _lose(self, end: End, reason: str) -> None:
        if end not in self._ends:
            return
        splice = self._ends.pop(end)
        self._ctx.do(CloseCircuit(*end))
        if splice is None:
            self._ctx.state(CircuitOver(*end, reason))
            return
        other = splice.outgoing if end == splice.incoming else splice.incoming
        del self._ends[other], self._relayed[splice.tag]
        self._ctx.do(CloseCircuit(*other))
        self._say_closed(other, reason)

    def _say_closed(self, end: End, reason: str) -> None:
        link = self._neighbors.link(end[0])
        if link is not None and link.state in (LinkState.UP, LinkState.SILENT):
            self._neighbors.send(link, CircuitClosed(end[1], reason))

    def _number(self, link: Link) -> int:
        return self._numbers.setdefault(link.id, Numbers()).next(self._ctx.own_id, link.peer)
