"""The Data Channel Establishment Protocol (RFC 8832), as far as a node with agreed channels needs it: saying yes."""

from __future__ import annotations

from struct import Struct

from meshd.errors import MalformedMessage

# Specification
DCEP_PPID = 50  # RFC 8832 section 8.1
OPEN, ACK = 3, 2  # section 8.2.1
DATA_CHANNEL_ACK = bytes([ACK])

# Policy
MAX_CHANNEL = 8  # streams below this may be opened in band; ours are two

_OPEN = Struct(">BBHLHH")


def decode_open(message: bytes) -> str | None:
    """The label of a DATA_CHANNEL_OPEN, None for a DATA_CHANNEL_ACK (section 5). Raises MalformedMessage."""
    if message == DATA_CHANNEL_ACK:
        return None
    if len(message) < _OPEN.size:
        raise MalformedMessage("a DATA_CHANNEL_OPEN too short")
    kind, _, _, _, label_size, protocol_size = _OPEN.unpack_from(message)
    if kind != OPEN or len(message) != _OPEN.size + label_size + protocol_size:
        raise MalformedMessage("no DATA_CHANNEL_OPEN")
    try:
        return message[_OPEN.size : _OPEN.size + label_size].decode()
    except UnicodeDecodeError as problem:
        raise MalformedMessage("a label that is no UTF-8") from problem
