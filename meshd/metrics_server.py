"""The metrics over HTTP, for Prometheus on this machine: loopback alone, one request a connection, everything bounded.

Whoever may open a connection on this machine may read the page, so it is off unless configured. A web page that
somebody looks at here must not: one that has its name resolve to 127.0.0.1 shows by the ``Host`` it asks for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import h11
import structlog
import trio

from meshd.exposition import CONTENT_TYPE

# Policy
PATH = "/metrics"
LOOPBACK = ("127.0.0.1", "::1")
MAX_CONNECTIONS = 8  # one scraper needs one
MAX_REQUEST_SIZE = 8_192  # bytes of a request's head; a scraper's has 300
REQUEST_TIMEOUT = 5.0  # seconds for the whole of a connection
RECEIVE_SIZE = 4_096

_log = structlog.get_logger("metrics")


async def open_loopback(port: int) -> list[trio.SocketListener]:
    """Listeners on the loopback addresses there are (0: a port that the system picks, for IPv4). Raises OSError."""
    listeners = [trio.SocketListener(await _bound(LOOPBACK[0], port))]
    if port:
        with contextlib.suppress(OSError):  # no IPv6 here
            listeners.append(trio.SocketListener(await _bound(LOOPBACK[1], port)))
    return listeners


async def _bound(address: str, port: int) -> trio.socket.SocketType:
    made = trio.socket.socket(trio.socket.AF_INET6 if ":" in address else trio.socket.AF_INET)
    try:
        made.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
        await made.bind((address, port))
        made.listen(MAX_CONNECTIONS)
    except OSError:
        made.close()
        raise
    return made


async def serve_if_possible(
    port: int, page: Callable[[], str], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled; where the port cannot be had, the log says so and the daemon lives without."""
    try:
        listeners = await open_loopback(port)
    except OSError as error:
        _log.error("metrics_unavailable", port=port, reason=error.strerror or str(error))
        task_status.started()
        return
    task_status.started()
    await serve(listeners, page)


async def serve(listeners: Sequence[trio.SocketListener], page: Callable[[], str]) -> None:
    """Answer ``GET /metrics`` with what ``page`` gives, until cancelled."""
    connections = 0

    async def converse(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        try:
            if connections <= MAX_CONNECTIONS:
                with trio.move_on_after(REQUEST_TIMEOUT), contextlib.suppress(trio.BrokenResourceError):
                    await _answer(stream, page)
        finally:
            connections -= 1
            await trio.aclose_forcefully(stream)

    await trio.serve_listeners(converse, list(listeners))


async def _answer(stream: trio.SocketStream, page: Callable[[], str]) -> None:
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST_SIZE)
    try:
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(await stream.receive_some(RECEIVE_SIZE))
    except h11.RemoteProtocolError as error:
        await _send(stream, http, error.error_status_hint, f"{error}\n")
        return
    if not isinstance(event, h11.Request):
        return  # it went away
    status, text = _reply(event, page)
    await _send(stream, http, status, text, has_body=event.method != b"HEAD")


def _reply(request: h11.Request, page: Callable[[], str]) -> tuple[int, str]:
    headers = {bytes(name): bytes(value) for name, value in request.headers}
    if not _is_loopback(headers.get(b"host", b"").decode("latin-1")):
        return 403, "Ask for localhost: this page is for this machine alone.\n"
    if request.target.decode("latin-1").partition("?")[0] != PATH:
        return 404, f"There is {PATH} alone.\n"
    if request.method not in (b"GET", b"HEAD"):
        return 405, "GET alone.\n"
    try:
        return 200, page()
    except Exception as error:  # it must cost a gap in a chart, not the mesh
        _log.error("metrics_failed", error=type(error).__name__, exc_info=error)
        return 500, "It failed; see the log.\n"


def _is_loopback(host: str) -> bool:
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    return name.lower().removesuffix(".") in ("localhost", *LOOPBACK)


async def _send(
    stream: trio.SocketStream, http: h11.Connection, status: int, text: str, *, has_body: bool = True
) -> None:
    body = text.encode()
    headers = [
        ("Content-Type", CONTENT_TYPE if status == 200 else "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if status == 405:
        headers.append(("Allow", "GET, HEAD"))
    if http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    said = http.send(h11.Response(status_code=status, headers=headers))
    if has_body:
        said = (said or b"") + (http.send(h11.Data(data=body)) or b"")
    said = (said or b"") + (http.send(h11.EndOfMessage()) or b"")
    await stream.send_all(said)
    await stream.send_eof()
    # what it still sends is read, or closing would reset the connection and take the answer along
    while await stream.receive_some(RECEIVE_SIZE):
        pass
