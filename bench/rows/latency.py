"""How long a message of 100 bytes takes there and back on loopback: alone, beside bulk, and through whole daemons."""

from __future__ import annotations

import json
import socket
import statistics
import time
from collections.abc import Iterator

from bench import lineup
from bench.extent import Extent
from bench.pairs import Contestant, Pair, PairFailed
from bench.paths import host
from bench.rows.throughput import fastest_native
from bench.table import Figure, median
from demo.processes import Daemon, Mesh

# Policy
AIM = 0.4e-3  # seconds
LOADED_AIM = 10e-3
DAEMON_AIM = 1e-3
LOADED_INTERVAL = 0.005  # seconds between two pings beside bulk
PING_TIMEOUT = 60.0
DAEMON_SHARE = 4  # every so many pings of the others one through the daemons


def quantile(values: list[float], share: float) -> float:
    """The value that ``share`` of all do not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def _round_trips(contestant: Contestant, extent: Extent, *, loaded: bool) -> tuple[list[float], float]:
    """Seconds of each, and CPU seconds of both ends for one."""
    with host() as here, Pair(contestant, here, local="a") as pair:
        if not loaded:
            before = sum(pair.cpu().values())
            trips = pair.round_trips(extent.pings, timeout=PING_TIMEOUT)
            return trips, (sum(pair.cpu().values()) - before) / extent.pings
        started = pair.begin()
        trips = pair.round_trips(extent.pings // 4, LOADED_INTERVAL, PING_TIMEOUT)
        pair.finish(started, 0.0)
        return trips, 0.0


def _figures(title: str, extent: Extent, *, loaded: bool, aim: float, share: float) -> Iterator[Figure]:
    yield Figure(title, "")
    contestants = [lineup.MESHD, fastest_native(extent), lineup.AIORTC_UVLOOP]
    rounds: dict[str, list[tuple[list[float], float]]] = {contestant.name: [] for contestant in contestants}
    trouble = {contestant.name: contestant.missing for contestant in contestants}
    for _ in range(extent.rounds):
        for contestant in contestants:
            if contestant.missing:
                continue
            try:
                rounds[contestant.name].append(_round_trips(contestant, extent, loaded=loaded))
            except PairFailed as error:
                trouble[contestant.name] = str(error)
    for contestant in contestants:
        done = rounds[contestant.name]
        if not done:
            yield Figure(f"  {contestant.name}", trouble[contestant.name])
            continue
        middle = median(quantile(trips, 0.5) for trips, _ in done)
        late = median(quantile(trips, 0.99) for trips, _ in done)
        cpu = median(spent for _, spent in done)
        judged = middle if share == 0.5 else late
        ours = contestant is lineup.MESHD
        yield Figure(
            f"  {contestant.name}",
            f"p50 {middle * 1e3:.2f} ms, p99 {late * 1e3:.2f} ms" + (f"; CPU {cpu * 1e3:.2f} ms" if cpu else ""),
            f"p{share * 100:.0f} <= {aim * 1e3:g} ms" if ours else "",
            met=judged <= aim if ours else None,
        )


def round_trip(extent: Extent) -> Iterator[Figure]:
    """Nothing else on the link."""
    yield from _figures("100 bytes there and back", extent, loaded=False, aim=AIM, share=0.5)


def loaded_round_trip(extent: Extent) -> Iterator[Figure]:
    """Beside bulk on the same link, all that it takes."""
    yield from _figures("100 bytes there and back, beside bulk", extent, loaded=True, aim=LOADED_AIM, share=0.99)


def ping_daemon(daemon: Daemon, peer: str, count: int) -> list[float]:
    """Seconds of ``peers.ping`` as a program on the control socket sees them, over one connection."""
    trips = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PING_TIMEOUT)
        connection.connect(str(daemon.socket))
        with connection.makefile("rb") as lines:
            for number in range(count):
                request = {"jsonrpc": "2.0", "id": number, "method": "peers.ping", "params": {"peer": peer}}
                began = time.perf_counter()
                connection.sendall(json.dumps(request).encode() + b"\n")
                while (answer := json.loads(lines.readline())).get("id") != number:
                    pass  # the greeting
                if "error" in answer:
                    raise PairFailed(f"peers.ping: {answer['error']['message']}")
                trips.append(time.perf_counter() - began)
    return trips


def daemon_round_trip(extent: Extent) -> Iterator[Figure]:
    """Program, control socket, daemon, link, daemon, and all the way back: ``peers.ping``, which nothing stores."""
    with Mesh(log_level="info") as mesh:
        first, second = mesh.found("a", "b")
        runs = [ping_daemon(first, second.name, extent.pings // DAEMON_SHARE or 1) for _ in range(extent.rounds)]
    middle, late = (statistics.median(quantile(run, share) for run in runs) for share in (0.5, 0.99))
    yield Figure(
        "peers.ping through two daemons",
        f"p50 {middle * 1e3:.2f} ms, p99 {late * 1e3:.2f} ms",
        f"p50 <= {DAEMON_AIM * 1e3:g} ms",
        met=middle <= DAEMON_AIM,
    )
