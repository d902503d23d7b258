"""The client end of a WebSocket (RFC 6455) on trio.

Made of wsproto and not of trio-websocket, because the daemon has to bound what a push service can make it keep (that
one joins fragments of any number, and its pings have no sign of life to look at), wants one reader that reads once
for each time it is asked, and reasons for a loss that can be told apart.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from meshd.push.connecting import ConnectionLost as ConnectionLost
from meshd.push.connecting import open_tcp
from meshd.push.proxy import open_tunnel

# Specification
_URL = re.compile(
    r"(?P<scheme>wss?)://(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>/[!-~]*)?\Z"
)
DEFAULT_PORTS = {"ws": 80, "wss": 443}

# Policy
MAX_FRAME_SIZE = 65_536  # of one message, whole or in pieces; a push of 4096 bytes takes 5.8 KB
READ_SIZE = 16_384
WRITE_TIMEOUT = 20.0  # seconds; a service that takes nothing for so long is gone
CLOSE_TIMEOUT = 0.5  # seconds for a goodbye
_PLAIN_REASON = re.compile(r"[A-Za-z][A-Za-z0-9 ._-]{0,39}\Z")  # what may come from outside into a log line


@dataclass(frozen=True, slots=True)
class ServiceUrl:
    """A ws:// or wss:// URL in parts."""

    scheme: str
    host: str  # without brackets
    port: int
    target: str = field(repr=False)  # of an ntfy server: has its topics, which are secrets

    @property
    def authority(self) -> str:
        """Host and, unless it is the scheme's own, port, as in a Host header."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == DEFAULT_PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def http_origin(self) -> str:
        """The http or https origin of the same host and port."""
        return f"{'https' if self.scheme == 'wss' else 'http'}://{self.authority}"


def parse_service_url(text: str) -> ServiceUrl | None:
    """The parts of a ws:// or wss:// URL without userinfo and fragment, or None if it is not one."""
    match = _URL.match(text)
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else DEFAULT_PORTS[match["scheme"]]
    if not 0 < port < 65536:
        return None
    return ServiceUrl(match["scheme"], (match["v6"] or match["host"]).lower(), port, match["target"] or "/")


async def open_stream(url: ServiceUrl, ssl_context: ssl.SSLContext | None, proxy: str = "") -> trio.abc.Stream:
    """Connect, with TLS where a context is given, through ``proxy`` (a URL) if there is one.

    Raises ConnectionLost: ``dns``, ``refused``, ``unreachable``, ``tls`` or ``proxy: 403``.
    """
    tcp = await (open_tunnel(proxy, url.host, url.port) if proxy else open_tcp(url.host, url.port))
    if ssl_context is None:
        return tcp
    tls = trio.SSLStream(tcp, ssl_context, server_hostname=url.host, https_compatible=True)
    try:
        await tls.do_handshake()
    except trio.BrokenResourceError:
        await trio.aclose_forcefully(tls)
        raise ConnectionLost("tls") from None
    except BaseException:
        await trio.aclose_forcefully(tls)
        raise
    return tls


class WebSocket:
    """One open connection. ``receive`` belongs to one task; ``send`` and ``ping`` may be called by any.

    ``heard_at`` is trio's time of the last bytes that came. ``skip_large``: a message above ``MAX_FRAME_SIZE`` is
    thrown away while it comes and does not end the connection, for services where anybody can have one sent to us.
    """

    def __init__(self, stream: trio.abc.Stream, *, skip_large: bool = False) -> None:
        self._stream = stream
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._lock = trio.Lock()
        self._pieces: list[str] = []
        self._size = 0
        self._skip_large = skip_large
        self._came_along = False
        self.skipped = 0
        """Messages that were too large, where that is no reason to hang up."""
        self.heard_at = trio.current_time()

    async def handshake(self, url: ServiceUrl, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Upgrade the stream. Raises ConnectionLost: ``rejected: 503``, ``protocol``, ``reset``."""
        await self._send(Request(host=url.authority, target=url.target, extra_headers=list(headers)))
        while True:
            self._protocol_receives(await self._read())
            for event in self._events():
                match event:
                    case AcceptConnection():
                        self._came_along = True  # perhaps: what follows in the same bytes is still in wsproto
                        return
                    case RejectConnection():
                        raise ConnectionLost(f"rejected: {event.status_code}")

    async def receive(self) -> list[str]:
        """Read once; the text messages that this completed, often none. Pings are answered, binary is skipped.

        The first time it gives what came along with the acceptance, without waiting for more.

        Raises ConnectionLost: ``reset``, ``closed: 1000 reason``, ``too_large``, ``protocol``.
        """
        texts: list[str] = []
        if self._came_along:
            self._came_along = False
        else:
            self._protocol_receives(await self._read())
        for event in self._events():
            match event:
                case Ping():
                    await self._send(event.response())
                case CloseConnection():
                    await self._say_goodbye(event.response())
                    raise ConnectionLost(_describe_close(event))
                case TextMessage() | BytesMessage():
                    self._take(event, texts)
        return texts

    def _take(self, event: TextMessage | BytesMessage, texts: list[str]) -> None:
        self._size += len(event.data)
        if self._size > MAX_FRAME_SIZE:
            if not self._skip_large:
                raise ConnectionLost("too_large")
            self._pieces = []
        elif isinstance(event, TextMessage) and event.data:
            self._pieces.append(event.data)
        if not event.message_finished:
            return
        if self._size > MAX_FRAME_SIZE:
            self.skipped += 1
        if self._pieces:
            texts.append("".join(self._pieces))
        self._pieces, self._size = [], 0

    async def send(self, text: str) -> None:
        """Send one text message. Raises ConnectionLost: ``reset``, ``stalled``."""
        await self._send(TextMessage(data=text))

    async def ping(self) -> None:
        """Send a ping frame; its pong shows in ``heard_at``."""
        await self._send(Ping())

    async def until_silent(self, interval: float, timeout: float) -> None:
        """Return when nothing was heard for ``interval`` seconds, and nothing for ``timeout`` more after a ping.

        Raises ConnectionLost: ``reset``, ``stalled``.
        """
        while True:
            await trio.sleep_until(self.heard_at + interval)
            heard_at = self.heard_at
            if trio.current_time() < heard_at + interval:
                continue
            await self.ping()
            await trio.sleep(timeout)
            if self.heard_at == heard_at:
                return

    async def close(self) -> None:
        """Say goodbye, briefly, whatever else is being cancelled, and close the stream."""
        await self._say_goodbye(CloseConnection(code=1000))
        await trio.aclose_forcefully(self._stream)

    async def _say_goodbye(self, event: CloseConnection) -> None:
        with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
            with contextlib.suppress(ConnectionLost):  # it is as closed as can be
                await self._send(event)

    async def _send(self, event: Event) -> None:
        async with self._lock:
            try:
                data = self._protocol.send(event)
                with trio.fail_after(WRITE_TIMEOUT):
                    await self._stream.send_all(data)
            except trio.TooSlowError:
                raise ConnectionLost("stalled") from None
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise ConnectionLost("reset") from None
            except ProtocolError:  # the connection is closing under us
                raise ConnectionLost("closed") from None

    async def _read(self) -> bytes:
        try:
            data = bytes(await self._stream.receive_some(READ_SIZE))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ConnectionLost("reset") from None
        if not data:
            raise ConnectionLost("reset")
        self.heard_at = trio.current_time()
        return data

    def _protocol_receives(self, data: bytes) -> None:
        try:
            self._protocol.receive_data(data)
        except ProtocolError:
            raise ConnectionLost("protocol") from None

    def _events(self) -> Iterator[Event]:
        try:
            yield from self._protocol.events()
        except ProtocolError:
            raise ConnectionLost("protocol") from None


def _describe_close(event: CloseConnection) -> str:
    """Close code and, where it is a plain word or two, the service's reason ("UaidReset")."""
    code = int(event.code)
    reason = event.reason or ""
    return f"closed: {code} {reason}" if _PLAIN_REASON.match(reason) else f"closed: {code}"
