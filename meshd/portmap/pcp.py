"""The Port Control Protocol (RFC 6887), as far as a host needs it: MAP for UDP, and ANNOUNCE. Pure.

The same bytes open an IPv4 NAT and an IPv6 firewall.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from meshd.errors import LocalMisuse, MalformedMessage

# Specification
SERVER_PORT = 5351  # section 19.1
CLIENT_PORT = 5350  # where servers announce that they have restarted, to all hosts of a link
VERSION = 2
ANNOUNCE, MAP = 0, 1  # opcodes, section 19.3
NONCE_SIZE = 12  # section 11.1
UDP = 17
MAX_MESSAGE_SIZE = 1_100  # section 7
_RESPONSE = 0x80
_MAP_SIZE = 36
_REQUEST = struct.Struct(">BBxxI16s")  # section 7.1
_ANSWER = struct.Struct(">BBxBII12x")  # section 7.2
_MAP = struct.Struct(">12sB3xHH16s")  # section 11.1

SUCCESS = 0
RESULTS = (  # section 7.4
    "success",
    "unsupported_version",
    "not_authorized",
    "malformed_request",
    "unsupported_opcode",
    "unsupported_option",
    "malformed_option",
    "network_failure",
    "no_resources",
    "unsupported_protocol",
    "quota_exceeded",
    "cannot_provide_external",
    "address_mismatch",
    "excessive_remote_peers",
)


@dataclass(frozen=True, slots=True)
class Assigned:
    """What a MAP answer is about; at a success also what was assigned."""

    nonce: bytes
    protocol: int
    internal_port: int
    external_address: str
    external_port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """From a server. ``lifetime``: seconds of the mapping, or at a failure for which to expect the same again.

    ``epoch``: the server's seconds since it lost its mappings. ``assigned`` is None for ANNOUNCE, and for a failure
    that came without.
    """

    opcode: int
    result: int
    lifetime: int
    epoch: int
    assigned: Assigned | None = None

    @property
    def result_name(self) -> str:
        """``success`` or why not."""
        return RESULTS[self.result] if self.result < len(RESULTS) else "unknown_result"


def encode_announce(client: str) -> bytes:
    """Ask whether somebody is there (section 14.1). ``client`` is the address that it is sent from."""
    return _REQUEST.pack(VERSION, ANNOUNCE, 0, _packed(client))


def encode_map(
    client: str, nonce: bytes, internal_port: int, lifetime: int, external: tuple[str, int] | None = None
) -> bytes:
    """Ask for a mapping of UDP, its renewal, or with a lifetime of 0 its end. ``external`` is a wish.

    Raises LocalMisuse for what is no port, address, lifetime or nonce.
    """
    address, port = external or ("::" if ":" in client else "0.0.0.0", 0)
    if len(nonce) != NONCE_SIZE or not 0 < internal_port < 65_536 or not 0 <= port < 65_536:
        raise LocalMisuse("no such nonce or port")
    if not 0 <= lifetime < 1 << 32:
        raise LocalMisuse(f"{lifetime} s is no lifetime")
    header = _REQUEST.pack(VERSION, MAP, lifetime, _packed(client))
    return header + _MAP.pack(nonce, UDP, internal_port, port, _packed(address))


def decode(data: bytes) -> Answer:
    """An answer or announcement of a server. Raises MalformedMessage, also for what a NAT-PMP server says to us."""
    if len(data) > MAX_MESSAGE_SIZE or len(data) < _ANSWER.size or len(data) % 4:
        raise MalformedMessage("no PCP answer has that length")
    version, opcode, result, lifetime, epoch = _ANSWER.unpack_from(data)
    if not opcode & _RESPONSE:
        raise MalformedMessage("a PCP request where an answer was to come")
    if version != VERSION and result != RESULTS.index("unsupported_version"):
        raise MalformedMessage(f"PCP of version {version}")
    opcode &= ~_RESPONSE
    assigned = None
    if opcode == MAP and len(data) >= _ANSWER.size + _MAP_SIZE:
        nonce, protocol, internal, external, address = _MAP.unpack_from(data, _ANSWER.size)
        assigned = Assigned(nonce, protocol, internal, _unpacked(address), external)
    if opcode == MAP and result == SUCCESS and assigned is None:
        raise MalformedMessage("a PCP mapping is cut off")
    return Answer(opcode, result, lifetime, epoch, assigned)


def _packed(address: str) -> bytes:
    """16 bytes: IPv4 as IPv4-mapped IPv6 (section 5)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        raise LocalMisuse(f"{address!r} is no IP address") from None
    return parsed.packed if parsed.version == 6 else bytes(10) + b"\xff\xff" + parsed.packed


def _unpacked(packed: bytes) -> str:
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)
