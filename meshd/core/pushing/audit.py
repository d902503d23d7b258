"""The audit trail: what became of every capability of ours, as far as we can know.

Bounded, oldest gone first; and bounded for each holder, apart for what it was given and for what it does, so that
nobody fills the trail and washes out what is told of others, or of how it came to what it has.
"""

from __future__ import annotations

from collections import deque

from meshd.core.commands import Delete, Put
from meshd.core.context import Context
from meshd.core.state import AuditRow, Stored, read_row
from meshd.errors import MalformedMessage
from meshd.wire.codec import encode

# Policy
MAX_ENTRIES = 10_000  # some months of a small mesh; 1 MB
MAX_LISTED = 1_000  # in one answer
MAX_OF_ONE = 500  # of what one holder was given, and as many of what it does
USE_INTERVAL = 60.0  # seconds in which a holder's pushes are one line
MAX_USERS = 1_024  # holders whose last use is remembered for that

KINDS = ("issued", "renewed", "used", "lent", "taken_back", "refused", "changed")
_ITS_DOING = ("used", "lent", "refused")
_NUMBER_SIZE, _TAG_SIZE = 8, 4  # a key: the entry's number, a byte for what its holder does, the first of its id


class Audit:
    """Entries in the order they were made, kept as they are stored: they are read once in a blue moon."""

    __slots__ = ("_ctx", "_entries", "_last", "_of", "_used")

    def __init__(self, ctx: Context, stored: Stored) -> None:
        self._ctx = ctx
        self._entries = dict(sorted(stored.get("audit", {}).items())[-MAX_ENTRIES:])
        self._of: dict[bytes, deque[bytes]] = {}  # what comes after the number in a key → such keys
        self._last = 0
        for key in self._entries:
            self._of.setdefault(key[_NUMBER_SIZE:], deque()).append(key)
            self._last = int.from_bytes(key[:_NUMBER_SIZE])
        self._used: dict[tuple[str, bytes], float] = {}

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    def record(self, kind: str, holder: bytes, service: str = "", until: float = 0, detail: str = "") -> None:
        """One more line. ``kind`` is one of ``KINDS``; ``until`` in Unix seconds; the rest as in ``AuditRow``."""
        self._last += 1
        now = int(self._ctx.now.unix)
        row = AuditRow(max(0, now), kind, holder, service[:256], max(0, int(until)), detail[:64])
        about = bytes([kind in _ITS_DOING]) + holder[:_TAG_SIZE]
        key, value = self._last.to_bytes(_NUMBER_SIZE) + about, encode(row)
        self._entries[key] = value
        of_one = self._of.setdefault(about, deque())
        of_one.append(key)
        changes: list[Put | Delete] = [Put("audit", key, value)]
        if len(of_one) > MAX_OF_ONE:
            changes.append(self._drop(of_one[0]))
        elif len(self._entries) > MAX_ENTRIES:
            changes.append(self._drop(next(iter(self._entries))))
        self._ctx.persist(*changes)

    def _drop(self, key: bytes) -> Delete:
        """Forget the oldest of a holder's, or of all."""
        del self._entries[key]
        of_one = self._of[key[_NUMBER_SIZE:]]
        of_one.popleft()  # the oldest of all is the oldest of its holder's
        if not of_one:
            del self._of[key[_NUMBER_SIZE:]]
        return Delete("audit", key)

    def used(self, holder: bytes, service: str) -> None:
        """Something came by push that only this holder can have sent."""
        self._record_now_and_then("used", holder, service)

    def refused(self, holder: bytes, service: str, reason: str) -> None:
        """Something came by its push that was good for nothing: the holder has sent it, or whoever stole it from it."""
        self._record_now_and_then("refused", holder, service, reason)

    def _record_now_and_then(self, kind: str, holder: bytes, service: str, detail: str = "") -> None:
        """Many at once are one line."""
        about, now = (kind, holder), self._ctx.now.mono
        if now - self._used.get(about, -USE_INTERVAL) < USE_INTERVAL:
            return
        self._used.pop(about, None)
        self._used[about] = now
        if len(self._used) > MAX_USERS:
            del self._used[next(iter(self._used))]
        self.record(kind, holder, service, detail=detail)

    def clear(self) -> None:
        """The mesh it was about is left; the table is cleared with the others of a mesh."""
        self._entries.clear()
        self._of.clear()
        self._used.clear()

    def entries(self, holder: bytes | None, kind: str | None, since: float, limit: int) -> list[AuditRow]:
        """The newest that fit, newest first; ``holder`` and ``kind``: of all, if None."""
        found: list[AuditRow] = []
        for value in reversed(self._entries.values()):
            try:
                row = read_row(AuditRow, value)
            except MalformedMessage:
                continue
            if row.when < since or len(found) >= min(limit, MAX_LISTED):
                break
            if (holder is None or row.holder == holder) and kind in (None, row.kind):
                found.append(row)
        return found
