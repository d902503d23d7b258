"""``make bench``: the figures that the project holds itself to, measured on this machine now.

Medians of several runs; ratios where the machine would otherwise decide. A table to read, not a test.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from bench import sizes
from demo.processes import POLL_INTERVAL, Daemon, Mesh, program, wait_for

STARTS = 30  # of a process of some 20 ms
ROUNDS = 5  # of a mesh of three
SETTLE_TIME = 5.0  # seconds after which a daemon counts as idle


class Figure(NamedTuple):
    """One line of the table."""

    what: str
    aim: str
    measured: str
    ratio: str = ""
    met: bool = True


def _took(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _resident_size(daemon: Daemon) -> int:
    """Bytes of RAM that the process has now (VmRSS, proc(5))."""
    with open(f"/proc/{daemon.pid}/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def start_of_meshctl(daemon: Daemon) -> Figure:
    """`meshctl peers` against a Python that does nothing, turn by turn."""
    environment = {"MESHD_SOCKET": str(daemon.socket), "PATH": "/usr/bin:/bin"}

    def run(*command: str) -> float:
        return _took(lambda: subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL))

    run(program("meshctl"), "peers")  # compiles what is not compiled yet
    pairs = [(run(sys.executable, "-c", "pass"), run(program("meshctl"), "peers")) for _ in range(STARTS)]
    bare = statistics.median(bare for bare, _ in pairs)
    peers = statistics.median(peers for _, peers in pairs)
    ratio = peers / bare
    shown = f"{peers * 1000:.0f} ms, bare {bare * 1000:.0f} ms"
    return Figure("meshctl peers, whole process", "<= 6 x bare python", shown, f"{ratio:.1f} x", ratio <= 6)


def found_and_join(mesh: Mesh) -> tuple[float, float]:
    """Found a mesh on a, join b, then c. Seconds until b has its first link, and until c has both of its links."""
    a, b, c = mesh.start("a", "b", "c")
    a.meshctl("found", "bench")
    tokens = [str(a.call("introductions.mint")["token"]) for _ in range(2)]

    def join_fully() -> None:
        c.call("mesh.join", token=tokens[1])
        wait_for(lambda: len(c.linked()) == 2, "c is fully linked", interval=POLL_INTERVAL / 10)

    first = _took(lambda: b.call("mesh.join", token=tokens[0]))
    return first, _took(join_fully)


def of_running_meshes() -> list[Figure]:
    """What takes real daemons to measure. The last mesh, left alone for a while, serves for memory and meshctl too."""
    firsts: list[float] = []
    fulls: list[float] = []
    for left in reversed(range(ROUNDS)):
        with Mesh(log_level="info") as mesh:
            first, full = found_and_join(mesh)
            firsts.append(first)
            fulls.append(full)
            if left == 0:
                time.sleep(SETTLE_TIME)
                resident = max(_resident_size(daemon) for daemon in mesh.daemons.values())
                start = start_of_meshctl(mesh.daemons["a"])
    first, full = statistics.median(firsts), statistics.median(fulls)
    return [
        start,
        Figure("join by token until the first link", "<= 300 ms", f"{first * 1000:.0f} ms", met=first <= 0.3),
        Figure("third peer, join until fully linked", "<= 500 ms", f"{full * 1000:.0f} ms", met=full <= 0.5),
        Figure("idle daemon with 2 links, resident", "<= 90 MB", f"{resident / 1e6:.0f} MB", met=resident <= 90e6),
    ]


def _size(what: str, limit: int, unit: str, measured: int) -> Figure:
    return Figure(what, f"<= {limit:,} {unit}", f"{measured:,} {unit}", met=measured <= limit)


def main() -> None:
    """Measure and print."""
    figures = [
        *of_running_meshes(),
        _size(f"token, one endpoint of {sizes.ENDPOINT_CHARS}", 720, "characters", sizes.token_size()),
        _size("first push, plaintext", 1_200, "bytes", sizes.first_push_size()),
        _size("first push, everything optional", 2_640, "bytes", sizes.first_push_size(everything=True)),
        _size("description with 6 candidates", 160, "bytes", sizes.description_size()),
    ]
    heads = Figure("what", "aim", "measured", "ratio")
    rows = [tuple(figure[:4]) for figure in (heads, *figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row, figure in zip(rows, (heads, *figures), strict=True):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip() if figure.met else f"{line}  MISSED")
    print(f"\nMedians of {STARTS} starts and {ROUNDS} meshes; Python {sys.version.split()[0]}.")


if __name__ == "__main__":
    main()
