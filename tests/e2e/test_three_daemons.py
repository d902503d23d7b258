"""What a person does all day, with real daemons and the real meshctl."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from demo.processes import STOP_TIMEOUT, Mesh, wait_for

pytestmark = pytest.mark.e2e

PROJECT = Path(__file__).parents[2]


def test_the_demo_keeps_its_promises_and_leaves_nothing_running() -> None:
    command = [sys.executable, "-m", "demo.three_daemons"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("b is a member, with a link to a: ", "c is a member, with a link to a: "):
        assert line in done.stdout
    assert "0 pushes" in done.stdout
    assert "nothing is left behind" in done.stdout


def test_messages_and_inboxes_of_three(mesh: Mesh) -> None:
    a, b, c = mesh.found("a", "b", "c")
    assert mesh.pushes_sent() == 4
    for sender, receiver in ((a, b), (b, c), (c, a)):
        sender.meshctl("send", receiver.name, f"from {sender.name}")
    for sender, receiver in ((a, b), (b, c), (c, a)):
        inbox = json.loads(receiver.meshctl("inbox", "--json").stdout)["messages"]
        assert [message["name"] for message in inbox] == [sender.name]
        assert receiver.call("messages.list")["unread"] == 0  # shown is read


def test_killed_and_back_with_no_new_introduction(mesh: Mesh) -> None:
    a, b, c = mesh.found("a", "b", "c")
    identity = c.status()["peer_id"]
    c.kill()
    wait_for(lambda: a.linked() == {"b"} and b.linked() == {"a"}, "a and b have noticed")
    c.start()
    wait_for(lambda: Mesh.fully_linked(a, b, c), "c is back")
    assert c.status()["peer_id"] == identity
    a.meshctl("send", "c", "welcome back")
    assert "welcome back" in c.meshctl("inbox").stdout


def test_all_killed_and_all_back(mesh: Mesh) -> None:
    """Nobody has a link left to signal over: a push has to bring them together."""
    daemons = mesh.found("a", "b", "c")
    for daemon in daemons:
        daemon.kill()
    for daemon in daemons:
        daemon.begin()
    for daemon in daemons:
        daemon.wait_until_ready()
    wait_for(lambda: Mesh.fully_linked(*daemons), "all are linked again")


def test_a_message_for_one_who_is_down_arrives_later(mesh: Mesh) -> None:
    a, b = mesh.found("a", "b")
    b.kill()
    wait_for(lambda: not a.linked(), "a has noticed")
    a.meshctl("send", "--no-wait", "b", "read this later")
    b.start()
    assert wait_for(lambda: b.call("messages.list")["messages"], "the message has come")


def test_the_mesh_goes_on_without_its_founder(mesh: Mesh) -> None:
    a, b, c = mesh.found("a", "b", "c")
    a.stop()
    (d,) = mesh.start("d")
    Mesh.join(d, b)
    wait_for(lambda: Mesh.fully_linked(b, c, d), "b, c and d are linked")


def test_sigterm_stops_cleanly_and_tells_the_neighbors(mesh: Mesh) -> None:
    a, b = mesh.found("a", "b")
    assert b.stop() < STOP_TIMEOUT
    assert b.exit_status() == 0
    wait_for(lambda: not a.linked(), "a has been told", timeout=2.0)  # far less than it takes to notice


def test_leaving_is_for_good_until_introduced_again(mesh: Mesh) -> None:
    a, b = mesh.found("a", "b")
    b.meshctl("leave", "--yes")
    wait_for(lambda: not a.call("peers.list")["peers"], "a has forgotten b")
    assert b.status()["state"] == "no_mesh"
    Mesh.join(b, a)
    assert b.linked() == {"a"}


def test_rename_reaches_the_others(mesh: Mesh) -> None:
    a, b = mesh.found("a", "b")
    b.meshctl("rename", "laptop")
    wait_for(lambda: a.linked() == {"laptop"}, "a knows the new name")
    a.meshctl("send", "laptop", "nice name")
