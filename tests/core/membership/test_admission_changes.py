"""Names, renewals, leaving — and an admin that means harm."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from playbook import Player, Refused, Stage

from meshd.core.membership.admissions import ADMIN_TIMEOUT
from meshd.core.membership.admitting import INTRODUCED_LIFETIME, MEMBER_LIFETIME
from meshd.crypto.admission import Chain, Rights, expires_at, issue
from meshd.errors import Code
from meshd.wire.messages import AdmissionIssued, AdmissionRefused, AdmissionWanted, Goodbye, Records


def three() -> tuple[Stage, Player, Player, Player]:
    stage = Stage("anna", "bert", "carl")
    anna, bert, carl = stage.mesh()
    return stage, anna, bert, carl


def names(player: Player) -> set[str]:
    return {peer["name"] for peer in player.node.view().peers} | {player.node.membership.name}


# -- names ------------------------------------------------------------------------------------------------------------


def test_an_admin_renames_itself() -> None:
    stage, anna, bert, carl = three()
    assert anna.ask("node.rename", name="annette") == {"peer_id": anna.id, "name": "annette"}
    stage.advance(1)
    assert names(bert) == names(carl) == {"annette", "bert", "carl"}
    assert bert.notices("member_renamed") == [{"peer": anna.id, "name": "annette", "previous": "anna"}]
    anna.restart()
    assert anna.node.membership.name == "annette"


def test_an_admin_renames_itself_often_and_still_admits() -> None:
    stage, anna, _, _ = three()
    for number in range(6):
        stage.advance(2)
        anna.ask("node.rename", name=f"anna{number}")
    stage.add("dora")
    stage.join("dora", "anna")
    stage.advance(5)
    assert names(stage["dora"]) == {"anna5", "bert", "carl", "dora"}


def test_a_member_asks_an_admin() -> None:
    stage, anna, bert, carl = three()
    assert bert.ask("node.rename", name="berta")["name"] == "berta"
    stage.advance(1)
    assert names(anna) == names(carl) == {"anna", "berta", "carl"}


def test_an_admin_renames_a_member() -> None:
    stage, anna, bert, carl = three()
    assert anna.ask("node.rename", peer="bert", name="berta") == {"peer_id": bert.id, "name": "berta"}
    stage.advance(1)
    assert names(bert) == names(carl) == {"anna", "berta", "carl"}


def test_who_is_no_admin_renames_nobody() -> None:
    _, _, bert, _ = three()
    assert bert.refusal("node.rename", peer="carl", name="carla") is Code.REFUSED


@pytest.mark.parametrize(("name", "code"), [("carl", Code.NAME_TAKEN), ("No Name", Code.NAME_INVALID)])
@pytest.mark.parametrize("who", ["anna", "bert"])
def test_names_that_cannot_be_had(who: str, name: str, code: Code) -> None:
    stage, *_ = three()
    assert stage[who].refusal("node.rename", name=name) is code
    assert stage["anna"].refusal("node.rename", peer="bert", name=name) is code


def test_a_name_that_only_the_admin_knows_to_be_taken() -> None:
    stage, anna, bert, _ = three()
    stage.add("dora")
    stage.tap = lambda sender, receiver, data: None if receiver is bert and len(data) > 200 else data
    stage.join("dora", "anna")
    stage.tap = None
    if bert.node.membership.named("dora"):
        pytest.skip("the news has reached it")
    number = bert.request("node.rename", name="dora")
    answer = bert.answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.NAME_TAKEN
    assert anna.neighbors() >= {"bert"}


def test_no_admin_within_reach() -> None:
    stage, anna, bert, _ = three()
    anna.crash()
    stage.advance(30)
    assert bert.refusal("node.rename", name="berta") is Code.NO_ADMIN


def test_an_admin_that_does_not_answer() -> None:
    stage, _, bert, _ = three()
    stage.tap = lambda sender, receiver, data: None if sender is bert and len(data) < 60 else data
    number = bert.request("node.rename", name="berta")
    stage.tap = None
    stage.advance(ADMIN_TIMEOUT + 1)
    answer = bert.answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.NO_ADMIN


def test_a_member_that_does_not_take_its_new_name() -> None:
    stage, anna, bert, _ = three()
    bert.crash()
    number = anna.request("node.rename", peer="bert", name="berta")
    stage.advance(ADMIN_TIMEOUT + 1)
    answer = anna.answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.PEER_UNREACHABLE


# -- renewals ---------------------------------------------------------------------------------------------------------


def test_who_was_admitted_by_a_member_gets_a_full_admission_from_an_admin() -> None:
    stage = Stage("anna", "bert", "carl")
    stage.found("anna")
    stage.join("bert", "anna")
    stage.join("carl", "bert")
    carl = stage["carl"]
    assert len(carl.node.membership.chain) == 3
    assert expires_at(carl.node.membership.chain) <= stage.unix + INTRODUCED_LIFETIME
    stage.skip(2 * 3600)
    stage.advance(1)
    assert len(carl.node.membership.chain) == 2
    assert expires_at(carl.node.membership.chain) > stage.unix + MEMBER_LIFETIME - 86_400
    assert carl.notices("admission_renewed")
    assert names(stage["anna"]) == {"anna", "bert", "carl"}


def test_a_member_in_the_third_place_admits_and_in_the_fourth_does_not() -> None:
    stage = Stage("anna", "bert", "carl", "dora", "emil")
    stage.found("anna")
    for name, introducer in (("bert", "anna"), ("carl", "bert"), ("dora", "carl")):
        stage.join(name, introducer)
    assert len(stage["dora"].node.membership.chain) == 4
    assert stage["dora"].refusal("introductions.mint") is Code.REFUSED
    stage.skip(2 * 3600)
    stage.advance(1)
    stage.join("emil", "dora")


def chain_of(
    signer: Player, subject: Player, rights: Rights, above: Chain, name: str, issued: int, days: int = 365
) -> tuple[bytes, ...]:
    certificate = issue(
        signer.suite.sign,
        signer.node.membership.mesh,
        signer.id,
        subject=subject.id,
        name=name,
        rights=rights,
        issued=issued,
        expires=issued + days * 86_400,
    )
    return tuple(item.encoded for item in (*above, certificate))


def test_a_member_cannot_rename_a_member() -> None:
    stage, _, bert, carl = three()
    chain = chain_of(bert, carl, Rights.INTRODUCE, bert.node.membership.chain, "dupe", int(stage.unix))
    carl.hear(bert, AdmissionIssued(0, chain))
    assert carl.node.membership.name == "carl"
    assert carl.counters["rejected_not_an_admin"] == 1


def test_an_admin_cannot_take_an_admins_rights() -> None:
    """Only the mesh key removes admins: an admin that is handed a lesser admission keeps its own."""
    stage, anna, bert, _ = three()
    own = (anna.node.membership.chain, anna.node.membership.name)
    helper = bert.node.membership.chain
    chain = chain_of(bert, anna, Rights.NONE, helper, "nobody", int(stage.unix))
    anna.hear(bert, AdmissionIssued(0, chain))
    assert (anna.node.membership.chain, anna.node.membership.name) == own
    # by the book, but by an admin: a second one, appointed by the mesh key

    key = hashlib.sha256(b"mesh").digest()
    mesh = anna.node.membership.mesh
    second = issue(
        lambda message: anna.suite.sign_with(key, message),
        mesh,
        mesh,
        subject=bert.id,
        name="bert",
        rights=Rights.ADMIN,
        issued=int(stage.unix),
        expires=int(stage.unix) + 86_400,
    )
    anna.hear(bert, AdmissionIssued(0, chain_of(bert, anna, Rights.NONE, (second,), "nobody", int(stage.unix))))
    assert (anna.node.membership.chain, anna.node.membership.name) == own


@pytest.mark.parametrize("case", ["older", "shorter", "for another", "garbage", "empty"])
def test_admissions_that_are_not_taken(case: str) -> None:
    stage, anna, bert, carl = three()
    above = anna.node.membership.chain
    made: Any = {
        "older": lambda: chain_of(anna, bert, Rights.NONE, above, "older", int(stage.unix) - 5000),
        "shorter": lambda: chain_of(anna, bert, Rights.NONE, above, "bert", int(stage.unix), days=1),
        "for another": lambda: chain_of(anna, carl, Rights.NONE, above, "carl", int(stage.unix)),
        "garbage": lambda: (b"x",),
        "empty": lambda: (),
    }[case]()
    before = bert.node.membership.chain
    bert.hear(anna, AdmissionIssued(0, made))
    assert bert.node.membership.chain == before


def test_a_request_is_answered_also_when_the_admin_sends_nonsense() -> None:
    stage, anna, bert, _ = three()
    stage.tap = lambda sender, receiver, data: None if sender is bert and receiver is anna and len(data) < 60 else data
    number = bert.request("node.rename", name="berta")
    stage.tap = None
    (asked,) = bert.node.admissions._asked
    chain = chain_of(anna, bert, Rights.NONE, anna.node.membership.chain, "older", int(stage.unix) - 5000)
    bert.hear(anna, AdmissionIssued(asked, chain))
    stage.advance(ADMIN_TIMEOUT + 1)
    assert isinstance(bert.answers[number], Refused)


def test_answers_of_others_do_not_count() -> None:
    stage, anna, bert, carl = three()
    stage.tap = lambda sender, receiver, data: None if sender is bert and receiver is anna and len(data) < 60 else data
    number = bert.request("node.rename", name="berta")
    stage.tap = None
    (asked,) = bert.node.admissions._asked
    bert.hear(carl, AdmissionRefused(asked, "name_taken"))
    assert number not in bert.answers
    bert.hear(anna, AdmissionRefused(asked, "name_taken"))
    assert isinstance(bert.answers[number], Refused)
    assert stage


def test_who_is_no_admin_issues_nothing() -> None:
    _, anna, bert, carl = three()
    bert.hear(carl, AdmissionWanted(1, "carla"))
    assert bert.counters["rejected_not_an_admin"] == 1
    anna.hear(carl, AdmissionWanted(1, "CARLA!"))
    assert anna.sent(AdmissionRefused)[-1].reason == "name_taken"


# -- leaving ----------------------------------------------------------------------------------------------------------


def test_who_leaves_is_gone_everywhere() -> None:
    stage, anna, bert, carl = three()
    answer = bert.ask("mesh.leave")
    assert answer == {"mesh_id": anna.node.membership.mesh}
    stage.advance(5)
    assert names(anna) == names(carl) == {"anna", "carl"}
    assert anna.neighbors() == {"carl"}
    assert anna.notices("member_left") == [{"peer": bert.id, "name": "bert"}]
    assert bert.node.view().status["state"] == "no_mesh"
    assert not any(bert.disk[table] for table in ("mesh", "admitted", "introductions", "channels", "grants"))
    assert len(bert.disk["records"]) <= 1  # at most its own goodbye
    assert bert.neighbors() == set()
    bert.restart()
    assert bert.node.view().status["state"] == "no_mesh"
    assert anna.refusal("messages.send", peer="bert", body=b"x") is Code.PEER_UNKNOWN
    assert not anna.node.grants.can_push(bert.id)


def test_who_leaves_says_so_before_it_closes() -> None:
    _, _, bert, _ = three()
    bert.log.clear()
    bert.ask("mesh.leave")
    kinds = [type(message) for message in bert.sent(object)]
    assert kinds.index(Records) < kinds.index(Goodbye)


def test_who_left_stays_gone_though_older_records_come_again() -> None:
    stage, anna, bert, carl = three()
    record = bert.node.membership.own_record
    assert record is not None
    bert.ask("mesh.leave")
    stage.advance(5)
    anna.hear(carl, Records((record.encoded,)))
    anna.restart()
    stage.advance(20)
    assert names(anna) == {"anna", "carl"}


@pytest.mark.parametrize("days", [0.0, 3.0, 10.0, 40.0])
def test_who_left_can_come_back(days: float) -> None:
    stage, anna, bert, carl = three()
    bert.ask("mesh.leave")
    stage.advance(5)
    stage.skip(days * 86_400)
    stage.advance(120)
    stage.join("bert", "carl")
    stage.advance(200)
    assert names(anna) == names(carl) == names(bert) == {"anna", "bert", "carl"}
    assert anna.neighbors() == {"bert", "carl"}


def test_leaving_forgets_what_was_to_be_sent() -> None:
    stage, anna, bert, _ = three()
    anna.crash()
    number = bert.request("messages.send", peer="anna", body=b"never")
    bert.ask("mesh.leave")
    answer = bert.answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.NO_MESH
    stage.advance(60)
    assert bert.node.view().status["outbox"]["queued"] == 0


def test_an_admission_that_ends_ends_membership() -> None:
    stage = Stage("anna", "bert", "carl")
    stage.found("anna")
    stage.join("bert", "anna")
    stage["anna"].crash()  # nobody renews
    stage.join("carl", "bert")
    stage.advance(5)
    assert "carl" in names(stage["bert"])
    stage.skip(INTRODUCED_LIFETIME + 100)
    stage.advance(120)
    assert "carl" not in names(stage["bert"])
    assert "carl" not in stage["bert"].neighbors()
