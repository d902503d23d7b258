"""Push services of others take what a node sends, and check and decrypt it with code that is not ours."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from ends import NODE, SEED, WAIT, sending

from meshd.crypto.base64url import decode_base64url, encode_base64url
from meshd.crypto.webpush import MAX_PLAINTEXT_SIZE

HERE = Path(__file__).parent
TEXTS = ("x", "ä" * 600, "y" * MAX_PLAINTEXT_SIZE)  # both of them hand over text

pytestmark = pytest.mark.root  # for `make check`, which installs what is not ours


@asynccontextmanager
async def web_push_testing() -> AsyncIterator[str]:
    """The origin of npm's web-push-testing."""
    process = await trio.lowlevel.open_process(["node", str(HERE / "push_service.cjs")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        with trio.fail_after(WAIT):
            origin = b""
            while not origin.endswith(b"\n"):
                chunk = await process.stdout.receive_some()
                assert chunk, "it has ended"
                origin += chunk
        yield origin.decode().strip()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


@pytest.mark.needs("node")
async def test_web_push_testing():
    key = encode_base64url(NODE.uncompressed_vapid_key(SEED))
    async with (
        web_push_testing() as origin,
        httpx.AsyncClient(base_url=origin, trust_env=False, timeout=WAIT) as http,
        sending(origin) as sender,
    ):

        async def ask(path: str, **parameters: str) -> Any:
            answer = await http.post(path, json=parameters)
            assert answer.status_code == 200, answer.text
            return answer.json()["data"]

        subscription = await ask("/subscribe", applicationServerKey=key, userVisibleOnly="true")
        to = [decode_base64url(subscription["keys"][name]) for name in ("p256dh", "auth")]
        for text in TEXTS:
            answered = await sender.push(subscription["endpoint"], *to, text.encode())
            assert answered.status == 201, answered
        got = await ask("/get-notifications", clientHash=subscription["clientHash"])
        assert got["messages"] == list(TEXTS)

        # It does check: another key is refused, and so is a subscription that is over.
        assert (await sender.push(subscription["endpoint"], *to, b"x", seed=b"other" * 6 + b"ab")).status == 400
        await http.post(f"/expire-subscription/{subscription['clientHash']}")
        assert (await sender.push(subscription["endpoint"], *to, b"x")).status == 410


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.needs("python:fastapi_webpush_endpoint", "python:uvicorn")
async def test_fastapi_webpush_endpoint():
    import uvicorn
    from fastapi import Depends, FastAPI
    from fastapi_webpush_endpoint import NotificationEndpoint

    listener = socket.create_server(("127.0.0.1", 0))
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    endpoint = NotificationEndpoint(f"{origin}/push")
    app, got = FastAPI(), []

    @app.post("/push")
    async def take(message: Any = Depends(endpoint)) -> Any:  # noqa: B008
        got.append(message)
        return message.as_response()

    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    async with sending(origin) as sender, trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, lambda: server.run(sockets=[listener]))
        subscription = json.loads(endpoint.subscription)
        to = [decode_base64url(subscription["keys"][name]) for name in ("p256dh", "auth")]
        try:
            for text in TEXTS:
                answered = await sender.push(subscription["endpoint"], *to, text.encode(), topic="offer")
                assert answered.status == 201, (answered, got)
        finally:
            server.should_exit = True
    assert [(message.notification, message.ttl, message.topic, message.urgency) for message in got] == [
        (text, 60, "offer", "high") for text in TEXTS
    ]
