"""STUN beside the push service (RFC 8489): whoever asks is told the address it is seen at.

A mesh whose members are all behind NAT routers has one public machine then that it need not share with anybody.
"""

from __future__ import annotations

import socket

import trio

from meshd.push.service.config import parse_listen
from meshd.wire.stun import MAX_MESSAGE_SIZE
from meshd.wire.stun_responder import StunResponder

# Policy
OFF = "off"


async def bind_stun(listen: str) -> list[trio.socket.SocketType]:
    """UDP sockets at ``host:port``, one for each address of the host. Raises OSError, ConfigError."""
    host, port = parse_listen(listen)
    found = await trio.socket.getaddrinfo(host or None, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
    bound: list[trio.socket.SocketType] = []
    try:
        for family, kind, protocol, _, address in found:
            udp = trio.socket.socket(family, kind, protocol)
            bound.append(udp)
            if family == socket.AF_INET6:
                udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            await udp.bind(address)
            if port == 0:  # a second one would get another port
                break
    except OSError:
        for udp in bound:
            udp.close()
        raise
    return bound


async def answer_stun(udp: trio.socket.SocketType, responder: StunResponder) -> None:
    """Answer until cancelled."""
    while True:
        try:
            data, source = await udp.recvfrom(MAX_MESSAGE_SIZE + 1)
            answer = responder.answer(data, (source[0], source[1]), trio.current_time())
            if answer is not None:
                await udp.sendto(answer, source)
        except OSError:  # an ICMP error of an earlier answer, a source that cannot be reached
            responder.counters["stun_errors"] += 1
