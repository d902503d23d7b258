"""meshctl as a real process against the real control server, with a fake daemon behind it, over a real socket."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "control"))

from fake_backend import FakeBackend  # noqa: E402

from meshd.control.listeners import open_listeners  # noqa: E402
from meshd.control.server import serve  # noqa: E402


@dataclass
class Daemon:
    path: str
    backend: FakeBackend = field(default_factory=FakeBackend)
    env: dict = field(default_factory=dict)

    def start(self, *words, **options):
        return self.start_python("-m", "meshctl", *words, **options)

    def start_python(self, *words, **options):
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("MESHD_", "XDG_", "NO_COL"))
        }
        env = {**inherited, "PYTHONPATH": str(ROOT), "MESHD_SOCKET": self.path, "TZ": "UTC", **self.env}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([sys.executable, *words], env=env, **{**pipes, **options})

    def run(self, *words, stdin=b"", **options):
        with self.start(*words, stdin=subprocess.PIPE, **options) as process:
            out, err = process.communicate(stdin, timeout=20)
        return Ended(process.returncode, out, (err or b"").decode())

    def run_python(self, code):
        with self.start_python("-c", code) as process:
            out, err = process.communicate(timeout=20)
        return Ended(process.returncode, out, err.decode())


@dataclass
class Ended:
    status: int
    raw: bytes
    err: str

    @property
    def out(self):
        return self.raw.decode()


@pytest.fixture
def daemon(tmp_path):
    made = Daemon(str(tmp_path / "control.sock"))
    ready = threading.Event()
    stop = []

    async def main():
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, await open_listeners(made.path), made.backend)
            stop.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope.cancel))
            ready.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(10)
    yield made
    token, cancel = stop[0]
    token.run_sync_soon(cancel)
    thread.join(10)


@pytest.fixture
def no_daemon(tmp_path):
    return Daemon(str(tmp_path / "control.sock"))
