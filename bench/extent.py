"""How much of everything one run of the bench measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.table import Figure


@dataclass(frozen=True, slots=True)
class Extent:
    """``seconds`` for a transfer over a path, for each of ``seeds``; the shorter things in proportion.

    ``rounds`` is how often what needs no seed is repeated, in turns with what it is compared with.
    """

    seconds: float
    seeds: tuple[int, ...]
    rounds: int
    pings: int  # round trips
    links: int  # where many are needed
    most_links: int  # in one daemon
    meshes: int  # of three daemons
    starts: int  # of a process of some 20 ms
    idle: float  # seconds over which idle things are watched

    @property
    def warm_up(self) -> float:
        """Seconds after which a flow has found its pace, where only that is looked at."""
        return min(10.0, self.seconds / 3)


SHORT = Extent(8.0, (1,), 2, 2_000, 100, 500, 5, 30, 10.0)
FULL = Extent(60.0, (1, 2, 3, 4, 5), 5, 20_000, 100, 500, 9, 50, 60.0)
SMALLEST = Extent(0.3, (1,), 1, 20, 4, 6, 1, 2, 0.3)  # only shows that everything works

Row = Callable[[Extent], Iterator[Figure]]
