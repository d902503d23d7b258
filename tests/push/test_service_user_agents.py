"""The push service towards user agents: the autopush protocol over real WebSockets, and what breaks it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import trio
from push_service_client import (
    KEY,
    OTHER_KEY,
    WAIT,
    UserAgent,
    connected,
    new_channel,
    opened,
    plaintext_of,
    sending,
)
from trio_websocket import ConnectionClosed

from meshd.crypto.base64url import encode_base64url
from meshd.push.service.app import PushService, serve
from meshd.push.service.config import Limits, ServiceConfig


@pytest.fixture
async def service(nursery: trio.Nursery, tmp_path: Path) -> PushService:
    return await started(nursery, tmp_path)


async def started(nursery: trio.Nursery, state: Path, **limits: float) -> PushService:
    config = ServiceConfig(state / "state", "127.0.0.1:0", limits=Limits(**limits))  # type: ignore[arg-type]
    return await nursery.start(serve, config)


async def test_hello(service: PushService):
    async with connected(service.websocket_url) as agent:
        expected = {"messageType": "hello", "uaid": agent.uaid, "status": 200, "use_webpush": True, "broadcasts": {}}
        assert agent.hello == expected
        assert agent.ws.subprotocol == "push-notification"
        bytes.fromhex(agent.uaid)
        assert len(agent.uaid) == 32


async def test_broadcasts_are_answered_as_by_a_service_that_has_none(service: PushService):
    wanted = {"remote-settings/monitor_changes": '"1"'}
    missing = {"errors": {"remote-settings/monitor_changes": "Broadcast not found"}}
    async with opened(service.websocket_url) as ws:
        await ws.send_message(json.dumps({"messageType": "hello", "broadcasts": wanted}))
        assert json.loads(await ws.get_message())["broadcasts"] == missing
        await ws.send_message(json.dumps({"messageType": "broadcast_subscribe", "broadcasts": {}}))
        await ws.send_message(json.dumps({"messageType": "broadcast_subscribe", "broadcasts": wanted}))
        assert json.loads(await ws.get_message()) == {"messageType": "broadcast", "broadcasts": missing}


async def test_ids_have_one_form_in_register_and_any_elsewhere(service: PushService):
    channel = new_channel()
    async with connected(service.websocket_url) as agent:
        await agent.register(channel)
        await agent.say(messageType="unregister", channelID=channel.upper())
        answer = await agent.answer("unregister")
        assert (answer["channelID"], answer["status"]) == (channel, 200)
        await agent.say(messageType="unregister", channelID=channel.replace("-", ""), code=202)
        assert (await agent.answer("unregister"))["status"] == 200  # as if it had been there
        await agent.say(messageType="register", channelID=channel.replace("-", ""), key=encode_base64url(KEY.public))
        assert await agent.closed() == (1011, "InvalidMessage")


async def test_a_user_agent_without_subprotocol_is_welcome(service: PushService):
    async with opened(service.websocket_url, ()) as ws:
        await ws.send_message('{"messageType":"hello"}')
        assert json.loads(await ws.get_message())["status"] == 200
        assert ws.subprotocol is None


async def test_a_known_uaid_is_kept_and_any_other_replaced(service: PushService):
    async with connected(service.websocket_url) as agent:
        await agent.register()
    async with connected(service.websocket_url, agent.uaid) as again:
        assert again.uaid == agent.uaid
    for uaid in ("", "ab" * 16, "no hex", agent.uaid[:-1], agent.uaid + "0"):
        async with connected(service.websocket_url, uaid) as other:
            assert other.uaid not in (uaid, agent.uaid)
            assert other.hello["status"] == 200


async def test_register_and_register_again(service: PushService):
    channel = new_channel()
    async with connected(service.websocket_url) as agent:
        endpoint = await agent.register(channel)
        assert endpoint.startswith(f"{service.public_url}/wpush/v2/")
        assert await agent.register(channel) == endpoint
        assert await agent.register() != endpoint
        assert agent.uaid not in endpoint
    async with connected(service.websocket_url, agent.uaid) as agent:
        assert await agent.register(channel) == endpoint


@pytest.mark.parametrize("key", [None, "", "!", encode_base64url(b"\x04" + bytes(64)), encode_base64url(bytes(32))])
async def test_a_channel_needs_a_proper_key(service: PushService, key: str | None):
    async with connected(service.websocket_url) as agent:
        channel = new_channel()
        await agent.say(messageType="register", channelID=channel, **({} if key is None else {"key": key}))
        answer = await agent.next()
        assert (answer["status"], answer["channelID"]) == (400, channel)
        await agent.register(channel)


async def test_another_key_for_a_channel_is_a_conflict(service: PushService):
    channel = new_channel()
    async with connected(service.websocket_url) as agent:
        await agent.register(channel)
        await agent.say(messageType="register", channelID=channel, key=encode_base64url(OTHER_KEY.public))
        assert (await agent.next())["status"] == 409
        assert await agent.unregister(channel) == 200
        await agent.register(channel, OTHER_KEY.public)


async def test_channels_are_bounded(nursery: trio.Nursery, tmp_path: Path):
    service = await started(nursery, tmp_path, max_channels_per_user_agent=1)
    async with connected(service.websocket_url) as agent:
        await agent.register()
        await agent.say(messageType="register", channelID=new_channel(), key=encode_base64url(KEY.public))
        assert (await agent.next())["status"] == 500


async def test_newcomers_are_let_in_slowly_and_the_known_always(nursery: trio.Nursery, tmp_path: Path):
    service = await started(nursery, tmp_path, newcomer_burst=1, newcomer_rate=0.001)
    async with connected(service.websocket_url) as known, connected(service.websocket_url) as stranger:
        await known.register()
        await stranger.say(messageType="register", channelID=new_channel(), key=encode_base64url(KEY.public))
        assert (await stranger.next())["status"] == 500
        await known.register()


async def test_a_push_arrives_as_it_was_sent(service: PushService):
    channel = new_channel()
    async with connected(service.websocket_url) as agent, sending() as sender:
        endpoint = await agent.register(channel)
        answer = await sender.post(endpoint, b"hello", ttl="0")
        message = await agent.notification()
        assert plaintext_of(message) == b"hello"
        assert message["channelID"] == channel
        assert answer.headers["Location"].endswith(message["version"])
        await sender.post(endpoint, body=b"")
        empty = await agent.notification()
        assert set(empty) == {"messageType", "channelID", "version"}


async def test_every_code_of_an_acknowledgement_ends_the_message(service: PushService):
    async with connected(service.websocket_url) as agent, sending() as sender:
        endpoint = await agent.register()
        for code in (100, 101, 102):
            await sender.deliver(endpoint, b"%d" % code)
            await agent.acknowledge(await agent.notification(), code=code)
        await agent.say(messageType="nack", version="x", code=301)
        await agent.settled()
    assert service.counters["acknowledged_101"] == service.counters["acknowledged_102"] == 1
    async with connected(service.websocket_url, agent.uaid) as agent:
        await agent.settled()
        assert agent.inbox == []


async def test_what_was_not_acknowledged_comes_again(service: PushService):
    async with connected(service.websocket_url) as agent, sending() as sender:
        endpoint = await agent.register()
        await sender.deliver(endpoint, b"once", b"twice")
        first = await agent.notification()
        await agent.acknowledge(first)
        await agent.settled()
    async with connected(service.websocket_url, agent.uaid) as agent:
        assert await agent.receive() == [b"twice"]


async def test_nobody_acknowledges_for_somebody_else(service: PushService):
    async with connected(service.websocket_url) as agent, connected(service.websocket_url) as thief:
        async with sending() as sender:
            await sender.deliver(await agent.register(), b"mine")
        await thief.acknowledge(await agent.notification())
        await thief.settled()
    async with connected(service.websocket_url, agent.uaid) as agent:
        assert await agent.receive() == [b"mine"]


async def test_a_newer_connection_takes_over(service: PushService):
    async with connected(service.websocket_url) as old, sending() as sender:
        endpoint = await old.register()
        async with connected(service.websocket_url, old.uaid) as new:
            assert new.uaid == old.uaid
            assert await old.closed() == (1011, "Ghost")
            await sender.deliver(endpoint, b"to the new one")
            assert await new.receive() == [b"to the new one"]
    assert service.counters["user_agent_ghosted"] == 1


async def test_pings(nursery: trio.Nursery, tmp_path: Path):
    service = await started(nursery, tmp_path, min_ping_interval=0.2)
    async with connected(service.websocket_url) as agent:
        for ping in ({}, {"messageType": "ping"}):
            await agent.say(**ping)
            assert await agent.next() == {}
            await trio.sleep(0.25)
        await agent.say(messageType="broadcast_subscribe", broadcasts={"a/b": "c"})
        await agent.say()
        await agent.say()
        assert await agent.closed() == (1011, "ExcessivePing")


async def test_a_silent_user_agent_is_pinged_and_a_dead_one_closed(nursery: trio.Nursery, tmp_path: Path):
    service = await started(nursery, tmp_path, ping_interval=0.1, pong_timeout=0.1)
    async with connected(service.websocket_url) as agent:
        await trio.sleep(0.5)  # several rounds of ping and pong, which the client's library answers
        await agent.register()
    async with await trio.open_tcp_stream("127.0.0.1", service.port) as stream:
        await stream.send_all(HANDSHAKE)
        with trio.fail_after(WAIT):
            while await stream.receive_some(65536):  # reads the pings, answers none
                pass


async def test_hello_comes_first_and_soon(nursery: trio.Nursery, tmp_path: Path):
    service = await started(nursery, tmp_path, hello_timeout=0.1)
    async with opened(service.websocket_url) as ws:
        assert await UserAgent(ws, "", {}).closed() == (1011, "HandshakeTimeout")
    for first in ("{}", '{"messageType":"register"}', "garbage", '{"messageType":"ping"}'):
        async with opened(service.websocket_url) as ws:
            await ws.send_message(first)
            assert await UserAgent(ws, "", {}).closed() == (1011, "InvalidMessage")


@pytest.mark.parametrize(
    "text",
    [
        "garbage",
        "[]",
        '{"messageType":"hello"}',
        '{"messageType":"bye"}',
        '{"messageType":"register","channelID":"0A0B0C0D-0000-4000-8000-00000000000F"}',
        '{"messageType":"ack"}',
        "[" * 60_000,
    ],
)
async def test_what_breaks_the_protocol_is_closed(service: PushService, text: str):
    async with connected(service.websocket_url) as agent:
        await agent.ws.send_message(text)
        assert await agent.closed() == (1011, "InvalidMessage")


async def test_frames_too_large_or_of_the_wrong_kind(service: PushService):
    async with connected(service.websocket_url) as agent:
        with pytest.raises(ConnectionClosed):  # noqa: PT012
            for _ in range(100):
                await agent.ws.send_message("x" * 1_000_000)
        assert agent.ws.closed is not None
    async with connected(service.websocket_url) as agent:
        await agent.ws.send_message(b"binary")
        assert (await agent.closed())[0] == 1003


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    b"\x81\x97\x00\x00\x00\x00" + b'{"messageType":"hello"}'
)


async def test_any_bytes_end_the_connection_and_nothing_else(service: PushService):
    randomness = random.Random(7)
    for size in (1, 10, 1000, 60_000) * 3:
        stream = await trio.open_tcp_stream("127.0.0.1", service.port)
        async with stream:
            with trio.fail_after(WAIT):
                try:
                    await stream.send_all(HANDSHAKE + randomness.randbytes(size))
                    await stream.send_eof()
                    while await stream.receive_some(65536):
                        pass
                except trio.BrokenResourceError:
                    pass
    assert service.counters["connection_crashed"] == 0
    async with connected(service.websocket_url) as agent:
        await agent.register()


async def test_no_compression_is_agreed_on(service: PushService):
    stream = await trio.open_tcp_stream("127.0.0.1", service.port)
    async with stream:
        await stream.send_all(HANDSHAKE)
        answer = await stream.receive_some(4096)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"deflate" not in answer.lower()


async def test_a_user_agent_that_asks_and_never_reads_is_cut_off(nursery: trio.Nursery, tmp_path: Path):
    service = await started(
        nursery, tmp_path, max_outbox_size=2000, send_timeout=0.3, user_agent_burst=100_000, user_agent_rate=1e6
    )
    stream = await trio.open_tcp_stream("127.0.0.1", service.port)
    members = {"messageType": "unregister", "channelID": new_channel()}
    text = json.dumps(members).encode()
    frame = b"\x81\xfe" + len(text).to_bytes(2) + bytes(4) + text if len(text) > 125 else b""
    frame = frame or b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text
    async with stream:
        with trio.fail_after(20), pytest.raises(trio.BrokenResourceError):  # noqa: PT012
            await stream.send_all(HANDSHAKE)
            while True:
                await stream.send_all(frame * 500)
    async with connected(service.websocket_url) as agent:
        await agent.register()


async def test_a_slow_reader_loses_nothing_that_is_stored(nursery: trio.Nursery, tmp_path: Path):
    service = await started(nursery, tmp_path, max_outbox_size=12_000)
    async with connected(service.websocket_url) as agent, sending() as sender:
        endpoint = await agent.register()
        plaintexts = [b"%d" % number + bytes(3000) for number in range(40)]
        async with trio.open_nursery() as posting:
            for plaintext in plaintexts:
                posting.start_soon(sender.deliver, endpoint, plaintext)
        assert sorted(await agent.receive(40)) == sorted(plaintexts)


async def test_logs_name_no_secret(service: PushService, capsys: pytest.CaptureFixture[str]):
    async with connected(service.websocket_url) as agent, sending() as sender:
        endpoint = await agent.register()
        await sender.deliver(endpoint, b"x")
        await sender.post(endpoint, authorization="vapid t=secretjwt,k=x")
        async with connected(service.websocket_url, agent.uaid):
            await agent.closed()
    logged = "".join(capsys.readouterr())
    assert "user_agent_connected" in logged
    for secret in (agent.uaid, endpoint.rpartition("/")[2], "secretjwt", "eyJ"):
        assert secret not in logged


async def test_many_at_once(service: PushService):
    """Ten user agents, ten messages each, every one delivered once and in order."""
    got: dict[int, list[bytes]] = {}

    async def one(number: int) -> None:
        async with connected(service.websocket_url) as agent, sending() as sender:
            endpoint = await agent.register()
            async with trio.open_nursery() as posting:
                posting.start_soon(sender.deliver, endpoint, *(b"%d" % count for count in range(10)))
                got[number] = await agent.receive(10)

    async with trio.open_nursery() as everybody:
        for number in range(10):
            everybody.start_soon(one, number)
    assert all(received == [b"%d" % count for count in range(10)] for received in got.values())
    assert len(got) == 10
