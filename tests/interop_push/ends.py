"""Our ends of Web Push: a node's user agent at our service over TLS, and a node's sender."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import trio
from certificates import write_certificate

from meshd.config import PushConfig
from meshd.core.commands import AcknowledgePush, OpenUserAgent, RegisterChannel, SendPush
from meshd.core.events import ChannelRegistered, PushAnswered, PushReceived, UserAgentConnected
from meshd.crypto import p256, vapid
from meshd.crypto.base64url import encode_base64url
from meshd.crypto.suite import RealSuite
from meshd.ids import ChannelId, PushId
from meshd.push.sender import PushSender
from meshd.push.service.app import PushService, serve
from meshd.push.service.config import ServiceConfig
from meshd.push.user_agent import UserAgents
from meshd.push.websocket import open_stream

WAIT = 30.0  # seconds that anything may take on a busy machine
SEED = bytes(range(32))  # of the channel
CHANNEL = ChannelId(bytes(range(16)))
NODE = RealSuite(b"i" * 32, b"s" * 32)

E = TypeVar("E")


class Inbox:
    """Events as they come, taken by kind."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Any](100)
        self.put = self._send.send_nowait

    async def next(self, kind: type[E]) -> E:
        """The next of that kind; others before it are dropped."""
        with trio.fail_after(WAIT):
            while not isinstance(event := await self._receive.receive(), kind):
                pass
            return event


@dataclass
class Receiver:
    """A node that others push to. ``subscription`` is what a browser would give out."""

    subscription: dict[str, Any]
    certificate: Path
    service: PushService
    _agents: UserAgents
    _inbox: Inbox

    @property
    def private_key(self) -> str:
        """The VAPID key's private half, as web-push and pywebpush write it."""
        return encode_base64url(vapid.derive_key(SEED).private)

    @property
    def public_key(self) -> str:
        return encode_base64url(NODE.uncompressed_vapid_key(SEED))

    async def next(self) -> bytes:
        """The plaintext of the next push, acknowledged."""
        received = await self._inbox.next(PushReceived)
        self._agents.submit(AcknowledgePush(received.service, received.channel, received.version))
        return NODE.decrypt_push(SEED, received.body)


@asynccontextmanager
async def receiving(directory: Path) -> AsyncIterator[Receiver]:
    """Our service over TLS, and a node connected to it that has registered a channel."""
    chain, key = write_certificate(directory, "push service")
    context = ssl.create_default_context(cafile=str(chain))
    inbox = Inbox()
    async with trio.open_nursery() as nursery:
        config = ServiceConfig(directory / "state", "127.0.0.1:0", tls_certificate=chain, tls_key=key)
        service: PushService = await nursery.start(serve, config)
        agents = UserAgents(PushConfig(), inbox.put, random.Random(1), connect=lambda url: open_stream(url, context))
        await nursery.start(agents.run)
        url = service.websocket_url
        agents.submit(OpenUserAgent(url, ""))
        await inbox.next(UserAgentConnected)
        agents.submit(RegisterChannel(url, CHANNEL, NODE.uncompressed_vapid_key(SEED)))
        endpoint = (await inbox.next(ChannelRegistered)).endpoint
        keys = NODE.channel_keys(SEED)
        texts = {"p256dh": encode_base64url(p256.uncompress_point(keys.p256dh)), "auth": encode_base64url(keys.auth)}
        yield Receiver({"endpoint": endpoint, "keys": texts}, chain, service, agents, inbox)
        nursery.cancel_scope.cancel()


class Sender:
    """A node that pushes to others with the capability it was given."""

    def __init__(self, sender: PushSender, inbox: Inbox) -> None:
        self._sender = sender
        self._inbox = inbox
        self._numbers = iter(range(1, 1000))

    async def push(
        self, endpoint: str, p256dh: bytes, auth: bytes, plaintext: bytes, *, seed: bytes = SEED, topic: str = ""
    ) -> PushAnswered:
        """Encrypted and padded as every push of a node, with a capability of the channel with that seed."""
        audience, exp = vapid.origin_of(endpoint), int(time.time()) + 3600
        signature = NODE.issue_capability(seed, audience, exp, vapid.DEFAULT_SUBJECT)
        key = NODE.channel_keys(seed).vapid_key
        header = NODE.authorization(key, audience, exp, vapid.DEFAULT_SUBJECT, signature)
        body = NODE.encrypt_push(p256dh, auth, plaintext)
        self._sender.submit(SendPush(PushId(next(self._numbers)), endpoint, header, body, 60, "high", topic))
        return await self._inbox.next(PushAnswered)


@asynccontextmanager
async def sending(*trusted_origins: str) -> AsyncIterator[Sender]:
    inbox = Inbox()
    sender = PushSender(PushConfig(trusted_origins=trusted_origins), inbox.put)
    async with trio.open_nursery() as nursery:
        await nursery.start(sender.run)
        yield Sender(sender, inbox)
        nursery.cancel_scope.cancel()
