"""libdatachannel by pylibdatachannel: ``pylibdatachannel_channel.py a|b ADDRESS``.

The binding tells neither how much waits to be sent nor when it is less, and libdatachannel queues without limit; so
``b`` says every few messages how many have come, as an application would have to.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import pylibdatachannel as rtc

from bench.contestants.work import BULK, BULK_SIZE, Work, listen, say

AHEAD_COUNT = (4 << 20) // BULK_SIZE  # messages that may be on their way: more than fit on any path of the bench
TELL_COUNT = 16  # after so many messages b says that they have come
COME = 3  # first byte of that message


async def live(offers: bool) -> None:
    """Until the bench kills us."""
    loop = asyncio.get_running_loop()
    connection = rtc.PeerConnection(rtc.Configuration([]))
    at_work: Work | None = None
    held: list[Any] = []
    described_at = 0.0
    ahead = come = 0
    told = threading.Event()

    def opened(channel: Any) -> None:
        nonlocal at_work

        def send(message: bytes, urgent: bool) -> None:
            nonlocal ahead
            ahead += message[0] == BULK
            channel.send(message)

        def received(message: bytes) -> None:
            nonlocal ahead, come
            if message[0] == COME:
                ahead -= TELL_COUNT
                work.pump()
                return
            work.received(message)
            if message[0] == BULK:
                come += 1
                if come % TELL_COUNT == 0:
                    channel.send(bytes([COME]))

        work = at_work = Work(send, lambda: ahead < AHEAD_COUNT)
        channel.on_message(lambda message: loop.call_soon_threadsafe(received, message))
        say(open=time.monotonic() - described_at)

    def stands(channel: Any) -> None:
        held.append(channel)
        loop.call_soon_threadsafe(opened, channel)

    def gathered(state: Any) -> None:
        if state == rtc.GatheringState.COMPLETE and not told.is_set():
            told.set()
            description = connection.local_description
            say(describe={"sdp": str(description), "type": description.type.name})

    def described(description: Any) -> None:
        nonlocal described_at
        described_at = time.monotonic()
        kind = getattr(rtc.DescriptionType, description["type"])
        connection.set_remote_description(rtc.Description(description["sdp"], kind))

    listen(described, lambda: at_work)
    connection.on_gathering_state_change(gathered)
    if offers:
        channel = connection.create_data_channel("bench")
        channel.on_open(lambda: stands(channel))
    else:
        connection.on_data_channel(stands)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(live(sys.argv[1] == "a"))
