"""NAT-PMP (RFC 6886): what Apple's routers began with, and many home routers still speak instead of PCP. Pure."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from meshd.errors import LocalMisuse, MalformedMessage

# Specification
SERVER_PORT = 5351  # section 3.1
VERSION = 0
EXTERNAL_ADDRESS, MAP_UDP = 0, 1  # opcodes, sections 3.2, 3.3
MAX_MESSAGE_SIZE = 64  # nothing is longer than 16 bytes; a server may append
_RESPONSE = 0x80
_HEADER = struct.Struct(">BBHI")
_ADDRESS_SIZE = 12
_MAP = struct.Struct(">BBxxHHI")
_MAPPED = struct.Struct(">HHI")
_MAPPED_SIZE = 16

SUCCESS = 0
RESULTS = (  # section 3.5
    "success",
    "unsupported_version",
    "not_authorized",
    "network_failure",
    "no_resources",
    "unsupported_opcode",
)


@dataclass(frozen=True, slots=True)
class Failure:
    """The server said no to ``opcode``. ``epoch``: its seconds since it lost its mappings."""

    opcode: int
    result: int
    epoch: int

    @property
    def result_name(self) -> str:
        """Why."""
        return RESULTS[self.result] if self.result < len(RESULTS) else "unknown_result"


@dataclass(frozen=True, slots=True)
class ExternalAddress:
    """The router's address outside."""

    address: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Mapped:
    """UDP to ``external_port`` of the external address goes to our ``internal_port``, for ``lifetime`` seconds."""

    internal_port: int
    external_port: int
    lifetime: int
    epoch: int


Answer = Failure | ExternalAddress | Mapped


def encode_external_address() -> bytes:
    """Ask for the router's address outside. Answered, it also says that somebody is there."""
    return bytes((VERSION, EXTERNAL_ADDRESS))


def encode_map(internal_port: int, external_port: int, lifetime: int) -> bytes:
    """Ask for a mapping of UDP, its renewal, or with lifetime 0 and external port 0 its end.

    Raises LocalMisuse for what is no port or lifetime.
    """
    if not 0 < internal_port < 65_536 or not 0 <= external_port < 65_536 or not 0 <= lifetime < 1 << 32:
        raise LocalMisuse("no such port or lifetime")
    return _MAP.pack(VERSION, MAP_UDP, internal_port, external_port, lifetime)


def decode(data: bytes) -> Answer:
    """An answer or announcement of a server. Raises MalformedMessage."""
    if not _HEADER.size <= len(data) <= MAX_MESSAGE_SIZE:
        raise MalformedMessage("no NAT-PMP answer has that length")
    version, opcode, result, epoch = _HEADER.unpack_from(data)
    if version != VERSION or not opcode & _RESPONSE:
        raise MalformedMessage("not a NAT-PMP answer")
    opcode &= ~_RESPONSE
    if opcode not in (EXTERNAL_ADDRESS, MAP_UDP):
        raise MalformedMessage(f"a NAT-PMP answer about {opcode}")
    if result != SUCCESS:
        return Failure(opcode, result, epoch)
    if len(data) < (_ADDRESS_SIZE if opcode == EXTERNAL_ADDRESS else _MAPPED_SIZE):
        raise MalformedMessage("a NAT-PMP answer is cut off")
    if opcode == EXTERNAL_ADDRESS:
        return ExternalAddress(str(ipaddress.IPv4Address(data[8:_ADDRESS_SIZE])), epoch)
    internal, external, lifetime = _MAPPED.unpack_from(data, _HEADER.size)
    return Mapped(internal, external, lifetime, epoch)
