"""One HTTP/1.1 connection over a stream: h11 speaks, this bounds. Hands over to a WebSocket when asked to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import h11
import trio

from meshd.push.service.config import Limits
from meshd.push.service.protocol import SUBPROTOCOL
from meshd.push.service.proxies import TrustedProxies
from meshd.push.service.websocket import CLOSE_GOING_AWAY, Stream, WebSocket
from meshd.push_services import MAX_BODY_SIZE

# Policy
_READ_SIZE = 16 << 10
_MAX_LINGER_SIZE = 1 << 20  # of a body that was refused, read so that the refusal can be read
_LINGER_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request. Header names are in lower case, repeated ones joined by ", ".

    ``body`` is None when it was larger than a message may be. ``source`` is the address it came from, before proxies
    of ours.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    source: str


@dataclass(frozen=True, slots=True)
class Response:
    """``headers`` without Content-Length, which is put in."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


Handler = Callable[[Request], Awaitable[Response]]
Conversation = Callable[[WebSocket, str], Awaitable[None]]  # with the address at the other end of the connection


class HttpConnection:
    """Serves requests on ``stream`` one after the other until it ends. ``run`` never raises for what comes in."""

    def __init__(
        self,
        stream: Stream,
        peer: str,
        limits: Limits,
        proxies: TrustedProxies,
        handler: Handler,
        conversation: Conversation,
    ) -> None:
        self._stream = stream
        self._peer = peer
        self._limits = limits
        self._proxies = proxies
        self._handler = handler
        self._conversation = conversation
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.max_header_size)

    async def run(self) -> None:
        """Until the other end goes, breaks the protocol, is too slow, or a WebSocket conversation is over."""
        timeout = self._limits.request_timeout
        try:
            while await self._serve_one(timeout):
                self._http.start_next_cycle()
                timeout = self._limits.keep_alive_timeout
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass
        except h11.RemoteProtocolError as error:
            await self._complain(error.error_status_hint)
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _serve_one(self, timeout: float) -> bool:
        """One request; True when another may follow."""
        with trio.fail_after(timeout):
            event = await self._next_event()
        if not isinstance(event, h11.Request):
            return False
        headers: dict[str, str] = {}
        for name, value in event.headers:  # h11 gives names in lower case
            key, text = name.decode("ascii"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        path = event.target.decode("ascii").partition("?")[0]
        source = self._proxies.client(self._peer, headers)
        if headers.get("upgrade", "").lower() == "websocket":
            await self._upgrade(event, path, source)
            return False
        with trio.fail_after(self._limits.request_timeout):
            body = await self._body(headers)
        request = Request(event.method.decode("ascii"), path, headers, body, source)
        response = await self._handler(request)
        await self._respond(response, close=body is None, with_body=request.method != "HEAD")
        if body is None:
            await self._linger()
            return False
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _body(self, headers: Mapping[str, str]) -> bytes | None:
        declared = headers.get("content-length", "0")
        if len(declared) > 9 or int(declared) > MAX_BODY_SIZE:  # h11 has checked that it is a number
            return None
        pieces: list[bytes] = []
        size = 0
        while True:
            event = await self._next_event()
            if not isinstance(event, h11.Data):
                return b"".join(pieces)
            pieces.append(bytes(event.data))
            size += len(event.data)
            if size > MAX_BODY_SIZE:
                return None

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(bytes(await self._stream.receive_some(_READ_SIZE)))

    async def _respond(self, response: Response, *, close: bool = False, with_body: bool = True) -> None:
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.headers]
        if response.status != 204:  # which must not have one, RFC 9110 section 8.6
            headers.append((b"Content-Length", b"%d" % len(response.body)))
        if close:
            headers.append((b"Connection", b"close"))
        head = h11.Response(
            status_code=response.status, headers=headers, reason=HTTPStatus(response.status).phrase.encode()
        )
        data = [self._http.send(head)]
        if response.body and with_body:
            data.append(self._http.send(h11.Data(data=response.body)))
        data.append(self._http.send(h11.EndOfMessage()))
        await self._send_all(b"".join(piece for piece in data if piece))

    async def _complain(self, status: int) -> None:
        """Tell an end that broke the protocol so, if it can still be told."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            try:
                await self._respond(Response(status), close=True)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, h11.LocalProtocolError):
                return
            await self._linger()

    async def _linger(self) -> None:
        """Read on for a moment: closing with bytes unread would take our answer from under the other end's eyes."""
        left = _MAX_LINGER_SIZE
        with trio.move_on_after(_LINGER_TIMEOUT):
            try:
                if isinstance(self._stream, trio.SocketStream):
                    await self._stream.send_eof()
                while left > 0 and (data := await self._stream.receive_some(_READ_SIZE)):
                    left -= len(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def _upgrade(self, request: h11.Request, path: str, source: str) -> None:
        websocket = WebSocket(self._stream, source, self._limits)
        if path != "/" or request.method != b"GET":
            await self._respond(Response(404), close=True)
            return
        trailing, _ = self._http.trailing_data
        if not websocket.accept(list(request.headers), request.target, trailing, SUBPROTOCOL):
            await self._respond(Response(400), close=True)
            return
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(websocket.write)
                await self._conversation(websocket, self._peer)
                await websocket.finish()
                if websocket.is_aborted:
                    nursery.cancel_scope.cancel()
        finally:
            if not websocket.is_closing:
                # The service stops: say so, so that the user agent comes back at once and not after a silence.
                websocket.close(CLOSE_GOING_AWAY, "GoingAway")
                with trio.move_on_after(self._limits.close_timeout, shield=True):
                    await websocket.write()

    async def _send(self, event: h11.InformationalResponse) -> None:
        data = self._http.send(event)
        if data:
            await self._send_all(data)

    async def _send_all(self, data: bytes) -> None:
        with trio.fail_after(self._limits.send_timeout):
            await self._stream.send_all(data)
