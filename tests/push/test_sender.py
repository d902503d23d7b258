"""The sender against small servers that behave in every way a push service can, and in some it should not."""

from __future__ import annotations

import email.utils
import gc
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from meshd.config import PushConfig
from meshd.core.commands import SendPush
from meshd.core.events import PushAnswered
from meshd.ids import PushId
from meshd.push.sender import MAX_OUTBOX, MAX_RETRY_AFTER, PushSender, error_number, retry_after

SECRET_PATH = "/push/sEcReTpAtH"
SECRET_JWT = "vapid t=sEcReTjWt, k=BKey"
SECRET_BODY = b"sEcReTbOdY"
CREATED = b"HTTP/1.1 201 Created\r\nLocation: /m/1\r\nContent-Length: 0\r\n\r\n"

Handler = Callable[[trio.SocketStream], Awaitable[None]]


class Rig:
    """A sender that trusts one loopback origin, and what it answered."""

    def __init__(self, origin: str, request_timeout: float = 5.0) -> None:
        self.origin = origin
        self.answers: list[PushAnswered] = []
        self._changed = trio.Event()
        self.sender = PushSender(PushConfig(trusted_origins=(origin,), request_timeout=request_timeout), self._deliver)

    def _deliver(self, event: PushAnswered) -> None:
        self.answers.append(event)
        self._changed.set()

    def push(self, number: int = 1, endpoint: str = "", **changes: Any) -> None:
        fields: dict[str, Any] = {
            "push": PushId(number), "endpoint": endpoint or self.origin + SECRET_PATH, "authorization": SECRET_JWT,
            "body": SECRET_BODY, "ttl": 60, "urgency": "high",
        }  # fmt: skip
        self.sender.submit(SendPush(**(fields | changes)))

    async def wait_for(self, count: int) -> list[PushAnswered]:
        with trio.fail_after(8):
            while len(self.answers) < count:
                self._changed = trio.Event()
                await self._changed.wait()
        return self.answers

    async def answer(self, **changes: Any) -> PushAnswered:
        self.push(**changes)
        return (await self.wait_for(1))[0]


@asynccontextmanager
async def rig(handler: Handler, request_timeout: float = 5.0) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(serve, handler)
        made = Rig(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", request_timeout)
        await nursery.start(made.sender.run)
        yield made
        nursery.cancel_scope.cancel()


async def serve(handler: Handler, *, task_status: trio.TaskStatus[Any]) -> None:
    async def forgiving(stream: trio.SocketStream) -> None:
        try:
            await handler(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the sender hung up, as it may
        finally:
            await stream.aclose()

    await trio.serve_tcp(forgiving, 0, host="127.0.0.1", task_status=task_status)


async def read_request(stream: trio.SocketStream) -> tuple[str, dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(65_536)
        if not more:
            raise trio.BrokenResourceError
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += await stream.receive_some(65_536)
    return first, headers, body


def saying(answer: bytes) -> Handler:
    async def handler(stream: trio.SocketStream) -> None:
        while True:
            await read_request(stream)
            await stream.send_all(answer)

    return handler


# -- what is sent -----------------------------------------------------------------------------------------------------


async def test_the_request_is_that_of_rfc_8030() -> None:
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def handler(stream: trio.SocketStream) -> None:
        while True:
            seen.append(await read_request(stream))
            await stream.send_all(CREATED)

    async with rig(handler) as r:
        r.push(1, topic="abc-_")
        assert await r.wait_for(1) == [PushAnswered(PushId(1), 201)]
        r.push(2)
        await r.wait_for(2)
    first, headers, body = seen[0]
    assert first == f"POST {SECRET_PATH} HTTP/1.1"
    assert body == SECRET_BODY
    assert headers == {
        "host": r.origin.removeprefix("http://"), "authorization": SECRET_JWT, "ttl": "60", "urgency": "high",
        "topic": "abc-_", "content-encoding": "aes128gcm", "content-type": "application/octet-stream",
        "content-length": str(len(SECRET_BODY)),
    }  # fmt: skip
    assert "topic" not in seen[1][1]


async def test_one_connection_carries_many_pushes() -> None:
    connections = 0

    async def handler(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        await saying(CREATED)(stream)

    async with rig(handler) as r:
        for number in range(5):
            r.push(number)
        await r.wait_for(5)
    assert connections == 1


async def test_a_connection_closed_while_idle_is_not_used_again() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(CREATED)

    async with rig(handler) as r:
        for number in range(1, 4):
            r.push(number)
            answers = await r.wait_for(number)
            await trio.testing.wait_all_tasks_blocked()
    assert [answer.status for answer in answers] == [201, 201, 201]


async def test_pushes_to_one_endpoint_keep_their_order_and_others_overtake() -> None:
    order: list[bytes] = []
    release = trio.Event()

    async def handler(stream: trio.SocketStream) -> None:
        while True:
            first, _, body = await read_request(stream)
            if "/slow" in first:
                await release.wait()
            order.append(body)
            await stream.send_all(CREATED)

    async with rig(handler) as r:
        for number in range(4):
            r.push(number, r.origin + "/slow", body=b"slow %d" % number)
        for number in range(4, 8):
            r.push(number, r.origin + "/quick", body=b"quick %d" % number)
        await r.wait_for(4)
        release.set()
        answers = await r.wait_for(8)
    assert order == [b"quick 4", b"quick 5", b"quick 6", b"quick 7", b"slow 0", b"slow 1", b"slow 2", b"slow 3"]
    assert [answer.push for answer in answers] == [4, 5, 6, 7, 0, 1, 2, 3]


async def test_a_full_outbox_answers_busy_and_later_takes_more() -> None:
    release = trio.Event()

    async def handler(stream: trio.SocketStream) -> None:
        while True:
            await read_request(stream)
            await release.wait()
            await stream.send_all(CREATED)

    async with rig(handler) as r:
        for number in range(MAX_OUTBOX + 3):
            r.push(number)
        assert r.answers == []  # never from within submit
        answers = list(await r.wait_for(3))
        assert answers == [PushAnswered(PushId(MAX_OUTBOX + number), 0, "busy") for number in range(3)]
        release.set()
        answers = await r.wait_for(MAX_OUTBOX + 3)
        assert {answer.status for answer in answers[3:]} == {201}
        r.push(1000)
        assert (await r.wait_for(MAX_OUTBOX + 4))[-1] == PushAnswered(PushId(1000), 201)
        assert r.sender.counters == {"busy": 3, "status_201": MAX_OUTBOX + 1}


# -- what is answered -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "body", "expected"),
    [
        ("200 OK", b"{}", PushAnswered(PushId(1), 200)),
        ("301 Moved\r\nLocation: http://127.0.0.1:1/x", b"", PushAnswered(PushId(1), 301)),
        ("307 Temporary\r\nLocation: /other", b"", PushAnswered(PushId(1), 307)),
        ("400 Bad", b"\xff\xfe", PushAnswered(PushId(1), 400)),
        ("401 Unauthorized", b'{"code":401,"errno":109,"message":"m"}', PushAnswered(PushId(1), 401, "errno 109")),
        ("404 Not Found", b'{"errno":102}', PushAnswered(PushId(1), 404, "errno 102")),
        ("410 Gone", b'{"errno":"103"}', PushAnswered(PushId(1), 410)),
        ("413 Too Large", b"[" * 60_000, PushAnswered(PushId(1), 413)),
        ("429 Slow\r\nRetry-After: 120", b"", PushAnswered(PushId(1), 429, "", 120.0)),
        ("500 Oh", b"<html>", PushAnswered(PushId(1), 500)),
        ("503 Later\r\nRetry-After: 99999999999999", b"", PushAnswered(PushId(1), 503, "", MAX_RETRY_AFTER)),
        (
            "429 Slow\r\nDate: Wed, 21 Oct 2015 07:28:00 GMT\r\nRetry-After: Wed, 21 Oct 2015 07:29:30 GMT",
            b"",
            PushAnswered(PushId(1), 429, "", 90.0),
        ),
    ],
)
async def test_statuses(head: str, body: bytes, expected: PushAnswered) -> None:
    answer = f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    async with rig(saying(answer)) as r:
        assert await r.answer() == expected


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed"),
        (b"HTTP/1.1 ??? no\r\n\r\n", "malformed"),
        (b"HTTP/1.1 201 Created\r\n bad: folding\x00\r\n\r\n", "malformed"),
        (b"HTTP/1.1 201 Created\r\nX: " + b"y" * 300_000, "malformed"),
        (b"", "reset"),
        (b"HTTP/1.1 201 Crea", "reset"),
    ],
)
async def test_no_answer_at_all(answer: bytes, detail: str) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(answer)

    async with rig(handler) as r:
        assert await r.answer() == PushAnswered(PushId(1), 0, detail)


async def test_a_reset_connection() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await read_request(stream)
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    async with rig(handler) as r:
        assert await r.answer() == PushAnswered(PushId(1), 0, "reset")


async def test_nobody_there() -> None:
    async with rig(saying(CREATED)) as r:
        with trio.socket.socket() as placeholder:
            await placeholder.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take the port
            closed = f"http://127.0.0.1:{placeholder.getsockname()[1]}"
            r.sender._config = PushConfig(trusted_origins=(closed,))
            assert await r.answer(endpoint=closed + SECRET_PATH) == PushAnswered(PushId(1), 0, "refused")


async def test_a_name_that_does_not_exist() -> None:
    class Nothing(trio.abc.HostnameResolver):
        async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # noqa: A002
            raise trio.socket.gaierror(trio.socket.EAI_NONAME, "Name or service not known")

        async def getnameinfo(self, sockaddr, flags):
            raise NotImplementedError

    async with rig(saying(CREATED)) as r:
        trio.socket.set_custom_hostname_resolver(Nothing())
        assert await r.answer(endpoint="https://push.invalid/x") == PushAnswered(PushId(1), 0, "dns")


async def test_a_silent_service_is_a_timeout() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with rig(handler, request_timeout=0.1) as r:
        assert await r.answer() == PushAnswered(PushId(1), 0, "timeout")


async def test_a_service_that_trickles_its_head_is_a_timeout() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await read_request(stream)
        while True:
            await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            await trio.sleep(0.01)

    async with rig(handler, request_timeout=0.1) as r:
        assert await r.answer() == PushAnswered(PushId(1), 0, "timeout")


async def test_an_endless_body_is_not_read_to_its_end() -> None:
    sent = 0

    async def handler(stream: trio.SocketStream) -> None:
        nonlocal sent
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 201 Created\r\nContent-Length: 99999999999\r\n\r\n")
        while True:
            await stream.send_all(bytes(65_536))
            sent += 65_536

    async with rig(handler) as r:
        assert await r.answer() == PushAnswered(PushId(1), 201)
        r.push(2)  # and the connection it came on is not used again
        assert (await r.wait_for(2))[1] == PushAnswered(PushId(2), 201)
        gc.collect()
    assert sent < 32 * 1024 * 1024  # what fits into two sockets' buffers, and not what the sender took


async def test_a_body_that_stalls_or_breaks_off_takes_nothing_from_the_status() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        first, _, _ = await read_request(stream)
        await stream.send_all(b"HTTP/1.1 410 Gone\r\nContent-Length: 100\r\n\r\n{")
        if "/stalls" in first:
            await trio.sleep_forever()

    async with rig(handler, request_timeout=0.2) as r:
        r.push(1, r.origin + "/breaks")
        r.push(2, r.origin + "/stalls")
        assert await r.wait_for(2) == [PushAnswered(PushId(1), 410), PushAnswered(PushId(2), 410)]


async def test_tls_is_verified() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"\x15\x03\x01\x00\x02\x02\x28")  # alert: handshake failure

    async with rig(handler) as r:
        origin = r.origin.replace("http:", "https:")
        r.sender._config = PushConfig(trusted_origins=(origin,))
        assert await r.answer(endpoint=origin + "/x") == PushAnswered(PushId(1), 0, "tls")


async def test_refused_endpoints_name_their_rule() -> None:
    async with rig(saying(CREATED)) as r:
        refused = {
            "not_https": "http://push.example/",
            "loopback": "https://localhost/",
            "private": "https://10.0.0.1/",
        }
        for number, (rule, endpoint) in enumerate(refused.items()):
            r.push(number, endpoint)
            answers = await r.wait_for(number + 1)
            assert answers[-1] == PushAnswered(PushId(number), 0, f"endpoint_refused: {rule}")
        assert r.sender.counters == {"endpoint_refused": 3}


async def test_headers_that_cannot_be_sent() -> None:
    async with rig(saying(CREATED)) as r:
        r.push(1, authorization="vapid t=a\r\nX-Evil: 1")
        r.push(2, authorization="vapid t=\u1234")
        answers = await r.wait_for(2)
        r.push(3)
        await r.wait_for(3)
    assert sorted(answers[:2], key=lambda answer: answer.push) == [
        PushAnswered(PushId(1), 0, "malformed_request"), PushAnswered(PushId(2), 0, "malformed_request"),
    ]  # fmt: skip
    assert answers[2].status == 201


async def test_no_secret_is_logged_or_answered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with rig(saying(b"HTTP/1.1 404 sEcReTpAtH\r\nContent-Length: 10\r\n\r\nsEcReTbOdY")) as r:
        r.push(1)
        r.push(2, "https://localhost" + SECRET_PATH)
        r.push(3, "http://[bad" + SECRET_PATH)
        answers = await r.wait_for(3)
    assert "sEcReT" not in repr(answers)
    assert "sEcReTpAtH" not in "".join(line for line in caplog.text.splitlines(True) if "404" not in line)
    assert "sEcReTjWt" not in caplog.text
    assert "sEcReTbOdY" not in caplog.text


# -- the pure parts ---------------------------------------------------------------------------------------------------


@given(st.text(st.characters(max_codepoint=255)))
def test_any_retry_after_is_bounded_or_none(text: str) -> None:
    wait = retry_after([(b"Retry-After", text.encode("latin-1")), (b"Date", text[::-1].encode("latin-1"))], time.time())
    assert wait is None or 0 <= wait <= MAX_RETRY_AFTER


@given(st.integers(-1000, 1000), st.booleans())
def test_a_date_is_counted_from_the_services_clock(seconds: int, with_date: bool) -> None:
    now = 1_700_000_000
    headers = [(b"retry-after", email.utils.formatdate(now + seconds, usegmt=True).encode())]
    if with_date:
        headers.append((b"date", email.utils.formatdate(now, usegmt=True).encode()))
    assert retry_after(headers, now + 555 if with_date else now) == max(seconds, 0)


@given(st.binary() | st.recursive(st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)).map(repr))
def test_any_body_has_an_error_number_or_none(body: bytes | str) -> None:
    assert error_number(body.encode(errors="surrogatepass") if isinstance(body, str) else body) is None


def test_error_numbers() -> None:
    assert error_number(b'{"errno": 109}') == 109
    assert error_number(b'{"errno": true}') is None
    assert error_number(b'{"errno": ' + b"9" * 10_000 + b"}") is None
