"""A push service of the test's own for the user agent: over memory streams, under a clock that jumps.

The service's end of the WebSocket is trio-websocket, so that two implementations meet.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import trio
import trio.testing
from trio_websocket import WebSocketConnection, wrap_server_stream

from meshd.config import PushConfig
from meshd.core.commands import OpenUserAgent
from meshd.core.events import UserAgentConnected
from meshd.ids import ChannelId
from meshd.push.user_agent import UserAgents
from meshd.push.user_agent_ports import MAX_RETRY_INTERVAL
from meshd.push.websocket import ConnectionLost, ServiceUrl

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
