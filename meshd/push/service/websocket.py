"""One WebSocket connection (RFC 6455) over a stream: wsproto speaks, this bounds.

No compression is negotiated: a small frame could unpack to any size. A message is counted while it arrives, never
gathered first. What waits to be read by the other end is bounded, and an end that reads nothing is cut off.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from meshd.push.service.config import Limits

# Specification (RFC 6455 section 7.4.1)
CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_UNSUPPORTED = 1003
CLOSE_TOO_BIG = 1009
CLOSE_ERROR = 1011
CLOSE_TRY_LATER = 1013  # IANA's registry of close codes

# Policy
_READ_SIZE = 16 << 10
_WRITE_SIZE = 64 << 10  # for each of these the reader has ``send_timeout``
_MAX_EVENTS = 1000  # frames of one read: 16 KiB of empty frames are 2,700

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class WebSocket:
    """The server's end. ``receive`` from one task; ``send`` and ``close`` never wait and may be called from any."""

    def __init__(self, stream: Stream, source: str, limits: Limits) -> None:
        self.source = source  # the address at the other end
        self._stream = stream
        self._limits = limits
        self._connection = WSConnection(ConnectionType.SERVER)
        self._events: deque[Event] = deque()
        self._text: list[str] = []
        self._text_size = 0
        self._outbox: deque[bytes] = deque()
        self._outbox_size = 0
        self._writing = False
        self._wake = trio.Event()
        self._drained = trio.Event()
        self._closing = False
        self._aborted = False
        self._receive_scope: trio.CancelScope | None = None

    def accept(self, headers: Sequence[tuple[bytes, bytes]], target: bytes, trailing: bytes, subprotocol: str) -> bool:
        """Answer the handshake that came with a request; False (and an answer) when it is none.

        ``trailing`` is what already came after the request. ``subprotocol`` is taken if it is offered.
        """
        try:
            self._connection.initiate_upgrade_connection([(bytes(n), bytes(v)) for n, v in headers], target)
            request = next(iter(self._connection.events()), None)
        except (LocalProtocolError, RemoteProtocolError):
            return False
        if not isinstance(request, Request):
            return False
        chosen = subprotocol if subprotocol in request.subprotocols else None
        self._push(self._connection.send(AcceptConnection(subprotocol=chosen)))
        if trailing:
            self._take(trailing)
        return True

    @property
    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._closing

    @property
    def is_aborted(self) -> bool:
        """Whether the connection has been dropped without a word."""
        return self._aborted

    def has_room(self, size: int) -> bool:
        """Whether ``size`` bytes more may wait to be read; one message may always, whatever its size."""
        fits = not self._outbox or self._outbox_size + size <= self._limits.max_outbox_size
        return fits and not self._closing

    async def room(self) -> None:
        """Return when nothing waits to be read by the other end any more, or the connection has ended."""
        while self._outbox and not self._aborted:
            self._drained = trio.Event()
            await self._drained.wait()

    def send(self, text: str) -> None:
        """Queue a text message. The connection is closed when more than ``max_outbox_size`` would wait."""
        if self._closing:
            return
        if not self.has_room(len(text)):
            self.abort()
            return
        self._push(self._connection.send(TextMessage(data=text)))

    def close(self, code: int, reason: str) -> None:
        """Queue a closing frame; the other end has ``close_timeout`` to answer it."""
        if self._closing:
            return
        if self._connection.state is ConnectionState.OPEN:
            self._push(self._connection.send(CloseConnection(code=code, reason=reason)))
        self._closing = True
        self._wake.set()
        if self._receive_scope is not None:
            deadline = trio.current_time() + self._limits.close_timeout
            self._receive_scope.deadline = min(self._receive_scope.deadline, deadline)

    def abort(self) -> None:
        """Drop the connection without a word."""
        self._closing = self._aborted = True
        self._outbox.clear()
        self._wake.set()
        self._drained.set()
        if self._receive_scope is not None:
            self._receive_scope.cancel()

    async def receive(self) -> str | None:
        """The next text message, or None when the connection has ended for whatever reason."""
        while not self._closing:
            if not self._events:
                if not await self._read():
                    return None
                continue
            text = self._handle(self._events.popleft())
            if text is not None:
                return text
        return None

    async def write(self) -> None:
        """Send what is queued until the connection is to end. Run it beside the receiver."""
        while not self._aborted:
            if not self._outbox:
                self._drained.set()
                if self._closing:
                    return
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            piece = self._next_piece()
            self._writing = True
            try:
                with trio.fail_after(self._limits.send_timeout):
                    await self._stream.send_all(piece)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                self.abort()
                return
            finally:
                self._writing = False

    async def finish(self) -> None:
        """After the last ``receive``: let the closing frame out and wait for its answer, briefly."""
        self.close(CLOSE_NORMAL, "")
        with trio.move_on_after(self._limits.close_timeout):
            while not self._aborted and self._connection.state is not ConnectionState.CLOSED:
                if not await self._receive_some():
                    return
                self._events.clear()

    def _handle(self, event: Event) -> str | None:
        match event:
            case TextMessage():
                self._text.append(event.data)
                self._text_size += len(event.data)
                if self._text_size > self._limits.max_websocket_message_size:
                    self.close(CLOSE_TOO_BIG, "MessageTooBig")
                elif event.message_finished:
                    text = "".join(self._text)
                    self._text, self._text_size = [], 0
                    return text
            case BytesMessage():
                self.close(CLOSE_UNSUPPORTED, "UnsupportedMessage")
            case Ping():
                if self.has_room(len(event.payload)):
                    self._push(self._connection.send(event.response()))
                else:
                    self.abort()
            case CloseConnection():
                if self._connection.state is ConnectionState.REMOTE_CLOSING:
                    self._push(self._connection.send(event.response()))
                elif self._connection.state is ConnectionState.OPEN:  # the other end broke the protocol
                    self.close(event.code, "ProtocolError")
                self._closing = True
                self._wake.set()
        return None

    async def _read(self) -> bool:
        """Read once, pinging after a long silence. False when the other end has gone."""
        for timeout in (self._limits.ping_interval, self._limits.pong_timeout):
            with trio.move_on_after(timeout) as scope:
                self._receive_scope = scope
                if self._closing:
                    return False
                alive = await self._receive_some()
                self._receive_scope = None
                return alive
            self._receive_scope = None
            if self._closing:
                return False
            self._push(self._connection.send(Ping()))
        self.abort()
        return False

    async def _receive_some(self) -> bool:
        try:
            data = await self._stream.receive_some(_READ_SIZE)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return bool(data) and self._take(bytes(data))

    def _take(self, data: bytes) -> bool:
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                self._events.append(event)
                if len(self._events) > _MAX_EVENTS:
                    self.abort()
                    return False
        except (LocalProtocolError, RemoteProtocolError):
            self.abort()
            return False
        return True

    def _push(self, data: bytes) -> None:
        data = self._sent_at_once(data)
        if not data:
            return
        self._outbox.append(data)
        self._outbox_size += len(data)
        self._wake.set()

    def _sent_at_once(self, data: bytes) -> bytes:
        """Give ``data`` to the kernel if nothing is before it and it takes it: no task has to wake up for that.

        Gives what is left for the writer, which also finds out when the connection is broken.
        """
        if self._outbox or self._writing or not isinstance(self._stream, trio.SocketStream):
            return data
        try:
            return data[os.write(self._stream.socket.fileno(), data) :]
        except OSError:  # BlockingIOError as a rule: the other end is slower than we are
            return data

    def _next_piece(self) -> bytes:
        pieces = [self._outbox.popleft()]
        size = len(pieces[0])
        while self._outbox and size + len(self._outbox[0]) <= _WRITE_SIZE:
            pieces.append(self._outbox.popleft())
            size += len(pieces[-1])
        self._outbox_size -= size
        return b"".join(pieces)
