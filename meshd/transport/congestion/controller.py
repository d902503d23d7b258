"""What a congestion controller is told, and what it answers: the seam between it and the association."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

# Specification: RFC 6928 section 2
INITIAL_PACKETS = 10
INITIAL_SIZE = 14_600
"""Bytes: of packets that are large no more than these leave at once, or two."""


@dataclass(slots=True)
class Packet:
    """One packet that carries data, from when it leaves until it is acknowledged or lost.

    The association keeps it beside the packet's chunks and hands it back; only the controller looks at what comes
    after the first two fields. They are what a delivery rate sample needs (draft-ietf-ccwg-bbr section 4.1.2).
    """

    size: int
    """Bytes on the path that count for congestion control."""
    sent: float
    """When it left, in monotonic seconds."""
    in_flight: int = 0
    """Bytes in flight once it had left, itself included."""
    delivered: int = 0
    """Bytes delivered in all when it left."""
    delivered_at: float = 0.0
    """When those bytes became that many."""
    first_sent: float = 0.0
    """When the packet left whose acknowledgement came last before this one left."""
    is_app_limited: bool = False
    """Whether there was too little to send, so that its rate says nothing of the path."""


class Controller(Protocol):
    """One direction of one path. Every ``in_flight`` is in bytes, every ``now`` in monotonic seconds.

    A packet is handed back once: acknowledged or lost. One that was called lost and is acknowledged after all comes
    back by ``on_spurious``. Nothing here raises, whatever the order of calls.
    """

    window: int
    """Bytes that may be in flight."""
    pacing_rate: float
    """Bytes a second; ``math.inf`` for unpaced."""
    send_quantum: int
    """Bytes that may leave in one burst."""

    def on_sent(self, now: float, size: int, in_flight: int) -> Packet:
        """Say that a packet leaves; ``in_flight`` is without it. A retransmission is a packet like any other."""

    def on_acknowledged(self, now: float, packets: Sequence[Packet], in_flight: int, rtt: float | None) -> None:
        """Say what one SACK newly acknowledged, in the order it was sent; ``in_flight`` is without it.

        ``rtt`` is a sample in seconds, of the packet that was sent last, or None if there is none to trust.
        """

    def on_lost(self, now: float, packets: Sequence[Packet], in_flight: int) -> None:
        """Say which packets are declared lost; ``in_flight`` is without them.

        Of one SACK, what it acknowledges comes first and what it shows to be lost after.
        """

    def on_timeout(self, now: float) -> None:
        """Say that the retransmission timer ran out: all that was in flight counts as lost, and is not told again."""

    def on_spurious(self, now: float, packets: Sequence[Packet]) -> None:
        """Say that packets which were declared lost have arrived after all."""

    def on_app_limited(self, in_flight: int) -> None:
        """Say that the window and the pacer would let more leave than there is, or than the peer has room for."""

    def on_mtu_change(self, mtu: int) -> None:
        """Say that the largest packet now has another size, in bytes."""


def initial_window(mtu: int) -> int:
    """Bytes that may leave before anything is known of the path; ``mtu`` is the size of the largest packet."""
    return min(INITIAL_PACKETS * mtu, max(2 * mtu, INITIAL_SIZE))


def make_controller(name: Literal["bbr", "reno"], now: float, mtu: int, *, seed: int = 0) -> Controller:
    """A controller for a new path. ``mtu`` is the size of the largest packet in bytes.

    ``seed`` keeps two senders at one bottleneck from probing in step; without one, ``now`` does.
    Raises ValueError for a name that is none.
    """
    # The one that is not used is not loaded.
    if name == "bbr":
        from meshd.transport.congestion.bbr import Bbr

        return Bbr(now, mtu, seed=seed)
    if name == "reno":
        from meshd.transport.congestion.reno import Reno

        return Reno(now, mtu)
    raise ValueError(f"no congestion controller is called {name!r}: say bbr or reno")
