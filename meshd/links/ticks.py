"""One timer for what many links do now and then.

A hundred idle links with a timer each, moved at every answer, woke the process fifty times a second. Here whatever is
due waits for the next tick, and all of it is done in one waking: the questions leave together, and on paths alike their
answers come together.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

# Policy
TICK = 0.5  # seconds between two wakings, if there is anything to do


class Ticking(Protocol):
    """Something with a deadline. Each is its own; two that are equal would be one."""

    due: float
    """By the loop's clock, when ``on_tick`` is wanted; infinite: not at all. Moved sooner: say so (``Ticks.look``)."""

    def on_tick(self, now: float) -> None:
        """It is due; afterwards ``due`` is later. ``now`` is the time of the tick, at most one tick ago."""


class Ticks:
    """The timer. Called on asyncio's loop; what is due is called at the first tick that is not before.

    What raises is told to the loop's exception handler, as from a timer of its own, and called again at the next tick.
    """

    def __init__(self, interval: float = TICK) -> None:
        self._interval = interval
        self._ticking: dict[Ticking, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._at = math.inf

    def __len__(self) -> int:
        return len(self._ticking)

    def add(self, ticking: Ticking) -> None:
        """Call it from now on when it is due."""
        self._ticking[ticking] = None
        self.look(ticking)

    def remove(self, ticking: Ticking) -> None:
        """Call it no more."""
        self._ticking.pop(ticking, None)
        if not self._ticking:
            self._stop()

    def look(self, ticking: Ticking) -> None:
        """It is due sooner than it was."""
        if ticking in self._ticking and ticking.due < self._at - self._interval:
            self._arm(ticking.due)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._at = math.inf

    def _arm(self, due: float) -> None:
        self._stop()
        self._at = math.ceil(due / self._interval) * self._interval
        self._timer = asyncio.get_running_loop().call_at(self._at, self._on_timer)

    def _on_timer(self) -> None:
        # By the tick's own time, so that what is due a tick after another is due at the next one, however late we are.
        late = asyncio.get_running_loop().time() - self._at
        now = self._at if late < self._interval else self._at + late
        self._timer, self._at = None, math.inf
        for ticking in list(self._ticking):
            if ticking.due <= now and ticking in self._ticking:
                self._call(ticking, now)
        due = min((ticking.due for ticking in self._ticking), default=math.inf)
        if due < self._at:
            self._arm(due)

    def _call(self, ticking: Ticking, now: float) -> None:
        try:
            ticking.on_tick(now)
        except Exception as error:  # the timer is everybody's: one link's fault must not end the consent of all others
            ticking.due = max(ticking.due, now + self._interval)
            asyncio.get_running_loop().call_exception_handler({"message": "a tick failed", "exception": error})
