"""Port mapping against a real router's daemon: what it grants really lets packets in."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from home import HOST_V6, LAN_ROUTER, ROUTER, Home, MappingServer, run
from hosts import HostedDaemon

from demo.processes import Process, wait_for

pytestmark = [pytest.mark.root, pytest.mark.needs("ip", "nft", "miniupnpd"), pytest.mark.timeout(60)]

SCRIPT = Path(__file__).parent / "map_port.py"
SEND = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
socket.socket(family, socket.SOCK_DGRAM).sendto(sys.argv[3].encode(), (sys.argv[1], int(sys.argv[2])))
"""


class Lodger(Process):
    """``map_port.py`` in a host at home."""

    def __init__(self, home: Home, directory: Path) -> None:
        super().__init__("lodger", directory / "lodger.log")
        self._home = home

    def start(self, secret: str = "secret", method: str = "") -> None:
        root = str(SCRIPT.parents[2])
        self.launch(
            *self._home.inside(self._home.host),
            sys.executable,
            str(SCRIPT),
            secret,
            *([method] if method else []),
            environment={"PYTHONPATH": root},
        )

    def said(self, key: str) -> list[Any]:
        lines = [line for line in self.log().splitlines() if line.startswith("{")]
        return [said[key] for line in lines if key in (said := json.loads(line))]

    def mapped(self) -> list[list[Any]]:
        """What it last said to be mapped: method, address, port."""
        return self.said("mapped")[-1] if self.said("mapped") else []


@pytest.fixture
def home() -> Iterator[Home]:
    with Home() as home:
        yield home


@pytest.fixture
def server(home: Home, tmp_path: Path) -> Iterator[MappingServer]:
    server = MappingServer(home, tmp_path)
    yield server
    server.kill()


@pytest.fixture
def lodger(home: Home, tmp_path: Path) -> Iterator[Lodger]:
    lodger = Lodger(home, tmp_path)
    yield lodger
    lodger.kill()


def send_in(home: Home, address: str, port: int, text: str) -> None:
    """One datagram from the internet."""
    run(*home.inside(home.internet), sys.executable, "-c", SEND, address, str(port), text)


def rules_of(home: Home) -> str:
    """What the router's daemon has opened."""
    listed = run(*home.inside(home.router), "nft", "list", "ruleset")
    return "\n".join(line for line in listed.splitlines() if "dnat" in line or "accept" in line)


@pytest.mark.parametrize("method", ["pcp", "nat_pmp", "igd"])
def test_each_protocol_lets_a_packet_in_until_it_is_taken_back(
    home: Home, server: MappingServer, lodger: Lodger, method: str
) -> None:
    server.start()
    lodger.start(method=method)
    wait_for(lambda: lodger.said("renewed"), "it is mapped, checked and renewed")
    assert lodger.said("renewed") == [True]
    ((named, address, port),) = lodger.mapped()
    assert (named, address) == (method, ROUTER)
    assert "is_lost=False" in lodger.said("checked")[0]
    send_in(home, address, port, "come in")
    wait_for(lambda: "come in" in lodger.said("received"), "the packet has come in")
    lodger.stop()
    if method == "igd":
        assert "is_lost=True" in lodger.said("checked")[-1]
    assert "4242" not in rules_of(home)


def test_the_mapper_prefers_pcp_opens_ipv6_too_and_takes_all_back(
    home: Home, server: MappingServer, lodger: Lodger
) -> None:
    server.start()
    lodger.start()
    wait_for(lambda: lodger.mapped() == [["pcp", ROUTER, 4_242], ["pcp", HOST_V6, 4_242]], "mapped by PCP, twice")
    for address in (ROUTER, HOST_V6):
        send_in(home, address, 4_242, f"to {address}")
        wait_for(lambda: f"to {address}" in lodger.said("received"), "the packet has come in")  # noqa: B023
    lodger.stop()
    assert "4242" not in rules_of(home)


def test_a_router_with_upnp_alone_will_do(home: Home, server: MappingServer, lodger: Lodger) -> None:
    server.start(enable_natpmp="no")
    lodger.start()
    wait_for(lambda: ["igd", ROUTER, 4_242] in lodger.mapped(), "mapped by UPnP")
    send_in(home, ROUTER, 4_242, "over UPnP")
    wait_for(lambda: "over UPnP" in lodger.said("received"), "the packet has come in")


def test_a_killed_daemon_gets_its_mapping_back_at_once(
    home: Home, server: MappingServer, lodger: Lodger, tmp_path: Path
) -> None:
    server.start(enable_upnp="no")
    lodger.start()
    wait_for(lambda: ["pcp", ROUTER, 4_242] in lodger.mapped(), "mapped")
    lodger.kill()
    before = len(lodger.said("mapped"))
    lodger.start()
    wait_for(lambda: len(lodger.said("mapped")) > before and ["pcp", ROUTER, 4_242] in lodger.mapped(), "mapped again")


def test_a_restarted_router_is_asked_again_as_soon_as_it_says_so(
    home: Home, server: MappingServer, lodger: Lodger
) -> None:
    server.start()
    lodger.start()
    wait_for(lambda: ["pcp", ROUTER, 4_242] in lodger.mapped(), "mapped")
    server.stop()
    home.translate("port_restricted")  # all rules are gone, as after a power cut
    server.start()

    def came_in() -> bool:
        send_in(home, ROUTER, 4_242, "after the restart")
        return "after the restart" in lodger.said("received")

    wait_for(came_in, "the hole is there again", interval=0.2)


def test_behind_a_second_router_nothing_is_advertised_and_it_is_said(
    home: Home, server: MappingServer, tmp_path: Path
) -> None:
    for change in ("del", f"{ROUTER}/24"), ("add", "10.20.30.40/24"):
        run("ip", "-n", home.router, "addr", change[0], change[1], "dev", "wan")
    server.start()
    daemon = HostedDaemon(tmp_path, "m", "[push]\nservices = []\n")
    daemon.namespace = home.host
    try:
        daemon.start()
        routers = daemon.call("net.check")["port_mapping"]
        (ours,) = [router for router in routers if router["gateway"] == LAN_ROUTER]
        assert ours["external"] is None
        assert "double NAT" in ours["says"]
        daemon.stop()
    finally:
        daemon.kill()
