"""Figures of one association, for ``meshctl peers``, the metrics and the tests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AssociationStatistics:
    """One reading. Times in seconds, sizes in bytes, counts since the beginning."""

    srtt: float | None
    min_rtt: float | None
    rto: float
    window: int
    pacing_rate: float
    """Bytes a second, ``math.inf`` if unpaced."""
    in_flight_size: int
    unsent_size: int
    peer_window: int
    """Room in the peer's receive buffer, as it said last."""
    held_size: int
    """Received and not yet to be delivered."""
    packet_size: int
    """The largest packet the path is known to carry."""
    packets_sent: int
    packets_received: int
    bytes_sent: int
    """Of SCTP packets."""
    bytes_received: int
    data_packets_sent: int
    """Packets that carried messages; the rest are acknowledgements and the like."""
    chunks_retransmitted: int
    chunks_lost: int
    """Declared lost, spuriously so included."""
    spurious_losses: int
    timeouts: int
    tail_probes: int
    duplicates_received: int
    messages_abandoned: int
    """Sent with a limit of retransmissions, and given up (RFC 3758)."""
