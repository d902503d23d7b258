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
from bench.paths import why_not
from bench.rows import daemons, fairness, latency, many, queues, throughput
from bench.table import BUSY_SHARE, HEADS, Figure, Strangers, machine, text_line, write_page

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
    "ceiling": throughput.ceiling,
    "meshes": daemons.meshes,
    "sizes": daemons.fitting,
}


def measure(names: list[str], extent: Extent) -> list[Figure]:
    """Measure and print those rows; one that breaks is a line that says so, and the others go on."""
    figures: list[Figure] = []
    for name in names:
        strangers = Strangers()
        try:
            for figure in ROWS[name](extent):
                figures.append(figure)
                print(text_line(figure.cells()), flush=True)
        except Exception as error:
            traceback.print_exc()
            figures.append(Figure(name, f"broke: {type(error).__name__}: {error}", met=False))
            print(text_line(figures[-1].cells()), flush=True)
        if (share := strangers.share()) > BUSY_SHARE:
            figures.append(Figure(f"  (others used {share:.0%} of this machine meanwhile)", ""))
            print(text_line(figures[-1].cells()), flush=True)
    return figures


def remarks(extent: Extent, seconds: float) -> list[str]:
    """What one must know to read the table."""
    how = f"Transfers of {extent.seconds:g} s, seeds {extent.seeds}, {extent.rounds} rounds; {seconds:.0f} s in all."
    return [
        f"{machine()}.",
        f"{how} A ratio is meshd's figure by the other's, by CPU: bytes for each CPU second of both ends.",
        *([f"Rows with delay and loss are left out: {reason}."] if (reason := why_not()) else []),
    ]


def main() -> int:
    """Measure, print, and write the page if asked. 0 even where aims are missed."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="five seeds of 60 s, some hours; writes docs/performance.md"
    )
    parser.add_argument("--smallest", action="store_true", help="only show that everything works; no figure counts")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="NAME", help=f"some rows: {', '.join(ROWS)}")
    parser.add_argument("--page", action="store_true", help="write docs/performance.md")
    args = parser.parse_args()
    extent = FULL if args.full else SMALLEST if args.smallest else SHORT
    began = time.monotonic()
    print(text_line(HEADS), flush=True)
    figures = measure(args.only or list(ROWS), extent)
    said = remarks(extent, time.monotonic() - began)
    print("", *said, sep="\n")
    if args.page or (args.full and not args.only):
        write_page(figures, said)
    return 0


if __name__ == "__main__":
    # So that contexts are left, whoever ends us.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
