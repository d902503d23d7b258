"""mDNS names, which browsers give instead of private addresses: asked for on one socket, given up at any moment.

Of our own around aioice's protocol, because aioice resolves inside ``add_remote_candidate``, where it must not be
cancelled, so that closing a link waited for a name that nobody answers to: a second.
"""

from __future__ import annotations

import asyncio

from aioice.mdns import MDnsProtocol, create_mdns_protocol


class NameResolver:
    """Resolves names ending in ``.local`` (RFC 6762). Its socket is there while somebody waits, and no longer."""

    def __init__(self) -> None:
        self._opening: asyncio.Task[MDnsProtocol] | None = None
        self._waiting = 0

    async def resolve(self, name: str) -> str | None:
        """The IPv4 address of that name; None after a second, or where there is no multicast. May be cancelled."""
        self._waiting += 1
        try:
            if self._opening is None:
                self._opening = asyncio.create_task(create_mdns_protocol(), name="mdns-open")
            protocol = await asyncio.shield(self._opening)  # others may wait for it too
            return await protocol.resolve(name)
        except OSError:
            return None
        finally:
            self._waiting -= 1
            if not self._waiting and self._opening is not None:
                self._opening.add_done_callback(_close)
                self._opening = None


def _close(opening: asyncio.Task[MDnsProtocol]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().transport.close()
