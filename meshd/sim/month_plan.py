"""When who is away in a month of machines: servers, desktops, laptops, phones, and people who travel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

HOUR, DAY = 3600.0, 86400.0


@dataclass(frozen=True, slots=True)
class Kind:
    """Spans in seconds, to draw from: how long such a machine is there at a time, how long it is away then.

    ``share``: of all members. ``shared``: one push subscription serves all its holders, for 36 h.
    """

    name: str
    share: float
    there: tuple[float, float]
    away: tuple[float, float]
    shared: bool = False


# Policy
KINDS = (
    Kind("server", 0.24, (4 * DAY, 12 * DAY), (0.0, 600.0)),
    Kind("desktop", 0.36, (16 * HOUR, 60 * HOUR), (6 * HOUR, 16 * HOUR)),
    Kind("laptop", 0.12, (8 * HOUR, 40 * HOUR), (1 * HOUR, 60 * HOUR)),
    Kind("laptop, shared subscription", 0.08, (8 * HOUR, 40 * HOUR), (1 * HOUR, 60 * HOUR), shared=True),
    Kind("phone", 0.04, (2 * HOUR, 20 * HOUR), (0.0, 1 * HOUR)),
    Kind("traveller", 0.16, (0.5 * DAY, 4 * DAY), (1 * DAY, 10 * DAY)),
)


@dataclass(frozen=True, slots=True)
class Absence:
    """``begins`` in seconds from the beginning; ``rude``: power was cut, nobody was told."""

    begins: float
    lasts: float
    rude: bool


def kinds_of(members: int) -> list[Kind]:
    """What each member is, the founder first: a server, as the one after it is."""
    result: list[Kind] = []
    owed = 0.0
    for kind in KINDS:
        owed += kind.share * members
        while len(result) < round(owed):
            result.append(kind)
    return result


def absences(kind: Kind, days: float, dice: Random) -> Iterator[Absence]:
    """Those of one member; all end before the time is over, but for the last, perhaps."""
    at = dice.uniform(0.0, kind.there[1])
    while at < days * DAY:
        lasts = dice.uniform(*kind.away)
        yield Absence(at, lasts, dice.random() < 0.5)
        at += lasts + dice.uniform(*kind.there)
