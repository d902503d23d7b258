"""What a person gets wrong, and what the real meshctl and daemon say to it."""

import os
import stat
from pathlib import Path

import pytest
from published_introduction import PUBLISHED

from demo.processes import Daemon, Mesh, wait_for

pytestmark = pytest.mark.e2e


def minted(daemon: Daemon, **params: object) -> str:
    return str(daemon.call("introductions.mint", **params)["token"])


def refusal(daemon: Daemon, token: str) -> str:
    """What meshctl says about a token that is not good. It always ends with status 1."""
    done = daemon.meshctl("join", token, "--name", daemon.name, "--timeout", "20s", check=False)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def mangled(token: str) -> str:
    middle = len(token) // 2
    return token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]


def test_each_bad_token_has_its_own_message_and_a_good_one_still_works(mesh: Mesh) -> None:
    a, b, c = mesh.start("a", "b", "c")
    a.meshctl("found", "home", "--name", "a")
    good, short_lived, used_up = minted(a), minted(a, lifetime=1.0), minted(a)
    taken_back = a.call("introductions.mint")
    a.call("introductions.revoke", introduction_id=taken_back["introduction_id"])
    c.call("mesh.join", token=used_up, name="c")
    wait_for(lambda: "expired" in states(a), "the short-lived token has expired")

    said = {
        "cut off": refusal(b, good[:-30]),
        "damaged": refusal(b, mangled(good)),
        "not an introduction token": refusal(b, "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"),
        "web3.0-test; it expired": refusal(b, PUBLISHED),
        "has expired": refusal(b, short_lived),
        "revoked": refusal(b, taken_back["token"]),
        "used": refusal(b, used_up),
    }
    for part, text in said.items():
        assert part in text.lower(), text
    assert len(set(said.values())) == len(said)
    assert b.status()["state"] == "no_mesh"
    b.call("mesh.join", token=good, name="b")
    wait_for(lambda: Mesh.fully_linked(a, b, c), "all are linked")


def states(daemon: Daemon) -> list[str]:
    return [entry["state"] for entry in daemon.call("introductions.list")["introductions"]]


def test_own_token_is_recognised(mesh: Mesh) -> None:
    (a,) = mesh.start("a")
    a.meshctl("found", "home", "--name", "a")
    token = minted(a)
    a.meshctl("leave", "--yes")
    assert "own" in refusal(a, token)


def test_token_survives_line_breaks_and_quotes(mesh: Mesh) -> None:
    a, b = mesh.start("a", "b")
    a.meshctl("found", "home", "--name", "a")
    token = minted(a)
    wrapped = "> \u201c" + "\r\n> ".join(token[start : start + 60] for start in range(0, len(token), 60)) + "\u201d\n"
    b.meshctl("join", "-", "--name", "b", stdin=wrapped)
    assert b.linked() == {"a"}


def test_a_member_cannot_join_or_found_again(mesh: Mesh) -> None:
    a, b = mesh.found("a", "b")
    assert "leave it first" in refusal(b, minted(a))
    done = b.meshctl("found", "other", check=False)
    assert done.returncode == 1
    assert not (mesh.directory / "other.meshkey").exists()


def test_unknown_and_ambiguous_names_are_errors(mesh: Mesh) -> None:
    a, _ = mesh.found("a", "b")
    done = a.meshctl("send", "nobody", "hello", check=False)
    assert done.returncode == 1
    assert "no member" in done.stderr.lower()
    assert a.meshctl("send", check=False).returncode == 2


def test_no_daemon_is_status_3_with_what_to_do(mesh: Mesh) -> None:
    absent = mesh.add("absent")
    done = absent.meshctl("status", check=False)
    assert done.returncode == 3
    assert "meshd" in done.stderr


def test_second_daemon_on_the_same_state_is_refused(mesh: Mesh) -> None:
    (a,) = mesh.start("a")
    second = mesh.add("second")
    second.state = a.state
    second.begin()
    wait_for(lambda: second.exit_status() is not None, "the second one has given up")
    assert second.exit_status() == 1
    assert "in use" in second.log() or "another" in second.log()
    assert a.status()["state"] == "no_mesh"


def test_second_daemon_on_the_same_socket_is_refused(mesh: Mesh) -> None:
    (a,) = mesh.start("a")
    second = mesh.add("second")
    second.socket = a.socket
    second.begin()
    wait_for(lambda: second.exit_status() is not None, "the second one has given up")
    assert second.exit_status() != 0
    assert a.status()["state"] == "no_mesh"


def test_stale_socket_is_replaced(mesh: Mesh) -> None:
    (a,) = mesh.start("a")
    a.kill()
    assert stat.S_ISSOCK(os.stat(a.socket).st_mode)
    a.start()


def test_unknown_configuration_key_is_refused_with_a_suggestion(mesh: Mesh) -> None:
    wrong = mesh.add("wrong", "[lnks]\nallow_loopback = true\n")
    wrong.begin()
    wait_for(lambda: wrong.exit_status() is not None, "it has given up")
    assert wrong.exit_status() == 2
    assert "links" in wrong.log()


def test_state_readable_by_others_is_refused(mesh: Mesh) -> None:
    (a,) = mesh.start("a")
    a.stop()
    key = next(Path(a.state).glob("identity*"))
    key.chmod(0o644)
    a.begin()
    wait_for(lambda: a.exit_status() is not None, "it has given up")
    assert str(key) in a.log()
