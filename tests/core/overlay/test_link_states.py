"""Link states: what is forged, old, a stranger's or a revoked member's changes nothing; ours is never lower than one
that is around.
"""

from __future__ import annotations

import pytest
from crowd import link_state_of, record_of, suites
from playbook import Player, Stage

from meshd.core.membership.record_rate import RECORD_BURST
from meshd.core.overlay.link_states import MAX_EARLY
from meshd.wire.link_state import LINK_STATE_LIFETIME, make_link_state
from meshd.wire.messages import Records


def two() -> tuple[Stage, Player, Player]:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh(5.0)
    return stage, anna, bert


def hear(anna: Player, bert: Player, *encoded: bytes) -> None:
    anna.hear(bert, Records((), encoded))


def known(player: Player, prefix: bytes) -> int:
    state = player.node.link_states.of(prefix)
    return 0 if state is None else state.number


def test_each_knows_who_is_linked_with_whom() -> None:
    stage = Stage("anna", "bert", "carl")
    players = stage.mesh()
    for player in players:
        for other in players:
            state = player.node.link_states.of(other.id[:8])
            assert state is not None
            assert set(state.neighbors) == {third.id[:8] for third in players if third is not other}


def test_an_older_one_changes_nothing() -> None:
    _, anna, bert = two()
    (suite,) = suites(anna, 1)
    anna.hear(bert, Records((record_of(anna, suite).encoded,)))
    for number in (5, 4, 5, 6, 5):
        hear(anna, bert, link_state_of(anna, suite, [bytes(bert.id)], number=number).encoded)
    assert known(anna, suite.peer_id[:8]) == 6


def test_what_is_forged_or_expired_or_from_another_mesh_changes_nothing() -> None:
    _, anna, bert = two()
    (suite,) = suites(anna, 1)
    anna.hear(bert, Records((record_of(anna, suite).encoded,)))
    good = link_state_of(anna, suite, [])
    forged = bytearray(good.encoded)
    forged[-1] ^= 1
    old = link_state_of(anna, suite, [], age=int(LINK_STATE_LIFETIME) + 1)
    ahead = link_state_of(anna, suite, [], age=-86_400)
    other = make_link_state(
        suite, type(anna.node.membership.mesh)(bytes(32)), number=1, issued=good.issued, neighbors=()
    )
    hear(anna, bert, bytes(forged), b"garbage", old.encoded, ahead.encoded, other.encoded)
    assert known(anna, suite.peer_id[:8]) == 0
    assert anna.counters["records_malformed"] == 1
    assert anna.counters["records_rejected"] == 4
    assert anna.neighbors() == {"bert"}


def test_a_stranger_has_none_but_a_member_may_be_early() -> None:
    _, anna, bert = two()
    (suite,) = suites(anna, 1)
    hear(anna, bert, link_state_of(anna, suite, [], number=3).encoded)
    assert known(anna, suite.peer_id[:8]) == 0
    anna.hear(bert, Records((record_of(anna, suite).encoded,)))
    assert known(anna, suite.peer_id[:8]) == 3


def test_those_of_strangers_are_bounded() -> None:
    _, anna, bert = two()
    for suite in suites(anna, MAX_EARLY + 50):
        hear(anna, bert, link_state_of(anna, suite, []).encoded)
    assert len(anna.node.link_states._early) == MAX_EARLY


def test_a_member_may_renew_its_own_so_often_and_no_oftener() -> None:
    _, anna, bert = two()
    (suite,) = suites(anna, 1)
    anna.hear(bert, Records((record_of(anna, suite).encoded,)))
    for number in range(1, RECORD_BURST + 21):
        hear(anna, bert, link_state_of(anna, suite, [], number=number).encoded)
    assert known(anna, suite.peer_id[:8]) == RECORD_BURST


def test_a_member_that_has_left_or_was_revoked_has_none() -> None:
    stage = Stage("anna", "bert", "carl", "dora")
    anna, _, carl, dora = stage.mesh()
    carl.ask("mesh.leave")
    anna.ask("members.revoke", peer="dora")
    stage.advance(1)
    for player in (anna, stage["bert"]):
        assert known(player, carl.id[:8]) == 0
        assert known(player, dora.id[:8]) == 0


def test_ours_is_above_one_that_is_around() -> None:
    """After a restart with a clock that was set back, the others have a higher number than we would give."""
    stage, anna, bert = two()
    before = known(bert, anna.id[:8])
    anna.crash()
    anna.skew = -500.0
    anna.start()
    stage.advance(30)
    assert anna.neighbors() == {"bert"}
    assert known(anna, anna.id[:8]) == known(bert, anna.id[:8]) > before


@pytest.mark.parametrize("above", [1 << 39, 1 << 20])
def test_a_number_that_leaves_no_room_is_not_believed(above: int) -> None:
    stage, anna, bert = two()
    own = bert.node.link_states.own
    assert own is not None
    mesh = bert.node.membership.mesh
    number = own.number + 1000 if above < own.number else above + 1
    said = make_link_state(bert.suite, mesh, number=number, issued=int(stage.unix), neighbors=())
    hear(bert, anna, said.encoded)
    stage.advance(2)
    after = known(bert, bert.id[:8])
    assert (after > number) is (number <= 1 << 39)
