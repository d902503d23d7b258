"""A byte stream between two ends, by a link or over a relay: ``relayed_stream.py a|b|r link|relay``.

The bench hands descriptions between the processes. ``a`` writes into a socket as fast as it is taken, ``b`` reads; both
are threads beside the daemon's loop, as programs beside a daemon are. Lines of JSON on the standard streams:

    in   {"do": "prepare", "link": N, "offers": BOOL}   out  {"describe": X}
    in   {"do": "connect", "link": N, "describe": X}    out  {"up": N}
    in   {"do": "open"}                                 a: ask for the stream
    in   {"do": "write", "seconds": S}                  a
    in   {"do": "report"}                               out  {"size": BYTES, "at": MONOTONIC, "cpu": SECONDS}
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import sys
import threading
import time
from typing import Any

import trio

from bench.contestants.work import say
from meshd.config import LinksConfig
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.ids import LinkId, PeerId
from meshd.links.guest import run
from meshd.links.port import LinkPort, open_links
from meshd.wire.session_description import decode, encode

NUMBER = 1  # of the stream, and of the circuit on each link
LINK, ONWARD = LinkId(1), LinkId(2)
KEYS = tuple(hashlib.sha256(side).digest() for side in (b"a", b"b"))
CHUNK_SIZE = 262_144
PLENTY = 1e12  # bytes a second: the quota is not what is measured


class Lent:
    """Our user's end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def take(self) -> int:
        """See ``meshd.links.descriptor.Lent``."""
        return self._fd

    def is_owner_gone(self) -> bool:
        """See ``meshd.links.descriptor.Lent``."""
        return False


class Process:
    """One of the two or three."""

    def __init__(self, side: str, way: str) -> None:
        self._side = side
        self._way = way
        self.port: LinkPort
        self._ours, self._theirs = socket.socketpair()
        self._size = 0

    def deliver(self, event: ev.Event) -> None:
        """What the port tells."""
        if isinstance(event, ev.LinkPrepared):
            say(describe=encode(event.description).hex())
        elif isinstance(event, ev.LinkConnected):
            say(up=event.link)
        elif isinstance(event, ev.MessageReceived):
            self._on_wish(event.data)
        elif isinstance(event, ev.LinkClosed):
            say(failed=f"the link closed: {event.reason}")
        elif isinstance(event, ev.StreamEnded | ev.RelayedStreamEnded | ev.RelayedStreamStalled):
            say(failed=f"the stream: {event}")

    def _on_wish(self, wish: bytes) -> None:
        """The wish runs ahead of the first credit, as the core's does."""
        if self._side == "r":
            self.port.submit(cm.SendMessage(ONWARD, wish))
            destination = PeerId(bytes(32))
            self.port.submit_circuit(cm.SpliceCircuits(LINK, NUMBER, ONWARD, NUMBER, destination, PLENTY))
        else:
            self._begin()
            threading.Thread(target=self._read, daemon=True).start()

    def _begin(self) -> None:
        if self._way == "link":
            self.port.submit(cm.OpenStream(LINK, NUMBER, NUMBER))
            return
        keys = KEYS if self._side == "a" else KEYS[::-1]
        self.port.submit_circuit(cm.OpenRelayedStream(NUMBER, NUMBER, *keys))
        self.port.submit_circuit(cm.AttachCircuit(NUMBER, LINK, NUMBER))

    def _read(self) -> None:
        buffer = bytearray(CHUNK_SIZE)
        while taken := self._ours.recv_into(buffer):
            self._size += taken

    def _write(self, seconds: float) -> None:
        chunk = os.urandom(CHUNK_SIZE)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._ours.sendall(chunk)

    def act(self, line: dict[str, Any]) -> None:
        """Carry out a line of the bench."""
        match line["do"]:
            case "prepare":
                self.port.submit(cm.PrepareLink(LinkId(line["link"]), line["offers"]))
            case "connect":
                self.port.submit(cm.ConnectLink(LinkId(line["link"]), decode(bytes.fromhex(line["describe"]))))
            case "open":
                self.port.submit(cm.SendMessage(LINK, b"wanted"))
                self._begin()
            case "write":
                threading.Thread(target=self._write, args=(line["seconds"],), daemon=True).start()
            case "report":
                say(size=self._size, at=time.monotonic(), cpu=time.process_time())

    async def live(self) -> None:
        """Until the bench kills us."""
        config = LinksConfig(allow_loopback=True, addresses=("127.0.0.1",))
        loop = asyncio.get_running_loop()

        def read_lines() -> None:
            for text in sys.stdin:
                loop.call_soon_threadsafe(self.act, json.loads(text))
            os._exit(0)

        take = lambda number: Lent(self._theirs.detach())  # noqa: E731
        async with open_links(config, self.deliver, lambda link, error: say(failed=repr(error)), take) as self.port:
            threading.Thread(target=read_lines, daemon=True).start()
            await trio.sleep_forever()


if __name__ == "__main__":
    run(Process(sys.argv[1], sys.argv[2]).live)
