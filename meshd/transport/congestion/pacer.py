"""The pacer: a rate in bytes a second made into bursts that a timer of milliseconds can keep."""

from __future__ import annotations

import math

from meshd.transport.congestion.controller import Controller

# Policy
MIN_BURST_INTERVAL = 0.001
"""The event loop's timers count milliseconds: bursts are made as large as what may leave in one."""
MAX_LATENESS = 0.002
"""What has gathered unused, for lack of data or window, leaves at once up to this: a pause must not become a flood."""
MAX_STALL = 0.01
"""What a late wake-up has missed while a burst was waited for is made up for, up to this. A machine with other things
to do wakes us milliseconds late again and again; what the pacer did not make up for, the bandwidth filter would take
for the path's, and a flow beside busy processes would fall to half of a 50 Mbit/s link."""
STALL_SHARE = 0.25
"""Who waited for a burst when its time came, and is woken late, makes up for as much as this part of the window. With
10 ms and no more a process that was held up for half of the time, by up to 40 ms at once, had 0.55 of a 20 Mbit/s link;
with this 0.82 where the buffer is one BDP and 0.97 where it is four."""
PAUSE = 0.03
"""Seconds after which nobody was waiting any more."""
UNPACED = 1 << 40


class Pacer:
    """Bytes gather at the controller's rate and leave when a burst has come together.

    A packet may leave while the budget is above zero; what it takes too much is owed. An opened burst may be used
    in parts: a sender with little to say never waits.
    """

    __slots__ = ("_awaited", "_controller", "_is_open", "_tokens", "_updated")

    def __init__(self, controller: Controller, now: float) -> None:
        self._controller = controller
        self._tokens = float(controller.send_quantum)
        self._updated = now
        self._is_open = True
        self._awaited = math.inf  # when the burst is due that the sender waits for

    def budget(self, now: float) -> int:
        """Bytes that may leave now; zero until a whole burst has come together."""
        controller = self._controller
        rate = controller.pacing_rate
        if rate == math.inf:
            return UNPACED
        burst = controller.send_quantum
        if burst < rate * MIN_BURST_INTERVAL:
            burst = int(rate * MIN_BURST_INTERVAL)
        tokens = self._tokens
        if now > self._updated:
            elapsed = now - self._updated
            unused = rate * (MAX_LATENESS if self._is_open or elapsed > PAUSE else MAX_STALL)
            if now > self._awaited:
                unused = max(unused, STALL_SHARE * controller.window)
            tokens = min(tokens + elapsed * rate, burst + unused)
            self._tokens = tokens
        self._updated = now
        self._awaited = math.inf
        if tokens >= burst:
            self._is_open = True
        return int(tokens) if self._is_open and tokens >= 1 else 0

    def on_sent(self, now: float, size: int) -> None:
        """Take what has left from the budget."""
        self._tokens -= size
        if self._tokens < size:
            self._is_open = False  # the rest waits for more: many small bursts cost more than a few large ones

    def next_time(self) -> float | None:
        """When the next burst may leave, or None if something may leave at once. To be asked by who waits for it."""
        controller = self._controller
        rate = controller.pacing_rate
        if rate == math.inf or rate <= 0 or self._is_open:
            return None
        burst = max(controller.send_quantum, rate * MIN_BURST_INTERVAL)
        missing = burst - self._tokens
        # A hair late rather than early: rounding must not make the caller turn in circles.
        self._awaited = self._updated + max(missing / rate, 0.0) + 1e-6
        return self._awaited
