"""A byte stream over a relay beside one by a link: two processes, and a third one between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from bench.extent import Extent
from bench.pairs import ROOT, PairFailed
from bench.table import Figure, median

# Policy
GETTING_GOING = 1.0  # seconds before it is measured: windows grow
SHARE = 0.4  # of the seconds of a path: without a round trip there is little to get going
GOAL = 0.5  # of a direct link's throughput


class _Process:
    def __init__(self, side: str, way: str) -> None:
        command = (sys.executable, "-m", "bench.contestants.relayed_stream", side, way)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("BENCH_STDERR") else subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )

    def do(self, what: str, **rest: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **rest}) + "\n")
        self._process.stdin.flush()

    def expect(self, key: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "failed" in said:
                raise PairFailed(str(said["failed"]))
            if key in said:
                return said
        raise PairFailed("a process ended")

    def report(self) -> dict[str, Any]:
        self.do("report")
        return self.expect("size")

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def _link(one: _Process, other: _Process, its_number: int) -> None:
    """A link that is number 1 at ``one``."""
    one.do("prepare", link=1, offers=True)
    other.do("prepare", link=its_number, offers=False)
    description, answer = one.expect("describe")["describe"], other.expect("describe")["describe"]
    other.do("connect", link=its_number, describe=description)
    one.do("connect", link=1, describe=answer)
    one.expect("up")
    other.expect("up")


def _measure(way: str, seconds: float) -> tuple[float, list[float]]:
    """Bytes a second, and the CPU seconds of each process for 10^9 bytes: sender, receiver, relay."""
    names = "ab" if way == "link" else "abr"
    processes = [_Process(name, way) for name in names]
    a, b, *relays = processes
    try:
        if relays:
            _link(a, relays[0], 1)
            _link(b, relays[0], 2)
        else:
            _link(a, b, 1)
        a.do("open")
        a.do("write", seconds=seconds + 2 * GETTING_GOING)
        subprocess.run(("sleep", str(GETTING_GOING)), check=True)
        before = [process.report() for process in processes]
        subprocess.run(("sleep", str(seconds)), check=True)
        after = [process.report() for process in processes]
    finally:
        for process in processes:
            process.kill()
    size = after[1]["size"] - before[1]["size"]
    if not size:
        raise PairFailed("nothing came")
    cpu = [(late["cpu"] - early["cpu"]) / size * 1e9 for early, late in zip(before, after, strict=True)]
    return size / (after[1]["at"] - before[1]["at"]), cpu


def relayed(extent: Extent) -> Iterator[Figure]:
    """In turns, A B A B, so that what else the machine does hits both."""
    rates: dict[str, list[float]] = {"link": [], "relay": []}
    costs: dict[str, list[list[float]]] = {"link": [], "relay": []}
    for _ in range(max(extent.rounds, 1)):
        for way in rates:
            rate, cpu = _measure(way, extent.seconds * SHARE)
            rates[way].append(rate)
            costs[way].append(cpu)
    yield Figure("a byte stream, from socket to socket, on loopback", "")
    link, relay = median(rates["link"]), median(rates["relay"])
    for way, title in (("link", "by a link"), ("relay", "over a relay, sealed from end to end")):
        each = [median(of_one) for of_one in zip(*costs[way], strict=True)]
        parts = ", ".join(
            f"{what} {spent:.1f}" for what, spent in zip(("sender", "receiver", "relay"), each, strict=False)
        )
        shown = f"{median(rates[way]) / 1e6:.0f} MB/s; CPU s for each GB: {parts}"
        ratio = relay / link
        is_relay = way == "relay"
        yield Figure(
            f"  {title}",
            shown,
            f">= {GOAL:g} x" if is_relay else "",
            f"{ratio:.2f} x" if is_relay else "",
            ratio >= GOAL if is_relay else None,
        )
