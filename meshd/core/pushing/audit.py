"""The audit trail: what became of every capability of ours, as far as we can know. Bounded, oldest gone first."""

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
USE_INTERVAL = 60.0  # seconds in which a holder's pushes are one line
MAX_USERS = 1_024  # holders whose last use is remembered for that

KINDS = ("issued", "renewed", "used", "lent", "taken_back", "refused", "changed")


class Audit:
    """Entries in the order they were made, kept as they are stored: they are read once in a blue moon."""

    __slots__ = ("_ctx", "_entries", "_last", "_used")

    def __init__(self, ctx: Context, stored: Stored) -> None:
        self._ctx = ctx
        kept = sorted((key, value) for key, value in stored.get("audit", {}).items() if len(key) == 8)
        self._entries = deque(kept[-MAX_ENTRIES:])
        self._last = int.from_bytes(kept[-1][0]) if kept else 0
        self._used: dict[bytes, float] = {}

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    def record(self, kind: str, holder: bytes, service: str = "", until: float = 0, detail: str = "") -> None:
        """One more line. ``kind`` is one of ``KINDS``; ``until`` in Unix seconds; the rest as in ``AuditRow``."""
        self._last += 1
        now = int(self._ctx.now.unix)
        row = AuditRow(max(0, now), kind, holder, service[:256], max(0, int(until)), detail[:64])
        key, value = self._last.to_bytes(8), encode(row)
        self._entries.append((key, value))
        changes: list[Put | Delete] = [Put("audit", key, value)]
        while len(self._entries) > MAX_ENTRIES:
            changes.append(Delete("audit", self._entries.popleft()[0]))
        self._ctx.persist(*changes)

    def used(self, holder: bytes, service: str) -> None:
        """Something came by push that only this holder can have sent. Many at once are one line."""
        now = self._ctx.now.mono
        if now - self._used.get(holder, -USE_INTERVAL) < USE_INTERVAL:
            return
        self._used.pop(holder, None)
        self._used[holder] = now
        if len(self._used) > MAX_USERS:
            del self._used[next(iter(self._used))]
        self.record("used", holder, service)

    def clear(self) -> None:
        """The mesh it was about is left; the table is cleared with the others of a mesh."""
        self._entries.clear()
        self._used.clear()

    def entries(self, holder: bytes | None, kind: str | None, since: float, limit: int) -> list[AuditRow]:
        """The newest that fit, newest first; ``holder`` and ``kind``: of all, if None."""
        found: list[AuditRow] = []
        for _, value in reversed(self._entries):
            try:
                row = read_row(AuditRow, value)
            except MalformedMessage:
                continue
            if row.when < since or len(found) >= min(limit, MAX_LISTED):
                break
            if (holder is None or row.holder == holder) and kind in (None, row.kind):
                found.append(row)
        return found
