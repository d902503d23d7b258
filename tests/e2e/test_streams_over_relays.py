"""Byte streams between two real daemons that cannot connect, over others; and what happens when a relay dies."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import threading
from pathlib import Path

import pytest

from demo.processes import Daemon, Mesh, program, wait_for

pytestmark = pytest.mark.e2e

SIZE = 10_000_000


def start(mesh: Mesh, name: str, *addresses: str) -> Daemon:
    """A daemon whose links have these local addresses and no others."""
    written = ", ".join(f'"{address}"' for address in addresses)
    config = mesh.config(name).replace("allow_loopback = true\n", f"allow_loopback = true\naddresses = [{written}]\n")
    daemon = mesh.daemons[name] = Daemon(mesh.directory, name, config)
    daemon.start()
    return daemon


def two_ends_and_two_relays(mesh: Mesh) -> tuple[Daemon, list[Daemon], Daemon]:
    """One end has IPv6 alone, the other IPv4 alone, the relays both."""
    one = start(mesh, "one", "::1")
    relays = [start(mesh, name, "::1", "127.0.0.1") for name in ("r1", "r2")]
    one.meshctl("found", "home", "--name", "one")
    for relay in relays:
        mesh.join(relay, one)
    wait_for(lambda: Mesh.fully_linked(one, *relays), "the first three are linked")
    other = start(mesh, "other", "127.0.0.1")
    mesh.join(other, relays[0])
    wait_for(lambda: Mesh.fully_linked(other, *relays), "the last one has both relays")
    assert one.linked() == other.linked() == {"r1", "r2"}
    return one, relays, other


class User:
    """A meshctl that copies both ways."""

    def __init__(self, daemon: Daemon, sink: Path, *words: str) -> None:
        self._sink = sink
        with sink.open("wb") as into:
            self.process = subprocess.Popen(
                [program("meshctl"), *words, "--json"],
                env={**os.environ, "MESHD_SOCKET": str(daemon.socket)},
                stdin=subprocess.PIPE,
                stdout=into,
                stderr=subprocess.PIPE,
            )

    def write(self, data: bytes, *, last: bool) -> threading.Thread:
        """In a thread of its own, since it waits for the other side."""

        def run() -> None:
            assert self.process.stdin is not None
            self.process.stdin.write(data)
            self.process.stdin.flush()
            if last:
                self.process.stdin.close()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def received(self) -> int:
        return self._sink.stat().st_size

    def end(self) -> dict[str, object]:
        """How the stream ended."""
        assert self.process.stderr is not None
        assert self.process.stdin is not None
        said = self.process.stderr.read()
        self.process.wait(60)
        self.process.stderr.close()
        self.process.stdin.close()
        ended: dict[str, object] = json.loads(said)
        return ended


def connected(daemon: Daemon, sink: Path, peer: str, application: str) -> User:
    """Try until somebody accepts, and bytes can pass."""

    def tried() -> User | None:
        user = User(daemon, sink, "connect", peer, application)
        wait_for(lambda: user.process.poll() is not None or daemon.counter("streams_opened"), "an answer")
        if user.process.poll() is None:
            return user
        assert "accepts" in str(user.end())
        return None

    return wait_for(tried, "somebody accepts")


def test_ten_megabytes_each_way_while_a_relay_dies(mesh: Mesh, tmp_path: Path) -> None:
    one, relays, other = two_ends_and_two_relays(mesh)
    there, back = random.Random(1).randbytes(SIZE), random.Random(2).randbytes(SIZE)
    receiver = User(other, tmp_path / "there", "accept", "backup", "--from", "one")
    sender = connected(one, tmp_path / "back", "other", "backup")
    half = SIZE // 2
    for thread in (sender.write(there[:half], last=False), receiver.write(back[:half], last=False)):
        thread.join(60)
    wait_for(lambda: receiver.received() > half / 4 and sender.received() > half / 4, "bytes flow")
    writing = [sender.write(there[half:], last=True), receiver.write(back[half:], last=True)]
    (used,) = (relay for relay in relays if relay.counter("circuits_relayed"))
    used.kill()
    for thread in writing:
        thread.join(60)
    ends = sender.end(), receiver.end()
    assert [(end["reason"], end["sent_size"], end["received_size"]) for end in ends] == [("done", SIZE, SIZE)] * 2
    for path, sent in ((tmp_path / "there", there), (tmp_path / "back", back)):
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(sent).digest()
    (left,) = (relay for relay in relays if relay is not used)
    assert left.counter("circuits_relayed") >= 1
    assert "stream_path_lost" in one.log()

    left.kill()
    wait_for(lambda: not one.linked(), "all links are gone")
    nowhere = one.meshctl("connect", "other", "backup", "--timeout", "3s", check=False)
    assert (nowhere.returncode, "no path" in nowhere.stderr) == (1, True)
