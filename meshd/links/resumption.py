"""What an ICE restart leaves behind (RFC 8445 section 9): the old paths, on which packets are still on their way."""

from __future__ import annotations

import asyncio

from meshd.links.ice import IceConnection

# Policy
RETIRE_TIME = 5.0  # seconds; no packet takes longer


class FormerConnections:
    """Those that a link has had before: nothing is sent by them, what is on its way is taken for ``RETIRE_TIME``."""

    def __init__(self) -> None:
        self._timers: dict[IceConnection, asyncio.TimerHandle] = {}

    def add(self, connection: IceConnection) -> None:
        """Another has taken its place."""
        connection.retire()
        loop = asyncio.get_running_loop()
        self._timers[connection] = loop.call_later(RETIRE_TIME, self._end, connection)

    def end(self) -> None:
        """End them all now."""
        for connection in list(self._timers):
            self._end(connection)

    def _end(self, connection: IceConnection) -> None:
        self._timers.pop(connection).cancel()
        connection.abandon()
