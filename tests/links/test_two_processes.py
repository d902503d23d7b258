"""A link between two processes, descriptions passed as bytes: nothing is shared that a network would not carry."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import trio
from link_ends import LOOPBACK, End, run_clean

from meshd.core.events import LinkClosed, LinkConnected, LinkPrepared, MessageReceived
from meshd.links.port import open_links
from meshd.wire.session_description import decode, encode


async def echo() -> None:
    """The other process: answer the offer on standard input, send back what comes, end with the link."""
    end = End()
    async with open_links(LOOPBACK, end.deliver) as end.port:
        end.react = lambda event: end.send(event.data) if isinstance(event, MessageReceived) else None
        end.prepare(offerer=False)
        print(encode((await end.wait(LinkPrepared)).description).hex(), flush=True)
        offer = await trio.to_thread.run_sync(sys.stdin.readline)
        end.connect(decode(bytes.fromhex(offer)))
        print((await end.wait(LinkClosed)).reason, flush=True)


def test_a_link_between_two_processes():
    async def main() -> None:
        end = End()
        start = partial(trio.run_process, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery, open_links(LOOPBACK, end.deliver) as end.port:
                other = await nursery.start(start, [sys.executable, __file__])
                received = bytearray()

                async def line() -> str:
                    while b"\n" not in received:
                        received.extend(await other.stdout.receive_some())
                    text, _, rest = bytes(received).partition(b"\n")
                    received[:] = rest
                    return text.decode()

                end.prepare(offerer=True)
                offer = encode((await end.wait(LinkPrepared)).description)
                end.connect(decode(bytes.fromhex(await line())))
                await other.stdin.send_all(offer.hex().encode() + b"\n")
                await end.wait(LinkConnected)
                for size in (1, 50_000):
                    end.send(bytes(size))
                await end.wait(MessageReceived, count=2)
                assert [len(data) for data in end.messages()] == [1, 50_000]
                end.close()
                assert await line() == "closed_by_peer"

    run_clean(main)


if __name__ == "__main__":
    run_clean(echo)
