"""Delivery rate samples: what the path has carried between two acknowledgements (draft-ietf-ccwg-bbr section 4.1).

A sample covers one packet's time in flight: what was delivered meanwhile, over the longer of the time it took to send
and the time it took to be acknowledged, so that neither a burst of packets nor of acknowledgements makes it too large.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshd.transport.congestion.controller import Packet


class DeliveryRate:
    """The counters of one path; ``rate``, ``is_app_limited`` and ``acknowledged`` are of the last sample."""

    __slots__ = (
        "_app_limited_until",
        "_first_sent",
        "acknowledged",
        "delivered",
        "delivered_at",
        "is_app_limited",
        "rate",
    )

    def __init__(self, now: float) -> None:
        self.delivered = 0
        self.delivered_at = now
        self._first_sent = now
        self._app_limited_until = 0  # once this much is delivered, samples speak of the path again
        self.rate = 0.0  # bytes a second; zero if the sample is none
        self.is_app_limited = False
        self.acknowledged = 0  # bytes, by the last SACK

    def on_sent(self, now: float, size: int, in_flight: int) -> Packet:
        """Note the counters in a packet that leaves; ``in_flight`` is without it."""
        if in_flight <= 0:
            # After an idle time the clock of a flight begins anew: silence is no slowness of the path.
            self._first_sent = self.delivered_at = now
        return Packet(
            size,
            now,
            in_flight + size,
            self.delivered,
            self.delivered_at,
            self._first_sent,
            self._app_limited_until > 0,
        )

    def on_acknowledged(self, now: float, packets: Sequence[Packet]) -> None:
        """Make a sample of what one SACK acknowledged; there is at least one packet, the last sent comes last."""
        acknowledged = 0
        for packet in packets:
            acknowledged += packet.size
        newest = packets[-1]
        self.acknowledged = acknowledged
        self.delivered = delivered = self.delivered + acknowledged
        self.delivered_at = now
        if delivered > self._app_limited_until:
            self._app_limited_until = 0
        sent = newest.sent
        if sent < self._first_sent:
            self.rate = 0.0  # older than what was acknowledged before: it would count another's time
            return
        self._first_sent = sent
        interval = sent - newest.first_sent
        acknowledging = now - newest.delivered_at
        if acknowledging > interval:
            interval = acknowledging
        self.rate = (delivered - newest.delivered) / interval if interval > 0 else 0.0
        self.is_app_limited = newest.is_app_limited

    def on_app_limited(self, in_flight: int) -> None:
        """What is in flight now, and what leaves until that is delivered, shows the sender's rate, not the path's."""
        self._app_limited_until = max(self.delivered + in_flight, 1)
