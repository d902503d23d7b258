"""Run inside a namespace: maps a UDP port of its own, and says on standard output what happens, an object a line.

    python map_port.py SECRET [pcp|nat_pmp|igd]

Without a method the whole ``PortMapper`` runs, otherwise that one client. Ends, and takes back what it has, at SIGTERM.
"""

from __future__ import annotations

import json
import random
import signal
import sys
from dataclasses import dataclass

import trio

from meshd.portmap import gateways
from meshd.portmap.igd_client import IgdClient
from meshd.portmap.nat_pmp_client import NatPmpClient
from meshd.portmap.pcp_client import PcpClient
from meshd.portmap.port_mapper import PortMapper
from meshd.portmap.values import Grant, PortMapping


@dataclass
class Wish:
    port_mapping: bool = True
    ice: str = "mesh"
    addresses: tuple[str, ...] = ()
    lab_addresses: bool = False


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


async def receive(socket: trio.socket.SocketType) -> None:
    while True:
        data, source = await socket.recvfrom(2_000)
        say(received=data.decode(), source=source[0])


async def main(secret: bytes, method: str) -> None:
    socket = trio.socket.socket(trio.socket.AF_INET6, trio.socket.SOCK_DGRAM)
    socket.setsockopt(trio.socket.IPPROTO_IPV6, trio.socket.IPV6_V6ONLY, 0)
    await socket.bind(("::", 4_242))
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive, socket)
            if method:
                (gateway,) = [gateway for gateway in gateways.find() if not gateway.is_ipv6]
                clients = {
                    "pcp": PcpClient(gateway, secret),
                    "nat_pmp": NatPmpClient(gateway),
                    "igd": IgdClient(gateway, random.Random(1)),
                }
                client = clients[method]
                found = await client.probe()
                granted = await client.request(4_242, None, 600)
                assert isinstance(granted, Grant), (found, granted)
                say(mapped=[[method, *granted.external]], checked=str(await client.check(granted)))
                again = await client.request(4_242, granted.external, 600)
                say(renewed=isinstance(again, Grant) and again.external == granted.external)
                async for _ in signals:
                    break
                await client.release(granted)
                say(checked=str(await client.check(granted)))
            else:

                def deliver(mappings: tuple[PortMapping, ...]) -> None:
                    say(mapped=[[mapping.method, *mapping.external] for mapping in mappings])

                mapper = PortMapper(Wish(), lambda address: 4_242, deliver, secret, random.Random(1))
                nursery.start_soon(mapper.run)
                async for _ in signals:
                    break
            nursery.cancel_scope.cancel()


trio.run(main, sys.argv[1].encode().ljust(16), sys.argv[2] if len(sys.argv) > 2 else "")
