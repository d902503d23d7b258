"""All byte streams of this node, over links and over relays: who waits for one, how many there are, how they ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.errors import Code
from meshd.ids import PeerId, RequestId

# Policy
MAX_STREAMS = 256  # at one time, those not answered yet among them; each holds a file descriptor and a window
MAX_STREAMS_PER_PEER = 32  # of these with one peer, so that none can take them all
MAX_ACCEPTORS = 64  # requests that wait for a stream
MAX_WAITERS = 8  # requests that wait for the end of one stream
MAX_OUTCOMES = 256  # ended streams that are remembered for who asks a little late

REFUSALS = {
    "no_acceptor": (Code.REFUSED, "Nobody over there accepts a stream of that application now."),
    "busy": (Code.BUSY, "The peer has too many streams open."),
    "handshake": (Code.REFUSED, "The peer could not agree with us about the stream's keys."),
}


@dataclass(slots=True, kw_only=True)
class Stream:
    """A stream, or the wish for one: then ``request`` is who wants it. ``handle`` is its number for people."""

    peer: PeerId
    application: str
    descriptor: int
    ours: bool
    handle: int = 0
    request: RequestId | None = None
    opened: float = 0.0  # monotonic seconds
    waiters: list[RequestId] = field(default_factory=list)

    @property
    def timer(self) -> bytes:
        """What its timers are about."""
        return self.handle.to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class Acceptor:
    """Somebody who wants one stream of that application, from ``peer`` or (None) from any member."""

    request: RequestId
    application: str
    peer: PeerId | None
    descriptor: int


class StreamBook:
    """Who waits for a stream, and which there are."""

    __slots__ = ("_acceptors", "_ctx", "_last_handle", "_membership", "_outcomes", "_streams")

    def __init__(self, ctx: Context, membership: Membership) -> None:
        self._ctx = ctx
        self._membership = membership
        self._streams: dict[int, Stream] = {}  # by handle
        self._acceptors: dict[RequestId, Acceptor] = {}
        self._outcomes: dict[int, dict[str, object]] = {}  # by handle, oldest first
        self._last_handle = 0

    def __len__(self) -> int:
        """How many there are, those not answered yet among them."""
        return len(self._streams)

    def is_full(self, peer: PeerId) -> bool:
        """Whether there is no room for another stream with that peer."""
        theirs = sum(1 for stream in self._streams.values() if stream.peer == peer)
        return len(self._streams) >= MAX_STREAMS or theirs >= MAX_STREAMS_PER_PEER

    def add(self, stream: Stream) -> None:
        """One more; it gets its handle."""
        self._last_handle += 1
        stream.handle = self._last_handle
        self._streams[stream.handle] = stream

    def remove(self, stream: Stream) -> None:
        """It was only a wish, or is over."""
        self._streams.pop(stream.handle, None)

    def timed(self, streams: Iterable[Stream], about: bytes) -> Stream | None:
        """Which of those that timer is about."""
        handle = int.from_bytes(about, "big")
        return next((stream for stream in streams if stream.handle == handle), None)

    # -- who waits for one --------------------------------------------------------------------------------------------

    def accept(
        self, request: RequestId, application: str, peer: PeerId | None, descriptor: int, timeout: float | None
    ) -> None:
        """Somebody takes the next stream of that application; ``timeout`` in seconds, None: for as long as it waits."""
        if len(self._acceptors) >= MAX_ACCEPTORS:
            self._ctx.refuse(request, Code.BUSY, f"{MAX_ACCEPTORS} requests wait for streams already.")
            return
        self._acceptors[request] = Acceptor(request, application, peer, descriptor)
        if timeout is not None:
            self._ctx.timer("acceptor", request.to_bytes(8, "big"), timeout)

    def on_accept_timeout(self, about: bytes) -> None:
        """No stream has come."""
        request = RequestId(int.from_bytes(about, "big"))
        if self.forget_acceptor(request) is not None:
            self._ctx.refuse(request, Code.NOT_ACKNOWLEDGED, "No stream of that application has come.")

    def acceptor_for(self, peer: PeerId, application: str) -> Acceptor | None:
        """Who has waited longest."""
        for acceptor in self._acceptors.values():
            if acceptor.application == application and acceptor.peer in (None, peer):
                return acceptor
        return None

    def forget_acceptor(self, request: RequestId) -> Acceptor | None:
        """It has its stream, or waits no more."""
        self._ctx.cancel_timer("acceptor", request.to_bytes(8, "big"))
        return self._acceptors.pop(request, None)

    def abandon(self, request: RequestId) -> None:
        """Nobody waits for that answer any more: neither for a stream, nor for the end of one."""
        self.forget_acceptor(request)
        for stream in self._streams.values():
            if request in stream.waiters:
                stream.waiters.remove(request)

    def wait(self, request: RequestId, handle: int) -> None:
        """Somebody wants to know how a stream ends."""
        outcome = self._outcomes.get(handle)
        stream = self._streams.get(handle)
        if outcome is not None:
            self._ctx.respond(request, **outcome)
        elif stream is None or stream.request is not None:
            detail = f"There is no stream {handle}, nor was it among the last {MAX_OUTCOMES} that have ended."
            self._ctx.refuse(request, Code.REFUSED, detail)
        elif len(stream.waiters) >= MAX_WAITERS:
            self._ctx.refuse(request, Code.BUSY, f"{MAX_WAITERS} requests wait for its end already.")
        else:
            stream.waiters.append(request)

    # -- beginnings and ends ------------------------------------------------------------------------------------------

    def opened(self, stream: Stream, request: RequestId, parameters: bytes) -> None:
        """It is there, and ``request`` is who wanted or accepted it."""
        stream.opened = self._ctx.now.mono
        self._ctx.count("streams_opened")
        described = self._described(stream)
        self._ctx.notify(
            "stream_opened",
            stream=stream.handle,
            peer=stream.peer,
            name=described["name"],
            application=stream.application,
            ours=stream.ours,
        )
        self._ctx.respond(request, **described, parameters=parameters)  # of an accepted one; the other side knows

    def ended(self, stream: Stream, reason: str, sent_size: int | None, received_size: int | None) -> None:
        """It is over, and all who wait for that are told."""
        self.remove(stream)
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

    def _described(self, stream: Stream) -> dict[str, object]:
        return {
            "stream": stream.handle,
            "peer_id": stream.peer,
            "name": self._membership.name_of(stream.peer) or "",
            "application": stream.application,
        }
