"""meshctl as a program: exit statuses, help, start-up, terminals, completion."""

import contextlib
import json
import os
import pty
import socket
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl import durations, hostname, render
from meshctl.table import VERBS
from meshd import VERSION
from meshd.ids import is_name


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_shows_an_example(no_daemon, verb):
    ended = no_daemon.run(verb, "--help")
    assert (ended.status, ended.err) == (0, "")
    assert "Example" in ended.out
    assert f"meshctl {verb}" in ended.out.partition("Example")[2]


def test_help_lists_every_verb(no_daemon):
    for words in (["help"], ["--help"]):
        ended = no_daemon.run(*words)
        assert ended.status == 0
        assert all(f"  {verb} " in ended.out for verb in VERBS)
    assert no_daemon.run("help", "send").out == no_daemon.run("send", "--help").out
    assert no_daemon.run("--version").out == f"meshctl {VERSION}\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no verb"),
        (["pers"], "Did you mean peers?"),
        (["--bogus"], "--bogus"),
        (["--socket"], "--socket"),
        (["peers", "--jsno"], "Did you mean --json?"),
        (["send"], "PEER"),
        (["ping", "desk", "--timeout", "soon"], "90s"),
        (["help", "pers"], "Did you mean peers?"),
        (["completion", "tcsh"], "bash"),
    ],
)
def test_wrong_use_is_status_two_and_says_what_was_meant(no_daemon, words, says):
    ended = no_daemon.run(*words)
    assert (ended.status, ended.out) == (2, "")
    assert says in ended.err


def test_no_socket_is_status_three_and_says_what_to_do(no_daemon):
    ended = no_daemon.run("peers")
    assert (ended.status, ended.out) == (3, "")
    assert "systemctl start meshd" in ended.err
    assert no_daemon.path in ended.err


def test_errors_are_json_too_if_asked(no_daemon, daemon):
    assert json.loads(no_daemon.run("ping", "x", "--json").err)["error"]["symbol"] == "peer_unknown"
    gone = no_daemon.run("peers", "--json", "--socket", no_daemon.path + "x")
    assert json.loads(gone.err)["error"]["exit_status"] == 3


def test_a_socket_one_may_not_open_names_the_group():
    # Root may open anything, so the refusal is made where it is noticed.
    from meshctl import client

    text = client._advice("/run/meshd/meshd.sock", PermissionError(13, "Permission denied"))
    assert "usermod -aG meshd" in text


def test_a_daemon_that_is_just_starting_is_waited_for(no_daemon):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(no_daemon.path)
        listener.settimeout(10)
        with no_daemon.start("version", "--json") as process:
            # Bound but not listening yet, so connections are refused; a daemon needs about this long.
            starting = threading.Timer(0.3, listener.listen)
            starting.start()
            starting.join()
            connection, _ = listener.accept()
            with connection:
                connection.sendall(hello(1, VERSION))
                assert b"node.version" in connection.recv(1000)
                connection.sendall(b'{"jsonrpc":"2.0","id":1,"result":{"version":"x"}}\n')
                out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, b'{"version": "x"}\n', b"")


def hello(protocol, version):
    params = {"protocol": protocol, "version": version, "peer_id": "aa"}
    return json.dumps({"jsonrpc": "2.0", "method": "hello", "params": params}).encode() + b"\n"


def against(no_daemon, first, *words):
    """Run meshctl against something that says ``first`` and hangs up."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(no_daemon.path)
        listener.settimeout(10)
        listener.listen()
        with no_daemon.start(*words) as process:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(first)
                connection.shutdown(socket.SHUT_WR)
                _, err = process.communicate(timeout=20)
    return process.returncode, err.decode()


def test_another_protocol_is_refused(no_daemon):
    status, err = against(no_daemon, hello(2, VERSION), "peers")
    assert status == 1
    assert "protocol 2" in err


def test_an_answer_that_lacks_a_field_is_no_traceback(no_daemon):
    answer = b'{"jsonrpc":"2.0","id":1,"result":{}}\n'
    status, err = against(no_daemon, hello(1, VERSION) + answer, "peers")
    assert status == 1
    assert "lacks 'peers'" in err


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff\x00\n", b"[]\n"])
def test_what_is_no_daemon_is_unreachable(no_daemon, first):
    status, err = against(no_daemon, first, "peers")
    assert status == 3
    assert no_daemon.path in err


def test_another_version_is_warned_of(daemon):
    daemon.backend.version = "9.9"
    ended = daemon.run("peers")
    assert ended.status == 0
    assert "meshd 9.9" in ended.err


def test_the_socket_is_found_in_order(daemon, tmp_path):
    daemon.env["MESHD_SOCKET"] = ""
    daemon.env["XDG_RUNTIME_DIR"] = str(tmp_path)
    (tmp_path / "meshd").mkdir()
    os.symlink(daemon.path, tmp_path / "meshd" / "meshd.sock")
    assert daemon.run("version").status == 0
    daemon.env["MESHD_SOCKET"] = str(tmp_path / "nothing")
    assert daemon.run("version").status == 3
    assert daemon.run("--socket", daemon.path, "version").status == 0
    assert daemon.run("version", f"--socket={daemon.path}").status == 0


def test_start_up_stays_light(daemon):
    code = "import sys, meshctl.__main__ as m; m.main(['peers']); print(*sys.modules, file=sys.stderr)"
    before = daemon.run_python("import sys; print(*sys.modules, file=sys.stderr)").err.split()
    ended = daemon.run_python(code)
    assert ended.out.startswith("NAME")
    loaded = set(ended.err.split()) - set(before)
    banned = {"trio", "aiortc", "cryptography", "msgpack", "asyncio", "structlog", "dataclasses", "datetime"}
    assert not loaded & banned
    assert {name for name in loaded if name.startswith("meshctl.verbs.")} == {"meshctl.verbs.peers"}
    assert "meshd.control.methods" not in loaded


def on_a_terminal(daemon, *words, **env):
    ours, theirs = pty.openpty()
    daemon.env |= {"TERM": "xterm", **env}
    with daemon.start(*words, stdout=theirs) as process:
        os.close(theirs)
        out = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # EIO: the other end is closed
                break
            out += data
        process.communicate(timeout=20)
    os.close(ours)
    return out


def test_colour_is_for_terminals_that_want_it(daemon):
    assert b"\x1b[32mhost-srflx\x1b[0m" in on_a_terminal(daemon, "peers")
    assert b"\x1b" not in on_a_terminal(daemon, "peers", NO_COLOR="1")
    assert b"\x1b" not in on_a_terminal(daemon, "peers", NO_COLOR="", TERM="dumb")


def test_a_terminal_gets_no_escapes_from_peers(daemon):
    out = on_a_terminal(daemon, "inbox", NO_COLOR="1")
    assert b"\x1b" not in out
    assert b"red" in out


@given(st.text() | st.text("\x1b\x9b[]P;0m\x07\\\x90a\n"))
def test_whatever_peers_say_comes_out_harmless(text):
    shown = render.clean_text(text)
    assert all(char == "\n" or char.isprintable() or ord(char) > 0x9F for char in shown)
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028")
    assert "\n" not in render.clean(text)


@given(st.text(max_size=40))
def test_every_host_name_makes_a_name(host):
    assert is_name(hostname.as_name(host))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5h", 5400), ("12h", 43200), ("3d", 259200), ("250ms", 0.25), ("15m", 900)]
)
def test_durations_are_read(text, seconds):
    assert durations.parse(text) == seconds


@given(st.text(max_size=8))
def test_any_text_is_a_duration_or_is_not(text):
    with contextlib.suppress(ValueError):
        assert durations.parse(text) > 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12.3 ms"), (0.9999, "1 s"), (5.04, "5.04 s"), (59.6, "1 min"), (3600, "1 h"), (93_784, "1 d 2 h")],
)
def test_durations_are_written(seconds, text):
    assert durations.show(seconds) == text


@pytest.fixture
def completing(daemon, tmp_path):
    """Ask a real bash what it would offer."""
    script = tmp_path / "meshctl.bash"
    script.write_bytes(daemon.run("completion", "bash").raw)
    program = tmp_path / "meshctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m meshctl "$@"\n')
    program.chmod(0o755)

    def complete(*words):
        lines = f"""
            source {script}
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
            _meshctl
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "MESHD_SOCKET": daemon.path}
        ended = subprocess.run(
            ["bash", "-c", lines, "bash", *words], capture_output=True, text=True, check=True, env=env, timeout=20
        )
        assert ended.stderr == ""
        return ended.stdout.split()

    return complete


def test_bash_completes_verbs_options_and_live_names(completing, daemon):
    daemon.backend.peers[1]["name"] = "$(touch harm)"
    assert completing("meshctl", "pe") == ["peers"]
    assert "--json" in completing("meshctl", "--")
    assert completing("meshctl", "send", "de") == ["desk"]
    assert "--no-wait" in completing("meshctl", "send", "desk", "--")
    assert completing("meshctl", "introduce", "r") == ["revoke"]
    assert completing("meshctl", "rename", "x", "--peer", "d") == ["desk"]
    assert completing("meshctl", "ping", "") == ["desk", daemon.backend.peers[1]["short_id"]]
    assert completing("meshctl", "--socket", daemon.path, "comp") == ["completion"]


@pytest.mark.parametrize("shell", [pytest.param(it, marks=pytest.mark.needs(it)) for it in ("bash", "zsh", "fish")])
def test_every_script_is_sound_for_its_shell(no_daemon, tmp_path, shell):
    ended = no_daemon.run("completion", shell)
    assert ended.status == 0
    assert all(verb in ended.out for verb in VERBS)
    script = tmp_path / "script"
    script.write_text(ended.out)
    subprocess.run([shell, "-n", script], check=True, timeout=20)
