"""Answering STUN Binding requests of whoever asks (RFC 8489), so that a mesh needs no server of anybody else's.

Pure: a datagram and its source come in, the answer to send back goes out. Anybody may forge a source, so an answer is
at most 24 bytes longer than its request, and few go to one household.
"""

from __future__ import annotations

import ipaddress
from collections import Counter

from meshd.errors import MalformedMessage
from meshd.rates import RateLimiter, source_key
from meshd.wire import stun

# Policy
SOURCE_RATE, SOURCE_BURST = 5.0, 40  # answers per second; a whole office that starts at once asks from one address
TOTAL_RATE, TOTAL_BURST = 500.0, 2_000  # 72 bytes each: a third of a megabit
MAX_SOURCES = 4_096  # whose rate is remembered


class StunResponder:
    """``counters`` gets what became of the requests: ``stun_answered``, ``stun_limited``, ``stun_ignored``."""

    def __init__(self, counters: Counter[str]) -> None:
        self.counters = counters
        self._by_source = RateLimiter(SOURCE_RATE, SOURCE_BURST, MAX_SOURCES)
        self._total = RateLimiter(TOTAL_RATE, TOTAL_BURST, 1)

    @property
    def remembered(self) -> int:
        """Sources whose rate is kept."""
        return len(self._by_source)

    def answer(self, data: bytes, source: stun.Address, now: float) -> bytes | None:
        """What to send back to ``source``, or None. ``now`` is in monotonic seconds.

        Checks of ICE are ignored: they are for a link, and one that is not there any more should time out.
        """
        host, port = _plain(source[0]), source[1]
        try:
            request = stun.decode(data)
        except MalformedMessage:
            request = None
        if not isinstance(request, stun.BindingRequest) or request.is_check or not port:
            self.counters["stun_ignored"] += 1
            return None
        if self._by_source.take(source_key(host), now) or self._total.take("", now):
            self.counters["stun_limited"] += 1
            return None
        self.counters["stun_answered"] += 1
        if request.change_address or request.change_port:
            # There is no second socket to answer from, and RFC 5780 section 6.1 wants to hear that.
            refused = (stun.CHANGE_REQUEST, *request.unknown)
        else:
            refused = request.unknown
        if refused:
            listed = refused[: stun.MAX_UNKNOWN]
            return stun.encode(stun.BindingError(request.transaction, stun.UNKNOWN_ATTRIBUTE, unknown=listed))
        return stun.encode(stun.BindingSuccess(request.transaction, (host, port)))


def _plain(host: str) -> str:
    """An IPv4 address that a socket of both families shows as an IPv6 one, as itself; without a scope."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
