"""A connection to an address by name, and why there is none."""

from __future__ import annotations

import socket

import trio


class ConnectionLost(Exception):
    """The connection ended or never came to be; ``reason`` is short, for people and counters."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def open_tcp(host: str, port: int) -> trio.SocketStream:
    """Connect. Raises ConnectionLost: ``dns``, ``refused`` or ``unreachable``."""
    try:
        return await trio.open_tcp_stream(host, port)
    except socket.gaierror:
        raise ConnectionLost("dns") from None
    except OSError as error:
        group = error.__cause__
        causes = group.exceptions if isinstance(group, BaseExceptionGroup) else (error,)
        refused = any(isinstance(cause, ConnectionRefusedError) for cause in causes)
        raise ConnectionLost("refused" if refused else "unreachable") from None
