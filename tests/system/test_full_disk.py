"""A full disk: nothing is promised that was not written, nothing is lost, and it goes on when there is room again."""

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.processes import Daemon, Failed, Mesh, wait_for

pytestmark = [pytest.mark.root, pytest.mark.needs("mount", "umount")]

DISK_SIZE = 4 << 20


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Mesh() as running:
        yield running


@pytest.fixture
def small_disk(mesh: Mesh) -> Iterator[Path]:
    """A file system of its own for the state of b."""
    where = mesh.directory / "b"
    where.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE},mode=700", "tmpfs", where], check=True)
    try:
        yield where
    finally:
        for daemon in mesh.daemons.values():
            daemon.kill()
        subprocess.run(["umount", where], check=True)


def fill(disk: Path) -> Path:
    """Leave not one byte. Gives the file to remove."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


def body(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def send(sender: Daemon, receiver: str, text: str) -> str:
    """The state that the message has come to, or the error's symbol."""
    try:
        result = sender.call("messages.send", peer=receiver, body=body(text * 100))
        return str(result["state"])
    except Failed as failure:
        return failure.symbol


def inbox(daemon: Daemon) -> set[str]:
    return {message["body"] for message in daemon.call("messages.list", limit=1000)["messages"]}


def test_a_full_disk_promises_nothing_and_loses_nothing(mesh: Mesh, small_disk: Path) -> None:
    a, b = mesh.found("a", "b")
    identity = b.status()["peer_id"]
    assert send(a, "b", "before") == "acknowledged"

    ballast = fill(small_disk)
    answers = [send(b, "a", f"from the full one {number}") for number in range(5)]
    assert "store_failed" in answers, answers  # pages that the database has already may take a few
    wait_for(lambda: b.status()["warnings"], "b says what is wrong", timeout=10.0)
    assert b.status()["peer_id"] == identity
    texts = [f"to the full one {number}" for number in range(3)]
    promised = {body(text * 100) for text in texts if send(a, "b", text) == "acknowledged"}

    ballast.unlink()
    wait_for(lambda: send(b, "a", "room again") in ("acknowledged", "queued"), "b can write again", timeout=60.0)
    wait_for(lambda: a.status()["outbox"]["queued"] == 0, "what a kept has been delivered", timeout=60.0)
    assert promised | {body("before" * 100)} <= inbox(b)

    b.kill()
    b.start()
    assert b.status()["peer_id"] == identity
    assert b.status()["state"] == "member"
    wait_for(lambda: Mesh.fully_linked(a, b), "a and b are linked again")


def test_a_daemon_does_not_start_on_a_full_disk_and_says_why(mesh: Mesh, small_disk: Path) -> None:
    ballast = fill(small_disk)
    b = mesh.add("b")
    b.begin()
    wait_for(lambda: b.exit_status() is not None, "it has given up")
    assert b.exit_status() == 1
    assert "full" in b.log() or "No space left" in b.log()
    ballast.unlink()
    b.start()
