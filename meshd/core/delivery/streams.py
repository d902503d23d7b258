"""Byte streams between neighbors: asked for, accepted, ended. The bytes themselves never come here.

Somebody waits for a stream of an application (``accept``), somebody at the other end of a link wants one (``open``).
Each has handed a file descriptor to its daemon, known here by a number; ``OpenStream`` joins it to the link.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshd.core.commands import CloseStream, OpenStream
from meshd.core.context import Context
from meshd.core.delivery.stream_book import REFUSALS, Stream, StreamBook
from meshd.core.events import StreamEnded
from meshd.core.overlay.neighbors import Link, Neighbors
from meshd.errors import Code
from meshd.ids import LinkId, PeerId, RequestId
from meshd.wire.frame import ResetCode
from meshd.wire.messages import StreamAccepted, StreamRefused, StreamWanted


@dataclass(slots=True, kw_only=True)
class _LinkStream(Stream):
    """A stream of a link, where it has that number."""

    link: LinkId
    number: int


@dataclass(slots=True)
class Numbers:
    """The last numbers that each side has used on one link: the smaller peer id has the odd ones, the other the even.

    Each number is higher than the last of its side.
    """

    ours: int = 0
    theirs: int = 0

    def next(self, own: PeerId, peer: PeerId) -> int:
        """The next one of ours."""
        self.ours = self.ours + 2 if self.ours else first_number(own, peer)
        return self.ours

    def take(self, number: int, own: PeerId, peer: PeerId) -> bool:
        """Note one of theirs; whether it is one that they may use now."""
        if number <= self.theirs or number % 2 != first_number(peer, own) % 2:
            return False
        self.theirs = number
        return True


def first_number(opener: PeerId, other: PeerId) -> int:
    """The first number that ``opener`` gives a stream, or a circuit."""
    return 1 if opener < other else 2


class Streams:
    """All streams between this node and its neighbors."""

    __slots__ = ("_book", "_ctx", "_neighbors", "_numbers", "_streams")

    def __init__(self, ctx: Context, neighbors: Neighbors, book: StreamBook) -> None:
        self._ctx = ctx
        self._neighbors = neighbors
        self._book = book
        self._streams: dict[tuple[LinkId, int], _LinkStream] = {}
        self._numbers: dict[LinkId, Numbers] = {}

    def __len__(self) -> int:
        """How many there are, those not answered yet among them."""
        return len(self._streams)

    def is_used(self, link: LinkId) -> bool:
        """Whether streams run on that link."""
        return any(of == link for of, _ in self._streams)

    # -- what people and programs ask ---------------------------------------------------------------------------------

    def open(
        self,
        request: RequestId,
        link: Link,
        application: str,
        parameters: bytes,
        descriptor: int,
        timeout: float,
    ) -> None:
        """Somebody wants a stream to the peer of that link; ``timeout`` in seconds for its answer."""
        if self._book.is_full(link.peer):
            self._ctx.refuse(request, Code.BUSY, "Too many streams are open.")
            return
        number = self._numbers.setdefault(link.id, Numbers()).next(self._ctx.own_id, link.peer)
        stream = self._add(link, number, application, descriptor, ours=True)
        stream.request = request
        self._ctx.timer("stream", stream.timer, timeout)
        self._neighbors.send(link, StreamWanted(stream.number, application, parameters))

    def abandon(self, request: RequestId) -> None:
        """Nobody waits any more."""
        for stream in list(self._streams.values()):
            if stream.request == request:
                self._withdraw(stream)

    def on_open_timeout(self, about: bytes) -> None:
        """The peer has not answered."""
        for stream in list(self._streams.values()):
            if stream.timer == about and stream.request is not None:
                self._ctx.refuse(stream.request, Code.NOT_ACKNOWLEDGED, "It was asked for a stream.")
                self._withdraw(stream)

    # -- what peers say -----------------------------------------------------------------------------------------------

    def on_wanted(self, link: Link, message: StreamWanted) -> None:
        """A neighbor wants a stream."""
        number = message.stream
        if not self._numbers.setdefault(link.id, Numbers()).take(number, self._ctx.own_id, link.peer):
            self._neighbors.fail(link, "stream_number")
            return
        acceptor = self._book.acceptor_for(link.peer, message.application)
        if acceptor is None or self._book.is_full(link.peer):
            self._ctx.count("streams_refused")
            self._neighbors.send(link, StreamRefused(number, "no_acceptor" if acceptor is None else "busy"))
            return
        self._book.forget_acceptor(acceptor.request)
        stream = self._add(link, number, message.application, acceptor.descriptor, ours=False)
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
        code, detail = REFUSALS.get(message.reason, (Code.REFUSED, "The peer gave a reason of a later version."))
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

    def _end(self, stream: _LinkStream, reason: str, sent_size: int | None, received_size: int | None) -> None:
        self._remove(stream)
        self._book.ended(stream, reason, sent_size, received_size)

    # -- the parts ----------------------------------------------------------------------------------------------------

    def _add(self, link: Link, number: int, application: str, descriptor: int, *, ours: bool) -> _LinkStream:
        stream = _LinkStream(
            peer=link.peer, application=application, descriptor=descriptor, ours=ours, link=link.id, number=number
        )
        self._book.add(stream)
        self._streams[link.id, number] = stream
        return stream

    def _opened(self, stream: _LinkStream, request: RequestId, parameters: bytes) -> None:
        self._ctx.do(OpenStream(stream.link, stream.number, stream.descriptor))
        self._book.opened(stream, request, parameters)

    def _withdraw(self, stream: _LinkStream) -> None:
        self._ctx.do(CloseStream(stream.link, stream.number, ResetCode.WITHDRAWN))
        self._remove(stream)

    def _remove(self, stream: _LinkStream) -> None:
        self._ctx.cancel_timer("stream", stream.timer)
        self._book.remove(stream)
        del self._streams[stream.link, stream.number]
