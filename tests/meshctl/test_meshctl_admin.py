"""Revoking, and what the mesh key is for, as people type it."""

import os
import pty
import time

import pytest
from conftest import ROOT  # noqa: F401  the fake daemon's place is on the path then

from meshctl import durations
from meshd.control.encodings import decode_time, encode_bytes

KEY = encode_bytes(b"k" * 32)


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "home.meshkey"
    path.write_text(f"# The key of the mesh 'home'. Keep it in a safe place.\n{KEY}\n")
    return path


def called(daemon, method):
    return [params for name, params, _ in daemon.backend.calls if name == method]


def test_revoke_says_before_what_falls(daemon):
    ended = daemon.run("revoke", "desk", "--yes")
    assert ended.out == "desk is revoked.\n"
    assert "Admitted through it, 1 stay, and an admin renews them:" in ended.err
    assert "xy, known here since 2023-11-14 22:13:20" in ended.err
    assert [params["preview"] for params in called(daemon, "members.revoke")] == [True, False]
    ended = daemon.run("revoke", "desk", "--all", "--yes")
    assert "1 fall with it:" in ended.err


def test_revoke_asks_on_a_terminal(daemon):
    for answer, status in ((b"n\n", 1), (b"\n", 1), (b"y\n", 0)):
        master, slave = pty.openpty()
        os.write(master, answer)
        with daemon.start("revoke", "desk", stdin=slave) as process:
            out, err = process.communicate(timeout=20)
        os.close(slave)
        os.close(master)
        assert process.returncode == status
        assert b"Revoke it for good? [y/N]" in err
        assert (b"is revoked" in out) == (status == 0)


def test_revoke_since(daemon):
    before = time.time()
    assert daemon.run("revoke", "desk", "--yes", "--since", "2d").status == 0
    since = decode_time(called(daemon, "members.revoke")[-1]["since"])
    assert before - 2 * 86_400 - 1 < since < time.time() - 2 * 86_400 + 1
    assert daemon.run("revoke", "desk", "--yes", "--since", "2025-03-01 09:00").status == 0
    assert called(daemon, "members.revoke")[-1]["since"] == "2025-03-01T09:00:00.000Z"  # TZ is UTC here
    ended = daemon.run("revoke", "desk", "--since", "yesterday")
    assert ended.status == 2
    assert "write 2d (ago)" in ended.err
    assert daemon.run("revoke", "desk", "--since", "2d", "--all").status == 2


@pytest.mark.parametrize("text", ["2025-03-01", "2025-03-01 09:00", "2025-03-01T09:00:07", "2025-03-01T09:00:07.000Z"])
def test_moments(text):
    assert durations.moment(text).startswith("2025-0")


@pytest.mark.parametrize("text", ["", "x", "2025-13-01", "-2d", "0", "9" * 30, "2025-03-01T09:00Z"])
def test_moments_that_are_none(text):
    with pytest.raises(ValueError, match=r"time|1 to 9999"):
        durations.moment(text)


def test_the_key_is_read_from_its_file(daemon, key_file):
    assert daemon.run("admin", "appoint", "desk", "--mesh-key", str(key_file)).out == "desk is an admin.\n"
    assert called(daemon, "admins.appoint")[-1]["mesh_key"] == KEY
    ended = daemon.run("admin", "remove", "desk", "--mesh-key", str(key_file))
    assert ended.out == "desk is no admin any more.\n"
    assert "no admin now" in ended.err
    assert daemon.run("revoke", "desk", "--yes", "--mesh-key", str(key_file)).status == 0
    assert called(daemon, "members.revoke")[-1]["mesh_key"] == KEY


def test_the_file_that_found_writes_is_one(daemon, tmp_path):
    path = tmp_path / "den.meshkey"
    assert daemon.run("found", "den", "--key-file", str(path)).status == 0
    assert daemon.run("admin", "appoint", "desk", "--mesh-key", str(path)).status == 0
    assert called(daemon, "admins.appoint")[-1]["mesh_key"] == called(daemon, "mesh.found")[-1]["mesh_key"]


def test_key_files_that_are_none(daemon, tmp_path, key_file):
    missing = daemon.run("admin", "appoint", "desk", "--mesh-key", str(tmp_path / "nothing"))
    assert missing.status == 1
    assert "cannot be read" in missing.err
    for content in (b"", b"# only a comment\n", b"\xff\xfe", b"abc\n", KEY.encode() + b"\n" + KEY.encode()):
        key_file.write_bytes(content)
        ended = daemon.run("admin", "appoint", "desk", "--mesh-key", str(key_file))
        assert ended.status == 1
        assert "There is no mesh key in" in ended.err
        assert KEY not in ended.err
    assert not called(daemon, "admins.appoint")


def test_the_key_of_another_mesh_is_told_apart(daemon, key_file):
    key_file.write_text(encode_bytes(bytes(32)))
    ended = daemon.run("admin", "appoint", "desk", "--mesh-key", str(key_file))
    assert ended.status == 1
    assert "not the key of this mesh" in ended.err


@pytest.mark.parametrize("words", [["appoint"], ["appoint", "desk"], ["remove", "desk"], ["list", "desk"], ["promote"]])
def test_wrong_use(daemon, words):
    assert daemon.run("admin", *words).status == 2


def test_a_revoked_node_says_so(daemon):
    daemon.backend.state = "revoked"
    assert "no member of the mesh any more" in daemon.run("status").out
