"""The user agent of a service that speaks autopush's WebSocket protocol: Mozilla's, ``meshd-push``.

A task connects, says hello, and connects again when that ends, with growing jittered pauses.
Registrations and their reverse are kept until the service has answered them, over any number of connections;
acknowledgements belong to the connection that brought the push, and die with it, since the service delivers again what
was not acknowledged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import trio

from meshd.core.commands import AcknowledgePush, OpenUserAgent
from meshd.core.events import (
    ChannelRefused,
    ChannelRegistered,
    PushReceived,
    UserAgentConnected,
    UserAgentDisconnected,
)
from meshd.errors import MalformedMessage
from meshd.ids import ChannelId
from meshd.push import autopush
from meshd.push.user_agent_ports import STABLE_INTERVAL, Ports, refused_url, retry_delay
from meshd.push.websocket import ConnectionLost, ServiceUrl, WebSocket, parse_service_url

# Policy
MAX_REQUESTS = 1_024  # channels of one service with a registration or its reverse unanswered
MAX_UNACKNOWLEDGED = 256  # pushes in the core's hands; autopush sends stored ones ten at a time. Then we stop reading
MAX_ACKS_PER_MESSAGE = 100
# A silent connection is tried so often, as autopush does from its side, with a ping frame. Its application's own
# ping ("{}") is never used: autopush hangs up when they come oftener than every 45 s, and it proves nothing more.
PING_INTERVAL = 300.0
PONG_TIMEOUT = 20.0


class AutopushUserAgent:
    """What we are to one push service, over all connections to it. ``problem``: why there can be none, for people."""

    def __init__(self, command: OpenUserAgent, url: str, ports: Ports, problem: str = "") -> None:
        self._problem = problem
        self.scope = trio.CancelScope()
        self.started = False
        self._hurry = trio.Event()
        self._service = command.service
        self._newcomers = command.newcomers
        self._uaid = command.uaid
        self._url = url
        self._config = ports.config
        self._deliver = ports.deliver
        self._connect = ports.connect
        self._rng = ports.rng
        self._counters = ports.counters
        self._connected_at: float | None = None
        # The last word on each channel, until the service answers it: a VAPID key to register with, None to unregister.
        self._requests: dict[ChannelId, bytes | None] = {}
        self._unsent: dict[ChannelId, None] = {}  # those of them not yet said on this connection, in order
        self._unacknowledged: set[tuple[ChannelId, str]] = set()  # came on this connection
        self._acks: deque[tuple[ChannelId, str, int]] = deque()  # bounded together with those
        self._has_output = trio.Event()
        self._has_room = trio.Event()

    # -- commands --

    def hurry(self) -> None:
        """End the pause before the next attempt."""
        self._hurry.set()

    def close(self) -> None:
        """Stop for good."""
        self.scope.cancel()

    def request(self, channel: ChannelId, vapid_key: bytes | None) -> bool:
        """Register (or, without a key, unregister) a channel as soon as there is a connection. False: too many."""
        if channel not in self._requests and len(self._requests) >= MAX_REQUESTS:
            self._counters["too_many_requests"] += 1
            return False
        self._requests.pop(channel, None)
        self._requests[channel] = vapid_key
        self._unsent.pop(channel, None)
        self._unsent[channel] = None
        self._has_output.set()
        return True

    def acknowledge(self, command: AcknowledgePush) -> None:
        """Acknowledge a push of this connection; one of an earlier connection comes again anyway."""
        if (command.channel, command.version) not in self._unacknowledged:
            self._counters["stale_acks"] += 1
            return
        self._queue_ack(command.channel, command.version, command.code)

    def _queue_ack(self, channel: ChannelId, version: str, code: int) -> None:
        self._unacknowledged.discard((channel, version))
        self._acks.append((channel, version, code))
        self._has_output.set()

    # -- connections --

    async def run(self) -> None:
        """Connect again and again, until cancelled by ``scope``."""
        with self.scope:
            url = parse_service_url(self._url)
            problem = self._problem or refused_url(url, self._config)
            if url is None or problem:
                self._deliver(UserAgentDisconnected(self._service, problem, self._newcomers))
                return
            failures = 0
            is_first = True
            while True:
                reason = await self._connect_once(url)
                lived = None if self._connected_at is None else trio.current_time() - self._connected_at
                self._connected_at = None
                if lived is not None or is_first:
                    self._deliver(UserAgentDisconnected(self._service, reason, self._newcomers))
                is_first = False
                if lived is not None and lived >= STABLE_INTERVAL:
                    failures = 0
                self._counters["connections_lost" if lived is not None else "connections_failed"] += 1
                self._hurry = trio.Event()
                with trio.move_on_after(retry_delay(failures, self._rng)):
                    await self._hurry.wait()
                failures += 1

    async def _connect_once(self, url: ServiceUrl) -> str:
        """One connection from its beginning to its end; why it ended."""
        websocket: WebSocket | None = None
        try:
            with trio.fail_after(self._config.request_timeout):
                websocket = WebSocket(await self._connect(url))
                await websocket.handshake(url)
                await websocket.send(autopush.hello(self._uaid))
                uaid, texts = await self._await_hello(websocket)
            self._begin(uaid)
            for text in texts:
                self._handle(text)
            return await self._serve(websocket)
        except trio.TooSlowError:
            return "timeout"
        except ConnectionLost as loss:
            return loss.reason
        finally:
            self._unacknowledged.clear()
            self._acks.clear()
            if websocket is not None:
                await websocket.close()

    async def _await_hello(self, websocket: WebSocket) -> tuple[str, list[str]]:
        """Our uaid by the service, and what came behind its hello."""
        while True:
            texts = await websocket.receive()
            while texts:
                message = self._parse(texts.pop(0))
                if isinstance(message, autopush.HelloAnswered):
                    if message.status != 200:
                        raise ConnectionLost(f"hello refused: {message.status}")
                    return message.uaid, texts
                self._counters["unasked"] += 1

    def _begin(self, uaid: str) -> None:
        if uaid != self._uaid:  # whatever channels we had there are gone, so none is left to take back
            self._requests = {channel: key for channel, key in self._requests.items() if key is not None}
        self._uaid = uaid
        self._unsent = dict.fromkeys(self._requests)
        self._has_output.set()
        self._connected_at = trio.current_time()
        self._deliver(UserAgentConnected(self._service, uaid, self._newcomers))

    async def _serve(self, websocket: WebSocket) -> str:
        reasons: list[str] = []

        async def until_lost(task: Callable[[WebSocket], Awaitable[None]]) -> None:
            try:
                await task(websocket)
            except ConnectionLost as loss:
                reasons.append(loss.reason)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for task in (self._read, self._write, self._watch):
                nursery.start_soon(until_lost, task)
        return reasons[0]

    async def _read(self, websocket: WebSocket) -> None:
        while True:
            while len(self._unacknowledged) + len(self._acks) >= MAX_UNACKNOWLEDGED:
                self._has_room = trio.Event()
                await self._has_room.wait()
            for text in await websocket.receive():
                self._handle(text)

    async def _write(self, websocket: WebSocket) -> None:
        while True:
            await self._has_output.wait()
            self._has_output = trio.Event()
            while self._acks or self._unsent:
                if self._acks:
                    count = min(len(self._acks), MAX_ACKS_PER_MESSAGE)
                    await websocket.send(autopush.ack([self._acks.popleft() for _ in range(count)]))
                    self._has_room.set()
                    continue
                channel = next(iter(self._unsent))
                del self._unsent[channel]
                key = self._requests[channel]
                await websocket.send(autopush.unregister(channel) if key is None else autopush.register(channel, key))

    async def _watch(self, websocket: WebSocket) -> None:
        await websocket.until_silent(PING_INTERVAL, PONG_TIMEOUT)
        raise ConnectionLost("silent")

    # -- what the service says --

    def _parse(self, text: str) -> autopush.ServiceMessage:
        try:
            return autopush.parse(text)
        except MalformedMessage:
            self._counters["malformed"] += 1
            return autopush.Other()

    def _handle(self, text: str) -> None:
        match self._parse(text):
            case autopush.Notification(channel, version, None):
                self._counters["undecodable"] += 1
                self._queue_ack(channel, version, autopush.UNDECRYPTABLE)  # or it would come for ever
            case autopush.Notification(channel, version, bytes() as body):
                self._unacknowledged.add((channel, version))
                self._deliver(PushReceived(self._service, channel, version, body, self._newcomers))
            case autopush.RegisterAnswered(channel, status, endpoint):
                if self._requests.get(channel) is None or channel in self._unsent:
                    self._counters["unasked"] += 1
                    return
                del self._requests[channel]
                taken = status == 200
                self._deliver(ChannelRegistered(channel, endpoint) if taken else ChannelRefused(channel, status))
            case autopush.UnregisterAnswered(channel, 200):
                if self._requests.get(channel, b"") is None and channel not in self._unsent:
                    del self._requests[channel]
            case autopush.UnregisterAnswered():
                self._counters["unregister_failed"] += 1  # stays among the requests: said again on the next connection
            case autopush.HelloAnswered():
                self._counters["unasked"] += 1
