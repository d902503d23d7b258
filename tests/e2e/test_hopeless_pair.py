"""An introducer and a joiner that cannot connect: one has IPv6 alone, the other IPv4 alone. A third member has both."""

from __future__ import annotations

import socket

import pytest

from demo.processes import Daemon, Failed, Mesh, wait_for

pytestmark = pytest.mark.e2e


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def start(mesh: Mesh, name: str, *addresses: str) -> Daemon:
    """A daemon whose links have these local addresses and no others."""
    written = ", ".join(f'"{address}"' for address in addresses)
    config = mesh.config(name).replace("allow_loopback = true\n", f"allow_loopback = true\naddresses = [{written}]\n")
    daemon = mesh.daemons[name] = Daemon(mesh.directory, name, config)
    daemon.start()
    return daemon


@pytest.mark.skipif(not has_ipv6(), reason="needs ::1")
def test_another_member_answers_within_two_pushes(mesh: Mesh) -> None:
    introducer, between = start(mesh, "introducer", "::1"), start(mesh, "between", "::1", "127.0.0.1")
    introducer.meshctl("found", "home", "--name", "introducer")
    mesh.join(between, introducer)
    wait_for(lambda: Mesh.fully_linked(introducer, between), "the two are linked")
    before = mesh.pushes_sent()
    joiner = start(mesh, "joiner", "127.0.0.1")
    result = mesh.join(joiner, introducer)
    assert result["introducer"]["name"] == "introducer"
    assert (result["pushes_sent"], result["pushes_received"]) == (1, 1)
    assert mesh.pushes_sent() == before + 2
    assert joiner.linked() == {"between"}
    joiner.meshctl("send", "introducer", "by way of another")
    assert "by way of another" in introducer.meshctl("inbox").stdout


@pytest.mark.skipif(not has_ipv6(), reason="needs ::1")
def test_with_nobody_between_them_the_joiner_is_told_why(mesh: Mesh) -> None:
    introducer, joiner = start(mesh, "introducer", "::1"), start(mesh, "joiner", "127.0.0.1")
    introducer.meshctl("found", "home", "--name", "introducer")
    with pytest.raises(Failed) as failure:
        mesh.join(joiner, introducer)
    assert failure.value.symbol == "link_failed"
