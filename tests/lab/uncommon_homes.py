"""The two homes with what fewer people have: IPv6, two machines on one LAN, blocked UDP, ports forwarded by hand."""

from __future__ import annotations

import datetime
import ipaddress
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from home import HOST, LAN_ROUTER, run
from two_homes import TURN, LabHome, TwoHomes

from demo.processes import Daemon, wait_for

NEIGHBOR = "192.168.77.3"
MEMBER_V6 = "2a0e:7::20"
FORWARDED_PORT = 7_000
LINKED_WITHIN = 40.0  # seconds from the start of a daemon


@dataclass
class Network:
    """What the next pair of homes is like. ``links`` are lines of ``[links]``, by the daemon's name.

    ``prepare`` is called when the routers are up and the daemons are not.
    """

    kinds: tuple[str, str] = ("port_restricted", "port_restricted")
    links: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[UncommonHomes], None] = lambda lab: None
    is_linked: bool = True  # whether both reach the third member


class UncommonHomes(TwoHomes):
    """``settle("mesh STUN")`` once; then ``network`` may change from pair to pair."""

    network = Network()

    def rebuild(self, column: str, kind_a: str, kind_b: str) -> tuple[Daemon, Daemon]:
        """Begin anew in ``network``."""
        a, b = daemons = self.daemons["a"], self.daemons["b"]
        for daemon in daemons:
            daemon.kill()
        for name, kind in (("a", kind_a), ("b", kind_b)):
            self.homes[name].become(kind)
            self.daemons[name].namespace = self.homes[name].host  # type: ignore[attr-defined]
            lines = self.network.links.get(name, "")
            self.daemons[name].config_file.write_text(self._config_with(lines, name, column))
        for home in self.homes.values():
            for device in ("docker0", "container"):
                subprocess.run(["ip", "-n", home.host, "link", "del", device], check=False, capture_output=True)
        self.network.prepare(self)
        for daemon in daemons:
            daemon.begin()
        for daemon in daemons:
            daemon.wait_until_ready()
        for daemon in daemons if self.network.is_linked else ():
            what = f"{daemon.name} is linked to the member"
            wait_for(lambda daemon=daemon: "member" in daemon.linked(), what, LINKED_WITHIN)
        return a, b

    def _config_with(self, lines: str, name: str, column: str) -> str:
        return self.links_config(name, column).replace("[links]\n", f"[links]\n{lines}", 1)

    def restart_member(self, lines: str = "") -> None:
        """The third member begins anew with these lines of ``[links]``."""
        member = self.daemons["member"]
        member.kill()
        member.config_file.write_text(self._config_with(lines, "member", "mesh STUN"))
        member.begin()
        member.wait_until_ready()

    # -- what may be prepared -----------------------------------------------------------------------------------------

    def use_ipv6(self) -> None:
        """An address of IPv6 for everybody; the routers let in what belongs to what went out."""
        for namespace, address in ((self.push_host, "2a0e:7::10"), (self.member_host, MEMBER_V6)):
            _address(namespace, f"{address}/64", "eth0")
            for number in (1, 2):
                _route(namespace, f"2a0e:77:{number}::/64", f"2a0e:7::{number}")
        for home in (self.homes["a"], self.homes["b"]):
            _address(home.router, f"2a0e:7::{home.number}/64", "wan")
            _address(home.router, f"2a0e:77:{home.number}::1/64", "lan")
            _address(home.host, f"2a0e:77:{home.number}::2/64", "eth0")
            run(*home.inside(home.router), "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
            _route(home.host, "default", f"2a0e:77:{home.number}::1")
            _route(home.router, f"2a0e:77:{3 - home.number}::/64", f"2a0e:7::{3 - home.number}")

    def block_udp(self, name: str) -> None:
        """That home's router lets no UDP out."""
        self.homes[name].translate("no_udp")

    def forward(self, name: str) -> None:
        """Somebody has told that home's router to let UDP in at one port."""
        home = self.homes[name]
        nft = (*home.inside(home.router), "nft")
        to = ("iifname", "wan", "udp", "dport", str(FORWARDED_PORT), "dnat", "ip", "to", f"{HOST}:{FORWARDED_PORT}")
        run(*nft, "insert", "rule", "inet", "nat", "prerouting", *to)
        run(*nft, "insert", "rule", "inet", "filter", "forward", "ct", "status", "dnat", "accept")

    def forget_udp_after(self, seconds: int) -> None:
        """Both routers forget sooner what has gone out."""
        for home in (self.homes["a"], self.homes["b"]):
            run(*home.inside(home.router), "sysctl", "-qw", f"net.netfilter.nf_conntrack_udp_timeout={seconds}")

    def move_in(self) -> None:
        """``b`` moves to the LAN of ``a``."""
        home = self.homes["a"]
        if "neighbor" not in self.homes:
            self.homes["neighbor"] = _Neighbor(home)
            self.homes["neighbor"].__enter__()
        self.daemons["b"].namespace = self.homes["neighbor"].host  # type: ignore[attr-defined]

    def add_interfaces(self) -> None:
        """Both machines have a second address, and a bridge for containers with one that is the same on both."""
        for name in ("a", "b"):
            host: str = self.daemons[name].namespace  # type: ignore[attr-defined]
            _address(host, "192.168.77.9/24" if name == "a" else "192.168.77.10/24", "eth0")
            run("ip", "-n", host, "link", "add", "docker0", "type", "bridge")
            run("ip", "-n", host, "link", "add", "container", "type", "veth", "peer", "name", "inside")
            run("ip", "-n", host, "link", "set", "container", "master", "docker0", "up")
            run("ip", "-n", host, "link", "set", "docker0", "up")
            _address(host, "172.17.0.1/16", "docker0")

    # -- TURN over TLS ------------------------------------------------------------------------------------------------

    def make_certificate(self) -> tuple[Path, Path, Path]:
        """Files of a private authority, and of coturn's certificate and key."""
        now = datetime.datetime.now(datetime.UTC)
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
        authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the lab's authority")])
        names = (authority, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, TURN)]))
        files = [self.directory / name for name in ("ca.pem", "turn.pem")]
        for key, name, file in zip(keys, names, files, strict=True):
            made = (
                x509.CertificateBuilder(issuer_name=authority, subject_name=name, public_key=key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(days=1))
                .not_valid_after(now + datetime.timedelta(days=1))
                .add_extension(x509.BasicConstraints(ca=name is authority, path_length=None), critical=True)
                .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(TURN))]), False)
            )
            file.write_bytes(made.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        key_file = self.directory / "turn.key"
        plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        key_file.write_bytes(keys[1].private_bytes(serialization.Encoding.PEM, *plain))
        return files[0], files[1], key_file


class _Neighbor(LabHome):
    """A second machine on the LAN of a home; gone with the context."""

    def __init__(self, home: LabHome) -> None:
        super().__init__(3, home.internet)
        self._home = home

    def __enter__(self) -> LabHome:
        self.host, self.router = self._namespace("neighbor"), self._home.router
        addresses = run("ip", "-n", self.router, "-o", "addr", "show", "dev", "lan", "scope", "global").splitlines()
        run("ip", "-n", self.router, "link", "set", "lan", "down", "name", "lan1")
        run("ip", "-n", self.router, "addr", "flush", "dev", "lan1")
        run("ip", "-n", self.router, "link", "add", "lan", "type", "bridge")
        run("ip", "-n", self.router, "link", "set", "lan1", "master", "lan", "up")
        run("ip", "-n", self.router, "link", "set", "lan", "up")
        for line in addresses:
            _address(self.router, line.split()[3], "lan")
        self._plug()
        return self

    def _plug(self) -> None:
        port = ("type", "veth", "peer", "name", "lan2", "netns", self.router)
        run("ip", "link", "add", "eth0", "netns", self.host, *port)
        run("ip", "-n", self.router, "link", "set", "lan2", "master", "lan", "up")
        run("ip", "-n", self.host, "addr", "add", f"{NEIGHBOR}/24", "dev", "eth0")
        run("ip", "-n", self.host, "link", "set", "eth0", "up")
        run("ip", "-n", self.host, "route", "replace", "default", "via", LAN_ROUTER)


def _address(namespace: str, address: str, device: str) -> None:
    plain = ["nodad"] if ":" in address else []
    run("ip", "-n", namespace, "addr", "replace", address, "dev", device, *plain)


def _route(namespace: str, destination: str, via: str) -> None:
    run("ip", "-n", namespace, "-6", "route", "replace", destination, "via", via)
