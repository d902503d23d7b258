"""A router whose next hop carries less than it did, and who tells nobody: what was cut for more still arrives."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import ip

pytestmark = [pytest.mark.root, pytest.mark.needs("ip", "nft"), pytest.mark.timeout(40)]

END = str(Path(__file__).parent / "link_process.py")
SIZE = 24  # MiB
SILENT = """
table inet silent {
  chain out {
    type filter hook output priority 0
    icmp type destination-unreachable drop
    icmpv6 type packet-too-big drop
  }
}
"""


@pytest.fixture
def homes() -> Iterator[dict[str, str]]:
    """Namespaces a and b, and between them a router that never says that a packet is too big."""
    names = {name: f"bh{os.getpid()}-{name}" for name in ("a", "router", "b")}
    try:
        for full in names.values():
            ip("netns", "add", full)
            ip("-n", full, "link", "set", "lo", "up")
        for index, name in enumerate(("a", "b"), 1):
            there = ("peer", "name", f"to-{name}", "netns", names["router"])
            ip("link", "add", "eth0", "netns", names[name], "type", "veth", *there)
            for namespace, device, host in ((names[name], "eth0", 2), (names["router"], f"to-{name}", 1)):
                ip("-n", namespace, "addr", "add", f"10.97.{index}.{host}/24", "dev", device)
                ip("-n", namespace, "addr", "add", f"fd97:{index}::{host}/64", "dev", device, "nodad")
                ip("-n", namespace, "link", "set", device, "up")
            ip("-n", names[name], "route", "add", "default", "via", f"10.97.{index}.1")
            ip("-n", names[name], "-6", "route", "add", "default", "via", f"fd97:{index}::1")
        inside = ["ip", "netns", "exec", names["router"]]
        switches = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        subprocess.run([*inside, "sysctl", "-qw", *switches], check=True)
        subprocess.run([*inside, "nft", "-f", "-"], input=SILENT, text=True, check=True)
        yield names
    finally:
        for full in names.values():
            subprocess.run(["ip", "netns", "del", full], check=False, capture_output=True)


@pytest.mark.parametrize("version", [4, 6])
def test_a_path_that_shrinks_in_the_middle_of_a_stream_and_says_nothing(homes: dict[str, str], version: int) -> None:
    for name in ("a", "b"):  # one family alone, so that it is the one that is tried
        ip("-n", homes[name], f"-{10 - version}", "addr", "flush", "dev", "eth0")
    processes = {
        name: subprocess.Popen(
            ["ip", "netns", "exec", homes[name], sys.executable, END, role, str(SIZE << 20)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, role in (("a", "send"), ("b", "receive"))
    }
    try:
        a, b = processes["a"], processes["b"]
        assert a.stdin
        assert a.stdout
        assert b.stdin
        assert b.stdout
        descriptions = {name: process.stdout.readline() for name, process in processes.items() if process.stdout}
        b.stdin.write(descriptions["a"])
        b.stdin.flush()
        a.stdin.write(descriptions["b"])
        a.stdin.flush()
        said = b.stdout.readline()
        while said and said.split() != ["got", "8"]:
            said = b.stdout.readline()
        assert said
        ip("-n", homes["router"], "link", "set", "to-b", "mtu", "1280")
        while said and not said.startswith("done"):
            said = b.stdout.readline()
        _, digest, total, _ = said.split()
        assert int(total) == SIZE << 20
        assert a.stdout.readline().split() == ["sent", digest]
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
