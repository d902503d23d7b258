"""The bench's link emulator does to packets what it is told to. Counted in packets; times are compared with bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bench.paths import ADDRESSES, EMULATOR, Conditions, EmulatedPath, path
from demo.processes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.needs("cc", "nsenter", "make")]

ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
s.bind(("0.0.0.0", 7))
print("here", flush=True)
while True:
    data, whence = s.recvfrom(65536)
    s.sendto(data, whence)
"""
# Sends datagrams by one call, cut apart by the kernel (UDP_SEGMENT), and says which of them came back and how fast.
SEND = """
import json, socket, sys, time
there, count, size, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
s.settimeout(0.5)
SOL_UDP, UDP_SEGMENT = 17, 103
took, back, began = [], 0, time.monotonic()
for first in range(0, count, batch):
    numbers = range(first, min(first + batch, count))
    datagrams = b"".join(n.to_bytes(4, "big").ljust(size, b"x") for n in numbers)
    sent = time.monotonic()
    segment = [(SOL_UDP, UDP_SEGMENT, size.to_bytes(2, sys.byteorder))] if batch > 1 else []
    s.sendmsg([datagrams], segment, 0, (there, 7))
    if batch == 1:
        try:
            assert len(s.recv(65536)) == size
            took.append(time.monotonic() - sent)
            back += 1
        except TimeoutError:
            pass
while batch > 1:
    try:
        assert len(s.recv(65536)) == size
        back += 1
        last = time.monotonic()
    except TimeoutError:
        break
print(json.dumps({"back": back, "took": sorted(took), "whole": last - began if batch > 1 else 0}))
"""


@pytest.fixture(scope="module", autouse=True)
def emulator() -> None:
    subprocess.run(["make", "--silent", "build/emulator"], cwd=EMULATOR.parent.parent, check=True)


def exchange(emulated: EmulatedPath, count: int, size: int = 100, batch: int = 1) -> dict:
    echo = subprocess.Popen([*emulated.at("b"), sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    try:
        assert echo.stdout is not None
        assert echo.stdout.readline() == "here\n"
        emulated.statistics()
        arguments = [ADDRESSES["b"], str(count), str(size), str(batch)]
        done = subprocess.run(
            [*emulated.at("a"), sys.executable, "-c", SEND, *arguments], capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)
    finally:
        echo.kill()
        echo.communicate()


def test_delay_is_added_once_in_each_direction():
    with path(Conditions(round_trip=0.030)) as emulated:
        took = exchange(emulated, 20)["took"]
        assert len(took) == 20
        assert took[0] >= 0.030  # not one too early
        assert took[10] < 0.040
        emulated.set("there", delay=0.045)
        assert exchange(emulated, 5)["took"][0] >= 0.060


def test_every_datagram_of_a_segmented_send_is_seen_and_lost_by_itself():
    with path(Conditions(loss=0.1), seed=7) as emulated:
        back = exchange(emulated, 3_000, size=1_000, batch=50)["back"]
        seen = emulated.statistics()
        there = seen["there"]
        assert there["packets"] + there["lost"] == 3_000
        assert there["bytes"] == there["packets"] * 1_028
        assert 240 <= there["lost"] <= 360  # four standard deviations
        assert seen["back"]["packets"] == back == there["packets"] - seen["back"]["lost"]


def test_the_same_seed_loses_the_same():
    def lost() -> int:
        with path(Conditions(loss=0.2), seed=3) as emulated:
            exchange(emulated, 1_000, size=1_000, batch=50)
            return emulated.statistics()["there"]["lost"]

    assert lost() == lost()


def test_the_rate_limits_and_the_queue_drops_its_tail():
    with path(Conditions(rate=8e6, queue=60_000)) as emulated:
        # 400 packets of 1,028 bytes at 1,000,000 bytes/s; what comes at once and does not fit is dropped.
        done = exchange(emulated, 400, size=1_000, batch=50)
        there = emulated.statistics()["there"]
        assert there["dropped"] + there["packets"] == 400
        assert 59 <= there["packets"] < 400
        assert 58_000 <= there["queue_max"] <= 60_000
        assert 55 <= there["delay_max_ms"] <= 61
        assert done["whole"] >= (there["packets"] - 1) * 1_028 / 1e6
        emulated.set("both", queue=1_000_000)
        done = exchange(emulated, 400, size=1_000, batch=50)
        assert done["back"] == 400
        assert 0.41 <= done["whole"] < 0.6


def test_down_is_down():
    with path(Conditions()) as emulated:
        emulated.set("back", down=1)
        assert exchange(emulated, 1)["back"] == 0
        assert emulated.statistics()["back"]["lost"] == 1
        emulated.set("back", down=0)
        assert exchange(emulated, 1)["back"] == 1
        with pytest.raises(ValueError, match="no such key"):
            emulated.set("both", rtae=1)


def test_nothing_is_left_when_the_bench_dies():
    program = "from bench.paths import *\nwith path(Conditions()) as it:\n print(it.at('a')[1], flush=True)\n input()"
    bench = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=EMULATOR.parent.parent,
    )
    assert bench.stdout is not None
    namespace = bench.stdout.readline().strip().removeprefix("--net=")
    assert os.path.exists(namespace)
    bench.kill()
    bench.communicate()
    wait_for(lambda: not os.path.exists(namespace), "the emulator is gone")
