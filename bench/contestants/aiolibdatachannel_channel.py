"""libdatachannel by aiolibdatachannel, on Python 3.12 or later: ``aiolibdatachannel_channel.py a|b ADDRESS``."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Coroutine
from typing import Any

from aiolibdatachannel import PeerConnection, RTCConfiguration

from bench.contestants.work import Work, listen, say

HIGH_SIZE = 1 << 20  # bytes that wait in the channel before we stop
LOOK_INTERVAL = 0.002  # seconds; the binding has no public callback for when less waits


def at_once(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run what never waits."""
    with contextlib.suppress(StopIteration):
        coroutine.send(None)


async def live(offers: bool) -> None:
    """Until the bench kills us."""
    connection = PeerConnection(RTCConfiguration(ice_servers=[]))
    at_work: Work | None = None
    described_at = 0.0
    tasks: set[asyncio.Task[None]] = set()
    known = asyncio.Event()

    async def answer(description: Any) -> None:
        await connection.set_remote_description(description["sdp"], description["type"])
        known.set()

    def described(description: Any) -> None:
        nonlocal described_at
        described_at = time.monotonic()
        tasks.add(asyncio.get_running_loop().create_task(answer(description)))

    listen(described, lambda: at_work)
    if offers:
        channel = await connection.create_data_channel("bench")
        own = await connection.create_offer()
        say(describe={"sdp": own.sdp, "type": "offer"})
    else:
        await known.wait()
        own = await connection.create_answer()
        say(describe={"sdp": own.sdp, "type": "answer"})
        channel = await connection.accept_data_channel()
    await channel.wait_open()
    work = at_work = Work(
        lambda message, urgent: at_once(channel.send(message, wait_for_drain=False)),
        lambda: channel.buffered_amount < HIGH_SIZE,
    )
    say(open=time.monotonic() - described_at)

    async def look() -> None:
        while True:
            work.pump()
            await asyncio.sleep(LOOK_INTERVAL)

    tasks.add(asyncio.get_running_loop().create_task(look()))
    async for message in channel:
        work.received(message)


if __name__ == "__main__":
    asyncio.run(live(sys.argv[1] == "a"))
