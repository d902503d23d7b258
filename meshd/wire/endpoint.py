"""Push endpoints on the wire: the long base64url word at their end travels as the bytes it stands for."""

from __future__ import annotations

import base64
import binascii

from meshd.errors import MalformedMessage
from meshd.push_services import MAX_ENDPOINT_SIZE

# Policy
MIN_TAIL_CHARS = 16  # shorter words are not worth it


def split_endpoint(endpoint: str) -> tuple[str, bytes]:
    """``(prefix, tail)`` such that ``join_endpoint`` gives the endpoint back exactly."""
    cut = endpoint.rfind("/") + 1
    word = endpoint[cut:]
    if len(word) >= MIN_TAIL_CHARS:
        try:
            tail = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
        except (binascii.Error, ValueError):
            return endpoint, b""
        if join_endpoint(endpoint[:cut], tail) == endpoint:
            return endpoint[:cut], tail
    return endpoint, b""


def join_endpoint(prefix: str, tail: bytes) -> str:
    """The endpoint. Raises MalformedMessage if it is too long."""
    endpoint = prefix + base64.urlsafe_b64encode(tail).decode().rstrip("=")
    if len(endpoint) > MAX_ENDPOINT_SIZE:
        raise MalformedMessage(f"an endpoint of {len(endpoint)} characters")
    return endpoint
