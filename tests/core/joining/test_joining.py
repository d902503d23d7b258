"""A join, from both sides: two pushes, one link."""

from __future__ import annotations

from typing import Any

from playbook import Stage, founder_and_newcomer, outcome

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.joining.joining import MAX_TRIES, RETRY_INTERVAL
from meshd.errors import Code

# -- as it should be --------------------------------------------------------------------------------------------------


def test_a_join_takes_two_pushes() -> None:
    stage, anna, bert = founder_and_newcomer()
    answer = stage.join("bert", "anna")
    assert [(one, other) for one, other, _ in stage.pushes] == [("bert", "anna"), ("anna", "bert")]
    assert (answer["pushes_sent"], answer["pushes_received"]) == (1, 1)
    assert answer["name"] == "bert"
    assert answer["introducer"] == {"peer_id": anna.id, "name": "anna"}
    assert anna.neighbors() == {"bert"}
    assert bert.neighbors() == {"anna"}
    assert [peer["name"] for peer in anna.node.view().peers] == ["bert"]
    assert [listed["state"] for listed in anna.node.view().introductions] == ["used"]


def test_the_first_push_is_small() -> None:
    stage, _, _ = founder_and_newcomer()
    stage.join("bert", "anna")
    sizes = [len(push.body) - 103 for _, _, push in stage.pushes]
    assert sizes[0] <= 1200
    assert sizes[1] <= 2640


def test_a_third_is_linked_to_all_without_another_push() -> None:
    stage = Stage("anna", "bert", "carl")
    stage.found("anna")
    stage.join("bert", "anna")
    stage.join("carl", "bert")
    stage.advance(5)
    assert len(stage.pushes) == 4
    assert stage["carl"].neighbors() == {"anna", "bert"}


def test_both_sides_can_push_to_each_other_afterwards() -> None:
    stage, anna, bert = founder_and_newcomer()
    stage.join("bert", "anna")
    assert anna.node.grants.can_push(bert.id)
    assert bert.node.grants.can_push(anna.id)


def test_a_name_that_is_taken_gets_a_number() -> None:
    stage = Stage("anna", "bert", "carl", "dora")
    stage.found("anna")
    stage.join("bert", "anna")
    for name in ("carl", "dora"):
        answer = stage[name].ask("mesh.join", token=stage.mint("anna"), name="bert")
        assert answer["name"] == {"carl": "bert-2", "dora": "bert-3"}[name]


def test_nothing_leaves_before_it_is_durable() -> None:
    """Neither the answer before the token is used up, nor the hello before the membership is kept."""
    stage, anna, bert = founder_and_newcomer()
    token = stage.mint("anna")
    anna.disk_mode = bert.disk_mode = "slow"
    number = bert.request("mesh.join", token=token, name="bert")
    for _ in range(100):
        if number in bert.answers:
            break
        used = any(row for row in anna.disk["admitted"])
        assert used or not any(one == "anna" for one, _, _ in stage.pushes)
        member = bool(bert.disk["mesh"])
        assert member or not bert.sent(object)
        for player in (bert, anna):
            if player.held:
                player.let_disk_go(1)
    assert isinstance(bert.answers[number], dict)


def test_pushes_are_acknowledged_when_they_are_kept() -> None:
    stage, anna, bert = founder_and_newcomer()
    token = stage.mint("anna")
    anna.disk_mode = "slow"
    bert.request("mesh.join", token=token, name="bert")
    assert not anna.did(cm.AcknowledgePush)
    anna.let_disk_go()
    assert [command.code for command in anna.did(cm.AcknowledgePush)] == [100]


def test_a_lost_answer_is_asked_for_again() -> None:
    """The joiner tries again with a fresh description; the introducer knows it by token and key."""
    stage, anna, bert = founder_and_newcomer()
    token = stage.mint("anna")
    stage.hold_pushes = True
    number = bert.request("mesh.join", token=token, name="bert")
    stage.held_pushes.clear()
    stage.advance(1)
    assert outcome(bert, number) is None
    stage.hold_pushes = False
    stage.advance(RETRY_INTERVAL + 1)
    assert isinstance(bert.answers[number], dict)
    topics = {push.topic for one, _, push in stage.pushes if one == "bert"}
    assert len(topics) == 1  # a push that is still at the service is replaced
    assert anna.counters.get("joins_refused_used_up") is None


def test_the_same_joiner_again_is_the_same_admission() -> None:
    """Its answer was lost after the token was used up: that must not lock it out."""
    stage, anna, bert = founder_and_newcomer()
    token = stage.mint("anna")
    lost: list[Any] = []
    stage.push_status = lambda push: lost.append(push) or 201 if not lost and stage.pushes else 201  # type: ignore[func-returns-value]
    number = bert.request("mesh.join", token=token, name="bert")
    bert.answers.pop(number, None)
    bert.crash()
    bert.disk = {table: {} for table in bert.disk}  # it lost everything but its keys
    bert.start()
    stage.push_status = None
    stage.advance(20)
    answer = bert.ask("mesh.join", token=token, name="bert")
    assert answer["name"] == "bert"
    assert [listed["joined"] for listed in anna.node.view().introductions] == [["bert"]]


def test_both_answers_of_two_tries_lead_to_one_link() -> None:
    stage, anna, bert = founder_and_newcomer()
    token = stage.mint("anna")
    stage.hold_pushes = True
    number = bert.request("mesh.join", token=token, name="bert")
    stage.advance(RETRY_INTERVAL + 1)
    assert len(stage.held_pushes) == 2
    stage.let_pushes_go()
    stage.advance(30)
    assert isinstance(bert.answers[number], dict)
    assert anna.neighbors() == {"bert"}
    assert bert.neighbors() == {"anna"}
    assert len(anna.node.neighbors.links()) == len(bert.node.neighbors.links()) == 1
    assert anna.node.neighbors.links()[0].session == bert.node.neighbors.links()[0].session


def test_no_try_says_hello_before_the_membership_is_kept() -> None:
    """Also not the second, whose answer finds the membership there already, but not on the disk."""
    stage, _, bert = founder_and_newcomer()
    token = stage.mint("anna")
    stage.hold_pushes = True
    number = bert.request("mesh.join", token=token, name="bert")
    stage.advance(RETRY_INTERVAL + 1)
    bert.disk_mode = "slow"
    stage.let_pushes_go()
    while bert.held and not bert.disk["mesh"]:
        assert not bert.sent(object)
        bert.let_disk_go(1)
    bert.let_disk_go()
    stage.advance(30)
    assert isinstance(bert.answers[number], dict)


def test_a_join_gives_up() -> None:
    stage, anna, bert = founder_and_newcomer()
    token = stage.mint("anna")
    anna.crash()
    number = bert.request("mesh.join", token=token, name="bert", timeout=200.0)
    stage.advance(199)
    assert outcome(bert, number) is None
    assert sum(1 for one, _, _ in stage.pushes if one == "bert") <= MAX_TRIES
    stage.advance(2)
    assert outcome(bert, number) is Code.JOIN_TIMEOUT
    assert not any(bert.disk[table] for table in ("mesh", "records", "channels", "grants"))
    assert bert.did(cm.CloseUserAgent)


def test_an_admitted_joiner_whose_link_fails_is_a_member_all_the_same() -> None:
    stage, _, bert = founder_and_newcomer()
    stage.cut.add(frozenset(("anna", "bert")))
    number = bert.request("mesh.join", token=stage.mint("anna"), name="bert", timeout=60.0)
    stage.advance(61)
    assert outcome(bert, number) is Code.LINK_FAILED
    assert bert.node.view().status["state"] == "member"
    stage.cut.clear()
    stage.advance(600)
    assert bert.neighbors() == {"anna"}


def test_without_a_push_service_a_join_fails_with_that() -> None:
    stage, _, bert = founder_and_newcomer()
    token = stage.mint("anna")
    bert.push_works = False
    number = bert.request("mesh.join", token=token, name="bert")
    stage.advance(11)
    assert outcome(bert, number) is Code.PUSH_UNAVAILABLE


def test_an_abandoned_join_ends() -> None:
    stage, anna, bert = founder_and_newcomer()
    token = stage.mint("anna")
    anna.crash()
    number = bert.request("mesh.join", token=token, name="bert")
    bert.give(ev.RequestAbandoned(number))  # type: ignore[arg-type]
    assert bert.node.view().status["state"] == "no_mesh"


def test_one_join_at_a_time() -> None:
    stage, anna, bert = founder_and_newcomer()
    token = stage.mint("anna")
    anna.crash()
    bert.request("mesh.join", token=token, name="bert")
    assert bert.refusal("mesh.join", token=token, name="bert") is Code.BUSY


def test_a_service_that_is_down_during_a_join_and_comes_back() -> None:
    stage, _, bert = founder_and_newcomer()
    token = stage.mint("anna")
    stage.push_status = lambda push: 503
    number = bert.request("mesh.join", token=token, name="bert")
    stage.advance(8)
    assert outcome(bert, number) is None
    stage.push_status = None
    stage.advance(30)
    assert isinstance(bert.answers[number], dict)
