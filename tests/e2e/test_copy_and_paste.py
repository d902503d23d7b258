"""Two terminals and no push service: offer, answer, accept, with real daemons and the real meshctl."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from demo.processes import Daemon, Mesh, program, wait_for

pytestmark = pytest.mark.e2e


def pipe(*steps: tuple[Daemon, tuple[str, ...]], stdin: str = "") -> str:
    """meshctl of several machines, each reading what the one before prints, all started at once; the last output."""
    running: list[subprocess.Popen[str]] = []
    for daemon, words in steps:
        running.append(
            subprocess.Popen(
                [program("meshctl"), *words],
                stdin=running[-1].stdout if running else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "MESHD_SOCKET": str(daemon.socket)},
            )
        )
    first, last = running[0], running[-1]
    assert first.stdin is not None
    first.stdin.write(stdin)
    first.stdin.close()
    assert last.stdout is not None
    said = last.stdout.read()
    assert [process.wait(60) for process in running] == [0] * len(running)
    for process in running:
        if process.stdout is not None:
            process.stdout.close()
    return said


def lonely(mesh: Mesh, *names: str) -> list[Daemon]:
    """Daemons that run, the first with a mesh; there is no push service."""
    mesh.push.kill()
    first, *others = mesh.start(*names)
    first.meshctl("found", "home", "--name", first.name)
    return [first, *others]


def test_a_newcomer_joins_by_three_processes_and_two_pipes(mesh: Mesh) -> None:
    a, b = lonely(mesh, "a", "b")
    token = a.meshctl("introduce", "--by-hand").stdout
    said = pipe((b, ("offer", "--for", "-", "--name", "b")), (a, ("answer", "-")), (b, ("accept", "-")), stdin=token)
    assert "Joined home; linked to a" in said
    wait_for(lambda: Mesh.fully_linked(a, b), "both know of it")
    a.meshctl("send", "b", "hello")
    assert "hello" in b.meshctl("inbox").stdout
    assert mesh.pushes_sent() == 0


def test_two_members_that_have_lost_each_other_meet_again(mesh: Mesh) -> None:
    a, b = mesh.found("a", "b")
    mesh.push.kill()
    for daemon in (a, b):
        daemon.kill()
    for daemon in (a, b):
        daemon.start()
    assert a.linked() == b.linked() == set()
    said = pipe((a, ("offer", "--peer", "b")), (b, ("answer", "-")), (a, ("accept", "-")))
    assert "Linked to b" in said
    wait_for(lambda: Mesh.fully_linked(a, b), "both know of it")


def test_sdp_as_browsers_make_it_does_as_well(mesh: Mesh) -> None:
    a, b = mesh.found("a", "b")
    mesh.push.kill()
    for daemon in (a, b):
        daemon.kill()
    for daemon in (a, b):
        daemon.start()
    offered = a.meshctl("offer", "--peer", "b", "--sdp")
    assert "not signed" in offered.stderr
    assert json.loads(offered.stdout)["sdp"].startswith("v=0\r\n")
    answered = b.meshctl("answer", "-", "--from", "a", "--sdp", stdin=offered.stdout).stdout
    assert "Linked to b" in a.meshctl("accept", "-", "--from", "b", stdin=answered).stdout


def test_killed_between_offer_and_accept(mesh: Mesh) -> None:
    a, b = lonely(mesh, "a", "b")
    token = a.meshctl("introduce", "--by-hand").stdout.strip()
    offered = b.meshctl("offer", "--for", token, "--name", "b").stdout
    answered = a.meshctl("answer", "-", stdin=offered).stdout
    b.kill()
    b.start()
    late = b.meshctl("accept", "-", stdin=answered, check=False)
    assert (late.returncode, "meshctl offer" in late.stderr) == (1, True)
    again = a.meshctl("answer", "-", stdin=b.meshctl("offer", "--for", token, "--name", "b").stdout).stdout
    assert "Joined home" in b.meshctl("accept", "-", stdin=again).stdout


def test_each_wrong_text_has_its_own_message(mesh: Mesh) -> None:
    a, b, c = lonely(mesh, "a", "b", "c")
    token = a.meshctl("introduce", "--by-hand").stdout.strip()
    offered = b.meshctl("offer", "--for", token, "--name", "b").stdout.strip()
    told = {
        name: a.meshctl("answer", text, check=False).stderr
        for name, text in {
            "cut off": offered[: len(offered) // 2],
            "damaged": offered[:80] + ("A" if offered[80] != "A" else "B") + offered[81:],
            "introduction token": token,
            "not the offer": "hello",
        }.items()
    }
    assert all(name in message for name, message in told.items()), told
    answered = a.meshctl("answer", offered).stdout.strip()
    assert "meshctl accept" in a.meshctl("answer", answered, check=False).stderr
    assert (
        "another node" in c.meshctl("accept", answered, check=False).stderr
        or "no open offer" in c.meshctl("accept", answered, check=False).stderr
    )
    assert "pasted here before" in a.meshctl("answer", offered, check=False).stderr
    assert "Joined home" in b.meshctl("accept", answered).stdout
