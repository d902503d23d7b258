"""The way that envelopes to a member really take: each hop in turn is asked where it would hand them.

Every relay goes by its own view of the mesh, so the way may differ from what our records say. A hop is asked by a
sealed message of its own, and answers by the rule that it forwards by. So nothing is recorded on the envelopes
themselves, nobody between learns more than of any other envelope, and one question costs one answer. Times are there
and back between us and each hop. What the answers give away, and to whom: docs/threats.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.overlay.routing import MAX_HOPS, Routing
from meshd.errors import Code
from meshd.ids import PeerId, RequestId
from meshd.rates import RateLimiter
from meshd.wire.messages import HopTold, HopWanted

# Policy
MAX_TRACES = 16  # under way at once
MAX_LOST = 2  # questions without any answer after which a hop counts as silent
ANSWER_RATE = 10.0  # questions a second of one member; a trace over 4 hops asks each of them 3
ANSWER_BURST = 60
MAX_ASKERS = 256  # whose questions are counted


@dataclass(slots=True)
class _Hop:
    peer: PeerId
    told: bool  # whether the hop before has named it; else our own records do
    rtts: list[float] = field(default_factory=list)
    lost: int = 0
    answer: HopTold | None = None


@dataclass(slots=True)
class _Trace:
    request: RequestId
    destination: PeerId
    expected: tuple[PeerId, ...]  # the way by our own records, the destination included
    probes: int
    timeout: float
    began: float
    hops: list[_Hop]
    number: int = 0  # of the question that is open
    asked: float = 0.0


class Tracing:
    """Traces that somebody waits for, and the questions of others."""

    __slots__ = ("_allowances", "_ctx", "_membership", "_neighbors", "_post", "_routing", "_traces")

    def __init__(
        self, ctx: Context, membership: Membership, neighbors: Neighbors, routing: Routing, post: Post
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._routing = routing
        self._post = post
        self._traces: dict[int, _Trace] = {}  # by the number of the open question
        self._allowances = RateLimiter(ANSWER_RATE, ANSWER_BURST, MAX_ASKERS)

    # -- asking -------------------------------------------------------------------------------------------------------

    def begin(self, request: RequestId, peer: PeerId, probes: int, timeout: float) -> None:
        """Find the way to a member: ``probes`` questions to each hop, each answered within ``timeout`` or lost."""
        if peer == self._ctx.own_id:
            self._ctx.refuse(request, Code.REFUSED, "That is this node itself.")
            return
        if len(self._traces) >= MAX_TRACES:
            self._ctx.refuse(request, Code.BUSY)
            return
        first = self._routing.next_hop(peer)
        if first is None:
            self._ctx.refuse(request, Code.PEER_UNREACHABLE)
            return
        expected = (*self._routing.path(peer), peer)
        hops = [_Hop(first, told=False)]
        self._ask(_Trace(request, peer, expected, probes, timeout, self._ctx.now.mono, hops))

    def _ask(self, trace: _Trace) -> None:
        """The last hop found so far, once more."""
        hop = trace.hops[-1]
        previous = trace.hops[-2].peer if len(trace.hops) > 1 else self._ctx.own_id
        trace.number = self._ctx.rng.getrandbits(63)
        trace.asked = self._ctx.now.mono
        if self._post.send(hop.peer, HopWanted(trace.number, trace.destination, previous)):
            self._traces[trace.number] = trace
            self._ctx.timer("trace", trace.number.to_bytes(8, "big"), trace.timeout)
        else:  # a hop that we do not know, or have no way to ourselves
            hop.lost += 1
            self._go_on(trace)

    def on_told(self, peer: PeerId, message: HopTold) -> None:
        """The answer of a hop."""
        trace = self._traces.get(message.number)
        if trace is None or trace.hops[-1].peer != peer:
            return
        self._close(trace)
        hop = trace.hops[-1]
        hop.rtts.append(self._ctx.now.mono - trace.asked)
        hop.answer = message
        self._ask_or_go_on(trace)

    def on_timeout(self, about: bytes) -> None:
        """No answer."""
        trace = self._traces.pop(int.from_bytes(about, "big"), None)
        if trace is not None:
            trace.hops[-1].lost += 1
            self._ask_or_go_on(trace)

    def _ask_or_go_on(self, trace: _Trace) -> None:
        hop = trace.hops[-1]
        silent = not hop.rtts and hop.lost >= MAX_LOST
        if silent or len(hop.rtts) + hop.lost >= trace.probes:
            self._go_on(trace)
        else:
            self._ask(trace)

    def _go_on(self, trace: _Trace) -> None:
        """To the next hop, or this was the last."""
        hop = trace.hops[-1]
        if hop.peer == trace.destination:
            self._finish(trace, "arrived" if hop.rtts else "silent")
        elif hop.answer is not None and hop.answer.hop is None:
            self._finish(trace, "no_route" if hop.answer.reason == "no_route" else "refused")
        else:
            after = self._after(trace) if hop.answer is None else hop.answer.hop
            if after is None:
                self._finish(trace, "silent")
            elif after == self._ctx.own_id or any(after == earlier.peer for earlier in trace.hops):
                self._finish(trace, "loop")
            elif len(trace.hops) >= MAX_HOPS:
                self._finish(trace, "too_far")
            else:
                trace.hops.append(_Hop(PeerId(after), told=hop.answer is not None))
                self._ask(trace)

    @staticmethod
    def _after(trace: _Trace) -> PeerId | None:
        """Where the silent last hop probably leads, by our own records."""
        peer = trace.hops[-1].peer
        if peer not in trace.expected:
            return None
        return trace.expected[trace.expected.index(peer) + 1]

    def _finish(self, trace: _Trace, outcome: str) -> None:
        self._ctx.respond(
            trace.request,
            peer_id=trace.destination,
            name=self._name(trace.destination),
            outcome=outcome,
            hops=[
                {
                    "peer_id": hop.peer,
                    "name": self._name(hop.peer),
                    "told": hop.told,
                    "rtt": min(hop.rtts, default=None),
                    "rtts": list(hop.rtts),
                    "lost": hop.lost,
                    "busy": hop.answer is not None and hop.answer.reason == "busy",
                }
                for hop in trace.hops
            ],
            expected=[self._name(peer) for peer in trace.expected[:-1]],
            elapsed=self._ctx.now.mono - trace.began,
        )

    def _name(self, peer: PeerId) -> str:
        return self._membership.name_of(peer) or ""

    def _close(self, trace: _Trace) -> None:
        del self._traces[trace.number]
        self._ctx.cancel_timer("trace", trace.number.to_bytes(8, "big"))

    def abandon(self, request: RequestId) -> None:
        """Nobody waits any more."""
        for trace in [trace for trace in self._traces.values() if trace.request == request]:
            self._close(trace)

    # -- being asked --------------------------------------------------------------------------------------------------

    def on_wanted(self, peer: PeerId, message: HopWanted) -> None:
        """Answer as we would forward, to members, so often; beyond that say nothing."""
        if self._allowances.take(peer, self._ctx.now.mono) > 0:
            self._ctx.count("traces_refused")
            return
        hop, reason = self._hop(message)
        self._post.send(peer, HopTold(message.number, hop, reason))

    def _hop(self, message: HopWanted) -> tuple[PeerId | None, str]:
        """By the rule that ``Relay`` goes by."""
        if message.destination == self._ctx.own_id:
            return None, "arrived"
        if not self._ctx.config.mesh.relay:
            return None, "refused"
        hop = self._routing.next_hop(message.destination, but=message.previous)
        if hop is None:
            return None, "no_route"
        link = self._neighbors.current(hop)
        return hop, "busy" if link is None or link.congested else ""
