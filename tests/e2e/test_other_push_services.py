"""Whole daemons with every kind of push service that is not the usual one: inside the daemon, ntfy, behind a proxy."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from certificates import write_certificate

from demo.processes import Daemon, Failed, Mesh, Process, PushService, program, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]  # many starts of daemons, one after the other

HERE = Path(__file__).parent
NTFY = HERE.parent / "push" / "ntfy_process.py"
PROXY = HERE / "counting_proxy.py"


class Server(Process):
    """A server of the tests, which prints where it listens."""

    def start(self, *command: str) -> str:
        self.launch(sys.executable, *command)
        found = wait_for(lambda: re.search(r"http://127\.0\.0\.1:[0-9]+", self.log()), f"{self.name} listens")
        return found[0]

    def count(self, line: str) -> int:
        return len(re.findall(line, self.log(), re.MULTILINE))


@pytest.fixture
def server(mesh: Mesh) -> Iterator[Callable[[str], Server]]:
    made: list[Server] = []

    def make(name: str) -> Server:
        made.append(Server(name, mesh.directory / f"{name}.log"))
        return made[-1]

    yield make
    for process in made:
        process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        return int(placeholder.getsockname()[1])


def founded(mesh: Mesh, **push: str) -> list[Daemon]:
    """Daemons with these lines of ``[push]``; the first one founds, the others join it one by one, all linked."""
    daemons = [mesh.add(name, push=lines) for name, lines in push.items()]
    for daemon in daemons:
        daemon.begin()
    for daemon in daemons:
        daemon.wait_until_ready()
    first, *others = daemons
    first.meshctl("found", "home", "--name", first.name)
    for other in others:
        mesh.join(other, first)
    wait_for(lambda: mesh.fully_linked(*daemons), "all are linked")
    return daemons


def reached_by_push(daemon: Daemon) -> bool:
    """Whether a push comes back through each of its services."""
    with suppress(Failed):
        return all(test["outcome"] == "ok" for test in daemon.call("push.test")["tests"])
    return False


def test_a_daemon_is_its_own_push_service(mesh: Mesh) -> None:
    """Joined by its token; killed and back; reached by push again, by those who could before and by newcomers."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    trusted = f'trusted_origins = ["{url}", "{mesh.push.origin}"]\n'
    own = f'services = ["own"]\nown_listen = "127.0.0.1:{port}"\nown_url = "{url}"\n{trusted}'
    others = f'services = ["{mesh.push.url}"]\n{trusted}'
    a, b = founded(mesh, a=own, b=others)
    assert a.status()["push"][0]["service"] == "own"
    assert reached_by_push(a)
    for killed in (a, b):  # it comes back by a push: of a to the usual service, of b to a
        killed.kill()
        killed.start()
        wait_for(lambda: mesh.fully_linked(a, b), f"{killed.name} is back")
    token = a.call("introductions.mint", lifetime=90 * 86_400.0)["token"]
    c = mesh.add("c", push=others)
    c.start()
    c.call("mesh.join", token=token, name="c")
    wait_for(lambda: mesh.fully_linked(a, b, c), "c is in")
    assert '"level":"error"' not in a.log()


def test_a_mesh_over_ntfy(mesh: Mesh, server: Callable[[str], Server]) -> None:
    """Joined by token through it; killed and back through it; what it cannot do is said."""
    ntfy = server("ntfy")
    url = ntfy.start(str(NTFY))
    lines = f'services = ["unifiedpush:{url}"]\ntrusted_origins = ["{url}"]\n'
    a, b = founded(mesh, a=lines, b=lines)
    assert ntfy.count("^published up.*: 200$") >= 2
    assert "does not check who pushes" in a.meshctl("status").stdout
    assert reached_by_push(a)
    before = ntfy.count(": 200$")
    a.kill()
    a.start()
    wait_for(lambda: mesh.fully_linked(a, b), "a is back")
    assert ntfy.count(": 200$") > before


class NamedPushService(PushService):
    """One with TLS, of a name that no resolver knows."""

    name_and_port = "push.example:443"

    def start(self) -> None:
        directory = self.log_file.parent
        self.chain, key = write_certificate(directory, "push.example")
        (directory / "push.toml").write_text(f'[service]\ntls_certificate = "{self.chain}"\ntls_key = "{key}"\n')
        self.launch(
            program("meshd-push"),
            *("--config", str(directory / "push.toml"), "--state", str(directory / "named")),
            *("--listen", "127.0.0.1:0", "--public-url", "https://push.example"),
        )
        self.port = int(wait_for(lambda: re.search(r"\(port ([0-9]+)\)", self.log()), "it listens")[1])


def test_pushes_go_through_the_proxy(mesh: Mesh, server: Callable[[str], Server]) -> None:
    """Nobody could reach the service without it: its name means nothing here. Without the proxy, that is said."""
    push, proxy = NamedPushService(mesh.directory), server("proxy")
    push.log_file = mesh.directory / "named.log"
    try:
        push.start()
        through = proxy.start(str(PROXY), push.name_and_port, str(push.port))
        lines = f'services = ["wss://push.example/"]\nproxy = "{through}"\n'
        daemons = [mesh.add(name, push=lines) for name in ("a", "b")]
        for daemon in daemons:
            daemon.environment["SSL_CERT_FILE"] = str(push.chain)
            daemon.start()
        a, b = daemons
        a.meshctl("found", "home", "--name", "a")
        wait_for(lambda: proxy.count("^CONNECT push.example:443") >= 1, "a is connected to its service")
        mesh.join(b, a)
        wait_for(lambda: mesh.fully_linked(a, b), "they are linked")
        assert proxy.count("^CONNECT push.example:443") >= 4, "each receives there and has pushed there"
        assert proxy.count("^CONNECT") == proxy.count("^CONNECT push.example:443")
        proxy.kill()
        wait_for(lambda: a.status()["push"][0]["state"] == "down", "a knows")
        assert "wss://push.example/" in a.meshctl("status").stdout
        assert a.linked() == {"b"}
    finally:
        push.kill()
