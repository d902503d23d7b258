"""Which push endpoints this node will POST to. Pure; ``checked_connect`` applies it to the address that is dialled.

An endpoint comes from a peer or from a pasted token, so it may name anything: a router's web page, a cloud's metadata
address, a database on loopback. Only public addresses over https may be dialled, unless the endpoint's origin is in
``push.trusted_origins``.

The URL is taken apart here, once and strictly, and the request is made from these parts: where two parsers read one
URL, what one of them checks is not what the other one dials.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from meshd.errors import Rejected
from meshd.push_services import MAX_ENDPOINT_SIZE
from meshd.special_addresses import forbidden_by

# Specification
MAX_HOST_CHARS = 253  # RFC 1035 section 2.3.4, as text
DEFAULT_PORTS = {"http": 80, "https": 443}

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
