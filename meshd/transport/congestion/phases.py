"""The phases of BBR's search: how fast each sends, and for how long."""

from __future__ import annotations

from enum import Enum

# Specification: draft-ietf-ccwg-bbr section 2
STARTUP_GAIN = 2.77
DRAIN_GAIN = 0.5
UP_GAIN = 1.25
PROBE_DURATION = 0.2

# Policy
DOWN_GAIN = 0.75
"""The draft has 0.9. In simulation both do alike; this one has the queue of a probe gone sooner."""
CRUISE_ROUNDS = (4, 8)
"""Rounds between two probes for bandwidth, drawn anew each time. The draft waits for two to three seconds; at a
tenth of that a rise is followed sooner, and what a probe costs others is bounded by the fair window."""
UP_ROUNDS = 2
UP_GROWTH = 1.1
"""A probe goes on for as long as the bandwidth grows by this factor in so many rounds."""
DOWN_ROUNDS = 4
"""After so many rounds the queue is not ours, or the model is wrong: in both cases waiting does not mend it."""
SHORT_PROBE_ROUND_TRIPS = 20
"""On the shortest paths the path is kept empty for so many round trips only, and MIN_PROBE_DURATION."""
MIN_PROBE_DURATION = 0.02

# The constants of ``random.Random``'s elders (POSIX drand48) are good enough to keep two flows out of step.
_MULTIPLIER, _INCREMENT, _MASK = 0x5DEECE66D, 0xB, (1 << 48) - 1


class Phase(Enum):
    """Where in its search the controller is."""

    STARTUP = "startup"
    """Looking for the bandwidth, doubling."""
    DRAIN = "drain"
    """Emptying the queue that this has made."""
    DOWN = "down"
    """Emptying the queue that a probe has made."""
    CRUISE = "cruise"
    """Sending at the bandwidth."""
    UP = "up"
    """Probing for more."""
    PROBE_RTT = "probe_rtt"
    """Emptying the path to see its round trip."""


class Cruises:
    """How many rounds each cruise takes, drawn so that two flows do not probe in step."""

    __slots__ = ("_state",)

    def __init__(self, seed: int, now: float) -> None:
        self._state = (seed * _MULTIPLIER ^ int(now * 1e6)) & _MASK

    def draw(self) -> int:
        """Those of the next one."""
        low, high = CRUISE_ROUNDS
        self._state = (self._state * _MULTIPLIER + _INCREMENT) & _MASK
        return low + (self._state >> 17) % (high - low + 1)


def probe_duration(min_rtt: float) -> float:
    """Seconds for which a path is kept empty to see its round trip."""
    return min(max(SHORT_PROBE_ROUND_TRIPS * min_rtt, MIN_PROBE_DURATION), PROBE_DURATION)
