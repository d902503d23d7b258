"""STUN beside the push service, over real sockets on loopback."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

from meshd.errors import ConfigError, ListenError
from meshd.push.service.app import PushService, serve
from meshd.push.service.config import ServiceConfig
from meshd.wire import stun

TRANSACTION = bytes(12)


async def ask(port: int) -> stun.BindingMessage:
    with trio.socket.socket(type=socket.SOCK_DGRAM) as udp, trio.fail_after(5):
        await udp.sendto(stun.encode(stun.BindingRequest(TRANSACTION)), ("127.0.0.1", port))
        return stun.decode(await udp.recv(2_000))


async def test_it_answers_at_the_port_of_its_tcp(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[PushService]) -> None:
            await serve(ServiceConfig(tmp_path, "127.0.0.1:0"), task_status=task_status)

        service: PushService = await nursery.start(run)
        assert service.stun_port == service.port
        answer = await ask(service.port)
        assert isinstance(answer, stun.BindingSuccess)
        assert answer.mapped[0] == "127.0.0.1"
        assert service.counters["stun_answered"] == 1
        nursery.cancel_scope.cancel()


async def test_it_can_answer_elsewhere_or_not_at_all(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:

        async def run(stun_at: str, *, task_status: trio.TaskStatus[PushService]) -> None:
            await serve(ServiceConfig(tmp_path / stun_at, "127.0.0.1:0", None, stun_at), task_status=task_status)

        service: PushService = await nursery.start(run, "127.0.0.1:0")
        assert service.stun_port not in (0, service.port)
        assert isinstance(await ask(service.stun_port), stun.BindingSuccess)
        service = await nursery.start(run, "off")
        assert service.stun_port == 0
        nursery.cancel_scope.cancel()


async def test_a_port_that_was_asked_for_must_be_had(tmp_path: Path) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ListenError, match="in use"):
            await serve(ServiceConfig(tmp_path, "127.0.0.1:0", None, f"127.0.0.1:{taken.getsockname()[1]}"))
    with pytest.raises(ConfigError, match="host:port"):
        await serve(ServiceConfig(tmp_path, "127.0.0.1:0", None, "nowhere"))
