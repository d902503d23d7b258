"""Whole daemons and programs: starting, joining, resting; and how large the things are that must fit somewhere."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from bench.extent import Extent
from bench.rows import sizes
from bench.rows.many import resident_size
from bench.table import Figure
from demo.processes import POLL_INTERVAL, Daemon, Mesh, program, wait_for

# Policy
SETTLE_TIME = 5.0  # seconds after which a daemon counts as idle


def _took(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _start_of_meshctl(daemon: Daemon, starts: int) -> Figure:
    """`meshctl peers` against a Python that does nothing, turn by turn."""
    environment = {"MESHD_SOCKET": str(daemon.socket), "PATH": "/usr/bin:/bin"}

    def run(*command: str) -> float:
        return _took(lambda: subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL))

    run(program("meshctl"), "peers")  # compiles what is not compiled yet
    pairs = [(run(sys.executable, "-c", "pass"), run(program("meshctl"), "peers")) for _ in range(starts)]
    bare = statistics.median(bare for bare, _ in pairs)
    peers = statistics.median(peers for _, peers in pairs)
    ratio = peers / bare
    shown = f"{peers * 1000:.0f} ms, bare {bare * 1000:.0f} ms"
    return Figure("meshctl peers, whole process", shown, "<= 6 x python", f"{ratio:.1f} x", ratio <= 6)


def _found_and_join(mesh: Mesh) -> tuple[float, float]:
    """Found a mesh on a, join b, then c. Seconds until b has its first link, and until c has both of its links."""
    a, b, c = mesh.start("a", "b", "c")
    a.meshctl("found", "bench")
    tokens = [str(a.call("introductions.mint")["token"]) for _ in range(2)]

    def join_fully() -> None:
        c.call("mesh.join", token=tokens[1])
        wait_for(lambda: len(c.linked()) == 2, "c is fully linked", interval=POLL_INTERVAL / 10)

    first = _took(lambda: b.call("mesh.join", token=tokens[0]))
    return first, _took(join_fully)


def meshes(extent: Extent) -> Iterator[Figure]:
    """What takes real daemons to measure. The last mesh, left alone for a while, serves for memory and meshctl too."""
    firsts: list[float] = []
    fulls: list[float] = []
    for left in reversed(range(extent.meshes)):
        with Mesh(log_level="info") as mesh:
            first, full = _found_and_join(mesh)
            firsts.append(first)
            fulls.append(full)
            if left == 0:
                time.sleep(min(SETTLE_TIME, extent.seconds))
                resident = max(resident_size(daemon.pid) for daemon in mesh.daemons.values())
                start = _start_of_meshctl(mesh.daemons["a"], extent.starts)
    first, full = statistics.median(firsts), statistics.median(fulls)
    yield start
    yield Figure("join by token until the first link", f"{first * 1000:.0f} ms", "<= 300 ms", met=first <= 0.3)
    yield Figure("third peer, join until fully linked", f"{full * 1000:.0f} ms", "<= 500 ms", met=full <= 0.5)
    shown = f"{resident / 1e6:.0f} MB"
    yield Figure("idle daemon with 2 links, resident", shown, "<= 90 MB", met=resident <= 90e6)


def fitting(extent: Extent) -> Iterator[Figure]:
    """Sizes; nothing is timed."""
    for what, measured, limit, unit in (
        (f"token, one endpoint of {sizes.ENDPOINT_CHARS}", sizes.token_size(), 720, "characters"),
        ("first push, plaintext", sizes.first_push_size(), 1_200, "bytes"),
        ("first push, everything optional", sizes.first_push_size(everything=True), 2_640, "bytes"),
        ("description with 6 candidates", sizes.description_size(), 160, "bytes"),
    ):
        yield Figure(what, f"{measured:,} {unit}", f"<= {limit:,}", met=measured <= limit)
    own, shared = (sizes.renewal_sizes(shared=shared) for shared in (False, True))
    yield Figure(
        "renewals, for each holder and day", f"{own:,.0f} bytes; {shared:,.0f} where holders share a subscription"
    )
