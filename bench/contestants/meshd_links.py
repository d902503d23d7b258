"""meshd's links, through their port, as the daemon uses them: ``meshd_links.py a|b ADDRESS``."""

from __future__ import annotations

import sys
import time
from typing import Any

import trio

from bench.contestants.work import Work, listen, say
from meshd.config import LinksConfig
from meshd.core.commands import ConnectLink, PrepareLink, Priority, SendMessage
from meshd.core.events import (
    Event,
    LinkClosed,
    LinkConnected,
    LinkPrepared,
    MessageReceived,
    SendBufferHigh,
    SendBufferLow,
)
from meshd.ids import LinkId
from meshd.links.guest import run
from meshd.links.port import LinkPort, open_links
from meshd.wire.session_description import decode, encode

LINK = LinkId(1)


class End:
    """One link of one port."""

    def __init__(self, *, offers: bool) -> None:
        self.port: LinkPort
        self.work: Work
        self._offers = offers
        self._is_full = False
        self._described = 0.0

    def deliver(self, event: Event) -> None:
        """What the port tells."""
        if isinstance(event, MessageReceived):
            self.work.received(event.data)
        elif isinstance(event, LinkPrepared):
            say(describe=encode(event.description).hex())
        elif isinstance(event, LinkConnected):
            say(open=time.monotonic() - self._described)
        elif isinstance(event, SendBufferHigh):
            self._is_full = True
        elif isinstance(event, SendBufferLow):
            self._is_full = False
            self.work.pump()
        elif isinstance(event, LinkClosed):
            say(failed=f"the link closed: {event.reason}")

    def described(self, description: Any) -> None:
        """What the other end says of itself."""
        self._described = time.monotonic()
        self.port.submit(ConnectLink(LINK, decode(bytes.fromhex(description))))

    async def live(self, address: str) -> None:
        """Until the bench kills us."""
        self.work = Work(self._send, lambda: not self._is_full)
        config = LinksConfig(allow_loopback=True, addresses=(address,))
        async with open_links(config, self.deliver, lambda link, error: say(failed=repr(error))) as self.port:
            listen(self.described, lambda: self.work)
            self.port.submit(PrepareLink(LINK, self._offers))
            await trio.sleep_forever()

    def _send(self, message: bytes, urgent: bool) -> None:
        self.port.submit(SendMessage(LINK, message, Priority.MESSAGE if urgent else Priority.BULK))


if __name__ == "__main__":
    run(End(offers=sys.argv[1] == "a").live, sys.argv[2])
