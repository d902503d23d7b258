"""What passes: on loopback, and over paths with delay and loss. Ratios are of medians, measured turn by turn."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench import lineup
from bench.extent import Extent
from bench.pairs import Contestant, Pair, PairFailed, Transfer
from bench.paths import Conditions, NoPath, host, path, why_not
from bench.table import Figure, median

# Policy
LOOPBACK_SHARE = 0.5  # of the seconds of a path: without a round trip there is little to get going
RACE_TIME = 2.0  # seconds that tell the fastest binding of libdatachannel
FAST_RATE = 500e6  # bit/s; more than any contestant with encryption uses here, so that the path does not decide
CEILING_TIME = 3.0


@dataclass(slots=True)
class Outcome:
    """All that one contestant has done under the same conditions."""

    contestant: Contestant
    transfers: list[Transfer] = field(default_factory=list)
    trouble: str = ""

    @property
    def rate(self) -> float:
        """Median bytes per second."""
        return median(transfer.rate() for transfer in self.transfers)

    @property
    def cpu(self) -> float:
        """Median CPU seconds of both ends for 10^9 bytes."""
        return median(transfer.cpu_for_each_gb for transfer in self.transfers)

    def figure(self, ours: Outcome | None, aim: float = 0.0) -> Figure:
        """As a line below ``ours``; ``aim`` is what we should reach of this contestant's rate."""
        name = self.contestant.name
        goal = f">= {aim:g} x" if aim else ""
        if not self.transfers:
            return Figure(f"  {name}", self.trouble, goal)
        wrong = sum(transfer.wrong for transfer in self.transfers)
        shown = f"{self.rate / 1e6:.2f} MB/s, {self.cpu:.0f} CPU s for each GB"
        shown += f", {wrong} WRONG MESSAGES" if wrong else ""
        shown += f", but {self.trouble}" if self.trouble else ""
        if ours is None or not ours.transfers or not self.rate:
            return Figure(f"  {name}", shown, goal)
        ratio = ours.rate / self.rate
        by_cpu = self.cpu / ours.cpu if ours.cpu else 0.0
        return Figure(f"  {name}", shown, goal, f"{ratio:.2f} x ({by_cpu:.2f} by CPU)", ratio >= aim if aim else None)


def in_turns(
    contestants: Sequence[Contestant], seconds: float, seeds: Sequence[int], conditions: Conditions | None = None
) -> list[Outcome]:
    """Each contestant under the same conditions (None: loopback), A B A B, so that drift of the machine hits all."""
    outcomes = [Outcome(contestant, trouble=contestant.missing) for contestant in contestants]
    for seed in seeds:
        for outcome in outcomes:
            if outcome.contestant.missing:
                continue
            try:
                outcome.transfers.append(_one(outcome.contestant, seconds, seed, conditions))
            except (PairFailed, NoPath) as error:
                outcome.trouble = str(error)
    return outcomes


def _one(contestant: Contestant, seconds: float, seed: int, conditions: Conditions | None) -> Transfer:
    if conditions is None:
        with host() as here, Pair(contestant, here, local="a") as pair:
            return pair.transfer(seconds)
    with path(conditions, seed) as between, Pair(contestant, between) as pair:
        return pair.transfer(seconds)


@functools.cache
def fastest_native(extent: Extent) -> Contestant:
    """The binding of libdatachannel that is the fastest on loopback; one that says why, if none is there."""
    outcomes = in_turns(lineup.libdatachannels(), min(RACE_TIME, extent.seconds), (1,))
    return max(outcomes, key=lambda outcome: outcome.rate).contestant


def loopback(extent: Extent) -> Iterator[Figure]:
    """16 KiB messages between two processes on this machine."""
    natives = lineup.libdatachannels()
    contestants = (
        lineup.MESHD, *natives, lineup.AIORTC_UVLOOP, lineup.AIORTC, lineup.libwebrtc(), lineup.CUBIC, lineup.ENGINE
    )  # fmt: skip
    ours, *others = in_turns(contestants, extent.seconds * LOOPBACK_SHARE, range(extent.rounds))
    best = max(others[: len(natives)], key=lambda outcome: outcome.rate)
    yield Figure("loopback, messages of 16 KiB", "")
    yield ours.figure(None)
    for other in others:
        aim = 1.0 if other is best else 2.5 if other.contestant is lineup.AIORTC_UVLOOP else 0.0
        yield other.figure(ours, aim)


def _over(title: str, conditions: Conditions, aims: dict[str, float], extent: Extent) -> Iterator[Figure]:
    if (reason := why_not()) is not None:
        yield Figure(title, reason)
        return
    contestants = (lineup.MESHD, fastest_native(extent), lineup.AIORTC_UVLOOP, lineup.libwebrtc(), lineup.CUBIC)
    ours, *others = in_turns(contestants, extent.seconds, extent.seeds, conditions)
    yield Figure(title, "")
    yield ours.figure(None)
    for other in others:
        yield other.figure(ours, aims.get(other.contestant.name, 0.0))


def round_trip_20(extent: Extent) -> Iterator[Figure]:
    """20 ms, no loss."""
    yield from _clean(0.020, extent)


def round_trip_50(extent: Extent) -> Iterator[Figure]:
    """50 ms, no loss."""
    yield from _clean(0.050, extent)


def _clean(round_trip: float, extent: Extent) -> Iterator[Figure]:
    conditions = Conditions(FAST_RATE, round_trip, queue=int(FAST_RATE / 8 * round_trip))
    yield from _over(f"{round_trip * 1e3:.0f} ms, no loss", conditions, {fastest_native(extent).name: 1.0}, extent)


def loss(extent: Extent) -> Iterator[Figure]:
    """50 ms, 1 % lost each way."""
    conditions = Conditions(FAST_RATE, 0.050, loss=0.01, queue=int(FAST_RATE / 8 * 0.050))
    aims = {fastest_native(extent).name: 20.0, lineup.CUBIC.name: 20.0}
    yield from _over("50 ms, 1 % lost each way", conditions, aims, extent)


def ceiling(extent: Extent) -> Iterator[Figure]:
    """What the emulator itself can carry: a TCP that nothing limits."""
    title = "the emulator's own ceiling"
    if (reason := why_not()) is not None:
        yield Figure(title, reason)
        return
    seconds = min(CEILING_TIME, extent.seconds)
    with path(Conditions()) as between, Pair(lineup.CUBIC, between) as pair:
        between.statistics()
        transfer = pair.transfer(seconds)
        seen = between.statistics()
    packets = (seen["there"]["packets"] + seen["back"]["packets"]) / seconds
    yield Figure(title, f"{packets:,.0f} packets/s, {transfer.rate() * 8 / 1e6:,.0f} Mbit/s delivered")
