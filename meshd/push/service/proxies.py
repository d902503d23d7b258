"""Who a request really comes from, where proxies stand before the service. Pure.

Anybody can write a header, so it is believed as far as it was written by proxies of ours: read from its end, which the
nearest of them has added, up to the first address that is no proxy. One header alone is read, the one that the proxies
are known to set: most pass the other one on as it came.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from meshd.push.service.config import parse_networks

# Specification
HEADERS = ("x-forwarded-for", "forwarded")  # the first by custom, the second RFC 7239

# Policy
MAX_HOPS = 16  # addresses read of one header, from its end

_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*(?:"([^"]*)"|([^\s";]+))', re.IGNORECASE)


class TrustedProxies:
    """The proxies that are believed, as networks, and the header they set. Raises ConfigError."""

    def __init__(self, networks: tuple[str, ...], header: str) -> None:
        self._networks = parse_networks(networks)
        self._header = header

    def includes(self, source: str) -> bool:
        """Whether ``source`` is one of them."""
        if not self._networks:
            return False
        try:
            address = _unmapped(ipaddress.ip_address(source))
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """The address of whoever asked the outermost proxy of ours; ``peer`` itself where that is none."""
        source = peer
        entries = headers.get(self._header, "").split(",")
        for entry in reversed(entries[-MAX_HOPS:]):
            if not self.includes(source):
                break
            address = _address(entry, self._header)
            if address is None:  # "unknown", a name of its own: the last one that is known stands for it
                break
            source = address
        return source


def _address(entry: str, header: str) -> str | None:
    text = entry.strip()
    if header == "forwarded":
        match = _FOR.search(text)
        if match is None:
            return None
        text = match[1] or match[2] or ""
    if text.startswith("["):  # [v6] or [v6]:port
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # v4:port
        text = text.partition(":")[0]
    try:
        return str(_unmapped(ipaddress.ip_address(text)))
    except ValueError:
        return None


def _unmapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IPv4 address, also where a socket of both families shows it as ``::ffff:…``."""
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
