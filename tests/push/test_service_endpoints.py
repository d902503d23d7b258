"""The push service towards senders: every status, over real sockets."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import httpx
import pytest
import trio
from push_service_client import KEY, OTHER_KEY, authorization, body_of, connected, new_channel, sending

from meshd.crypto.base64url import encode_base64url
from meshd.push.service.app import PushService, serve
from meshd.push.service.config import Limits, ServiceConfig


@pytest.fixture
async def service(nursery: trio.Nursery, tmp_path: Path) -> PushService:
    return await nursery.start(serve, ServiceConfig(tmp_path / "state", "127.0.0.1:0"))


@pytest.fixture
async def endpoint(service: PushService) -> str:
    async with connected(service.websocket_url) as agent:
        return await agent.register()


def errno(answer: httpx.Response) -> int | None:
    body = answer.json()
    assert body["code"] == answer.status_code
    assert body["message"]
    return body["errno"]


async def test_a_push_is_accepted(service: PushService, endpoint: str):
    async with sending() as sender:
        answer = await sender.post(endpoint, b"hello", urgency="high", topic="abc_-9")
    assert answer.status_code == 201
    assert answer.headers["TTL"] == "60"
    assert answer.headers["Location"].startswith(f"{service.public_url}/m/")
    assert answer.content == b""


@pytest.mark.parametrize(
    ("headers", "number"),
    [
        ({"ttl": None}, 111),
        ({"ttl": "soon"}, 111),
        ({"ttl": ""}, 111),
        ({"ttl": "1.5"}, 111),
        ({"ttl": "-1"}, 114),
        ({"topic": "a" * 33}, 113),
        ({"topic": ""}, 113),
        ({"topic": "with space"}, 113),
        ({"topic": "a=="}, 113),
        ({"urgency": "extreme"}, None),
        ({"urgency": "low, high"}, None),
        ({"content_encoding": None}, 110),
        ({"content_encoding": "aesgcm"}, 110),
        ({"content_encoding": "gzip"}, 110),
    ],
)
async def test_bad_headers(endpoint: str, headers: dict[str, str | None], number: int | None):
    async with sending() as sender:
        answer = await sender.post(endpoint, **headers)
    assert (answer.status_code, errno(answer)) == (400, number)


async def test_the_largest_ttl_is_thirty_days(endpoint: str):
    async with sending() as sender:
        answer = await sender.post(endpoint, ttl="99999999999")
    assert (answer.status_code, answer.headers["TTL"]) == (201, "2592000")


async def test_every_fault_of_vapid_is_401(endpoint: str):
    now = time.time()
    good = authorization(endpoint)
    t = good.partition("t=")[2].partition(",")[0]
    cases = {
        "absent": None,
        "another scheme": f"Bearer {t}",
        "no k": f"vapid t={t}",
        "no t": f"vapid k={encode_base64url(KEY.public)}",
        "garbage": "vapid t=a.b.c,k=!",
        "no jwt": f"vapid t=abc, k={encode_base64url(KEY.public)}",
        "another key": authorization(endpoint, key=OTHER_KEY),
        "signed by another": f"vapid t={authorization(endpoint, key=OTHER_KEY).partition('t=')[2].partition(',')[0]}, "
        f"k={encode_base64url(KEY.public)}",
        "another audience": authorization(endpoint, audience="https://push.example.net"),
        "expired": authorization(endpoint, exp=now - 10),
        "too far ahead": authorization(endpoint, exp=now + 86400 + 60),
        "long": "vapid t=" + "a" * 5000,
    }
    async with sending() as sender:
        for case, value in cases.items():
            answer = await sender.post(endpoint, authorization=value)
            assert (answer.status_code, errno(answer)) == (401, 109), case
            assert answer.headers["WWW-Authenticate"] == "vapid"
        assert (await sender.post(endpoint, authorization=authorization(endpoint, exp=now + 86300))).status_code == 201


async def test_a_jwt_outlives_its_use_but_not_the_channel(service: PushService):
    channel = new_channel()
    async with connected(service.websocket_url) as agent, sending() as sender:
        endpoint = await agent.register(channel)
        header = authorization(endpoint)
        assert (await sender.post(endpoint, authorization=header)).status_code == 201
        assert await agent.unregister(channel) == 200
        answer = await sender.post(endpoint, authorization=header)
        assert (answer.status_code, errno(answer)) == (410, 106)
        assert answer.headers["Cache-Control"] == "max-age=86400"


async def test_what_is_not_there(service: PushService, endpoint: str):
    async with sending() as sender:
        for path in ("/wpush/v2/garbage", "/wpush/v2/", "/wpush/v1/x", "/wpush/v2/" + "A" * 54, "/nowhere"):
            answer = await sender.post(f"{service.public_url}{path}")
            assert (answer.status_code, errno(answer)) == (404, 102), path
        assert (await sender.post(f"{service.public_url}/m/x")).status_code == 405
        damaged = endpoint[:-1] + ("A" if endpoint[-1] != "A" else "B")
        assert (await sender.post(damaged)).status_code in (404, 201)  # the last character has bits to spare
        assert (await sender.post(endpoint[:-4] + "AAAA")).status_code == 404
        for method in ("GET", "PUT", "DELETE", "HEAD"):
            assert (await sender.http.request(method, endpoint)).status_code == 405


async def test_sizes(endpoint: str):
    async with sending() as sender:
        assert (await sender.post(endpoint, body=body_of(bytes(3993)))).status_code == 201
        assert (await sender.post(endpoint, body=b"")).status_code == 201
        for size in (4097, 200_000):
            answer = await sender.post(endpoint, body=bytes(size))
            assert (answer.status_code, errno(answer)) == (413, 104)

        async def chunks():
            for _ in range(5):
                yield bytes(1000)

        headers = {"TTL": "1", "Content-Encoding": "aes128gcm", "Authorization": authorization(endpoint)}
        answer = await sender.http.post(endpoint, content=chunks(), headers=headers)
        assert answer.status_code == 413


async def test_the_signing_key_is_not_for_encrypting(endpoint: str):
    body = bytearray(body_of(b"x"))
    body[21:86] = KEY.public
    async with sending() as sender:
        answer = await sender.post(endpoint, body=bytes(body))
    assert (answer.status_code, errno(answer)) == (400, 110)


async def test_a_message_can_be_taken_back(service: PushService):
    async with sending() as sender:
        async with connected(service.websocket_url) as agent:
            endpoint = await agent.register()
        location = (await sender.post(endpoint, b"no")).headers["Location"]
        await sender.deliver(endpoint, b"yes")
        assert (await sender.http.delete(location)).status_code == 204
        assert (await sender.http.delete(location)).status_code == 204
        assert (await sender.http.delete(f"{service.public_url}/m/short")).status_code == 400
        async with connected(service.websocket_url, agent.uaid) as agent:
            assert await agent.receive() == [b"yes"]


async def test_any_page_may_push(service: PushService, endpoint: str):
    origin = {"Origin": "https://page.example"}
    wanted = "authorization,content-encoding,content-type,ttl,topic,urgency"
    async with sending() as sender:
        preflight = await sender.http.options(
            endpoint,
            headers=origin | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": wanted},
        )
        assert preflight.status_code == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == "*"
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        allowed = preflight.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
        assert set(wanted.split(",")) <= set(allowed)
        assert {"crypto-key", "encryption"} <= set(allowed)
        answers = [
            await sender.post(endpoint, origin=origin["Origin"]),
            await sender.post(endpoint, origin=origin["Origin"], ttl=None),
            await sender.post(endpoint, authorization=None),
            await sender.post(f"{service.public_url}/wpush/v2/x"),
        ]
        assert [answer.status_code for answer in answers] == [201, 400, 401, 404]
        for answer in answers:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            exposed = answer.headers["Access-Control-Expose-Headers"].lower()
            assert all(name in exposed for name in ("location", "retry-after", "ttl"))


async def test_rates_are_limited_by_endpoint_and_by_source(nursery: trio.Nursery, tmp_path: Path):
    limits = Limits(endpoint_rate=0.1, endpoint_burst=3, source_rate=0.1, source_burst=8)
    service: PushService = await nursery.start(serve, ServiceConfig(tmp_path, "127.0.0.1:0", limits=limits))
    async with connected(service.websocket_url) as agent, sending() as sender:
        endpoint, second = await agent.register(), await agent.register()
        await sender.deliver(endpoint, b"1", b"2", b"3")
        answer = await sender.post(endpoint)
        assert (answer.status_code, errno(answer)) == (429, 201)
        assert 1 <= int(answer.headers["Retry-After"]) <= 10
        await sender.deliver(second, b"1", b"2", b"3")
        statuses = [(await sender.post(f"{service.public_url}/wpush/v2/x")).status_code for _ in range(2)]
        assert statuses == [404, 429]
        assert (await sender.http.get(f"{service.public_url}/health")).status_code == 200


async def test_a_full_store_says_come_back_later(nursery: trio.Nursery, tmp_path: Path):
    limits = Limits(max_stored_messages=2)
    service: PushService = await nursery.start(serve, ServiceConfig(tmp_path, "127.0.0.1:0", limits=limits))
    async with sending() as sender:
        async with connected(service.websocket_url) as agent:
            endpoint = await agent.register()
        await sender.deliver(endpoint, b"1", b"2")
        answer = await sender.post(endpoint)
        assert (answer.status_code, errno(answer), answer.headers["Retry-After"]) == (503, 201, "120")
        assert (await sender.post(endpoint, ttl="0")).status_code == 201


async def test_a_full_database_says_come_back_later_and_recovers(nursery: trio.Nursery, tmp_path: Path):
    limits = Limits(
        max_database_size=300_000, max_stored_per_channel=1000, max_stored_per_user_agent=1000, endpoint_burst=1000
    )
    service: PushService = await nursery.start(serve, ServiceConfig(tmp_path, "127.0.0.1:0", limits=limits))
    async with sending() as sender:
        async with connected(service.websocket_url) as agent:
            endpoint = await agent.register()
        accepted = 0
        while (answer := await sender.post(endpoint, b"%d" % accepted, body=body_of(bytes(3900)))).status_code == 201:
            accepted += 1
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        assert 20 < accepted < 80
        async with connected(service.websocket_url, agent.uaid) as agent:
            assert len(await agent.receive(accepted)) == accepted
            await agent.settled()
            await sender.deliver(endpoint, b"room again")


async def test_health_tells_numbers_only(service: PushService):
    async with connected(service.websocket_url) as agent, sending() as sender:
        endpoint = await agent.register()
        await sender.deliver(endpoint, b"1")
        answer = await sender.http.get(f"{service.public_url}/health")
        assert answer.headers["Content-Type"] == "application/json"
        assert json.loads(answer.content) == {
            "status": "ok",
            "user_agents": {"connected": 1, "known": 1},
            "channels": 1,
            "messages": {"stored": 1},
        }
        assert agent.uaid not in answer.text


async def raw(service: PushService, data: bytes, *, end: bool = False) -> bytes:
    """What comes back for ``data`` until the service closes."""
    stream = await trio.open_tcp_stream("127.0.0.1", service.port)
    answer = b""
    async with stream:
        with trio.fail_after(5):
            try:
                await stream.send_all(data)
                if end:
                    await stream.send_eof()
                while piece := await stream.receive_some(65536):
                    answer += piece
            except trio.BrokenResourceError:
                pass
    return answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000, b"431"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: nine\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", b"404"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"400"),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"404"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /health HTTP/1.0\r\n\r\n", b"200"),
    ],
)
async def test_what_is_not_quite_http(service: PushService, data: bytes, status: bytes):
    answer = await raw(service, data)
    assert answer.split(b" ")[1] == status
    async with sending() as sender:
        assert (await sender.http.get(f"{service.public_url}/health")).status_code == 200


async def test_any_bytes_are_answered_or_dropped(service: PushService):
    randomness = random.Random(5)
    for start in (
        b"",
        b"POST /wpush/v2/x HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ):
        for size in (1, 100, 30_000):
            await raw(service, start + randomness.randbytes(size), end=True)
    assert service.counters["connection_crashed"] == 0


async def test_a_request_that_never_ends_is_given_up(nursery: trio.Nursery, tmp_path: Path):
    limits = Limits(request_timeout=0.2, max_connections=2)
    service: PushService = await nursery.start(serve, ServiceConfig(tmp_path, "127.0.0.1:0", limits=limits))
    assert await raw(service, b"GET / HT") == b""
    assert await raw(service, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12") == b""


async def test_connections_are_bounded(nursery: trio.Nursery, tmp_path: Path):
    limits = Limits(max_connections_per_source=2)
    service: PushService = await nursery.start(serve, ServiceConfig(tmp_path, "127.0.0.1:0", limits=limits))
    async with connected(service.websocket_url), connected(service.websocket_url):
        assert (await raw(service, b"")).startswith(b"HTTP/1.1 503 ")
    assert service.counters["refused_connections"] == 1
    with trio.fail_after(5):
        while "\nmeshd_pushservice_connections 0\n" not in service.metrics():  # noqa: ASYNC110
            await trio.sleep(0.01)
    async with connected(service.websocket_url):
        pass
