"""What every link needs of the port it belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from meshd.core.events import Event
from meshd.ids import LinkId
from meshd.links.addresses import AddressBook
from meshd.links.guest import Tasks
from meshd.links.names import NameResolver
from meshd.links.remote import RemoteConfig
from meshd.links.sockets import LinkSockets


class LinkConfig(RemoteConfig, Protocol):
    """What a link reads of ``meshd.config.LinksConfig``."""

    @property
    def connect_timeout(self) -> float:
        """Seconds from ``ConnectLink`` until the link must stand."""

    @property
    def congestion(self) -> str:
        """Which congestion controller a link uses: ``bbr`` or ``reno``."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a link needs of the port it belongs to."""

    config: LinkConfig
    deliver: Callable[[Event], None]
    on_fault: Callable[[LinkId, BaseException], None]
    on_gone: Callable[[LinkId], None]
    tasks: Tasks
    sockets: LinkSockets
    book: AddressBook
    resolver: NameResolver
    counters: Counter[str]
