"""A home behind a router, and an internet with a server in it: three network namespaces that reach nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType

from demo.processes import Process, wait_for

# Addresses that nobody's laboratory may have, since routers refuse those: they are public in the real world, too.
OUTSIDE = "11.0.7"
ROUTER, SERVER, OTHER_SERVER = f"{OUTSIDE}.1", f"{OUTSIDE}.10", f"{OUTSIDE}.11"
INSIDE = "192.168.77"
LAN_ROUTER, HOST = f"{INSIDE}.1", f"{INSIDE}.2"
INSIDE_V6, OUTSIDE_V6 = "2a0e:77", "2a0e:7"
HOST_V6, SERVER_V6 = f"{INSIDE_V6}::2", f"{OUTSIDE_V6}::10"

_FORWARD = """
table inet filter {
  chain forward { type filter hook forward priority 0; policy drop;
    ct state established,related accept; iifname lan accept; meta l4proto ipv6-icmp accept; jump miniupnpd; FORWARD }
  chain input { type filter hook input priority 0; INPUT }
  chain miniupnpd { }
}
table inet nat {
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; PREROUTING }
  chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; POSTROUTING }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}
"""
_DROP = "iifname wan meta l4proto udp drop;"  # else a packet that no mapping fits would be seen, and answered by ICMP
_MASQUERADE = "oifname wan meta nfproto ipv4 masquerade;"
_INWARD = "iifname wan meta nfproto ipv4 udp dport 1024-65535"

# RFC 4787's kinds as nftables makes them: forward, input, prerouting, postrouting
NATS: dict[str, tuple[str, str, str, str]] = {
    "none": ("accept;", "", "", ""),
    "endpoint_independent": (f"{_INWARD} accept;", _DROP, f"{_INWARD} dnat ip to {HOST};", _MASQUERADE),
    "hairpinning": (
        f"{_INWARD} accept;",
        _DROP,
        f"{_INWARD} dnat ip to {HOST}; iifname lan ip daddr {ROUTER} udp dport 1024-65535 dnat ip to {HOST};",
        f"{_MASQUERADE} oifname lan ip saddr {HOST} ip daddr {HOST} masquerade;",
    ),
    "address_restricted": (
        "ct status dnat accept;",
        _DROP,
        f"{_INWARD} ip saddr @seen dnat ip to {HOST};",
        _MASQUERADE,
    ),
    "port_restricted": ("", _DROP, "", _MASQUERADE),
    "symmetric": ("", _DROP, "", _MASQUERADE.replace("masquerade", "masquerade fully-random")),
    "no_udp": ("", _DROP, "", _MASQUERADE),
}
_SEEN = """
  set seen { type ipv4_addr; flags dynamic,timeout; timeout 60s; }
  chain note { type filter hook forward priority -1; iifname lan meta l4proto udp update @seen { ip daddr }; }
"""


def run(*words: str, text: str | None = None) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, input=text).stdout


class Home:
    """Gone with the context. ``host`` is at home, ``router`` between, ``internet`` is the server."""

    def __init__(self, nat: str = "port_restricted") -> None:
        self._nat = nat
        self._prefix = f"mh{os.getpid()}"
        self._names: list[str] = []

    def __enter__(self) -> Home:
        self.host, self.router, self.internet = (self._namespace(name) for name in ("host", "router", "internet"))
        self._wire("lan", self.host)
        self._wire("wan", self.internet)
        for namespace, device, *addresses in (
            (self.router, "wan", f"{ROUTER}/24", f"{OUTSIDE_V6}::1/64"),
            (self.router, "lan", f"{LAN_ROUTER}/24", f"{INSIDE_V6}::1/64"),
            (self.host, "eth0", f"{HOST}/24", f"{HOST_V6}/64"),
            (self.internet, "eth0", f"{SERVER}/24", f"{OTHER_SERVER}/24", f"{SERVER_V6}/64"),
        ):
            for address in addresses:
                nodad = ["nodad"] if ":" in address else []
                run("ip", "-n", namespace, "addr", "add", address, "dev", device, *nodad)
            run("ip", "-n", namespace, "link", "set", device, "up")
        for namespace, way, way_v6 in (
            (self.host, LAN_ROUTER, f"{INSIDE_V6}::1"),
            (self.internet, ROUTER, f"{OUTSIDE_V6}::1"),  # only replies to what is not translated need it
        ):
            run("ip", "-n", namespace, "route", "add", "default", "via", way)
            run("ip", "-n", namespace, "-6", "route", "add", "default", "via", way_v6)
        for setting in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            run(*self.inside(self.router), "sysctl", "-qw", f"{setting}=1")
        self.translate(self._nat)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    @staticmethod
    def inside(namespace: str) -> tuple[str, ...]:
        """What to put before a command to run it there."""
        return ("ip", "netns", "exec", namespace)

    def translate(self, nat: str) -> None:
        """Make the router another kind of NAT."""
        forward, drop, inward, outward = NATS[nat]
        text = _FORWARD.replace("FORWARD", forward).replace("INPUT", drop)
        text = text.replace("PREROUTING", inward).replace("POSTROUTING", outward)
        if nat == "address_restricted":
            text = text.replace("table inet nat {", "table inet nat {" + _SEEN)
        if nat == "no_udp":
            text = text.replace("iifname lan accept;", "meta l4proto udp drop; iifname lan accept;")
        run(*self.inside(self.router), "nft", "-f", "-", text="flush ruleset\n" + text)

    def _namespace(self, name: str) -> str:
        full = f"{self._prefix}-{name}"
        run("ip", "netns", "add", full)
        self._names.append(full)
        run("ip", "-n", full, "link", "set", "lo", "up")
        return full

    def _wire(self, port: str, namespace: str) -> None:
        """Join a port of the router with ``eth0`` there."""
        run(
            *("ip", "link", "add", port, "netns", self.router),
            *("type", "veth", "peer", "name", "eth0", "netns", namespace),
        )


class MappingServer(Process):
    """Debian's miniupnpd on the router: IGD, NAT-PMP and PCP."""

    def __init__(self, home: Home, directory: Path) -> None:
        super().__init__("miniupnpd", directory / "miniupnpd.log")
        self._home, self._directory = home, directory

    def start(self, **options: str) -> None:
        settings = {
            "ext_ifname": "wan",
            "listening_ip": "lan",
            "enable_natpmp": "yes",
            "enable_upnp": "yes",
            "secure_mode": "yes",
            "system_uptime": "no",
            "upnp_table_name": "filter",
            "upnp_nat_table_name": "nat",
            "upnp_forward_chain": "miniupnpd",
            "upnp_nat_chain": "prerouting_miniupnpd",
            "upnp_nat_postrouting_chain": "postrouting_miniupnpd",
            "uuid": "00000000-0000-0000-0000-000000000001",
            **options,
        }
        rules = [f"allow 1024-65535 {INSIDE}.0/24 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535"]
        file = self._directory / "miniupnpd.conf"
        file.write_text("\n".join([*(f"{name}={value}" for name, value in settings.items()), *rules, ""]))
        before = len(self.log())
        pid = str(self._directory / "miniupnpd.pid")
        self.launch(*self._home.inside(self._home.router), "miniupnpd", "-d", "-f", str(file), "-P", pid)
        wait_for(lambda: "listening " in self.log()[before:].lower(), "miniupnpd listens")
