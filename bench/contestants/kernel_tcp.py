"""The kernel's TCP, its congestion control named: ``kernel_tcp.py a|b ADDRESS cubic``. Messages go behind their length.

``b`` listens, ``a`` connects; each side offers the same to the application as the others: whole messages, in order.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from typing import Any

import uvloop

from bench.contestants.work import Work, listen, say

HIGH_SIZE = 1 << 20  # bytes that wait in this process before we stop
LENGTH_SIZE = 4


class Messages(asyncio.Protocol):
    """One connection, cut into messages."""

    def __init__(self, control: str, described_at: float) -> None:
        self.work: Work | None = None
        self._control = control
        self._described_at = described_at
        self._is_full = False
        self._received = bytearray()

    def connection_made(self, transport: Any) -> None:
        """Part of asyncio.Protocol."""
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self._control.encode())
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(HIGH_SIZE, HIGH_SIZE // 4)

        def send(message: bytes, urgent: bool) -> None:
            transport.write(len(message).to_bytes(LENGTH_SIZE, "big") + message)

        self.work = Work(send, lambda: not self._is_full)
        say(open=time.monotonic() - self._described_at)

    def pause_writing(self) -> None:
        """Part of asyncio.Protocol."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Part of asyncio.Protocol."""
        self._is_full = False
        if self.work is not None:
            self.work.pump()

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        assert self.work is not None
        received = self._received
        received += data
        start = 0
        while len(received) - start >= LENGTH_SIZE:
            size = int.from_bytes(received[start : start + LENGTH_SIZE], "big")
            if len(received) - start - LENGTH_SIZE < size:
                break
            self.work.received(bytes(received[start + LENGTH_SIZE : start + LENGTH_SIZE + size]))
            start += LENGTH_SIZE + size
        del received[:start]


async def live(offers: bool, address: str, control: str) -> None:
    """Until the bench kills us."""
    loop = asyncio.get_running_loop()
    protocols: list[Messages] = []
    tasks: set[asyncio.Task[Any]] = set()

    def protocol() -> Messages:
        protocols.append(Messages(control, time.monotonic()))
        return protocols[-1]

    def described(description: Any) -> None:
        if offers:
            tasks.add(loop.create_task(loop.create_connection(protocol, *description)))

    listen(described, lambda: protocols[-1].work if protocols else None)
    if not offers:
        server = await loop.create_server(protocol, address, 0)
        say(describe=server.sockets[0].getsockname())
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(live(sys.argv[1] == "a", sys.argv[2], sys.argv[3]))
