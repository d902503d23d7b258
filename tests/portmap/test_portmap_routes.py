"""Routing tables as the kernel prints them, and anything else."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.portmap.machine import RouterReport
from meshd.portmap.routes import MAX_GATEWAYS, Route, default_routes_v4, default_routes_v6
from meshd.portmap.values import Gateway
from meshd.portmap.words import describe

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
V6_NOWHERE = "0" * 32


def v4(gateway: str, interface: str = "eth0", metric: int = 0, flags: int = 3, destination: str = "00000000") -> str:
    number = int.from_bytes(bytes(map(int, gateway.split("."))), sys.byteorder)
    return f"{interface}\t{destination}\t{number:08X}\t{flags:04X}\t0\t0\t{metric}\t00000000\t0\t0\t0\n"


def v6(gateway: str, interface: str = "eth0", metric: int = 1_024, flags: int = 3, prefix: str = "00") -> str:
    return (
        f"{V6_NOWHERE} {prefix} {V6_NOWHERE} 00 {gateway} {metric:08x} 00000001 00000000 {flags:08x} {interface:>8}\n"
    )


def test_default_routes_best_first() -> None:
    lan = "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    table = HEAD + v4("10.0.0.1", "wlan0", 600) + lan + v4("192.168.1.1", metric=100) + v4("192.168.1.1", metric=200)
    assert default_routes_v4(table) == [Route("192.168.1.1", "eth0", 100), Route("10.0.0.1", "wlan0", 600)]
    router = "fe80000000000000" + "0000000000000001"
    assert default_routes_v6(v6(router, prefix="40") + v6(router)) == [Route("fe80::1", "eth0", 1_024)]


@pytest.mark.parametrize(
    "line",
    [
        v4("10.0.0.1", flags=1),  # a tunnel: no gateway
        v4("10.0.0.1", flags=2),  # down
        v4("10.0.0.1", flags=0x203),  # unreachable
        v4("10.0.0.1", destination="0000000A"),
        "eth0 00000000\n",
        "eth0\t00000000\tXYZ\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
        "eth0\t00000000\t1FFFFFFFF\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
        "\n",
    ],
)
def test_lines_that_lead_nowhere(line: str) -> None:
    assert default_routes_v4(HEAD + line) == []
    assert default_routes_v6(line) == []


def test_many_routers_are_cut() -> None:
    assert len(default_routes_v4(HEAD + "".join(v4(f"10.0.0.{n}") for n in range(1, 99)))) == MAX_GATEWAYS


@given(st.text("0123456789ABCDEFabcdef \t\neth.:-", max_size=300))
def test_any_text_is_a_table(text: str) -> None:
    for table in (text, HEAD + text, HEAD + v4("10.0.0.1") + text, v6("f" * 32) + text):
        for route in (*default_routes_v4(table), *default_routes_v6(table)):
            assert route.gateway


def report(**answers: str) -> RouterReport:
    return RouterReport(Gateway("192.168.1.1", "192.168.1.2"), None, None, None, answers, bool(answers))


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({}, "is still being asked"),
        ({"pcp": "silent", "nat_pmp": "silent", "igd": "silent"}, "does not answer PCP, NAT-PMP or UPnP"),
        (
            {"pcp": "silent", "nat_pmp": "not_authorized", "igd": "silent"},
            "speaks NAT-PMP, but does not let UDP in: it is",
        ),
        ({"pcp": "no_resources", "nat_pmp": "network_failure", "igd": "no_external_address"}, "double NAT"),
        ({"pcp": "excessive_remote_peers"}, "excessive remote peers."),
    ],
)
def test_what_is_wrong_is_one_sentence(answers: dict[str, str], words: str) -> None:
    said = describe(report(**answers))
    assert words in said
    assert said.endswith(".")
