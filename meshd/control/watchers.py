"""A bounded queue between the daemon, which must never wait, and one client who watches."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import trio

from meshd.control import jsonrpc

# Policy
MAX_WATCHER_LINES = 1_024  # waiting for one client: a burst of changes in a mesh of a thousand, not more
MAX_WATCHER_SIZE = 4 << 20  # bytes waiting for one client: 48 messages of the largest kind


class Watcher:
    """The daemon's end is ``post``, which never waits; the server's end is ``take``.

    A client that reads too slowly loses the queue and is told so; it has to start again from a new snapshot.
    """

    def __init__(self, method: str) -> None:
        self.method = method
        self.lagged = trio.Event()
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._seq = 0
        self._filling = True  # the snapshot is being posted
        self._grace_lines = 0  # of the snapshot, still waiting
        self._grace_size = 0
        self._closed = False
        self._wakeup = trio.Event()

    def post(self, notice: str, fields: Mapping[str, Any]) -> bool:
        """Queue one notification; adds ``seq``. False if nobody listens any more (closed, or too slow).

        Raises TypeError or ValueError if ``fields`` hold what JSON cannot say (bytes, infinity): a bug of the caller's.
        """
        if self._closed or self.lagged.is_set():
            return False
        line = jsonrpc.encode_notification(notice, {"seq": self._seq, **fields})
        self._seq += 1
        self._lines.append(line)
        self._size += len(line)
        if self._filling:
            self._grace_lines += 1
            self._grace_size += len(line)
        elif (
            len(self._lines) - self._grace_lines > MAX_WATCHER_LINES or self._size - self._grace_size > MAX_WATCHER_SIZE
        ):
            self._lines.clear()
            self._size = 0
            self.lagged.set()
        self._wakeup.set()
        return not self.lagged.is_set()

    def snapshot_done(self) -> None:
        """From now on the limits count (the server calls this when ``Backend.watch`` has returned)."""
        self._filling = False

    def close(self) -> None:
        """Nobody takes any more."""
        self._closed = True
        self._lines.clear()

    async def take(self) -> bytes | None:
        """The next line, or None once the client was too slow."""
        while not self._lines:
            if self.lagged.is_set():
                return None
            self._wakeup = trio.Event()
            await self._wakeup.wait()
        line = self._lines.popleft()
        self._size -= len(line)
        if self._grace_lines:  # the snapshot stands in front, so it leaves first
            self._grace_lines -= 1
            self._grace_size -= len(line)
        return line
