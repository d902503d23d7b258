"""How often somebody may do something: the generic cell rate algorithm, one number for each key."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Hashable


class RateLimiter:
    """``burst`` at once and ``rate`` per second after that, for each key; pure, the time comes in (monotonic seconds).

    What is counted is the caller's business: things, or, with a ``cost`` for each, bytes.

    At most ``max_keys`` are remembered; beyond that the one seen first is forgotten, which favours it once.
    """

    def __init__(self, rate: float, burst: int, max_keys: int) -> None:
        self._interval = 1.0 / rate
        self._tolerance = burst / rate
        self._max_keys = max_keys
        self._due: dict[Hashable, float] = {}
        self._pruned = -math.inf

    def __len__(self) -> int:
        return len(self._due)

    def take(self, key: Hashable, now: float, cost: float = 1.0) -> float:
        """0.0 when it may; else the seconds after which it may. What costs more than ``burst`` never may."""
        due = max(self._due.get(key, now), now) + cost * self._interval
        excess = due - now - self._tolerance
        if excess > 1e-9:
            return excess
        if key not in self._due and len(self._due) >= self._max_keys:
            # Not for each of a million sources that somebody makes up: it looks at all of them.
            if now - self._pruned >= self._tolerance:
                self.prune(now)
            if len(self._due) >= self._max_keys:
                del self._due[next(iter(self._due))]
        self._due[key] = due
        return 0.0

    def prune(self, now: float) -> None:
        """Forget whoever has its whole burst back."""
        self._pruned = now
        self._due = {key: due for key, due in self._due.items() if due > now}


def source_key(source: str) -> str:
    """One household: an IPv4 address, or the first 64 bits of an IPv6 one, of which anybody has 2^64."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv4Address):
        return source
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else address.exploded[:19]
