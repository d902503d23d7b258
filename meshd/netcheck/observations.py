"""What a network check has seen, before anybody says what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Address: TypeAlias = tuple[str, int]
Family: TypeAlias = Literal["ipv4", "ipv6"]
Source: TypeAlias = Literal["asked", "configured", "mesh"]  # who named a server: the caller, the file, the mesh


@dataclass(frozen=True, slots=True)
class Server:
    """A STUN server to ask: ``host`` may be a name."""

    host: str
    port: int
    source: Source

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Reply:
    """How one server did over one address family.

    ``error`` is empty, or ``silent``, ``refused``, ``unresolved`` (a name without addresses), ``no_way`` (there is no
    network).
    ``other`` is its second address, if it can help to find out what a NAT does (RFC 5780 section 7.4).
    """

    server: Server
    family: Family
    address: Address | None = None
    mapped: Address | None = None
    round_trip_time: float | None = None  # seconds
    other: Address | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Filtering:
    """Whether answers came in that a server sent from elsewhere, as asked: RFC 5780 section 4.4."""

    from_other_address: bool
    from_other_port: bool


@dataclass(frozen=True, slots=True)
class FamilySeen:
    """All about one address family. ``local``: what packets leave from here; None: there is no way out.

    ``mappings``: what servers saw of one and the same socket, by where they were asked at. ``filtering`` and
    ``is_hairpinned`` are None where that could not be tried.
    """

    family: Family
    local: Address | None = None
    mappings: tuple[tuple[Address, Address], ...] = ()
    filtering: Filtering | None = None
    is_hairpinned: bool | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A whole check."""

    replies: tuple[Reply, ...]
    ipv4: FamilySeen
    ipv6: FamilySeen
