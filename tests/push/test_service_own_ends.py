"""The push service with this project's own user agent and sender on its two sides."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from meshd.config import PushConfig
from meshd.core.commands import AcknowledgePush, OpenUserAgent, RegisterChannel, SendPush, UnregisterChannel
from meshd.core.events import ChannelRegistered, PushAnswered, PushReceived, UserAgentConnected, UserAgentDisconnected
from meshd.crypto import vapid, webpush
from meshd.ids import ChannelId, PushId
from meshd.push.sender import PushSender
from meshd.push.service.app import PushService, serve
from meshd.push.service.config import ServiceConfig
from meshd.push.user_agent import UserAgents

T = TypeVar("T")

WAIT = 10.0
KEY = vapid.derive_key(os.urandom(32))
KEYS = webpush.derive_user_agent_keys(os.urandom(32))
CHANNEL = ChannelId(os.urandom(16))


class Ends:
    """A node's two push ports, their events in one queue."""

    def __init__(self, origin: str) -> None:
        self._put, self._get = trio.open_memory_channel[object](100)
        config = PushConfig(trusted_origins=(origin,))
        self.sender = PushSender(config, self._put.send_nowait)
        self.user_agents = UserAgents(config, self._put.send_nowait, random.Random(1))
        self._pushes = 0

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.sender.run)
            await nursery.start(self.user_agents.run)
            task_status.started()

    async def event(self, kind: type[T]) -> T:
        with trio.fail_after(WAIT):
            while not isinstance(event := await self._get.receive(), kind):
                pass
        return event

    def push(self, endpoint: str, plaintext: bytes, topic: str = "") -> None:
        audience = vapid.origin_of(endpoint)
        capability = vapid.issue(KEY, audience, int(time.time()) + 3600)
        body = webpush.encrypt(
            plaintext,
            webpush.compress_point(KEYS.public),
            KEYS.auth,
            salt=os.urandom(16),
            padded_size=webpush.padded_size_for(len(plaintext)),
        )
        self._pushes += 1
        authorization = vapid.authorization(capability, audience, KEY.public)
        self.sender.submit(SendPush(PushId(self._pushes), endpoint, authorization, body, 60, "high", topic))


async def start_service(nursery: trio.Nursery, state: Path, port: int = 0) -> tuple[PushService, trio.CancelScope]:
    scope = trio.CancelScope()

    async def run(*, task_status: trio.TaskStatus[PushService]) -> None:
        with scope:
            await serve(ServiceConfig(state, f"127.0.0.1:{port}"), task_status=task_status)

    return await nursery.start(run), scope


async def test_register_push_take_back(nursery: trio.Nursery, tmp_path: Path):
    service, _ = await start_service(nursery, tmp_path)
    ends = Ends(service.public_url)
    await nursery.start(ends.run)
    url = service.websocket_url
    ends.user_agents.submit(OpenUserAgent(url, ""))
    uaid = (await ends.event(UserAgentConnected)).uaid
    assert len(uaid) == 32
    ends.user_agents.submit(RegisterChannel(url, CHANNEL, KEY.public))
    registered = await ends.event(ChannelRegistered)
    assert registered.channel == CHANNEL
    ends.push(registered.endpoint, b"hello")
    received = await ends.event(PushReceived)
    assert (received.channel, webpush.decrypt(received.body, KEYS)) == (CHANNEL, b"hello")
    ends.user_agents.submit(AcknowledgePush(url, CHANNEL, received.version))
    assert (await ends.event(PushAnswered)).status == 201
    ends.user_agents.submit(UnregisterChannel(url, CHANNEL))
    with trio.fail_after(WAIT):
        while True:
            ends.push(registered.endpoint, b"refused")
            answer = await ends.event(PushAnswered)
            if answer.status != 201:
                break
    assert (answer.status, answer.detail) == (410, "errno 106")


async def test_a_restarted_service_is_found_again_and_has_lost_nothing(nursery: trio.Nursery, tmp_path: Path):
    service, scope = await start_service(nursery, tmp_path)
    ends = Ends(service.public_url)
    await nursery.start(ends.run)
    url = service.websocket_url
    ends.user_agents.submit(OpenUserAgent(url, ""))
    uaid = (await ends.event(UserAgentConnected)).uaid
    ends.user_agents.submit(RegisterChannel(url, CHANNEL, KEY.public))
    endpoint = (await ends.event(ChannelRegistered)).endpoint
    ends.push(endpoint, b"unacknowledged")
    first = await ends.event(PushReceived)
    assert (await ends.event(PushAnswered)).status == 201
    scope.cancel()
    await ends.event(UserAgentDisconnected)
    await start_service(nursery, tmp_path, service.port)
    assert (await ends.event(UserAgentConnected)).uaid == uaid
    again = await ends.event(PushReceived)
    assert (again.version, again.body) == (first.version, first.body)


async def test_a_lost_state_directory_is_a_new_uaid(nursery: trio.Nursery, tmp_path: Path):
    service, _ = await start_service(nursery, tmp_path)
    ends = Ends(service.public_url)
    await nursery.start(ends.run)
    ends.user_agents.submit(OpenUserAgent(service.websocket_url, "ab" * 16))
    assert (await ends.event(UserAgentConnected)).uaid != "ab" * 16


@pytest.mark.parametrize("topic", ["", "offer"])
async def test_topics_are_those_of_the_service(nursery: trio.Nursery, tmp_path: Path, topic: str):
    service, _ = await start_service(nursery, tmp_path)
    ends = Ends(service.public_url)
    await nursery.start(ends.run)
    ends.user_agents.submit(OpenUserAgent(service.websocket_url, ""))
    await ends.event(UserAgentConnected)
    ends.user_agents.submit(RegisterChannel(service.websocket_url, CHANNEL, KEY.public))
    endpoint = (await ends.event(ChannelRegistered)).endpoint
    ends.push(endpoint, b"x", topic)
    received = await ends.event(PushReceived)
    assert webpush.decrypt(received.body, KEYS) == b"x"
