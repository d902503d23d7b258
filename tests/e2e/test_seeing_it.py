"""The mesh as a picture, and a way through it: three daemons in a row, of which the outer two cannot connect."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from test_hopeless_pair import has_ipv6, start

from demo.processes import Mesh, wait_for

pytestmark = pytest.mark.e2e


@pytest.mark.skipif(not has_ipv6(), reason="needs ::1")
def test_three_in_a_row_are_traced_and_drawn(mesh: Mesh) -> None:
    first, between = start(mesh, "first", "::1"), start(mesh, "between", "::1", "127.0.0.1")
    first.meshctl("found", "home", "--name", "first")
    mesh.join(between, first)
    wait_for(lambda: Mesh.fully_linked(first, between), "the two are linked")
    last = start(mesh, "last", "127.0.0.1")
    mesh.join(last, between)
    wait_for(lambda: len(first.call("mesh.graph")["links"]) == 2, "the first sees both links")

    traced = json.loads(first.meshctl("trace", "last", "--json").stdout)
    assert (traced["outcome"], [hop["name"] for hop in traced["hops"]]) == ("arrived", ["between", "last"])
    assert all(len(hop["rtts"]) == 3 and hop["rtt"] < 1.0 for hop in traced["hops"])
    assert traced["expected"] == ["between"]
    shown = first.meshctl("trace", "between").stdout
    assert len(shown.splitlines()) == 2

    graph = first.call("mesh.graph")
    assert {each["name"]: each["state"] for each in graph["members"]} == {
        "first": "self",
        "between": "neighbor",
        "last": "reachable",
    }
    text = " ".join(ElementTree.fromstring(first.meshctl("graph").stdout).itertext())
    for words in ("first", "between", "last", "via between", "3 members, 2 links"):
        assert words in text

    between.kill()
    wait_for(lambda: "2 unreachable" in first.meshctl("graph").stdout, "the picture shows that the middle is gone")
    assert "only one end says so" in first.meshctl("graph").stdout
