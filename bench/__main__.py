"""``make bench``: the figures that the project holds itself to, beside those of others, measured on this machine now.

A table to read, not a test. Ratios are of medians within one run, everything measured in turns.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback

from bench.extent import FULL, SHORT, SMALLEST, Extent, Row
from bench.page import commit, write_row
from bench.paths import why_not
from bench.rows import daemons, fairness, latency, many, push, queues, relayed, throughput, webpush
from bench.table import BUSY_SHARE, HEADS, Figure, Strangers, machine, text_line

ROWS: dict[str, Row] = {
    "loopback": throughput.loopback,
    "rtt20": throughput.round_trip_20,
    "rtt50": throughput.round_trip_50,
    "loss": throughput.loss,
    "deep": queues.deep,
    "buffers": queues.buffers,
    "fairness": fairness.fairness,
    "ping": latency.round_trip,
    "loaded": latency.loaded_round_trip,
    "daemon": latency.daemon_round_trip,
    "opening": many.opening,
    "idle": many.idle,
    "links500": many.five_hundred,
    "relayed": relayed.relayed,
    "ceiling": throughput.ceiling,
    "meshes": daemons.meshes,
    "sizes": daemons.fitting,
    "push": push.latency,
    "pushservice": push.service,
    "webpush": webpush.push,
}


def measure(name: str, extent: Extent) -> list[Figure]:
    """Measure and print one row; if it breaks, that is a line of it."""
    strangers = Strangers()
    figures: list[Figure] = []

    def add(figure: Figure) -> None:
        figures.append(figure)
        print(text_line(figure.cells()), flush=True)

    try:
        for figure in ROWS[name](extent):
            add(figure)
    except Exception as error:
        traceback.print_exc()
        add(Figure(name, f"broke: {type(error).__name__}: {error}", met=False))
    if (share := strangers.share()) > BUSY_SHARE:
        add(Figure(f"  (others used {share:.0%} of this machine meanwhile)", ""))
    return figures


def remark(extent: Extent, seconds: float) -> str:
    """How a row was measured."""
    how = f"transfers of {extent.seconds:g} s, seeds {extent.seeds}, {extent.rounds} rounds; {seconds:.0f} s in all"
    return f"Commit {commit()}, {machine()}; {how}."


def main() -> int:
    """Measure, print, and write the page if asked. 0 even where aims are missed."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="five seeds of 60 s, some hours; writes docs/performance.md row by row"
    )
    parser.add_argument("--smallest", action="store_true", help="only show that everything works; no figure counts")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="NAME", help=f"some rows: {', '.join(ROWS)}")
    parser.add_argument("--page", action="store_true", help="write docs/performance.md after a short run too")
    args = parser.parse_args()
    extent = FULL if args.full else SMALLEST if args.smallest else SHORT
    began = time.monotonic()
    print(text_line(HEADS), flush=True)
    for name in args.only or ROWS:
        row_began = time.monotonic()
        figures = measure(name, extent)
        if args.page or args.full:
            write_row(name, figures, remark(extent, time.monotonic() - row_began), list(ROWS))
    print("", remark(extent, time.monotonic() - began), sep="\n")
    if (reason := why_not()) is not None:
        print(f"Rows with delay and loss are left out: {reason}.")
    return 0


if __name__ == "__main__":
    # So that contexts are left, whoever ends us.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
