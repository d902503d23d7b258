"""A stand-in until the model is here: Reno under the name that the configuration will use."""

from __future__ import annotations

from meshd.transport.congestion.reno import Reno


class Bbr(Reno):
    """Reno, for the moment."""

    __slots__ = ()

    def __init__(self, now: float, mtu: int, *, seed: int = 0) -> None:
        super().__init__(now, mtu)
