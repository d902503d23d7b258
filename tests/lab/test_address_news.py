"""The real kernel's news of addresses, in a network namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.needs("ip", "unshare")]

SCRIPT = """
import asyncio, subprocess
from meshd.links.netlink import AddressWatch

async def main():
    news = asyncio.Event()
    watch = AddressWatch(news.set)
    for action in ("add", "del"):
        for address in ("192.0.2.7/32", "2001:db8::7/128"):
            news.clear()
            subprocess.run(["ip", "addr", action, address, "dev", "lo"], check=True)
            await asyncio.wait_for(news.wait(), 5)
            print(action, address)
    watch.close()

asyncio.run(main())
"""


def test_addresses_that_come_and_go_are_heard_of() -> None:
    command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" -c "$1"', sys.executable, SCRIPT]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=40, check=False, env={**os.environ, "PYTHONPATH": root}
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
