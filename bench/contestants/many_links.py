"""Many of meshd's links between two ports: ``many_links.py a|b ADDRESS``. Standard streams as ``work`` describes, and:

in   {"do": "open", "count": N, "together": BOOL}
                                 a: N more links, all at once or one after the other
out  {"opened": [S, ...]}        seconds of each from both descriptions known to the link open, on this end
in   {"do": "answer"}            a: one message on each link, echoed by b
out  {"answered": N}
in   {"do": "beat"}              both, b first: from now on a node above each port, with its heartbeats
in   {"do": "count"}             after that
out  {"neighbors": N}            of a's node
"""

from __future__ import annotations

import sys
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import trio

from bench.contestants.heartbeats import node_above
from bench.contestants.work import listen, say
from meshd.config import LinksConfig
from meshd.core.commands import ConnectLink, PrepareLink, Priority, SendMessage
from meshd.core.events import Event, LinkClosed, LinkConnected, LinkPrepared, MessageReceived
from meshd.core.node import Node
from meshd.daemon.driver import Driver
from meshd.ids import LinkId
from meshd.links.guest import run
from meshd.links.port import LinkPort, open_links
from meshd.wire.session_description import decode, encode

MAX_LINKS = 4_096


class Ends:
    """All the links of this process: at ``a`` those of one port, at ``b`` one in each of many ports.

    That is how they are in life: five hundred peers have five hundred addresses.
    """

    def __init__(self, address: str, *, offers: bool) -> None:
        self._config = LinksConfig(allow_loopback=True, addresses=(address,), max_links=MAX_LINKS)
        self._offers = offers
        self._ports: dict[int, LinkPort] = {}
        self._own: LinkPort
        self._described: dict[int, float] = {}
        self._took: list[float] = []
        self._wanted = 0
        self._last = 0
        self._up: dict[int, LinkConnected] = {}
        self._drivers: dict[int, Driver] = {}  # by link, once there are nodes
        self._node: Node | None = None
        self._early: list[Event] = []  # hellos that came before our node was there
        self._answered = 0
        self._is_answering = False
        self._together = False
        self._orders: trio.MemorySendChannel[Any]

    def deliver(self, event: Event) -> None:
        """What a port tells."""
        driver = self._drivers.get(getattr(event, "link", 0))
        if driver is not None:
            driver.deliver(event)
        elif isinstance(event, LinkPrepared):
            say(describe={"link": event.link, "description": encode(event.description).hex()})
        elif isinstance(event, LinkConnected):
            self._up[event.link] = event
            self._took.append(time.monotonic() - self._described[event.link])
            if not self._offers:
                return
            if len(self._took) == self._wanted:
                say(opened=self._took)
            elif not self._together:
                self._prepare()
        elif isinstance(event, MessageReceived):
            if not self._offers:
                self._send(event.link, event.data, Priority.MESSAGE)
                return
            if not self._is_answering:
                self._early.append(event)
                return
            self._answered += 1
            if self._answered == len(self._up):
                say(answered=self._answered)
        elif isinstance(event, LinkClosed):
            say(failed=f"link {event.link} closed: {event.reason}")

    def described(self, what: Any) -> None:
        """What the other end says of one of its links."""
        if self._offers:
            self._connect(what)
        else:
            self._orders.send_nowait(what)

    def do(self, command: dict[str, Any]) -> None:
        """Carry out a line of the bench."""
        what = command["do"]
        if what == "open":
            self._took = []
            self._wanted, self._together = command["count"], command["together"]
            for _ in range(self._wanted if self._together else 1):
                self._prepare()
        elif what == "answer":
            self._answered, self._is_answering = 0, True
            for link in self._up:
                self._send(link, bytes(100), Priority.MESSAGE)
        elif what == "beat":
            self._orders.send_nowait(None)
        elif what == "count" and self._node is not None:
            say(neighbors=len(self._node.neighbors))

    def _prepare(self) -> None:
        self._last += 1
        self._ports[self._last] = self._own
        self._own.submit(PrepareLink(LinkId(self._last), True))

    def _connect(self, what: Any) -> None:
        link = LinkId(what["link"])
        self._described[link] = time.monotonic()
        self._ports[link].submit(ConnectLink(link, decode(bytes.fromhex(what["description"]))))

    def _send(self, link: int, data: bytes, priority: Priority, **how: Any) -> None:
        self._ports[link].submit(SendMessage(LinkId(link), data, priority, **how))

    def _port(self) -> AbstractAsyncContextManager[LinkPort]:
        return open_links(self._config, self.deliver, lambda link, error: say(failed=repr(error)))

    async def live(self) -> None:
        """Until the bench kills us."""
        self._orders, orders = trio.open_memory_channel[Any](MAX_LINKS)
        async with AsyncExitStack() as ports, trio.open_nursery() as nursery:
            if self._offers:
                self._own = await ports.enter_async_context(self._port())
            listen(self.described, lambda: self)
            say(open=0.0)
            async for what in orders:
                if what is None:
                    for driver in self._beat():
                        nursery.start_soon(driver.run)
                    continue
                port = self._ports[what["link"]] = await ports.enter_async_context(self._port())
                port.submit(PrepareLink(LinkId(what["link"]), False))
                self._connect(what)

    def _beat(self) -> list[Driver]:
        if not self._offers:
            for link, connected in self._up.items():
                self._drivers[link] = node_above(self._ports[link], [connected], offers=False)[1]
            return list(self._drivers.values())
        self._node, driver = node_above(self._own, self._up.values(), offers=True)
        self._drivers = dict.fromkeys(self._up, driver)
        for event in self._early:
            driver.deliver(event)
        return [driver]


if __name__ == "__main__":
    run(Ends(sys.argv[2], offers=sys.argv[1] == "a").live)
