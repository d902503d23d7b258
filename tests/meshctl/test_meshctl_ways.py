"""What shows the mesh as a whole and the way through it: ``meshctl graph`` and ``meshctl trace``."""

import json
import os
import pty
from xml.etree import ElementTree

import pytest


def test_a_picture_goes_where_it_is_wanted(daemon, tmp_path):
    piped = daemon.run("graph")
    assert piped.status == 0
    assert piped.err == ""
    assert ElementTree.fromstring(piped.raw).tag.endswith("svg")
    path = tmp_path / "mesh.svg"
    ended = daemon.run("graph", "-o", str(path))
    assert (ended.status, ended.out) == (0, "")
    assert str(path) in ended.err
    assert path.read_bytes() == piped.raw
    assert daemon.run("graph", "-o", "-").raw == piped.raw


@pytest.mark.parametrize(
    ("words", "name", "begins"),
    [
        ((), "mesh.dot", "graph mesh {"),
        ((), "mesh.GV", "graph mesh {"),
        ((), "mesh.json", '{"mesh_id"'),
        ((), "mesh", "<svg"),
        (("-T", "dot"), "mesh.svg", "graph mesh {"),
        (("--json",), "mesh.svg", '{"mesh_id"'),
    ],
)
def test_the_name_of_the_file_says_what_to_write_unless_an_option_does(daemon, tmp_path, words, name, begins):
    assert daemon.run("graph", *words, "-o", str(tmp_path / name)).status == 0
    assert (tmp_path / name).read_text().startswith(begins)


def test_a_terminal_is_spared_a_picture_and_given_words(daemon):
    ours, theirs = pty.openpty()
    try:
        ended = daemon.run("graph", stdout=theirs)
        assert ended.status == 2
        assert "meshctl graph -o mesh.svg" in ended.err
        assert daemon.run("graph", "-T", "dot", stdout=theirs).status == 0
        assert b"graph mesh {" in os.read(ours, 4096)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_file_that_cannot_be_written_is_said_in_a_sentence(daemon, tmp_path):
    ended = daemon.run("graph", "-o", str(tmp_path / "nowhere" / "mesh.svg"))
    assert ended.status == 1
    assert "cannot be written: No such file or directory." in ended.err


def test_a_hostile_name_stays_a_name(daemon):
    picture, described = daemon.run("graph").out, daemon.run("graph", "-T", "dot").out
    assert "&lt;script&gt;" in picture
    assert "<script" not in picture
    assert '[label="x\\"]<script>y"' in described


def test_without_a_mesh_there_is_nothing_to_draw(daemon):
    daemon.backend.state = "no_mesh"
    ended = daemon.run("graph")
    assert (ended.status, ended.out) == (1, "")
    assert "belongs to no mesh" in ended.err


def test_a_trace_is_a_line_for_each_hop(daemon):
    ended = daemon.run("trace", "desk")
    lines = ended.out.splitlines()
    assert ended.status == 0
    assert [line.split()[:3] for line in lines] == [
        ["HOP", "NAME", "RTT"],
        ["1", "xy", "4.2ms"],
        ["2", "nas", "silent"],
        ["3", "desk", "4.2ms"],
    ]
    assert "By the records of this node it would go by nas." in ended.err


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        ("silent", "desk does not answer."),
        ("no_route", "nas knows no way to desk."),
        ("refused", "nas does not relay."),
        ("loop", "nas would hand it to one that has had it before"),
        ("too_far", "desk is more than 8 hops away"),
    ],
)
def test_a_trace_that_does_not_get_there_says_why(daemon, outcome, says):
    daemon.backend.outcome = outcome
    ended = daemon.run("trace", "desk")
    assert ended.status == 1
    assert says in ended.err
    as_json = daemon.run("trace", "desk", "--json")
    assert as_json.status == 1
    assert json.loads(as_json.out)["outcome"] == outcome


def test_a_trace_asks_as_often_as_wished(daemon):
    daemon.run("trace", "desk", "-q", "7", "--timeout", "500ms")
    _, params, _ = daemon.backend.calls[-1]
    assert (params["peer"], params["probes"], params["timeout"]) == ("desk", 7, 0.5)
    assert daemon.run("trace", "desk", "-q", "11").status == 2
