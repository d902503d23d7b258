"""Ways to call the methods of ``peer.js`` where it runs: in Node, in Firefox (WebDriver BiDi), in Chromium (CDP)."""

from __future__ import annotations

import itertools
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

HERE = Path(__file__).parent
NODE_PEERS = ("wrtc", "node-datachannel", "werift")
BROWSERS = {"firefox": "firefox-esr", "chromium": "chromium"}  # and their programs
START_TIMEOUT = 60.0  # seconds; six on two cores that are busy with other things
MAX_ANSWER_SIZE = 1 << 22

_EMPTY_SITE = MappingProxyType({"/": ("text/html", "<!doctype html>")})
_FIREFOX_PREFERENCES: dict[str, bool | int | str] = {
    # Without a permission for a device Firefox gathers on the default route only, and there is none.
    "permissions.default.microphone": 1,
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "network.proxy.no_proxies_on": "localhost, 127.0.0.1",
}
_CHROMIUM_SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"),
    # Unasked, it would talk to its makers at every start.
    *("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
)


class Foreign(Protocol):
    """A peer that is not ours. A call may wait for long; others go on meanwhile."""

    async def call(self, method: str, *parameters: object) -> Any: ...


class PeerFailed(Exception):
    """The foreign side threw."""


class _Calls:
    """Requests under way, by number."""

    def __init__(self, send: Callable[[int, str, tuple[object, ...]], Awaitable[None]]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._waiting: dict[int, trio.Event] = {}
        self._answers: dict[int, Any] = {}

    async def call(self, method: str, *parameters: object) -> Any:
        number = next(self._numbers)
        self._waiting[number] = trio.Event()
        await self._send(number, method, parameters)
        try:
            await self._waiting[number].wait()
        finally:
            del self._waiting[number]
        answer = self._answers.pop(number)
        if isinstance(answer, PeerFailed):
            raise answer
        return answer

    def answered(self, number: int, answer: Any) -> None:
        if number in self._waiting:
            self._answers[number] = answer
            self._waiting[number].set()


@asynccontextmanager
async def node_peer(name: str) -> AsyncIterator[Foreign]:
    """One of the packages in ``bench/node``."""
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            ["node", str(HERE / "node_peer.mjs"), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None

        one_at_a_time = trio.Lock()

        async def send(number: int, method: str, parameters: tuple[object, ...]) -> None:
            assert process.stdin is not None
            line = json.dumps({"id": number, "method": method, "parameters": parameters})
            async with one_at_a_time:
                await process.stdin.send_all(line.encode() + b"\n")

        calls = _Calls(send)

        async def read() -> None:
            assert process.stdout is not None
            rest = b""
            async for chunk in process.stdout:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.startswith(b"{"):  # werift also says things of its own
                        answer = json.loads(line)
                        failed = PeerFailed(answer["error"]) if "error" in answer else answer.get("result")
                        calls.answered(answer["id"], failed)

        nursery.start_soon(read)
        try:
            yield calls
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _process(command: list[str]) -> AsyncIterator[tuple[trio.Process, Callable[[bytes], Awaitable[str]]]]:
    """A browser, and a way to wait for what it says on stderr after some words."""
    process = await trio.lowlevel.open_process(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)

    async def said(words: bytes) -> str:
        assert process.stderr is not None
        text = b""
        while words not in text or b"\n" not in text.split(words, 1)[1]:
            chunk = await process.stderr.receive_some()
            if not chunk:
                raise PeerFailed(f"{command[0]} has ended: {text[-2000:].decode()}")
            text += chunk
        return text.split(words, 1)[1].split(b"\n", 1)[0].strip().decode()

    async def drain() -> None:
        assert process.stderr is not None
        async for _ in process.stderr:
            pass

    try:
        async with trio.open_nursery() as nursery:
            yield process, said
            nursery.start_soon(drain)
            nursery.cancel_scope.cancel()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@asynccontextmanager
async def _site(files: Mapping[str, tuple[str, str]]) -> AsyncIterator[str]:
    """The address of a page: a secure context of its own, unlike about:blank. ``files``: path to type and text."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            request = await stream.receive_some()
            path = request.decode("latin-1").partition(" ")[2].partition(" ")[0]
            kind, text = files.get(path, ("text/plain", ""))
            head = f"HTTP/1.1 {'200 OK' if path in files else '404 Not Found'}\r\nContent-Type: {kind}\r\n"
            body = text.encode()
            await stream.send_all(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()


class _Remote:
    """Commands over a browser's WebSocket: BiDi and CDP have the same shape."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket
        self.session: str | None = None
        self._calls = _Calls(self._send)
        self.call = self._calls.call

    async def _send(self, number: int, method: str, parameters: tuple[object, ...]) -> None:
        message = {"id": number, "method": method, "params": parameters[0] if parameters else {}}
        if self.session is not None:
            message["sessionId"] = self.session
        await self._socket.send_message(json.dumps(message))

    async def read(self) -> None:
        try:
            while True:
                answer = json.loads(await self._socket.get_message())
                if "id" in answer:
                    failed = "error" in answer
                    self._calls.answered(answer["id"], PeerFailed(json.dumps(answer)) if failed else answer["result"])
        except ConnectionClosed:
            pass


class _InPage:
    """``peer.js`` in a page; ``evaluate`` gives the text that a promise in it comes to."""

    def __init__(self, evaluate: Callable[[str], Awaitable[str]]) -> None:
        self._evaluate = evaluate

    async def call(self, method: str, *parameters: object) -> Any:
        arguments = ", ".join(map(json.dumps, parameters))
        answer = await self._evaluate(f"peer.{method}({arguments}).then(x => JSON.stringify([x]))")
        return json.loads(answer)[0]


def _script() -> str:
    return (HERE / "peer.js").read_text() + "\nglobalThis.peer = makePeer(RTCPeerConnection, {iceServers: []}); null"


@asynccontextmanager
async def firefox(
    *,
    files: Mapping[str, tuple[str, str]] = _EMPTY_SITE,
    script: str | None = None,
    preferences: Mapping[str, bool | int | str] = MappingProxyType({}),
) -> AsyncIterator[Foreign]:
    """Debian's Firefox ESR by WebDriver BiDi, which it speaks without a driver program.

    At the page "/" of a site with ``files``, where ``script`` (``peer.js``) has defined ``peer``.
    """
    with tempfile.TemporaryDirectory(prefix="firefox-") as profile:
        settings = _FIREFOX_PREFERENCES | dict(preferences)
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in settings.items()]
        await trio.Path(profile, "user.js").write_text("\n".join(lines))
        command = ["firefox-esr", "--headless", "--no-remote", "--remote-debugging-port=0", "--profile", profile]
        async with _site(files) as address, _process(command) as (_, said):
            with trio.fail_after(START_TIMEOUT):
                url = await said(b"WebDriver BiDi listening on ")
            async with (
                open_websocket_url(f"{url}/session", max_message_size=MAX_ANSWER_SIZE) as socket,
                trio.open_nursery() as nursery,
            ):
                remote = _Remote(socket)
                nursery.start_soon(remote.read)
                await remote.call("session.new", {"capabilities": {}})
                tree = await remote.call("browsingContext.getTree", {})
                context = tree["contexts"][0]["context"]
                await remote.call("browsingContext.navigate", {"context": context, "url": address, "wait": "complete"})

                async def evaluate(expression: str) -> str:
                    answer = await remote.call(
                        "script.evaluate",
                        {"expression": expression, "target": {"context": context}, "awaitPromise": True},
                    )
                    if answer["type"] != "success":
                        raise PeerFailed(json.dumps(answer["exceptionDetails"]["text"]))
                    return str(answer["result"].get("value"))

                await evaluate(script or _script())
                yield _InPage(evaluate)
                nursery.cancel_scope.cancel()


@asynccontextmanager
async def chromium() -> AsyncIterator[Foreign]:
    """Debian's Chromium by the DevTools protocol. Its candidates are multicast DNS names, as on anybody's machine."""
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        command = ["chromium", *_CHROMIUM_SWITCHES, f"--user-data-dir={profile}", "about:blank"]
        async with _site(_EMPTY_SITE) as address, _process(command) as (_, said):
            with trio.fail_after(START_TIMEOUT):
                url = await said(b"DevTools listening on ")
            async with (
                open_websocket_url(url, max_message_size=MAX_ANSWER_SIZE) as socket,
                trio.open_nursery() as nursery,
            ):
                remote = _Remote(socket)
                nursery.start_soon(remote.read)
                target = await remote.call("Target.createTarget", {"url": "about:blank"})
                attached = await remote.call("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
                remote.session = attached["sessionId"]
                await remote.call("Page.navigate", {"url": address})  # answered when the new page is there

                async def evaluate(expression: str) -> str:
                    answer = await remote.call(
                        "Runtime.evaluate",
                        {"expression": expression, "awaitPromise": True, "returnByValue": True},
                    )
                    if "exceptionDetails" in answer:
                        raise PeerFailed(json.dumps(answer["exceptionDetails"]))
                    return str(answer["result"].get("value"))

                await evaluate(_script())
                yield _InPage(evaluate)
                nursery.cancel_scope.cancel()


@asynccontextmanager
async def foreign_peer(name: str) -> AsyncIterator[Foreign]:
    """That implementation, started and ready to be called."""
    opened = {"firefox": firefox, "chromium": chromium}.get(name)
    async with opened() if opened is not None else node_peer(name) as peer:
        yield peer
