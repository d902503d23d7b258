"""Sealing keys: renewed by command and on schedule, former ones kept for a while, then erased."""

from __future__ import annotations

import pytest
from playbook import Player, Refused, Stage

from meshd.config import Config, MeshConfig
from meshd.core.membership.sealing_keys import FORMER_KEY_RETENTION, LOOK_INTERVAL, MAX_FORMER_KEYS
from meshd.core.state import MAX_ROW_SIZE, SealingKeyRow
from meshd.errors import Code, Rejected
from meshd.ids import SessionId
from meshd.wire.codec import decode
from meshd.wire.messages import Ping

DAY = 86_400.0


def two() -> tuple[Stage, Player, Player]:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh(5.0)
    return stage, anna, bert


def key_of(player: Player, seen_by: Player) -> bytes | None:
    return seen_by.node.membership.sealing_key(player.id)


def letter(sender: Player, to: Player) -> bytes:
    """Sealed with the key that the sender knows now."""
    envelope = sender.node.post.envelope(to.id, Ping(b"n" * 8), SessionId(b"s" * 8))
    assert envelope is not None
    return envelope


def opens(player: Player, envelope: bytes) -> bool:
    try:
        player.suite.open(None, b"meshd envelope 1\0" + envelope[:42], envelope[42:])
    except Rejected:
        return False
    return True


def seeds_on_disk(player: Player) -> set[bytes]:
    return {decode(SealingKeyRow, row, MAX_ROW_SIZE).seed for row in player.disk["sealing_keys"].values()}


def test_a_new_key_is_announced_and_the_former_one_still_opens() -> None:
    stage, anna, bert = two()
    before, under_way = key_of(bert, anna), letter(anna, bert)
    answer = bert.ask("keys.rotate")
    stage.advance(1.0)
    assert key_of(bert, anna) == answer["sealing_key"]["key"] == bert.suite.sealing_key != before
    assert [former["key"] for former in answer["former_sealing_keys"]] == [before]
    assert opens(bert, under_way)
    assert opens(bert, letter(anna, bert))
    assert bert.notices("sealing_key_renewed") == [{"cause": "asked"}]
    assert anna.neighbors() == {"bert"}, "no link is lost for it"


def test_a_key_is_announced_only_when_it_would_survive_a_power_cut() -> None:
    stage, anna, bert = two()
    before = key_of(bert, anna)
    bert.disk_mode = "slow"
    number = bert.request("keys.rotate")
    stage.advance(1.0)
    assert number not in bert.answers
    assert key_of(bert, anna) == bert.suite.sealing_key == before
    assert bert.refusal("keys.rotate") is Code.BUSY
    bert.restart()
    assert bert.suite.sealing_key == before, "the power is cut, and nothing has happened"
    bert.let_disk_go()
    bert.ask("keys.rotate")
    stage.advance(10.0)
    after, under_way = key_of(bert, anna), letter(anna, bert)
    assert after != before
    bert.restart()
    stage.advance(10.0)
    assert bert.suite.sealing_key == after
    assert opens(bert, under_way)


def test_a_full_disk_refuses_and_changes_nothing() -> None:
    stage, _anna, bert = two()
    before = bert.suite.sealing_key
    bert.disk_mode = "full"
    assert bert.refusal("keys.rotate") is Code.STORE_FAILED
    bert.disk_mode = "good"
    stage.advance(60.0)
    assert bert.suite.sealing_key == before
    assert bert.ask("keys.rotate")["sealing_key"]["key"] != before


def test_who_was_away_for_a_fortnight_still_reaches_us_and_later_nobody_opens_what_was_recorded() -> None:
    stage, anna, bert = two()
    anna.crash()
    seed = bert.suite.first_sealing_seed
    bert.ask("keys.rotate")
    stage.skip(14 * DAY)
    recorded = letter(anna, bert)  # with what anna knew a fortnight ago
    assert opens(bert, recorded)
    assert seed in seeds_on_disk(bert)
    stage.skip(FORMER_KEY_RETENTION - 14 * DAY)
    assert not opens(bert, recorded)
    assert seed not in seeds_on_disk(bert), "whoever steals this disk opens none of it"
    bert.restart()
    assert not opens(bert, recorded)


def test_a_machine_that_was_off_opens_what_waits_for_it_before_it_erases() -> None:
    stage, _anna, bert = two()
    seed = bert.suite.first_sealing_seed
    bert.ask("keys.rotate")
    bert.crash()
    stage.skip(30 * DAY)
    bert.start()
    stage.advance(500.0)
    assert seed in seeds_on_disk(bert)
    stage.advance(200.0)
    assert seed not in seeds_on_disk(bert)


@pytest.mark.parametrize("days", [0, 30])
def test_a_key_is_renewed_on_schedule(days: int) -> None:
    stage = Stage("anna", "bert")
    for player in stage.players.values():
        player.config = Config(mesh=MeshConfig(sealing_key_lifetime=days * DAY))
        player.restart()
    anna, bert = stage.mesh(700.0)
    before = bert.suite.sealing_key
    ages = []
    for _ in range(31 * 4):
        stage.skip(LOOK_INTERVAL)
        if bert.suite.sealing_key != before:
            ages.append(stage.unix)
            before = bert.suite.sealing_key
    assert len(ages) == (1 if days else 0)
    if days:
        assert 27 * DAY - 2 * LOOK_INTERVAL <= ages[0] - (stage.unix - 31 * DAY) <= 30 * DAY + LOOK_INTERVAL
        stage.advance(60.0)
        assert key_of(bert, anna) == bert.suite.sealing_key


def test_there_is_a_bound_on_former_keys_and_none_that_may_be_needed_is_dropped_for_it() -> None:
    stage, anna, bert = two()
    under_way = letter(anna, bert)
    for _ in range(MAX_FORMER_KEYS):
        bert.ask("keys.rotate")
        stage.advance(1.0)
    refused = bert.answers[bert.request("keys.rotate")]
    assert isinstance(refused, Refused)
    assert refused.code is Code.REFUSED
    assert opens(bert, under_way)
    assert len(bert.disk["sealing_keys"]) == 1 + MAX_FORMER_KEYS


def test_a_key_is_renewed_without_a_mesh_too() -> None:
    bert = Stage("bert").players["bert"]
    before = bert.suite.sealing_key
    assert bert.ask("keys.rotate")["sealing_key"]["key"] == bert.suite.sealing_key != before


def test_pushes_follow_unless_told_otherwise() -> None:
    stage, _, bert = two()
    stage.advance(30.0)
    assert bert.ask("keys.rotate", push=False)["push_holders"] == 0
    assert not bert.notices("subscriptions_changed")
    assert bert.ask("keys.rotate")["push_holders"] == 1
    assert bert.notices("subscriptions_changed")


def test_what_is_shown_has_no_secrets() -> None:
    _, _, bert = two()
    bert.ask("keys.rotate")
    shown = repr(bert.node.view().keys)
    assert not any(repr(seed)[2:-1] in shown for seed in seeds_on_disk(bert))
    assert "seed" not in repr(SealingKeyRow(b"s" * 32, 0))
