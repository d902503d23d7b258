"""What the simulated world does to everybody."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Conditions:
    """Delays are spans of seconds to draw from; shares lie between 0 and 1."""

    latency: tuple[float, float] = (0.01, 0.06)  # of a message on a link, one way
    loss: float = 0.0  # of link messages: most are sent again, so a loss costs a delay; heartbeats are just lost
    retransmission: float = 0.3
    reordering: float = 0.0  # of relayed envelopes: they go by many ways, so nothing keeps them in order
    reordered: tuple[float, float] = (0.1, 2.0)
    push_latency: tuple[float, float] = (0.05, 0.8)
    push_loss: float = 0.0
    push_duplication: float = 0.0
    gather: tuple[float, float] = (0.0, 0.02)
    connect: tuple[float, float] = (0.05, 0.3)
    connect_timeout: float = 15.0
    consent_timeout: float = (
        0.0  # until the shell tells of a peer that is gone (RFC 7675); 0: heartbeats alone find out
    )
    disk: tuple[float, float] = (0.001, 0.008)
    unconnectable: float = 0.0  # share of pairs that never connect directly


def rough() -> Conditions:
    """A bad day: every fault that the network can show at once."""
    return Conditions(
        loss=0.05,
        reordering=0.2,
        push_latency=(0.05, 4.0),
        push_loss=0.1,
        push_duplication=0.2,
        unconnectable=0.3,
    )
