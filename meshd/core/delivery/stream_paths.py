"""The paths of relayed streams: circuits asked for one after another, and recognised at the other end by their tags.

Each circuit of a stream has a tag that only its two ends can make, so no relay can put itself in the way of a stream
that it does not carry, or tell which circuits belong together.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from meshd.core.commands import AttachCircuit
from meshd.core.context import Context
from meshd.core.delivery.circuits import Circuits, End
from meshd.core.delivery.stream_book import Stream
from meshd.core.overlay.neighbors import Link, Neighbors
from meshd.core.overlay.routing import Routing
from meshd.crypto.suite import SessionWish
from meshd.ids import PeerId
from meshd.wire.messages import Message
from meshd.wire.relaying import TAG_SIZE

# Policy
MAX_TRIES = 4  # neighbors that are asked in one round
PATH_INTERVAL = 1.0  # seconds from the first round to the second; then twice as long each time
MAX_TAGS_AHEAD = 32  # circuits in a row that never reach the other end, before the next is not recognised


@dataclass(slots=True, kw_only=True)
class RelayedStream(Stream):
    """One stream over others, or the wish for one."""

    session: bytes
    said: Message  # our handshake message, in case it has to be said again
    wish: SessionWish | None = None  # until the other end has answered
    deadline: float = 0.0  # when whoever wants it gives up, or when the search for a path ends; monotonic seconds
    circuit_key: bytes = b""
    circuit: End | None = None
    hop: PeerId | None = None  # whom we have asked for it
    connected: bool = False  # the other end has answered by it
    asked: int = 0  # number of the last circuit
    tries: int = 0  # of these, in this round
    rounds: int = 0  # since it was connected
    avoided: list[PeerId] = field(default_factory=list)  # neighbors by whom it did not work
    trouble: str = "path_lost"
    ending: bool = False  # the links room has been told to end it
    told: bool = False  # the other end knows that it is over


class StreamPaths:
    """Finds them for the streams that we have opened, recognises them for the others."""

    __slots__ = ("_circuits", "_ctx", "_neighbors", "_routing", "_tags")

    def __init__(self, ctx: Context, neighbors: Neighbors, routing: Routing, circuits: Circuits) -> None:
        self._ctx = ctx
        self._neighbors = neighbors
        self._routing = routing
        self._circuits = circuits
        self._tags: dict[bytes, RelayedStream] = {}  # of circuits that may come

    # -- the opener ---------------------------------------------------------------------------------------------------

    def find(self, stream: RelayedStream) -> float | None:
        """Ask the next neighbor for a circuit; or, when all have been asked, the seconds until the next round."""
        hop = self._next_hop(stream)
        if hop is None or stream.tries >= MAX_TRIES:
            if hop is None and not stream.avoided:
                stream.trouble = "no_route"
            delay = PATH_INTERVAL * 2**stream.rounds
            stream.tries, stream.rounds = 0, stream.rounds + 1
            stream.avoided.clear()
            return self._ctx.jitter(delay)
        stream.tries += 1
        stream.asked += 1
        number = self._circuits.ask(hop, stream.peer, _tag(stream, stream.asked))
        stream.circuit, stream.hop = (hop.id, number), hop.peer
        self._ctx.do(AttachCircuit(stream.handle, *stream.circuit))
        return None

    def _next_hop(self, stream: RelayedStream) -> Link | None:
        hop = self._routing.next_hop(stream.peer)
        if hop is not None and hop in stream.avoided:
            others = [peer for peer in self._neighbors.peers() if peer not in stream.avoided]
            hop = self._ctx.rng.choice(others) if others else None
        return None if hop is None else self._neighbors.current(hop)

    # -- the other end ------------------------------------------------------------------------------------------------

    def expect(self, stream: RelayedStream) -> None:
        """Circuits of that stream may come from now on."""
        for number in range(1, MAX_TAGS_AHEAD + 1):
            self._tags[_tag(stream, number)] = stream

    def on_circuit(self, end: End, tag: bytes) -> None:
        """A circuit that ends here: for one of the streams, if its opener has made the tag, and not shown it before."""
        stream = self._tags.get(tag)
        if stream is None or stream.ending:
            self._ctx.count("circuit_unknown")
            self._circuits.close(end, "refused")
            return
        before = stream.asked
        while _tag(stream, stream.asked) != tag:
            stream.asked += 1
            self._tags.pop(_tag(stream, stream.asked), None)
        for number in range(before, stream.asked):
            self._tags[_tag(stream, number + MAX_TAGS_AHEAD + 1)] = stream
        self.drop(stream, "replaced")
        stream.circuit = end
        self._ctx.do(AttachCircuit(stream.handle, *end))

    # -- both ---------------------------------------------------------------------------------------------------------

    def connected(self, stream: RelayedStream) -> None:
        """The other end has answered."""
        stream.connected, stream.tries, stream.rounds = True, 0, 0

    def lost(self, stream: RelayedStream, reason: str) -> None:
        """The circuit is of no use; the neighbor that we asked for it is not the first to be asked again."""
        self.drop(stream, "stalled")
        stream.trouble = reason if reason in ("no_route", "refused", "busy") else "path_lost"
        if stream.hop is not None and stream.hop != stream.peer and stream.hop not in stream.avoided:
            stream.avoided.append(stream.hop)

    def drop(self, stream: RelayedStream, reason: str) -> None:
        """It has no circuit any more."""
        if stream.circuit is not None:
            end, stream.circuit = stream.circuit, None
            self._circuits.close(end, reason)

    def forget(self, stream: RelayedStream) -> None:
        """It is over, or was never."""
        self.drop(stream, "done")
        if not stream.ours:
            for number in range(stream.asked + 1, stream.asked + MAX_TAGS_AHEAD + 1):
                self._tags.pop(_tag(stream, number), None)


def _tag(stream: RelayedStream, number: int) -> bytes:
    """What that circuit of the stream shows to its other end."""
    return hmac.digest(stream.circuit_key, b"circuit" + number.to_bytes(8, "big"), "sha256")[:TAG_SIZE]
