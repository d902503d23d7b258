"""`meshctl netcheck` of a real daemon, behind NATs of every kind, against coturn with two addresses (RFC 5780)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from home import HOST, OTHER_SERVER, ROUTER, SERVER, SERVER_V6, Home, MappingServer, run
from hosts import HostedDaemon

from demo.processes import Process, wait_for

pytestmark = [pytest.mark.root, pytest.mark.needs("ip", "nft", "turnserver"), pytest.mark.timeout(120)]

PORT = 3_478
BOTH = (f"{SERVER}:{PORT}",)


class StunServer(Process):
    """coturn in the internet, for STUN alone."""

    def __init__(self, home: Home, directory: Path) -> None:
        super().__init__("turnserver", directory / "turnserver.log")
        self._home, self._directory = home, directory

    def start(self, *addresses: str) -> None:
        listening = [f"--listening-ip={address}" for address in addresses]
        self.launch(
            *self._home.inside(self._home.internet),
            *("turnserver", "-n", *listening, f"--listening-port={PORT}", "--alt-listening-port=3479", "--stun-only"),
            *("--no-tls", "--no-dtls", "--no-cli", "--log-file=stdout", "--no-tcp", "--relay-threads=1"),
            *(f"--pidfile={self._directory}/turnserver.pid", f"--userdb={self._directory}/turndb"),
        )
        wait_for(lambda: all(f"{address}:{PORT}" in self._sockets() for address in addresses), "coturn listens")

    def _sockets(self) -> str:
        return run(*self._home.inside(self._home.internet), "ss", "-Hlun").replace("[", "").replace("]", "")


class Place:
    """A home, a server in the internet, and a daemon at home that belongs to no mesh."""

    def __init__(self, home: Home, directory: Path) -> None:
        self.home, self.directory = home, directory
        self.stun = StunServer(home, directory)
        config = '[push]\nservices = []\n[log]\nlevel = "debug"\nformat = "json"\n'
        self.daemon = HostedDaemon(directory, "lodger", config)
        self.daemon.namespace = home.host

    def netcheck(self, *servers: str) -> dict[str, Any]:
        """What ``meshctl netcheck --json`` says."""
        words = [word for server in servers for word in ("--server", server)]
        found: dict[str, Any] = json.loads(self.daemon.meshctl("netcheck", "--json", "--timeout", "1s", *words).stdout)
        return found


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with Home() as home, tempfile.TemporaryDirectory(prefix="meshd-") as directory:
        place = Place(home, Path(directory))
        try:
            place.stun.start(SERVER, OTHER_SERVER, SERVER_V6)
            place.daemon.start()
            yield place
        finally:
            place.daemon.kill()
            place.stun.kill()


EI, AD, APD = "endpoint_independent", "address_dependent", "address_and_port_dependent"


@pytest.mark.parametrize(
    ("nat", "udp", "mapping", "filtering", "verdict"),
    [
        ("endpoint_independent", "open", EI, EI, "direct"),
        ("hairpinning", "open", EI, EI, "direct"),
        ("address_restricted", "open", EI, AD, "direct"),
        ("port_restricted", "open", EI, APD, "direct"),
        ("symmetric", "open", APD, APD, "through_others"),
        ("none", "open", "none", "none", "direct"),
        ("no_udp", "silent", "unknown", "unknown", "through_others"),
    ],
)
def test_each_kind_of_nat_is_told_by_its_name(
    place: Place, nat: str, udp: str, mapping: str, filtering: str, verdict: str
) -> None:
    place.home.translate(nat)
    found = place.netcheck(*BOTH)
    ipv4 = found["ipv4"]
    assert (ipv4["udp"], ipv4["mapping"], ipv4["filtering"]) == (udp, mapping, filtering)
    assert found["verdict"] == verdict
    assert ipv4["local"] == HOST
    assert ipv4["hairpin"] == {"none": None, "no_udp": None, "hairpinning": True}.get(nat, False)
    (server,) = found["servers"]
    if udp == "open":
        assert ipv4["external"].startswith(f"{HOST if nat == 'none' else ROUTER}:")
        assert server["two_addresses"]
        assert 0 < server["rtt"] < 1
        assert found["unknown"] == []
    else:
        assert server["error"] == "silent"
    assert "does not answer PCP" in " ".join(router["says"] for router in found["port_mapping"])


def test_ipv6_is_asked_too_and_said_first(place: Place) -> None:
    place.home.translate("symmetric")
    found = place.netcheck(*BOTH, f"[{SERVER_V6}]:{PORT}")
    assert found["ipv6"]["udp"] == "open"
    assert found["ipv6"]["mapping"] == "none"
    assert found["verdict"] == "direct"
    assert "IPv6" in found["expectation"]


def test_one_plain_server_cannot_tell_and_a_silent_one_is_named(place: Place) -> None:
    place.home.translate("port_restricted")
    found = place.netcheck(f"{OTHER_SERVER}:3481")
    assert found["servers"][0]["error"] == "silent"
    found = place.netcheck()
    assert found["servers"] == []
    assert found["verdict"] == "probably_direct", "it has a public IPv6 address"
    assert "--server" in found["unknown"][0]
    shown = place.daemon.meshctl("netcheck", "--server", f"{SERVER}:{PORT}").stdout
    assert "endpoint-independent: one port outside for all peers" in shown


@pytest.mark.needs("miniupnpd")
def test_a_router_that_maps_ports_changes_what_to_expect(place: Place, tmp_path: Path) -> None:
    place.home.translate("symmetric")
    server = MappingServer(place.home, tmp_path)
    server.start()
    try:
        place.daemon.stop()
        place.daemon.start()
        found = place.netcheck(*BOTH)
        says = " ".join(router["says"] for router in found["port_mapping"])
        assert f"lets UDP in at {ROUTER}:" in says
        assert found["verdict"] == "direct"
        assert found["ipv4"]["mapping"] == APD, "the router gives other sockets other ports as before"
        logged = [json.loads(line) for line in place.daemon.log().splitlines() if '"port_mapping"' in line]
        assert any(line["external"] and line["external"][0].startswith(ROUTER) for line in logged)
        place.daemon.stop()
    finally:
        server.kill()
