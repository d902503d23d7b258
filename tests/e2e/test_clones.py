"""One identity on two machines: a copied disk, and a move whose old machine is switched on again."""

from __future__ import annotations

import subprocess
import time

import pytest

from demo.processes import Daemon, Mesh, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

# Seconds. Mostly 3 to 20: both are one user agent to the push service, so an answer by push reaches the one or the
# other, until one of them has a link over which it can be shown the other.
PATIENCE = 90.0


def a_second_later() -> None:
    """Of two daemons with one identity, the seconds of their starts decide."""
    now = int(time.time())
    wait_for(lambda: int(time.time()) > now, "another second")


def assert_stands_aside(late: Daemon, early: Daemon, others: set[str]) -> None:
    """The one that came later keeps still, the first keeps its links, and both say so."""
    wait_for(lambda: late.status()["twin"] == "aside", "the later one stands aside", PATIENCE)
    wait_for(lambda: early.status()["twin"] == "kept", "the first one knows")
    wait_for(lambda: early.linked() == others, "the first one has its links", PATIENCE)
    assert not late.linked()
    assert "was started earlier: this one keeps still" in late.meshctl("status").stdout
    assert "has shown itself with this node's identity" in early.meshctl("status").stdout
    assert '"event":"stood_aside"' in late.log()
    assert '"event":"stood_aside"' not in early.log()


def test_a_copied_disk_stands_aside(mesh: Mesh) -> None:
    a, _, c = mesh.found("a", "b", "c")
    clone = mesh.add("clone")
    c.stop()
    subprocess.run(["cp", "-a", c.state, clone.state], check=True)
    c.start()
    wait_for(lambda: c.linked() == {"a", "b"}, "c is back")
    a_second_later()
    clone.start()
    assert clone.status()["peer_id"] == c.status()["peer_id"]
    assert_stands_aside(clone, c, {"a", "b"})
    assert '"event":"identity_doubled"' in a.log()
    assert "c has it" in a.meshctl("send", "c", "still there?").stdout
    assert c.call("messages.list")["messages"]
    assert not clone.call("messages.list")["messages"]


def test_the_old_machine_of_a_moved_node_stands_aside(mesh: Mesh) -> None:
    _, b, _ = mesh.found("a", "b", "c")
    (new,) = mesh.start("new")
    passphrase = mesh.directory / "passphrase"
    passphrase.write_text("correct horse battery\n")
    asked = ("--passphrase-file", str(passphrase), str(mesh.directory / "b.meshid"))
    b.meshctl("identity", "export", "--move", *asked)
    wait_for(lambda: b.exit_status() == 0, "the old one has ended")
    new.meshctl("identity", "import", *asked)
    refused = new.meshctl("found", "other", "--key-file", str(mesh.directory / "other.meshkey"), check=False)
    assert "Another node was imported" in refused.stderr
    new.stop()
    new.start()
    wait_for(lambda: new.linked() == {"a", "c"}, "it goes on there")
    (b.state / "moved-away").unlink()  # by somebody who does not know what it is for
    a_second_later()
    b.start()
    assert_stands_aside(b, new, {"a", "c"})
