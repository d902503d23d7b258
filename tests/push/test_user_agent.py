"""The user agent against a push service of the test's own: hello, channels, pushes.

No test here waits for real time; each asks for ``autojump_clock`` by name, which is where pytest-trio looks.
"""

from __future__ import annotations

import pytest
import trio
from autopush_rig import KEY, SERVICE, UAID, A, B, registered, rig, text

from meshd.config import PushConfig
from meshd.core.commands import AcknowledgePush, OpenUserAgent, RegisterChannel, UnregisterChannel
from meshd.core.events import ChannelRefused, ChannelRegistered, PushReceived, UserAgentConnected, UserAgentDisconnected
from meshd.ids import ChannelId
from meshd.push.autopush_user_agent import MAX_REQUESTS, MAX_UNACKNOWLEDGED
from meshd.push.websocket import MAX_FRAME_SIZE

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
