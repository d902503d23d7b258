"""A stolen laptop, with real daemons, the real push service and the real meshctl."""

import json
import sqlite3
import time
import urllib.error
import urllib.request
from contextlib import closing

import pytest

from demo.processes import Daemon, Failed, Mesh, wait_for
from meshd.core.pushing.capabilities import is_usable
from meshd.core.state import GrantRow, read_row
from meshd.crypto import vapid
from meshd.ids import from_text
from meshd.wire.endpoint import join_endpoint

pytestmark = pytest.mark.e2e

SECONDS = 5.0  # in which everybody who is there has dropped it


def members(daemon: Daemon) -> set[str]:
    return {peer["name"] for peer in daemon.call("peers.list")["peers"]}


def held_by(thief: Daemon, owner: Daemon) -> tuple[str, str]:
    """An endpoint of ``owner`` and the header to push to it, out of the thief's own state."""
    peer = from_text(owner.status()["peer_id"])
    with closing(sqlite3.connect(f"file:{thief.state}/meshd.db?mode=ro", uri=True)) as database:
        (data,) = database.execute('SELECT value FROM "grants" WHERE key = ?', (peer,)).fetchone()
    part = read_row(GrantRow, data).subscriptions[0]
    endpoint = join_endpoint(part.prefix, part.tail)
    usable = next(c for c in part.capabilities if is_usable(c.exp, time.time()))
    capability = vapid.Capability(usable.exp, usable.signature, usable.subject or vapid.DEFAULT_SUBJECT)
    return endpoint, vapid.authorization(capability, vapid.origin_of(endpoint), part.vapid_key)


def push(endpoint: str, authorization: str) -> int:
    """What the push service says to a push without content."""
    request = urllib.request.Request(endpoint, b"", {"TTL": "0", "Authorization": authorization}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_stolen_laptop_is_out_within_seconds_and_stays_out(mesh: Mesh) -> None:
    """Also for one who was away meanwhile, and after everybody's restart; what it could push with is refused."""
    a, b, c, d = mesh.found("a", "b", "c", "d")
    stolen = {daemon.name: wait_for(lambda daemon=daemon: held_by(b, daemon), "b holds it") for daemon in (a, c)}  # type: ignore[misc]
    assert [push(*held) for held in stolen.values()] == [201, 201]
    d.kill()
    wait_for(lambda: a.linked() == {"b", "c"}, "d is away")
    shown = a.meshctl("revoke", "b", "--yes")
    assert "b is revoked." in shown.stdout
    for daemon, other in ((a, "c"), (c, "a")):
        wait_for(lambda daemon=daemon: "b" not in members(daemon), "b is forgotten", SECONDS)  # type: ignore[misc]
        assert daemon.linked() == {other}
    wait_for(lambda: b.status()["state"] == "revoked", "b knows", SECONDS)
    assert "revoked: no member" in b.meshctl("status").stdout
    assert not b.linked()
    assert '"event":"link_down"' in c.log()
    assert '"reason":"revoked"' in c.log()
    for held in stolen.values():
        wait_for(lambda held=held: push(*held) in (404, 410), "what b could push with is worthless", SECONDS)  # type: ignore[misc]
    for daemon in (b, c):
        daemon.kill()
        daemon.start()
    assert "b" not in members(c)
    assert b.status()["state"] == "revoked"
    d.start()
    wait_for(lambda: Mesh.fully_linked(a, c, d), "d is back")
    wait_for(lambda: "b" not in members(d), "d knows", SECONDS)
    for daemon in (a, c, d):
        listed = json.loads(daemon.meshctl("revocations", "--json").stdout)["revocations"]
        assert [entry["name"] for entry in listed] == ["b"]
    with pytest.raises(Failed) as refused:
        Mesh.join(b, c)
    assert "revoked" in str(refused.value)


def test_the_mesh_key_appoints_and_removes(mesh: Mesh) -> None:
    """The file that founding wrote is all that it takes; another mesh's is told apart."""
    a, b, c = mesh.found("a", "b", "c")
    (key,) = a.socket.parent.glob("*.meshkey")
    assert "b is an admin." in c.meshctl("admin", "appoint", "b", "--mesh-key", str(key)).stdout
    wait_for(lambda: "b " in a.meshctl("admin").stdout, "a knows")
    (other,) = mesh.start("other")
    other.meshctl("found", "elsewhere", "--key-file", "other.meshkey")
    wrong = c.meshctl("admin", "appoint", "c", "--mesh-key", "other.meshkey", check=False)
    assert wrong.returncode == 1
    assert "not the key of this mesh" in wrong.stderr
    refused = b.meshctl("revoke", "a", "--yes", check=False)
    assert "Only the mesh key revokes an admin" in refused.stderr
    b.meshctl("admin", "remove", "a", "--mesh-key", str(key))
    wait_for(lambda: not a.status()["mesh"]["admin"], "a knows that it is none any more")
    assert a.linked() == {"b", "c"}
    refused = a.meshctl("revoke", "c", "--yes", check=False)
    assert "Only an admin revokes members" in refused.stderr
    b.meshctl("revoke", "a", "--yes")
    wait_for(lambda: a.status()["state"] == "revoked", "a knows", SECONDS)
    wait_for(lambda: b.linked() == {"c"} and c.linked() == {"b"}, "b and c go on")
