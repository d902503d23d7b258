"""The push service inside the daemon: the daemon's own ends around it, and others' pushes over HTTP."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from meshd.config import PushConfig
from meshd.config_toml import parse
from meshd.core.commands import OpenUserAgent, RegisterChannel, SendPush, UnregisterChannel
from meshd.core.events import ChannelRegistered, PushAnswered, PushReceived, UserAgentConnected, UserAgentDisconnected
from meshd.crypto import vapid
from meshd.daemon.own_push import OwnPushService, wants_own_service
from meshd.errors import ConfigError
from meshd.ids import ChannelId, PushId
from meshd.push.sender import PushSender
from meshd.push.service.app import PushService
from meshd.push.service.user_agents import Conversation
from meshd.push.user_agent import UserAgents

KEY = vapid.derive_key(b"k" * 32)
A, B = ChannelId(b"A" * 16), ChannelId(b"B" * 16)
DAY = 86400


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        return int(placeholder.getsockname()[1])


class Ends:
    """A node's receiver, and somebody who pushes."""

    def __init__(self, config: PushConfig, service: OwnPushService) -> None:
        self._send, self._events = trio.open_memory_channel[Any](100)
        self.config = config
        self.service = service
        deliver = self._send.send_nowait
        self.agents = UserAgents(config, deliver, random.Random(1), connect_own=service.connect)
        self.sender = PushSender(config, deliver)

    async def event(self, kind: type) -> Any:
        """The next of that kind."""
        with trio.fail_after(10):
            async for event in self._events:
                if isinstance(event, kind):
                    return event

    async def endpoint(self, channel: ChannelId) -> str:
        self.agents.submit(RegisterChannel("own", channel, KEY.public))
        return str((await self.event(ChannelRegistered)).endpoint)

    async def push(self, endpoint: str, lifetime: float) -> PushAnswered:
        """The answer to a push with a JWT that ends so many seconds from now."""
        capability = vapid.issue(KEY, self.config.own_url, int(time.time() + lifetime))
        authorization = vapid.authorization(capability, self.config.own_url, KEY.public)
        self.sender.submit(SendPush(PushId(1), endpoint, authorization, b"x" * 100, 60, "high"))
        answer: PushAnswered = await self.event(PushAnswered)
        return answer


@asynccontextmanager
async def running(state_dir: Path, port: int) -> AsyncIterator[Ends]:
    url = f"http://127.0.0.1:{port}"
    config = PushConfig(("own",), trusted_origins=(url,), own_listen=f"127.0.0.1:{port}", own_url=url)
    service = OwnPushService(config, state_dir)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        ends = Ends(config, service)
        await nursery.start(ends.agents.run)
        await nursery.start(ends.sender.run)
        yield ends
        nursery.cancel_scope.cancel()


async def test_a_push_comes_in_over_http_and_out_without_the_network(tmp_path: Path) -> None:
    async with running(tmp_path, free_port()) as ends:
        ends.agents.submit(OpenUserAgent("own", ""))
        await ends.event(UserAgentConnected)
        endpoint = await ends.endpoint(A)
        assert endpoint.startswith(ends.config.own_url)
        ends.agents.submit(OpenUserAgent("own", "", newcomers=True))
        await ends.event(UserAgentConnected)
        assert (await ends.push(endpoint, DAY / 2)).status == 201


async def test_it_remembers_over_a_restart(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, port) as ends:
        ends.agents.submit(OpenUserAgent("own", ""))
        uaid = (await ends.event(UserAgentConnected)).uaid
        endpoint = await ends.endpoint(A)
        ends.agents.submit(OpenUserAgent("own", ""))
    async with running(tmp_path, port) as ends:
        assert (await ends.push(endpoint, DAY / 2)).status == 201  # nobody is connected: stored
        ends.agents.submit(OpenUserAgent("own", uaid))
        assert (await ends.event(UserAgentConnected)).uaid == uaid
        assert (await ends.event(PushReceived)).channel == A


async def test_a_capability_of_months_is_taken_until_its_channel_is_taken_back(tmp_path: Path) -> None:
    async with running(tmp_path, free_port()) as ends:
        ends.agents.submit(OpenUserAgent("own", ""))
        await ends.event(UserAgentConnected)
        endpoint, other = await ends.endpoint(A), await ends.endpoint(B)
        assert (await ends.push(endpoint, 90 * DAY)).status == 201
        assert (await ends.push(endpoint, 400 * DAY)).status == 401
        ends.agents.submit(UnregisterChannel("own", A))
        ends.agents.submit(RegisterChannel("own", B, KEY.public))  # answered behind it
        await ends.event(ChannelRegistered)
        assert (await ends.push(endpoint, 90 * DAY)).status in (404, 410)
        assert (await ends.push(other, 90 * DAY)).status == 201


async def test_an_address_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = PushConfig(("own",), own_listen=f"127.0.0.1:{port}", own_url="https://push.example.org")
        with pytest.RaisesGroup(ConfigError, allow_unwrapped=True, flatten_subgroups=True) as raised:
            async with trio.open_nursery() as nursery:
                await nursery.start(OwnPushService(config, tmp_path).run)
    assert "push.own_listen" in repr(raised.value)


async def test_a_fault_in_one_of_our_own_connections_costs_that_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Conversation.run
    faults = [RuntimeError("a fault")]

    async def run(self: Conversation) -> None:
        if faults:
            raise faults.pop()
        await whole(self)

    monkeypatch.setattr(Conversation, "run", run)
    with structlog.testing.capture_logs() as logged:
        async with running(tmp_path, free_port()) as ends:
            ends.agents.submit(OpenUserAgent("own", ""))
            await ends.event(UserAgentDisconnected)
            await ends.event(UserAgentConnected)
            assert ends.service.counters["connection_crashed"] == 1
    (crash,) = [line for line in logged if line["event"] == "connection_crashed"]
    assert "a fault" in crash["error"]


async def test_a_fault_while_it_runs_is_not_said_to_be_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: PushService) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(PushService, "keep_house", fail)
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="Input/output"), flatten_subgroups=True):
        async with running(tmp_path, free_port()):
            await trio.sleep_forever()


async def test_without_it_the_receiver_says_so() -> None:
    events: list[Any] = []
    agents = UserAgents(PushConfig(), events.append, random.Random(1))
    agents.submit(OpenUserAgent("own", ""))
    async with trio.open_nursery() as nursery:
        await nursery.start(agents.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert isinstance(events[0], UserAgentDisconnected)
    assert "inside this program" in events[0].reason


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('services = ["own"]', "own_listen"),
        ('services = ["own"]\nown_listen = "8085"\nown_url = "https://a.example"', "HOST:PORT"),
        ('services = ["own"]\nown_listen = "[::]:8085"\nown_url = "https://a.example/x"', "scheme, host and port"),
        ('own_tls_key = "/etc/key.pem"', "belong together"),
    ],
)
def test_half_a_configuration_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"\[push\]|push\.") as raised:
        parse(f"[push]\n{text}\n")
    assert said in str(raised.value)


def test_a_whole_one_is_not() -> None:
    text = '[push]\nservices = ["mozilla", "own"]\nown_listen = "[::]:8085"\nown_url = "https://a.example"\n'
    assert wants_own_service(parse(text).push)
    assert not wants_own_service(PushConfig())
