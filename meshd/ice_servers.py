"""Names of STUN and TURN servers, as people write them: the URIs of RFC 7064 and RFC 7065. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Specification
DEFAULT_PORTS = {"stun": 3478, "turn": 3478, "turns": 5349}  # RFC 7064 section 3.2, RFC 7065 section 3.2

# A literal IPv6 address stands in brackets, as in every URI; there is no "//".
_URI = re.compile(
    r"(?P<scheme>[a-z]+):(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]{1,253}))"
    r"(?::(?P<port>[0-9]{1,5}))?(?:\?transport=(?P<transport>[a-z]+))?\Z"
)


@dataclass(frozen=True, slots=True)
class IceServer:
    """One server. ``scheme``: stun, turn or turns (TURN over TLS); ``host``: a name or an address without brackets."""

    scheme: str
    host: str
    port: int
    transport: str = "udp"  # to the server: udp or tcp

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        over = "?transport=tcp" if self.scheme == "turn" and self.transport == "tcp" else ""
        return f"{self.scheme}:{host}:{self.port}{over}"


def parse_ice_server(text: str, *schemes: str) -> IceServer:
    """The server that ``text`` names, of one of those schemes. Raises ValueError with what to write instead."""
    example = {
        "stun": "stun:192.0.2.7:3478 or stun:[2001:db8::7]:3478",
        "turn": "turn:turn.example.org:3478, turn:192.0.2.7:3478?transport=tcp or turns:turn.example.org:5349",
    }[schemes[0]]
    matched = _URI.match(text)
    if text.startswith("stuns:"):
        raise ValueError(f"stun: instead of stuns:, which asks about a TCP connection that no link uses: {example}")
    if "://" in text:
        raise ValueError(f"it without //, as {example}")
    if matched is None or matched["scheme"] not in schemes:
        raise ValueError(f"{schemes[0]}:host:port, as {example}")
    scheme = matched["scheme"]
    transport = matched["transport"] or ("tcp" if scheme == "turns" else "udp")
    port = int(matched["port"] or DEFAULT_PORTS[scheme])
    if not 0 < port < 65_536:
        raise ValueError(f"{schemes[0]}:host:port with a port from 1 to 65535, as {example}")
    if transport not in ("udp", "tcp") or (scheme != "turn" and matched["transport"] not in (None, transport)):
        raise ValueError(f"?transport=udp or ?transport=tcp after turn: only, as {example}")
    if scheme == "turns" and transport == "udp":
        raise ValueError(f"turns: without ?transport=udp (DTLS is not supported), as {example}")
    return IceServer(scheme, matched["v6"] or matched["host"], port, transport)
