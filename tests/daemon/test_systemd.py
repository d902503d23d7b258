"""The service manager's side is played with real Unix sockets."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd import systemd
from meshd.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@meshd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(name.replace("@", "\0", 1))
        receiving.setblocking(False)
        yield receiving, {"NOTIFY_SOCKET": name}


def test_states_arrive(manager: tuple[socket.socket, dict[str, str]]) -> None:
    receiving, environment = manager
    notifier = Notifier(environment)
    notifier.ready("no mesh yet")
    assert receiving.recv(4096) == b"READY=1\nSTATUS=no mesh yet"
    notifier.status("no mesh yet")  # unchanged: not sent
    notifier.status("member\nREADY=0 of home")
    assert receiving.recv(4096) == b"STATUS=member READY=0 of home"
    notifier.reloading()
    assert receiving.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    notifier.watchdog()
    assert receiving.recv(4096) == b"WATCHDOG=1"
    notifier.stopping("stopping")
    assert receiving.recv(4096) == b"STOPPING=1\nSTATUS=stopping"
    notifier.close()
    notifier.watchdog()
    with pytest.raises(BlockingIOError):
        receiving.recv(4096)


def test_manager_that_does_not_listen_is_no_reason_to_fail(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}, {"NOTIFY_SOCKET": "vsock:2:1"}):
        notifier = Notifier(environment)
        notifier.ready("x")
        notifier.close()


def test_full_socket_does_not_block(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(10_000):
            notifier.watchdog()
        notifier.close()


def test_watchdog_is_for_the_named_process() -> None:
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog_interval == 15.0
    assert Notifier({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_interval == 15.0
    assert Notifier({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}).watchdog_interval is None
    assert Notifier({"WATCHDOG_USEC": "soon"}).watchdog_interval is None
    assert Notifier({}).watchdog_interval is None


_TAKER = """
import os, sys, trio
from meshd import systemd
from meshd.errors import ConfigError
environment = dict(os.environ, LISTEN_PID=str(os.getpid()))
async def main():
    listener, = systemd.as_listeners(systemd.take_sockets(environment))
    assert not [name for name in environment if name.startswith("LISTEN_")]
    stream = await listener.accept()
    await stream.send_all(b"hello")
    await stream.aclose()
    await listener.aclose()
try:
    trio.run(main)
except ConfigError as error:
    print(error)
"""


def _activate(handed: socket.socket) -> "subprocess.Popen[str]":
    """Start a process as systemd would: with the socket as descriptor 3."""
    command = [sys.executable, "-c", f"import os; os.dup2({handed.fileno()}, 3)\n{_TAKER}"]
    environment = {**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "meshd.socket"}
    return subprocess.Popen(command, env=environment, pass_fds=(handed.fileno(),), stdout=subprocess.PIPE, text=True)


def test_handed_over_socket_serves(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(str(tmp_path / "control"))
        listening.listen()
        client.settimeout(20)
        client.connect(str(tmp_path / "control"))  # before anybody accepts: as with socket activation
        with _activate(listening) as process:
            assert client.recv(100) == b"hello"
            assert process.wait(20) == 0


def test_socket_of_another_kind_is_named() -> None:
    with socket.socket(socket.AF_INET) as other:
        with _activate(other) as process:
            assert process.stdout is not None
            said = process.stdout.read()
        assert "'meshd.socket' from systemd is not a listening Unix stream socket" in said


def test_sockets_for_somebody_else_are_left_alone() -> None:
    assert systemd.take_sockets({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == []
    assert systemd.take_sockets({}) == []
