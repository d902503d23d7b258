"""Figures of one association, for ``meshctl peers``, the metrics and the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshd.transport.session import Session


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


def statistics_of(session: Session, unsent_size: int, packets: tuple[int, int, int, int]) -> AssociationStatistics:
    """The figures of a session; ``packets``: those sent and received, and the bytes of them, in the same order."""
    sender, receiver = session.sender, session.receiver
    round_trip = sender.recovery.round_trip
    packets_sent, packets_received, bytes_sent, bytes_received = packets
    return AssociationStatistics(
        srtt=round_trip.srtt,
        min_rtt=round_trip.min_rtt,
        rto=round_trip.rto,
        window=sender.controller.window,
        pacing_rate=sender.controller.pacing_rate,
        in_flight_size=sender.in_flight,
        unsent_size=unsent_size,
        peer_window=sender.peer_window,
        held_size=receiver.reassembly.held_size,
        packet_size=session.path_mtu.size,
        packets_sent=packets_sent,
        packets_received=packets_received,
        bytes_sent=bytes_sent,
        bytes_received=bytes_received,
        data_packets_sent=sender.data_packets,
        chunks_retransmitted=sender.retransmitted,
        chunks_lost=sender.lost_chunks,
        spurious_losses=sender.spurious,
        timeouts=sender.timeouts,
        tail_probes=sender.tail_probes,
        duplicates_received=receiver.duplicates,
        messages_abandoned=sender.abandoning.count,
    )
