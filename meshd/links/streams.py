"""The pump: bytes of open streams between one link and the file descriptors of those who use them.

Nothing is read ahead: a descriptor is read when the link has room for a frame and the receiver has granted credit, one
frame of each stream in turn. What comes is written at once; only what the descriptor does not take waits, within the
credit that we grant, so that a slow reader holds back its sender and nobody's memory.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from meshd.core.commands import Priority
from meshd.core.events import StreamEnded
from meshd.errors import LocalMisuse, MalformedMessage
from meshd.ids import LinkId
from meshd.links.descriptor import Lent
from meshd.links.local_end import LocalEnd
from meshd.wire.credit import ReceiveCredit, SendCredit
from meshd.wire.frame import (
    Frame,
    FrameType,
    ResetCode,
    decode_data,
    decode_number,
    encode_credit,
    encode_data,
    encode_reset,
    max_data_size,
)

# Policy
MAX_WINDOWS_SIZE = 8_388_608
"""Bytes granted on all streams of a link above which no window grows: readers may all stop after they were quick."""

BULK = int(Priority.BULK)
# Bulk and the rest are not in order with each other: what need not follow the DATA of its stream does not wait for it,
# and what must not come before the answer to a wish for a stream has the order of that answer.
PROMPT = int(Priority.MESSAGE)

# What the other side's code means to ours
_REASONS: dict[int, str] = {ResetCode.READER_GONE: "closed_by_peer", ResetCode.WITHDRAWN: "withdrawn"}


@dataclass(slots=True, eq=False)
class _Stream:
    """One stream. Each way is over in steps: its last byte is known, then (the way in) written out."""

    number: int
    local: LocalEnd = field(init=False)
    sending: SendCredit = field(default_factory=SendCredit)
    receiving: ReceiveCredit = field(default_factory=ReceiveCredit)
    ready: bool = False  # stands in the queue of those who may have something to send
    sent_last: bool = False
    received_last: bool = False
    said_done: bool = False
    heard_done: bool = False


class LinkStreams:
    """The streams of one link. Called on asyncio's loop; nothing waits.

    A stream that opens here grants credit at once, and sends nothing before the other side has: then it is open there,
    too. ``queue(frame, priority)`` sends a frame before any DATA that is still to be taken; ``wake()`` says that
    ``take`` may give something; ``tell`` gets each ``StreamEnded``, never from inside ``open`` or ``close``.
    """

    def __init__(
        self,
        link: LinkId,
        *,
        queue: Callable[[bytes, int], None],
        wake: Callable[[], None],
        tell: Callable[[StreamEnded], None],
        counters: Counter[str],
    ) -> None:
        self._link = link
        self._queue = queue
        self._wake = wake
        self._tell = tell
        self._counters = counters
        self._streams: dict[int, _Stream] = {}
        self._ready: deque[_Stream] = deque()

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def unwritten_size(self) -> int:
        """Bytes that wait for slow readers here."""
        return sum(len(stream.local.unwritten) for stream in self._streams.values())

    @property
    def _windows_size(self) -> int:
        return sum(stream.receiving.window for stream in self._streams.values())

    # -- what the core asks -------------------------------------------------------------------------------------------

    def open(self, number: int, lent: Lent | None) -> None:
        """Run that stream, and take its descriptor. Raises LocalMisuse for one that is open.

        Without a descriptor (its request was ended a moment ago), or with one that is no good, the stream has failed.
        """
        if number in self._streams:
            raise LocalMisuse(f"stream {number} of link {self._link} is open already")
        stream = _Stream(number)
        try:
            if lent is None:
                raise FileNotFoundError
            stream.local = LocalEnd(
                lent,
                readable=lambda: self._make_ready(stream),
                written=lambda size: self._grant(stream, size),
                finished=lambda: self._check_done(stream),
                broken=lambda code: self._abort(stream, code, "closed_here"),
            )
        except OSError:
            self._queue(encode_reset(number, ResetCode.FAILED, priority=PROMPT), PROMPT)
            ended = StreamEnded(self._link, number, "failed_here", 0, 0)
            asyncio.get_running_loop().call_soon(self._tell, ended)
            return
        self._streams[number] = stream
        self._queue(encode_credit(number, stream.receiving.limit, priority=PROMPT), PROMPT)

    def close(self, number: int, code: int) -> None:
        """Tell the peer that it is over, whether it was open or only wanted."""
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.local.free()
        self._reset(number, code, stream)

    def end_all(self) -> None:
        """The link is going."""
        for stream in list(self._streams.values()):
            stream.local.free()
            self._tell(self._ended(stream, "link_lost"))
        self._streams.clear()
        self._ready.clear()

    # -- out ----------------------------------------------------------------------------------------------------------

    def take(self) -> bytes | None:
        """The next DATA frame, of each stream in turn; None if none has anything to send, or may."""
        while self._ready:
            stream = self._ready.popleft()
            stream.ready = False
            frame = None if stream.local.is_free else self._read(stream)
            if frame is not None:
                if not stream.sent_last and not stream.local.is_free:
                    stream.ready = True
                    self._ready.append(stream)
                return frame
        return None

    def _read(self, stream: _Stream) -> bytes | None:
        if stream.sent_last:
            return None
        start = stream.sending.offset
        size = min(stream.sending.available, max_data_size(stream.number, start))
        if size == 0:
            return None  # the next CREDIT makes it ready again
        data = stream.local.read(size)
        if data is None:
            return None
        stream.sending.spend(len(data))
        frame = encode_data(stream.number, start, data, priority=BULK, last=not data)
        if not data:
            stream.sent_last = True
            self._check_done(stream)
        return frame

    def _make_ready(self, stream: _Stream) -> None:
        if not (stream.ready or stream.local.is_watched or stream.sent_last):
            stream.ready = True
            self._ready.append(stream)
            self._wake()

    # -- in -----------------------------------------------------------------------------------------------------------

    def on_frame(self, frame: Frame) -> None:
        """A DATA, CREDIT or RESET frame. Raises MalformedMessage if no peer in good faith would have sent it."""
        stream = self._streams.get(frame.stream)
        if frame.type == FrameType.DATA:
            offset, data, last = decode_data(frame)
            if stream is not None:
                self._on_data(stream, offset, data, last)
        else:
            number = decode_number(frame)
            if stream is None:
                pass
            elif frame.type == FrameType.RESET:
                self._on_reset(stream, number)
            elif stream.sending.grant(number):
                self._make_ready(stream)
        if stream is None:
            self._counters["stream_frame_late"] += 1  # on its way when the stream ended here

    def _on_data(self, stream: _Stream, offset: int, data: bytes, last: bool) -> None:
        if stream.received_last:
            raise MalformedMessage("stream bytes after the last")
        stream.receiving.receive(offset, len(data))
        stream.received_last = last
        stream.local.put(data, last=last)

    def _grant(self, stream: _Stream, size: int) -> None:
        """So much is written: as much again may come."""
        limit = stream.receiving.consume(size, may_grow=self._windows_size < MAX_WINDOWS_SIZE)
        if limit is not None and not stream.received_last:
            self._queue(encode_credit(stream.number, limit, priority=PROMPT), PROMPT)

    def _on_reset(self, stream: _Stream, code: int) -> None:
        if code != ResetCode.DONE:
            self._end(stream, _REASONS.get(code, "failed_there"))
        elif stream.heard_done or not (stream.sent_last and stream.received_last):
            raise MalformedMessage("a stream that is done before its ends")
        else:
            stream.heard_done = True
            self._check_done(stream)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _check_done(self, stream: _Stream) -> None:
        """Once both ways are over here, say so; when the other side has said so too, all has arrived on both."""
        if stream.sent_last and stream.local.is_written_out and not stream.said_done:
            stream.said_done = True
            self._queue(encode_reset(stream.number, ResetCode.DONE, priority=BULK), BULK)
        if stream.said_done and stream.heard_done:
            self._end(stream, "done")

    def _abort(self, stream: _Stream, code: ResetCode, reason: str) -> None:
        self._end(stream, reason)
        self._reset(stream.number, code, stream)

    def _reset(self, number: int, code: int, stream: _Stream | None) -> None:
        """Say that it is over: after the DATA that was sent, or, if none was, after the answer that opened it."""
        priority = BULK if stream is not None and stream.sending.offset else PROMPT
        self._queue(encode_reset(number, code, priority=priority), priority)

    def _end(self, stream: _Stream, reason: str) -> None:
        del self._streams[stream.number]
        stream.local.free()
        ended = self._ended(stream, reason)
        asyncio.get_running_loop().call_soon(self._tell, ended)

    def _ended(self, stream: _Stream, reason: str) -> StreamEnded:
        return StreamEnded(self._link, stream.number, reason, stream.sending.offset, stream.receiving.consumed)
