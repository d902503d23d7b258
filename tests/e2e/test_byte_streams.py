"""Bulk bytes between two real daemons, from pipe to pipe."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from demo.processes import Daemon, Mesh, program, wait_for

pytestmark = pytest.mark.e2e

SIZE = 20_000_000


def begin(daemon: Daemon, *words: str, **options: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "MESHD_SOCKET": str(daemon.socket)}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([program("meshctl"), *words], env=environment, **{**pipes, **options})


def connect(daemon: Daemon, *words: str, source: Path) -> dict[str, Any]:
    """Try until somebody accepts; how the stream ended."""

    def tried() -> dict[str, Any] | None:
        with source.open("rb") as data, begin(daemon, "connect", "--json", *words, stdin=data) as sender:
            _, said = sender.communicate(timeout=60)
        ended: dict[str, Any] = json.loads(said)
        if "error" in ended:
            assert sender.returncode == 1
            assert "accepts" in ended["error"]["message"]
            return None
        assert sender.returncode == (0 if ended["reason"] == "done" else 1)
        return ended

    return wait_for(tried, "somebody accepts", timeout=60.0)


def test_twenty_megabytes_from_pipe_to_pipe(mesh: Mesh, tmp_path: Path) -> None:
    a, b = mesh.found("a", "b")
    source, sink = tmp_path / "source", tmp_path / "sink"
    source.write_bytes(random.Random(20).randbytes(SIZE))
    with sink.open("wb") as into, begin(b, "accept", "backup", "--json", stdout=into) as receiver:
        ended = connect(a, "b", "backup", source=source)
        _, said = receiver.communicate(timeout=30)
    assert hashlib.sha256(sink.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()
    assert (ended["name"], ended["reason"], ended["sent_size"], ended["received_size"]) == ("b", "done", SIZE, 0)
    received = json.loads(said)
    assert (received["name"], received["reason"], received["received_size"]) == ("a", "done", SIZE)
    assert receiver.returncode == 0
    assert "stream_ended" in a.log()
    a.meshctl("send", "b", "and messages go on")


def test_a_sender_that_is_killed_fails_the_receiver(mesh: Mesh) -> None:
    a, b = mesh.found("a", "b")
    with begin(b, "accept", "--from", "a", "backup") as receiver:
        assert receiver.stdout is not None

        def opened() -> subprocess.Popen[bytes] | None:
            sender = begin(a, "connect", "b", "backup", stdin=subprocess.PIPE)
            assert sender.stdin is not None
            sender.stdin.write(b"half")
            sender.stdin.flush()
            wait_for(lambda: sender.poll() is not None or a.counter("streams_opened"), "an answer")
            if sender.poll() is None:
                return sender
            sender.communicate()
            return None

        sender = wait_for(opened, "somebody accepts")
        assert receiver.stdout.read(4) == b"half"
        sender.kill()
        sender.communicate()
        rest, said = receiver.communicate(timeout=30)
    assert (rest, receiver.returncode) == (b"", 1)
    assert b"broke off" in said


def test_what_cannot_be_is_refused(mesh: Mesh) -> None:
    a, _ = mesh.found("a", "b")
    for words, says in (
        (("connect", "b", "backup"), "accepts"),
        (("connect", "nobody", "backup"), "No member"),
        (("accept", "--from", "nobody", "backup"), "No member"),
        (("accept", "--timeout", "0.1s", "backup"), "has come"),
    ):
        done = a.meshctl(*words, check=False)
        assert done.returncode == 1
        assert says in done.stderr
