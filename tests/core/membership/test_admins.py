"""Admins: appointed and removed by the mesh key, and stolen."""

from __future__ import annotations

from theft import DAY, KEY, admins, admitted_by, four, members, record_of, revocation_by, state, stranger

from meshd.crypto.admission import Certificate, Rights
from meshd.errors import Code
from meshd.wire.messages import AdmissionIssued, Records, Revocations


def test_a_second_admin_does_what_the_first_does() -> None:
    stage, anna, bert, carl, dora = four()
    assert carl.ask("admins.appoint", peer="bert", mesh_key=KEY) == {"peer_id": bert.id, "name": "bert"}
    stage.advance(1)
    for player in (anna, bert, carl, dora):
        assert admins(player) == {"anna", "bert"}
    anna.crash()
    stage.advance(20)
    assert bert.ask("node.rename", peer="dora", name="dorothy")["name"] == "dorothy"
    assert carl.ask("node.rename", name="charles")["name"] == "charles"  # who asks whatever admin there is
    stage.advance(1)
    bert.ask("members.revoke", peer="dorothy")
    assert state(dora) == "revoked"
    anna.start()
    stage.advance(120)
    assert members(anna) == {"bert", "charles"}


def test_oneself_is_appointed_too() -> None:
    stage, anna, bert, carl, _ = four()
    anna.crash()
    bert.ask("admins.appoint", peer="bert", mesh_key=KEY)
    stage.advance(30)
    assert admins(carl) == {"anna", "bert"}
    bert.ask("members.revoke", peer="anna", mesh_key=KEY)
    assert admins(carl) == {"bert"}
    anna.start()
    stage.advance(60)
    assert anna.neighbors() == set()
    assert members(carl) == {"bert", "dora"}
    assert state(stage["dora"]) == "member"  # who was admitted by the revoked one
    stage.advance(20)
    assert carl.node.membership.chain[-1].issuer == bert.id


def test_the_wrong_key_is_told_apart() -> None:
    _, anna, *_ = four()
    for method in ("admins.appoint", "admins.remove"):
        assert anna.refusal(method, peer="bert", mesh_key=bytes(32)) is Code.MESH_KEY_WRONG
        assert anna.refusal(method, peer="bert") is Code.INVALID_PARAMS
    assert anna.refusal("admins.remove", peer="bert", mesh_key=KEY) is Code.REFUSED
    assert anna.refusal("admins.appoint", peer="nobody", mesh_key=KEY) is Code.PEER_UNKNOWN


def test_whom_nobody_reaches_is_not_appointed() -> None:
    stage, anna, bert, *_ = four()
    bert.crash()
    stage.advance(30)
    assert anna.refusal("admins.appoint", peer="bert", mesh_key=KEY) is Code.PEER_UNREACHABLE


def test_the_founder_is_removed_and_stays_a_member() -> None:
    stage, anna, bert, carl, dora = four()
    links = {player.name: player.neighbors() for player in stage.players.values()}
    bert.ask("admins.appoint", peer="bert", mesh_key=KEY)
    stage.advance(1)
    assert bert.ask("admins.remove", peer="anna", mesh_key=KEY)["admins_left"] == 1
    stage.advance(1)
    for player in (anna, bert, carl, dora):
        assert admins(player) == {"bert"}
        assert player.neighbors() == links[player.name]
    assert anna.notices("admin_removed") == [{"name": "anna"}]
    assert anna.refusal("members.revoke", peer="carl") is Code.REFUSED
    assert anna.refusal("node.rename", peer="carl", name="x") is Code.REFUSED
    assert not any(state(player) == "revoked" for player in (anna, carl, dora))
    anna.restart()
    stage.advance(60)
    assert admins(anna) == {"bert"}
    stage.add("eric")
    stage.join("eric", "anna")  # as any member
    stage.advance(20)
    assert "eric" in members(carl)


def test_an_admin_is_removed_and_revoked_within_a_second() -> None:
    stage, anna, bert, carl, _ = four()
    bert.ask("admins.appoint", peer="bert", mesh_key=KEY)
    stage.advance(0.1)
    bert.ask("admins.remove", peer="anna", mesh_key=KEY)
    stage.advance(0.1)
    bert.ask("members.revoke", peer="anna")
    assert state(anna) == "revoked"
    assert members(carl) == {"bert", "dora"}


def test_a_removed_admin_that_was_away_steps_down_when_it_hears() -> None:
    stage, anna, bert, carl, _ = four()
    bert.ask("admins.appoint", peer="bert", mesh_key=KEY)
    stage.advance(1)
    anna.crash()
    bert.ask("admins.remove", peer="anna", mesh_key=KEY)
    anna.start()
    stage.advance(120)
    assert admins(anna) == admins(carl) == {"bert"}
    assert anna.neighbors() == {"bert", "carl", "dora"}


def test_a_removed_admin_is_appointed_anew() -> None:
    stage, anna, bert, carl, _ = four()
    bert.ask("admins.remove", peer="anna", mesh_key=KEY)
    bert.ask("admins.appoint", peer="anna", mesh_key=KEY)  # within the same second
    stage.advance(1)
    assert admins(carl) == admins(anna) == {"anna"}
    stage.advance(5)
    anna.ask("members.revoke", peer="dora")
    assert members(carl) == {"anna", "bert"}


def test_an_admin_that_is_appointed_and_removed_again_and_again_within_a_second_steps_down() -> None:
    stage, anna, bert, carl, dora = four()
    for _ in range(3):  # each appointment of the same second is dated one later than the removal before it
        carl.ask("admins.appoint", peer="bert", mesh_key=KEY)
        carl.ask("admins.remove", peer="bert", mesh_key=KEY)
    stage.advance(1)
    for player in (anna, bert, carl, dora):
        assert admins(player) == {"anna"}
    assert not bert.node.membership.chain[0].rights & Rights.ADMIN
    assert len(bert.notices("admin_removed")) == 3


def test_a_removed_admin_admits_renews_and_revokes_nobody_however_it_dates() -> None:
    stage, anna, bert, carl, dora = four()
    old: tuple[Certificate, ...] = anna.node.membership.chain
    bert.ask("admins.appoint", peer="bert", mesh_key=KEY)
    bert.ask("admins.remove", peer="anna", mesh_key=KEY)
    stage.advance(1)
    for days in (-20, -1, 0):
        moment = int(stage.unix) + days * DAY
        late = revocation_by(stage, anna, dora.id, authority=old[0], issued=moment, expires=int(stage.unix) + DAY)
        carl.hear(anna, Revocations((late.encoded,)))
        eve = stranger(stage, f"eve {days}")
        carl.hear(anna, Records((record_of(stage, eve, admitted_by(anna, eve, "eve", moment, old)),)))
    assert {notice["reason"] for notice in carl.notices("revocation_rejected")} == {"issuer_revoked"}
    assert {notice["reason"] for notice in carl.notices("record_rejected")} == {"issuer_revoked"}
    chain = admitted_by(anna, carl.suite, "anna-2", stage.unix, old)
    carl.hear(anna, AdmissionIssued(0, tuple(c.encoded for c in chain)))
    assert carl.node.membership.name == "carl"
    assert members(carl) == {"anna", "bert", "dora"}


def test_an_old_appointment_played_again_appoints_nobody() -> None:
    stage, anna, bert, carl, _ = four()
    old = anna.node.membership.chain
    bert.ask("admins.appoint", peer="bert", mesh_key=KEY)
    bert.ask("admins.remove", peer="anna", mesh_key=KEY)
    stage.advance(1)
    anna.hear(carl, AdmissionIssued(0, (old[0].encoded,)))
    assert admins(anna) == {"bert"}
    bert.hear(carl, AdmissionIssued(0, (old[0].encoded,)))
    assert bert.node.membership.name == "bert"


def test_a_stolen_admin_is_revoked_by_the_mesh_key_and_its_last_deeds_with_it() -> None:
    """It revokes somebody, dated back; the revocation that names the day of the theft voids that."""
    stage, anna, bert, carl, dora = four()
    anna.ask("admins.appoint", peer="bert", mesh_key=KEY)
    stage.skip(5 * DAY)
    stage.advance(5)
    stolen = stage.unix
    stage.advance(5)
    evil = revocation_by(stage, bert, dora.id, issued=int(stolen) - DAY, expires=int(stolen) + 9 * DAY)
    for player in (anna, carl):
        player.hear(bert, Revocations((evil.encoded,)))
    assert "dora" not in members(carl)
    anna.ask("members.revoke", peer="bert", mesh_key=KEY, since=stolen)
    assert len(carl.node.view().revocations) == 1
    assert not carl.node.revocations.bars(dora.id)
    stage.join("dora", "anna")
    stage.advance(5)
    assert members(carl) == {"anna", "dora"}
