"""Links in numbers: what it costs to open one, to keep a hundred, and to have five hundred in one port."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench import lineup
from bench.extent import Extent
from bench.pairs import SIDES, Pair, PairFailed
from bench.rows.latency import quantile
from bench.table import Figure, median

# Policy
CPU_AIM = 7e-3  # seconds, both sides together
TIME_AIM = 12e-3
SIZE_AIM = 120_000  # bytes for each idle link
IDLE_AIM = 0.01  # of a core, for a hundred links
FULL_AIM = 60.0  # seconds
FIRST_COUNT = 5  # links that pay for what is needed once
OPEN_TIMEOUT = 180.0
SETTLE_TIME = 1.0


def resident_size(pid: int) -> int:
    """Bytes of RAM that the process has now (VmRSS, proc(5))."""
    with open(f"/proc/{pid}/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def _open(pair: Pair, count: int, *, together: bool) -> list[float]:
    pair.do("a", "open", count=count, together=together)
    return [float(seconds) for seconds in pair.expect("a", "opened", OPEN_TIMEOUT)]


def opening(extent: Extent) -> Iterator[Figure]:
    """One link after the other."""
    cpu, took = [], []
    for _ in range(extent.rounds):
        with Pair(lineup.MANY) as pair:
            _open(pair, FIRST_COUNT, together=False)
            before = pair.cpu()
            took += _open(pair, extent.links, together=False)
            after = pair.cpu()
        cpu.append(sum(after[side] - before[side] for side in SIDES) / extent.links)
    spent, middle = median(cpu), quantile(took, 0.5)
    aim = f"<= {CPU_AIM * 1e3:g} ms"
    yield Figure("opening a link, CPU of both sides", f"{spent * 1e3:.1f} ms", aim, met=spent <= CPU_AIM)
    shown = f"p50 {middle * 1e3:.1f} ms, p99 {quantile(took, 0.99) * 1e3:.1f} ms"
    aim = f"p50 <= {TIME_AIM * 1e3:g} ms"
    yield Figure("opening a link, both descriptions known", shown, aim, met=middle <= TIME_AIM)


def idle(extent: Extent) -> Iterator[Figure]:
    """A hundred links of a node that has nothing to say but that it is there, to as many others."""
    settle = min(SETTLE_TIME, extent.seconds)
    with Pair(lineup.MANY) as pair:
        _open(pair, FIRST_COUNT, together=True)
        pair.watch(settle)
        size_before = resident_size(pair.pid("a"))
        _open(pair, extent.links, together=True)
        pair.watch(settle)
        size = (resident_size(pair.pid("a")) - size_before) / extent.links
        for side in reversed(SIDES):
            pair.do(side, "beat")
            pair.watch(settle)
        pair.do("a", "count")
        neighbors = int(pair.expect("a", "neighbors"))
        if neighbors != extent.links + FIRST_COUNT:
            raise PairFailed(f"{neighbors} neighbors on {extent.links + FIRST_COUNT} links")
        before = pair.cpu()
        began = time.monotonic()
        pair.watch(extent.idle)
        after, seconds = pair.cpu(), time.monotonic() - began
    aim = f"<= {SIZE_AIM // 1000} KB"
    yield Figure("an idle link, resident memory", f"{size / 1e3:.0f} KB", aim, met=size <= SIZE_AIM)
    share = (after["a"] - before["a"]) / seconds * 100 / (extent.links + FIRST_COUNT)
    aim = f"<= {IDLE_AIM:.0%} of a core"
    yield Figure("100 idle links with heartbeats, CPU", f"{share:.2%} of a core", aim, met=share <= IDLE_AIM)


def five_hundred(extent: Extent) -> Iterator[Figure]:
    """Opened all at once between one port and as many others, until each has carried a message there and back."""
    with Pair(lineup.MANY) as pair:
        before = sum(pair.cpu().values())
        began = time.monotonic()
        _open(pair, extent.most_links, together=True)
        pair.do("a", "answer")
        answered = int(pair.expect("a", "answered", OPEN_TIMEOUT))
        seconds = time.monotonic() - began
        cpu = sum(pair.cpu().values()) - before
        size = resident_size(pair.pid("a"))
    shown = f"{answered} after {seconds:.1f} s, {cpu:.1f} CPU s on both sides; {size / 1e6:.0f} MB resident"
    met = answered == extent.most_links and seconds <= FULL_AIM
    yield Figure(f"{extent.most_links} links of one port, open and answering", shown, f"<= {FULL_AIM:g} s", met=met)
