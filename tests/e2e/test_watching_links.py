"""What an operator sees of links, and what links make of a process that stands still."""

from __future__ import annotations

import signal
import socket
import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from demo.processes import Daemon, Mesh, wait_for

pytestmark = pytest.mark.e2e


def samples(text: str) -> dict[str, dict[str, float]]:
    """By name and peer."""
    return {
        family.name: {sample.labels.get("peer", ""): sample.value for sample in family.samples}
        for family in text_string_to_metric_families(text)
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_metrics_are_the_same_by_socket_and_by_http(mesh: Mesh) -> None:
    port = free_port()
    mesh.add("a", f"[control]\nmetrics_port = {port}\n").start()
    mesh.add("b").start()
    a, b = mesh.daemons["a"], mesh.daemons["b"]
    a.meshctl("found", "home", "--name", "a")
    mesh.join(b, a)
    wait_for(lambda: Mesh.fully_linked(a, b), "they are linked")
    wait_for(lambda: a.call("peers.list")["peers"][0]["rtt"] is not None, "the round trip is known")
    with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=10) as answer:
        over_http = samples(answer.read().decode())
    by_socket = samples(a.meshctl("metrics").stdout)
    assert over_http.keys() == by_socket.keys()
    for found in (over_http, by_socket):
        assert 0 < found["meshd_link_round_trip_seconds"]["b"] < 5
        assert found["meshd_links"] == {"": 1}
        assert found["process_open_fds"][""] > 5
        assert found["meshd_store_size_bytes"][""] > 0
    table = a.meshctl("peers").stdout.splitlines()
    assert table[1].split()[:2] == ["b", "host"]
    details = a.meshctl("peers", "-v").stdout
    assert "by heartbeats" in details


def stand_still(daemon: Daemon, seconds: float) -> None:
    daemon.signal(signal.SIGSTOP)
    time.sleep(seconds)  # the time itself is what is tried
    daemon.signal(signal.SIGCONT)


def test_a_process_that_stood_still_blames_nobody(mesh: Mesh) -> None:
    a, b = mesh.found("a", "b")
    for _ in range(3):
        stand_still(b, 2.0)
        wait_for(lambda: a.linked() == {"b"} and b.linked() == {"a"}, "both are there")
    assert b.counter("held_up") >= 1
    assert (a.counter("links_lost"), b.counter("links_lost")) == (0, 0)


def test_a_process_that_stands_still_for_long_is_noticed(mesh: Mesh) -> None:
    """Its socket stays open, so nothing but silence tells."""
    a, b = mesh.found("a", "b")
    began = time.monotonic()
    b.signal(signal.SIGSTOP)
    wait_for(lambda: a.linked() == set(), "a has noticed")
    assert time.monotonic() - began < 8.0  # 5, and what a loaded machine adds
    assert a.counter("links_lost_silent") == 1
    b.signal(signal.SIGCONT)
    wait_for(lambda: Mesh.fully_linked(a, b), "they are linked again")
    (peer,) = a.call("peers.list")["peers"]
    assert peer["last_error"] == "silent"
    assert peer["last_error_at"] is not None
