"""Byte streams between neighbors: asked for, accepted, ended. The bytes themselves never come here.

Somebody waits for a stream of an application (``accept``), somebody at the other end of a link wants one (``open``).
Each has handed a file descriptor to its daemon, known here by a number; ``OpenStream`` joins it to the link.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshd.core.commands import CloseStream, OpenStream
from meshd.core.context import Context
from meshd.core.events import StreamEnded
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Link, Neighbors
from meshd.errors import Code
from meshd.ids import LinkId, PeerId, RequestId
from meshd.wire.frame import ResetCode
from meshd.wire.messages import StreamAccepted, StreamRefused, StreamWanted

# Policy
MAX_STREAMS = 256  # at one time, those not answered yet among them; each holds a file descriptor and a window
MAX_STREAMS_PER_PEER = 32  # of these with one peer, so that none can take them all
MAX_ACCEPTORS = 64  # requests that wait for a stream
MAX_WAITERS = 8  # requests that wait for the end of one stream
MAX_OUTCOMES = 256  # ended streams that are remembered for who asks a little late

_REFUSALS = {
    "no_acceptor": (Code.REFUSED, "Nobody over there accepts a stream of that application now."),
    "busy": (Code.BUSY, "The peer has too many streams open."),
}


@dataclass(slots=True)
class _Stream:
    """A stream, or the wish for one: then ``request`` is who wants it. ``handle`` is its number for people."""

    handle: int
    link: LinkId
    number: int
    peer: PeerId
    application: str
    descriptor: int
    request: RequestId | None = None
    opened: float = 0.0  # monotonic seconds
    waiters: list[RequestId] = field(default_factory=list)

    @property
    def timer(self) -> bytes:
        return self.handle.to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class _Acceptor:
    """Somebody who wants one stream of that application, from ``peer`` or (None) from any member."""

    request: RequestId
    application: str
    peer: PeerId | None
    descriptor: int


@dataclass(slots=True)
class _Numbers:
    """The last stream numbers that each side has used on one link."""

    ours: int = 0
    theirs: int = 0


class Streams:
    """All streams of this node, and who waits for one."""

    __slots__ = ("_acceptors", "_ctx", "_last_handle", "_membership", "_neighbors", "_numbers", "_outcomes", "_streams")

    def __init__(self, ctx: Context, membership: Membership, neighbors: Neighbors) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._streams: dict[tuple[LinkId, int], _Stream] = {}
        self._acceptors: dict[RequestId, _Acceptor] = {}
        self._numbers: dict[LinkId, _Numbers] = {}
        self._outcomes: dict[int, dict[str, object]] = {}  # by handle, oldest first
        self._last_handle = 0

    def __len__(self) -> int:
        """How many there are, those not answered yet among them."""
        return len(self._streams)

    # -- what people and programs ask ---------------------------------------------------------------------------------

    def open(
        self,
        request: RequestId,
        peer: PeerId,
        application: str,
        parameters: bytes,
        descriptor: int,
        timeout: float,
    ) -> None:
        """Somebody wants a stream to that peer; ``timeout`` in seconds for its answer."""
        if peer == self._ctx.own_id:
            self._ctx.refuse(request, Code.REFUSED, "That is this node itself.")
            return
        link = self._neighbors.current(peer)
        if link is None:
            self._ctx.refuse(request, Code.PEER_UNREACHABLE, "Streams need a direct link for now, and there is none.")
            return
        if self._is_full(peer):
            self._ctx.refuse(request, Code.BUSY, "Too many streams are open.")
            return
        numbers = self._numbers.setdefault(link.id, _Numbers())
        numbers.ours = numbers.ours + 2 if numbers.ours else self._first(self._ctx.own_id, peer)
        stream = self._add(link, numbers.ours, application, descriptor)
        stream.request = request
        self._ctx.timer("stream", stream.timer, timeout)
        self._neighbors.send(link, StreamWanted(stream.number, application, parameters))

    def accept(
        self, request: RequestId, application: str, peer: PeerId | None, descriptor: int, timeout: float | None
    ) -> None:
        """Somebody takes the next stream of that application; ``timeout`` in seconds, None: for as long as it waits."""
        if len(self._acceptors) >= MAX_ACCEPTORS:
            self._ctx.refuse(request, Code.BUSY, f"{MAX_ACCEPTORS} requests wait for streams already.")
            return
        self._acceptors[request] = _Acceptor(request, application, peer, descriptor)
        if timeout is not None:
            self._ctx.timer("acceptor", request.to_bytes(8, "big"), timeout)

    def wait(self, request: RequestId, handle: int) -> None:
        """Somebody wants to know how a stream ends."""
        outcome = self._outcomes.get(handle)
        stream = next((each for each in self._streams.values() if each.handle == handle and each.request is None), None)
        if outcome is not None:
            self._ctx.respond(request, **outcome)
        elif stream is None:
            detail = f"There is no stream {handle}, nor was it among the last {MAX_OUTCOMES} that have ended."
            self._ctx.refuse(request, Code.REFUSED, detail)
        elif len(stream.waiters) >= MAX_WAITERS:
            self._ctx.refuse(request, Code.BUSY, f"{MAX_WAITERS} requests wait for its end already.")
        else:
            stream.waiters.append(request)

    def abandon(self, request: RequestId) -> None:
        """Nobody waits any more."""
        self._forget_acceptor(request)
        for stream in list(self._streams.values()):
            if stream.request == request:
                self._withdraw(stream)
            elif request in stream.waiters:
                stream.waiters.remove(request)

    def on_open_timeout(self, about: bytes) -> None:
        """The peer has not answered."""
        for stream in list(self._streams.values()):
            if stream.timer == about and stream.request is not None:
                self._ctx.refuse(stream.request, Code.NOT_ACKNOWLEDGED, "It was asked for a stream.")
                self._withdraw(stream)

    def on_accept_timeout(self, about: bytes) -> None:
        """No stream has come."""
        request = RequestId(int.from_bytes(about, "big"))
        if self._forget_acceptor(request) is not None:
            self._ctx.refuse(request, Code.NOT_ACKNOWLEDGED, "No stream of that application has come.")

    # -- what peers say -----------------------------------------------------------------------------------------------

    def on_wanted(self, link: Link, message: StreamWanted) -> None:
        """A neighbor wants a stream."""
        numbers = self._numbers.setdefault(link.id, _Numbers())
        number, last = message.stream, numbers.theirs
        first = self._first(link.peer, self._ctx.own_id)
        if number <= last or number % 2 != first % 2:
            self._neighbors.fail(link, "stream_number")
            return
        numbers.theirs = number
        acceptor = self._acceptor_for(link.peer, message.application)
        if acceptor is None or self._is_full(link.peer):
            self._ctx.count("streams_refused")
            self._neighbors.send(link, StreamRefused(number, "no_acceptor" if acceptor is None else "busy"))
            return
        self._forget_acceptor(acceptor.request)
        stream = self._add(link, number, message.application, acceptor.descriptor)
        self._neighbors.send(link, StreamAccepted(number))  # before OpenStream, which may send the first bytes at once
        self._opened(stream, acceptor.request, message.parameters)

    def on_accepted(self, link: Link, message: StreamAccepted) -> None:
        """Ours is wanted. One that was given up meanwhile has been reset already."""
        stream = self._streams.get((link.id, message.stream))
        if stream is None or stream.request is None:
            self._ctx.count("streams_late")
            return
        self._ctx.cancel_timer("stream", stream.timer)
        request, stream.request = stream.request, None
        self._opened(stream, request, b"")

    def on_refused(self, link: Link, message: StreamRefused) -> None:
        """Ours is not wanted."""
        stream = self._streams.get((link.id, message.stream))
        if stream is None or stream.request is None:
            self._ctx.count("streams_late")
            return
        code, detail = _REFUSALS.get(message.reason, (Code.REFUSED, "The peer gave a reason of a later version."))
        self._ctx.refuse(stream.request, code, detail)
        self._remove(stream)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def on_ended(self, event: StreamEnded) -> None:
        """The links room says that the bytes have stopped."""
        stream = self._streams.get((event.link, event.stream))
        if stream is not None and stream.request is None:
            self._end(stream, event.reason, event.sent_size, event.received_size)

    def on_link_ended(self, link: LinkId) -> None:
        """Its streams end with it."""
        self._numbers.pop(link, None)
        for stream in [each for each in self._streams.values() if each.link == link]:
            if stream.request is not None:
                self._ctx.refuse(stream.request, Code.PEER_UNREACHABLE, "The link was lost meanwhile.")
                self._remove(stream)
            else:
                self._end(stream, "link_lost", None, None)

    def _end(self, stream: _Stream, reason: str, sent_size: int | None, received_size: int | None) -> None:
        self._remove(stream)
        self._ctx.count("streams_done" if reason == "done" else "streams_broken")
        outcome = self._described(stream)
        outcome |= {"reason": reason, "sent_size": sent_size, "received_size": received_size}
        outcome["elapsed"] = self._ctx.now.mono - stream.opened
        self._outcomes[stream.handle] = outcome
        if len(self._outcomes) > MAX_OUTCOMES:
            del self._outcomes[next(iter(self._outcomes))]
        self._ctx.notify(
            "stream_ended",
            stream=stream.handle,
            peer=stream.peer,
            name=outcome["name"],
            application=stream.application,
            reason=reason,
            sent_size=sent_size,
            received_size=received_size,
        )
        for request in stream.waiters:
            self._ctx.respond(request, **outcome)

    # -- the parts ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _first(opener: PeerId, other: PeerId) -> int:
        """The first number that ``opener`` gives a stream."""
        return 1 if opener < other else 2

    def _is_full(self, peer: PeerId) -> bool:
        theirs = sum(1 for stream in self._streams.values() if stream.peer == peer)
        return len(self._streams) >= MAX_STREAMS or theirs >= MAX_STREAMS_PER_PEER

    def _add(self, link: Link, number: int, application: str, descriptor: int) -> _Stream:
        self._last_handle += 1
        stream = _Stream(self._last_handle, link.id, number, link.peer, application, descriptor)
        self._streams[link.id, number] = stream
        return stream

    def _opened(self, stream: _Stream, request: RequestId, parameters: bytes) -> None:
        stream.opened = self._ctx.now.mono
        self._ctx.do(OpenStream(stream.link, stream.number, stream.descriptor))
        self._ctx.count("streams_opened")
        described = self._described(stream)
        ours = stream.number % 2 == self._first(self._ctx.own_id, stream.peer) % 2
        self._ctx.notify(
            "stream_opened",
            stream=stream.handle,
            peer=stream.peer,
            name=described["name"],
            application=stream.application,
            ours=ours,
        )
        self._ctx.respond(request, **described, parameters=parameters)  # of an accepted one; the other side knows

    def _described(self, stream: _Stream) -> dict[str, object]:
        return {
            "stream": stream.handle,
            "peer_id": stream.peer,
            "name": self._membership.name_of(stream.peer) or "",
            "application": stream.application,
        }

    def _acceptor_for(self, peer: PeerId, application: str) -> _Acceptor | None:
        """Who has waited longest."""
        for acceptor in self._acceptors.values():
            if acceptor.application == application and acceptor.peer in (None, peer):
                return acceptor
        return None

    def _forget_acceptor(self, request: RequestId) -> _Acceptor | None:
        self._ctx.cancel_timer("acceptor", request.to_bytes(8, "big"))
        return self._acceptors.pop(request, None)

    def _withdraw(self, stream: _Stream) -> None:
        self._ctx.do(CloseStream(stream.link, stream.number, ResetCode.WITHDRAWN))
        self._remove(stream)

    def _remove(self, stream: _Stream) -> None:
        self._ctx.cancel_timer("stream", stream.timer)
        del self._streams[stream.link, stream.number]
