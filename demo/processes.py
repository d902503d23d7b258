"""Real daemons and a push service of their own, each a process, in one short-lived directory on this machine.

The demo, the benchmark and the end-to-end tests start the same things the same way: from here. Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

# Specification
PR_SET_PDEATHSIG = 1  # prctl(2)

# Policy
START_TIMEOUT = 20.0  # seconds: importing everything takes half a second, on a loaded machine many times that
STOP_TIMEOUT = 5.0  # seconds: what the project promises for a clean stop
POLL_INTERVAL = 0.02  # seconds between two looks at a condition
LAST_LINES = 15  # of each log, shown when something fails

T = TypeVar("T")
_libc = ctypes.CDLL(None)


class Failed(Exception):
    """A process did not do what was asked of it, or a condition did not come true in time.

    ``symbol`` is that of the control socket's error, if it was one.
    """

    def __init__(self, text: str, symbol: str = "") -> None:
        super().__init__(text)
        self.symbol = symbol


def wait_for(
    condition: Callable[[], T], what: str, timeout: float = START_TIMEOUT, interval: float = POLL_INTERVAL
) -> T:
    """Call ``condition`` until it gives something true, and return that. Raises Failed after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        if result := condition():
            return result
        if time.monotonic() > deadline:
            raise Failed(f"not so after {timeout:g} s: {what}")
        time.sleep(interval)


def program(name: str) -> str:
    """A script of this environment: next to the interpreter that runs this."""
    return str(Path(sys.executable).parent / name)


def _end_with_parent() -> None:
    """Runs in the child: nothing outlives whoever started it, however that ended."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """One program that runs in the background, its output in a log file."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log_file = log
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, *command: str, environment: dict[str, str] | None = None) -> None:
        """Start it. What it writes is added to the log."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is for whoever started us
                preexec_fn=_end_with_parent,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            )

    @property
    def pid(self) -> int:
        """Of the running process; 0 if there is none."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    def exit_status(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll() if self._process else None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. Does nothing when it has ended."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)

    def stop(self, timeout: float = STOP_TIMEOUT) -> float:
        """SIGTERM, and wait; returns the seconds it took. Raises Failed, and kills it, if it is not gone in time."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        try:
            if self._process:
                self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"{self.name} has not stopped {timeout:g} s after SIGTERM") from None
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL: it has no chance to put anything away."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        """All it has written so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def last_lines(self, count: int = LAST_LINES) -> str:
        """The end of its log, without what only debugging wants to know."""
        lines = [line for line in self.log().splitlines() if '"level":"debug"' not in line]
        return "\n".join(lines[-count:])


class PushService(Process):
    """The embedded push service, on a port of the system's choice that stays the same when it is started again."""

    def __init__(self, directory: Path) -> None:
        super().__init__("push", directory / "push.log")
        self._state = directory / "push"
        self._port = 0

    @property
    def origin(self) -> str:
        """What the endpoints of its subscriptions begin with."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """Where user agents connect."""
        return f"ws://127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Start it and wait until it listens."""
        began = len(self.log())
        self.launch(program("meshd-push"), "--listen", f"127.0.0.1:{self._port}", "--state", str(self._state))
        self._port = wait_for(lambda: self._announced_port(began), "the push service listens")

    def _announced_port(self, began: int) -> int:
        if self.exit_status() is not None:
            raise Failed(f"the push service ended at once:\n{self.last_lines()}")
        announced = re.search(r"http://127\.0\.0\.1:([0-9]+)", self.log()[began:])
        return int(announced[1]) if announced else 0


class Daemon(Process):
    """One meshd with a state directory, a configuration file and a control socket of its own."""

    def __init__(self, directory: Path, name: str, config: str) -> None:
        super().__init__(name, directory / f"{name}.log")
        self.config_file = directory / f"{name}.toml"
        self.config_file.write_text(config)
        self.state = directory / name
        self.socket = directory / f"{name}.sock"
        self.environment: dict[str, str] = {}

    def start(self) -> None:
        """Start it and wait until it answers on its control socket."""
        self.begin()
        self.wait_until_ready()

    def begin(self) -> None:
        """Start it and do not wait."""
        self.launch(
            program("meshd"),
            *("--config", str(self.config_file), "--state-dir", str(self.state), "--socket", str(self.socket)),
            environment=self.environment,
        )

    def wait_until_ready(self) -> None:
        """Wait until it answers on its control socket. Raises Failed with its last lines if it ends instead."""
        wait_for(self._answers, f"{self.name} answers")

    def _answers(self) -> bool:
        if self.exit_status() is not None:
            raise Failed(f"{self.name} ended at once:\n{self.last_lines()}")
        try:
            return bool(self.status())
        except OSError:
            return False

    def meshctl(
        self, *arguments: str, stdin: str = "", check: bool = True, merge: bool = False, timeout: float = 90.0
    ) -> subprocess.CompletedProcess[str]:
        """Run the real meshctl against this daemon. Raises Failed for an exit status other than 0 if ``check``.

        ``merge`` gives standard error within standard output, as a terminal shows them.
        """
        done = subprocess.run(
            [program("meshctl"), *arguments],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else subprocess.PIPE,
            text=True,
            timeout=timeout,
            cwd=self.socket.parent,  # `found` writes the mesh key where it stands
            env={**os.environ, "PYTHONUNBUFFERED": "1", "MESHD_SOCKET": str(self.socket)},
            check=False,
        )
        if check and done.returncode != 0:
            what = f"meshctl {' '.join(arguments)} on {self.name}"
            raise Failed(f"{what} exited {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done

    def call(self, method: str, timeout: float = 90.0, **params: object) -> dict[str, Any]:
        """One request on the control socket, as any program could make it. Raises Failed for an error, OSError too."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(str(self.socket))
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                for line in lines:
                    answer = json.loads(line)
                    if answer.get("id") != 1:
                        continue  # the greeting
                    if "error" in answer:
                        error = answer["error"]
                        raise Failed(f"{method} on {self.name}: {error['message']}", error["data"]["symbol"])
                    result: dict[str, Any] = answer["result"]
                    return result
        raise ConnectionError(f"{self.name} closed the connection without an answer")

    def status(self) -> dict[str, Any]:
        """``node.status``."""
        return self.call("node.status")

    def counter(self, name: str) -> int:
        """One of its counters; 0 if it has not counted that yet."""
        return int(self.status()["counters"].get(name, 0))

    def linked(self) -> set[str]:
        """Names of the peers it has a link to."""
        return {peer["name"] for peer in self.call("peers.list")["peers"] if peer["link"] == "up"}


class Mesh:
    """A push service and some daemons in a directory that goes away with them. A context manager."""

    def __init__(self, log_level: str = "debug") -> None:
        # A Unix socket's path may have 107 bytes, so not below a test's own deep directory.
        self.directory = Path(tempfile.mkdtemp(prefix="meshd-"))
        self.push = PushService(self.directory)
        self.daemons: dict[str, Daemon] = {}
        self._log_level = log_level

    def __enter__(self) -> Mesh:
        """Start the push service."""
        try:
            self.push.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        self.close()

    def config(self, name: str, extra: str = "", push: str = "") -> str:
        """The configuration that daemons on one machine need: loopback allowed, this push service trusted.

        ``push``: other lines for the section of that name.
        """
        push = push or f'services = ["{self.push.url}"]\ntrusted_origins = ["{self.push.origin}"]\n'
        return (
            f'[node]\nname = "{name}"\n\n[links]\nallow_loopback = true\nport_mapping = false\n\n'
            f"[push]\n{push}\n"
            f'[log]\nformat = "json"\nlevel = "{self._log_level}"\n{extra}'
        )

    def add(self, name: str, extra: str = "", push: str = "") -> Daemon:
        """Write a daemon's configuration, with ``extra`` lines at its end; it is not started yet."""
        daemon = Daemon(self.directory, name, self.config(name, extra, push))
        self.daemons[name] = daemon
        return daemon

    def start(self, *names: str) -> list[Daemon]:
        """Add daemons and start them, all at once."""
        added = [self.add(name) for name in names]
        for daemon in added:
            daemon.begin()
        for daemon in added:
            daemon.wait_until_ready()
        return added

    def found(self, *names: str) -> list[Daemon]:
        """Start daemons, found a mesh on the first and join the others one by one, until every pair has a link."""
        first, *others = daemons = self.start(*names)
        first.meshctl("found", "home", "--name", first.name)
        for other in others:
            self.join(other, first)
        wait_for(lambda: self.fully_linked(*daemons), f"{', '.join(names)} are all linked")
        return daemons

    @staticmethod
    def join(joiner: Daemon, introducer: Daemon) -> dict[str, Any]:
        """Mint on one, join with the other. The result of ``mesh.join``."""
        token = introducer.call("introductions.mint")["token"]
        return joiner.call("mesh.join", token=token, name=joiner.name)

    @staticmethod
    def fully_linked(*daemons: Daemon) -> bool:
        """Whether each of them has a link to each other one."""
        names = {daemon.name for daemon in daemons}
        return all(daemon.linked() >= names - {daemon.name} for daemon in daemons)

    def pushes_sent(self) -> int:
        """Push messages that all daemons together have sent since each of them started."""
        return sum(daemon.counter("pushes_sent") for daemon in self.daemons.values())

    def last_lines(self, count: int = LAST_LINES) -> str:
        """The end of every log, for whoever has to find out why something failed."""
        return "\n".join(f"-- {it.name}:\n{it.last_lines(count)}" for it in (self.push, *self.daemons.values()))

    def close(self) -> None:
        """Kill what still runs and remove the directory."""
        for process in (*self.daemons.values(), self.push):
            process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
