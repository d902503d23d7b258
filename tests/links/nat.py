"""A NAT router on loopback, in front of one end: what that end sends comes out of ports of the router's own."""

from __future__ import annotations

import socket
from dataclasses import replace

import trio

from meshd.wire.session_description import Candidate, SessionDescription

Address = tuple[str, int]


class Nat:
    """To the end behind it, ``face`` is its peer. Runs in a nursery; to be closed after that."""

    def __init__(self) -> None:
        self._face = self._bind("127.0.0.1")
        self.face: Address = self._face.getsockname()
        self._outside: Address = ("", 0)
        self._mappings: dict[Address, trio.socket.SocketType] = {}
        self.blocked: set[str] = set()  # addresses behind it that get nothing through, in either direction
        self.is_down = False
        self.seen: list[bytes] = []  # what came from behind and passed
        self.dropped: list[bytes] = []  # from either side

    def start(self, nursery: trio.Nursery) -> None:
        """Pass packets on, until the nursery is cancelled."""
        self._nursery = nursery
        nursery.start_soon(self._from_inside)

    @staticmethod
    def _bind(address: str) -> trio.socket.SocketType:
        plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_194_304)
        plain.bind((address, 0))
        plain.setblocking(False)
        return trio.socket.from_stdlib_socket(plain)

    def hide(self, description: SessionDescription) -> SessionDescription:
        """The description of the end behind the router, which does not know what it looks like."""
        return replace(description, candidates=())

    def lead_to(self, description: SessionDescription) -> SessionDescription:
        """The description of the other end, for the one behind."""
        first = description.candidates[0]
        self._outside = (first.host, first.port)
        return replace(description, candidates=(Candidate("host", *self.face),))

    def forget(self) -> None:
        """All mappings are gone: what is sent comes out of other ports now, and nothing comes in by the old ones."""
        for outer in self._mappings.values():
            outer.close()
        self._mappings.clear()

    def close(self) -> None:
        """Give all sockets back."""
        self.forget()
        self._face.close()

    @property
    def ports(self) -> set[int]:
        """Where what is behind comes out."""
        return {outer.getsockname()[1] for outer in self._mappings.values()}

    def _passes(self, source: Address) -> bool:
        return not self.is_down and source[0] not in self.blocked

    async def _from_inside(self) -> None:
        while True:
            data, source = await self._face.recvfrom(65_536)
            if not self._passes(source):
                self.dropped.append(data)
                continue
            self.seen.append(data)
            outer = self._mappings.get(source)
            if outer is None:
                outer = self._mappings[source] = self._bind("127.0.0.1")
                self._nursery.start_soon(self._from_outside, outer, source)
            await outer.sendto(data, self._outside)

    async def _from_outside(self, outer: trio.socket.SocketType, inside: Address) -> None:
        try:
            while True:
                data, _ = await outer.recvfrom(65_536)
                if self._passes(inside):
                    await self._face.sendto(data, inside)
                else:
                    self.dropped.append(data)
        except (trio.ClosedResourceError, OSError):
            return
