"""The push service inside the daemon: for a node with a public address, which then needs no other.

Others reach it over HTTP as any service; the daemon's own user agents are connected without the network. Its database
is a directory of its own below the state directory.
"""

from __future__ import annotations

import socket
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from meshd.config import PushConfig
from meshd.errors import ConfigError, ListenError
from meshd.push.websocket import ConnectionLost, ServiceUrl
from meshd.push_services import Kind, parse_service

if TYPE_CHECKING:
    from meshd.push.service.app import PushService

# Policy
DIRECTORY = "push-service"
# What a token of our own may last, a year, and some days for clocks. Whoever holds one can be refused at any time: the
# channel is taken back, and the service that would have to know is ours.
MAX_VAPID_LIFETIME = 370 * 86400.0
MAX_ABSENCE = 10 * 365 * 86400.0  # the only user agents that matter come back with the daemon itself, however late


def wants_own_service(config: PushConfig) -> bool:
    """Whether the daemon is to run one."""
    return any(parse_service(service).kind is Kind.OWN for service in config.services)


class OwnPushService:
    """Runs it, and connects to it."""

    def __init__(self, config: PushConfig, state_dir: Path) -> None:
        self._config = config
        self._directory = state_dir / DIRECTORY
        self._service: PushService | None = None
        self._nursery: trio.Nursery | None = None

    @property
    def counters(self) -> Counter[str]:
        """Those of the service."""
        return self._service.counters if self._service is not None else Counter()

    def reload(self) -> None:
        """Read the certificate again. Raises ConfigError, and goes on with the one it has."""
        if self._service is not None:
            self._service.reload()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises ConfigError, StoreError."""
        # only here: who needs no service of its own need not wait for its modules at the start
        from meshd.push.service.app import serve
        from meshd.push.service.config import Limits, ServiceConfig
        from meshd.push.service.stun import OFF

        given = self._config
        config = ServiceConfig(
            state_dir=self._directory,
            listen=given.own_listen,
            public_url=given.own_url,
            stun=OFF,  # the port of links answers
            limits=Limits(max_vapid_lifetime=MAX_VAPID_LIFETIME, max_absence=MAX_ABSENCE),
            tls_certificate=Path(given.own_tls_certificate) if given.own_tls_certificate else None,
            tls_key=Path(given.own_tls_key) if given.own_tls_key else None,
            trusted_proxies=("127.0.0.0/8", "::1"),
        )
        try:
            async with trio.open_nursery() as self._nursery:
                self._service = await self._nursery.start(serve, config)
                task_status.started()
        except* ListenError as errors:
            raise ConfigError(f"push.own_listen: {errors.exceptions[0]}") from None
        finally:
            self._service = self._nursery = None

    async def connect(self, url: ServiceUrl) -> trio.abc.Stream:
        """A connection for a user agent of ours. Raises ConnectionLost."""
        await trio.lowlevel.checkpoint()
        if self._service is None or self._nursery is None:
            raise ConnectionLost("refused")
        ours, theirs = socket.socketpair()
        self._nursery.start_soon(self._service.serve_own, _stream(theirs))
        return _stream(ours)


def _stream(end: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(end))
