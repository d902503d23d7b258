"""How far we have read what an ntfy server keeps: so that nothing is lost, and nothing taken twice. Pure.

ntfy gives messages again from an id on, in the order of its table, and shows new ones in the order of their coming,
which for messages of the same moment is another: one that is shown before it is in the table can be followed there by
an older one. So the position stays ``SETTLE_TIME`` behind what was seen, by the server's clock, and what was taken
since is remembered by id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Policy
SETTLE_TIME = 15  # seconds of the server's clock within which messages may change places
MAX_REMEMBERED = 4_096  # ids; above it the oldest are forgotten, and may be taken twice by whoever asks for them again


@dataclass(slots=True)
class _Entry:
    time: int
    kept: bool
    done: bool


class Position:
    """Where a listener stands. ``since`` is the id to go on from, or empty: from the beginning."""

    def __init__(self, since: str = "", taken: Iterable[tuple[str, int]] = ()) -> None:
        self.since = since
        self._latest = 0
        self._entries = {identifier: _Entry(time, kept=True, done=True) for identifier, time in taken}

    def hear(self, time: int) -> None:
        """The server's clock has come so far."""
        self._latest = max(self._latest, time)
        self._advance()

    def begin(self, identifier: str, time: int, *, kept: bool) -> bool:
        """Take that message in hand. False if it was taken before.

        ``kept``: whether the server would know it again by its id; only such a one can be a position.
        """
        if identifier in self._entries or identifier == self.since:
            return False
        self._entries[identifier] = _Entry(time, kept, done=False)
        if len(self._entries) > MAX_REMEMBERED:
            done = (known for known, entry in self._entries.items() if entry.done)
            del self._entries[next(done, next(iter(self._entries)))]
        self.hear(time)
        return True

    def finish(self, identifier: str) -> None:
        """That message is dealt with."""
        entry = self._entries.get(identifier)
        if entry is not None:
            entry.done = True
            self._advance()

    def taken(self) -> list[tuple[str, int]]:
        """What was dealt with and may come again, with its time: to be given to the next ``Position``."""
        return [(identifier, entry.time) for identifier, entry in self._entries.items() if entry.done]

    def _advance(self) -> None:
        settled, passed = "", 0
        for identifier, entry in self._entries.items():
            if not entry.done or entry.time > self._latest - SETTLE_TIME:
                break
            if entry.kept:
                settled, passed = identifier, entry.time
        if not settled or settled == self.since:
            return
        self.since = settled
        for identifier, entry in list(self._entries.items()):
            if identifier == settled:
                break
            if entry.time < passed - SETTLE_TIME:
                del self._entries[identifier]
