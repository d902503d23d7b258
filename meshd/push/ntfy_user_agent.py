"""The user agent of an ntfy server (UnifiedPush): listens to a topic for each channel.

A channel is a topic with a random name, and registered as soon as it is listened to, so that a server that counts
pushes to their receivers takes them (it says 507 otherwise). The topics are spread over a few connections; when they
change, a connection is made anew. What came in between the server has kept: it is asked for from a position that
survives connections and restarts, and once more a few seconds later, because ntfy shows a message before it keeps it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

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
from meshd.push import ntfy
from meshd.push.ntfy_state import NtfyRecord, NtfyState, Stream
from meshd.push.user_agent_ports import STABLE_INTERVAL, Ports, refused_url, retry_delay
from meshd.push.websocket import ConnectionLost, ServiceUrl, WebSocket

# Policy
MAX_REQUESTS = 1_152  # channels to listen to or not any more; as many as all streams have room for
MAX_UNACKNOWLEDGED = 256  # pushes in the core's hands; then we stop reading
POLL_DELAY = 5.0  # seconds until what was kept is asked for once more
GATHER_INTERVAL = 0.2  # seconds that further changes of topics are waited for
# A server allows 60 requests at once and then one in 5 s from each address, and a new connection costs up to two.
MAX_RENEWALS = 8  # in RENEWAL_INTERVAL
RENEWAL_INTERVAL = 80.0  # seconds
SAVE_INTERVAL = 5.0  # seconds between two writings of the position; what was taken meanwhile comes twice after a crash
PING_INTERVAL = 120.0  # seconds of silence until we ask; the server pings every 45 s by default
PONG_TIMEOUT = 20.0
_CHANGED = "topics changed"


class NtfyUserAgent:
    """What we are to one ntfy server. ``credentials``: the value of an Authorization header, or empty."""

    def __init__(
        self, command: OpenUserAgent, server: str, ports: Ports, record: NtfyRecord, credentials: str = ""
    ) -> None:
        self.scope = trio.CancelScope()
        self.started = False
        self._service = command.service
        self._newcomers = command.newcomers
        self._uaid = command.uaid  # what the core knows us as
        self._server = server
        self._headers = [(b"Authorization", credentials.encode())] if credentials else []
        self._config = ports.config
        self._deliver = ports.deliver
        self._connect = ports.connect
        self._rng = ports.rng
        self._counters = ports.counters
        self._record = record
        self._ticket = record.claim()
        self._state = NtfyState.new(self._new_topic())
        self._hurry = trio.Event()
        self._requested: dict[ChannelId, bool] = {}  # the last word on each channel: wanted, or not any more
        self._to_do = trio.Event()
        self._dirty = trio.Event()
        self._changed: dict[int, trio.Event] = {}  # of each stream, by its number
        self._open: set[int] = set()  # streams that are connected
        self._unanswered: dict[str, ChannelId] = {}  # topics that are saved but not yet listened to
        # Pushes in the core's hands. Their ids are the server's word, and could be the same in two streams.
        self._in_hand: dict[tuple[ChannelId, str], Stream] = {}
        self._has_room = trio.Event()
        self._renewals: deque[float] = deque(maxlen=MAX_RENEWALS)
        self._is_loaded = False
        self._is_closed = False
        self._is_connected: bool | None = None  # as the core was told; None: nothing yet

    # -- commands -----------------------------------------------------------------------------------------------------

    def hurry(self) -> None:
        """End the pauses before the next attempts."""
        self._hurry.set()

    def request(self, channel: ChannelId, vapid_key: bytes | None) -> bool:
        """Listen to a channel (or, without a key, not any more). What no stream has room for is refused later."""
        if channel not in self._requested and len(self._requested) >= MAX_REQUESTS:
            self._counters["too_many_requests"] += 1
            return False
        self._requested.pop(channel, None)
        self._requested[channel] = vapid_key is not None
        self._to_do.set()
        return True

    def acknowledge(self, command: AcknowledgePush) -> None:
        """The core has done with a push, on whichever connection it came."""
        stream = self._in_hand.pop((command.channel, command.version), None)
        if stream is None:
            self._counters["stale_acks"] += 1
            return
        stream.position.finish(command.version)
        self._dirty.set()
        self._has_room.set()
        self._has_room = trio.Event()

    def close(self) -> None:
        """Stop for good: nothing is kept for another time."""
        self._is_closed = True
        self.scope.cancel()

    # -- topics -------------------------------------------------------------------------------------------------------

    def _new_topic(self) -> str:
        return ntfy.topic_of(self._rng.random() for _ in range(ntfy.RANDOM_CHARS))

    async def run(self) -> None:
        """Listen, until cancelled by ``scope``."""
        with self.scope:
            problem = refused_url(ntfy.listening_url(self._server, [self._state.uaid], ""), self._config)
            if problem:
                self._tell_loss(problem)
                return
            try:
                await self._run()
            finally:
                with trio.CancelScope(shield=True):
                    if self._is_closed:
                        await self._forget()
                    elif self._is_loaded:
                        await self._save()

    async def _run(self) -> None:
        known = await self._record.load()
        if known is not None and known.uaid == self._uaid:
            self._state = known
        self._is_loaded = True
        await self._save()
        async with trio.open_nursery() as nursery:
            for number in range(len(self._state.streams)):
                self._start(nursery, number)
            nursery.start_soon(self._keep_saved)
            await self._carry_out_requests(nursery)

    def _start(self, nursery: trio.Nursery, number: int) -> None:
        self._changed[number] = trio.Event()
        nursery.start_soon(self._listen, number)

    async def _carry_out_requests(self, nursery: trio.Nursery) -> None:
        while True:
            await self._to_do.wait()
            self._to_do = trio.Event()
            added: dict[str, ChannelId] = {}
            changed: set[int] = set()
            while self._requested:
                channel = next(iter(self._requested))
                changed |= self._add(channel, added) if self._requested.pop(channel) else self._remove(channel)
            await self._save()  # before anybody is told: what is not written is not there after a crash
            self._unanswered.update(added)
            for number in changed:
                if number in self._changed:
                    self._changed[number].set()
                else:
                    self._start(nursery, number)

    def _add(self, channel: ChannelId, added: dict[str, ChannelId]) -> set[int]:
        """The streams that change with it: one or, if there is no room, none."""
        known = self._state.stream_of(channel)
        stream = known[0] if known else self._state.stream_with_room()
        if stream is None:
            self._counters["too_many_requests"] += 1
            self._deliver(ChannelRefused(channel, 0))
            return set()
        topic = known[1] if known else self._new_topic()
        stream.topics[topic] = channel
        added[topic] = channel
        return {self._state.streams.index(stream)}

    def _remove(self, channel: ChannelId) -> set[int]:
        known = self._state.stream_of(channel)
        if known is None:
            return set()
        stream, topic = known
        del stream.topics[topic]
        self._unanswered.pop(topic, None)
        return {self._state.streams.index(stream)}

    async def _save(self) -> None:
        try:
            await self._record.save(self._state, self._ticket)
        except OSError:
            self._counters["state_not_saved"] += 1

    async def _forget(self) -> None:
        try:
            await self._record.remove(self._ticket)
        except OSError:  # it stays behind, and nobody knows the id in it any more
            self._counters["state_not_saved"] += 1

    async def _keep_saved(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty = trio.Event()
            await self._save()
            await trio.sleep(SAVE_INTERVAL)

    # -- connections --------------------------------------------------------------------------------------------------

    async def _listen(self, number: int) -> None:
        """Keep one stream connected."""
        failures = 0
        stream = self._state.streams[number]
        while True:
            if not stream.topics:
                self._tell_open(number)
                await self._changed[number].wait()
            self._changed[number] = trio.Event()
            began_at = trio.current_time()
            reason = await self._connect_once(number, stream)
            lived = trio.current_time() - began_at
            if reason == _CHANGED:
                failures = 0
                continue
            was_open = number in self._open
            self._open.discard(number)
            self._tell_loss(reason)
            if was_open and lived >= STABLE_INTERVAL:
                failures = 0
            self._counters["connections_lost" if was_open else "connections_failed"] += 1
            if self._hurry.is_set():
                self._hurry = trio.Event()
            with trio.move_on_after(retry_delay(failures, self._rng)):
                await self._hurry.wait()
            failures += 1

    async def _connect_once(self, number: int, stream: Stream) -> str:
        """One connection from its beginning to its end; why it ended."""
        topics, since = tuple(stream.topics), stream.position.since
        reasons: list[str] = []

        async def until_lost(task: Callable[[], Awaitable[str]]) -> None:
            try:
                reasons.append(await task())
            except ConnectionLost as loss:
                reasons.append(loss.reason)
            nursery.cancel_scope.cancel()

        try:
            async with self._websocket(topics, since) as websocket:
                with trio.fail_after(self._config.request_timeout):
                    texts = await self._await_open(websocket, stream)
                self._tell_open(number)
                self._answer(topics)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._ask_again, stream, topics, since)
                    nursery.start_soon(until_lost, lambda: self._read(websocket, stream, texts))
                    nursery.start_soon(until_lost, lambda: self._watch(websocket))
                    nursery.start_soon(until_lost, lambda: self._renew(number))
            return reasons[0]
        except trio.TooSlowError:
            return "timeout"
        except ConnectionLost as loss:
            return loss.reason

    @asynccontextmanager
    async def _websocket(self, topics: tuple[str, ...], since: str, *, poll: bool = False) -> AsyncIterator[WebSocket]:
        """A connection to the server. Raises ConnectionLost, trio.TooSlowError."""
        url = ntfy.listening_url(self._server, topics, since, poll=poll)
        assert isinstance(url, ServiceUrl)  # or nobody would have started to listen
        websocket: WebSocket | None = None
        try:
            with trio.fail_after(self._config.request_timeout):
                websocket = WebSocket(await self._connect(url), skip_large=True)
                await websocket.handshake(url, self._headers)
            yield websocket
        finally:
            if websocket is not None:
                self._counters["too_large"] += websocket.skipped
                await websocket.close()

    async def _await_open(self, websocket: WebSocket, stream: Stream) -> list[str]:
        """What came behind the server's first message."""
        while True:
            texts = await websocket.receive()
            if texts:
                first = self._parse(texts.pop(0))
                if not isinstance(first, ntfy.Opened):
                    raise ConnectionLost("not an ntfy server")
                stream.position.hear(first.time)
                return texts

    def _answer(self, topics: tuple[str, ...]) -> None:
        """What is listened to now can be given away."""
        for topic in topics:
            channel = self._unanswered.pop(topic, None)
            if channel is not None:
                self._deliver(ChannelRegistered(channel, ntfy.endpoint_of(self._server, topic)))

    async def _read(self, websocket: WebSocket, stream: Stream, texts: list[str]) -> str:
        while True:
            for text in texts:
                await self._handle(text, stream)
            texts = await websocket.receive()

    async def _ask_again(self, stream: Stream, topics: tuple[str, ...], since: str) -> None:
        """What was published around the time we came, and kept only after we had been told what is kept."""
        await trio.sleep(POLL_DELAY)
        try:
            async with self._websocket(topics, since, poll=True) as websocket:
                while True:
                    with trio.fail_after(self._config.request_timeout):
                        texts = await websocket.receive()
                    for text in texts:
                        await self._handle(text, stream)
        except trio.TooSlowError:
            self._counters["polls_failed"] += 1
        except ConnectionLost as loss:  # as it ends when all has been said, without a goodbye
            if loss.reason.startswith("rejected"):
                self._counters["polls_failed"] += 1

    async def _watch(self, websocket: WebSocket) -> str:
        await websocket.until_silent(PING_INTERVAL, PONG_TIMEOUT)
        return "silent"

    async def _renew(self, number: int) -> str:
        """Until the topics have changed and there may be another connection."""
        await self._changed[number].wait()
        await trio.sleep(GATHER_INTERVAL)
        if len(self._renewals) == MAX_RENEWALS:
            await trio.sleep_until(self._renewals[0] + RENEWAL_INTERVAL)
        self._renewals.append(trio.current_time())
        return _CHANGED

    # -- what the core is told ----------------------------------------------------------------------------------------

    def _tell_open(self, number: int) -> None:
        self._open.add(number)
        if not self._is_connected and len(self._open) == len(self._state.streams):
            self._is_connected = True
            self._deliver(UserAgentConnected(self._service, self._state.uaid, self._newcomers))

    def _tell_loss(self, reason: str) -> None:
        if self._is_connected is not False:
            self._is_connected = False
            self._deliver(UserAgentDisconnected(self._service, reason, self._newcomers))

    def _parse(self, text: str) -> ntfy.ServerMessage:
        try:
            return ntfy.parse(text)
        except MalformedMessage:
            self._counters["malformed"] += 1
            return ntfy.Other()

    async def _handle(self, text: str, stream: Stream) -> None:
        message = self._parse(text)
        if not isinstance(message, ntfy.Published):
            return
        while len(self._in_hand) >= MAX_UNACKNOWLEDGED:
            await self._has_room.wait()
        if not stream.position.begin(message.id, message.time, kept=message.kept):
            return
        self._dirty.set()
        channel = stream.topics.get(message.topic)
        if channel is None or message.body is None:
            self._counters["undecodable" if channel else "unasked"] += 1
            stream.position.finish(message.id)
            return
        self._in_hand[channel, message.id] = stream
        self._deliver(PushReceived(self._service, channel, message.id, message.body, self._newcomers))
