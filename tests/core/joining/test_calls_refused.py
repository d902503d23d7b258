"""Calls that are no good, and callers that are not let in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pages import Calling, known
from playbook import Refused

from meshd.core import events as ev
from meshd.core.joining.calls import MAX_RING_LIFETIME
from meshd.errors import Code
from meshd.wire.joining import JoinAccepted
from meshd.wire.parts import Grant


def flipped(text: str) -> str:
    return text[:60] + ("A" if text[60] != "A" else "B") + text[61:]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda text: text[:-40], Code.PASTE_TRUNCATED),
        (flipped, Code.PASTE_MANGLED),
        (lambda text: "hello", Code.CALL_FOREIGN),
        (lambda text: "meshd-offer1_" + text[12:], Code.CALL_FOREIGN),
        (lambda text: "x" * 70_000, Code.CALL_FOREIGN),
        (lambda text: '{"subscription":', Code.PASTE_MANGLED),
        (lambda text: '{"type":"offer","sdp":"v=0"}', Code.CALL_FOREIGN),
        (lambda text: '{"subscription":{"endpoint":"https://a/b"},"description":{}}', Code.CALL_ANONYMOUS),
    ],
)
def test_a_text_that_is_no_call(spoil: Callable[[str], str], code: Code) -> None:
    stage = Calling()
    assert stage["anna"].refusal("calls.answer", text=spoil(stage.page().text_of())) is code


def test_a_call_of_another_time_mesh_or_hand() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    now = int(stage.clock.unix)

    def told(**changes: Any) -> Code:
        return anna.refusal("calls.answer", text=page.text_of(**changes))

    assert told(issued=now - 2000, expires=now - 1700) is Code.CALL_EXPIRED
    assert told(issued=now + 2000, expires=now + 2300) is Code.CLOCK_WRONG
    assert told(expires=now + 301) is Code.PASTE_MANGLED
    assert told(offer=None, expires=now + int(MAX_RING_LIFETIME) + 1) is Code.PASTE_MANGLED
    answer = anna.answers[anna.request("calls.answer", text=page.text_of(expires=now + 301))]
    assert isinstance(answer, Refused)
    assert answer.detail == "It is to be good for 301 s, and none may for 300."
    assert told(mesh=bytes(32)) is Code.CALL_FOREIGN
    assert told(mesh=bytes(31)) is Code.PASTE_MANGLED
    assert told(caller=anna.id) is Code.PASTE_MANGLED
    assert told(description=b"x") is Code.PASTE_MANGLED
    assert told(grant=Grant(0, ())) is Code.PASTE_MANGLED
    assert told(grant=Grant(0, (page.part(capable=False),))) is Code.CALL_UNANSWERABLE
    stolen = replace(page.part(), vapid_key=stage.page("other").part().vapid_key)
    assert told(grant=Grant(0, (stolen,))) is Code.CALL_UNANSWERABLE
    assert told(grant=Grant(0, (replace(page.part(), prefix="ftp://page.example/", tail=b""),))) in (
        Code.PASTE_MANGLED,
        Code.CALL_UNANSWERABLE,
    )
    assert page.pushed == []
    assert anna.node.membership.named("phone") == []


def test_a_call_without_an_offer_may_wait_for_hours() -> None:
    stage = Calling()
    page = stage.page()
    text = page.text_of(offer=None, expires=int(stage.clock.unix + MAX_RING_LIFETIME))
    stage.advance(10 * 3600)
    stage["anna"].request("calls.answer", text=text)
    stage.advance(3)
    page.now = stage.clock
    assert isinstance(page.open(page.pushed[0])[1], JoinAccepted)


def test_ones_own_call() -> None:
    stage = Calling()
    page = stage.page()
    page.suite = stage["anna"].suite
    assert stage["anna"].refusal("calls.answer", text=page.text_of()) is Code.CALL_FOREIGN


def test_a_node_without_a_mesh_cannot_answer() -> None:
    stage = Calling()
    loner = stage.add("loner")
    assert loner.refusal("calls.answer", text=stage.page().text_of()) is Code.NO_MESH


def test_one_without_the_right_to_introduce_cannot_admit() -> None:
    stage = Calling()
    config = stage["anna"].config
    config = replace(config, introductions=replace(config.introductions, may_introduce=False))
    stage["anna"].give(ev.Reconfigured(config))
    stage.add("bert")
    stage.join("bert", "anna")
    page = stage.page()
    assert stage["bert"].refusal("calls.answer", text=page.text_of()) is Code.REFUSED
    assert page.pushed == []


def test_a_revoked_key_stays_out() -> None:
    stage = Calling()
    anna, page = stage["anna"], known(stage)
    anna.ask("members.revoke", peer="phone")
    page.mesh = type(page.mesh)(b"")
    assert anna.refusal("calls.answer", text=page.text_of(session=b"again...")) is Code.REFUSED


def test_a_full_mesh() -> None:
    stage = Calling()
    config = stage["anna"].config
    stage["anna"].give(ev.Reconfigured(replace(config, mesh=replace(config.mesh, max_members=1))))
    assert stage["anna"].refusal("calls.answer", text=stage.page().text_of()) is Code.BUSY
