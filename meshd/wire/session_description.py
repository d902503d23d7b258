"""What one side of a link must know of the other: ICE and DTLS parameters (RFC 8839, 8842, 8841) without the SDP."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Candidate:
    """One ICE candidate (RFC 8839 section 5.1). ``kind``: host, srflx, prflx, relay. ``host``: IPv4, IPv6 or a name."""

    kind: str
    host: str
    port: int
    transport: str = "udp"


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """One side's parameters. ``setup`` is actpass, active or passive (RFC 8842); ``fingerprint`` is SHA-256, 32 bytes.

    The candidates stand in order of preference, so that no priorities need to travel.
    """

    ufrag: str
    pwd: str = field(repr=False)
    fingerprint: bytes
    setup: str
    candidates: tuple[Candidate, ...] = ()
