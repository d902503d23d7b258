"""``call.py NAME``: links with one foreign implementation, either side offering, 10 MB each way, closed by either side.

Runs in a network namespace that ``test_interop.py`` makes: one address, and no way out. Ends with status 0 if all of it
went well.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio
from foreign import Foreign, foreign_peer

sys.path.insert(0, str(Path(__file__).parent.parent / "links"))

from link_ends import End, open_end, run_clean

from meshd.config import LinksConfig
from meshd.core.commands import Priority
from meshd.core.events import LinkClosed, LinkConnected, LinkPrepared, MessageReceived, SendBufferHigh, SendBufferLow
from meshd.wire.sdp import from_sdp, to_sdp

PATIENCE = 120.0  # seconds for all of it
MESSAGE_SIZE = 16_000
MESSAGES = 10_000_000 // MESSAGE_SIZE


def payload(index: int) -> bytes:
    """What message ``index`` holds; ``peer.js`` says the same."""
    body = bytes((index * 31 + i * 7) & 255 for i in range(256)) * (MESSAGE_SIZE // 256 + 1)
    return index.to_bytes(4, "big") + body[4:MESSAGE_SIZE]


async def send_all(end: End, link: int) -> None:
    """10 MB, held back by what the link says of its outbox."""
    for index in range(MESSAGES):
        highs = len(end.of(SendBufferHigh, link))
        if highs > len(end.of(SendBufferLow, link)):
            await end.wait(SendBufferLow, link, highs)
        end.send(payload(index), Priority.BULK, link)
        await trio.lowlevel.checkpoint()


async def call(end: End, peer: Foreign, link: int, *, we_offer: bool, we_close: bool) -> None:
    """One link from its opening to its end."""
    end.prepare(link, offerer=we_offer)
    description = (await end.wait(LinkPrepared, link)).description
    if we_offer:
        end.connect(from_sdp(await peer.call("answer", to_sdp(description, "offer"))), link)
    else:
        end.connect(from_sdp(await peer.call("offer")), link)
        await peer.call("accept", to_sdp(description, "answer"))
    await end.wait(LinkConnected, link)
    await peer.call("opened")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, end, link)
        nursery.start_soon(peer.call, "send", MESSAGES, MESSAGE_SIZE)
        damaged = await peer.call("received", MESSAGES)
        await end.wait(MessageReceived, link, MESSAGES)
    assert damaged == 0, f"{damaged} messages arrived damaged there"
    assert end.messages(link) == [payload(index) for index in range(MESSAGES)]
    if we_close:
        end.close(link)
        await peer.call("closed")
    else:
        await peer.call("close")
        assert (await end.wait(LinkClosed, link)).reason == "closed_by_peer"


async def main(name: str) -> None:
    """Four links, one after another."""
    end = End()
    with trio.fail_after(PATIENCE):
        async with foreign_peer(name) as peer, open_end(end, LinksConfig()) as end.port:
            for link, (we_offer, we_close) in enumerate([(True, True), (False, False), (True, False), (False, True)]):
                began = trio.current_time()
                await call(end, peer, link, we_offer=we_offer, we_close=we_close)
                print(f"{name}: link {link} in {trio.current_time() - began:.2f} s", flush=True)
    assert end.faults == []


if __name__ == "__main__":
    run_clean(main, sys.argv[1])
