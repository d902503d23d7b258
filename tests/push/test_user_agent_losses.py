"""The user agent when connections are lost, quiet, refused or closed, under a clock that jumps."""

from __future__ import annotations

import pytest
import trio
from autopush_rig import KEY, SERVICE, UAID, A, rig
from trio_websocket import ConnectionClosed

from meshd.config import PushConfig
from meshd.core.commands import AcknowledgePush, CloseUserAgent, OpenUserAgent, RegisterChannel, UnregisterChannel
from meshd.core.events import UserAgentConnected, UserAgentDisconnected
from meshd.errors import LocalMisuse
from meshd.push.autopush_user_agent import PING_INTERVAL, PONG_TIMEOUT
from meshd.push.user_agent_ports import FIRST_RETRY_INTERVAL, MAX_RETRY_INTERVAL


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
