"""The UDP sockets of all links: one for each address family, or one for each configured address.

One socket means one port to open or to map, one reflexive address to ask for, and no new descriptors for each link.
It is bound to the wildcard, unless addresses are configured.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import secrets
import socket
from collections import Counter
from typing import Any, Protocol

from meshd.errors import ConfigError
from meshd.links.demux import Demux
from meshd.links.socket import (
    IP_MTU_DISCOVER,
    IP_PKTINFO,
    IPV6_MTU_DISCOVER,
    PMTUDISC_PROBE,
    UDP_GRO,
    Link,
    OnStrayRequest,
    SharedSocket,
)
from meshd.links.ticks import Ticks

# Policy
BUFFER_SIZE = 4_194_304  # asked for, for all links together; the kernel gives at most net.core.[rw]mem_max
UFRAG_SIZE = 3  # bytes, 4 ICE characters: what travels as 3 bytes in a description


class SocketsConfig(Protocol):
    """What this file reads of ``meshd.config.LinksConfig``."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Use only these local addresses; empty: all."""

    @property
    def port(self) -> int:
        """The UDP port of every socket; 0: any."""


class LinkSockets:
    """The sockets of all links: which one a local address belongs to.

    Raises ConfigError if a configured port cannot be had.
    """

    def __init__(self, config: SocketsConfig, counters: Counter[str]) -> None:
        self._config = config
        self._counters = counters
        self._sockets: dict[str, SharedSocket] = {}  # by what they are bound to
        self._closed = False
        self.demux: Demux[Link] = Demux(counters)
        self.ticks = Ticks()
        self._on_stray_request: OnStrayRequest | None = None
        for address in config.addresses or ("0.0.0.0", "::"):
            try:
                self._open(address)
            except OSError as error:
                problem = {
                    errno.EADDRINUSE: f"UDP port {config.port} of {address} is in use; choose another, or 0 for any",
                    errno.EACCES: f"this user may not take UDP port {config.port}; choose one from 1024 on",
                }.get(error.errno or 0)
                if problem is not None:
                    self.close()
                    raise ConfigError(f"links.port: {problem}") from None
                counters["address_unusable"] += 1  # no IPv6 here, or the address comes later

    @property
    def all(self) -> tuple[SharedSocket, ...]:
        """Those that are open."""
        return tuple(self._sockets.values())

    def for_address(self, address: str) -> SharedSocket | None:
        """The socket that sends from and hears what comes to that local address; None if there can be none."""
        wildcard = "::" if ":" in address else "0.0.0.0"
        bound = address if self._config.addresses else wildcard
        found = self._sockets.get(bound)
        if found is None and not self._closed and (bound == wildcard or address in self._config.addresses):
            try:
                found = self._open(bound)
            except OSError:  # the address is not there, or still tentative: the others will do
                self._counters["address_unusable"] += 1
        return found

    def new_ufrag(self) -> str:
        """A username fragment that no link here has: requests are told apart by it."""
        while True:
            ufrag = base64.b64encode(secrets.token_bytes(UFRAG_SIZE)).decode()
            if not self.demux.is_known(ufrag):
                return ufrag

    def hear_stray_requests(self, on_stray_request: OnStrayRequest | None) -> None:
        """Have STUN requests that name no link answered, on every socket there is and will be."""
        self._on_stray_request = on_stray_request
        for shared in self.all:
            shared.on_stray_request = on_stray_request

    def close(self) -> None:
        """Close them all."""
        self._closed = True
        for shared in self.all:
            shared.close()

    def _open(self, address: str) -> SharedSocket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._set_options(bound)
            # Where any port will do, both families have the same if they can: one number to write in a firewall.
            ports = [self._config.port] if self._config.port else [*{s.port: None for s in self.all}, 0]
            for port in ports:
                try:
                    bound.bind((address, port))
                    break
                except OSError as error:
                    if error.errno != errno.EADDRINUSE or port == ports[-1]:
                        raise
        except OSError:
            bound.close()
            raise
        shared = self._sockets[address] = SharedSocket(bound, self.demux, self._counters)
        shared.on_stray_request = self._on_stray_request
        return shared

    @staticmethod
    def _set_options(bound: socket.socket) -> None:
        def attempt(level: int, option: int, value: Any) -> None:
            with contextlib.suppress(OSError):  # an older kernel: it goes without
                bound.setsockopt(level, option, value)

        attempt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_SIZE)
        attempt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_SIZE)
        attempt(socket.SOL_UDP, UDP_GRO, 1)
        if bound.family == socket.AF_INET:
            bound.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            attempt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
        else:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            attempt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
