"""aiortc as it comes: ``aiortc_channel.py a|b ADDRESS asyncio|uvloop``."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import aioice.ice
import uvloop
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription

from bench.contestants.work import Work, listen, say

HIGH_SIZE = 1 << 20  # bytes that wait in the channel before we stop, and
LOW_SIZE = 1 << 18  # when we go on


async def live(offers: bool, address: str) -> None:
    """Until the bench kills us."""
    # It would leave loopback out.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [address]
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    at_work: Work | None = None
    described_at = 0.0
    tasks: set[asyncio.Task[None]] = set()

    def opened(channel: RTCDataChannel) -> None:
        nonlocal at_work
        channel.bufferedAmountLowThreshold = LOW_SIZE
        work = at_work = Work(lambda message, urgent: channel.send(message), lambda: channel.bufferedAmount < HIGH_SIZE)
        channel.on("message", work.received)
        channel.on("bufferedamountlow", work.pump)
        say(open=time.monotonic() - described_at)

    async def answer(description: Any) -> None:
        await connection.setRemoteDescription(RTCSessionDescription(**description))
        if not offers:
            await connection.setLocalDescription(await connection.createAnswer())
            describe()

    def described(description: Any) -> None:
        nonlocal described_at
        described_at = time.monotonic()
        tasks.add(asyncio.get_running_loop().create_task(answer(description)))

    def describe() -> None:
        say(describe={"sdp": connection.localDescription.sdp, "type": connection.localDescription.type})

    listen(described, lambda: at_work)
    if offers:
        channel = connection.createDataChannel("bench")
        channel.on("open", lambda: opened(channel))
        await connection.setLocalDescription(await connection.createOffer())
        describe()
    else:
        connection.on("datachannel", opened)
    await asyncio.Event().wait()


if __name__ == "__main__":
    (uvloop.run if sys.argv[3] == "uvloop" else asyncio.run)(live(sys.argv[1] == "a", sys.argv[2]))
