"""What is to happen at a certain time, and time itself, in steps from one such thing to the next."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from meshd.sim.network import Network

Deed = Callable[[], None]


class Agenda:
    """Deeds in the order of their times; of equal times, in the order they were entered."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._deeds: list[tuple[float, int, Deed]] = []
        self._sequence = 0

    def at(self, when: float, deed: Deed) -> None:
        """Enter something for that time (simulated seconds)."""
        self._sequence += 1
        heapq.heappush(self._deeds, (when, self._sequence, deed))

    def after(self, delay: float, deed: Deed) -> None:
        """The same, so many seconds from now."""
        self.at(self._network.now + delay, deed)

    def every(self, interval: float, deed: Deed, until: float = float("inf")) -> None:
        """Again and again, the first time after one interval."""

        def again() -> None:
            deed()
            self.every(interval, deed, until)

        if self._network.now + interval <= until:
            self.after(interval, again)

    def wait(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass, doing what is due; True as soon as ``until`` holds, which is asked after each deed."""
        network = self._network
        end = network.now + seconds
        while True:
            if until is not None and until():
                return True
            due = self._deeds[0][0] if self._deeds else end
            network.run(max(0.0, min(due, end) - network.now))
            if due > end or not self._deeds:
                return until is None
            heapq.heappop(self._deeds)[2]()
