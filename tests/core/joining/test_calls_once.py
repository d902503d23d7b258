"""A call is answered once, whoever pastes it where and how often."""

from __future__ import annotations

import pytest
from pages import Calling, Page, known
from playbook import outcome

from meshd.core.signaling.signaling import PUSH_SESSION_TIMEOUT
from meshd.errors import Code
from meshd.wire.messages import Answer, Offer
from meshd.wire.parts import Grant


def test_a_call_is_answered_once_also_over_a_restart() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    text = page.text_of()
    first = anna.request("calls.answer", text=text)
    assert anna.refusal("calls.answer", text=text) is Code.CALL_USED
    stage.advance(3)
    assert first not in anna.answers, "the first goes on"
    anna.restart()
    assert anna.refusal("calls.answer", text=text) is Code.CALL_USED
    assert len(page.pushed) == 1


def test_two_calls_of_one_caller_pasted_at_once() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    first = anna.request("calls.answer", text=page.text_of())
    second = anna.request("calls.answer", text=page.text_of(session=b"second.."))
    assert outcome(anna, first) is Code.CALL_USED
    stage.advance(10)
    letters = [page.open(pushed)[0] for pushed in page.pushed]
    assert letters[-1].session == b"second.."
    page.come(anna, b"second..")
    assert isinstance(anna.answers[second], dict)


def test_two_callers_at_once_get_two_names() -> None:
    stage = Calling()
    anna, pages = stage["anna"], [stage.page("one"), stage.page("two")]
    numbers = [anna.request("calls.answer", text=page.text_of()) for page in pages]
    stage.advance(3)
    for page in pages:
        page.open(page.pushed[0])
        page.come(anna)
    assert sorted(anna.answers[number]["name"] for number in numbers) == ["phone", "phone-2"]  # type: ignore[index]


def test_two_members_answer_the_same_call() -> None:
    """The caller takes the first; the other is told that no link has come, and has admitted the same key."""
    stage = Calling("anna", "bert")
    page = stage.page()
    text = page.text_of()
    numbers = [stage[name].request("calls.answer", text=text) for name in ("anna", "bert")]
    stage.advance(3)
    letters = [page.open(pushed)[0] for pushed in page.pushed]
    assert {letter.sender for letter in letters} == {stage["anna"].id, stage["bert"].id}
    page.come(stage["anna"])
    stage.advance(PUSH_SESSION_TIMEOUT)
    assert isinstance(stage["anna"].answers[numbers[0]], dict)
    assert outcome(stage["bert"], numbers[1]) is Code.LINK_FAILED


@pytest.mark.parametrize("wins", [True, False])
def test_both_call_each_other(wins: bool) -> None:
    """The member offers by push at the same moment: one link comes of it, by the rule that all offers obey."""
    stage = Calling()
    anna = stage["anna"]
    name = next(n for n in map(str, range(64)) if (Page(stage, n).suite.peer_id < anna.id) == wins)
    page = known(stage, name)
    anna.node.signaling.dial(page.suite.peer_id)
    number = anna.request("calls.answer", text=page.text_of(session=b"again...", grant=Grant(1, (page.part(),))))
    stage.advance(25)
    [session] = [session for session in anna.node.signaling.sessions() if session.peer == page.suite.peer_id]
    said = [page.open(pushed)[1] for pushed in page.pushed]
    assert any(isinstance(message, Answer) for message in said) == wins
    assert any(isinstance(message, Offer) for message in said) != wins
    page.come(anna, session.id)
    assert isinstance(anna.answers[number], dict)
