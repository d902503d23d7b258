"""Single texts of the configuration: what is wrong with them (what to write instead, or ''), what they mean. Pure."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from meshd.ice_servers import parse_ice_server
from meshd.ids import MAX_NAME_CHARS, is_name
from meshd.push_services import has_host, parse_service


def check_name(text: str) -> str:
    """A member's name, or nothing."""
    if not text or is_name(text):
        return ""
    return f"1 to {MAX_NAME_CHARS} of a-z, 0-9, '.', '-', '_', with a letter or digit at both ends, or \"\""


def check_path(text: str) -> str:
    """An absolute path, or nothing."""
    return "" if not text or text.startswith("/") else "an absolute path"


def check_group(text: str) -> str:
    """A Unix group, or nothing."""
    return "" if re.fullmatch(r"([A-Za-z_][A-Za-z0-9_.-]{0,31}|[0-9]{1,10})?", text) else "a group's name or number"


def check_address(text: str) -> str:
    """An IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return "an IP address without port, as 192.0.2.7 or 2001:db8::7"
    return ""


def check_announced(text: str) -> str:
    """An IP address and a port."""
    try:
        split_address(text)
    except ValueError:
        return "an IP address and a port, as 192.0.2.7:7000 or [2001:db8::7]:7000"
    return ""


def split_address(text: str) -> tuple[str, int]:
    """``192.0.2.7:7000`` or ``[2001:db8::7]:7000`` in its two parts. Raises ValueError for anything else."""
    matched = re.fullmatch(r"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\]):([0-9]{1,5})", text)
    if matched is None or not 0 < int(matched[3]) < 65_536:
        raise ValueError(text)
    address = ipaddress.IPv4Address(matched[1]) if matched[1] else ipaddress.IPv6Address(matched[2])
    return str(address), int(matched[3])


def check_stun_server(text: str) -> str:
    """A STUN server (RFC 7064)."""
    return _server_problem(text, "stun")


def check_turn_server(text: str) -> str:
    """A TURN server (RFC 7065)."""
    return _server_problem(text, "turn", "turns")


def _server_problem(text: str, *schemes: str) -> str:
    try:
        parse_ice_server(text, *schemes)
    except ValueError as error:
        return str(error)
    return ""


def check_service(text: str) -> str:
    """A push service to receive by."""
    try:
        parse_service(text)
    except ValueError as error:
        return str(error)
    return ""


def check_origin(text: str) -> str:
    """An origin (RFC 6454)."""
    wanted = "scheme, host and port alone, as http://127.0.0.1:8080"
    return "" if has_host(text, ("http", "https")) and origin_of(text) == text else wanted


def check_own_url(text: str) -> str:
    """The origin of our own service, or nothing."""
    return check_origin(text) if text else ""


def check_proxy(text: str) -> str:
    """An HTTP proxy without a password, or nothing."""
    return "" if not text or (has_host(text, ("http",)) and origin_of(text) == text) else "http://HOST:PORT"


def check_listen(text: str) -> str:
    """Host and port to listen on, or nothing."""
    wanted = "HOST:PORT, as 0.0.0.0:8085 or [::]:8085"
    try:
        return "" if not text or split_listen(text)[0] else wanted
    except ValueError:
        return wanted


def split_listen(text: str) -> tuple[str, int]:
    """``host:port`` (the host may be empty) or ``[v6]:port`` in its two parts. Raises ValueError for anything else."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(":[0-9]{1,5}", text.removeprefix(host)) or int(port) > 65_535:
        raise ValueError(text)
    return host.removeprefix("[").removesuffix("]"), int(port)


def check_subject(text: str) -> str:
    """VAPID's ``sub`` (RFC 8292)."""
    return "" if re.fullmatch(r"mailto:[^@\s]+@[^@\s]+|https://[^\s]+", text) else "a mailto: or https: URL"


def origin_of(url: str) -> str:
    """The origin of a URL in its canonical form (RFC 6454 section 6.2): no default port, no path, lower case.

    Raises ValueError for what is no URL.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    shown = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443, "ws": 80, "wss": 443}.get(parts.scheme)
    port = "" if parts.port in (None, default) else f":{parts.port}"
    return f"{parts.scheme}://{shown}{port}"
