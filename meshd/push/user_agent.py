"""The user agent role: keeps a connection to each push service and hands over what is pushed to us.

Each user agent (two at a service: one for newcomers, one for the others) has a task that connects, says hello, and
connects again when that ends, with growing jittered pauses.
Commands never wait. Registrations and their reverse are kept until the service has answered them, over any number of
connections; acknowledgements belong to the connection that brought the push, and die with it, since the service
delivers again what was not acknowledged.
"""

from __future__ import annotations

import random
import ssl
from collections import Counter, deque
from collections.abc import Awaitable, Callable

import trio

from meshd.config import PushConfig
from meshd.core.commands import AcknowledgePush, CloseUserAgent, OpenUserAgent, RegisterChannel, UnregisterChannel
from meshd.core.events import (
    ChannelRefused,
    ChannelRegistered,
    PushReceived,
    UserAgentConnected,
    UserAgentDisconnected,
)
from meshd.errors import LocalMisuse, MalformedMessage
from meshd.ids import ChannelId
from meshd.push import autopush
from meshd.push.websocket import ConnectionLost, ServiceUrl, WebSocket, open_stream, parse_service_url
from meshd.push_services import parse_service

# Policy
MAX_USER_AGENTS = 32  # two at each of 16 services
MAX_REQUESTS = 1_024  # channels of one service with a registration or its reverse unanswered
MAX_UNACKNOWLEDGED = 256  # pushes in the core's hands; autopush sends stored ones ten at a time. Then we stop reading
MAX_ACKS_PER_MESSAGE = 100
FIRST_RETRY_INTERVAL = 0.2  # seconds; a service that was restarted is found again before anybody notices
MAX_RETRY_INTERVAL = 300.0
STABLE_INTERVAL = 60.0  # a connection that lived so long ends the growth of the pauses
# A silent connection is tried so often, as autopush does from its side, with a ping frame. Its application's own
# ping ("{}") is never used: autopush hangs up when they come oftener than every 45 s, and it proves nothing more.
PING_INTERVAL = 300.0
PONG_TIMEOUT = 20.0

UserAgentCommand = OpenUserAgent | CloseUserAgent | RegisterChannel | UnregisterChannel | AcknowledgePush
UserAgentEvent = UserAgentConnected | UserAgentDisconnected | ChannelRegistered | ChannelRefused | PushReceived
Deliver = Callable[[UserAgentEvent], None]
Connect = Callable[[ServiceUrl], Awaitable[trio.abc.Stream]]


def retry_delay(failures: int, rng: random.Random) -> float:
    """Seconds before the next attempt after ``failures`` earlier ones: doubling, bounded, half of it random."""
    ceiling = min(MAX_RETRY_INTERVAL, FIRST_RETRY_INTERVAL * 2.0 ** min(failures, 30))
    return ceiling * rng.uniform(0.5, 1.0)


class UserAgents:
    """Carries out the commands of the user agent role. ``deliver`` gets the events, always from within ``run``.

    ``connect`` opens the byte stream to a service; by default TCP, with TLS for wss. ``counters`` counts what the
    services did that they should not.
    """

    def __init__(
        self, config: PushConfig, deliver: Deliver, rng: random.Random, *, connect: Connect | None = None
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._config = config
        self._deliver = deliver
        self._rng = rng
        self._connect = connect or self._open_stream
        self._ssl_context: ssl.SSLContext | None = None
        self._agents: dict[tuple[str, bool], _UserAgent] = {}  # by service, and whether it is the newcomers' one
        self._refused: deque[ChannelId] = deque()  # answered by run at its next turn: it holds one burst of commands
        self._wake = trio.Event()

    def submit(self, command: UserAgentCommand) -> None:
        """Take a command. Never waits.

        A registration beyond ``MAX_REQUESTS`` is answered ``ChannelRefused`` with status 0. ``OpenUserAgent`` for a
        service that is open ends the pause before its next attempt. Raises LocalMisuse for a registration with a
        service that is not open, and for too many services.
        """
        key = command.service, command.newcomers
        agent = self._agents.get(key)
        match command:
            case OpenUserAgent():
                self._open(command, agent)
            case RegisterChannel() if agent is None:
                raise LocalMisuse(f"no user agent is open at {command.service}")
            case _ if agent is None:
                pass  # what is closed has nothing left to close, unregister or acknowledge
            case CloseUserAgent():
                del self._agents[key]
                agent.scope.cancel()
            case RegisterChannel():
                if not agent.request(command.channel, command.vapid_key):
                    self._refused.append(command.channel)
                    self._wake.set()
            case UnregisterChannel():
                agent.request(command.channel, None)
            case AcknowledgePush():
                agent.acknowledge(command)

    def _open(self, command: OpenUserAgent, agent: _UserAgent | None) -> None:
        if agent is not None:
            agent.hurry.set()
            return
        if len(self._agents) == MAX_USER_AGENTS:
            raise LocalMisuse(f"more than {MAX_USER_AGENTS} user agents")
        self._agents[command.service, command.newcomers] = _UserAgent(
            command, self._config, self._deliver, self._connect, self._rng, self.counters
        )
        self._wake.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the connections until cancelled; each then gets a close frame."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                for agent in list(self._agents.values()):
                    if not agent.started:
                        agent.started = True
                        nursery.start_soon(agent.run)
                while self._refused:
                    self._deliver(ChannelRefused(self._refused.popleft(), 0))
                await self._wake.wait()
                self._wake = trio.Event()

    async def _open_stream(self, url: ServiceUrl) -> trio.abc.Stream:
        if url.scheme == "ws":
            return await open_stream(url, None)
        if self._ssl_context is None:  # 30 ms of reading certificates
            self._ssl_context = await trio.to_thread.run_sync(ssl.create_default_context)
        return await open_stream(url, self._ssl_context)


class _UserAgent:
    """What we are to one push service, over all connections to it."""

    def __init__(
        self,
        command: OpenUserAgent,
        config: PushConfig,
        deliver: Deliver,
        connect: Connect,
        rng: random.Random,
        counters: Counter[str],
    ) -> None:
        self.scope = trio.CancelScope()
        self.started = False
        self.hurry = trio.Event()
        self._service = command.service
        self._newcomers = command.newcomers
        self._uaid = command.uaid
        self._config = config
        self._deliver = deliver
        self._connect = connect
        self._rng = rng
        self._counters = counters
        self._connected_at: float | None = None
        # The last word on each channel, until the service answers it: a VAPID key to register with, None to unregister.
        self._requests: dict[ChannelId, bytes | None] = {}
        self._unsent: dict[ChannelId, None] = {}  # those of them not yet said on this connection, in order
        self._unacknowledged: set[tuple[ChannelId, str]] = set()  # came on this connection
        self._acks: deque[tuple[ChannelId, str, int]] = deque()  # bounded together with those
        self._has_output = trio.Event()
        self._has_room = trio.Event()

    # -- commands --

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
            url, problem = self._resolve()
            if url is None:
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
                self.hurry = trio.Event()
                with trio.move_on_after(retry_delay(failures, self._rng)):
                    await self.hurry.wait()
                failures += 1

    def _resolve(self) -> tuple[ServiceUrl | None, str]:
        try:
            url = parse_service_url(parse_service(self._service).url)
        except ValueError as error:
            return None, f"not a push service: write {error}"
        if url is None:
            return None, "not a push service that is spoken over a WebSocket"
        if url.scheme == "ws" and url.http_origin not in self._config.trusted_origins:
            return None, f"ws:// is for trusted origins: add {url.http_origin} to push.trusted_origins, or use wss://"
        return url, ""

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
        """Try a silent connection with a ping; give up one that stays silent."""
        while True:
            await trio.sleep_until(websocket.heard_at + PING_INTERVAL)
            heard_at = websocket.heard_at
            if trio.current_time() < heard_at + PING_INTERVAL:
                continue
            await websocket.ping()
            await trio.sleep(PONG_TIMEOUT)
            if websocket.heard_at == heard_at:
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
