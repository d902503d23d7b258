"""Who was admitted through the revoked: before the theft, after it, by a thief who knows how all this works."""

from __future__ import annotations

import pytest
from playbook import Refused, Stage
from theft import DAY, admitted_by, deaf, four, introduced, members, mesh_of, record_of, state, stranger

from meshd.core.membership import first_seen
from meshd.errors import Code
from meshd.ids import text_of
from meshd.wire.messages import Records


def test_whom_it_admitted_stays_and_gets_an_admission_of_the_admins_own() -> None:
    stage, anna, _bert, carl = introduced()
    answer = anna.ask("members.revoke", peer="bert")
    assert [entry["name"] for entry in answer["kept"]] == ["carl"]
    assert anna.neighbors() == {"carl"}
    assert state(carl) == "member"
    stage.tap = None
    stage.advance(10)
    assert [certificate.issuer for certificate in carl.node.membership.chain] == [mesh_of(stage), anna.id]


def test_the_kept_who_was_away_is_renewed_too() -> None:
    stage, anna, _bert, carl = introduced()
    carl.crash()
    anna.ask("members.revoke", peer="bert")
    stage.tap = None
    carl.start()
    stage.advance(90)
    assert carl.neighbors() == {"anna"}
    assert len(carl.node.membership.chain) == 2


def test_all_of_it() -> None:
    stage, anna, bert, carl = introduced()
    answer = anna.ask("members.revoke", peer="bert", all=True)
    assert [entry["name"] for entry in answer["fallen"]] == ["carl"]
    assert anna.neighbors() == set()
    assert (state(bert), state(carl)) == ("revoked", "revoked")
    assert "a token of another member" in carl.node.view().status["warnings"][0]
    stage.tap = None
    stage.join("carl", "anna")  # its own key is as good as before
    assert state(carl) == "member"
    assert carl.neighbors() == {"anna"}


def test_a_later_and_stricter_revocation_finds_whom_an_admin_has_renewed_since() -> None:
    """First it was thought lost, then it turned out to have been stolen long before."""
    stage, anna, bert, carl = introduced()
    anna.ask("members.revoke", peer="bert")
    stage.tap = None
    stage.advance(10)
    assert len(carl.node.membership.chain) == 2
    stage.advance(3600)
    again = anna.ask("members.revoke", peer=text_of(bert.id))
    assert [entry["name"] for entry in again["kept"]] == ["carl"]
    answer = anna.ask("members.revoke", peer=text_of(bert.id), all=True)
    assert [entry["name"] for entry in answer["fallen"]] == ["carl"]
    stage.advance(1)
    assert state(carl) == "revoked"
    assert members(anna) == set()


def test_a_preview_changes_nothing() -> None:
    stage, anna, _bert, _carl = introduced()
    kept = anna.ask("members.revoke", peer="bert", preview=True)
    falls = anna.ask("members.revoke", peer="bert", preview=True, all=True)
    assert not kept["done"]
    assert not falls["done"]
    assert [entry["name"] for entry in kept["kept"]] == [entry["name"] for entry in falls["fallen"]] == ["carl"]
    assert kept["kept"][0]["known_since"] <= stage.unix
    assert anna.neighbors() == {"bert", "carl"}
    assert not anna.node.view().revocations


def test_since_goes_by_when_it_was_first_seen_here() -> None:
    stage, anna, bert, carl = introduced()
    stage.skip(5 * DAY)
    stage.advance(5)
    stolen = stage.unix
    eve = stranger(stage, "eve")  # whom the thief admits, and dates long before the theft
    anna.hear(bert, Records((record_of(stage, eve, admitted_by(bert, eve, "eve", stolen - 4 * DAY)),)))
    assert "eve" in members(anna)
    anna.restart()
    stage.advance(5)
    answer = anna.ask("members.revoke", peer="bert", since=stolen - 60)
    assert [entry["name"] for entry in answer["kept"]] == ["carl"]
    assert [entry["name"] for entry in answer["fallen"]] == ["eve"]
    assert members(anna) == members(carl) - {"anna"} | {"carl"} == {"carl"}


def test_what_there_was_no_room_to_note_counts_as_seen_now(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, anna, bert, _carl = introduced()
    stage.skip(5 * DAY)
    stage.advance(5)
    monkeypatch.setattr(first_seen, "MAX_OF_ONE", 0)
    eve = stranger(stage, "eve")
    anna.hear(bert, Records((record_of(stage, eve, admitted_by(bert, eve, "eve", stage.unix - 4 * DAY)),)))
    answer = anna.ask("members.revoke", peer="bert", since=stage.unix - 60, preview=True)
    assert [entry["name"] for entry in answer["kept"]] == ["carl"]
    assert [entry["name"] for entry in answer["fallen"]] == ["eve"]
    assert answer["fallen"][0]["known_since"] == stage.unix


def test_whom_a_thief_admits_later_falls_however_it_is_dated() -> None:
    stage, anna, bert, carl, dora = four()
    chain = bert.node.membership.chain
    anna.ask("members.revoke", peer="bert")
    for days in (-5, 0, 5):
        eve = stranger(stage, f"eve {days}")
        data = record_of(stage, eve, admitted_by(bert, eve, "eve", stage.unix + 60 * days, chain))
        carl.hear(dora, Records((data,)))  # dora means no harm: nobody had told her
        carl.hear(dora, Records((data,)))
    assert "eve" not in members(carl)
    assert carl.counters["records_rejected"] == 6
    assert {notice["reason"] for notice in carl.notices("record_rejected")} == {"issuer_revoked"}
    assert "dora" in carl.neighbors()


def test_whom_a_thief_admitted_falls_though_an_admin_has_renewed_it() -> None:
    """Admins' daemons renew whoever asks; who let it in is not forgotten by that."""
    stage = Stage("anna", "bert", "carl", "eve", "eric")
    stage.found("anna")
    stage.join("bert", "anna")
    stage.join("carl", "bert")
    stage.skip(5 * DAY)
    stage.advance(5)
    stolen = stage.unix
    stage.advance(5)
    stage.join("eve", "bert")
    stage.advance(5)
    stage.join("eric", "eve")
    stage.advance(5)
    anna, carl, eve, eric = (stage[name] for name in ("anna", "carl", "eve", "eric"))
    assert all(len(player.node.membership.chain) == 2 for player in (carl, eve, eric))
    answer = anna.ask("members.revoke", peer="bert", since=stolen, preview=True)
    assert [entry["name"] for entry in answer["kept"]] == ["carl"]
    assert {entry["name"] for entry in answer["fallen"]} == {"eve", "eric"}
    anna.ask("members.revoke", peer="bert", since=stolen)
    assert members(anna) == {"carl"}
    assert members(carl) == {"anna"}
    assert (state(carl), state(eve), state(eric)) == ("member", "revoked", "revoked")
    stage.skip(3 * 3600)
    stage.advance(30)
    assert anna.neighbors() == {"carl"}


def test_its_own_record_by_another_mouth_is_refused() -> None:
    _stage, anna, bert, carl, dora = four()
    record = bert.node.membership.own_record
    assert record is not None
    anna.ask("members.revoke", peer="bert")
    carl.hear(dora, Records((record.encoded,)))
    assert not carl.node.membership.is_member(bert.id)
    assert carl.notices("record_rejected")[-1]["reason"] == "revoked"


def test_a_token_of_the_revoked_opens_nothing_but_its_own_island() -> None:
    """Handed out before. The thief's daemon answers it, and nobody else has anything to do with whom it lets in."""
    stage, anna, bert, carl, dora = four()
    token = stage.mint("bert")
    deaf(stage, bert)
    anna.ask("members.revoke", peer="bert")
    stage.add("eric")
    number = stage["eric"].request("mesh.join", token=token, name="eric")
    stage.advance(60)
    assert isinstance(stage["eric"].answers[number], dict)
    assert stage["eric"].neighbors() == {"bert"}
    for player in (anna, carl, dora):
        assert members(player) == {"anna", "carl", "dora"} - {player.name}


def test_the_revoked_has_no_tokens_any_more() -> None:
    stage, anna, bert, _, _ = four()
    token = stage.mint("bert")
    anna.ask("members.revoke", peer="bert")
    assert not bert.node.view().introductions
    stage.add("eric")
    number = stage["eric"].request("mesh.join", token=token, name="eric")
    stage.advance(60)
    answer = stage["eric"].answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.TOKEN_REVOKED
