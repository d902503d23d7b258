"""Who keeps for whom, and when a node is one to keep for others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from crowd import record_of, suites
from playbook import Player, Stage

from meshd.config import Config
from meshd.core.pushing.keepers import KEEPER_LEAST, KEEPER_UPTIME, KEEPER_WINDOW, KEEPERS, MAX_FRIENDS
from meshd.ids import PeerId
from meshd.wire.messages import Records
from meshd.wire.record import KEEPS


def with_keeper(wanted: str) -> Config:
    return replace(Config(), mesh=replace(Config().mesh, keeper=wanted))


def keeps(player: Player) -> bool:
    record = player.node.membership.own_record
    assert record is not None
    return bool(record.features & KEEPS)


def hours(player: Player, count: int) -> None:
    """So many hours pass at once; what is due comes late, as after a sleep."""
    for _ in range(count):
        player.stage.skip(1200.0)
        player.stage.skip(1200.0)
        player.stage.skip(1200.0)


def test_up_for_a_day_makes_a_keeper_and_being_away_ends_it() -> None:
    stage = Stage("anna")
    anna = stage.found("anna")
    hours(anna, KEEPER_UPTIME - 2)
    assert not keeps(anna)
    hours(anna, 3)
    assert keeps(anna)
    anna.crash()
    stage._pass((KEEPER_WINDOW - KEEPER_LEAST + 2) * 3600.0)
    anna.start()
    stage.advance(5)
    assert not keeps(anna)


def test_uptime_outlives_a_restart() -> None:
    stage = Stage("anna")
    anna = stage.found("anna")
    hours(anna, KEEPER_UPTIME - 2)
    anna.restart()
    hours(anna, 3)
    assert keeps(anna)


def test_a_clock_that_was_set_back_begins_anew() -> None:
    stage = Stage("anna")
    anna = stage.found("anna")
    hours(anna, KEEPER_UPTIME + 1)
    assert keeps(anna)
    stage.unix -= 86_400.0 * 30
    hours(anna, 1)
    assert not keeps(anna)


@pytest.mark.parametrize(("wanted", "is_one"), [("always", True), ("never", False)])
def test_people_decide_if_they_like(wanted: str, is_one: bool) -> None:
    stage = Stage("anna", config=with_keeper(wanted))
    anna = stage.found("anna")
    stage.advance(5)
    assert keeps(anna) is is_one
    hours(anna, KEEPER_UPTIME + 2)
    assert keeps(anna) is is_one


def crowd(anna: Player, count: int) -> list[PeerId]:
    """Members that keep, known from the records that a neighbor brings."""
    made = suites(anna, count)
    for suite in made:
        record = record_of(anna, suite, features=KEEPS)
        anna.hear(anna.stage["bert"], Records((record.encoded,)))
        anna.stage["bert"].hear(anna, Records((record.encoded,)))
    return [suite.peer_id for suite in made]


def test_everybody_agrees_on_the_keepers_of_everybody() -> None:
    stage = Stage("anna", "bert", config=with_keeper("never"))
    anna, bert = stage.mesh()
    peers = crowd(anna, 12)
    stage.advance(5)
    for peer in peers:
        chosen = anna.node.keepers.of(peer)
        assert chosen == bert.node.keepers.of(peer)
        assert len(set(chosen)) == KEEPERS
        assert peer not in chosen
    assert len({keeper for peer in peers for keeper in anna.node.keepers.of(peer)}) > KEEPERS  # the load is shared
    assert list(anna.node.keepers) == bert.node.keepers.of(anna.id)


def test_a_keeper_that_goes_is_replaced_and_the_others_stay() -> None:
    stage = Stage("anna", "bert", config=with_keeper("never"))
    anna, _ = stage.mesh()
    peers = crowd(anna, 12)
    before = anna.node.keepers.of(peers[0])
    gone = next(suite for suite in suites(anna, 12) if suite.peer_id == before[0])
    anna.hear(stage["bert"], Records((record_of(anna, gone, number=2, features=0).encoded,)))
    after = anna.node.keepers.of(peers[0])
    assert after[:2] == before[1:]
    assert before[0] not in after


def test_friends_are_in_reach() -> None:
    stage = Stage("anna", "bert", "carl", config=with_keeper("never"))
    anna, bert, carl = stage.mesh()
    crowd(anna, 8)  # keepers all, but nobody has a link to them
    assert set(anna.node.keepers.friends(carl.id)) == {bert.id}
    assert anna.id not in bert.node.keepers.friends(anna.id)
    assert len(anna.node.keepers.friends(carl.id)) <= MAX_FRIENDS
