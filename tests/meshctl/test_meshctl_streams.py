"""connect and accept: standard input and output on one side, a socket that the daemon was handed on the other."""

import json
import os
import pty
import subprocess

import pytest

from meshd.control.methods import METHODS
from meshd.control.parameters import problem_in

VERBS = [["connect", "desk", "echo"], ["accept", "echo"]]
DATA = os.urandom(1_500_000)


@pytest.mark.parametrize("words", VERBS, ids=["connect", "accept"])
def test_bytes_go_both_ways_and_the_summary_to_standard_error(daemon, words):
    ended = daemon.run("--json", *words, stdin=DATA)
    assert (ended.status, ended.raw) == (0, DATA)
    summary = json.loads(ended.err)
    assert problem_in(METHODS["streams.wait"].result, summary) == ""
    assert summary["reason"] == "done"


def test_people_are_told_who_has_come_and_nothing_else(daemon):
    ended = daemon.run("accept", "echo", stdin=b"x")
    assert (ended.status, ended.raw, ended.err) == (0, b"x", "desk has opened a stream.\n")
    ended = daemon.run("connect", "desk", "echo", stdin=b"x")
    assert (ended.status, ended.raw, ended.err) == (0, b"x", "")


@pytest.mark.parametrize("words", [["connect", "desk", "rude"], ["accept", "rude"]], ids=["connect", "accept"])
def test_a_stream_that_breaks_off_is_a_failure(daemon, words):
    with daemon.start(*words, stdin=subprocess.PIPE) as process:  # more would come, but nobody wants it
        assert process.wait(timeout=10) == 1
        assert b"broke off: the other side stopped" in process.stderr.read()
    ended = daemon.run("--json", *words)
    assert (ended.status, json.loads(ended.err)["reason"]) == (1, "closed_by_peer")


def test_a_refusal_is_one_too(daemon):
    ended = daemon.run("connect", "desk", "nothing", stdin=b"x")
    assert (ended.status, ended.raw) == (1, b"")
    assert "Nobody accepts it." in ended.err
    assert daemon.run("connect", "nobody", "echo").status == 1


def test_a_closed_standard_input_is_an_empty_one(daemon):
    with daemon.start("accept", "echo", stdin=None, preexec_fn=lambda: os.close(0)) as process:
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, b"")


def test_nobody_types_into_a_pipeline(daemon):
    """Standard input is a terminal that never ends; standard output is not one."""
    ours, theirs = pty.openpty()
    try:
        with daemon.start("accept", "echo", stdin=theirs) as process:
            out, _ = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, b"")
    finally:
        os.close(ours)
        os.close(theirs)


def test_whoever_stops_reading_ends_it(daemon):
    reading, writing = os.pipe()
    with daemon.start("connect", "desk", "echo", stdin=subprocess.PIPE, stdout=writing) as process:
        os.close(writing)
        os.close(reading)
        process.stdin.write(b"x")
        process.stdin.close()
        assert process.wait(timeout=10) == 141


def test_options_reach_the_daemon(daemon):
    daemon.run("accept", "--from", "desk", "--timeout", "2m", "echo")
    assert daemon.backend.calls[0][1] == {"application": "echo", "peer": "desk", "timeout": 120}
    daemon.run("connect", "--timeout", "3s", "desk", "echo")
    given = next(params for name, params, _ in daemon.backend.calls if name == "streams.open")
    assert given == {"peer": "desk", "application": "echo", "parameters": None, "timeout": 3}
