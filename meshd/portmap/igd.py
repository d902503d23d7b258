"""UPnP Internet Gateway Device: the texts of discovery (SSDP), description (XML) and control (SOAP). Pure.

UPnP Device Architecture 1.0 and 2.0, WANIPConnection:1 and :2, WANPPPConnection:1. What is believed: only what comes
from the router itself and leads to the router itself, lest another machine send us, and our requests, elsewhere.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin
from xml.sax.saxutils import escape

from meshd.errors import LocalMisuse, MalformedMessage
from meshd.portmap.plain_xml import Element, parse

# Specification
SSDP_GROUP = ("239.255.255.250", 1900)  # UPnP Device Architecture 2.0 section 1.1.2
SEARCH_DELAY = 1  # seconds, MX: how long devices may wait with their answer
SEARCH_TARGETS = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
_SERVICE = "urn:schemas-upnp-org:service:"
SERVICE_TYPES = tuple(_SERVICE + name for name in ("WANIPConnection:2", "WANIPConnection:1", "WANPPPConnection:1"))
NO_SUCH_ENTRY = 714  # WANIPConnection:1 section 2.4; further codes below
CONFLICT = (718, 729)  # the port outside belongs to somebody else
SAME_PORT = 724
PERMANENT_ONLY = 725
UNCLEAR = (402, 501)  # what some routers say instead of 725
UNLIMITED_LEASE = 0
_ERRORS = {
    401: "invalid_action",
    402: "invalid_arguments",
    501: "action_failed",
    606: "not_authorized",
    714: "no_such_entry",
    718: "port_taken",
    724: "same_port_only",
    725: "permanent_only",
    728: "no_resources",
    729: "port_taken",
    732: "port_taken",
}

# Policy
MAX_DATAGRAM_SIZE = 4_096  # an SSDP answer takes 300 to 600 bytes
MAX_URL_CHARS = 512
MAX_SERVICES = 4  # connections of one router that are looked at: some list an IP and a PPP one, and only one is up
DESCRIPTION = "meshd"  # what a router's list of mappings shows

_URL = re.compile(
    r"http://(?P<host>[0-9]{1,3}(?:\.[0-9]{1,3}){3})(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9/?:@!$&'()*+,;=._~%-]*)?\Z"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")


@dataclass(frozen=True, slots=True)
class Location:
    """Where at the router something is, by http."""

    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """All of it."""
        return f"http://{self.host}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class Service:
    """A connection of the router to the outside, and where it is controlled."""

    kind: str
    control: Location

    @property
    def has_any_port(self) -> bool:
        """Whether it can choose a free port by itself."""
        return self.kind.endswith("WANIPConnection:2")


@dataclass(frozen=True, slots=True)
class Fault:
    """An action failed. ``code`` is UPnP's, or 0 where the router did not say."""

    code: int

    @property
    def name(self) -> str:
        """A short one."""
        return _ERRORS.get(self.code, "failed")


# -- discovery --------------------------------------------------------------------------------------------------------


def search(target: str) -> bytes:
    """An M-SEARCH for one kind of device or service (UPnP Device Architecture 2.0 section 1.3.2)."""
    host, port = SSDP_GROUP
    lines = ("M-SEARCH * HTTP/1.1", f"HOST: {host}:{port}", 'MAN: "ssdp:discover"', f"MX: {SEARCH_DELAY}")
    return "\r\n".join((*lines, f"ST: {target}", "", "")).encode("ascii")


def decode_search_answer(data: bytes, source: str) -> Location:
    """Where the device that answered describes itself. ``source`` is whom the answer came from, and has to be there.

    Raises MalformedMessage, also for a description elsewhere than at the source, and for devices of another kind.
    """
    if len(data) > MAX_DATAGRAM_SIZE:
        raise MalformedMessage("too long for an answer of SSDP")
    first, *lines = data.decode("latin-1").split("\r\n")
    if not re.match(r"HTTP/1\.[01] 200( |\Z)", first):
        raise MalformedMessage("not an answer to a search")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    if headers.get("st") not in SEARCH_TARGETS:
        raise MalformedMessage("an answer about another kind of device")
    return location_at(headers.get("location", ""), source)


def location_at(url: str, host: str) -> Location:
    """The URL in parts. Raises MalformedMessage unless it is plain http to the IPv4 address ``host``."""
    match = _URL.match(url) if len(url) <= MAX_URL_CHARS else None
    if match is None:
        raise MalformedMessage("not a URL that a router has")
    port = int(match["port"] or 80)
    try:
        is_there = ipaddress.IPv4Address(match["host"]) == ipaddress.ip_address(host)
    except ValueError:
        is_there = False
    if not is_there or not 0 < port < 65_536:
        raise MalformedMessage("a URL that leads away from the router")
    return Location(host, port, match["path"] or "/")


# -- description ------------------------------------------------------------------------------------------------------


def decode_description(data: bytes, at: Location) -> tuple[Service, ...]:
    """The services that map ports, those we like best first, at most ``MAX_SERVICES``.

    Raises MalformedMessage for what is no description, and where a service is controlled elsewhere than at the router.
    """
    root = parse(data)
    if root.name != "root":
        raise MalformedMessage("not a device description")
    base = root.text_of("URLBase") or at.url
    found: list[Service] = []
    for service in root.every("service"):
        kind = service.text_of("serviceType")
        if kind in SERVICE_TYPES and len(found) < MAX_SERVICES:
            found.append(Service(kind, _control(base, service, at)))
    return tuple(sorted(found, key=lambda service: SERVICE_TYPES.index(service.kind)))


def _control(base: str, service: Element, at: Location) -> Location:
    try:
        url = urljoin(base, service.text_of("controlURL"))
    except ValueError:
        raise MalformedMessage("not a URL that a router has") from None
    return location_at(url, at.host)


# -- control ----------------------------------------------------------------------------------------------------------


def encode_action(service: Service, action: str, arguments: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
    """Headers and body of the POST that has ``action`` done (UPnP Device Architecture 2.0 section 3.2.1)."""
    if not all(map(_NAME.match, (action, *arguments))):
        raise LocalMisuse("no such name of an action or argument")
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in arguments.items())
    body = (
        '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{service.kind}">{inner}</u:{action}></s:Body></s:Envelope>\r\n'
    ).encode()
    headers = {
        "Content-Type": 'text/xml; charset="utf-8"',
        "SOAPAction": f'"{service.kind}#{action}"',
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    return headers, body


def decode_action_answer(status: int, data: bytes, action: str) -> dict[str, str] | Fault:
    """What an action gave, by name, or why it failed. Raises MalformedMessage for neither."""
    if status not in (200, 500):
        return Fault(0)
    root = parse(data)
    if status == 200:
        for answer in root.every(f"{action}Response"):
            return {child.name: child.text for child in answer.children}
    for fault in root.every("UPnPError"):
        code = fault.text_of("errorCode")
        return Fault(int(code) if code.isascii() and code.isdecimal() and len(code) < 6 else 0)
    if status == 500:
        return Fault(0)
    raise MalformedMessage(f"no answer to {action}")


def add_mapping(client: str, internal_port: int, external_port: int, lease: int) -> dict[str, str]:
    """Arguments of AddPortMapping and AddAnyPortMapping (WANIPConnection:2 sections 2.5.16, 2.5.19)."""
    return {
        **of_mapping(external_port),
        "NewInternalPort": str(internal_port),
        "NewInternalClient": client,
        "NewEnabled": "1",
        "NewPortMappingDescription": DESCRIPTION,
        "NewLeaseDuration": str(lease),
    }


def of_mapping(external_port: int) -> dict[str, str]:
    """Arguments of DeletePortMapping and GetSpecificPortMappingEntry."""
    return {"NewRemoteHost": "", "NewExternalPort": str(external_port), "NewProtocol": "UDP"}


def port_in(answer: Mapping[str, str], name: str) -> int | None:
    """The port under that name, or None."""
    text = answer.get(name, "")
    port = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    return port if 0 < port < 65_536 else None


def address_in(answer: Mapping[str, str]) -> str | None:
    """The IPv4 address that GetExternalIPAddress gave, or None: routers without a connection say "" or 0.0.0.0."""
    try:
        address = ipaddress.IPv4Address(answer.get("NewExternalIPAddress", ""))
    except ValueError:
        return None
    return None if address.is_unspecified else str(address)
