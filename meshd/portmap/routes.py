"""Default routes, as the kernel lists them in ``/proc/self/net/route`` and ``…/ipv6_route``. Pure.

Read rather than asked by netlink: two small files, no socket, and a service's sandbox lets them through.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from dataclasses import dataclass

# Specification
_UP, _GATEWAY, _REJECT = 0x1, 0x2, 0x200  # include/uapi/linux/route.h: RTF_UP, RTF_GATEWAY, RTF_REJECT

# Policy
MAX_ROUTES = 4_096  # lines that are read; a full BGP table is no home's
MAX_GATEWAYS = 4  # of one family that are asked


@dataclass(frozen=True, slots=True)
class Route:
    """A default route: the router's address and the name of the interface. Lower ``metric`` is preferred."""

    gateway: str
    interface: str
    metric: int


def default_routes_v4(text: str) -> list[Route]:
    """Those of ``/proc/net/route``, best first. Lines that make no sense are skipped."""
    found: list[Route] = []
    for line in text.splitlines()[1 : MAX_ROUTES + 1]:
        fields = line.split()
        try:
            interface, destination, gateway, flags, _, _, metric, mask = fields[:8]
            if int(destination, 16) or int(mask, 16) or not _leads_out(int(flags, 16)):
                continue
            # the kernel prints the four bytes as one number of the machine's own byte order
            packed = int(gateway, 16).to_bytes(4, sys.byteorder)
            found.append(Route(socket.inet_ntoa(packed), interface, int(metric)))
        except (ValueError, OverflowError):
            continue
    return _best(found)


def default_routes_v6(text: str) -> list[Route]:
    """Those of ``/proc/net/ipv6_route``, best first. Lines that make no sense are skipped."""
    found: list[Route] = []
    for line in text.splitlines()[:MAX_ROUTES]:
        fields = line.split()
        try:
            destination, prefix, _, _, gateway, metric, _, _, flags, interface = fields[:10]
            if int(destination, 16) or int(prefix, 16) or not _leads_out(int(flags, 16)):
                continue
            address = str(ipaddress.IPv6Address(bytes.fromhex(gateway)))
            found.append(Route(address, interface, int(metric, 16)))
        except ValueError:
            continue
    return _best(found)


def _leads_out(flags: int) -> bool:
    return flags & (_UP | _GATEWAY | _REJECT) == _UP | _GATEWAY


def _best(routes: list[Route]) -> list[Route]:
    by_metric = sorted(routes, key=lambda route: route.metric)
    unique = {(route.gateway, route.interface): route for route in reversed(by_metric)}
    return sorted(unique.values(), key=lambda route: route.metric)[:MAX_GATEWAYS]
