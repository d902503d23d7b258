"""The user agent role: keeps a connection to each push service and hands over what is pushed to us.

Each user agent (two at a service: one for newcomers, one for the others) has a task of its own; which protocol it
speaks is told by the kind of the service. Commands never wait.
"""

from __future__ import annotations

import random
import ssl
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import trio

from meshd.config import PushConfig
from meshd.core.commands import AcknowledgePush, CloseUserAgent, OpenUserAgent, RegisterChannel, UnregisterChannel
from meshd.core.events import ChannelRefused
from meshd.errors import LocalMisuse
from meshd.ids import ChannelId
from meshd.push.autopush_user_agent import AutopushUserAgent
from meshd.push.ntfy_state import NtfyRecord, Record, Unkept
from meshd.push.ntfy_user_agent import NtfyUserAgent
from meshd.push.user_agent_ports import Connect, Deliver, Ports
from meshd.push.websocket import ServiceUrl, open_stream
from meshd.push_services import Kind, parse_service

# Policy
MAX_USER_AGENTS = 32  # two at each of 16 services
_OWN_URL = "wss://own.invalid/"  # what its protocol wants to have said; nobody looks it up

UserAgentCommand = OpenUserAgent | CloseUserAgent | RegisterChannel | UnregisterChannel | AcknowledgePush


class UserAgent(Protocol):
    """What we are to one push service, over all connections to it."""

    scope: trio.CancelScope
    started: bool

    def close(self) -> None:
        """Stop for good."""

    def hurry(self) -> None:
        """End the pause before the next attempt to connect."""

    def request(self, channel: ChannelId, vapid_key: bytes | None) -> bool:
        """Register (or, without a key, unregister) a channel as soon as there is a connection. False: too many."""

    def acknowledge(self, command: AcknowledgePush) -> None:
        """Have done with a push."""

    async def run(self) -> None:
        """Connect again and again, until cancelled by ``scope``."""


class UserAgents:
    """Carries out the commands of the user agent role. ``deliver`` gets the events, always from within ``run``.

    ``connect`` opens the byte stream to a service; by default TCP, with TLS for wss. ``counters`` counts what the
    services did that they should not. ``records``: where the user agent of a service (and newcomers or not) is
    written down, if the service does not keep what it is; without it, it ends with this object.
    ``unifiedpush_token``: an access token for ntfy servers that want one. ``connect_own`` reaches the service that
    runs in this process.
    """

    def __init__(
        self,
        config: PushConfig,
        deliver: Deliver,
        rng: random.Random,
        *,
        connect: Connect | None = None,
        records: Callable[[str, bool], Record] = Unkept,
        unifiedpush_token: str = "",
        connect_own: Connect | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._deliver = deliver
        self._ports = Ports(config, deliver, connect or self._open_stream, rng, self.counters)
        self._own_ports = None if connect_own is None else replace(self._ports, connect=connect_own)
        self._open_record = records
        self._credentials = f"Bearer {unifiedpush_token}" if unifiedpush_token else ""
        self._records: dict[tuple[str, bool], NtfyRecord] = {}
        self._ssl_context: ssl.SSLContext | None = None
        self._agents: dict[tuple[str, bool], UserAgent] = {}  # by service, and whether it is the newcomers' one
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
                agent.close()
            case RegisterChannel():
                if not agent.request(command.channel, command.vapid_key):
                    self._refused.append(command.channel)
                    self._wake.set()
            case UnregisterChannel():
                agent.request(command.channel, None)
            case AcknowledgePush():
                agent.acknowledge(command)

    def _open(self, command: OpenUserAgent, agent: UserAgent | None) -> None:
        if agent is not None:
            agent.hurry()
            return
        if len(self._agents) == MAX_USER_AGENTS:
            raise LocalMisuse(f"more than {MAX_USER_AGENTS} user agents")
        self._agents[command.service, command.newcomers] = self._made(command)
        self._wake.set()

    def _made(self, command: OpenUserAgent) -> UserAgent:
        try:
            service = parse_service(command.service)
        except ValueError as error:
            return AutopushUserAgent(command, "", self._ports, f"not a push service: write {error}")
        if service.kind is Kind.OWN:
            if self._own_ports is None:
                return AutopushUserAgent(command, "", self._ports, "no push service runs inside this program")
            return AutopushUserAgent(command, _OWN_URL, self._own_ports)
        if service.kind is Kind.AUTOPUSH:
            return AutopushUserAgent(command, service.url, self._ports)
        key = command.service, command.newcomers
        record = self._records.setdefault(key, NtfyRecord(self._open_record(*key)))
        return NtfyUserAgent(command, service.url, self._ports, record, self._credentials)

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
        config = self._ports.config
        proxy = "" if url.http_origin in config.trusted_origins else config.proxy
        if url.scheme == "ws":
            return await open_stream(url, None)  # trusted, or nobody would connect there
        if self._ssl_context is None:  # 30 ms of reading certificates
            self._ssl_context = await trio.to_thread.run_sync(ssl.create_default_context)
        return await open_stream(url, self._ssl_context, proxy)
