"""``meshd-push`` as a process: ready, stopped, killed, activated by a socket, told what is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio
from push_service_client import connected

pytestmark = pytest.mark.e2e

COMMAND = [sys.executable, "-m", "meshd.push.service"]
STOP_TIMEOUT = 5.0


@dataclass
class Running:
    process: trio.Process
    url: str

    @property
    def websocket_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/"


@asynccontextmanager
async def running(state: Path, *arguments: str, **environment: str) -> AsyncIterator[Running]:
    """A service that has said it is ready; killed at the end if it still runs."""
    command = [*COMMAND, "--state", str(state), *arguments]
    if "--listen" not in arguments:
        command += ["--listen", "127.0.0.1:0"]
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=False,
                env=os.environ | environment,
            )
        )
        try:
            assert process.stdout is not None
            line = b""
            with trio.fail_after(20):
                while not line.endswith(b"\n"):
                    piece = await process.stdout.receive_some(4096)
                    assert piece, f"it ended before it was ready: {line!r}"
                    line += piece
            match = re.fullmatch(rb"meshd-push ready: http\S+?[: ](?:\(port )?(\d+)\)?\n", line)
            assert match, line
            yield Running(process, f"http://127.0.0.1:{match[1].decode()}")
        finally:
            nursery.cancel_scope.cancel()
            process.kill()


async def stop(service: Running, with_signal: signal.Signals = signal.SIGTERM) -> int:
    service.process.send_signal(with_signal)
    with trio.fail_after(STOP_TIMEOUT):
        return await service.process.wait()


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_when_told_even_with_user_agents_connected(tmp_path: Path, with_signal: signal.Signals):
    async with running(tmp_path) as service, connected(service.websocket_url) as agent:
        await agent.register()
        assert await stop(service, with_signal) == 0
        assert await agent.closed() == (1001, "GoingAway")


async def test_systemd_is_told(tmp_path: Path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(5)
        async with running(tmp_path / "state", NOTIFY_SOCKET=address, WATCHDOG_USEC="200000") as service:
            told = (await trio.to_thread.run_sync(manager.recv, 4096)).decode().splitlines()
            assert told[0] == "READY=1"
            assert told[1].startswith("STATUS=0 user agents connected")
            assert (await trio.to_thread.run_sync(manager.recv, 4096)) == b"WATCHDOG=1"
            assert await stop(service) == 0
            while not (last := await trio.to_thread.run_sync(manager.recv, 4096)).startswith(b"STOPPING=1"):
                assert last.startswith((b"WATCHDOG=1", b"STATUS="))


def test_a_socket_from_systemd_is_taken_over(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        # sd_listen_fds: the socket is descriptor 3, inherited, and LISTEN_PID the process's own
        launcher = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True); "
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); os.execv(sys.argv[2], sys.argv[2:])"
        )
        with subprocess.Popen(
            [sys.executable, "-c", launcher, str(listening.fileno()), *COMMAND, "--state", str(tmp_path)],
            pass_fds=[listening.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == f"meshd-push ready: http://127.0.0.1:{port}\n".encode()
                with socket.create_connection(("127.0.0.1", port), 5) as client:
                    client.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                    assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
                process.terminate()
                assert process.wait(STOP_TIMEOUT) == 0
            finally:
                process.kill()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "STATE_DIRECTORY"} | environment
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=20, env=variables)


def test_what_is_wrong_is_said(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        state = ["--state", str(tmp_path / "state")]
        cases = [
            ([], 2, "--state"),
            ([*state, "--listen", "nonsense"], 2, "host:port"),
            ([*state, "--listen", "0.0.0.0:0"], 2, "public_url"),
            ([*state, "--limit", "max_ttls=5"], 2, "did you mean max_ttl"),
            ([*state, "--listen", f"127.0.0.1:{taken.getsockname()[1]}"], 1, "in use"),
            (["--state", "/proc/nowhere", "--listen", "127.0.0.1:0"], 1, "directory"),
        ]
        for arguments, status, words in cases:
            done = run(*arguments)
            assert done.returncode == status, (arguments, done.stderr)
            assert words in done.stderr
            assert "Traceback" not in done.stderr
    assert run("--version").stdout.startswith("meshd-push ")
    assert "example:" in run("--help").stdout


async def test_two_on_one_directory(tmp_path: Path):
    async with running(tmp_path):
        second = await trio.to_thread.run_sync(partial(run, "--state", str(tmp_path), "--listen", "127.0.0.1:0"))
        assert second.returncode == 1
        assert "in use by another push service" in second.stderr


def test_the_log_is_json_when_asked_for(tmp_path: Path):
    command = [*COMMAND, "--listen", "127.0.0.1:0", "--state", str(tmp_path), "--log", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.terminate()
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert [line["event"] for line in lines] == ["push_service_ready", "push_service_stopped"]
    assert all({"level", "timestamp"} <= line.keys() for line in lines)
