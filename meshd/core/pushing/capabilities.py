"""Capabilities as arithmetic: which expiries to issue, and which may be used when (RFC 8292 section 2).

A push service accepts a JWT whose ``exp`` lies at most 24 h ahead, so one JWT serves for a day at most, and one with a
later ``exp`` begins to serve later. With ten minutes kept clear at either end for clocks that disagree, each covers
23 h 40 min; the spans of several are laid end to end.
"""

from __future__ import annotations

from meshd.ids import CLOCK_SKEW

# Specification
MAX_AHEAD = 86400  # seconds; RFC 8292 section 2

# Policy
CLOCK_SLACK = int(CLOCK_SKEW)  # seconds; expiries are whole ones
PROMISED_SPAN = 36 * 3600.0  # seconds that a holder can push for from the last contact on, whenever that is
GRANT_SPAN = 48 * 3600.0  # seconds from now on, when it is given something
LOOK_MARGIN = 3600.0  # seconds by which more is given earlier: looks are half an hour apart, clocks are off a little
TOP_UP_SPAN = PROMISED_SPAN + LOOK_MARGIN  # below that it is given more
# Where a holder has a channel of its own, which can be taken back from it alone, it may hold more: a laptop that was
# shut for a fortnight comes home without a new token. Sixteen capabilities at most, as a subscription carries; a day
# and a half between the two spans, so that a renewal is one whole capability.
MAX_SPAN = 15.5 * 86400.0  # seconds; what sixteen of them serve for, and so the longest of all
OWN_PROMISED_SPAN = 14 * 86400.0
OWN_GRANT_SPAN = MAX_SPAN
OWN_TOP_UP_SPAN = OWN_PROMISED_SPAN + LOOK_MARGIN
COVERED = MAX_AHEAD - 2 * CLOCK_SLACK  # seconds that one capability serves for


def expiries(now: float, span: float = GRANT_SPAN) -> list[int]:
    """``exp`` values such that at every moment from ``now`` to ``now + span`` one of them is usable.

    From a little before, in fact: where ours is ahead and the holder's behind, it could not use what begins later.
    """
    return _expiries(now - 2 * CLOCK_SLACK, now + span)


def further_expiries(held_until: float, now: float, span: float, least: float) -> list[int]:
    """What a holder that is served until ``held_until`` lacks to be served for ``span`` from ``now`` on, about.

    Whole capabilities, so that the last of them is not a short one at each renewal; with a short one at the end where
    it would be served for less than ``least`` without. Empty if it lacks nothing.
    """
    reached = held_until + (now + span - held_until) // COVERED * COVERED
    return _expiries(held_until, reached if reached >= now + least else now + span)


def _expiries(covered: float, end: float) -> list[int]:
    result: list[int] = []
    while covered < end:
        covered = min(covered + COVERED, end)
        result.append(int(covered) + CLOCK_SLACK)
    return result


def lasting(now: float, span: float) -> list[int]:
    """``exp`` of the one capability that serves for all of ``span``, where the service is our own: it takes longer ones
    than RFC 8292 has services take, and refuses what is taken back, whenever that would have ended.
    """
    return [int(now + span) + CLOCK_SLACK]


def is_usable(exp: int, now: float) -> bool:
    """Whether a service whose clock is right within the slack would take a JWT with that ``exp`` now."""
    return now + CLOCK_SLACK - 1 <= exp <= now + MAX_AHEAD - CLOCK_SLACK + 1


def is_lasting(exps: list[int], now: float) -> bool:
    """Whether the first of these (rising) is one that ``lasting`` made: of others, one would be usable or have ended.

    Where it is not, because a clock is wrong by days, the service refuses it, and no harm is done.
    """
    alive = [exp for exp in exps if exp > now + CLOCK_SLACK]
    return len(alive) == 1 and not is_usable(alive[0], now)


def usable_until(exps: list[int], now: float) -> float:
    """To when, without a gap from ``now`` on, one of them is usable (Unix seconds); ``now`` itself if none is."""
    until = now
    for exp in sorted(exps):
        if exp - MAX_AHEAD + CLOCK_SLACK <= until + 1:
            until = max(until, float(exp - CLOCK_SLACK))
    return until
