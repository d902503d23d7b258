"""What a CUBIC flow (RFC 9438) would have in flight in our place: the measure of our share beside such flows."""

from __future__ import annotations

# Specification: RFC 9438 section 4.1 to 4.6
CUBIC_C = 0.4
CUBIC_BETA = 0.7
RENO_ALPHA = 3 * (1 - CUBIC_BETA) / (1 + CUBIC_BETA)


class FairWindow:
    """A CUBIC window in packets, moved once a round and cut by what is judged to be congestion."""

    __slots__ = ("_epoch", "_k", "_maximum", "_reno", "packets")

    def __init__(self, packets: float) -> None:
        self.packets = packets
        self._maximum = packets
        self._k = 0.0
        self._reno = packets
        self._epoch: float | None = None

    def copy(self) -> FairWindow:
        """The same again, to come back to."""
        other = FairWindow(self.packets)
        other._maximum, other._k, other._reno, other._epoch = self._maximum, self._k, self._reno, self._epoch
        return other

    def scale(self, factor: float) -> None:
        """Count in packets of another size."""
        self.packets *= factor
        self._maximum *= factor
        self._reno *= factor

    def on_round(self, now: float, round_trip: float) -> None:
        """Grow by what CUBIC grows in one round trip in which the window was used."""
        if self._epoch is None:
            self._epoch = now
        elapsed = now - self._epoch + round_trip
        self._reno += RENO_ALPHA if self._reno < self._maximum else 1.0
        cubic = CUBIC_C * (elapsed - self._k) ** 3 + self._maximum
        target = min(max(cubic, self._reno), self.packets * 1.5)
        self.packets = max(self.packets, target)

    def on_congestion(self, packets: float) -> None:
        """Cut, from what was in flight when it happened (section 4.6, with fast convergence, section 4.7)."""
        packets = min(packets, self.packets)
        self._maximum = packets * (1 + CUBIC_BETA) / 2 if packets < self._maximum else packets
        self.packets = self._reno = max(packets * CUBIC_BETA, 4.0)
        self._k = (max(self._maximum - self.packets, 0.0) / CUBIC_C) ** (1 / 3)
        self._epoch = None
