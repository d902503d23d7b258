"""Congestion control over many simulated paths: `python -m bench.congestion [alone|shared] [--seeds N] [--quick]`.

Prints the tables of docs/congestion.md, in Markdown. Virtual time: the figures do not depend on the machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from multiprocessing import Pool
from pathlib import Path as FilePath
from random import Random
from typing import Any

sys.path.insert(0, str(FilePath(__file__).parent.parent / "tests" / "transport"))

from congestion_paths import MEGABIT, Flow, Path, Simulation, path, quantile
from tcp_cubic import TcpCubic

from meshd.transport.congestion.bbr import Bbr
from meshd.transport.congestion.reno import Reno

CUBIC_SIZE = 1500
JITTER = 0.0005
"""Seconds: what every host has. Without any, two flows may fall into step at a queue of few packets, for ever."""
OUR_SIZE = 1200
Row = tuple[str, ...]

KINDS = ("ours+ours", "cubic+ours", "ours+cubic", "cubic+cubic")


def flow(kind: str, start: float, seed: int) -> Flow:
    """A flow of that kind, from that second on."""
    if kind == "cubic":
        return Flow(kind, TcpCubic(start), start=start, size=CUBIC_SIZE)
    controller = Reno(start, OUR_SIZE) if kind == "reno" else Bbr(start, OUR_SIZE, seed=seed)
    return Flow(kind, controller, start=start, size=OUR_SIZE)


def alone(job: tuple[str, Path, float, int]) -> tuple[float, float, float, float]:
    """Rate in Mbit/s after two seconds, share of the first second, mean and 95th percentile of the queue in ms."""
    kind, way, seconds, seed = job
    one = flow(kind, 0.0, seed)
    simulation = Simulation(way, [one], seed).run(seconds)
    delays = one.queue_delays
    return (
        simulation.rate_of(one, 2) / MEGABIT,
        simulation.share(one, 0, 1),
        1e3 * sum(delays) / max(len(delays), 1),
        1e3 * quantile(delays, 0.95),
    )


def shared(job: tuple[str, Path, float, int]) -> tuple[float, float]:
    """Shares of the first and of the second flow from when the second begins."""
    kinds, way, seconds, seed = job
    first, second = kinds.split("+")
    start = 0.1 + 8 * Random(seed).random()
    flows = [flow(first, 0.0, seed), flow(second, start, seed + 100)]
    simulation = Simulation(way, flows, seed).run(seconds)
    shares = [simulation.share(one, int(start) + 1, seconds) for one in flows]
    return shares[0], shares[1]


def jobs_alone(seeds: int, seconds: float) -> Iterator[tuple[str, list[tuple[str, Path, float, int]]]]:
    """One flow alone on each path: a label, and a job for each seed."""
    for kind in ("ours", "reno", "cubic"):
        for megabits, round_trip, buffer, loss in (
            (100, 0.02, 1.0, 0.0),
            (100, 0.05, 1.0, 0.0),
            (100, 0.05, 0.1, 0.0),
            (100, 0.05, 1.0, 0.01),
            (100, 0.05, 1.0, 0.03),
            (100, 0.05, 1.0, 0.05),
            (300, 0.05, 1.0, 0.01),
            (5, 0.02, 96.0, 0.0),
            (5, 0.05, 38.4, 0.0),
            (20, 0.3, 4.0, 0.0),
        ):
            label = f"{kind} | {megabits} | {1e3 * round_trip:.0f} | {buffer:g} | {100 * loss:g} %"
            yield (
                label,
                [(kind, path(megabits, round_trip, buffer, loss), seconds, seed) for seed in range(1, seeds + 1)],
            )


def jobs_shared(
    seeds: int, seconds: float, rates: tuple[int, ...]
) -> Iterator[tuple[str, list[tuple[str, Path, float, int]]]]:
    """Two flows on each path, the second some seconds after the first."""
    for kinds in KINDS:
        for megabits in rates:
            for round_trip in (0.02, 0.05):
                for buffer in (0.5, 1.0, 2.0, 4.0):
                    label = f"{kinds} | {megabits} | {1e3 * round_trip:.0f} | {buffer:g}"
                    yield (
                        label,
                        [
                            (kinds, path(megabits, round_trip, buffer, jitter=JITTER), seconds, seed)
                            for seed in range(1, seeds + 1)
                        ],
                    )


def run(
    rows: Iterator[tuple[str, list[Any]]], what: Callable[[Any], Any], render: Callable[[list[Any]], str], pool: Any
) -> None:
    """Print a row for each label, as soon as its jobs are done."""
    for label, results in [(label, pool.map_async(what, jobs, 1)) for label, jobs in rows]:
        print(f"| {label} | {render(results.get())} |", flush=True)


def render_alone(results: list[tuple[float, float, float, float]]) -> str:
    """Medians over the seeds."""
    columns = [sorted(column) for column in zip(*results, strict=True)]
    middle = [column[len(column) // 2] for column in columns]
    return f"{middle[0]:.1f} | {middle[1]:.2f} | {middle[2]:.0f} | {middle[3]:.0f}"


def render_shared(results: list[tuple[float, float]]) -> str:
    """Medians of both shares, the smallest share of all, and the least use of the path."""
    first = sorted(result[0] for result in results)
    second = sorted(result[1] for result in results)
    worst = min(first + second)
    used = min(sum(result) for result in results)
    return f"{first[len(first) // 2]:.2f} | {second[len(second) // 2]:.2f} | {worst:.2f} | {used:.2f}"


def main() -> None:
    """Print one table or both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", nargs="?", choices=("alone", "shared"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rates", type=int, nargs="*", default=[5, 20, 100], help="Mbit/s of the shared paths")
    parser.add_argument("--quick", action="store_true", help="half a minute")
    options = parser.parse_args()
    seconds = 30.0 if options.quick else 60.0
    with Pool() as pool:
        if options.table != "shared":
            print("| flow | Mbit/s | RTT ms | buffer BDP | loss | Mbit/s | 1st s | queue ms | 95 % |")
            print("|---|---|---|---|---|---|---|---|---|")
            run(jobs_alone(options.seeds, min(seconds, 30.0)), alone, render_alone, pool)
            print()
        if options.table != "alone":
            print("| flows | Mbit/s | RTT ms | buffer BDP | first | second | worst | used |")
            print("|---|---|---|---|---|---|---|---|")
            run(jobs_shared(options.seeds, seconds, tuple(options.rates)), shared, render_shared, pool)


if __name__ == "__main__":
    main()
