"""Sender, push service and user agent together, over loopback: a push goes all the way round."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from meshd.config import PushConfig
from meshd.core.commands import AcknowledgePush, OpenUserAgent, RegisterChannel, SendPush, UnregisterChannel
from meshd.core.events import (
    ChannelRegistered,
    PushAnswered,
    PushReceived,
    UserAgentConnected,
    UserAgentDisconnected,
)
from meshd.crypto import vapid
from meshd.ids import ChannelId, PushId
from meshd.push.sender import PushSender
from meshd.push.service.app import PushService, serve
from meshd.push.service.config import ServiceConfig
from meshd.push.user_agent import UserAgents

KEY = vapid.derive_key(b"k" * 32)
CHANNEL = ChannelId(bytes(range(16)))


class Rig:
    """A push service that can be stopped and started again, and a node's two roles towards it."""

    def __init__(self, nursery: trio.Nursery, state_dir: Path) -> None:
        self.events: list[Any] = []
        self.service: PushService | None = None
        self._nursery = nursery
        self._state_dir = state_dir
        self._news = trio.Event()
        self._service_scope = trio.CancelScope()
        self._service_ended = trio.Event()

    async def start_service(self) -> None:
        listen = f"127.0.0.1:{self.service.port if self.service else 0}"
        self.service = await self._nursery.start(self._serve, ServiceConfig(self._state_dir, listen=listen))

    async def _serve(self, config: ServiceConfig, *, task_status: trio.TaskStatus[PushService]) -> None:
        self._service_ended = trio.Event()
        with trio.CancelScope() as self._service_scope:
            await serve(config, task_status=task_status)
        self._service_ended.set()

    async def stop_service(self) -> None:
        self._service_scope.cancel()
        await self._service_ended.wait()

    async def start_node(self) -> None:
        config = PushConfig(trusted_origins=(self.service.public_url,), request_timeout=5)
        self.agents = UserAgents(config, self._deliver, random.Random(1))
        self.sender = PushSender(config, self._deliver)
        self.name = self.service.websocket_url
        await self._nursery.start(self.agents.run)
        await self._nursery.start(self.sender.run)

    def _deliver(self, event: Any) -> None:
        self.events.append(event)
        self._news.set()

    async def event(self, kind: type, check: Callable[[Any], bool] = lambda event: True) -> Any:
        """The first event of that kind; it and what came before it is taken off the list."""
        with trio.fail_after(10):
            while True:
                for place, event in enumerate(self.events):
                    if isinstance(event, kind) and check(event):
                        del self.events[: place + 1]
                        return event
                self._news = trio.Event()
                await self._news.wait()

    async def register(self, channel: ChannelId = CHANNEL) -> str:
        self.agents.submit(RegisterChannel(self.name, channel, KEY.public))
        return (await self.event(ChannelRegistered)).endpoint

    def push(self, endpoint: str, number: int = 1, body: bytes = b"x" * 400) -> None:
        audience = self.service.public_url
        capability = vapid.issue(KEY, audience, int(time.time()) + 3600)
        authorization = vapid.authorization(capability, audience, KEY.public)
        self.sender.submit(SendPush(PushId(number), endpoint, authorization, body, 60, "high"))

    async def both(self) -> tuple[PushAnswered, PushReceived]:
        """Answer and push, in whichever order they come."""
        with trio.fail_after(10):
            while len(self.events) < 2:
                self._news = trio.Event()
                await self._news.wait()
        first, second = self.events[:2]
        del self.events[:2]
        return (first, second) if isinstance(first, PushAnswered) else (second, first)


@asynccontextmanager
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        made = Rig(nursery, tmp_path)
        await made.start_service()
        await made.start_node()
        yield made
        nursery.cancel_scope.cancel()


async def test_a_push_goes_round_and_is_forgotten_when_acknowledged(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        r.agents.submit(OpenUserAgent(r.name, ""))
        uaid = (await r.event(UserAgentConnected)).uaid
        endpoint = await r.register()
        r.push(endpoint, body=bytes(range(256)))
        answered, received = await r.both()
        assert (answered.push, answered.status) == (1, 201)
        assert (received.channel, received.body) == (CHANNEL, bytes(range(256)))
        r.agents.submit(AcknowledgePush(r.name, CHANNEL, received.version))
        r.push(endpoint, 2, b"y" * 200)
        answered, second = await r.both()
        # The service takes messages in order: with the second here, it has seen the acknowledgement of the first.
        await r.stop_service()
        await r.event(UserAgentDisconnected)
        await r.start_service()
        assert (await r.event(UserAgentConnected)).uaid == uaid
        again = await r.event(PushReceived)
        assert (again.version, again.body) == (second.version, b"y" * 200)
        r.agents.submit(AcknowledgePush(r.name, CHANNEL, second.version))  # of this connection again, so it counts
        r.push(endpoint, 3, b"z" * 200)
        _, third = await r.both()
        assert third.body == b"z" * 200


async def test_a_push_to_one_who_is_away_waits(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        r.agents.submit(OpenUserAgent(r.name, ""))
        await r.event(UserAgentConnected)
        endpoint = await r.register()
        await r.stop_service()
        await r.event(UserAgentDisconnected)
        r.push(endpoint)
        assert await r.event(PushAnswered) == PushAnswered(PushId(1), 0, "refused")
        await r.start_service()
        r.push(endpoint, 2)  # maybe before the user agent is back
        assert (await r.event(PushReceived)).body == b"x" * 400


async def test_a_channel_taken_back_refuses_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        r.agents.submit(OpenUserAgent(r.name, ""))
        await r.event(UserAgentConnected)
        endpoint = await r.register()
        other = ChannelId(b"o" * 16)
        r.agents.submit(UnregisterChannel(r.name, CHANNEL))
        await r.register(other)  # answered after the one before it
        r.push(endpoint)
        assert (await r.event(PushAnswered)).status in (404, 410)


async def test_an_unknown_uaid_is_replaced(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        r.agents.submit(OpenUserAgent(r.name, "0" * 32))
        uaid = (await r.event(UserAgentConnected)).uaid
        assert uaid
        assert uaid != "0" * 32


async def test_many_pushes_arrive_each_once_and_in_order(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        r.agents.submit(OpenUserAgent(r.name, ""))
        await r.event(UserAgentConnected)
        endpoint = await r.register()
        for number in range(50):
            r.push(endpoint, number, b"%064d" % number)
        versions = []
        for number in range(50):
            received = await r.event(PushReceived)
            assert received.body == b"%064d" % number
            versions.append(received.version)
            r.agents.submit(AcknowledgePush(r.name, CHANNEL, received.version))
        assert len(set(versions)) == 50
        assert r.agents.counters["stale_acks"] == 0
