"""What is known of a link while it runs: for ``meshctl peers`` and the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from meshd.links.association import LinkAssociation

# Policy
RATE_INTERVAL = 2.0  # seconds: long enough to be read, short enough to be of now


class Ends(NamedTuple):
    """A path in words, in the order of ``LinkConnected``: kinds of candidates (RFC 8445), and addresses for people."""

    local_kind: str
    remote_kind: str
    local_address: str
    remote_address: str


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """One link at one moment. Counts run from its beginning; a fresh one has the defaults.

    Kinds are ICE candidate types (RFC 8445): ``host``, ``srflx``, ``prflx``, ``relay``. Addresses are text for people.
    """

    kind_local: str = "host"
    kind_remote: str = "host"
    local_address: str = ""
    remote_address: str = ""
    round_trip_time: float | None = None  # seconds, smoothed, as the transport measures it; None: not yet
    min_round_trip_time: float | None = None  # seconds
    packets_sent: int = 0  # those of SCTP that carry data, retransmissions among them
    packets_received: int = 0
    packets_lost: int = 0  # declared lost, of those sent
    packets_retransmitted: int = 0
    bytes_sent: int = 0  # of payload of frames
    bytes_received: int = 0
    send_rate: float = 0.0  # bytes a second, over the last seconds
    receive_rate: float = 0.0
    buffered_size: int = 0  # bytes that wait to be sent or acknowledged
    congestion_window: int = 0  # bytes
    packet_size: int = 0  # bytes; the largest packet that is sent now
    age: float = 0.0  # seconds since it connected


class RateMeter:
    """Bytes a second over the last one or two ``RATE_INTERVAL``, told by whoever counts the bytes."""

    __slots__ = ("_mark", "_previous")

    def __init__(self, now: float) -> None:
        self._previous = self._mark = (now, 0)

    def update(self, now: float, total: int) -> None:
        """Note the count. To be called while it rises; between calls nothing happened."""
        if now - self._mark[0] >= RATE_INTERVAL:
            self._previous, self._mark = self._mark, (now, total)

    def rate(self, now: float, total: int) -> float:
        """Bytes a second by now."""
        start, count = self._previous if now - self._mark[0] < RATE_INTERVAL else self._mark
        return (total - count) / max(now - start, RATE_INTERVAL)


def address_text(host: str, port: int) -> str:
    """An address as people write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def statistics_of(association: LinkAssociation, ends: Ends, waiting_size: int, age: float) -> LinkStatistics | None:
    """The figures of a link, whose outbox holds ``waiting_size`` bytes; None before it is established."""
    figures = association.statistics()
    if figures is None:
        return None
    send_rate, receive_rate = association.rates()
    return LinkStatistics(
        *ends,
        round_trip_time=figures.srtt,
        min_round_trip_time=figures.min_rtt,
        packets_sent=figures.data_packets_sent,
        packets_received=figures.packets_received,
        packets_lost=figures.chunks_lost,
        packets_retransmitted=figures.chunks_retransmitted,
        bytes_sent=association.bytes_sent,
        bytes_received=association.bytes_received,
        send_rate=send_rate,
        receive_rate=receive_rate,
        buffered_size=waiting_size + association.buffered_size,
        congestion_window=figures.window,
        packet_size=figures.packet_size,
        age=age,
    )
