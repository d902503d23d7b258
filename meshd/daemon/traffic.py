"""What the links room knows of a link, put beside what the core says of the peer at its other end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from meshd.ids import LinkId
from meshd.links.statistics import LinkStatistics


def traffic_of(found: LinkStatistics) -> dict[str, Any]:
    """The shape ``traffic`` of the control API."""
    return {
        "age": found.age,
        "rtt": _finite(found.round_trip_time),
        "min_rtt": _finite(found.min_round_trip_time),
        "packets_sent": found.packets_sent,
        "packets_received": found.packets_received,
        "packets_lost": found.packets_lost,
        "packets_retransmitted": found.packets_retransmitted,
        "sent_size": found.bytes_sent,
        "received_size": found.bytes_received,
        "send_rate": found.send_rate,
        "receive_rate": found.receive_rate,
        "buffered_size": found.buffered_size,
        "window_size": found.congestion_window,
        "packet_size": found.packet_size,
    }


def _finite(seconds: float | None) -> float | None:
    """A smallest round trip before the first is infinite, which JSON cannot say."""
    return seconds if seconds is not None and math.isfinite(seconds) else None


def with_traffic(peers: Iterable[Mapping[str, Any]], links: Mapping[LinkId, LinkStatistics]) -> list[dict[str, Any]]:
    """The core's peers with ``traffic``, and the path as it is now: ICE may have found a better one since."""
    merged = []
    for peer in peers:
        found = links.get(peer["link_id"]) if peer["link_id"] is not None else None
        path = peer["path"]
        if found is not None and path is not None:
            path = {
                "kind": found.kind_local,
                "remote_kind": found.kind_remote,
                "local": found.local_address or path["local"],
                "remote": found.remote_address or path["remote"],
            }
        merged.append({**peer, "path": path, "traffic": None if found is None else traffic_of(found)})
    return merged
