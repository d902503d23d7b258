"""Reno as SCTP has it (RFC 9260 section 7.2, RFC 5681): the configured fallback, and the yardstick."""

from __future__ import annotations

import math
from collections.abc import Sequence

from meshd.transport.congestion.controller import Packet, initial_window

# Specification
MIN_WINDOW_PACKETS = 4
"""RFC 9260 section 7.2.3: the threshold never falls below this."""

# Policy
MAX_WINDOW = 1 << 30
SLOW_START_PACING_GAIN = 2.0
"""Paced, unlike the RFC's, as all large stacks do today: bursts overflow short queues. These two gains are Linux's."""
AVOIDANCE_PACING_GAIN = 1.2
RTT_GAIN = 0.125
MAX_QUANTUM = 64 * 1024
QUANTUM_INTERVAL = 0.001


class Reno:
    """Slow start, congestion avoidance, one halving for each round with a loss."""

    __slots__ = (
        "_avoided",
        "_is_app_limited",
        "_mtu",
        "_recovery_start",
        "_srtt",
        "_threshold",
        "_undo",
        "pacing_rate",
        "send_quantum",
        "window",
    )

    def __init__(self, now: float, mtu: int) -> None:
        self._mtu = mtu
        self.window = initial_window(mtu)  # RFC 9260 section 7.2.1 would have three or four packets
        self.pacing_rate = math.inf
        self.send_quantum = self.window
        self._threshold = MAX_WINDOW
        self._avoided = 0  # bytes acknowledged in congestion avoidance (RFC 9260: partial_bytes_acked)
        self._srtt: float | None = None
        self._recovery_start = -math.inf
        self._is_app_limited = False
        self._undo: tuple[int, int] | None = None

    def on_sent(self, now: float, size: int, in_flight: int) -> Packet:
        """Say that a packet leaves."""
        if in_flight + size + self._mtu > self.window:
            self._is_app_limited = False
        return Packet(size, now, in_flight + size)

    def on_acknowledged(self, now: float, packets: Sequence[Packet], in_flight: int, rtt: float | None) -> None:
        """Grow the window, if it was used and nothing of this round was lost."""
        if rtt is not None:
            self._srtt = rtt if self._srtt is None else self._srtt + RTT_GAIN * (rtt - self._srtt)
        if packets and packets[-1].sent > self._recovery_start and not self._is_app_limited:
            acknowledged = sum(packet.size for packet in packets)
            if self.window < self._threshold:
                # Two packets' worth for each SACK (RFC 3465 section 2.2), since ours cover several.
                self.window += min(acknowledged, max(2 * self._mtu, acknowledged // 2))
            else:
                self._avoided += acknowledged
                if self._avoided >= self.window:
                    self._avoided -= self.window
                    self.window += self._mtu
            self.window = min(self.window, MAX_WINDOW)
        self._pace()

    def on_lost(self, now: float, packets: Sequence[Packet], in_flight: int) -> None:
        """Halve the window, once for all losses of a round."""
        if not packets or packets[-1].sent <= self._recovery_start:
            return
        self._undo = (self.window, self._threshold)
        self._recovery_start = now
        self._threshold = max(self.window // 2, MIN_WINDOW_PACKETS * self._mtu)
        self.window = self._threshold
        self._avoided = 0
        self._pace()

    def on_timeout(self, now: float) -> None:
        """Begin again with one packet (RFC 9260 section 7.2.3)."""
        self._undo = (self.window, self._threshold)
        self._recovery_start = now
        self._threshold = max(self.window // 2, MIN_WINDOW_PACKETS * self._mtu)
        self.window = self._mtu
        self._avoided = 0
        self._pace()

    def on_spurious(self, now: float, packets: Sequence[Packet]) -> None:
        """Take the last halving back."""
        if self._undo is not None and packets and packets[-1].sent <= self._recovery_start:
            window, threshold = self._undo
            self.window = max(self.window, window)
            self._threshold = max(self._threshold, threshold)
            self._recovery_start = -math.inf
            self._undo = None
            self._pace()

    def on_app_limited(self, in_flight: int) -> None:
        """A window that is not used does not grow (RFC 9260 section 7.2.1)."""
        if in_flight + self._mtu <= self.window:
            self._is_app_limited = True

    def on_mtu_change(self, mtu: int) -> None:
        """Keep the smallest windows usable with packets of another size."""
        self._mtu = mtu
        self.window = max(self.window, mtu)
        self.send_quantum = max(self.send_quantum, 2 * mtu)
        self._threshold = max(self._threshold, MIN_WINDOW_PACKETS * mtu)

    def _pace(self) -> None:
        if self._srtt is None:
            return
        gain = SLOW_START_PACING_GAIN if self.window < self._threshold else AVOIDANCE_PACING_GAIN
        self.pacing_rate = gain * self.window / max(self._srtt, 1e-6)
        self.send_quantum = max(2 * self._mtu, min(MAX_QUANTUM, int(self.pacing_rate * QUANTUM_INTERVAL)))
