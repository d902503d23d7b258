"""A user agent and a sender for tests of the push service: real sockets, nothing of the service's own code."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from meshd.crypto import vapid, webpush
from meshd.crypto.base64url import decode_base64url, encode_base64url

WAIT = 15.0  # seconds that anything may take on a busy machine
KEY = vapid.derive_key(b"\x07" * 32)
OTHER_KEY = vapid.derive_key(b"\x08" * 32)
KEYS = webpush.derive_user_agent_keys(b"\x09" * 32)


def new_channel() -> str:
    return str(uuid.uuid4())


def body_of(plaintext: bytes, padded_size: int | None = None) -> bytes:
    return webpush.encrypt(
        plaintext,
        KEYS.public,
        KEYS.auth,
        salt=os.urandom(16),
        padded_size=padded_size,
    )


@dataclass
class UserAgent:
    ws: WebSocketConnection
    uaid: str
    hello: dict[str, Any]
    inbox: list[dict[str, Any]] = field(default_factory=list)  # notifications that came while waiting for an answer

    async def say(self, **members: Any) -> None:
        await self.ws.send_message(json.dumps(members))

    async def next(self, wait: float = WAIT) -> dict[str, Any]:
        with trio.fail_after(wait):
            return json.loads(await self.ws.get_message())

    async def answer(self, kind: str) -> dict[str, Any]:
        while True:
            message = await self.next()
            if message.get("messageType") == kind:
                return message
            assert message["messageType"] == "notification", message
            self.inbox.append(message)

    async def register(self, channel: str | None = None, key: bytes = KEY.public) -> str:
        await self.say(messageType="register", channelID=channel or new_channel(), key=encode_base64url(key))
        answer = await self.answer("register")
        assert answer["status"] == 200, answer
        return answer["pushEndpoint"]

    async def unregister(self, channel: str) -> int:
        await self.say(messageType="unregister", channelID=channel, code=200)
        return (await self.answer("unregister"))["status"]

    async def notification(self) -> dict[str, Any]:
        return self.inbox.pop(0) if self.inbox else await self.next()

    async def receive(self, count: int = 1) -> list[bytes]:
        """The plaintexts of the next messages, each acknowledged."""
        received = []
        for _ in range(count):
            message = await self.notification()
            assert message["messageType"] == "notification", message
            received.append(plaintext_of(message))
            await self.acknowledge(message)
        return received

    async def acknowledge(self, *messages: dict[str, Any], code: int = 100) -> None:
        updates = [{"channelID": m["channelID"], "version": m["version"], "code": code} for m in messages]
        await self.say(messageType="ack", updates=updates)

    async def settled(self) -> None:
        """Everything said so far has been dealt with, and everything due has come into the inbox.

        What is due is read from the service's disk: two writes of ours, one after the other, come after that.
        """
        for _ in range(2):
            channel = new_channel()
            await self.register(channel)
            assert await self.unregister(channel) == 200

    async def closed(self, wait: float = WAIT) -> tuple[int, str | None]:
        """The code and reason that the service closes with."""
        with trio.fail_after(wait):
            while True:
                try:
                    await self.ws.get_message()
                except ConnectionClosed as closed:
                    return (closed.reason.code, closed.reason.reason) if closed.reason else (1006, None)


def plaintext_of(message: dict[str, Any]) -> bytes:
    assert message["headers"] == {"encoding": "aes128gcm"}
    return webpush.decrypt(decode_base64url(message["data"]), KEYS)


@asynccontextmanager
async def opened(
    url: str, subprotocols: tuple[str, ...] = ("push-notification",)
) -> AsyncIterator[WebSocketConnection]:
    """A WebSocket. The stream is ours, because the library leaves it open when the service closes first."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    async with await trio.open_tcp_stream(parts.hostname, parts.port) as stream, trio.open_nursery() as nursery:
        ws = await wrap_client_stream(nursery, stream, parts.netloc, "/", subprotocols=subprotocols)
        try:
            yield ws
        finally:
            with trio.move_on_after(WAIT, shield=True):
                await ws.aclose()


@asynccontextmanager
async def connected(url: str, uaid: str | None = None) -> AsyncIterator[UserAgent]:
    """A user agent that has said hello."""
    async with opened(url) as ws:
        agent = UserAgent(ws, "", {})
        hello: dict[str, Any] = {"messageType": "hello", "use_webpush": True, "broadcasts": {}}
        await agent.say(**hello | ({"uaid": uaid} if uaid is not None else {}))
        agent.hello = await agent.next()
        agent.uaid = agent.hello["uaid"]
        yield agent


def authorization(
    endpoint: str, *, key: vapid.VapidKey = KEY, audience: str | None = None, exp: float | None = None
) -> str:
    audience = audience or vapid.origin_of(endpoint)
    capability = vapid.issue(key, audience, int(exp if exp is not None else time.time() + 3600))
    return vapid.authorization(capability, audience, key.public)


@dataclass
class Sender:
    http: httpx.AsyncClient
    now: float | None = None  # what JWTs are made for, when the service has a clock of its own

    async def post(
        self, endpoint: str, plaintext: bytes = b"x", *, body: bytes | None = None, **headers: str | None
    ) -> httpx.Response:
        """POST a push; ``headers`` (underscores for dashes) replace the good ones, None leaves one out."""
        exp = None if self.now is None else self.now + 3600
        fields: dict[str, str | None] = {
            "ttl": "60",
            "content-encoding": "aes128gcm",
            "authorization": authorization(endpoint, exp=exp),
        }
        fields |= {name.replace("_", "-").lower(): value for name, value in headers.items()}
        content = body if body is not None else body_of(plaintext)
        return await self.http.post(
            endpoint, content=content, headers={name: value for name, value in fields.items() if value is not None}
        )

    async def deliver(self, endpoint: str, *plaintexts: bytes, **headers: str | None) -> None:
        for plaintext in plaintexts:
            answer = await self.post(endpoint, plaintext, **headers)
            assert answer.status_code == 201, answer.text


@asynccontextmanager
async def sending(now: float | None = None) -> AsyncIterator[Sender]:
    async with httpx.AsyncClient(timeout=WAIT, trust_env=False) as http:
        yield Sender(http, now)
