"""The receivers' side: one conversation of the autopush protocol, from hello to the end of the connection."""

from __future__ import annotations

from collections.abc import Callable

import trio

from meshd.crypto.base64url import decode_base64url
from meshd.crypto.p256 import POINT_SIZE, uncompress_point
from meshd.errors import MalformedMessage
from meshd.push.service import protocol
from meshd.push.service.delivery import Delivery, log, pseudonym
from meshd.push.service.protocol import Ack, BroadcastSubscribe, Hello, Nack, Ping, Register, Unregister
from meshd.push.service.registry import Channel, Stored
from meshd.push.service.websocket import CLOSE_ERROR, WebSocket
from meshd.rates import RateLimiter

EndpointOf = Callable[[Channel], str]


class Conversation:
    """One connected user agent. Messages go out directly, until one has to wait: from then on in batches.

    A batch is taken from the store, oldest first, and the next one follows when all that is on its way has been
    acknowledged; when nothing waits any more, messages go directly again. So order is kept, and what is on its way to
    a slow user agent is bounded.
    """

    def __init__(self, websocket: WebSocket, delivery: Delivery, endpoint_of: EndpointOf) -> None:
        self._websocket = websocket
        self._delivery = delivery
        self._limits = delivery.limits
        self._endpoint_of = endpoint_of
        self._uaid = b""
        self._unacknowledged: set[str] = set()
        self._in_batches = True
        self._last_ping = float("-inf")
        self._rate = RateLimiter(self._limits.user_agent_rate, self._limits.user_agent_burst, 1)
        self._nursery: trio.Nursery | None = None
        self._batch_under_way = False

    async def run(self) -> None:
        """From the first message to the last."""
        hello = await self._hello()
        if hello is None:
            return
        self._uaid = self._delivery.connect(hello.uaid, self)
        try:
            self._websocket.send(protocol.hello_answer(self._uaid, hello.broadcasts))
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._next_batch()
                await self._listen()
                nursery.cancel_scope.cancel()
        finally:
            self._delivery.disconnect(self._uaid, self)

    def offer(self, channel_id: bytes, version: str, body: bytes, *, stored: bool) -> None:
        """See ``delivery.Outlet``."""
        if stored and self._in_batches:
            return
        text = protocol.notification(channel_id, version, body)
        if self._websocket.has_room(len(text)):
            self._websocket.send(text)
            if stored:
                self._unacknowledged.add(version)
        elif stored:
            self._in_batches = True
            self._next_batch()
        else:
            self._delivery.counters["dropped_slow"] += 1

    def end(self, reason: str) -> None:
        """See ``delivery.Outlet``."""
        self._websocket.close(CLOSE_ERROR, reason)

    async def _hello(self) -> Hello | None:
        with trio.move_on_after(self._limits.hello_timeout) as scope:
            text = await self._websocket.receive()
        if scope.cancelled_caught:
            self._fault("hello_timeout", "HandshakeTimeout")
        elif text is not None:
            try:
                message = protocol.parse(text)
            except MalformedMessage:
                self._fault("hello_malformed", "InvalidMessage")
            else:
                if isinstance(message, Hello):
                    return message
                self._fault("hello_missing", "InvalidMessage")
        return None

    async def _listen(self) -> None:
        while (text := await self._websocket.receive()) is not None:
            now = trio.current_time()
            while (wait := self._rate.take(0, now)) > 0:
                await trio.sleep(wait)
                now = trio.current_time()
            try:
                message = protocol.parse(text)
            except MalformedMessage as error:
                self._fault("message_malformed", "InvalidMessage", str(error))
                return
            match message:
                case Register():
                    await self._register(message)
                case Unregister():
                    done = await self._delivery.unregister(self._uaid, message.channel_id)
                    self._websocket.send(protocol.unregister_answer(message.channel_id, 200 if done else 500))
                case Ack():
                    self._acknowledged(message)
                case Nack():
                    self._delivery.counters[f"nack_{message.code if 301 <= message.code <= 303 else 'other'}"] += 1
                case BroadcastSubscribe():
                    if message.broadcasts:
                        self._websocket.send(protocol.broadcast_answer(message.broadcasts))
                case Ping():
                    if now - self._last_ping < self._limits.min_ping_interval:
                        self._fault("excessive_ping", "ExcessivePing")
                        return
                    self._last_ping = now
                    self._websocket.send(protocol.PING)
                case Hello():
                    self._fault("hello_again", "InvalidMessage")
                    return

    async def _register(self, message: Register) -> None:
        try:
            if message.key is None:
                raise MalformedMessage(
                    "a channel needs a VAPID key here: without one, whoever has its endpoint may push"
                )
            key = decode_base64url(message.key)
            if len(key) != POINT_SIZE:
                raise MalformedMessage("the VAPID key is not an uncompressed point")
            uncompress_point(key)
        except MalformedMessage as error:
            self._delivery.counters["register_400"] += 1
            self._websocket.send(protocol.register_answer(message.channel_id, 400, str(error)))
            return
        registration = await self._delivery.register(self._uaid, message.channel_id, key, self._websocket.source)
        endpoint = registration.complaint if registration.channel is None else self._endpoint_of(registration.channel)
        self._websocket.send(protocol.register_answer(message.channel_id, registration.status, endpoint))

    def _acknowledged(self, ack: Ack) -> None:
        for update in ack.updates:
            self._delivery.acknowledge(self._uaid, update.version, update.code)
            self._unacknowledged.discard(update.version)
        self._next_batch()

    def _next_batch(self) -> None:
        """Begin a batch if it is time for one."""
        due = self._in_batches and not self._unacknowledged and not self._batch_under_way
        if due and self._nursery is not None:
            self._batch_under_way = True
            self._nursery.start_soon(self._send_batch)

    async def _send_batch(self) -> None:
        try:
            while not self._websocket.is_closing:
                waiting = self._delivery.registry.waiting(self._uaid, self._delivery.clock())
                batch = [message for message, _ in zip(waiting, range(self._limits.max_batch_messages), strict=False)]
                if not batch:
                    self._in_batches = False
                    return
                bodies = await self._delivery.store.bodies([message.version for message in batch])
                await self._websocket.room()
                if self._send_all_of(batch, bodies):
                    return
        finally:
            self._batch_under_way = False

    def _send_all_of(self, batch: list[Stored], bodies: dict[str, bytes]) -> bool:
        """Send what is still there of a batch; True when anything was, so that an acknowledgement will follow."""
        for message in batch:
            body = bodies.get(message.version)
            if body is None:
                # Cancelled, acknowledged or replaced meanwhile; or unreadable, and then it must not be tried for ever.
                self._delivery.registry.remove(message.version)
            elif self._delivery.registry.holds(message.version):
                text = protocol.notification(message.channel_id, message.version, body)
                if not self._websocket.has_room(len(text)):
                    break  # the rest is for the next batch
                self._websocket.send(text)
                self._unacknowledged.add(message.version)
        return bool(self._unacknowledged)

    def _fault(self, counter: str, reason: str, detail: str = "") -> None:
        """The user agent broke the protocol: count it, say so, close."""
        self._delivery.counters[counter] += 1
        log.info("user_agent_fault", user_agent=pseudonym(self._uaid), reason=counter, detail=detail)
        self._websocket.close(CLOSE_ERROR, reason)
