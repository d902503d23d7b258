"""join with a call in place of a token: who calls is shown and asked about before anything is done."""

import json
import os
import pty

import pytest

CALL = "meshd-call1_" + "abcdefghij" * 40
PAGE = json.dumps({"subscription": {"endpoint": "https://push.example/a b"}, "caller": {}})


def asked(daemon, reply, *words):
    """meshctl at a terminal where ``reply`` is typed."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, reply)
        with daemon.start(*words, stdin=theirs) as process:
            out, err = process.communicate(timeout=20)
    finally:
        os.close(ours)
        os.close(theirs)
    return process.returncode, out.decode(), err.decode()


def test_who_calls_is_shown_and_asked_about(daemon):
    status, out, err = asked(daemon, b"y\n", "join", CALL)
    assert (status, out) == (0, "Admitted phone to home; linked after 1.5 s.\n")
    assert "wants to be admitted to home as phone" in err
    assert "https://push.example" in err


@pytest.mark.parametrize("reply", [b"n\n", b"\n", b"\x04"])
def test_no_is_no(daemon, reply):
    status, out, err = asked(daemon, reply, "join", CALL)
    assert (status, out) == (1, "")
    assert "Not answered." in err


def test_without_a_terminal_somebody_has_to_have_said_yes(daemon):
    ended = daemon.run("join", CALL)
    assert ended.status == 2
    assert "--yes" in ended.err
    assert daemon.run("--json", "join", CALL).status == 2
    assert daemon.run("join", CALL, "--yes").out == "Admitted phone to home; linked after 1.5 s.\n"
    assert daemon.run("join", "-", "--yes", stdin=CALL.encode()).status == 0
    assert json.loads(daemon.run("--json", "join", CALL, "--yes").out)["linked"] is True


def test_a_member_that_calls_needs_no_word(daemon):
    assert daemon.run("join", CALL + "member").out == "Answered phone; linked after 1.5 s.\n"


def test_json_of_a_page_goes_as_it_is(daemon):
    assert daemon.run("join", PAGE, "--yes").status == 0
    assert daemon.run("join", "--yes", stdin=json.dumps(json.loads(PAGE), indent=1).encode()).status == 0


def test_the_caller_may_be_named_here(daemon):
    assert "Admitted tablet to home" in daemon.run("join", CALL, "--name", "tablet", "--yes").out


def test_a_call_that_was_pasted_before(daemon):
    ended = daemon.run("join", CALL + "used", "--yes")
    assert ended.status == 1
    assert "have the caller make a new one" in ended.err
