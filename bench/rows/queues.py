"""What a flow does to a queue: a slow link with a deep buffer, and buffers of half to four times what is on its way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench import lineup
from bench.extent import Extent
from bench.pairs import Contestant, Pair, PairFailed
from bench.paths import Conditions, NoPath, path, why_not
from bench.rows.throughput import fastest_native
from bench.table import Figure, median

# Policy
SLOW = Conditions(rate=5e6, round_trip=0.040, queue=1_000_000)  # 1.6 s of queue: the home router of bufferbloat's fame
SHARE_AIM = 0.90
DELAY_AIM = 100  # ms
HOME = Conditions(rate=50e6, round_trip=0.040)
BUFFERS = (0.5, 1.0, 4.0)  # times the BDP


@dataclass(frozen=True, slots=True)
class Use:
    """How one flow used the path once it had found its pace; delays are those that the queue added, in ms."""

    share: float  # of the link's rate, all headers counted
    goodput: float  # bytes/s of messages
    delay: float  # median over packets
    delay_p95: float
    dropped: float  # share of packets
    failed: str = ""


def use(contestant: Contestant, conditions: Conditions, seed: int, extent: Extent) -> Use:
    """One flow."""
    if contestant.missing:
        return Use(0, 0, 0, 0, 0, contestant.missing)
    try:
        with path(conditions, seed) as between, Pair(contestant, between) as pair:
            started = pair.begin()
            pair.watch(extent.warm_up)
            between.statistics()
            transfer = pair.finish(started, extent.seconds)
            there = between.statistics()["there"]
    except (PairFailed, NoPath) as error:
        return Use(0, 0, 0, 0, 0, str(error))
    seconds = extent.seconds - extent.warm_up
    return Use(
        there["bytes"] * 8 / conditions.rate / seconds,
        transfer.rate(transfer.began + extent.warm_up, transfer.began + extent.seconds),
        there["delay_p50_ms"],
        there["delay_p95_ms"],
        there["dropped"] / max(there["dropped"] + there["packets"], 1),
    )


def _in_turns(conditions: Conditions, extent: Extent) -> Iterator[tuple[Contestant, Use]]:
    """The median use of each contestant."""
    contestants = (lineup.MESHD, fastest_native(extent), lineup.CUBIC)
    uses: dict[str, list[Use]] = {contestant.name: [] for contestant in contestants}
    for seed in extent.seeds:
        for contestant in contestants:
            uses[contestant.name].append(use(contestant, conditions, seed, extent))
    for contestant in contestants:
        of = uses[contestant.name]
        yield (
            contestant,
            Use(
                median(it.share for it in of),
                median(it.goodput for it in of),
                median(it.delay for it in of),
                median(it.delay_p95 for it in of),
                median(it.dropped for it in of),
                next((it.failed for it in of if it.failed), ""),
            ),
        )


def _shown(it: Use) -> str:
    if it.failed:
        return it.failed
    queue = f"queue {it.delay:.0f} ms (p95 {it.delay_p95:.0f})"
    return f"{it.share:.0%} of the link, {it.goodput / 1e6:.2f} MB/s; {queue}; {it.dropped:.1%} dropped"


def deep(extent: Extent) -> Iterator[Figure]:
    """5 Mbit/s and a queue of 1.6 seconds."""
    title = f"5 Mbit/s, 40 ms, buffer of {SLOW.queue / 1e6:g} MB"
    if (reason := why_not()) is not None:
        yield Figure(title, reason)
        return
    yield Figure(title, "")
    for contestant, it in _in_turns(SLOW, extent):
        met, aim = None, ""
        if contestant is lineup.MESHD:
            met, aim = it.share >= SHARE_AIM and it.delay_p95 <= DELAY_AIM, f">={SHARE_AIM:.0%} <={DELAY_AIM}ms"
        yield Figure(f"  {contestant.name}", _shown(it), aim, met=met)


def buffers(extent: Extent) -> Iterator[Figure]:
    """50 Mbit/s and 40 ms, with shallow and deep queues."""
    for times in BUFFERS:
        title = f"50 Mbit/s, 40 ms, buffer of {times:g} BDP"
        if (reason := why_not()) is not None:
            yield Figure(title, reason)
            continue
        yield Figure(title, "")
        conditions = Conditions(HOME.rate, HOME.round_trip, queue=int(HOME.bdp * times))
        for contestant, it in _in_turns(conditions, extent):
            yield Figure(f"  {contestant.name}", _shown(it))
