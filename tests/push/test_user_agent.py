"""The user agent against a push service of the test's own, over memory streams and under a clock that jumps.

No test here waits for real time; each asks for ``autojump_clock`` by name, which is where pytest-trio looks.
The service's end of the WebSocket is trio-websocket, so that two implementations meet.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from meshd.config import PushConfig
from meshd.core.commands import AcknowledgePush, CloseUserAgent, OpenUserAgent, RegisterChannel, UnregisterChannel
from meshd.core.events import (
    ChannelRefused,
    ChannelRegistered,
    PushReceived,
    UserAgentConnected,
    UserAgentDisconnected,
)
from meshd.errors import LocalMisuse
from meshd.ids import ChannelId
from meshd.push.autopush_user_agent import MAX_REQUESTS, MAX_UNACKNOWLEDGED, PING_INTERVAL, PONG_TIMEOUT
from meshd.push.user_agent import UserAgents
from meshd.push.user_agent_ports import FIRST_RETRY_INTERVAL, MAX_RETRY_INTERVAL
from meshd.push.websocket import MAX_FRAME_SIZE, ConnectionLost, ServiceUrl

SERVICE = "wss://push.example/"
UAID = "0123456789abcdef0123456789abcdef"
KEY = b"\4" + bytes(64)
A, B = ChannelId(b"A" * 16), ChannelId(b"B" * 16)


def text(channel: ChannelId) -> str:
    return str(UUID(bytes=channel))


def registered(channel: ChannelId) -> dict[str, Any]:
    return {"messageType": "register", "channelID": text(channel), "status": 200, "pushEndpoint": "https://e/"}


class Peer:
    """The service's end of one connection."""

    def __init__(self, websocket: WebSocketConnection, stream: trio.abc.Stream) -> None:
        self.websocket = websocket
        self.stream = stream

    async def heard(self) -> dict[str, Any]:
        return json.loads(await self.websocket.get_message())

    async def say(self, message: Any) -> None:
        await self.websocket.send_message(message if isinstance(message, str) else json.dumps(message))

    async def welcome(self, uaid: str = UAID) -> dict[str, Any]:
        hello = await self.heard()
        await self.say({"messageType": "hello", "status": 200, "uaid": uaid, "use_webpush": True, "broadcasts": {}})
        return hello

    async def push(self, channel: ChannelId = A, version: str = "v1", data: Any = "Ym9keQ") -> None:
        await self.say({
            "messageType": "notification", "channelID": text(channel), "version": version, "data": data,
        })  # fmt: skip


class Cable(trio.abc.Stream):
    """A connection that can die without a word: what is sent vanishes and nothing comes."""

    def __init__(self, stream: trio.StapledStream[Any, Any]) -> None:
        self._stream = stream
        self.cut = False

    async def send_all(self, data: bytes) -> None:
        if self.cut:
            await trio.lowlevel.checkpoint()
        else:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class Rig:
    def __init__(self, nursery: trio.Nursery, config: PushConfig | None = None) -> None:
        self.events: list[Any] = []
        self.dials: list[float] = []
        self.cables: list[Cable] = []
        self.reachable = True
        self._nursery = nursery
        self._news = trio.Event()
        self._peers_send, self._peers = trio.open_memory_channel[Peer](100)
        self.agents = UserAgents(config or PushConfig(), self._deliver, random.Random(5), connect=self._connect)
        self.submit = self.agents.submit

    def _deliver(self, event: Any) -> None:
        self.events.append(event)
        self._news.set()

    async def _connect(self, url: ServiceUrl) -> trio.abc.Stream:
        self.dials.append(trio.current_time())
        if not self.reachable:
            raise ConnectionLost("refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._accept, theirs)
        self.cables.append(Cable(ours))
        return self.cables[-1]

    async def _accept(self, stream: trio.abc.Stream) -> None:
        request = await wrap_server_stream(self._nursery, stream)
        self._peers_send.send_nowait(Peer(await request.accept(), stream))

    async def peer(self) -> Peer:
        with trio.fail_after(2 * MAX_RETRY_INTERVAL):
            return await self._peers.receive()

    async def event(self, wanted: Callable[[Any], bool] | type) -> Any:
        """The next event, which has to be of that kind."""
        with trio.fail_after(2 * MAX_RETRY_INTERVAL):
            while not self.events:
                self._news = trio.Event()
                await self._news.wait()
        event = self.events.pop(0)
        assert isinstance(event, wanted) if isinstance(wanted, type) else wanted(event), event
        return event

    async def open(self, uaid: str = UAID) -> Peer:
        self.submit(OpenUserAgent(SERVICE, uaid))
        peer = await self.peer()
        await peer.welcome()
        assert await self.event(UserAgentConnected) == UserAgentConnected(SERVICE, UAID)
        return peer


@asynccontextmanager
async def rig(config: PushConfig | None = None) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        made = Rig(nursery, config)
        await nursery.start(made.agents.run)
        yield made
        nursery.cancel_scope.cancel()


# -- hello ------------------------------------------------------------------------------------------------------------


async def test_hello_offers_the_saved_uaid_and_reports_the_services(autojump_clock) -> None:
    async with rig() as r:
        r.submit(OpenUserAgent(SERVICE, UAID))
        hello = await (await r.peer()).welcome("f" * 32)
        assert hello == {"messageType": "hello", "uaid": UAID, "use_webpush": True, "broadcasts": {}}
        assert await r.event(UserAgentConnected) == UserAgentConnected(SERVICE, "f" * 32)


async def test_a_first_hello_has_no_uaid_and_a_later_one_the_one_we_got(autojump_clock) -> None:
    async with rig() as r:
        r.submit(OpenUserAgent(SERVICE, ""))
        peer = await r.peer()
        assert "uaid" not in await peer.welcome()
        await r.event(UserAgentConnected)
        await peer.websocket.aclose(1000, "UaidReset")
        assert await r.event(UserAgentDisconnected) == UserAgentDisconnected(SERVICE, "closed: 1000 UaidReset")
        assert (await (await r.peer()).welcome())["uaid"] == UAID
        assert await r.event(UserAgentConnected) == UserAgentConnected(SERVICE, UAID)


async def test_connected_comes_before_any_push_even_in_one_read(autojump_clock) -> None:
    async with rig() as r:
        r.submit(OpenUserAgent(SERVICE, UAID))
        peer = await r.peer()
        await peer.heard()
        await peer.push(version="too early")
        await peer.say({"messageType": "hello", "status": 200, "uaid": UAID})
        await peer.push()
        await r.event(UserAgentConnected)
        assert await r.event(PushReceived) == PushReceived(SERVICE, A, "v1", b"body")
        assert r.agents.counters["unasked"] == 1


async def test_a_refused_hello_is_a_loss_told_once(autojump_clock) -> None:
    async with rig() as r:
        r.submit(OpenUserAgent(SERVICE, UAID))
        for _ in range(3):
            peer = await r.peer()
            await peer.heard()
            await peer.say({"messageType": "hello", "status": 503})
        assert await r.event(UserAgentDisconnected) == UserAgentDisconnected(SERVICE, "hello refused: 503")
        await trio.sleep(10)
        assert r.events == []


async def test_a_silent_handshake_times_out(autojump_clock) -> None:
    async with rig() as r:
        r.submit(OpenUserAgent(SERVICE, UAID))
        await r.peer()
        assert await r.event(UserAgentDisconnected) == UserAgentDisconnected(SERVICE, "timeout")
        assert trio.current_time() - r.dials[0] == pytest.approx(PushConfig().request_timeout, abs=1)


# -- channels ---------------------------------------------------------------------------------------------------------


async def test_register_and_unregister(autojump_clock) -> None:
    async with rig() as r:
        peer = await r.open()
        r.submit(RegisterChannel(SERVICE, A, KEY))
        assert await peer.heard() == {"messageType": "register", "channelID": text(A), "key": "BAAA" + "A" * 83}
        await peer.say(registered(A))
        assert await r.event(ChannelRegistered) == ChannelRegistered(A, "https://e/")
        r.submit(RegisterChannel(SERVICE, B, KEY))
        await peer.heard()
        await peer.say({"messageType": "register", "channelID": text(B), "status": 409})
        assert await r.event(ChannelRefused) == ChannelRefused(B, 409)
        r.submit(UnregisterChannel(SERVICE, A))
        assert await peer.heard() == {"messageType": "unregister", "channelID": text(A), "code": 200}
        await peer.say(registered(A))
        await peer.push()
        await r.event(PushReceived)
        assert r.agents.counters["unasked"] == 1  # the registration that nobody asked for


async def test_requests_wait_for_a_connection_and_outlive_one(autojump_clock) -> None:
    async with rig() as r:
        r.submit(OpenUserAgent(SERVICE, UAID))
        r.submit(UnregisterChannel(SERVICE, B))
        r.submit(RegisterChannel(SERVICE, A, KEY))
        for _ in range(2):  # the answers of the first connection never come
            peer = await r.peer()
            await peer.welcome()
            assert [(await peer.heard())["messageType"] for _ in range(2)] == ["unregister", "register"]
            await peer.stream.aclose()
        peer = await r.peer()
        await peer.welcome()
        await peer.heard()
        await peer.heard()
        await peer.say({"messageType": "unregister", "channelID": text(B), "status": 200})
        await peer.say(registered(A))
        for kind in (UserAgentConnected, UserAgentDisconnected) * 2:
            await r.event(kind)
        await r.event(UserAgentConnected)
        assert await r.event(ChannelRegistered) == ChannelRegistered(A, "https://e/")
        await peer.stream.aclose()
        peer = await r.peer()
        await peer.welcome()
        r.submit(RegisterChannel(SERVICE, B, KEY))
        assert (await peer.heard())["channelID"] == text(B)  # nothing old is said again


async def test_with_a_new_uaid_nothing_is_left_to_unregister(autojump_clock) -> None:
    async with rig() as r:
        r.submit(OpenUserAgent(SERVICE, UAID))
        r.submit(UnregisterChannel(SERVICE, A))
        r.submit(RegisterChannel(SERVICE, B, KEY))
        peer = await r.peer()
        await peer.welcome("e" * 32)
        assert (await peer.heard())["messageType"] == "register"


async def test_too_many_registrations_are_refused(autojump_clock) -> None:
    async with rig() as r:
        r.submit(OpenUserAgent(SERVICE, UAID))
        for number in range(MAX_REQUESTS + 1):
            r.submit(RegisterChannel(SERVICE, ChannelId(number.to_bytes(16, "big")), KEY))
        assert r.events == []  # never from within submit
        assert await r.event(ChannelRefused) == ChannelRefused(ChannelId(MAX_REQUESTS.to_bytes(16, "big")), 0)


# -- pushes -----------------------------------------------------------------------------------------------------------


async def test_acknowledgements_are_gathered(autojump_clock) -> None:
    async with rig() as r:
        peer = await r.open()
        await peer.push(A, "v1")
        await peer.push(B, "v2")
        for version in ("v1", "v2"):
            push = await r.event(PushReceived)
            assert push.version == version
        r.submit(AcknowledgePush(SERVICE, A, "v1"))
        r.submit(AcknowledgePush(SERVICE, B, "v2", 102))
        assert await peer.heard() == {
            "messageType": "ack",
            "updates": [
                {"channelID": text(A), "version": "v1", "code": 100},
                {"channelID": text(B), "version": "v2", "code": 102},
            ],
        }


async def test_acknowledgements_of_a_lost_connection_are_dropped(autojump_clock) -> None:
    async with rig() as r:
        peer = await r.open()
        await peer.push(A, "v1")
        await r.event(PushReceived)
        await peer.stream.aclose()
        await r.event(UserAgentDisconnected)
        r.submit(AcknowledgePush(SERVICE, A, "v1"))
        peer = await r.peer()
        await peer.welcome()
        await r.event(UserAgentConnected)
        r.submit(AcknowledgePush(SERVICE, A, "v1"))
        await peer.push(A, "v1")
        await r.event(PushReceived)
        r.submit(AcknowledgePush(SERVICE, A, "v1"))
        assert len((await peer.heard())["updates"]) == 1
        assert r.agents.counters["stale_acks"] == 2


async def test_a_push_that_is_not_base64_is_acknowledged_away(autojump_clock) -> None:
    async with rig() as r:
        peer = await r.open()
        await peer.push(A, "v1", "*")
        assert (await peer.heard())["updates"] == [{"channelID": text(A), "version": "v1", "code": 101}]
        assert r.events == []


async def test_malformed_messages_are_counted_and_survived(autojump_clock) -> None:
    async with rig() as r:
        peer = await r.open()
        for garbage in ("", "nonsense", "[" * 50_000, '{"messageType":"notification"}', "5"):
            await peer.say(garbage)
        await peer.websocket.send_message(b"binary")
        await peer.say({"messageType": "broadcast"})
        await peer.say({"messageType": "something of 2040"})
        await peer.say({})
        await peer.push()
        await r.event(PushReceived)
        assert r.agents.counters["malformed"] == 4


async def test_a_message_too_large_ends_the_connection(autojump_clock) -> None:
    async with rig() as r:
        peer = await r.open()
        await peer.say('"' + "x" * MAX_FRAME_SIZE)
        assert await r.event(UserAgentDisconnected) == UserAgentDisconnected(SERVICE, "too_large")


async def test_a_flood_waits_for_acknowledgements(autojump_clock) -> None:
    async with rig() as r:
        peer = await r.open()
        for number in range(2 * MAX_UNACKNOWLEDGED):
            await peer.push(A, f"v{number}", "x" * 4000)
        await trio.sleep(5)
        assert MAX_UNACKNOWLEDGED <= len(r.events) <= MAX_UNACKNOWLEDGED + 10  # and no more was read
        for push in r.events:
            r.submit(AcknowledgePush(SERVICE, push.channel, push.version))
        await trio.sleep(5)
        assert len(r.events) == 2 * MAX_UNACKNOWLEDGED


# -- losses -----------------------------------------------------------------------------------------------------------


async def test_pings_of_the_service_are_answered(autojump_clock) -> None:
    async with rig() as r:
        peer = await r.open()
        with trio.fail_after(4):
            await peer.websocket.ping(b"are you there")


async def test_a_connection_that_died_silently_is_noticed(autojump_clock) -> None:
    async with rig() as r:
        await r.open()
        connected_at = trio.current_time()
        r.cables[-1].cut = True
        assert await r.event(UserAgentDisconnected) == UserAgentDisconnected(SERVICE, "silent")
        assert trio.current_time() - connected_at == pytest.approx(PING_INTERVAL + PONG_TIMEOUT, abs=1)
        await r.peer()


async def test_a_quiet_connection_that_lives_is_kept(autojump_clock) -> None:
    async with rig() as r:
        await r.open()
        await trio.sleep(10 * PING_INTERVAL)
        assert r.events == []
        assert len(r.dials) == 1


async def test_retries_start_quick_grow_and_are_reset_by_a_stable_connection(autojump_clock) -> None:
    async with rig() as r:
        peer = await r.open()
        r.reachable = False
        await peer.stream.aclose()
        await r.event(UserAgentDisconnected)
        await trio.sleep(3600)
        pauses = [later - earlier for earlier, later in zip(r.dials[1:], r.dials[2:], strict=False)]
        assert r.dials[1] - r.dials[0] <= FIRST_RETRY_INTERVAL + 1
        assert pauses[0] <= 2 * FIRST_RETRY_INTERVAL
        assert MAX_RETRY_INTERVAL / 2 <= pauses[-1] <= MAX_RETRY_INTERVAL
        assert len(pauses) < 40
        assert r.events == []  # the loss was told once
        r.reachable = True
        peer = await r.peer()
        await peer.welcome()
        await r.event(UserAgentConnected)
        await trio.sleep(61)
        await peer.stream.aclose()
        lost_at = trio.current_time()
        await r.event(UserAgentDisconnected)
        await r.peer()
        assert r.dials[-1] - lost_at <= FIRST_RETRY_INTERVAL


async def test_opening_again_ends_the_pause(autojump_clock) -> None:
    async with rig() as r:
        r.reachable = False
        r.submit(OpenUserAgent(SERVICE, UAID))
        await r.event(UserAgentDisconnected)
        await trio.sleep(2000)
        r.reachable = True
        asked_at = trio.current_time()
        r.submit(OpenUserAgent(SERVICE, UAID))
        await r.peer()
        assert r.dials[-1] == asked_at


async def test_closing_says_goodbye_and_stays_closed(autojump_clock) -> None:
    async with rig() as r:
        peer = await r.open()
        r.submit(CloseUserAgent(SERVICE))
        with pytest.raises(ConnectionClosed) as closed:
            await peer.heard()
        assert closed.value.reason.code == 1000
        await trio.sleep(1000)
        assert len(r.dials) == 1
        assert r.events == []
        r.submit(AcknowledgePush(SERVICE, A, "v1"))
        r.submit(UnregisterChannel(SERVICE, A))
        with pytest.raises(LocalMisuse):
            r.submit(RegisterChannel(SERVICE, A, KEY))
        await r.open()  # and can be opened anew


@pytest.mark.parametrize(
    ("service", "word"),
    [("ws://127.0.0.1:8081/", "push.trusted_origins"), ("mozila", "mozilla"), ("https://push.example/", "wss://")],
)
async def test_services_that_may_not_be_used_say_why(service: str, word: str, autojump_clock) -> None:
    async with rig(PushConfig(trusted_origins=("http://127.0.0.1:8080",))) as r:
        r.submit(OpenUserAgent(service, ""))
        event = await r.event(UserAgentDisconnected)
        assert event.service == service
        assert word in event.reason
        await trio.sleep(1000)
        assert r.dials == []


async def test_services_are_independent(autojump_clock) -> None:
    async with rig(PushConfig(trusted_origins=("http://127.0.0.1:8080",))) as r:
        for service in ("mozilla", "ws://127.0.0.1:8080/"):
            r.submit(OpenUserAgent(service, ""))
            await (await r.peer()).welcome()
            assert (await r.event(UserAgentConnected)).service == service
