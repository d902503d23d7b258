"""What comes before a link can do anything with it, kept for a moment and within limits."""

from __future__ import annotations

from collections import Counter

from aioice import stun

from meshd.links.demux import EPOCH, NO_EPOCH, Address
from meshd.links.path import LinkPath

# Policy
MAX_EARLY_RECORDS = 16  # datagrams of DTLS that come before ICE is done here; further ones are dropped, and sent again
MAX_EARLY_CHECKS = 64  # of the peer's, before its description is here; it goes on checking

EarlyCheck = tuple[stun.Message, Address, LinkPath]


class EarlyRecords:
    """DTLS that comes before ICE is done. Upstream's queue has no end."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._kept: list[bytes] = []

    def keep(self, datagram: bytes) -> bool:
        """False if it is sealed: nobody has keys with us yet, so it is for another link with the same peer."""
        if datagram[EPOCH] != NO_EPOCH:
            return False
        if len(self._kept) >= MAX_EARLY_RECORDS:
            self._counters["datagram_overflow"] += 1
        else:
            self._kept.append(datagram)
        return True

    def take(self) -> list[bytes]:
        """All of it, once."""
        kept, self._kept = self._kept, []
        return kept


class EarlyChecks:
    """Checks that come before the peer's description. Upstream keeps them without end, and answers them at once.

    Here they are answered when it is known where the peer's relays are, since these may not be answered (``remote``).
    A check is sent again under the same transaction id for 7.5 s, so that an answer that comes late still counts.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._kept: dict[tuple[bytes, Address], EarlyCheck] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, request: stun.Message, source: Address, path: LinkPath) -> None:
        """Keep it, unless there are too many."""
        key = (request.transaction_id, source)
        if len(self._kept) >= MAX_EARLY_CHECKS and key not in self._kept:
            self._counters["candidate_overflow"] += 1
        else:
            self._kept[key] = (request, source, path)

    def take(self) -> list[EarlyCheck]:
        """All of them, once."""
        kept, self._kept = list(self._kept.values()), {}
        return kept
