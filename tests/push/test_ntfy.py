"""The user agent of an ntfy server, against one in this process, over memory streams and a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from ntfy_rig import BODY, KEY, SERVICE, A, B, Disk, Rig, Run
from ntfy_server import NtfyServer

from meshd.core.commands import AcknowledgePush, CloseUserAgent, OpenUserAgent, RegisterChannel, UnregisterChannel
from meshd.core.events import ChannelRegistered, PushReceived, UserAgentConnected, UserAgentDisconnected
from meshd.ids import ChannelId
from meshd.push import ntfy
from meshd.push.ntfy_state import MAX_TOPICS_PER_STREAM
from meshd.push.ntfy_user_agent import MAX_RENEWALS, MAX_UNACKNOWLEDGED, POLL_DELAY, RENEWAL_INTERVAL
from meshd.push.websocket import MAX_FRAME_SIZE


@pytest.fixture
def server() -> NtfyServer:
    return NtfyServer()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def run(server: NtfyServer, disk: Disk) -> Run:
    @asynccontextmanager
    async def made(*, token: str = "") -> AsyncIterator[Rig]:
        async with trio.open_nursery() as nursery:
            rig = Rig(nursery, server, disk, token)
            await nursery.start(rig.agents.run)
            yield rig
            nursery.cancel_scope.cancel()
        server.listeners.clear()

    return made


async def settle() -> None:
    """Long enough for whatever is to follow by itself."""
    await trio.sleep(2 * POLL_DELAY)


# -- a channel's life -------------------------------------------------------------------------------------------------


async def test_a_channel_is_a_topic_of_the_services_own_form(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        uaid = await r.open()
        first, second = await r.register(A), await r.register(B)
        assert ntfy.is_topic(first)
        assert len({uaid, first, second}) == 3
        assert r.server.topics >= {uaid, first, second}
        assert await r.server.publish(second, BODY) == 200
        assert await r.event(PushReceived) == PushReceived(SERVICE, B, r.server.kept[-1]["id"], BODY)


async def test_it_is_listened_to_before_anybody_is_told(run: Run, autojump_clock: Any) -> None:
    """Or a server that counts pushes to their receivers would answer 507."""
    async with run() as r:
        await r.open()
        assert await r.server.publish("upAAAAAAAAAAAA", BODY) == 507
        assert await r.server.publish(await r.register(), BODY) == 200


async def test_what_is_unregistered_is_not_listened_to_any_more(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        await r.open()
        topic, other = await r.register(A), await r.register(B)
        r.submit(UnregisterChannel(SERVICE, A))
        await settle()
        assert topic not in r.server.topics
        await r.server.publish(topic, b"too late")
        await r.server.publish(other, b"in time")
        assert await r.take() == b"in time"


async def test_asking_again_for_a_channel_gives_the_same_endpoint(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        await r.open()
        assert await r.register(A) == await r.register(A)


async def test_more_topics_than_a_connection_takes(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        await r.open()
        count = 2 * MAX_TOPICS_PER_STREAM
        for number in range(count):
            r.submit(RegisterChannel(SERVICE, ChannelId(number.to_bytes(16, "big")), KEY))
        topics = [(await r.event(ChannelRegistered)).endpoint for _ in range(count)]
        assert len(set(topics)) == count
        assert max(len(path) for path in r.server.requests) < 2500
        await r.server.publish(topics[-1].rpartition("/")[2].removesuffix("?up=1"), BODY)
        assert await r.take() == BODY


async def test_changes_do_not_use_up_the_servers_patience(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        await r.open()
        began = trio.current_time()
        for number in range(3 * MAX_RENEWALS):
            await r.register(ChannelId(number.to_bytes(16, "big")))
        assert trio.current_time() - began >= RENEWAL_INTERVAL
        assert len(r.server.requests) <= 60 + (trio.current_time() - began) / 5  # its limit for one address


# -- nothing lost, nothing twice --------------------------------------------------------------------------------------


async def test_what_comes_between_connections_is_fetched(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        await r.open()
        topic = await r.register()
        await r.server.publish(topic, b"one")
        assert await r.take() == b"one"
        r.reachable = False
        await r.server.hang_up()
        await r.event(UserAgentDisconnected)
        await r.server.publish(topic, b"two")
        r.reachable = True
        await r.event(UserAgentConnected)
        assert await r.take() == b"two"
        await settle()
        assert r.events == []


async def test_a_position_survives_a_restart(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        uaid = await r.open()
        topic = await r.register()
        for number in range(40):
            r.server.time += 1
            await r.server.publish(topic, b"%d" % number)
            assert await r.take() == b"%d" % number
    await r.server.publish(topic, b"meanwhile")
    async with run() as r:
        assert await r.open(uaid) == uaid
        assert await r.take() == b"meanwhile"
        await settle()
        assert r.events == []
        assert "since=m" in r.server.requests[-1]  # not from the beginning


async def test_what_the_core_had_not_dealt_with_comes_again_after_a_restart(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        uaid = await r.open()
        topic = await r.register()
        await r.server.publish(topic, b"unfinished")
        await r.event(PushReceived)
        await r.server.publish(topic, b"finished")
        assert await r.take() == b"finished"
    async with run() as r:
        await r.open(uaid)
        assert await r.take() == b"unfinished"
        await settle()
        assert r.events == []


async def test_what_is_in_the_cores_hands_does_not_come_twice(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        await r.open()
        topic = await r.register()
        await r.server.publish(topic, b"in hand")
        push = await r.event(PushReceived)
        await r.server.hang_up()
        await r.event(UserAgentDisconnected)
        await r.event(UserAgentConnected)
        await settle()
        r.submit(AcknowledgePush(SERVICE, push.channel, push.version))
        assert r.events == []


async def test_a_message_that_is_kept_only_after_we_asked(run: Run, autojump_clock: Any) -> None:
    """ntfy shows a message first and writes it down then: who comes in between is told neither way."""
    async with run() as r:
        await r.open()
        topic = await r.register()
        r.reachable = False
        await r.server.hang_up()
        await r.event(UserAgentDisconnected)
        r.server.keep_late = True
        await r.server.publish(topic, b"between")
        r.server.keep_late, r.reachable = False, True
        await r.event(UserAgentConnected)
        r.server.keep()
        r.server.time += 1
        await r.server.publish(topic, b"after")
        assert await r.take() == b"after"
        assert await r.take() == b"between"


async def test_a_server_that_has_lost_its_cache(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        await r.open()
        topic = await r.register()
        for _ in range(3):
            r.server.time += 60
            await r.server.publish(topic, BODY)
            await r.take()
        await r.server.hang_up()
        r.server.kept.clear()
        r.server.kept.append(r.server._message("message", topic) | {"message": "new", "expires": 1})
        await r.event(UserAgentDisconnected)
        await r.event(UserAgentConnected)
        assert await r.take() == b"new"


async def test_a_message_that_no_cache_has_is_no_position(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        await r.open()
        topic = await r.register()
        for cache in (True, False, False):
            r.server.time += 60
            await r.server.publish(topic, b"x", cache=cache)
            await r.take()
        r.server.time += 60
        await r.server.hang_up()
        await r.event(UserAgentDisconnected)
        await r.event(UserAgentConnected)
        await settle()
        assert r.events == []


# -- who we are -------------------------------------------------------------------------------------------------------


async def test_a_lost_state_is_another_user_agent(run: Run, disk: Disk, autojump_clock: Any) -> None:
    async with run() as r:
        uaid = await r.open()
        topic = await r.register()
    disk[SERVICE, False] = "{"
    async with run() as r:
        assert await r.open(uaid) != uaid
        assert topic not in r.server.topics


async def test_starting_over_gives_up_all_topics(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        uaid = await r.open()
        topic = await r.register()
        r.submit(CloseUserAgent(SERVICE))
        r.submit(OpenUserAgent(SERVICE, ""))
        renewed = (await r.event(UserAgentConnected)).uaid
        assert renewed != uaid
    async with run() as r:
        assert await r.open(renewed) == renewed
        assert topic not in r.server.topics


async def test_who_leaves_leaves_nothing_behind(run: Run, disk: Disk, autojump_clock: Any) -> None:
    async with run() as r:
        await r.open()
        await r.register()
        assert disk
        r.submit(CloseUserAgent(SERVICE))
        await settle()
    assert not disk


async def test_newcomers_have_a_user_agent_of_their_own(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        uaid = await r.open()
        r.submit(OpenUserAgent(SERVICE, "", newcomers=True))
        connected = await r.event(UserAgentConnected)
        assert connected.newcomers
        assert connected.uaid != uaid
        r.submit(RegisterChannel(SERVICE, A, KEY, newcomers=True))
        topic = (await r.event(ChannelRegistered)).endpoint.rpartition("/")[2].removesuffix("?up=1")
        await r.server.publish(topic, BODY)
        assert (await r.event(PushReceived)).newcomers


# -- what a server may do ---------------------------------------------------------------------------------------------


async def test_a_token_for_a_server_that_wants_one(run: Run, server: NtfyServer, autojump_clock: Any) -> None:
    server.token = "tk_secret"
    async with run() as r:
        r.submit(OpenUserAgent(SERVICE, ""))
        assert (await r.event(UserAgentDisconnected)).reason == "rejected: 403"
    async with run(token="tk_secret") as r:
        await r.open()


async def test_what_is_no_ntfy_server(run: Run, server: NtfyServer, autojump_clock: Any) -> None:
    server._message = lambda event, topic: {"event": "hello"}  # type: ignore[method-assign]
    async with run() as r:
        r.submit(OpenUserAgent(SERVICE, ""))
        assert (await r.event(UserAgentDisconnected)).reason == "not an ntfy server"


async def test_a_message_too_large_is_passed_over(run: Run, autojump_clock: Any) -> None:
    """Whoever knows a topic may send one with a long title; it must not keep the others out for as long as it lasts."""
    async with run() as r:
        await r.open()
        topic = await r.register()
        await r.server.publish(topic, b"large", title="x" * MAX_FRAME_SIZE)
        await r.server.publish(topic, b"small")
        assert await r.take() == b"small"
        await settle()
        assert r.agents.counters["connections_lost"] == 0


async def test_what_cannot_be_a_push_is_dropped(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        uaid = await r.open()
        topic = await r.register()
        await r.server.publish(topic, b"x", encoding="base64")
        await r.server.publish(topic, b"x", encoding="rot13")
        await r.server.publish(topic, b"x", message=5)
        await r.server.publish(topic, b"x", time="noon")
        await r.server.publish(uaid, b"nobody was told of that one")
        await r.server.publish(topic, b"a text is a body, too")
        assert await r.take() == b"a text is a body, too"
        counters = r.agents.counters
        assert (counters["undecodable"], counters["malformed"], counters["unasked"]) == (3, 1, 1)


async def test_a_flood_waits_for_acknowledgements(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        await r.open()
        topic = await r.register()
        async with trio.open_nursery() as nursery:

            async def flood() -> None:
                for _ in range(2 * MAX_UNACKNOWLEDGED):
                    await r.server.publish(topic, BODY)

            nursery.start_soon(flood)
            await trio.sleep(1)
            assert len(r.events) == MAX_UNACKNOWLEDGED
            for _ in range(2 * MAX_UNACKNOWLEDGED):
                await r.take()


async def test_a_plain_http_server_has_to_be_trusted(run: Run, autojump_clock: Any) -> None:
    async with run() as r:
        r.submit(OpenUserAgent("unifiedpush:http://127.0.0.1:8080", ""))
        assert "push.trusted_origins" in (await r.event(UserAgentDisconnected)).reason
