"""A person's ping: end to end, by whatever path there is."""

from __future__ import annotations

from dataclasses import dataclass

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.membership.membership import Membership
from meshd.core.overlay.routing import Routing
from meshd.errors import Code
from meshd.ids import PeerId, RequestId
from meshd.wire.messages import Ping, PingAnswer

# Policy
MAX_PINGS = 256  # under way at once


@dataclass(slots=True)
class _Ping:
    request: RequestId
    peer: PeerId
    sent: float
    via: tuple[PeerId, ...]


class Pinging:
    """Pings that somebody waits for."""

    __slots__ = ("_ctx", "_membership", "_pings", "_post", "_routing")

    def __init__(self, ctx: Context, membership: Membership, routing: Routing, post: Post) -> None:
        self._ctx = ctx
        self._membership = membership
        self._routing = routing
        self._post = post
        self._pings: dict[int, _Ping] = {}

    def begin(self, request: RequestId, peer: PeerId, timeout: float) -> None:
        """Ping a member."""
        if peer == self._ctx.own_id:
            self._ctx.refuse(request, Code.REFUSED, "That is this node itself.")
            return
        if len(self._pings) >= MAX_PINGS:
            self._ctx.refuse(request, Code.BUSY)
            return
        number = self._ctx.rng.getrandbits(63)
        if not self._post.send(peer, Ping(number)):
            self._ctx.refuse(request, Code.PEER_UNREACHABLE)
            return
        self._pings[number] = _Ping(request, peer, self._ctx.now.mono, self._routing.path(peer))
        self._ctx.timer("ping", number.to_bytes(8, "big"), timeout)

    def on_ping(self, peer: PeerId, message: Ping) -> None:
        """Answer."""
        self._post.send(peer, PingAnswer(message.number))

    def on_answer(self, peer: PeerId, message: PingAnswer) -> None:
        """Measure."""
        ping = self._pings.get(message.number)
        if ping is not None and ping.peer == peer:
            del self._pings[message.number]
            self._ctx.cancel_timer("ping", message.number.to_bytes(8, "big"))
            self._ctx.respond(
                ping.request,
                peer_id=peer,
                name=self._membership.name_of(peer) or "",
                rtt=self._ctx.now.mono - ping.sent,
                via=[self._membership.name_of(hop) or "" for hop in ping.via],
            )

    def on_timeout(self, about: bytes) -> None:
        """No answer."""
        ping = self._pings.pop(int.from_bytes(about, "big"), None)
        if ping is not None:
            self._ctx.refuse(ping.request, Code.NOT_ACKNOWLEDGED)

    def abandon(self, request: RequestId) -> None:
        """Nobody waits any more."""
        for number, ping in list(self._pings.items()):
            if ping.request == request:
                del self._pings[number]
                self._ctx.cancel_timer("ping", number.to_bytes(8, "big"))
