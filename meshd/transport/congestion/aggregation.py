"""How much more than the bandwidth explains is acknowledged at once: radios and busy hosts hand things over in heaps.

The window has to hold that much more, or the sender would stand still between two heaps
(draft-ietf-ccwg-bbr section 5.5.9).
"""

from __future__ import annotations

from meshd.transport.congestion.filters import WindowedMax

# Policy
ROUNDS = 10


class Aggregation:
    """``extra.value``: bytes acknowledged beyond the bandwidth at most, over the last rounds."""

    __slots__ = ("_bytes", "_since", "extra")

    def __init__(self, now: float) -> None:
        self.extra = WindowedMax(ROUNDS)
        self._since = now
        self._bytes = 0

    def on_acknowledged(self, now: float, acknowledged: int, bandwidth: float) -> None:
        """Count acknowledged bytes against what the bandwidth, in bytes a second, would have brought by now."""
        expected = bandwidth * (now - self._since)
        if self._bytes <= expected:
            self._since = now
            self._bytes = acknowledged
            extra = float(acknowledged)
        else:
            self._bytes += acknowledged
            extra = self._bytes - expected
        self.extra.update(extra)
