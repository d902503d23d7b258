"""Each envelope counts once: a sliding window of sequence numbers for each sender and session (as in RFC 6479).

Durable, so that a restart forgets nothing that could still be replayed. A row lives until the last envelope it speaks
for has expired by any honest clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from meshd.core.commands import Delete, Put
from meshd.core.context import Context
from meshd.core.state import Stored, rows
from meshd.errors import Rejected
from meshd.ids import CLOCK_SKEW, PeerId
from meshd.wire.codec import Kind, Uint, encode, fixed
from meshd.wire.envelope import Letter

# Policy
WINDOW = 256  # sequence numbers; relays reorder by a few
MAX_SESSIONS = 8192  # in all
MAX_SESSIONS_PER_SENDER = 256  # in the quarter of an hour that a row lives
SWEEP_INTERVAL = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class _Row:
    highest: int
    seen: bytes  # bit i: highest - i has come
    expires: int
    WIRE: ClassVar[tuple[Kind, ...]] = (Uint(32), fixed(WINDOW // 8), Uint(40))


class ReplayMemory:
    """What has come already."""

    __slots__ = ("_ctx", "_rows", "_sessions")

    def __init__(self, ctx: Context, stored: Stored) -> None:
        self._ctx = ctx
        self._rows = rows(stored, "seen", _Row)
        self._sessions: dict[PeerId, int] = {}
        for key in self._rows:
            sender = PeerId(key[:32])
            self._sessions[sender] = self._sessions.get(sender, 0) + 1

    def admit(self, letter: Letter) -> Put:
        """Note it; gives the change to persist before anything that follows from it leaves.

        Raises Rejected: ``replayed``, ``too_many_sessions``.
        """
        key = letter.sender + letter.session
        row = self._rows.get(key)
        if row is None:
            count = self._sessions.get(letter.sender, 0)
            if count >= MAX_SESSIONS_PER_SENDER or len(self._rows) >= MAX_SESSIONS:
                raise Rejected("too_many_sessions")
            self._sessions[letter.sender] = count + 1
            highest, seen = letter.sequence, 1
        else:
            bits = int.from_bytes(row.seen, "big")
            ahead = letter.sequence - row.highest
            if ahead > 0:
                highest, seen = letter.sequence, (bits << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            elif -ahead >= WINDOW or bits >> -ahead & 1:
                raise Rejected("replayed")
            else:
                highest, seen = row.highest, bits | 1 << -ahead
        expires = max(letter.expires + int(2 * CLOCK_SKEW), row.expires if row else 0)
        self._rows[key] = _Row(highest, seen.to_bytes(WINDOW // 8, "big"), expires)
        return Put("seen", key, encode(self._rows[key]))

    def sweep(self) -> None:
        """Forget what cannot be replayed any more."""
        now = self._ctx.now.unix
        gone = [key for key, row in self._rows.items() if row.expires < now]
        for key in gone:
            del self._rows[key]
            sender = PeerId(key[:32])
            self._sessions[sender] -= 1
            if not self._sessions[sender]:
                del self._sessions[sender]
        if gone:
            self._ctx.persist(*(Delete("seen", key) for key in gone))
        self._ctx.timer("sweep", b"", SWEEP_INTERVAL)
