"""Which push endpoints this node will POST to. Pure; ``checked_connect`` applies it to the address that is dialled.

An endpoint comes from a peer or from a pasted token, so it may name anything: a router's web page, a cloud's metadata
address, a database on loopback. Only public addresses over https may be dialled, unless the endpoint's origin is in
``push.trusted_origins``.

The URL is taken apart here, once and strictly, and the request is made from these parts: where two parsers read one
URL, what one of them checks is not what the other one dials.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from meshd.errors import Rejected

# Specification
MAX_ENDPOINT_SIZE = 1000  # UnifiedPush: an endpoint is at most 1000 bytes; autopush's are about 234
MAX_HOST_CHARS = 253  # RFC 1035 section 2.3.4, as text
DEFAULT_PORTS = {"http": 80, "https": 443}

# IANA's special-purpose address registries (RFC 6890) and what came since. Spelled out, because ``is_global`` of the
# standard library changes from one Python to the next.
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

_URL = re.compile(
    r"(?P<scheme>[A-Za-z]+)://(?P<userinfo>[^/?#]*@)?(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+))"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<target>[/?][A-Za-z0-9/?:@!$&'()*+,;=._~%-]*)?\Z"
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_NUMERIC_LABEL = re.compile(r"([0-9]+|0x[0-9a-f]*)\Z")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A push endpoint that may be asked for, in parts. ``target`` is the request target and as secret as a password."""

    scheme: str
    host: str  # lower case; an IPv6 address without brackets
    port: int
    target: str = field(repr=False)
    trusted: bool  # by configuration: the address is not checked

    @property
    def origin(self) -> str:
        """Scheme, host and port, in the form of ``push.trusted_origins``."""
        return _origin(self.scheme, self.host, self.port)


def _origin(scheme: str, host: str, port: int) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" if DEFAULT_PORTS.get(scheme) == port else f"{scheme}://{name}:{port}"


def parse_endpoint(url: str, trusted_origins: Collection[str] = ()) -> Endpoint:
    """Take a push endpoint apart and check all of it that can be checked without asking the DNS.

    Raises Rejected; ``reason`` is the rule that refuses it: ``too_long``, ``malformed``, ``userinfo``, ``not_https``,
    or what ``forbidden_by`` says about an address that stands in the URL.
    """
    if len(url) > MAX_ENDPOINT_SIZE:
        raise Rejected("too_long")
    match = _URL.match(url)
    if match is None:
        raise Rejected("malformed")
    if match["userinfo"] is not None:
        raise Rejected("userinfo")
    scheme = match["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        raise Rejected("not_https")
    port = int(match["port"]) if match["port"] else DEFAULT_PORTS[scheme]
    if not 0 < port < 65536:
        raise Rejected("malformed")
    host, address = _host(match["v6"], match["host"])
    target = match["target"] or "/"
    if target.startswith("?"):
        target = "/" + target
    trusted = _origin(scheme, host, port) in trusted_origins
    if not trusted:
        if scheme != "https":
            raise Rejected("not_https")
        if address is not None and (rule := forbidden_by(address)) is not None:
            raise Rejected(rule)
    return Endpoint(scheme, host, port, target, trusted)


def _host(v6: str | None, name: str | None) -> tuple[str, IPv4Address | IPv6Address | None]:
    """The host as it is dialled, and the address if it is one. Raises Rejected."""
    try:
        if name is None:
            address = IPv6Address(v6 or "")
            return str(address), address
        host = name.lower()
        labels = host.split(".")
        if _NUMERIC_LABEL.match(labels[-1]):
            # Resolvers read 0x7f.1, 017700000001 and 2130706433 as addresses; only the four-part form is one here.
            v4 = IPv4Address(host)
            return host, v4
    except ValueError:
        raise Rejected("malformed") from None
    if len(host) > MAX_HOST_CHARS or not all(_LABEL.match(label) for label in labels):
        raise Rejected("malformed")
    return host, None


def forbidden_by(address: IPv4Address | IPv6Address) -> str | None:
    """The rule under which an address may not be dialled, or None for a public one.

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
