"""Bytes without end pass through a link, and memory stays where it was, whether the reader is quick or slow."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest
import trio
from link_ends import End, link_up, run_clean, two_ends

MIB = 1 << 20
WARM_SIZE = 24 * MIB  # until windows have grown and the allocator has what it wants
MAX_GROWTH = 20 * MIB  # of both ends together: outbox, send and receive buffers, one stream's window


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def user_of(end: End) -> trio.SocketStream:
    ours, theirs = socket.socketpair()
    end.open_stream(theirs.detach())
    return trio.SocketStream(trio.socket.from_stdlib_socket(ours))


def pass_through(size: int, pause: float) -> int:
    """Send so much by one stream; how far resident memory rose above what it was once it ran."""
    highest = lowest = 0

    async def main() -> None:
        nonlocal highest, lowest
        async with two_ends(patience=240) as (a, b):
            await link_up(a, b)
            writer, reader = user_of(a), user_of(b)
            sent, received = hashlib.blake2b(), hashlib.blake2b()
            block = os.urandom(MIB)

            async def write() -> None:
                for number in range(size // MIB):
                    piece = number.to_bytes(8) + block[8:]
                    sent.update(piece)
                    await writer.send_all(piece)
                await writer.send_eof()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                total = step = 0
                async for piece in reader:
                    received.update(piece)
                    total += len(piece)
                    if total >= step:
                        step += MIB
                        if total < WARM_SIZE:
                            lowest = resident()
                        highest = max(highest, resident())
                        if pause:
                            await trio.sleep(pause)
            assert total == size
            assert received.digest() == sent.digest()
            await writer.aclose()
            await reader.aclose()

    run_clean(main)
    return highest - lowest


@pytest.mark.parametrize("pause", [0.0, 0.02], ids=["quick", "slow"])
def test_64_mib_leave_no_trace_in_memory(pause: float) -> None:
    assert pass_through(64 * MIB, pause) < MAX_GROWTH


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.parametrize("pause", [0.0, 0.02], ids=["quick", "slow"])
def test_a_gibibyte_leaves_no_trace_in_memory(pause: float) -> None:
    assert pass_through(1024 * MIB, pause) < MAX_GROWTH
