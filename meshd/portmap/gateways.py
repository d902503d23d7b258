"""The routers of this machine: who its default routes lead to, and from which address of ours."""

from __future__ import annotations

import socket
from collections.abc import Collection
from pathlib import Path

from meshd.portmap.routes import Route, default_routes_v4, default_routes_v6
from meshd.portmap.values import Gateway

# Specification
# not /proc/net, which ProcSubset=pid of the unit hides
_ROUTES_V4, _ROUTES_V6 = Path("/proc/self/net/route"), Path("/proc/self/net/ipv6_route")

# Policy
MAX_TABLE_SIZE = 1_048_576  # bytes that are read of a routing table
ANYWHERE_V6 = "2000::1"  # nothing is sent there: connecting a UDP socket only asks for the way
_DISCARD_PORT = 9


def find(allowed: Collection[str] = ()) -> list[Gateway]:
    """The routers that default routes lead to, best first. ``allowed``: local addresses to use; empty: all."""
    found = [_gateway_v4(route) for route in default_routes_v4(_read(_ROUTES_V4))]
    # One alone: which of several routers a global address belongs to is not written anywhere.
    found += [_gateway_v6(route) for route in default_routes_v6(_read(_ROUTES_V6))[:1]]
    return [gateway for gateway in found if gateway and (not allowed or gateway.local_address in allowed)]


def _read(table: Path) -> str:
    try:
        with table.open(encoding="ascii", errors="replace") as file:
            return file.read(MAX_TABLE_SIZE)
    except OSError:  # a kernel without IPv6
        return ""


def _gateway_v4(route: Route) -> Gateway | None:
    local = _source_for((route.gateway, _DISCARD_PORT), socket.AF_INET)
    return Gateway(route.gateway, local, _index(route.interface)) if local else None


def _gateway_v6(route: Route) -> Gateway | None:
    """With a global address of ours, since that is what the firewall is to open for, also if the router's is local."""
    local = _source_for((ANYWHERE_V6, _DISCARD_PORT), socket.AF_INET6)
    return Gateway(route.gateway, local, _index(route.interface)) if local else None


def _source_for(remote: tuple[str, int], family: socket.AddressFamily) -> str:
    """The address that we would send from; empty if there is no way."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(remote)
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0
