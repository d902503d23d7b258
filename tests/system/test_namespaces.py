"""Daemons on hosts of their own, in network namespaces: real addresses, and pairs that cannot connect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hosts import HostedMesh, Hosts, send, texts

from demo.processes import Daemon, Failed, wait_for

pytestmark = [pytest.mark.root, pytest.mark.needs("ip"), pytest.mark.timeout(120)]


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with Hosts() as hosts:
        yield hosts


@pytest.fixture
def mesh(hosts: Hosts) -> Iterator[HostedMesh]:
    with HostedMesh(hosts) as mesh:
        yield mesh


def peer(daemon: Daemon, name: str) -> dict[str, Any]:
    return next((p for p in daemon.call("peers.list")["peers"] if p["name"] == name), {})


def test_three_hosts_become_one_mesh_in_two_pushes_a_joiner(mesh: HostedMesh, hosts: Hosts) -> None:
    a, b, c = mesh.found("a", "b", "c")
    assert mesh.pushes_sent() == 4
    path = peer(b, "c")["path"]
    assert path["kind"] == "host"
    assert path["local"].startswith(hosts.address("b"))
    assert path["remote"].startswith(hosts.address("c"))
    assert send(c, "b", "over the wire")["state"] == "acknowledged"
    assert texts(b) == ["over the wire"]
    warnings = a.call("introductions.mint")["warnings"]
    assert any("private addresses" in warning for warning in warnings), "said before, not after"


def test_a_pair_that_cannot_connect_talks_through_the_third(mesh: HostedMesh, hosts: Hosts) -> None:
    a, b, c = mesh.start("a", "b", "c")
    hosts.separate("b", "c")
    a.meshctl("found", "home", "--name", "a")
    mesh.join(b, a)
    mesh.join(c, a)
    wait_for(lambda: peer(b, "c").get("via") == ["a"], "b sees c behind a")
    assert send(b, "c", "sealed, relayed")["state"] == "acknowledged"
    assert texts(c) == ["sealed, relayed"]
    assert b.call("peers.ping", peer="c")["via"] == ["a"]
    assert a.counter("envelopes_relayed") > 0
    wait_for(lambda: peer(b, "c")["last_error"] or peer(c, "b")["last_error"], "the reason is known")
    assert mesh.pushes_sent() == 4, "a pair with a path over others is not called by push"

    a.kill()
    wait_for(lambda: not peer(b, "c")["reachable"], "b has noticed that the relay is gone", timeout=30)
    send(b, "c", "while nobody relays", wait=False)
    a.start()
    wait_for(lambda: "while nobody relays" in texts(c), "the queued message came when the relay came back", timeout=60)

    hosts.separate("b", "c", apart=False)
    wait_for(lambda: "c" in b.linked() and "b" in c.linked(), "what can connect does, in the end", timeout=60)
    assert texts(c).count("while nobody relays") == 1


def test_a_joiner_that_cannot_connect_is_told_why(mesh: HostedMesh, hosts: Hosts) -> None:
    a, b = mesh.start("a", "b")
    hosts.separate("a", "b")
    a.meshctl("found", "home", "--name", "a")
    token = a.call("introductions.mint")["token"]
    with pytest.raises(Failed) as refusal:
        b.call("mesh.join", token=token, name="b", timeout=20)
    assert refusal.value.symbol == "link_failed"
    assert "private addresses only" in str(refusal.value)
    assert b.status()["state"] == "member", "the admission stands; the node keeps trying"
    hosts.separate("a", "b", apart=False)
    b.stop()
    b.start()  # it would call again by itself, within a minute or two
    wait_for(lambda: "a" in b.linked(), "the link comes with no new token once the network lets it")
