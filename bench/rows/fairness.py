"""How two flows share one link: neither may starve the other, whoever was first."""

from __future__ import annotations

from collections.abc import Iterator

from bench import lineup
from bench.extent import Extent
from bench.pairs import Contestant, Pair, PairFailed
from bench.paths import Conditions, NoPath, path, why_not
from bench.table import Figure, median

# Policy
LINK = Conditions(rate=20e6, round_trip=0.040)
BUFFERS = (1.0, 4.0)  # times the BDP
AIM = 1 / 3  # of a fair share, which is half


def shares(first: Contestant, second: Contestant, conditions: Conditions, seed: int, extent: Extent) -> list[float]:
    """Parts of the fair share (1.0) that the two got, once the second had had time to come in, and the link's use."""
    head_start = extent.warm_up
    with path(conditions, seed) as between, Pair(first, between) as one, Pair(second, between) as other:
        began_one = one.begin()
        one.watch(head_start)
        began_other = other.begin()
        length = head_start + extent.warm_up + extent.seconds
        of_one = one.finish(began_one, length)
        of_other = other.finish(began_other, length - head_start)
    begin, end = of_other.began + extent.warm_up, min(of_one.ended, of_other.ended)
    rates = of_one.rate(begin, end), of_other.rate(begin, end)
    fair = max(sum(rates) / 2, 1e-9)
    return [rates[0] / fair, rates[1] / fair, sum(rates) * 8 / conditions.rate]


def fairness(extent: Extent) -> Iterator[Figure]:
    """20 Mbit/s, 40 ms."""
    title = "20 Mbit/s, 40 ms, two flows, parts of the fair share"
    if (reason := why_not()) is not None:
        yield Figure(title, reason)
        return
    yield Figure(title, "")
    meshd, cubic = lineup.MESHD, lineup.CUBIC
    names = {meshd.name: "meshd", cubic.name: "cubic"}
    for times in BUFFERS:
        conditions = Conditions(LINK.rate, LINK.round_trip, queue=int(LINK.bdp * times))
        for first, second in ((meshd, meshd), (meshd, cubic), (cubic, meshd)):
            what = f"  {times:g} BDP: {names[first.name]}, then {names[second.name]}"
            try:
                runs = [shares(first, second, conditions, seed, extent) for seed in extent.seeds]
            except (PairFailed, NoPath) as error:
                yield Figure(what, str(error), ">= 0.33 each")
                continue
            one, other, used = (median(run[index] for run in runs) for index in range(3))
            lowest = min(min(run[:2]) for run in runs)
            shown = f"{one:.2f} and {other:.2f}, lowest of all runs {lowest:.2f}; {used:.0%} of the link as messages"
            yield Figure(what, shown, ">= 0.33 each", met=min(one, other) >= AIM)
