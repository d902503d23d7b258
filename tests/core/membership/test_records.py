"""Records: what a member says about itself, spread to all and reconciled."""

from __future__ import annotations

from dataclasses import replace

import pytest
from crowd import record_of, suites
from playbook import Player, Stage

from meshd.config import Config, MeshConfig
from meshd.core.membership.record_rate import RECORD_BURST, RECORD_RATE
from meshd.core.overlay.reconciliation import RECORDS_PER_BUCKET
from meshd.ids import Instance
from meshd.wire.broadcasting import LINK_STATE_NEWS
from meshd.wire.codec import pack, unpack
from meshd.wire.messages import Digest, News, Records, RecordsWanted, Summary
from meshd.wire.record import Record, make_record


def two() -> tuple[Stage, Player, Player]:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh(5.0)
    return stage, anna, bert


def own(player: Player) -> Record:
    record = player.node.membership.own_record
    assert record is not None
    return record


def test_everybody_knows_everybody() -> None:
    stage = Stage("anna", "bert", "carl", "dora")
    players = stage.mesh()
    for player in players:
        assert {record.name for record in player.node.membership} == {"anna", "bert", "carl", "dora"}
        assert all(len(state.neighbors) == 3 for state in player.node.link_states)


def test_changes_of_neighbors_make_one_link_state_together_and_no_record() -> None:
    stage = Stage("anna", "bert", "carl", "dora")
    anna, *_ = stage.mesh()
    stage.advance(1)
    number, anna.log[:] = own(anna).number, []
    for name in ("bert", "carl", "dora"):
        stage[name].crash()
    stage.advance(30)
    state = anna.node.link_states.own
    assert state is not None
    assert state.neighbors == ()
    assert own(anna).number == number
    said = [item for news in anna.sent(News) for item in news.items]
    assert len({item.body for item in said}) <= 3
    assert {item.kind for item in said} <= {LINK_STATE_NEWS}


def test_a_record_is_passed_on_once_and_not_back() -> None:
    stage = Stage("anna", "bert", "carl")
    anna, bert, carl = stage.mesh()
    (suite,) = suites(anna, 1)
    record = record_of(anna, suite)
    for player in (anna, bert, carl):
        player.log.clear()
    anna.hear(bert, Records((record.encoded,)))
    assert all(player.node.membership.record(suite.peer_id) for player in (anna, bert, carl))
    assert max(len(player.sent(News)) for player in (anna, bert, carl)) == 1
    for player in (anna, bert, carl):
        player.log.clear()
    anna.hear(bert, Records((record.encoded,)))
    assert not any(player.sent(News) for player in (anna, bert, carl))


def test_one_bad_record_spoils_neither_the_others_nor_the_link() -> None:
    _, anna, bert = two()
    one, other = suites(anna, 2)
    good = [record_of(anna, suite).encoded for suite in (one, other)]
    forged = bytearray(good[0])
    forged[-1] ^= 1
    anna.hear(bert, Records((good[0], b"garbage", bytes(forged), good[1])))
    assert anna.counters["records_malformed"] == 1
    assert anna.node.membership.record(one.peer_id)
    assert anna.node.membership.record(other.peer_id)
    assert anna.neighbors() == {"bert"}


def test_a_forged_record_is_rejected() -> None:
    _, anna, bert = two()
    (suite,) = suites(anna, 1)
    forged = bytearray(record_of(anna, suite).encoded)
    forged[-1] ^= 1
    anna.hear(bert, Records((bytes(forged),)))
    assert anna.notices("record_rejected") == [{"peer": bert.id, "reason": "bad_signature"}]
    assert anna.node.membership.record(suite.peer_id) is None


def test_an_older_record_changes_nothing() -> None:
    _, anna, bert = two()
    (suite,) = suites(anna, 1)
    new, old = (record_of(anna, suite, number=number) for number in (5, 4))
    for record in (new, old, new):
        anna.hear(bert, Records((record.encoded,)))
    known = anna.node.membership.record(suite.peer_id)
    assert known is not None
    assert known.number == 5


def test_members_are_bounded() -> None:
    stage = Stage("anna", "bert", config=replace(Config(), mesh=MeshConfig(max_members=4)))
    anna, bert = stage.mesh(5.0)
    for suite in suites(anna, 5):
        anna.hear(bert, Records((record_of(anna, suite).encoded,)))
    assert len(anna.node.membership) == 4


def test_a_member_may_renew_its_record_so_often_and_no_oftener() -> None:
    stage, anna, bert = two()
    (suite,) = suites(anna, 1)
    for number in range(1, int(RECORD_BURST) + 21):
        anna.hear(bert, Records((record_of(anna, suite, number=number).encoded,)))
    known = anna.node.membership.record(suite.peer_id)
    assert known is not None
    assert known.number == int(RECORD_BURST)
    stage.advance(2 / RECORD_RATE)
    anna.hear(bert, Records((record_of(anna, suite, number=1000).encoded,)))
    known = anna.node.membership.record(suite.peer_id)
    assert known is not None
    assert known.number == 1000


# -- our own ----------------------------------------------------------------------------------------------------------


def test_a_restored_backup_is_jumped_past() -> None:
    stage, anna, bert = two()
    backup = {table: dict(rows) for table, rows in anna.disk.items()}
    for number in range(5):
        stage.advance(60)
        anna.ask("node.rename", name=f"anna{number}")
    stage.advance(1)
    newest = own(anna).number
    anna.crash()
    anna.disk = backup
    anna.skew = -500.0  # and a clock that is behind, so that it is of no help
    anna.start()
    stage.advance(30)
    assert own(anna).number > newest
    known = bert.node.membership.record(anna.id)
    assert known is not None
    assert known.number == own(anna).number


def test_two_daemons_with_one_identity_are_noticed() -> None:
    stage, anna, bert = two()
    stage.advance(1)
    ahead = replace_number(bert, own(bert).number + 10, instance=b"elsewher")
    before = own(bert).number
    bert.hear(anna, Records((ahead,)))
    assert bert.notices("identity_doubled") == [{"peer": bert.id, "number": before + 10}]
    assert own(bert).number > before + 10


def replace_number(player: Player, number: int, instance: bytes) -> bytes:
    """A record that the same identity has signed elsewhere."""
    record = own(player)
    return make_record(
        player.suite,
        player.node.membership.mesh,
        number=number,
        chain=record.chain,
        generation=0,
        features=0,
        instance=Instance(instance),
        issued=record.issued,
        flags=record.flags,
    ).encoded


def test_our_own_record_in_other_clothes_is_our_own_record() -> None:
    """What is not signed (fields appended outside, another spelling of a number) must raise no alarm and no echo."""
    _, anna, bert = two()
    record = own(anna)
    dressed = pack([*unpack(record.encoded, 4096), "appended"])
    sent = len(anna.sent(Records))
    for _ in range(3):
        anna.hear(bert, Records((dressed,)))
    assert own(anna).number == record.number
    assert len(anna.sent(Records)) == sent
    anna.restart()
    anna.stage.advance(10)
    assert not anna.notices("identity_doubled")


def test_our_own_record_is_shown_when_its_number_is_durable() -> None:
    stage, anna, bert = two()
    anna.disk_mode = "slow"
    sent = len(anna.sent(Records))
    anna.node.membership.renew_record()
    stage.advance(1)
    anna.hear(bert, RecordsWanted(anna.id[:8]))
    assert len(anna.sent(Records)) == sent
    anna.let_disk_go()
    assert len(anna.sent(Records)) > sent


# -- comparing --------------------------------------------------------------------------------------------------------


def differing(missing_here: int, missing_there: int, common: int) -> tuple[Stage, Player, Player]:
    """Two members that share so many records and each lack some of the other's, after one comparison."""
    stage, anna, bert = two()
    crowd = [record_of(anna, suite).encoded for suite in suites(anna, common + missing_here + missing_there)]
    keys = [suite.peer_id for suite in suites(anna, len(crowd))]
    for player, left_out in ((anna, range(missing_here)), (bert, range(missing_here, missing_here + missing_there))):
        for number, (key, data) in enumerate(zip(keys, crowd, strict=True)):
            if number not in left_out:
                player.disk["records"][bytes(key)] = data
        player.crash()
    for player in (anna, bert):
        player.start()
        player.log.clear()
    for _ in range(200):
        stage.advance(1)
        if len(anna.node.membership) == len(bert.node.membership) == len(crowd) + 2:
            return stage, anna, bert
    raise AssertionError("they never agree")


def test_two_that_differ_in_three_of_a_thousand_exchange_about_three() -> None:
    _, anna, bert = differing(2, 1, 997)
    shown = [data for player in (anna, bert) for message in player.sent(Records) for data in message.records]
    assert len(shown) <= 3 + 12  # and their own, which change while they are linked
    summaries = [*anna.sent(Summary), *bert.sent(Summary)]
    assert sum(len(summary.entries) // 13 for summary in summaries) <= 10 * RECORDS_PER_BUCKET
    assert sum(len(digest.buckets) for digest in (*anna.sent(Digest), *bert.sent(Digest))) <= 6 * 8 * 256


def test_a_newcomer_gets_all() -> None:
    _, anna, _ = differing(300, 0, 1)
    assert sum(len(message.entries) for message in anna.sent(Summary)) <= 400 * 13


@pytest.mark.parametrize(("here", "there"), [(0, 0), (1, 0), (0, 1), (20, 30)])
def test_they_always_agree(here: int, there: int) -> None:
    differing(here, there, 100)


def test_who_agrees_says_no_more_than_that() -> None:
    stage, anna, bert = differing(0, 0, 100)
    stage.advance(5)
    anna.log.clear()
    bert.log.clear()
    stage.advance(300)
    assert not [*anna.sent(Summary), *bert.sent(Summary)]
    assert not [*anna.sent(Records), *bert.sent(Records)]
    assert 2 <= len(anna.sent(Digest)) + len(bert.sent(Digest)) <= 20


def test_records_that_have_expired_are_not_offered_for_ever() -> None:
    """A newcomer cannot take the record of a member who has been away for long: nobody should go on about it."""
    stage, anna, bert = two()
    for suite in suites(anna, 20):
        anna.disk["records"][bytes(suite.peer_id)] = record_of(anna, suite, age=8 * 86_400).encoded
    anna.restart()
    stage.advance(120)
    assert anna.neighbors() == {"bert"}
    assert len(anna.node.membership) == 22  # they may come home
    anna.log.clear()
    rejected = bert.counters.get("records_rejected", 0)
    stage.advance(600)
    assert not anna.sent(Records)
    assert bert.counters.get("records_rejected", 0) == rejected


@pytest.mark.parametrize(
    "message",
    [
        Digest(0, (), bytes(8 * 3)),
        Digest(0, (), bytes(9)),
        Digest(1, (), bytes(8 * 32)),
        Digest(1, (1,), bytes(8 * 32)),
        Digest(2, (1, 1), bytes(8 * 64)),
        Digest(3, (1,), bytes(8 * 32)),
        Summary(3, (), b""),
        Summary(1, (32,), b""),
        Summary(1, (2, 1), b""),
        Summary(1, (1, 2), b"x" * 19),
        RecordsWanted(b"", b"seven b"),
        RecordsWanted(b"seven b"),
    ],
)
def test_comparisons_that_do_not_add_up_end_the_link(message: object) -> None:
    _, anna, bert = two()
    anna.hear(bert, message)
    assert anna.notices("link_refused")[-1]["reason"] == "malformed"


def test_strange_comparisons_that_add_up_do_no_harm() -> None:
    _, anna, bert = two()
    for message in (
        Digest(0, (), bytes(8)),
        Digest(2, tuple(range(32)), b"\xff" * 8 * 1024),
        Summary(1, (7, 8, 9), b""),
        Summary(2, tuple(range(1024)), b"y" * 18 * 2048),
        RecordsWanted(b"x" * 8 * 2048, b"x" * 8 * 2048),
        RecordsWanted(anna.id[:8] * 2048, anna.id[:8] * 2048),
        Records(()),
    ):
        anna.hear(bert, message)
    assert anna.neighbors() == {"bert"}
