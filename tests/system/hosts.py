"""Hosts of the test's own: network namespaces on one bridge, none of which reaches anything else."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path
from types import TracebackType

from demo.processes import Daemon, Mesh, PushService, program, wait_for

NETWORK = "10.98.7"
PORT = 8085


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Hosts:
    """A bridge in a namespace of its own, and a namespace for each host; gone with the context."""

    def __init__(self) -> None:
        self._prefix = f"mt{os.getpid()}"
        self._names: list[str] = []

    def __enter__(self) -> Hosts:
        self._switch = self._namespace("switch")
        ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self._switch, "link", "set", "br0", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def _namespace(self, name: str) -> str:
        full = f"{self._prefix}-{name}"
        ip("netns", "add", full)
        self._names.append(full)
        ip("-n", full, "link", "set", "lo", "up")
        return full

    def add(self, name: str) -> str:
        """A host; gives its namespace. Its address is ``address(name)``."""
        full = self._namespace(name)
        ip("link", "add", "eth0", "netns", full, "type", "veth", "peer", "name", f"to-{name}", "netns", self._switch)
        ip("-n", self._switch, "link", "set", f"to-{name}", "master", "br0", "up")
        ip("-n", full, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
        ip("-n", full, "link", "set", "eth0", "up")
        return full

    def address(self, name: str) -> str:
        return f"{NETWORK}.{sum(name.encode()) % 250 + 1}"

    def separate(self, *names: str, apart: bool = True) -> None:
        """These hosts exchange no packet with each other; with all others they do. Or all is well again."""
        for name in names:
            ip(
                "-n",
                self._switch,
                "link",
                "set",
                f"to-{name}",
                "type",
                "bridge_slave",
                "isolated",
                "on" if apart else "off",
            )


class HostedPushService(PushService):
    """The embedded push service on a host of its own."""

    def __init__(self, directory: Path, namespace: str, address: str) -> None:
        super().__init__(directory)
        self._namespace, self._address = namespace, address

    @property
    def origin(self) -> str:
        return f"http://{self._address}:{PORT}"

    @property
    def url(self) -> str:
        return f"ws://{self._address}:{PORT}/"

    def start(self) -> None:
        listen = f"{self._address}:{PORT}"
        inside = ("ip", "netns", "exec", self._namespace, program("meshd-push"))
        self.launch(*inside, "--listen", listen, "--state", str(self._state), "--public-url", self.origin)
        wait_for(lambda: "meshd-push ready" in self.log(), "the push service listens")


class HostedDaemon(Daemon):
    """A daemon on a host of its own; its control socket is reached through the file system all the same."""

    namespace = ""

    def begin(self) -> None:
        self.launch(
            *("ip", "netns", "exec", self.namespace, program("meshd")),
            *("--config", str(self.config_file), "--state-dir", str(self.state), "--socket", str(self.socket)),
        )


class HostedMesh(Mesh):
    """A mesh whose daemons are on hosts of their own, without loopback."""

    def __init__(self, hosts: Hosts) -> None:
        super().__init__()
        self._hosts = hosts
        self.push = HostedPushService(self.directory, hosts.add("push"), hosts.address("push"))

    def config(self, name: str, extra: str = "") -> str:
        return super().config(name, extra).replace("allow_loopback = true", "connect_timeout = 3.0")

    def add(self, name: str, extra: str = "") -> Daemon:
        daemon = HostedDaemon(self.directory, name, self.config(name, extra))
        daemon.namespace = self._hosts.add(name)
        self.daemons[name] = daemon
        return daemon


def send(sender: Daemon, receiver: str, text: str, *, wait: bool = True) -> dict[str, object]:
    body = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    return sender.call("messages.send", peer=receiver, body=body, wait=wait, timeout=10)


def texts(daemon: Daemon) -> list[str]:
    """What waits in its inbox."""
    bodies = [message["body"] for message in daemon.call("messages.list")["messages"]]
    return [base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode() for body in bodies]
