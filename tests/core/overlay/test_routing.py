"""Shortest paths over edges that both ends list, against a brute force; and what a thousand members cost."""

from __future__ import annotations

import sys
import tracemalloc
from collections import deque
from random import Random

import pytest
from crowd import link_state_of, random_graph, record_of, suites
from hypothesis import given, settings
from hypothesis import strategies as st
from playbook import Player, Stage

from meshd.config import Config
from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.core.membership.revocations import Revocations
from meshd.core.overlay import routing as routing_module
from meshd.core.overlay.link_states import LinkStates
from meshd.core.overlay.neighbors import Link, Neighbors
from meshd.core.overlay.neighbors import LinkState as Phase
from meshd.core.overlay.routing import Routing
from meshd.ids import PREFIX_SIZE, Instance, LinkId, MeshId, Now, PeerId, SessionId
from meshd.sim.suite import KeyTable, SimSuite
from meshd.wire.link_state import LinkState, make_link_state
from meshd.wire.messages import Records
from meshd.wire.record import DEPARTED, RELAYS, Record

NOW = 1_800_000_000


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(2, "big") * 16)


def record(number: int, flags: int, expires: int) -> Record:
    made = Record(1, (), b"", 0, 0, Instance(bytes(8)), NOW, expires, flags, (b"",), NOW + 1000, 0)
    return _Placed(made, peer(number))  # type: ignore[return-value]


class _Placed:
    """A record under an id of our choosing, without a chain."""

    def __init__(self, made: Record, whose: PeerId) -> None:
        self._made, self.peer = made, whose

    def __getattr__(self, name: str) -> object:
        return getattr(self._made, name)


def routing(own: int, linked: list[int], listed: dict[int, set[int]], odd: dict[int, str]) -> Routing:
    """The routing of ``own``, which has these links, where members list these neighbors."""
    suite = SimSuite(KeyTable(), bytes(32), bytes(32))
    suite.peer_id = peer(own)
    ctx = Context(Config(), suite, Random(1), Instance(bytes(8)))
    ctx.now = Now(0.0, float(NOW))
    membership = Membership(ctx, {}, Revocations(ctx, {}))
    neighbors = Neighbors(ctx, membership)
    link_states = LinkStates(ctx, membership, neighbors)
    for number, others in listed.items():
        flags = {"no relay": 0, "departed": RELAYS | DEPARTED}.get(odd.get(number, ""), RELAYS)
        expires = NOW if odd.get(number) == "expired" else NOW + 100
        membership._keep(record(number, flags, expires))
        prefixes = tuple(sorted(peer(other)[:PREFIX_SIZE] for other in others))
        state = LinkState(peer(number)[:PREFIX_SIZE], 1, NOW, prefixes, b"", 0)
        link_states._states[state.prefix] = state
    for number in linked:
        link = Link(LinkId(number), peer(number), SessionId(bytes(8)), MeshId(bytes(32)), Phase.UP)
        neighbors._current[peer(number)] = link
    return Routing(ctx, membership, neighbors, link_states)


def brute_force(
    own: int, linked: list[int], listed: dict[int, set[int]], odd: dict[int, str]
) -> dict[int, tuple[int, set[int]]]:
    """For each member that can be reached: how far it is, and all first hops of shortest paths."""
    found: dict[int, tuple[int, set[int]]] = {}
    for first in linked:
        distance = {first: 1}
        queue = deque([first])
        while queue:
            at = queue.popleft()
            if at not in listed or odd.get(at):
                continue
            for other in listed[at]:
                usable = other in listed and odd.get(other) not in ("departed", "expired") and at in listed[other]
                if usable and other != own and other not in distance:
                    distance[other] = distance[at] + 1
                    queue.append(other)
        for number, hops in distance.items():
            known, ways = found.get(number, (hops, set()))
            if hops < known:
                known, ways = hops, set()
            if hops == known:
                ways = ways | {first}
            found[number] = (known, ways)
    return found


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[int], dict[int, set[int]], dict[int, str]]:
    count = draw(st.integers(2, 12))
    pairs = [(one, other) for one in range(count) for other in range(one)]
    listed: dict[int, set[int]] = {number: set() for number in range(count)}
    for one, other in pairs:
        edge = draw(st.sampled_from(["", "", "both", "both", "one", "other"]))
        if edge in ("both", "one"):
            listed[one].add(other)
        if edge in ("both", "other"):
            listed[other].add(one)
    linked = draw(st.lists(st.integers(1, count - 1), unique=True, max_size=4))
    odd = draw(
        st.dictionaries(st.integers(1, count - 1), st.sampled_from(["no relay", "departed", "expired"]), max_size=3)
    )
    odd = {number: what for number, what in odd.items() if what == "no relay" or number not in linked}
    return linked, listed, odd


@settings(max_examples=150)
@given(graphs(), st.booleans())
def test_next_hops_are_those_of_shortest_paths(
    drawn: tuple[list[int], dict[int, set[int]], dict[int, str]], whole: bool
) -> None:
    """Whether the whole graph is searched for all, or from both ends for each."""
    linked, listed, odd = drawn
    tested = routing(0, linked, listed, odd)
    with pytest.MonkeyPatch.context() as patch:
        if not whole:
            patch.setattr(routing_module, "SEARCHED_WHOLE", 0)
            patch.setattr(routing_module, "MAX_SINGLE_SEARCHES", 1000)
        compare_with_brute_force(tested, linked, listed, odd)


def compare_with_brute_force(
    tested: Routing, linked: list[int], listed: dict[int, set[int]], odd: dict[int, str]
) -> None:
    expected = brute_force(0, linked, listed, odd)
    for number in listed:
        if number == 0:
            continue
        hop, hops = tested.next_hop(peer(number)), tested.hops(peer(number))
        if number not in expected:
            assert (hop, hops) == (None, None)
        else:
            distance, ways = expected[number]
            assert hops == distance
            assert hop in {peer(way) for way in ways}
            path = tested.path(peer(number))
            assert len(path) == distance - 1
            assert not path or path[0] == hop
            assert tested.next_hop(peer(number), but=hop) is None


def test_a_claim_that_is_not_returned_is_no_edge() -> None:
    """A member that says it is everybody's neighbor attracts nothing."""
    listed = {1: {0, 2}, 2: {1, 3}, 3: {2, 9}, 9: {0, 1, 2, 3, 4}, 4: {3}}
    tested = routing(0, [1], listed, {})
    assert tested.path(peer(3)) == (peer(1), peer(2))
    assert tested.next_hop(peer(4)) is None
    assert tested.next_hop(peer(9)) == peer(1)


def test_our_own_links_count_at_once() -> None:
    assert routing(0, [1], {}, {}).next_hop(peer(1)) == peer(1)


# -- a thousand -------------------------------------------------------------------------------------------------------


Thousand = tuple[Player, Player, list[SimSuite]]


@pytest.fixture(scope="module")
def mesh_of_a_thousand() -> Thousand:
    """Anna, linked to Bert, in a mesh of 1,000 whose other 998 are records on her disk."""
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh(5.0)
    crowd = suites(anna, 998)
    for suite in crowd:
        anna.disk["records"][bytes(suite.peer_id)] = record_of(anna, suite).encoded
    return anna, bert, crowd


def restarted(anna: Player, bert: Player, crowd: list[SimSuite]) -> None:
    """Anna again, and Bert has told her who is linked with whom; the first four with him."""
    anna.restart()
    anna.stage.advance(30)
    edges = random_graph(998, 8)
    said = []
    for number, suite in enumerate(crowd):
        neighbors = [bytes(crowd[other].peer_id) for other in sorted(edges[number])]
        said.append(link_state_of(anna, suite, neighbors + ([bytes(bert.id)] if number < 4 else [])).encoded)
    own = bert.node.link_states.own
    assert own is not None
    listed = tuple(suite.peer_id[:PREFIX_SIZE] for suite in crowd[:4])
    mesh, now = anna.node.membership.mesh, int(anna.stage.unix)
    neighbors = (anna.id[:PREFIX_SIZE], *listed)
    berts = make_link_state(bert.suite, mesh, number=own.number + 1000, issued=now, neighbors=neighbors)
    for start in range(0, len(said), 200):
        anna.hear(bert, Records((), tuple(said[start : start + 200])))
    anna.hear(bert, Records((), (berts.encoded,)))
    assert anna.node.routing.hops(crowd[500].peer_id) is not None


def test_what_a_member_costs_in_memory(mesh_of_a_thousand: Thousand) -> None:
    anna, *_ = mesh_of_a_thousand
    anna.crash()
    tracemalloc.start()
    anna.start()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(anna.node.membership) == 1000
    assert used / 1000 < 6_000  # bytes; of which 600 are the record as it travels
    assert sum(map(len, anna.disk["records"].values())) / 1000 < 700


def test_a_look_at_all_peers_searches_the_graph_once(mesh_of_a_thousand: Thousand) -> None:
    anna, bert, crowd = mesh_of_a_thousand
    restarted(anna, bert, crowd)
    calls = count_calls(lambda: anna.node.view().peers)
    assert calls < 1000 * 150
    assert len(anna.node.view().peers) == 999


def test_a_batch_of_records_does_not_search_for_each(mesh_of_a_thousand: Thousand) -> None:
    anna, bert, crowd = mesh_of_a_thousand
    restarted(anna, bert, crowd)
    news = [record_of(anna, suite, number=7).encoded for suite in crowd[-64:]]
    calls = count_calls(lambda: anna.hear(bert, Records(tuple(news))))
    assert calls / 64 < 1500
    news = [link_state_of(anna, suite, [], number=7).encoded for suite in crowd[-64:]]
    calls = count_calls(lambda: anna.hear(bert, Records((), tuple(news))))
    assert calls / 64 < 500


def test_a_way_is_searched_when_somebody_asks_and_from_both_ends(mesh_of_a_thousand: Thousand) -> None:
    anna, bert, crowd = mesh_of_a_thousand
    restarted(anna, bert, crowd)
    routes = anna.node.routing
    routes.changed()
    first = count_calls(lambda: routes.next_hop(crowd[500].peer_id))
    again = count_calls(lambda: routes.next_hop(crowd[500].peer_id))
    everybody = count_calls(lambda: [routes.next_hop(suite.peer_id) for suite in crowd])
    assert first < 15_000
    assert again < 10
    assert everybody < 1000 * 120


def count_calls(what: object) -> int:
    """Python function calls made while it runs: the same on every machine."""
    calls = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(profile)
    try:
        what()  # type: ignore[operator]
    finally:
        sys.setprofile(None)
    return calls
