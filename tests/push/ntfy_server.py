"""An ntfy server for tests: what its documentation and source (2.13) say of topics, publishing and listening.

Publishing with ``?up=1``, WebSockets with ``since`` and ``poll``, the cache, 507 while nobody has listened, 403 for
topics that need a token, 429. Not the program itself: that is in no package index that tests could take it from.
"""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

MAX_BODY = 4096


@dataclass
class NtfyServer:
    """``keep_late``: the next message is shown at once and kept only when ``keep()`` is called, as in a race."""

    token: str = ""
    limits_by_receiver: bool = True
    keep_late: bool = False
    time: int = 1_700_000_000
    kept: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    listeners: list[tuple[WebSocketConnection, set[str]]] = field(default_factory=list)
    _late: list[dict[str, Any]] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)
    _count: int = 0

    @property
    def topics(self) -> set[str]:
        """What is listened to now."""
        return set().union(*(topics for _, topics in self.listeners))

    # -- publishing ---------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, body: bytes, *, cache: bool = True, **more: Any) -> int:
        """PUT or POST to a topic; the status."""
        if self.limits_by_receiver and topic not in self._known:
            return 507
        message = self._message("message", topic)
        body = body[:MAX_BODY]
        try:
            message["message"] = body.decode()
        except UnicodeDecodeError:
            message |= {"message": base64.b64encode(body).decode(), "encoding": "base64"}
        message |= more
        if cache:
            message["expires"] = self.time + 43200
        for websocket, topics in list(self.listeners):
            if topic in topics:
                with contextlib.suppress(ConnectionClosed):
                    await websocket.send_message(json.dumps(message))
        if cache:
            (self._late if self.keep_late else self.kept).append(message)
        return 200

    def keep(self) -> None:
        """What was held back comes into the table."""
        self.kept += self._late
        self._late.clear()

    def _message(self, event: str, topic: str) -> dict[str, Any]:
        self._count += 1
        return {"id": f"m{self._count:011d}", "time": self.time, "event": event, "topic": topic}

    # -- listening ----------------------------------------------------------------------------------------------------

    async def serve(self, nursery: trio.Nursery, stream: trio.abc.Stream) -> None:
        """One connection, which has to become a WebSocket."""
        request = await wrap_server_stream(nursery, stream)
        self.requests.append(request.path)
        authorization = dict(request.headers).get(b"authorization", b"").decode()
        if self.token and authorization != f"Bearer {self.token}":
            await request.reject(403)
            return
        parts = urlsplit(request.path)
        names, _, kind = parts.path.strip("/").rpartition("/")
        if kind != "ws":
            await request.reject(404)
            return
        topics = set(names.split(","))
        query = parse_qs(parts.query)
        websocket = await request.accept()
        self._known |= topics
        listener = websocket, topics
        with contextlib.suppress(ConnectionClosed):
            if "poll" in query:
                await self._say_kept(websocket, topics, query["since"][0])
                await trio.aclose_forcefully(stream)  # no goodbye
                return
            self.listeners.append(listener)
            await websocket.send_message(json.dumps(self._message("open", names)))
            await self._say_kept(websocket, topics, query["since"][0])
            await websocket.get_message()
        if listener in self.listeners:
            self.listeners.remove(listener)

    async def _say_kept(self, websocket: WebSocketConnection, topics: set[str], since: str) -> None:
        found = next((number for number, message in enumerate(self.kept) if message["id"] == since), -1)
        chosen = [message for message in self.kept[found + 1 :] if message["topic"] in topics]
        for message in sorted(chosen, key=lambda message: message["time"]):
            await websocket.send_message(json.dumps(message))

    async def hang_up(self) -> None:
        """End all connections."""
        listeners, self.listeners = self.listeners, []
        for websocket, _ in listeners:
            await websocket.aclose(1001)
