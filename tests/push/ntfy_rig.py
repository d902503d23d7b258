"""A receiver whose push service is the test's ntfy server, and what outlives a run of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio
import trio.testing
from ntfy_server import NtfyServer

from meshd.config import PushConfig
from meshd.core.commands import AcknowledgePush, OpenUserAgent, RegisterChannel
from meshd.core.events import ChannelRegistered, PushReceived, UserAgentConnected
from meshd.ids import ChannelId
from meshd.push.user_agent import UserAgents
from meshd.push.websocket import ConnectionLost, ServiceUrl

SERVER = "https://ntfy.example.org"
SERVICE = f"unifiedpush:{SERVER}"
KEY = b"\4" + bytes(64)
A, B = ChannelId(b"A" * 16), ChannelId(b"B" * 16)
BODY = bytes(range(256)) * 16


class Disk(dict[tuple[str, bool], str]):
    """What outlives a run, kept without threads: the clock would jump while they work."""

    def record(self, service: str, newcomers: bool) -> Slot:
        return Slot(self, (service, newcomers))


@dataclass
class Slot:
    disk: Disk
    key: tuple[str, bool]

    async def read(self) -> str | None:
        return self.disk.get(self.key)

    async def write(self, text: str) -> None:
        self.disk[self.key] = text

    async def remove(self) -> None:
        self.disk.pop(self.key, None)


class Rig:
    """One run of the receiver."""

    def __init__(self, nursery: trio.Nursery, server: NtfyServer, disk: Disk, token: str) -> None:
        self.events: list[Any] = []
        self.reachable = True
        self.server = server
        self._nursery = nursery
        self._news = trio.Event()
        self.agents = UserAgents(
            PushConfig(),
            self._deliver,
            random.Random(5 + len(server.requests)),
            connect=self._connect,
            records=disk.record,
            unifiedpush_token=token,
        )
        self.submit = self.agents.submit

    def _deliver(self, event: Any) -> None:
        self.events.append(event)
        self._news.set()

    async def _connect(self, url: ServiceUrl) -> trio.abc.Stream:
        assert (url.scheme, url.authority) == ("wss", "ntfy.example.org")
        if not self.reachable:
            raise ConnectionLost("refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.server.serve, self._nursery, theirs)
        return ours

    async def event(self, kind: type) -> Any:
        """The next event, which has to be of that kind."""
        with trio.fail_after(600):
            while not self.events:
                self._news = trio.Event()
                await self._news.wait()
        event = self.events.pop(0)
        assert isinstance(event, kind), event
        return event

    async def open(self, uaid: str = "") -> str:
        self.submit(OpenUserAgent(SERVICE, uaid))
        return (await self.event(UserAgentConnected)).uaid

    async def register(self, channel: ChannelId = A) -> str:
        """The channel's topic."""
        self.submit(RegisterChannel(SERVICE, channel, KEY))
        registered = await self.event(ChannelRegistered)
        assert registered.channel == channel
        head, _, tail = registered.endpoint.rpartition("/")
        assert head == SERVER
        assert tail.endswith("?up=1")
        return tail.removesuffix("?up=1")

    async def take(self) -> bytes:
        """The next push, acknowledged."""
        push = await self.event(PushReceived)
        self.submit(AcknowledgePush(SERVICE, push.channel, push.version))
        return push.body


Run = Callable[..., Any]
