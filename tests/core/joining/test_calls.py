"""Calls that people paste: answered by one push, for newcomers and for members."""

from __future__ import annotations

from dataclasses import replace

import pytest
from caller import INSTANCE
from pages import SESSION, Calling, known, link_to, linked
from playbook import outcome

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.errors import Code, Rejected
from meshd.ids import SessionId
from meshd.wire.call import PastedCall
from meshd.wire.doubling import TwinSeen
from meshd.wire.joining import FurtherOffer, JoinAccepted, JoinAnswered
from meshd.wire.messages import Answer, Records, encode_message
from meshd.wire.parts import Grant
from meshd.wire.session_description import decode as decode_description
from meshd.wire.session_description import encode as encode_description


def test_a_caller_is_admitted_and_answered_by_one_push() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    number = anna.request("calls.answer", text=page.text_of())
    stage.advance(3)
    assert number not in anna.answers
    [pushed] = page.pushed
    letter, accepted = page.open(pushed)
    assert (letter.sender, letter.session, accepted.mesh_name) == (anna.id, SESSION, "home")
    assert page.chain[-1].name == "phone"
    assert decode_description(accepted.description).setup == "active"
    assert accepted.grant.subscriptions
    page.come(anna)
    answer = anna.answers[number]
    assert isinstance(answer, dict)
    assert (answer["peer_id"], answer["name"], answer["admits"], answer["linked"]) == (
        page.suite.peer_id,
        "phone",
        True,
        True,
    )
    anna.give(ev.MessageReceived(link_to(anna, page), encode_message(Records((page.record().encoded,)))))
    assert anna.node.membership.named("phone") == [page.suite.peer_id]
    assert len(page.pushed) == 1


def test_what_the_caller_gives_is_kept_as_its_grant() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    anna.request("calls.answer", text=page.text_of())
    assert anna.node.grants.subscriptions(page.suite.peer_id) == (page.part(),)
    anna.restart()
    assert anna.node.grants.can_push(page.suite.peer_id)


def test_a_preview_says_who_it_is_and_does_nothing() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    text = page.text_of()
    for _ in range(2):
        told = anna.ask("calls.answer", text=text, preview=True)
        assert (told["peer_id"], told["name"], told["mesh_name"]) == (page.suite.peer_id, "phone", "home")
        assert (told["admits"], told["linked"], told["services"]) == (True, False, ["https://page.example"])
    stage.advance(5)
    assert page.pushed == []
    assert not anna.node.membership.is_member(page.suite.peer_id)
    assert page.suite.peer_id not in anna.node.grants
    assert anna.ask("calls.answer", text=text, preview=True, name="tablet")["name"] == "tablet"


def test_the_name_is_the_callers_wish_or_what_the_person_says_and_always_free() -> None:
    stage = Calling("anna", "phone")
    anna = stage["anna"]
    for wish, given, name in (("phone", "", "phone-2"), ("<b>", "", "peer"), ("phone", "tablet", "tablet")):
        page = stage.page(f"page-{name}")
        text = page.text_of(name=wish)
        assert anna.ask("calls.answer", text=text, name=given, preview=True)["name"] == name
        anna.request("calls.answer", text=text, name=given)
        assert anna.node.membership.name_of(page.suite.peer_id) == name
    assert anna.refusal("calls.answer", text=stage.page("other").text_of(), name="No Name") is Code.NAME_INVALID


def test_a_call_without_an_offer_is_offered_to_and_answers_by_push() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    number = anna.request("calls.answer", text=page.text_of(offer=None))
    stage.advance(3)
    [pushed] = page.pushed
    letter, accepted = page.open(pushed)
    assert decode_description(accepted.description).setup == "actpass"
    answer = page.answer(letter, replace(page.offer, setup="active"))
    [part] = accepted.grant.subscriptions  # ours rode in the first push, so that the callee can answer
    channel, row = next(held for held in anna.node.channels if held[1].holder == page.suite.peer_id)
    body = page.suite.encrypt_push(part.p256dh, part.auth, answer)
    anna.give(ev.PushReceived(row.service, channel, "1", body, True))
    assert [command.remote.setup for command in anna.did(cm.ConnectLink)][-1:] == ["active"]
    page.come(anna)
    assert isinstance(anna.answers[number], dict)


def test_without_a_push_service_a_call_without_an_offer_is_none() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    anna.push_works = False
    anna.restart()
    number = anna.request("calls.answer", text=page.text_of(offer=None))
    stage.advance(3)
    assert outcome(anna, number) is Code.PUSH_UNAVAILABLE
    assert page.pushed == []
    assert not anna.node.membership.is_member(page.suite.peer_id)


def test_other_members_answer_the_further_offers_in_the_same_push() -> None:
    stage = Calling("anna", "bert")
    anna, bert, page = stage["anna"], stage["bert"], stage.page()
    further = FurtherOffer(b"another.", encode_description(replace(page.offer, ufrag="abcd"), page.offer))
    anna.request("calls.answer", text=page.text_of(further=(further,)))
    stage.advance(3)
    [pushed] = page.pushed
    _, accepted = page.open(pushed)
    letter, answered = page.open(accepted.answers[0])
    assert (letter.sender, letter.session) == (bert.id, b"another.")
    assert isinstance(answered, JoinAnswered)


def test_a_member_that_calls_only_gets_a_link() -> None:
    stage = Calling()
    anna, page = stage["anna"], known(stage)
    before = anna.node.membership.record(page.suite.peer_id)
    text = page.text_of(session=b"again...", grant=Grant(1, (page.part(),)))
    assert not anna.ask("calls.answer", text=text, preview=True)["admits"]
    number = anna.request("calls.answer", text=text)
    stage.advance(1)
    [pushed] = page.pushed
    letter, answer = page.open(pushed)
    assert isinstance(answer, Answer)
    assert letter.session == b"again..."
    page.come(anna, b"again...")
    told = anna.answers[number]
    assert isinstance(told, dict)
    assert (told["name"], told["admits"], told["linked"]) == ("phone", False, True)
    assert anna.node.membership.record(page.suite.peer_id) is before
    assert len(anna.notices("peer_admitted")) == 1


def test_a_member_that_has_started_again_calls_while_its_old_link_stands() -> None:
    stage = Calling()
    anna, page = stage["anna"], linked(stage)
    text = page.text_of(session=b"again...", instance=b"restart.", grant=Grant(1, (page.part(),)))
    anna.request("calls.answer", text=text)
    stage.advance(30)
    assert isinstance(page.open(page.pushed[-1])[1], Answer)
    assert anna.sent(TwinSeen) == []  # a text that was pasted is no letter that could be shown


def test_a_member_that_has_lost_its_admission_gets_the_same_again() -> None:
    stage = Calling()
    anna, page = stage["anna"], known(stage)
    chain = page.chain
    page.mesh = type(page.mesh)(b"")
    anna.request("calls.answer", text=page.text_of(session=b"again..."))
    stage.advance(3)
    _, accepted = page.open(page.pushed[-1])
    assert isinstance(accepted, JoinAccepted)
    assert page.chain == chain


def test_the_answer_to_a_call_comes_from_the_mesh_that_it_says() -> None:
    """Whoever has seen a call can answer it, and lie about everything but the mesh."""
    stage = Calling()
    page = known(stage)
    stage.add("thief").ask("mesh.found", mesh_name="home", name="thief", mesh_key=b"t" * 32)
    thief = stage["thief"]
    stage.advance(1)
    assert thief.refusal("calls.answer", text=page.text_of(session=b"again...")) is Code.CALL_FOREIGN
    mesh, record = thief.node.membership.mesh, thief.node.membership.own_record
    assert record is not None
    admission = thief.node.admitting.chain_for(page.suite.peer_id, "phone")
    lie = JoinAccepted(
        encode_description(replace(page.offer, setup="active")),
        tuple(certificate.encoded for certificate in admission),
        "home",
        record.encoded,
        None,
    )
    for claimed in (mesh, page.mesh):
        envelope = thief.node.post.envelope_to(
            claimed, page.suite.peer_id, page.suite.sealing_key, lie, SessionId(b"again...")
        )
        assert envelope is not None
        with pytest.raises(Rejected):
            page.open(envelope)


def test_one_that_says_it_is_a_member_and_is_not_known() -> None:
    stage = Calling()
    page = stage.page()
    page.mesh = stage["anna"].node.membership.mesh
    assert stage["anna"].refusal("calls.answer", text=page.text_of()) is Code.PEER_UNKNOWN


def test_secrets_do_not_show() -> None:
    page = Calling().page()
    call = page.call(SESSION, page.offer)
    shown = repr(PastedCall(call, b"", b"", b"private"))
    assert "private'" not in shown
    assert str(page.part().auth) not in shown
    assert call.instance == INSTANCE
