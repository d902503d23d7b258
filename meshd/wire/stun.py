"""STUN Binding without credentials (RFC 8489), and what RFC 5780 adds to find out how a NAT behaves.

For asking servers and answering as one. Connectivity checks carry credentials and are the business of ICE: here they
are only told apart (``BindingRequest.is_check``).
"""

from __future__ import annotations

import binascii
import ipaddress
import struct
from dataclasses import dataclass
from typing import TypeAlias

from meshd.errors import LocalMisuse, MalformedMessage

# Specification (RFC 8489)
HEADER_SIZE = 20  # section 5
TRANSACTION_SIZE = 12
MAGIC_COOKIE = 0x2112A442
COOKIE = MAGIC_COOKIE.to_bytes(4, "big")
UNKNOWN_ATTRIBUTE = 420  # section 14.8
_REQUEST, _SUCCESS, _ERROR = 0x0001, 0x0101, 0x0111  # classes of method Binding, sections 3, 5
_MAPPED_ADDRESS, _USERNAME, _MESSAGE_INTEGRITY, _ERROR_CODE = 0x0001, 0x0006, 0x0008, 0x0009  # section 14
_UNKNOWN_ATTRIBUTES, _XOR_MAPPED_ADDRESS, _FINGERPRINT = 0x000A, 0x0020, 0x8028
_PRIORITY, _USE_CANDIDATE = 0x0024, 0x0025  # RFC 8445 section 16.1
CHANGE_REQUEST, _RESPONSE_ORIGIN, _OTHER_ADDRESS = 0x0003, 0x802B, 0x802C  # RFC 5780 section 7
_CHANGE_ADDRESS, _CHANGE_PORT = 0x04, 0x02
_OPTIONAL = 0x8000  # attributes from here on may be ignored, section 14
_FINGERPRINT_XOR = 0x5354554E
_FINGERPRINT_SIZE = 8
_FAMILIES = {1: 4, 2: 16}

# Policy
MAX_MESSAGE_SIZE = 1_280  # no Binding message comes near; what is larger is something else
MAX_ATTRIBUTES = 32
MAX_UNKNOWN = 8  # attributes that an error names
MAX_REASON_SIZE = 128

_HEADER = struct.Struct(">HHI12s")
_ATTRIBUTE = struct.Struct(">HH")

Address: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class BindingRequest:
    """Which address do you see? ``transaction`` is 12 random bytes. The two changes ask to be answered from elsewhere.

    ``unknown`` lists attributes that must be understood and are not; ``is_check`` tells that it is one of ICE.
    """

    transaction: bytes
    change_address: bool = False
    change_port: bool = False
    unknown: tuple[int, ...] = ()
    is_check: bool = False


@dataclass(frozen=True, slots=True)
class BindingSuccess:
    """That one: ``mapped``. ``origin`` is where the answer came from, ``other`` the server's second address."""

    transaction: bytes
    mapped: Address
    origin: Address | None = None
    other: Address | None = None


@dataclass(frozen=True, slots=True)
class BindingError:
    """No. ``code`` is 300 to 699; ``unknown`` names the attributes that a 420 is about."""

    transaction: bytes
    code: int
    reason: str = ""
    unknown: tuple[int, ...] = ()


BindingMessage: TypeAlias = BindingRequest | BindingSuccess | BindingError


def is_stun(data: bytes) -> bool:
    """Whether a datagram looks like STUN, and like nothing else that may share its socket (RFC 7983 section 7)."""
    return len(data) >= HEADER_SIZE and data[0] < 4 and data[4:8] == COOKIE


def encode(message: BindingMessage, *, fingerprint: bool = False) -> bytes:
    """The bytes of a message: 20 for a plain request, 32 for its answer over IPv4, 44 over IPv6.

    Raises LocalMisuse for a transaction of another size, and what is no address, code or port.
    """
    transaction = message.transaction
    if len(transaction) != TRANSACTION_SIZE:
        raise LocalMisuse(f"a STUN transaction id has {TRANSACTION_SIZE} bytes, not {len(transaction)}")
    parts: list[bytes] = []
    if isinstance(message, BindingRequest):
        if message.unknown or message.is_check:
            raise LocalMisuse("requests that must be understood further are not made here")
        kind = _REQUEST
        if flags := message.change_address * _CHANGE_ADDRESS | message.change_port * _CHANGE_PORT:
            parts.append(_attribute(CHANGE_REQUEST, flags.to_bytes(4, "big")))
    elif isinstance(message, BindingSuccess):
        kind = _SUCCESS
        parts.append(_attribute(_XOR_MAPPED_ADDRESS, _pack(message.mapped, COOKIE + transaction)))
        for number, address in ((_RESPONSE_ORIGIN, message.origin), (_OTHER_ADDRESS, message.other)):
            if address is not None:
                parts.append(_attribute(number, _pack(address)))
    else:
        kind = _ERROR
        reason = message.reason.encode()
        if not 300 <= message.code < 700 or len(reason) > MAX_REASON_SIZE or len(message.unknown) > MAX_UNKNOWN:
            raise LocalMisuse("no such STUN error")
        parts.append(_attribute(_ERROR_CODE, bytes((0, 0, message.code // 100, message.code % 100)) + reason))
        if message.unknown:
            parts.append(_attribute(_UNKNOWN_ATTRIBUTES, b"".join(n.to_bytes(2, "big") for n in message.unknown)))
    body = b"".join(parts)
    size = len(body) + (_FINGERPRINT_SIZE if fingerprint else 0)
    data = _HEADER.pack(kind, size, MAGIC_COOKIE, transaction) + body
    return data + _attribute(_FINGERPRINT, _fingerprint_of(data)) if fingerprint else data


def decode(data: bytes) -> BindingMessage:
    """The message in those bytes. Raises MalformedMessage for anything else, a wrong fingerprint included.

    Of an attribute that stands there twice the first counts (section 14). Credentials are not checked.
    """
    if len(data) > MAX_MESSAGE_SIZE or not is_stun(data):
        raise MalformedMessage("not a STUN message")
    kind, size, _, transaction = _HEADER.unpack_from(data)
    if size != len(data) - HEADER_SIZE or size % 4:
        raise MalformedMessage("a STUN message of another length than it says")
    attributes = _attributes(data)
    if kind == _REQUEST:
        return _request(transaction, attributes)
    if kind == _SUCCESS:
        mapped = attributes.get(_XOR_MAPPED_ADDRESS)
        if mapped is not None:
            seen = _unpack(mapped, COOKIE + transaction)
        elif (plain := attributes.get(_MAPPED_ADDRESS)) is not None:  # servers of RFC 3489
            seen = _unpack(plain)
        else:
            raise MalformedMessage("a STUN answer without an address")
        origin, other = (
            None if (value := attributes.get(number)) is None else _unpack(value)
            for number in (_RESPONSE_ORIGIN, _OTHER_ADDRESS)
        )
        return BindingSuccess(transaction, seen, origin, other)
    if kind == _ERROR:
        return _error(transaction, attributes)
    raise MalformedMessage("neither a STUN Binding request nor an answer to one")


def _attribute(number: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(number, len(value)) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    position = HEADER_SIZE
    for _ in range(MAX_ATTRIBUTES):
        if position == len(data):
            return found
        number, size = _ATTRIBUTE.unpack_from(data, position)
        value = data[position + 4 : position + 4 + size]
        if len(value) != size:
            raise MalformedMessage("a STUN attribute is cut off")
        if number == _FINGERPRINT:
            if position + _FINGERPRINT_SIZE != len(data) or value != _fingerprint_of(data[:position]):
                raise MalformedMessage("a STUN fingerprint is wrong")
        # What follows MESSAGE-INTEGRITY is not covered by it, and counts for nothing (section 14.5).
        elif _MESSAGE_INTEGRITY not in found:
            found.setdefault(number, value)
        position += 4 + size + -size % 4
    if position == len(data):
        return found
    raise MalformedMessage(f"a STUN message with more than {MAX_ATTRIBUTES} attributes")


def _request(transaction: bytes, attributes: dict[int, bytes]) -> BindingRequest:
    change = attributes.pop(CHANGE_REQUEST, b"\0\0\0\0")
    if len(change) != 4:
        raise MalformedMessage("a STUN CHANGE-REQUEST of another size")
    known = (_USERNAME, _MESSAGE_INTEGRITY, _PRIORITY, _USE_CANDIDATE)
    return BindingRequest(
        transaction,
        bool(change[3] & _CHANGE_ADDRESS),
        bool(change[3] & _CHANGE_PORT),
        tuple(number for number in attributes if number < _OPTIONAL and number not in known),
        _USERNAME in attributes or _MESSAGE_INTEGRITY in attributes,
    )


def _error(transaction: bytes, attributes: dict[int, bytes]) -> BindingError:
    value = attributes.get(_ERROR_CODE, b"")
    unknown = attributes.get(_UNKNOWN_ATTRIBUTES, b"")
    if len(value) < 4 or len(unknown) % 2:
        raise MalformedMessage("a STUN error without a code")
    code = (value[2] & 0x07) * 100 + value[3]
    if value[3] > 99 or not 300 <= code < 700:
        raise MalformedMessage("a STUN error with a code that is none")
    reason = value[4 : 4 + MAX_REASON_SIZE].decode("utf-8", "ignore")
    listed = tuple(int.from_bytes(unknown[i : i + 2], "big") for i in range(0, min(len(unknown), 2 * MAX_UNKNOWN), 2))
    return BindingError(transaction, code, reason, listed)


def _fingerprint_of(data: bytes) -> bytes:
    """Of a message up to its FINGERPRINT, whose length field counts that already (section 14.7)."""
    return (binascii.crc32(data) ^ _FINGERPRINT_XOR).to_bytes(4, "big")


def _pack(address: Address, mask: bytes = bytes(16)) -> bytes:
    host, port = address
    try:
        packed = ipaddress.ip_address(host).packed
    except ValueError:
        raise LocalMisuse(f"{host!r} is no IP address") from None
    if not 0 <= port < 65_536:
        raise LocalMisuse(f"{port} is no port")
    family = 1 if len(packed) == 4 else 2
    return bytes((0, family)) + _masked(port.to_bytes(2, "big"), mask) + _masked(packed, mask)


def _unpack(value: bytes, mask: bytes = bytes(16)) -> Address:
    if len(value) < 4 or _FAMILIES.get(value[1]) != len(value) - 4:
        raise MalformedMessage("a STUN address of no known family")
    return str(ipaddress.ip_address(_masked(value[4:], mask))), int.from_bytes(_masked(value[2:4], mask), "big")


def _masked(value: bytes, mask: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(value, mask, strict=False))
