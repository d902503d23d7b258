"""The operator's HTTP proxy: a tunnel to a push service by CONNECT (RFC 9110 section 9.3.6)."""

from __future__ import annotations

from urllib.parse import urlsplit

import h11
import trio

from meshd.push.connecting import ConnectionLost, open_tcp

# Policy
_DEFAULT_PORT = 3128
_MAX_HEAD_SIZE = 16_384  # bytes of its answer
_READ_SIZE = 4_096


def proxy_address(url: str) -> tuple[str, int]:
    """Host and port of ``push.proxy``, which has been checked."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _DEFAULT_PORT


async def open_tunnel(proxy: str, host: str, port: int) -> trio.abc.Stream:
    """A stream to ``host`` through the proxy, which looks the name up.

    Raises ConnectionLost: as for any connection, or ``proxy: 403``.
    """
    stream = await open_tcp(*proxy_address(proxy))
    try:
        await _ask(stream, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.BrokenResourceError | h11.ProtocolError):
            raise ConnectionLost("proxy: no answer") from None
        raise
    return stream


async def _ask(stream: trio.abc.Stream, target: str) -> None:
    protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_SIZE)
    request = h11.Request(method="CONNECT", target=target, headers=[("Host", target)])
    await stream.send_all(protocol.send(request) or b"")
    protocol.send(h11.EndOfMessage())
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(bytes(await stream.receive_some(_READ_SIZE)))
        elif isinstance(event, h11.Response):
            if not 200 <= event.status_code < 300:
                raise ConnectionLost(f"proxy: {event.status_code}")
            if protocol.trailing_data[0]:  # TLS and WebSockets begin with the client
                raise ConnectionLost("proxy: no answer")
            return
        elif not isinstance(event, h11.InformationalResponse):
            raise ConnectionLost("proxy: no answer")
