"""The figures of the bench as lines of a table, and what machine they come from."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass

# Policy
BUSY_SHARE = 0.15  # of all cores used by others: above it wall times say little
WIDTHS = (48, 14, 28)  # of the columns but the last, as text


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. ``met``: whether the aim is reached; None where there is no aim or no figure."""

    what: str
    measured: str
    aim: str = ""
    ratio: str = ""
    met: bool | None = None

    def cells(self) -> tuple[str, str, str, str]:
        """In the order of the columns."""
        verdict = {True: "met", False: "MISSED", None: ""}[self.met]
        return self.what, self.aim, " ".join(filter(None, (self.ratio, verdict))), self.measured


HEADS = ("measure", "aim", "ratio", "measured")


def text_line(cells: tuple[str, ...]) -> str:
    """One line for a terminal."""
    padded = [cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=False)]
    return "  ".join([*padded, cells[-1]]).rstrip()


def median(values: Iterable[float]) -> float:
    """The median; 0 of nothing, so that a run that delivered nothing shows as that."""
    return statistics.median(list(values) or [0.0])


def machine() -> str:
    """What was measured on, and when: no name, no address."""
    with open("/proc/cpuinfo") as lines:
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    kernel = platform.release().partition("-")[0]
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"{day}; {os.cpu_count()} cores of {model}; Linux {kernel}, Python {platform.python_version()}"


class Strangers:
    """How busy others keep this machine meanwhile: CPU time that neither this process nor its children used."""

    def __init__(self) -> None:
        self._began = (time.monotonic(), *self._used())

    @staticmethod
    def _used() -> tuple[float, float]:
        with open("/proc/stat") as lines:
            fields = [int(field) for field in lines.readline().split()[1:]]
        ticks = sum(fields) - fields[3] - fields[4]  # without idle and iowait
        own = os.times()
        return ticks / os.sysconf("SC_CLK_TCK"), own.user + own.system + own.children_user + own.children_system

    def share(self) -> float:
        """Share of all cores, 0 to 1, that went to others since this was made."""
        began, all_then, own_then = self._began
        all_now, own_now = self._used()
        wall = max(time.monotonic() - began, 0.001)
        return max(0.0, (all_now - all_then) - (own_now - own_then)) / wall / (os.cpu_count() or 1)
