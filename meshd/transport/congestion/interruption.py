"""When a process is held up, ours or the peer's: what is measured then tells of the machine and not of the path.

A path that is slow goes on speaking slowly. A process that the machine has no time for is silent, and then everything
comes at once: round trips as long as the pause, delivery rates as low as if the path had become slower, and losses
that seem to have happened at any round trip. One cannot tell which of the two ends it was, and need not. What happens
in most rounds is no interruption but how the path is: some radios say everything in heaps.
"""

from __future__ import annotations

import math
from collections import deque

# Policy
MIN_SILENCE = 0.03
"""Seconds, beyond the shortest round trip and what is usual, in which nothing of what is in flight is acknowledged."""
SILENT_PACKETS = 4
"""The time of so many packets is no silence, however slow the path."""
USUAL_ROUNDS = 32
"""What is usual is the median of so many rounds: their longest silences."""
FORGET_INTERVAL = 1.0
"""While rounds are disturbed, what is forgotten by rounds otherwise is forgotten this often."""


class Interruption:
    """Told of packets that leave, of acknowledgements and of rounds; all times in monotonic seconds."""

    __slots__ = ("_forgotten_at", "_heard", "_longest", "_silences", "_silent_until", "_usual")

    def __init__(self, now: float) -> None:
        self._heard = now
        self._silent_until = -math.inf
        self._longest = 0.0  # of this round
        self._silences: deque[float] = deque(maxlen=USUAL_ROUNDS)
        self._usual = math.inf
        self._forgotten_at = now

    def on_idle_end(self, now: float) -> None:
        """Say that a packet leaves while nothing is in flight: before that there was nothing to hear."""
        self._heard = max(self._heard, now)

    def on_acknowledged(self, now: float, shortest: float, packet_time: float) -> None:
        """Say that something is acknowledged; the shortest round trip, and what a packet takes, in seconds."""
        silence = now - self._heard - shortest - SILENT_PACKETS * packet_time
        self._heard = now
        if silence > self._longest:
            self._longest = silence
        if silence > self._usual + MIN_SILENCE:
            self._silent_until = now

    def has_met(self, sent: float) -> bool:
        """Whether a packet that left then was under way during an interruption."""
        return sent < self._silent_until

    def on_round(self, now: float, is_disturbed: bool) -> bool:
        """Say that a round is over; whether it is time to forget the oldest one."""
        self._silences.append(self._longest)
        self._longest = 0.0
        self._usual = sorted(self._silences)[len(self._silences) // 2]
        if is_disturbed and now - self._forgotten_at < FORGET_INTERVAL:
            return False
        self._forgotten_at = now
        return True
