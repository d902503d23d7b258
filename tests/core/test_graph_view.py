"""The mesh as one node sees it: members, links, claims, ways."""

from __future__ import annotations

from typing import Any

import pytest
from crowd import link_state_of, random_graph, record_of, suites
from hypothesis import given, settings
from hypothesis import strategies as st
from playbook import Player, Stage

from meshd.control.methods import METHODS
from meshd.control.parameters import problem_in
from meshd.daemon.presentation import fields_to_json
from meshd.errors import Code, ControlError
from meshd.wire.record import RECORD_LIFETIME


def graph_of(player: Player) -> dict[str, Any]:
    graph = player.node.view().graph()
    fields = METHODS["mesh.graph"].result
    assert problem_in(fields, fields_to_json(fields, graph)) == ""
    return graph


def pairs(graph: dict[str, Any], key: str) -> list[tuple[str, str]]:
    names = [member["name"] for member in graph["members"]]
    return sorted((names[one], names[other]) for one, other in graph[key])


def state_of(graph: dict[str, Any]) -> dict[str, str]:
    return {member["name"]: member["state"] for member in graph["members"]}


def test_three_in_a_row() -> None:
    stage = Stage("a", "b", "c")
    stage.cut.add(frozenset(("a", "c")))
    a, b, _ = stage.mesh()
    graph = graph_of(a)
    assert graph["mesh_name"] == "home"
    assert state_of(graph) == {"a": "self", "b": "neighbor", "c": "reachable"}
    assert pairs(graph, "links") == [("a", "b"), ("b", "c")]
    assert graph["claims"] == []
    own, near, far = graph["members"]
    assert (own["hops"], near["hops"], far["hops"]) == (0, 1, 2)
    assert (own["before"], near["before"], far["before"]) == (None, None, 1)
    assert near["link"]["kind"] == "host"
    assert far["link"] is own["link"] is None
    assert near["since"] is not None
    assert [member["admin"] for member in graph["members"]] == [True, False, False]
    assert state_of(graph_of(b)) == {"a": "neighbor", "b": "self", "c": "neighbor"}


def test_a_member_that_is_down_is_shown_with_the_links_that_it_last_had() -> None:
    stage = Stage("a", "b", "c")
    a, _, c = stage.mesh()
    c.crash()
    stage.advance(60)
    graph = graph_of(a)
    assert state_of(graph)["c"] == "unreachable"
    assert pairs(graph, "links") == [("a", "b")]
    assert pairs(graph, "claims") == [("c", "a"), ("c", "b")]
    assert graph["members"][2]["hops"] is None


def test_a_link_of_ours_needs_nobodys_word_and_a_claim_to_us_is_one() -> None:
    stage = Stage("a", "b")
    a, b = stage.mesh()
    one, other = suites(a, 2)
    a.node.membership.accept(record_of(a, one, name="liar").encoded, b.id)
    a.node.membership.accept(record_of(a, other, name="other").encoded, b.id)
    a.node.link_states.accept(link_state_of(a, one, [a.id, other.peer_id]).encoded, b.id)
    graph = graph_of(a)
    assert pairs(graph, "links") == [("a", "b")]
    assert pairs(graph, "claims") == [("liar", "a"), ("liar", "other")]


def test_an_expired_record_tells_nothing_of_links() -> None:
    stage = Stage("a")
    a = stage.found("a")
    (old,) = suites(a, 1)
    week = int(RECORD_LIFETIME)
    a.node.membership.accept(record_of(a, old, name="old", age=week - 60).encoded, a.id)
    a.node.link_states.accept(link_state_of(a, old, [a.id]).encoded, a.id)
    assert pairs(graph_of(a), "claims") == [("old", "a")]
    stage.skip(120)
    graph = graph_of(a)
    assert state_of(graph)["old"] == "unreachable"
    assert graph["claims"] == []


def test_without_a_mesh_there_is_nothing_to_see() -> None:
    stage = Stage("a")
    with pytest.raises(ControlError) as caught:
        stage["a"].node.view().graph()
    assert caught.value.code is Code.NO_MESH


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 3))
def test_every_listed_link_is_a_link_or_a_claim_and_none_is_there_twice(count: int, degree: int, seed: int) -> None:
    stage = Stage("a")
    a = stage.found("a")
    made = suites(a, count)
    edges = random_graph(count, min(degree, count - 1), seed)
    for number, suite in enumerate(made):
        listed = [bytes(made[other].peer_id) for other in sorted(edges[number]) if (other + number + seed) % 5]
        a.node.membership.accept(record_of(a, suite).encoded, a.id)
        a.node.link_states.accept(link_state_of(a, suite, listed).encoded, a.id)
    graph = graph_of(a)
    said = {
        (graph["members"][one]["peer_id"], graph["members"][other]["peer_id"])
        for one, other in [*graph["links"], *graph["claims"], *((y, x) for x, y in graph["links"])]
    }
    assert len(said) == 2 * len(graph["links"]) + len(graph["claims"])
    members = {record.peer[:8]: record.peer for record in a.node.membership}
    assert said == {
        (members[state.prefix], members[prefix])
        for state in a.node.link_states
        for prefix in state.neighbors
        if prefix in members
    }
