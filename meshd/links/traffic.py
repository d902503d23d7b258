"""What goes over one link: messages by priority, streams and circuits; in frames, both ways."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from meshd.core import events as ev
from meshd.errors import MalformedMessage
from meshd.ids import LinkId
from meshd.links.association import BINARY_PPID, BULK_STREAM
from meshd.links.circuits import LinkCircuits
from meshd.links.outbox import Outbox
from meshd.links.streams import LinkStreams
from meshd.transport.events import Message
from meshd.wire.frame import FrameType, Reassembler, decode_frame, encode_datagram, fragment


class LinkTraffic:
    """Called on asyncio's loop; nothing waits.

    ``wake()`` says that ``take`` may give something, ``end(reason)`` that the link cannot go on; ``tell`` gets the
    messages and the ends of streams. Once ``is_over`` nothing is taken or given any more.
    """

    def __init__(
        self,
        link: LinkId,
        *,
        wake: Callable[[], None],
        tell: Callable[[ev.Event], None],
        end: Callable[[str], None],
        counters: Counter[str],
    ) -> None:
        self._link = link
        self._wake = wake
        self._tell = tell
        self._end = end
        self._counters = counters
        self._reassembler = Reassembler()
        self.outbox = Outbox()
        self.streams = LinkStreams(link, queue=self._queue, wake=wake, tell=tell, counters=counters)
        self.circuits = LinkCircuits(queue=self._queue, wake=wake, counters=counters)
        self._others_first = False  # whose turn it is to send bulk: our own streams', or the circuits'
        self.is_over = False

    def send(self, data: bytes, priority: int, *, reliable: bool) -> None:
        """Queue one message. Raises LocalMisuse if it is longer than any, or not ``reliable`` and than a frame."""
        frames = fragment(data, priority) if reliable else [encode_datagram(data, priority)]
        if not self.outbox.put(frames, priority):
            if reliable:
                self._end("send_overflow")
            else:
                self._counters["message_unsent"] += 1
            return
        # Events never come from inside a command, so that the core is not entered twice.
        if self.outbox.crossed_high():
            asyncio.get_running_loop().call_soon(self._tell, ev.SendBufferHigh(self._link))
        self._wake()

    def receive(self, message: Message) -> None:
        """Take one of the peer's. Raises MalformedMessage."""
        if message.ppid != BINARY_PPID or message.stream > BULK_STREAM:
            raise MalformedMessage(f"an SCTP message of protocol {message.ppid} on stream {message.stream}")
        frame = decode_frame(message.data)
        if frame.type == FrameType.MESSAGE:
            whole = self._reassembler.feed(frame)
        elif frame.type <= FrameType.RESET:
            self.streams.on_frame(frame)
            return
        elif frame.type in (FrameType.CIRCUIT, FrameType.CIRCUIT_CREDIT):
            self.circuits.on_frame(frame)
            return
        elif frame.type == FrameType.DATAGRAM:
            whole = frame.payload
        else:
            self._counters["frame_unknown"] += 1
            return
        if whole is not None:
            self._tell(ev.MessageReceived(self._link, whole))

    def take(self) -> bytes | None:
        """The frame that SCTP is to have next."""
        if self.is_over:
            return None
        outbox = self.outbox
        # A stream that is looked at may end, and leave a last word in the outbox.
        frame = outbox.take() or self._take_bulk() or outbox.take()
        if outbox.crossed_low():
            asyncio.get_running_loop().call_soon(self._tell, ev.SendBufferLow(self._link))
        return frame

    def end_all(self) -> None:
        """The link is going, and its streams and circuits with it."""
        self.streams.end_all()
        self.circuits.close_all()

    def _take_bulk(self) -> bytes | None:
        """Streams that end here and circuits take turns, a frame each."""
        self._others_first = not self._others_first
        if self._others_first:
            return self.circuits.take() or self.streams.take()
        return self.streams.take() or self.circuits.take()

    def _queue(self, frame: bytes, priority: int) -> None:
        if not self.outbox.put([frame], priority):
            self._end("send_overflow")
        self._wake()
