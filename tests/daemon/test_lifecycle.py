"""A real daemon process on its own: start, reload, stop, kill, and everything that can refuse it."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import write_certificate

pytestmark = pytest.mark.e2e

PATIENCE = 20.0  # seconds; a busy machine takes long to start an interpreter


class Service:
    """One daemon, with this test as its service manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "meshd.toml"
        self.config.write_text("[push]\nservices = []\n[links]\nallow_loopback = true\nport_mapping = false\n")
        self.socket = directory / "meshd.sock"
        self.log = directory / "log"
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(directory / "notify"))
        self.manager.settimeout(PATIENCE)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, prepare: str = "", **environment: str) -> "subprocess.Popen[bytes]":
        code = f"{prepare}\nfrom meshd.__main__ import main; main()"
        options = ("--config", str(self.config), "--state-dir", str(self.directory / "state"))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, *options, "--socket", str(self.socket), *arguments],
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(self.directory / "notify"), **environment},
                close_fds=False,
            )
        return self.process

    def told(self, beginning: str) -> str:
        """The next message to the service manager that begins so."""
        while True:
            message = self.manager.recv(4096).decode()
            if message.startswith(beginning):
                return message

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The whole answer: with ``result`` or with ``error``."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self.socket))
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            connection.sendall(json.dumps(request).encode() + b"\n")
            for line in connection.makefile():
                answer = json.loads(line)
                if answer.get("id") == 1:
                    return dict(answer)
        raise AssertionError("closed without an answer")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return dict(self.ask(method, **params)["result"])

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def ends(self) -> tuple[int, float]:
        """Its exit status, and how long it took."""
        assert self.process is not None
        began = time.monotonic()
        return self.process.wait(PATIENCE), time.monotonic() - began

    def stop(self) -> tuple[int, float]:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.ends()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Callable[[], Service]]:
    made: list[Service] = []

    def make() -> Service:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Service(directory))
        return made[-1]

    yield make
    for service in made:
        service.manager.close()
        if service.process is not None and service.process.poll() is None:
            service.process.kill()
            service.process.wait()


def test_life_of_a_service(services: Callable[[], Service]) -> None:
    service = services()
    service.start(WATCHDOG_USEC="400000")
    assert service.told("READY=1") == "READY=1\nSTATUS=no mesh yet: meshctl found or meshctl join"
    assert service.told("WATCHDOG") == "WATCHDOG=1"
    status = service.call("node.status")
    assert (status["state"], status["mesh"], status["links"]) == ("no_mesh", None, 0)
    assert service.call("config.show")["file"] == str(service.config)

    service.config.write_text('[push]\nservices = []\n[mesh]\nmax_full_mesh = 5\n[log]\nlevel = "debug"\n')
    assert service.process is not None
    service.process.send_signal(signal.SIGHUP)
    assert service.told("RELOADING=1")
    assert "restart for links.allow_loopback" in service.told("READY=1")
    in_force = service.call("config.show")["values"]
    assert (in_force["log"]["level"], in_force["mesh"]["max_full_mesh"]) == ("debug", 5)
    assert in_force["links"]["allow_loopback"] is True

    service.config.write_text("[links]\nmax_link = 3\n")
    service.process.send_signal(signal.SIGHUP)
    assert "reload refused" in service.told("READY=1")
    refused = next(line for line in service.lines() if line["event"] == "reload_refused")
    assert "did you mean max_links?" in refused["reason"]
    assert service.call("config.show")["values"]["log"]["level"] == "debug"

    code, seconds = service.stop()
    assert service.told("STOPPING=1")
    assert code == 0
    assert seconds < 5
    assert not service.socket.exists()
    assert service.lines()[-1]["event"] == "daemon_stopped"


def test_a_certificate_that_is_refused_at_a_reload_is_in_the_status(services: Callable[[], Service]) -> None:
    service = services()
    chain, key = write_certificate(service.directory, "push")
    config = (
        '[push]\nservices = ["own"]\nown_listen = "127.0.0.1:0"\nown_url = "https://push.example.org"\n'
        f'own_tls_certificate = "{chain}"\nown_tls_key = "{key}"\n[links]\nport_mapping = false\n'
    )
    service.config.write_text(config)
    process = service.start()
    service.told("READY=1")
    whole = chain.read_bytes()
    chain.write_bytes(whole[:-100])
    service.config.write_text(config + "port = 7000\n")
    process.send_signal(signal.SIGHUP)
    said = service.told("READY=1")
    assert "push.own_tls_certificate refused, see the log" in said
    assert "restart for links.port" in said
    assert any(line["event"] == "own_certificate_refused" for line in service.lines())
    chain.write_bytes(whole)
    process.send_signal(signal.SIGHUP)
    assert "refused" not in service.told("READY=1")
    assert service.stop()[0] == 0


def test_killed_daemon_comes_back_as_the_same_node(services: Callable[[], Service]) -> None:
    service = services()
    process = service.start()
    service.told("READY=1")
    first = service.call("node.version")["peer_id"]
    process.kill()
    process.wait()
    assert service.socket.exists(), "stale, and replaced by the next start"
    service.start()
    service.told("READY=1")
    assert service.call("node.version")["peer_id"] == first
    assert service.stop()[0] == 0


def test_second_daemon_is_refused(services: Callable[[], Service]) -> None:
    service, second = services(), services()
    process = service.start()
    service.told("READY=1")
    second.start("--state-dir", str(service.directory / "state"))
    assert second.ends()[0] == 1
    assert f"in use by another meshd (process {process.pid})" in second.lines()[-1]["reason"]
    assert "is in use by another meshd" in second.told("STATUS=failed: ")  # a long path may cut it off
    second.start("--socket", str(service.socket))
    assert second.ends()[0] == 2
    assert "another daemon answers there" in second.lines()[-1]["reason"]
    assert service.call("node.version")["protocol"] == 1
    assert service.stop()[0] == 0


def test_state_directory_open_to_others_is_refused(services: Callable[[], Service]) -> None:
    service = services()
    (service.directory / "state").mkdir(mode=0o755)
    service.start()
    assert service.ends()[0] == 1
    assert "chmod 700" in service.lines()[-1]["reason"]


def test_socket_activation(services: Callable[[], Service]) -> None:
    service = services()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(service.socket))
        listening.listen()
        listening.set_inheritable(True)
        hand_over = f"import os; os.dup2({listening.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid())"
        service.start(prepare=hand_over, LISTEN_FDS="1", LISTEN_FDNAMES="meshd.socket")
        assert service.call("node.status")["state"] == "no_mesh"  # waited for while the daemon starts
        assert service.stop()[0] == 0
        assert service.socket.exists(), "it is systemd's"


FOUND = {"mesh_name": "home", "mesh_key": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A", "name": "desk"}


def test_full_disk_is_an_error_for_who_asks_and_passes(services: Callable[[], Service]) -> None:
    service = services()
    process = service.start()
    service.told("READY=1")
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, hard))  # EFBIG where a full disk gives ENOSPC
    assert service.ask("mesh.found", **FOUND)["error"]["data"]["symbol"] == "store_failed"
    assert service.call("node.status")["state"] == "no_mesh"
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))
    assert service.call("mesh.found", **FOUND)["name"] == "desk"
    assert service.told("STATUS=member") == "STATUS=member of home as desk: 0 links up, 1 member, push off"
    process.kill()
    process.wait()
    service.start()
    assert "member of home as desk" in service.told("READY=1"), "what was answered is durable"
    assert service.stop()[0] == 0


def test_crash_of_the_core_ends_the_daemon_loudly(services: Callable[[], Service]) -> None:
    service = services()
    fault = """
from meshd.core.node import Node
whole = Node.handle
def handle(self, event, now):
    if type(event).__name__ == "Requested":
        raise ZeroDivisionError("meshd1_" + "s3cretS" * 9)
    return whole(self, event, now)
Node.handle = handle
"""
    service.start(prepare=fault)
    service.told("READY=1")
    assert service.ask("mesh.found", **FOUND)["error"]["data"]["symbol"] == "internal_error"
    assert service.ends()[0] == 1
    assert service.told("STATUS=failed: the core failed")
    crash = next(line for line in service.lines() if line["event"] == "core_failed")
    assert "ZeroDivisionError" in crash["exception"]
    assert "s3cret" not in service.log.read_text()
