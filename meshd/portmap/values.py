"""What is said about a router and what it lets in: the values that the protocols, the machine and the shell share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

MethodName: TypeAlias = Literal["pcp", "nat_pmp", "igd"]
METHODS: tuple[MethodName, ...] = ("pcp", "nat_pmp", "igd")  # in order of preference
TITLES: dict[MethodName, str] = {"pcp": "PCP", "nat_pmp": "NAT-PMP", "igd": "UPnP-IGD"}

Address: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A router that a default route leads to. ``interface`` is an index; a link-local ``address`` needs it.

    ``local_address`` is ours on that way: what the router maps to.
    """

    address: str
    local_address: str
    interface: int = 0

    @property
    def is_ipv6(self) -> bool:
        """Whether it is about IPv6: then the router opens its firewall, and translates nothing."""
        return ":" in self.address


@dataclass(frozen=True, slots=True)
class Found:
    """A router speaks the protocol. ``external_address`` if it said so; ``epoch``: its seconds since it lost its state.

    ``is_lost``: it was asked about a lease, and does not know it any more.
    """

    external_address: str | None = None
    epoch: int | None = None
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """A router lets UDP in: what comes to ``external`` goes to our ``internal_port``, for ``lifetime`` seconds.

    A lifetime of None lasts until it is taken back: some routers know no other.
    """

    internal_port: int
    external: Address
    lifetime: float | None
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """No answer (``silent``), or one that is no. ``retry_after``: seconds for which the router said not to ask again.

    ``reason`` is a short name, and no text that a router chose.
    """

    reason: str
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class PortMapping:
    """An address that reaches this node: what comes to ``external`` arrives at ``internal``."""

    method: MethodName
    gateway: str
    internal: Address
    external: Address


class MethodClient(Protocol):
    """One protocol, spoken with one router. None of these raises for what a router does or the network does not."""

    async def probe(self) -> Found | Refusal:
        """Whether the router speaks it. Changes nothing there."""

    async def check(self, grant: Grant) -> Found | Refusal:
        """Whether what it granted still stands, as far as that can be asked without renewing it."""

    async def request(self, port: int, wanted: Address | None, lifetime: float) -> Grant | Refusal:
        """Let UDP in to our ``port``, or renew that; ``wanted`` is what was, or is wished for, outside."""

    async def release(self, grant: Grant) -> None:
        """Take it back, as well as one datagram or connection can."""
