"""Whom a network check asks, and what it gives: with a STUN server on loopback, and no router."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio

from meshd.config import LinksConfig
from meshd.control.methods import METHODS
from meshd.control.parameters import problem_in
from meshd.daemon.network_check import NetworkCheck
from meshd.daemon.presentation import fields_to_json
from meshd.errors import Code, ControlError
from meshd.portmap.port_mapper import PortMapper
from meshd.wire.stun_responder import StunResponder

LOOPBACK = LinksConfig(allow_loopback=True, addresses=("127.0.0.1",), port_mapping=False)


@asynccontextmanager
async def stun_server() -> AsyncIterator[str]:
    """``host:port`` of one that answers as members do."""
    responder = StunResponder(Counter())
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))

        async def serve() -> None:
            while True:
                data, source = await socket.recvfrom(2_000)
                if (answer := responder.answer(data, source, trio.current_time())) is not None:
                    await socket.sendto(answer, source)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield f"127.0.0.1:{socket.getsockname()[1]}"
            nursery.cancel_scope.cancel()


def checker(config: LinksConfig, *mesh: str) -> NetworkCheck:
    mapper = PortMapper(config, lambda address: 0, lambda mappings: None, bytes(32), random.Random(1))
    check = NetworkCheck(config, mapper)
    check.mesh_servers = mesh
    return check


async def run(check: NetworkCheck, *servers: str) -> dict[str, Any]:
    result = await check.run({"servers": list(servers) or None, "timeout": 0.3})
    result = fields_to_json(METHODS["net.check"].result, result)
    assert problem_in(METHODS["net.check"].result, result) == ""
    return result


@pytest.mark.parametrize(
    ("ice", "sources"),
    [
        ("none", ["asked"]),
        ("mesh", ["asked", "mesh"]),
        ("stun", ["asked", "configured", "mesh"]),
        ("turn", ["asked", "configured", "mesh"]),
        ("relay_only", ["asked"]),
    ],
)
async def test_only_those_are_asked_whom_the_configuration_lets_links_ask(ice: str, sources: list[str]) -> None:
    async with stun_server() as asked, stun_server() as configured, stun_server() as mesh:
        config = replace(LOOPBACK, ice=ice, stun_servers=(f"stun:{configured}",))
        found = await run(checker(config, mesh, asked), asked)
    assert [server["source"] for server in found["servers"]] == sources
    assert all(server["error"] is None and server["external"] for server in found["servers"])
    assert found["ipv4"]["mapping"] == "none"
    assert any("stun_servers" in note for note in found["unknown"]) == (ice not in ("stun", "turn"))


async def test_without_anybody_to_ask_it_says_so_at_once() -> None:
    with trio.fail_after(2):
        found = await run(checker(LOOPBACK))
    assert found["servers"] == found["port_mapping"] == []
    assert found["ipv6"]["udp"] == "no_address"
    assert "--server" in found["unknown"][0]
    assert "Routers were not asked" in found["unknown"][-1]


@pytest.mark.parametrize("server", ["", "a b:1", "host:0", "turn:host:1", "http://host/"])
async def test_what_is_no_server_is_refused(server: str) -> None:
    with pytest.raises(ControlError) as refusal:
        await run(checker(LOOPBACK), server)
    assert refusal.value.code is Code.INVALID_PARAMS


async def test_one_check_at_a_time() -> None:
    check = checker(LOOPBACK)
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as silent:
        await silent.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, check, server)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(ControlError) as refusal:
                await run(check, server)
            assert refusal.value.code is Code.BUSY
    await run(check)


async def test_a_port_forwarded_by_hand_is_as_good_as_a_mapping() -> None:
    result = await run(checker(replace(LOOPBACK, port=7_000, announce=("45.0.0.7:7000",))))
    assert result["verdict"] == "direct"
    assert (await run(checker(LOOPBACK)))["verdict"] == "unknown"
