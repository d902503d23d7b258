"""The application server role: POSTs encrypted pushes to push endpoints (RFC 8030 section 5).

``submit`` puts a push into a bounded outbox; a few are on their way at once, those to one endpoint one after another
in their order. Nothing is tried again here: each push gets one ``PushAnswered``, and the core decides what it means.

An endpoint, its JWT and the body are secrets. None of them is ever logged or stands in a ``detail``, and neither does
any text that a service sends.
"""

from __future__ import annotations

import email.utils
import json
import socket
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable

import httpcore
import trio

from meshd.config import PushConfig
from meshd.core.commands import SendPush
from meshd.core.events import PushAnswered
from meshd.errors import Rejected
from meshd.ids import PushId
from meshd.push.checked_connect import CheckedBackend
from meshd.push.endpoint_policy import Endpoint, parse_endpoint
from meshd.push.proxy import proxy_address

# Policy
MAX_OUTBOX = 256  # pushes taken and not answered; a join needs two, a mesh that lost its links a few for each peer
MAX_CONCURRENT_PUSHES = 16  # several times the number of services, so that a slow one does not hold up the others
MAX_ANSWER_SIZE = 65_536  # bytes of an answer's body that are read; autopush's errors take 200
MAX_KEEPALIVE_CONNECTIONS = 8
KEEPALIVE_TIMEOUT = 60.0  # seconds; the second push of a join finds the connection of the first
MAX_RETRY_AFTER = 86_400.0  # seconds; no service can silence us for longer than a day

FAILURES = (
    httpcore.ProxyError,
    httpcore.ProtocolError,
    httpcore.NetworkError,
    httpcore.TimeoutException,
    OSError,
    UnicodeError,
)

Deliver = Callable[[PushAnswered], None]
Pool = httpcore.AsyncConnectionPool


class PushSender:
    """Carries out ``SendPush``. ``deliver`` gets the answers, always from within ``run``.

    ``counters`` counts answers by status and, for status 0, by the first word of the detail.
    """

    def __init__(self, config: PushConfig, deliver: Deliver, *, ssl_context: ssl.SSLContext | None = None) -> None:
        self.counters: Counter[str] = Counter()
        self._config = config
        self._deliver = deliver
        self._ssl_context = ssl_context
        self._waiting: dict[str, deque[SendPush]] = {}  # by endpoint, the one on its way included
        self._unanswered = 0
        # An endpoint is in this channel, or in a worker's hands, exactly while it has pushes waiting.
        self._ready_send, self._ready = trio.open_memory_channel[str](MAX_OUTBOX)
        # Answered from within run, not from within submit: whoever submits is in the middle of handling an event.
        # It holds what one burst of commands brings; run empties it before anything else can happen.
        self._overflow: deque[PushId] = deque()
        self._overflowed = trio.Event()

    def submit(self, command: SendPush) -> None:
        """Take a push. Never waits; with ``MAX_OUTBOX`` unanswered its answer is status 0, ``busy``."""
        if self._unanswered >= MAX_OUTBOX:
            self._overflow.append(command.push)
            self._overflowed.set()
            return
        self._unanswered += 1
        queue = self._waiting.get(command.endpoint)
        if queue is not None:
            queue.append(command)
            return
        self._waiting[command.endpoint] = deque((command,))
        self._ready_send.send_nowait(command.endpoint)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send what is submitted until cancelled. What is under way then gets no answer."""
        context = self._ssl_context
        if context is None:  # 30 ms of reading certificates, which links and timers need not wait for
            context = await trio.to_thread.run_sync(ssl.create_default_context)
        async with (
            _pool(context, httpcore.TrioBackend()) as trusted_pool,
            _public_pool(context, self._config.proxy) as public_pool,
            trio.open_nursery() as nursery,
        ):
            for _ in range(MAX_CONCURRENT_PUSHES):
                nursery.start_soon(self._work, trusted_pool, public_pool)
            nursery.start_soon(self._answer_overflow)
            task_status.started()

    async def _answer_overflow(self) -> None:
        while True:
            await self._overflowed.wait()
            self._overflowed = trio.Event()
            while self._overflow:
                self._answer(PushAnswered(self._overflow.popleft(), 0, "busy"))

    async def _work(self, trusted_pool: Pool, public_pool: Pool) -> None:
        async for endpoint in self._ready:
            queue = self._waiting[endpoint]
            answer = await self._send(queue[0], trusted_pool, public_pool)
            queue.popleft()
            self._unanswered -= 1
            if queue:
                self._ready_send.send_nowait(endpoint)  # at the back: one busy endpoint leaves room for others
            else:
                del self._waiting[endpoint]
            self._answer(answer)

    def _answer(self, answer: PushAnswered) -> None:
        self.counters[f"status_{answer.status}" if answer.status else answer.detail.partition(":")[0]] += 1
        self._deliver(answer)

    async def _send(self, push: SendPush, trusted_pool: Pool, public_pool: Pool) -> PushAnswered:
        try:
            endpoint = parse_endpoint(push.endpoint, self._config.trusted_origins)
        except Rejected as refusal:
            return PushAnswered(push.push, 0, f"endpoint_refused: {refusal.reason}")
        pool = trusted_pool if endpoint.trusted else public_pool
        answer = PushAnswered(push.push, 0, "timeout")
        try:
            with trio.move_on_after(self._config.request_timeout):
                async with pool.stream("POST", _url(endpoint), headers=_headers(push), content=push.body) as response:
                    # From here on the answer is known; a body that stalls or breaks off takes nothing away from it.
                    wait = retry_after(response.headers, time.time())
                    answer = PushAnswered(push.push, response.status, "", wait)
                    body = await _read_bounded(response)
                    if response.status >= 400 and (number := error_number(body)) is not None:
                        answer = PushAnswered(push.push, response.status, f"errno {number}", wait)
        except Rejected as refusal:
            return PushAnswered(push.push, 0, f"endpoint_refused: {refusal.reason}")
        except FAILURES as error:
            if not answer.status:
                return PushAnswered(push.push, 0, failure_of(error))
        return answer


def _pool(context: ssl.SSLContext, backend: httpcore.AsyncNetworkBackend) -> Pool:
    # httpcore itself and not httpx: the latter writes each URL to its log, obeys proxy variables of the environment,
    # follows what a library should not decide, and has no public place for a network backend.
    return Pool(
        ssl_context=context,
        max_connections=MAX_CONCURRENT_PUSHES,
        max_keepalive_connections=MAX_KEEPALIVE_CONNECTIONS,
        keepalive_expiry=KEEPALIVE_TIMEOUT,
        network_backend=backend,
    )


def _public_pool(context: ssl.SSLContext, proxy: str) -> Pool:
    if not proxy:
        return _pool(context, CheckedBackend())
    # The proxy looks names up, so what they lead to cannot be checked here: that is what naming one means. Addresses
    # that stand in a URL have been judged already.
    return httpcore.AsyncHTTPProxy(
        proxy_url=httpcore.URL(scheme="http", host=proxy_address(proxy)[0], port=proxy_address(proxy)[1], target="/"),
        ssl_context=context,
        max_connections=MAX_CONCURRENT_PUSHES,
        max_keepalive_connections=MAX_KEEPALIVE_CONNECTIONS,
        keepalive_expiry=KEEPALIVE_TIMEOUT,
        network_backend=httpcore.TrioBackend(),
    )


def _url(endpoint: Endpoint) -> httpcore.URL:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return httpcore.URL(scheme=endpoint.scheme, host=host, port=endpoint.port, target=endpoint.target)


def _headers(push: SendPush) -> list[tuple[bytes, bytes]]:
    """Raises UnicodeError for what no header can carry; line breaks are refused further down, by h11."""
    headers = [
        ("Authorization", push.authorization),
        ("TTL", str(push.ttl)),
        ("Urgency", push.urgency),
        ("Content-Encoding", "aes128gcm"),
        ("Content-Type", "application/octet-stream"),
    ]
    if push.topic:
        headers.append(("Topic", push.topic))
    return [(name.encode(), value.encode("ascii")) for name, value in headers]


async def _read_bounded(response: httpcore.Response) -> bytes:
    """The answer's body, if it ends within ``MAX_ANSWER_SIZE``; so much of it otherwise. The rest is never read."""
    body = b""
    try:
        async for chunk in response.aiter_stream():
            body = (body + chunk)[:MAX_ANSWER_SIZE]
            if len(body) == MAX_ANSWER_SIZE:
                # Not ``break``: it would leave httpcore's nested generators to the garbage collector.
                await response.aclose()
    except httpcore.NetworkError:
        if len(body) < MAX_ANSWER_SIZE:
            raise
    return body


def retry_after(headers: Iterable[tuple[bytes, bytes]], unix_time: float) -> float | None:
    """Seconds to wait by ``Retry-After`` (RFC 9110 section 10.2.3, both forms), 0 to ``MAX_RETRY_AFTER``, or None.

    A date is compared with the answer's own ``Date`` if it has one, since the two clocks may differ.
    """
    found = {name.lower(): value for name, value in headers if name.lower() in (b"retry-after", b"date")}
    value = found.get(b"retry-after", b"").decode("latin-1").strip()
    if value.isascii() and value.isdigit():
        return float(min(int(value[:10]), MAX_RETRY_AFTER))
    until = _http_date(value)
    if until is None:
        return None
    reference = _http_date(found.get(b"date", b"").decode("latin-1"))
    return min(max(until - (unix_time if reference is None else reference), 0.0), MAX_RETRY_AFTER)


def _http_date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def error_number(body: bytes) -> int | None:
    """autopush's ``errno`` from the JSON body of a refusal, which tells apart what shares one status; or None."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    number = parsed.get("errno") if isinstance(parsed, dict) else None
    return number if type(number) is int and 0 <= number < 1000 else None


def failure_of(error: BaseException) -> str:
    """One word for why there was no answer: dns, tls, refused, unreachable, proxy, timeout, reset, malformed, …"""
    for cause in _causes(error):
        match cause:
            case socket.gaierror():
                return "dns"
            case ssl.SSLError():
                return "tls"
            case ConnectionRefusedError():
                return "refused"
            case ConnectionError():
                return "reset"
            case TimeoutError():
                return "timeout"
    match error:
        case httpcore.ProxyError():
            return "proxy"
        case httpcore.RemoteProtocolError() if "disconnected" in str(error):
            return "reset"
        case httpcore.RemoteProtocolError():
            return "malformed"
        case httpcore.LocalProtocolError() | UnicodeError():
            return "malformed_request"
        case httpcore.ReadError() | httpcore.WriteError():
            return "reset"
        case httpcore.ConnectError():
            return "unreachable"
    return "network"


def _causes(error: BaseException) -> Iterable[BaseException]:
    """An error and what lies under it, groups opened: libraries wrap the telling one two or three times."""
    waiting: list[BaseException] = [error]
    while waiting:
        current = waiting.pop(0)
        yield current
        if isinstance(current, BaseExceptionGroup):
            waiting.extend(current.exceptions)
        under = current.__cause__ or current.__context__  # httpcore raises some of its own "from None"
        if under is not None:
            waiting.append(under)
