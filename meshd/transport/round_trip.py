"""The round trip estimated, and the retransmission timeout from it (RFC 9260 section 6.3)."""

from __future__ import annotations

# Specification
ALPHA, BETA = 1 / 8, 1 / 4  # RFC 9260 section 16

# Policy
INITIAL_RTO = 1.0  # section 16
MIN_RTO_VARIANCE = 0.2
"""The timeout is the round trip plus at least this. A peer of another make may sit on an acknowledgement for 200 ms
(section 6.2), so less would fire without a loss; the 1 s of the specification would be a thousand round trips on a
LAN. Linux does the same. Losses are found far earlier by RACK and tail-loss probes; this is the last resort."""
MAX_RTO = 10.0  # of what is measured; section 16 says 60
MAX_WAIT = 3.0
"""What backing off adds stops here: a path that is back is to be noticed soon, and a packet in three seconds hurts
nobody. A round trip above it counts for itself."""
MAX_BACKOFF = 6  # doublings
MIN_RTT_SPAN = 30.0  # seconds; the least round trip is of the current and of the last span


class RoundTrip:
    """Smoothed round trip, its variation, its minimum; seconds."""

    __slots__ = ("_former_min", "_min", "_span_end", "_variation", "backoff", "rto", "srtt")

    def __init__(self) -> None:
        self.srtt: float | None = None
        self._variation = 0.0
        self._min: float | None = None
        self._former_min: float | None = None
        self._span_end = 0.0
        self.rto = INITIAL_RTO
        self.backoff = 0

    @property
    def min_rtt(self) -> float | None:
        """The least sample of the last 30 to 60 s."""
        if self._min is None or (self._former_min is not None and self._former_min < self._min):
            return self._former_min
        return self._min

    def sample(self, rtt: float, now: float) -> None:
        """Take one measurement, of something that was sent once (Karn's rule)."""
        if self.srtt is None:
            self.srtt = rtt
            self._variation = rtt / 2
        else:
            self._variation += BETA * (abs(self.srtt - rtt) - self._variation)
            self.srtt += ALPHA * (rtt - self.srtt)
        variance = 4 * self._variation
        rto = self.srtt + (variance if variance > MIN_RTO_VARIANCE else MIN_RTO_VARIANCE)
        self.rto = rto if rto < MAX_RTO else MAX_RTO
        if now >= self._span_end:
            self._former_min, self._min = self._min, rtt
            self._span_end = now + MIN_RTT_SPAN
        elif self._min is None or rtt < self._min:
            self._min = rtt

    @property
    def interval(self) -> float:
        """How far apart to say something again that the peer may not have heard yet."""
        return self.rto if self.srtt is None else self.srtt

    def timeout(self) -> float:
        """The timeout with the backoff of section 6.3.3 E2."""
        return min(self.rto * (1 << self.backoff), max(MAX_WAIT, self.rto))

    def on_timeout(self) -> None:
        """Double the timeout; ``on_progress`` takes it back."""
        self.backoff = min(self.backoff + 1, MAX_BACKOFF)

    def on_progress(self) -> None:
        """Something new was acknowledged."""
        self.backoff = 0
