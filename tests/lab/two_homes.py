"""Two homes behind routers of any kind, and an internet between them with a push service, a member and coturn."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType

from home import HOST, LAN_ROUTER, NATS, Home, MappingServer, run

from demo.processes import Daemon, Mesh, Process, PushService, program, wait_for

# Public in the real world, so that nothing must be told that this is a laboratory; no packet leaves the namespaces.
INTERNET = "11.0.7"
PUSH, TURN, MEMBER = f"{INTERNET}.10", f"{INTERNET}.11", f"{INTERNET}.20"
STUN_PORT = 3478
PUSH_PORT = 8085
TURN_USER, TURN_PASSWORD = "lab", "not-a-secret"

KINDS = ("none", "endpoint_independent", "address_restricted", "port_restricted", "symmetric")
COLUMNS = ("no STUN", "mesh STUN", "port mapping", "TURN")


class LabHome(Home):
    """One of several homes on one internet. With ``none`` its host has a public address, otherwise always the same."""

    def __init__(self, number: int, internet: str) -> None:
        super().__init__("none")
        self._prefix += f"-{number}"
        self.number, self.internet = number, internet
        self.outside = f"{INTERNET}.{number}"
        self.public = f"11.1.{number}"

    def __enter__(self) -> LabHome:
        self.host, self.router = self._namespace("host"), self._namespace("router")
        self._wire("lan", self.host)
        plug(self.internet, f"home{self.number}", self.router, "wan", f"{self.outside}/24")
        for address in (f"{LAN_ROUTER}/24", f"{self.public}.1/24"):
            run("ip", "-n", self.router, "addr", "add", address, "dev", "lan")
        run("ip", "-n", self.router, "link", "set", "lan", "up")
        for other in (1, 2):
            if other != self.number:
                run("ip", "-n", self.router, "route", "add", f"11.1.{other}.0/24", "via", f"{INTERNET}.{other}")
        run(*self.inside(self.router), "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.become("none")
        return self

    def become(self, nat: str) -> None:
        """Another kind of router from now on; what it remembers of old flows is of no use to new ports."""
        self.translate(nat)
        address, way = (f"{self.public}.2", f"{self.public}.1") if nat == "none" else (HOST, LAN_ROUTER)
        run("ip", "-n", self.host, "addr", "flush", "dev", "eth0", "scope", "global")
        run("ip", "-n", self.host, "addr", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", self.host, "link", "set", "eth0", "up")
        run("ip", "-n", self.host, "route", "replace", "default", "via", way)


def plug(switch: str, name: str, namespace: str, device: str, *addresses: str) -> None:
    """Join a namespace to the bridge in ``switch``."""
    port = ("type", "veth", "peer", "name", f"to-{name}", "netns", switch)
    run("ip", "link", "add", device, "netns", namespace, *port)
    run("ip", "-n", switch, "link", "set", f"to-{name}", "master", "br0", "up")
    for address in addresses:
        run("ip", "-n", namespace, "addr", "add", address, "dev", device)
    run("ip", "-n", namespace, "link", "set", device, "up")


class LabPush(PushService):
    """The embedded push service in the internet."""

    def __init__(self, directory: Path, namespace: str) -> None:
        super().__init__(directory)
        self._namespace = namespace
        self.stun = "off"

    @property
    def origin(self) -> str:
        return f"http://{PUSH}:{PUSH_PORT}"

    @property
    def url(self) -> str:
        return f"ws://{PUSH}:{PUSH_PORT}/"

    def start(self) -> None:
        began = len(self.log())
        listen = f"{PUSH}:{PUSH_PORT}"
        stun = ["--stun", self.stun] if self.stun else []
        command = (program("meshd-push"), "--listen", listen, "--state", str(self._state), *stun)
        self.launch("ip", "netns", "exec", self._namespace, *command)
        wait_for(lambda: "meshd-push ready" in self.log()[began:], "the push service listens")


class Coturn(Process):
    """Debian's TURN server in the internet."""

    def __init__(self, directory: Path, namespace: str) -> None:
        super().__init__("coturn", directory / "coturn.log")
        self._directory, self._namespace = directory, namespace

    def start(self, *options: str) -> None:
        settings = [
            f"--listening-ip={TURN}",
            f"--relay-ip={TURN}",
            f"--listening-port={STUN_PORT}",
            "--lt-cred-mech",
            f"--user={TURN_USER}:{TURN_PASSWORD}",
            "--realm=lab.test",
            "--no-cli",
            "--fingerprint",
            "--log-file=stdout",
            f"--pidfile={self._directory / 'turn.pid'}",
            f"--userdb={self._directory / 'turn.db'}",
            *options,
        ]
        began = len(self.log())
        self.launch("ip", "netns", "exec", self._namespace, "turnserver", "-n", *settings)
        wait_for(lambda: "SQLite DB connection success" in self.log()[began:], "coturn has started")


class LabDaemon(Daemon):
    """A daemon in a namespace."""

    namespace = ""

    def begin(self) -> None:
        files = ("--config", str(self.config_file), "--state-dir", str(self.state), "--socket", str(self.socket))
        self.launch("ip", "netns", "exec", self.namespace, program("meshd"), *files)


class TwoHomes(Mesh):
    """``a`` and ``b`` are at home, ``member`` is in the internet. Gone with the context."""

    def __init__(self) -> None:
        super().__init__(log_level="info")
        self._prefix = f"ml{id(self) % 10_000}"
        self._namespaces = [f"{self._prefix}-{name}" for name in ("switch", "push", "member")]
        self.switch, self.push_host, self.member_host = self._namespaces
        self.homes: dict[str, LabHome] = {}
        self.mapping: dict[str, MappingServer] = {}
        self.credentials = self.directory / "turn"
        self.credentials.touch(mode=0o600)
        self.credentials.write_text(f"{TURN_USER}\n{TURN_PASSWORD}\n")
        self.push = LabPush(self.directory, self.push_host)
        self.coturn = Coturn(self.directory, self.push_host)

    def __enter__(self) -> TwoHomes:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for process in (*self.mapping.values(), self.coturn):
            process.kill()
        super().close()
        for home in self.homes.values():
            home.__exit__(None, None, None)
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)

    def _build(self) -> None:
        for namespace in self._namespaces:
            run("ip", "netns", "add", namespace)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.switch, "link", "set", "br0", "up")
        plug(self.switch, "push", self.push_host, "eth0", f"{PUSH}/24", f"{TURN}/24")
        plug(self.switch, "member", self.member_host, "eth0", f"{MEMBER}/24")
        for number, name in ((1, "a"), (2, "b")):
            self.homes[name] = LabHome(number, self.switch)
            self.homes[name].__enter__()
            for namespace in (self.push_host, self.member_host):
                run("ip", "-n", namespace, "route", "add", f"11.1.{number}.0/24", "via", f"{INTERNET}.{number}")
        # coturn gives an allocation up when a packet to a private address has nowhere to go
        run("ip", "-n", self.push_host, "route", "add", "default", "via", f"{INTERNET}.1")

    def settle(self, column: str) -> None:
        """Start what answers in that column, and found the mesh with both homes in it."""
        self.push.stun = "" if column == "mesh STUN" else "off"
        self.push.start()
        if column == "TURN":
            self.coturn.start()
        for name, namespace in (("member", self.member_host), *((n, h.host) for n, h in self.homes.items())):
            daemon = LabDaemon(self.directory, name, self.links_config(name, column))
            daemon.namespace = namespace
            self.daemons[name] = daemon
            daemon.begin()
        member, *others = self.daemons.values()
        for daemon in self.daemons.values():
            daemon.wait_until_ready()
        member.meshctl("found", "home", "--name", "member")
        for daemon in others:
            self.join(daemon, member)

    def links_config(self, name: str, column: str) -> str:
        """The configuration of a daemon in that column."""
        links = {
            "no STUN": 'ice = "none"\nport_mapping = false\n',
            "mesh STUN": "port_mapping = false\n",
            "port mapping": "",
            "TURN": f'ice = "turn"\nport_mapping = false\nturn_servers = ["turn:{TURN}:{STUN_PORT}"]\n'
            f'turn_credentials = "{self.credentials}"\n',
        }[column]
        if name == "member":
            links = "port_mapping = false\n" + ("" if column == "mesh STUN" else "stun_respond = false\n")
        text = self.config(name)
        before, after = text.split("[links]\n")
        rest = after.split("\n\n", 1)[1]
        return f"{before}[links]\n{links}\n{rest}"

    def rebuild(self, column: str, kind_a: str, kind_b: str) -> tuple[Daemon, Daemon]:
        """Other routers; both homes' daemons begin anew there, and are linked to the member in the end."""
        a, b = self.daemons["a"], self.daemons["b"]
        for server in self.mapping.values():
            server.kill()
        for daemon in (a, b):
            daemon.kill()
        for name, kind in (("a", kind_a), ("b", kind_b)):
            self.homes[name].become(kind)
        if column == "port mapping" and kind_a != "none":  # one willing router of the two
            directory = self.directory / "mapping"
            directory.mkdir(exist_ok=True)
            self.mapping["a"] = MappingServer(self.homes["a"], directory)
            self.mapping["a"].start()
        for daemon in (a, b):
            daemon.begin()
        for daemon in (a, b):
            daemon.wait_until_ready()
        for daemon in (a, b):
            wait_for(lambda daemon=daemon: "member" in daemon.linked(), f"{daemon.name} is linked to the member", 40)
        return a, b


assert set(KINDS) <= set(NATS)
