"""The push that answers a call: services that refuse it, links that come late or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pages import Calling
from playbook import Refused, outcome

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.signaling.signaling import PUSH_SESSION_TIMEOUT
from meshd.errors import Code
from meshd.wire.joining import FurtherOffer
from meshd.wire.session_description import encode as encode_description


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_push_that_is_refused_for_good_admits_nobody(status: int) -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    stage.statuses = lambda: status
    number = anna.request("calls.answer", text=page.text_of())
    stage.advance(PUSH_SESSION_TIMEOUT + 5)
    answer = anna.answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.CALL_UNANSWERABLE
    assert str(status) in answer.detail
    assert anna.node.membership.named("phone") == []
    assert page.suite.peer_id not in anna.node.grants
    anna.restart()
    assert anna.node.membership.named("phone") == []


def test_a_service_in_trouble_is_tried_again_and_the_caller_gets_one_push() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    left = [503, 429, 201]
    stage.statuses = lambda: left.pop(0)
    number = anna.request("calls.answer", text=page.text_of())
    stage.advance(PUSH_SESSION_TIMEOUT - 5)
    assert (len(page.pushed), left) == (1, [])
    page.now = stage.clock
    page.open(page.pushed[0])
    page.come(anna)
    assert isinstance(anna.answers[number], dict)


def test_the_answer_fits_the_smallest_push_that_services_take() -> None:
    stage = Calling("anna", *(f"m{n}" for n in range(4)))
    anna, page = stage["anna"], stage.page()
    further = tuple(
        FurtherOffer(b"%08d" % n, encode_description(replace(page.offer, ufrag=f"abc{n}"), page.offer))
        for n in range(3)
    )
    anna.request("calls.answer", text=page.text_of(further=further))
    stage.advance(3)
    [size] = [len(push.body) for push in anna.did(cm.SendPush) if push.endpoint == page.endpoint]
    assert size <= 2744


def test_an_answer_that_was_pushed_and_no_link() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    number = anna.request("calls.answer", text=page.text_of())
    stage.advance(PUSH_SESSION_TIMEOUT + 5)
    assert outcome(anna, number) is Code.LINK_FAILED
    assert len(page.pushed) == 1
    assert anna.node.membership.is_member(page.suite.peer_id), "it may still come: it has been told"


def test_the_admission_is_durable_before_the_answer_leaves() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    anna.disk_mode = "slow"
    anna.request("calls.answer", text=page.text_of())
    stage.advance(3)
    assert page.pushed == []
    anna.let_disk_go()
    stage.advance(1)
    assert len(page.pushed) == 1


def test_nobody_waits_any_more_and_the_caller_comes_all_the_same() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    number = anna.request("calls.answer", text=page.text_of())
    anna.give(ev.RequestAbandoned(number))  # type: ignore[arg-type]
    stage.advance(3)
    page.open(page.pushed[0])
    page.come(anna)
    assert number not in anna.answers
    assert page.suite.peer_id in anna.node.neighbors.peers()


def test_a_caller_that_has_its_link_is_told_so() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    anna.request("calls.answer", text=page.text_of())
    stage.advance(3)
    page.open(page.pushed[0])
    page.come(anna)
    told = anna.ask("calls.answer", text=page.text_of(session=b"again..."))
    assert (told["linked"], told["admits"], len(page.pushed)) == (True, False, 1)
