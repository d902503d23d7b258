"""Where simulated machines stand: how far apart, and behind which kind of NAT.

Each machine has a place on a square and a delay of its own access; a pair's latency is both accesses and the way
between, give or take a tenth. So near is near from everywhere, and nothing is stored for a pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

# Policy
ACROSS = 0.08  # seconds, one way, over the whole side of the square: some 16,000 km of fibre and routers
ACCESS_MEDIAN = 0.006  # seconds, one way, of a machine's own access; home lines and Wi-Fi
ACCESS_SPREAD = 0.8  # sigma of the logarithm: one in ten has 17 ms, one in a hundred 38 ms
JITTER = 0.1  # of a pair's latency, either way

OPEN, EASY, PORT_RESTRICTED, SYMMETRIC = "open", "easy", "port_restricted", "symmetric"
HARD_PAIRS = {(PORT_RESTRICTED, SYMMETRIC), (SYMMETRIC, PORT_RESTRICTED), (SYMMETRIC, SYMMETRIC)}

# Shares for which 30 % of pairs cannot connect, as measured over IPv4 by those who punch holes for a living:
# 2 · 0.505 · 0.24 + 0.24² = 0.30
PUBLISHED = ((OPEN, 0.08), (EASY, 0.175), (PORT_RESTRICTED, 0.505), (SYMMETRIC, 0.24))


@dataclass(frozen=True, slots=True)
class Place:
    """One machine's. ``access`` in seconds, one way; ``nat``: its router's kind."""

    x: float
    y: float
    access: float
    nat: str


class Terrain:
    """Places of all machines, drawn from a seed as they are first asked for; the order of asking does not matter."""

    def __init__(self, seed: int, scale: float = 1.0, natted: bool = True) -> None:
        self._seed = seed
        self._scale = scale
        self._natted = natted
        self._places: list[Place | None] = []

    def place(self, index: int) -> Place:
        """That machine's."""
        if index >= len(self._places):
            self._places.extend([None] * (index + 1 - len(self._places)))
        known = self._places[index]
        if known is None:
            known = self._places[index] = self._draw(index)
        return known

    def _draw(self, index: int) -> Place:
        dice = Random(self._seed * 1_000_003 + index)
        x, y = dice.random(), dice.random()
        access = self._scale * ACCESS_MEDIAN * math.exp(dice.gauss(0.0, ACCESS_SPREAD))
        luck, nat = dice.random(), OPEN
        if self._natted:
            for kind, share in PUBLISHED:
                nat = kind
                if luck < share:
                    break
                luck -= share
        return Place(x, y, access, nat)

    def connects(self, a: int, b: int) -> bool:
        """Whether that pair can have a link at all."""
        return (self.place(a).nat, self.place(b).nat) not in HARD_PAIRS

    def latency(self, a: int, b: int, dice: Random) -> float:
        """Seconds from one to the other for one message."""
        here, there = self.place(a), self.place(b)
        way = self._scale * ACROSS * math.hypot(here.x - there.x, here.y - there.y)
        return (here.access + there.access + way) * (1.0 - JITTER + 2.0 * JITTER * dice.random())
