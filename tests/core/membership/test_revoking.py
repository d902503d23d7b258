"""A stolen laptop, from the revocation to the last who hears of it."""

from __future__ import annotations

from playbook import Refused
from theft import deaf, four, members, mesh_of, state

from meshd.core import commands as cm
from meshd.core.state import OF_A_MESH
from meshd.crypto.admission import digest
from meshd.errors import Code
from meshd.ids import SessionId
from meshd.wire.messages import AdmissionWanted, Forward, Goodbye, Revocations, RevocationsKnown


def test_everybody_drops_it_at_once_and_it_knows_why() -> None:
    stage, anna, bert, carl, dora = four()
    channels = len(stage.endpoints)
    answer = anna.ask("members.revoke", peer="bert")
    assert (answer["name"], answer["done"], answer["kept"], answer["fallen"]) == ("bert", True, [], [])
    for player in (anna, carl, dora):
        assert "bert" not in members(player) | player.neighbors()
        assert not player.node.membership.is_member(bert.id)
        assert not player.node.grants.can_push(bert.id)
        assert bert.id not in player.node.holders
        assert [notice["reason"] for notice in player.notices("link_down")] == ["revoked"]
    assert len(stage.endpoints) < channels - 3  # each has taken back what bert could push with, and bert all of its own
    assert state(bert) == "revoked"
    assert bert.neighbors() == set()
    assert "revoked in the mesh home" in bert.node.view().status["warnings"][0]
    assert bert.notices("expelled") == [{"mesh": mesh_of(stage), "reason": "revoked"}]
    assert bert.counters["links_lost_revoked"] == 3
    stage.advance(600)
    assert {p.name: p.neighbors() for p in (anna, carl, dora)} == {
        "anna": {"carl", "dora"},
        "carl": {"anna", "dora"},
        "dora": {"anna", "carl"},
    }


def test_the_other_end_of_a_link_hears_why_it_ends() -> None:
    stage, anna, bert, carl, _ = four()
    before = len(carl.sent(Goodbye))
    deaf(stage, bert)
    anna.ask("members.revoke", peer="bert")
    assert [goodbye.reason for goodbye in carl.sent(Goodbye)[before:]] == ["revoked"]


def test_it_holds_over_restarts_on_either_side() -> None:
    stage, anna, bert, carl, dora = four()
    anna.ask("members.revoke", peer="bert")
    for player in (carl, anna, dora, bert):
        player.restart()
        stage.advance(20)
        assert state(bert) == "revoked"
        assert "bert" not in members(player)
    assert carl.neighbors() == {"anna", "dora"}
    assert not any(bert.disk[table] for table in OF_A_MESH if table not in ("mesh", "records"))
    assert set(bert.disk["records"]) == {bert.id}  # its number is never used again


def test_the_disk_had_the_revocation_and_not_yet_what_follows() -> None:
    """Power is cut in between: what is loaded is judged before any link is there."""
    _stage, anna, bert, carl, _ = four()
    records, mesh = dict(carl.disk["records"]), dict(bert.disk["mesh"])
    anna.ask("members.revoke", peer="bert")
    revocations = dict(carl.disk["revocations"])
    carl.disk["records"] = records
    carl.restart()
    assert "bert" not in members(carl)
    bert.disk["mesh"], bert.disk["revocations"] = mesh, revocations
    bert.restart()
    assert state(bert) == "revoked"


def test_a_member_that_was_away_learns_it_on_its_first_link() -> None:
    stage, anna, _bert, carl, dora = four()
    carl.crash()
    anna.ask("members.revoke", peer="bert")
    anna.crash()
    carl.start()
    assert "bert" in members(carl)
    stage.advance(120)
    assert carl.neighbors() == {"dora"}
    assert "bert" not in members(carl)
    assert carl.node.view().revocations == dora.node.view().revocations != []


def test_the_revoked_that_was_away_learns_it_from_one_who_was_away_too() -> None:
    stage, anna, bert, carl, dora = four()
    bert.crash()
    carl.crash()
    anna.ask("members.revoke", peer="bert")
    anna.crash()
    dora.crash()
    carl.start()
    bert.start()
    stage.advance(120)
    assert carl.neighbors() == {"bert"}  # nobody has told either
    dora.start()
    stage.advance(120)
    assert carl.neighbors() == {"dora"}
    assert state(bert) == "revoked"


def test_a_revoked_member_that_does_not_hear_gets_no_link_and_no_word() -> None:
    """A thief's daemon need not listen: nobody answers it, and what it could push with is worthless."""
    stage, anna, bert, carl, _dora = four()
    deaf(stage, bert)
    anna.ask("members.revoke", peer="bert")
    stage.advance(1200)
    assert bert.neighbors() == set()
    assert state(bert) == "member"
    assert not carl.inbox
    number = bert.request("messages.send", peer="carl", body=b"let me in", timeout=60.0)
    stage.advance(120)
    assert isinstance(bert.answers[number], Refused)
    assert not carl.inbox


def test_its_letters_are_refused_at_once() -> None:
    _stage, anna, bert, carl, dora = four()
    letter = bert.node.post.envelope(carl.id, AdmissionWanted(1, ""), SessionId(bytes(8)))
    assert letter is not None
    anna.ask("members.revoke", peer="bert")
    carl.hear(dora, Forward(3, letter))
    assert carl.counters["envelopes_revoked"] == 1


def test_a_link_in_the_making_is_given_up() -> None:
    stage, anna, bert, carl, _ = four()
    stage.separate("bert", "carl")
    stage.cut.clear()
    stage.advance(0.1)
    anna.ask("members.revoke", peer="bert")
    stage.advance(60)
    assert not any(link.peer == bert.id for link in carl.node.neighbors.links())
    assert not carl.node.signaling.sessions()


def test_its_name_is_free() -> None:
    stage, anna, _bert, _, _ = four()
    anna.ask("members.revoke", peer="bert")
    stage.add("eric")
    eric = stage["eric"]
    number = eric.request("mesh.join", token=stage.mint("anna"), name="bert")
    stage.advance(2)
    answer = eric.answers[number]
    assert isinstance(answer, dict)
    assert answer["name"] == "bert"


def test_what_waits_for_it_is_never_sent() -> None:
    stage, anna, bert, carl, _ = four()
    bert.crash()
    stage.advance(30)
    number = carl.request("messages.send", peer="bert", body=b"the safe is behind the picture", timeout=500.0)
    anna.ask("members.revoke", peer="bert")
    answer = carl.answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.PEER_UNKNOWN
    assert not carl.disk["outbox"]


def test_its_key_joins_again_by_nobodys_token() -> None:
    stage, anna, bert, _carl, _ = four()
    anna.ask("members.revoke", peer="bert")
    number = bert.request("mesh.join", token=stage.mint("carl"), name="bert")
    stage.advance(2)
    answer = bert.answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.KEY_REVOKED
    assert state(bert) == "revoked"


def test_a_revoked_node_may_found_or_join_another_mesh() -> None:
    _stage, anna, bert, _, _ = four()
    anna.ask("members.revoke", peer="bert")
    bert.ask("mesh.found", mesh_name="den", name="bert", mesh_key=bytes(32))
    assert state(bert) == "member"
    bert.restart()
    assert state(bert) == "member"
    assert not bert.node.view().revocations
    bert.ask("mesh.leave")
    assert state(bert) == "no_mesh"


def test_the_room_that_revocations_take_is_compared_by_digests() -> None:
    _stage, anna, _bert, carl, dora = four()
    anna.ask("members.revoke", peer="bert")
    known = carl.node.revocations.digests()
    assert known == dora.node.revocations.digests()
    sent = len(carl.sent(Revocations))
    carl.hear(dora, RevocationsKnown(known))
    assert len(carl.sent(Revocations)) == sent
    carl.hear(dora, RevocationsKnown(b""))
    assert len(carl.sent(Revocations)) == sent + 1
    carl.hear(dora, RevocationsKnown(known[:-1]))
    assert "dora" not in carl.neighbors()  # digests that do not add up are malformed
    assert cm.CloseLink in {type(command) for command in carl.log}


def test_digests_are_of_what_was_signed() -> None:
    stage, _anna, bert, *_ = four()
    chain = bert.node.membership.chain
    assert digest(chain[-1], mesh_of(stage)) != digest(chain[0], mesh_of(stage))
