"""Byte streams between members without a link: agreed upon in envelopes, run over circuits, kept from path to path.

The opener sends the first message of a handshake (Noise IK), the other end its answer; envelopes say who sent each.
Both have keys then that nobody else has, and the opener asks for a circuit. When a circuit is of no use any more it
asks for another, by another neighbor if one has failed it, until the stream goes on or its time is over.
"""

from __future__ import annotations

from meshd.core.commands import EndRelayedStream, OpenRelayedStream
from meshd.core.context import Context
from meshd.core.delivery.circuits import Circuits, End
from meshd.core.delivery.post import Post
from meshd.core.delivery.stream_book import REFUSALS, StreamBook
from meshd.core.delivery.stream_paths import RelayedStream, StreamPaths
from meshd.core.events import RelayedStreamEnded
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.overlay.routing import Routing
from meshd.errors import Code, MalformedMessage, Rejected
from meshd.ids import PeerId, RequestId
from meshd.wire.frame import ResetCode
from meshd.wire.messages import (
    PathWanted,
    RelayedStreamAccepted,
    RelayedStreamOver,
    RelayedStreamRefused,
    RelayedStreamWanted,
)
from meshd.wire.relaying import (
    CIRCUIT_KEY_SIZE,
    STREAM_SESSION_SIZE,
    StreamPurpose,
    decode_purpose,
    encode_purpose,
)

# Specification (ours: docs/protocol.md, relayed streams)
_PROLOGUE = b"meshd relayed stream 1\0"

# Policy
WISH_INTERVAL = 2.0  # seconds after which a wish without an answer is sent again: envelopes may be lost
RECOVERY_TIMEOUT = 30.0  # seconds without a path after which a stream is over
MAX_ENDED = 256  # ended streams of which the other end may still ask

_ERRORS = {
    "no_route": (Code.PEER_UNREACHABLE, "Nobody who could relay has a way to it."),
    "refused": (Code.REFUSED, "Those between the two do not relay."),
    "busy": (Code.BUSY, "Those between the two relay too much already."),
}
_REASONS: dict[int, str] = {
    ResetCode.DONE: "done",
    ResetCode.READER_GONE: "closed_by_peer",
    ResetCode.WITHDRAWN: "withdrawn",
}


class RelayedStreams:
    """All streams of this node that run over others."""

    __slots__ = (
        "_book",
        "_ctx",
        "_ended",
        "_membership",
        "_paths",
        "_post",
        "_streams",
    )

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        neighbors: Neighbors,
        routing: Routing,
        post: Post,
        circuits: Circuits,
        book: StreamBook,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._post = post
        self._paths = StreamPaths(ctx, neighbors, routing, circuits)
        self._book = book
        self._streams: dict[tuple[PeerId, bytes], RelayedStream] = {}  # by peer and session
        self._ended: dict[tuple[PeerId, bytes], int] = {}  # what the other end is to know, oldest first

    # -- the opener ---------------------------------------------------------------------------------------------------

    def open(
        self, request: RequestId, peer: PeerId, application: str, parameters: bytes, descriptor: int, timeout: float
    ) -> None:
        """Somebody wants a stream to a member without a link; ``timeout`` in seconds until bytes can pass."""
        if self._book.is_full(peer):
            self._ctx.refuse(request, Code.BUSY, "Too many streams are open.")
            return
        session = self._ctx.rng.randbytes(STREAM_SESSION_SIZE)
        key = self._membership.sealing_key(peer)
        purpose = encode_purpose(StreamPurpose(application, parameters))
        try:
            if key is None:
                raise Rejected("sealing_key_unknown")
            first, wish = self._ctx.suite.begin_session(key, self._prologue(self._ctx.own_id, peer, session), purpose)
        except Rejected:
            self._ctx.refuse(request, Code.PEER_UNREACHABLE, "Its sealing key is not known here.")
            return
        said = RelayedStreamWanted(session, first)
        if not self._post.send(peer, said):
            self._ctx.refuse(request, Code.PEER_UNREACHABLE)
            return
        stream = RelayedStream(
            peer=peer,
            application=application,
            descriptor=descriptor,
            ours=True,
            request=request,
            session=session,
            said=said,
            wish=wish,
            deadline=self._ctx.now.mono + timeout,
        )
        self._book.add(stream)
        self._streams[peer, session] = stream
        self._ctx.timer("relayed", stream.timer, min(WISH_INTERVAL, timeout))

    def on_accepted(self, peer: PeerId, message: RelayedStreamAccepted) -> None:
        """The other end agrees. It may say so twice."""
        stream = self._streams.get((peer, message.session))
        if stream is None:
            self._ctx.count("streams_late")
            self._say_over(peer, message.session)
            return
        if stream.wish is None or not stream.ours:
            return
        try:
            stream.circuit_key, keys = stream.wish.read(message.handshake)
        except Rejected as rejected:
            self._ctx.count(f"rejected_{rejected.reason}")
            return
        stream.wish = None
        self._ctx.do(OpenRelayedStream(stream.handle, stream.descriptor, keys.sending, keys.receiving))
        self._find_path(stream)

    def on_refused(self, peer: PeerId, message: RelayedStreamRefused) -> None:
        """The other end does not agree."""
        stream = self._streams.get((peer, message.session))
        if stream is None or stream.wish is None or stream.request is None:
            self._ctx.count("streams_late")
            return
        self._ctx.refuse(
            stream.request, *REFUSALS.get(message.reason, (Code.REFUSED, "The peer gave a reason of a later version."))
        )
        self._remove(stream)

    def _find_path(self, stream: RelayedStream) -> None:
        left = max(stream.deadline - self._ctx.now.mono, 0.0)
        pause = self._paths.find(stream)
        self._ctx.timer("relayed", stream.timer, left if pause is None else min(pause, left))

    # -- the other end ------------------------------------------------------------------------------------------------

    def on_wanted(self, peer: PeerId, message: RelayedStreamWanted) -> None:
        """A member wants a stream."""
        known = self._streams.get((peer, message.session))
        if known is not None:
            if not known.ours:
                self._post.send(peer, known.said)  # our answer was lost
            return
        if (peer, message.session) in self._ended:
            self._say_over(peer, message.session)
            return
        try:
            request = self._ctx.suite.answer_session(
                self._prologue(peer, self._ctx.own_id, message.session), message.handshake
            )
            purpose = decode_purpose(request.payload)
            acceptor = self._book.acceptor_for(peer, purpose.application)
            if acceptor is None:
                raise Rejected("no_acceptor")
            if self._book.is_full(peer):
                raise Rejected("busy")
            circuit_key = self._ctx.rng.randbytes(CIRCUIT_KEY_SIZE)
            answer, keys = request.write(circuit_key)
        except (MalformedMessage, Rejected) as error:
            reason = error.reason if isinstance(error, Rejected) and error.reason in REFUSALS else "handshake"
            self._ctx.count("streams_refused")
            self._post.send(peer, RelayedStreamRefused(message.session, reason))
            return
        self._book.forget_acceptor(acceptor.request)
        said = RelayedStreamAccepted(message.session, answer)
        stream = RelayedStream(
            peer=peer,
            application=purpose.application,
            descriptor=acceptor.descriptor,
            ours=False,
            session=message.session,
            said=said,
            circuit_key=circuit_key,
        )
        self._book.add(stream)
        self._streams[peer, message.session] = stream
        self._paths.expect(stream)
        self._ctx.do(OpenRelayedStream(stream.handle, stream.descriptor, keys.sending, keys.receiving))
        self._book.opened(stream, acceptor.request, purpose.parameters)
        self._post.send(peer, said)
        self._search(stream)

    def on_circuit(self, end: End, tag: bytes) -> None:
        """A circuit that ends here."""
        self._paths.on_circuit(end, tag)

    def on_path_wanted(self, peer: PeerId, message: PathWanted) -> None:
        """To the other end, our circuit is of no use."""
        stream = self._streams.get((peer, message.session))
        if stream is None:
            self._say_over(peer, message.session)
        elif stream.ours and stream.connected:
            self._path_lost(stream, "stalled")

    # -- both: paths --------------------------------------------------------------------------------------------------

    def on_connected(self, handle: int) -> None:
        """The other end has answered by the circuit that the stream has now."""
        stream = self._with_handle(handle)
        if stream is None or stream.circuit is None:
            return
        self._paths.connected(stream)
        self._ctx.cancel_timer("relayed", stream.timer)
        if stream.request is not None:
            request, stream.request = stream.request, None
            self._book.opened(stream, request, b"")
        self._ctx.count("relayed_paths")

    def on_stalled(self, handle: int, reason: str) -> None:
        """The links room says that the circuit is of no use."""
        stream = self._with_handle(handle)
        if stream is not None:
            self._ctx.count("relayed_stalls")
            self._path_lost(stream, reason)

    def on_circuit_over(self, end: End, reason: str) -> None:
        """The circuit is gone."""
        stream = next((each for each in self._streams.values() if each.circuit == end), None)
        if stream is not None:
            stream.circuit = None
            self._path_lost(stream, reason)

    def _path_lost(self, stream: RelayedStream, reason: str) -> None:
        self._paths.lost(stream, reason)
        if stream.ending:
            return
        if stream.connected:
            stream.connected = False
            self._search(stream)
            self._ctx.notify("stream_path_lost", stream=stream.handle, peer=stream.peer, reason=reason)
        if stream.ours:
            self._find_path(stream)
        else:
            self._post.send(stream.peer, PathWanted(stream.session))

    def _search(self, stream: RelayedStream) -> None:
        """There is no path, and so much time to find one."""
        stream.deadline = self._ctx.now.mono + RECOVERY_TIMEOUT
        self._ctx.timer("relayed", stream.timer, RECOVERY_TIMEOUT)

    def on_timer(self, about: bytes) -> None:
        """Time to say it again, to ask again, or to give up."""
        stream = self._with_handle(int.from_bytes(about, "big"))
        if stream is None or stream.connected:
            return
        left = stream.deadline - self._ctx.now.mono
        if left <= 0.0:
            self._give_up(stream)
        elif stream.wish is not None:
            self._post.send(stream.peer, stream.said)
            self._ctx.timer("relayed", stream.timer, min(WISH_INTERVAL, left))
        elif stream.ours and stream.circuit is None:
            self._find_path(stream)
        else:
            self._ctx.timer("relayed", stream.timer, left)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _give_up(self, stream: RelayedStream) -> None:
        if stream.request is None:
            self._end(stream, stream.trouble)
            return
        waits = (Code.NOT_ACKNOWLEDGED, "It was asked for a stream.")
        self._withdraw(stream, *(_ERRORS.get(stream.trouble, waits) if stream.wish is None else waits))

    def abandon(self, request: RequestId) -> None:
        """Nobody waits any more."""
        for stream in [each for each in self._streams.values() if each.request == request]:
            stream.request = None
            self._withdraw(stream, Code.REFUSED, "")

    def _withdraw(self, stream: RelayedStream, code: Code, detail: str) -> None:
        """It was wanted, and is not any more."""
        if stream.request is not None:
            self._ctx.refuse(stream.request, code, detail)
        if stream.wish is None:
            self._ctx.do(EndRelayedStream(stream.handle, "withdrawn"))
        self._close(stream, int(ResetCode.WITHDRAWN))

    def on_over(self, peer: PeerId, message: RelayedStreamOver) -> None:
        """The other end says that it is over."""
        stream = self._streams.get((peer, message.session))
        if stream is None:
            return
        stream.told = True
        if stream.request is not None:
            self._withdraw(stream, Code.REFUSED, "The peer has given it up.")
        elif not stream.ending:
            self._end(stream, _REASONS.get(message.code, "failed_there"))

    def _end(self, stream: RelayedStream, reason: str) -> None:
        """Have the links room end it; it answers with how much has passed."""
        stream.ending = True
        self._ctx.cancel_timer("relayed", stream.timer)
        self._ctx.do(EndRelayedStream(stream.handle, reason))

    def on_ended(self, event: RelayedStreamEnded) -> None:
        """The links room says that the bytes have stopped."""
        stream = self._with_handle(event.stream)
        if stream is None:
            return
        if stream.request is not None:
            self._withdraw(stream, Code.REFUSED, "The descriptor could not be used.")
            return
        code = event.code
        if stream.ending and event.reason != "done":
            code = int(ResetCode.FAILED)
        self._close(stream, code)
        self._book.ended(stream, event.reason, event.sent_size, event.received_size)

    def _close(self, stream: RelayedStream, code: int) -> None:
        """It is over here; the other end is told, now and when it asks."""
        self._ended[stream.peer, stream.session] = code
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]
        if not stream.told:
            self._say_over(stream.peer, stream.session)
        self._remove(stream)

    def _say_over(self, peer: PeerId, session: bytes) -> None:
        code = self._ended.get((peer, session), int(ResetCode.FAILED))
        self._post.send(peer, RelayedStreamOver(session, code))

    def end_with(self, peer: PeerId, reason: str) -> None:
        """That peer is no member any more."""
        for stream in [each for each in self._streams.values() if each.peer == peer]:
            stream.told = True  # or would not be believed
            if stream.request is not None:
                self._withdraw(stream, Code.PEER_UNREACHABLE, "")
            elif not stream.ending:
                self._end(stream, reason)

    def end_all(self, reason: str) -> None:
        """We are no member any more."""
        for peer in {each.peer: None for each in self._streams.values()}:
            self.end_with(peer, reason)

    def sweep(self) -> None:
        """Whose admission has ended is no member any more."""
        for peer in {each.peer: None for each in self._streams.values()}:
            if not self._membership.is_member(peer):
                self.end_with(peer, "admission_expired")

    # -- the parts ----------------------------------------------------------------------------------------------------

    def _prologue(self, opener: PeerId, other: PeerId, session: bytes) -> bytes:
        return _PROLOGUE + self._membership.mesh + opener + other + session

    def _with_handle(self, handle: int) -> RelayedStream | None:
        return next((stream for stream in self._streams.values() if stream.handle == handle), None)

    def _remove(self, stream: RelayedStream) -> None:
        self._ctx.cancel_timer("relayed", stream.timer)
        self._paths.forget(stream)
        self._book.remove(stream)
        del self._streams[stream.peer, stream.session]
