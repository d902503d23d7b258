"""Which addresses are not public: IANA's special-purpose address registries (RFC 6890), as rules with a name each.

Pure. What asks: pushes, which go to public addresses only, and port mapping, which advertises no others.
"""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

# Specification
# RFC 6890 and what came since. Spelled out, because ``is_global`` of the standard library changes from one Python to
# the next.
_RULES_V4 = (
    ("unspecified", "0.0.0.0/8"),
    ("private", "10.0.0.0/8"),
    ("cgnat", "100.64.0.0/10"),
    ("loopback", "127.0.0.0/8"),
    ("link_local", "169.254.0.0/16"),
    ("private", "172.16.0.0/12"),
    ("reserved", "192.0.0.0/24"),
    ("documentation", "192.0.2.0/24"),
    ("reserved", "192.88.99.0/24"),
    ("private", "192.168.0.0/16"),
    ("reserved", "198.18.0.0/15"),
    ("documentation", "198.51.100.0/24"),
    ("documentation", "203.0.113.0/24"),
    ("multicast", "224.0.0.0/4"),
    ("reserved", "240.0.0.0/4"),
)
_RULES_V6 = (
    ("unspecified", "::/128"),
    ("loopback", "::1/128"),
    ("private", "64:ff9b:1::/48"),  # NAT64 of a network's own (RFC 8215): what it leads to cannot be known
    ("reserved", "2001::/23"),  # Teredo, ORCHID, benchmarking
    ("documentation", "2001:db8::/32"),
    ("documentation", "3fff::/20"),
    ("unique_local", "fc00::/7"),
    ("link_local", "fe80::/10"),
    ("private", "fec0::/10"),  # site-local, withdrawn by RFC 3879
    ("multicast", "ff00::/8"),
)
_NETWORKS_V4 = tuple((rule, IPv4Network(network)) for rule, network in _RULES_V4)
_NETWORKS_V6 = tuple((rule, IPv6Network(network)) for rule, network in _RULES_V6)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291 section 2.5.5.2
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052 section 2.1
_SIX_TO_FOUR = IPv6Network("2002::/16")  # RFC 3056


def forbidden_by(address: IPv4Address | IPv6Address) -> str | None:
    """The rule under which an address is no public one, or None if it is.

    ``unspecified``, ``loopback``, ``private``, ``cgnat``, ``link_local``, ``unique_local``, ``documentation``,
    ``multicast`` or ``reserved``. IPv6 addresses that carry an IPv4 address to a gateway (mapped, 6to4, NAT64) are
    judged by that one.
    """
    if isinstance(address, IPv4Address):
        return next((rule for rule, network in _NETWORKS_V4 if address in network), None)
    if address.scope_id is not None:
        return "link_local"
    carried = _carried_v4(address)
    if carried is not None:
        return forbidden_by(carried)
    rule = next((rule for rule, network in _NETWORKS_V6 if address in network), None)
    return rule if rule is not None or address in _GLOBAL_UNICAST else "reserved"


def is_public(address: str, *, allow_documentation: bool = False) -> bool:
    """Whether strangers could reach that. ``allow_documentation``: addresses of RFC 5737 and RFC 3849 count, too."""
    rule = forbidden_by(ipaddress.ip_address(address))
    return rule is None or (allow_documentation and rule == "documentation")


def is_loopback(address: str) -> bool:
    """Whether only this machine itself can be there."""
    return ipaddress.ip_address(address).is_loopback


def _carried_v4(address: IPv6Address) -> IPv4Address | None:
    value = int(address)
    if address in _MAPPED or address in _NAT64:
        return IPv4Address(value & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address(value >> 80 & 0xFFFFFFFF)
    return None


def forbidden_address(text: str) -> str | None:
    """``forbidden_by`` for an address as a resolver gives it; what cannot be read as one is ``malformed``."""
    try:
        return forbidden_by(ipaddress.ip_address(text))
    except ValueError:
        return "malformed"
