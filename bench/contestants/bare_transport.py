"""``meshd.transport`` over plain UDP, without DTLS, ICE and a link around it: what the engine does on a path by itself.

``bare_transport.py a|b ADDRESS bbr|reno``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from typing import Any

import uvloop

from bench.contestants.work import BULK_SIZE, Work, listen, say
from meshd.transport.association import Association
from meshd.transport.config import AssociationConfig
from meshd.transport.events import Closed, Established, Message

BINARY = 53
AHEAD_SIZE = 64 * BULK_SIZE  # bytes handed over that have not left
BUFFER_SIZE = 4 << 20  # of the socket
BATCH = 64  # datagrams read at one wake-up


class End:
    """One association and its socket."""

    def __init__(self, address: str, congestion: Any, *, offers: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, BUFFER_SIZE)
        self._socket.bind((address, 0))
        self._socket.setblocking(False)
        self._association = Association(
            AssociationConfig(congestion=congestion),
            tag=1 + offers,
            initial_tsn=1,
            cookie_key=bytes(32),
            now=time.monotonic(),
        )
        self._work = Work(self._send, lambda: self._association.unsent_size() < AHEAD_SIZE)
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = self._flush_comes = self._knows_peer = False
        self._began = time.monotonic()
        self._loop.add_reader(self._socket, self._readable)
        listen(self._described, lambda: self._work)
        say(describe=self._socket.getsockname())

    def _described(self, description: Any) -> None:
        self._socket.connect(tuple(description))
        self._knows_peer = True
        self._association.connect(time.monotonic())
        self._flush()

    def _send(self, message: bytes, urgent: bool) -> None:
        self._association.send(0 if urgent else 1, BINARY, message, priority=1 if urgent else 2)
        if not self._flush_comes:
            self._flush_comes = True
            self._loop.call_soon(self._soon)

    def _soon(self) -> None:
        self._flush_comes = False
        self._flush()

    def _readable(self) -> None:
        for _ in range(BATCH):
            try:
                packet = self._socket.recv(65536)
            except (BlockingIOError, ConnectionRefusedError):
                break
            # The time of each: one that came while we were held up in here would have come before it was there, and a
            # round trip shorter than the path's is believed for ten seconds.
            self._association.receive(packet, time.monotonic())
        self._flush()

    def _on_timer(self) -> None:
        self._association.handle_timer(time.monotonic())
        self._flush()

    def _flush(self) -> None:
        if self._flushing or not self._knows_peer:
            return
        self._flushing = True
        while True:
            events = self._association.take_events()
            for event in events:
                if isinstance(event, Message):
                    self._work.received(event.data)
                elif isinstance(event, Established):
                    say(open=time.monotonic() - self._began)
                elif isinstance(event, Closed):
                    say(failed=f"{event.reason}: {event.detail}")
            packets = self._association.transmit(time.monotonic())
            for packet in packets:
                with contextlib.suppress(BlockingIOError, ConnectionRefusedError):  # lost, as on any path
                    self._socket.send(packet)
            if not packets and not events:
                break
        self._flushing = False
        self._work.pump()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (deadline := self._association.next_deadline()) is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._on_timer)


async def live(offers: bool, address: str, congestion: str) -> None:
    """Until the bench kills us."""
    end = End(address, congestion, offers=offers)
    await asyncio.Event().wait()
    del end


if __name__ == "__main__":
    uvloop.run(live(sys.argv[1] == "a", sys.argv[2], sys.argv[3]))
