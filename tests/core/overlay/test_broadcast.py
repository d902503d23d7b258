"""The tree of a broadcast: no item twice where it can be helped, none lost, and every map bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from crowd import link_state_of, record_of, suites
from playbook import Player, Stage

from meshd.config import Config, MeshConfig
from meshd.core.overlay.broadcast import GRAFT_DELAY, HAVE_INTERVAL, MAX_MISSING, NEWS_INTERVAL, id_of
from meshd.wire.broadcasting import MAX_IDS, RECORD_NEWS, Graft, Have, News, NewsItem, Prune
from meshd.wire.messages import Records

NAMES = ("anna", "bert", "carl", "dora", "emil", "fred")


def crowded() -> tuple[Stage, list[Player]]:
    """Six members who have links with all, and believe that the mesh is large."""
    stage = Stage(*NAMES)
    players = stage.mesh()
    for player in players:
        player.node._ctx.config = replace(Config(), mesh=MeshConfig(max_full_mesh=2))
    return stage, players


def told(players: list[Player]) -> int:
    return sum(len(news.items) for player in players for news in player.sent(News))


def test_copies_become_one_for_each_and_nobody_misses_anything() -> None:
    stage, players = crowded()
    anna, bert, *_ = players
    (suite,) = suites(anna, 1)
    anna.hear(bert, Records((record_of(anna, suite).encoded,)))
    stage.advance(5)
    counts = []
    for number in range(1, 13):
        for player in players:
            player.log.clear()
        anna.hear(bert, Records((), (link_state_of(anna, suite, [], number=number).encoded,)))
        stage.advance(5)
        counts.append(told(players))
        for player in players:
            state = player.node.link_states.of(suite.peer_id[:8])
            assert state is not None
            assert state.number == number
    assert counts[-1] == 5  # one copy for each but anna


def test_what_was_lost_on_the_tree_is_asked_for() -> None:
    stage, players = crowded()
    anna, bert, carl = players[:3]
    (suite,) = suites(anna, 1)
    anna.hear(bert, Records((record_of(anna, suite).encoded,)))
    stage.advance(5)
    for number in range(1, 6):  # the tree takes shape
        anna.hear(bert, Records((), (link_state_of(anna, suite, [], number=number).encoded,)))
        stage.advance(5)
    stage.tap = lambda sender, receiver, data: (
        None if receiver is carl and isinstance(Stage.decode(data), News) else data
    )
    anna.hear(bert, Records((), (link_state_of(anna, suite, [], number=6).encoded,)))
    stage.advance(NEWS_INTERVAL * 4)
    stage.tap = None
    stage.advance(2 * HAVE_INTERVAL + 3 * GRAFT_DELAY)
    state = carl.node.link_states.of(suite.peer_id[:8])
    assert state is not None
    assert state.number == 6
    assert carl.counters["grafts"] >= 1


def test_a_full_mesh_pushes_to_all_and_prunes_nobody() -> None:
    stage = Stage("anna", "bert", "carl")
    anna, bert, carl = stage.mesh()
    for player in (anna, bert, carl):
        player.log.clear()
    anna.hear(bert, News((NewsItem(RECORD_NEWS, 0, record_of(anna, suites(anna, 1)[0]).encoded),)))
    assert len(anna.sent(News)) == 1
    assert not [message for player in (anna, bert, carl) for message in player.sent(Prune)]


def test_one_bad_item_spoils_neither_the_others_nor_the_link() -> None:
    _, (anna, bert, *_) = crowded()
    suite = suites(anna, 1)[0]
    good = record_of(anna, suite).encoded
    anna.hear(
        bert, News((NewsItem(RECORD_NEWS, 0, b"garbage"), NewsItem(200, 0, b"x"), NewsItem(RECORD_NEWS, 0, good)))
    )
    assert anna.node.membership.record(suite.peer_id) is not None
    assert anna.counters["records_malformed"] == 1
    assert anna.counters["news_unknown"] == 1
    assert "bert" in anna.neighbors()


def test_what_is_announced_in_vain_is_bounded_and_forgotten() -> None:
    stage, (anna, bert, *_) = crowded()
    for start in range(0, MAX_MISSING + 2 * MAX_IDS, MAX_IDS):
        ids = b"".join((start + i).to_bytes(8, "big") for i in range(MAX_IDS))
        anna.hear(bert, Have(ids, bytes(MAX_IDS)))
    assert len(anna.node.broadcast._missing) == MAX_MISSING
    stage.advance(10 * GRAFT_DELAY)
    assert not anna.node.broadcast._missing
    assert anna.counters["grafts"] == MAX_MISSING


@pytest.mark.parametrize(
    "message", [Have(b"8 bytes.", b""), Have(b"", b"x"), Have(b"seven b", b"x"), Graft(b"seven b")]
)
def test_what_does_not_add_up_ends_the_link(message: object) -> None:
    _, (anna, bert, *_) = crowded()
    anna.hear(bert, message)
    assert anna.notices("link_refused")[-1]["reason"] == "malformed"


def test_a_graft_brings_what_was_missed_and_only_what_is_remembered() -> None:
    stage, (anna, bert, carl, *_) = crowded()
    item = NewsItem(RECORD_NEWS, 0, record_of(anna, suites(anna, 1)[0]).encoded)
    anna.hear(bert, News((item,)))
    stage.advance(5)
    anna.log.clear()
    anna.hear(carl, Graft(id_of(item.kind, item.body) + bytes(8)))
    assert [each.body for news in anna.sent(News) for each in news.items] == [item.body]
