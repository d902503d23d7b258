"""Tokens that outlive RFC 8292's day by far, where the introducer runs its push service itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from playbook import Player, Refused, Stage

from meshd.config import Config, PushConfig
from meshd.core.joining.introductions import MAX_LIFETIME, MAX_OWN_LIFETIME
from meshd.core.pushing.capabilities import MAX_SPAN, expiries, is_lasting, is_usable, lasting
from meshd.errors import Code
from meshd.ids import text_of

DAY = 86400.0


def stage_of(*services: str) -> tuple[Stage, Player, Player]:
    stage = Stage("anna", "bert", config=replace(Config(), push=PushConfig(services=services)))
    stage.found("anna")
    return stage, stage["anna"], stage["bert"]


def lifetime(stage: Stage, player: Player, wanted: float) -> float:
    answer = player.ask("introductions.mint", lifetime=wanted)
    assert not isinstance(answer, Refused)
    return float(answer["expires_at"]) - stage.unix


def test_a_token_of_our_own_service_lasts_as_long_as_one_likes() -> None:
    stage, anna, bert = stage_of("own")
    token = stage.mint("anna", lifetime=90 * DAY)
    anna.skew = bert.skew = 89 * DAY
    anna.restart()
    stage.advance(30)
    number = bert.request("mesh.join", token=token, name="bert")
    stage.advance(5)
    assert isinstance(bert.answers[number], dict), bert.answers
    assert anna.neighbors() == {"bert"}


def test_it_carries_one_capability_and_is_the_shorter_for_it() -> None:
    own, others = stage_of("own")[0], stage_of("wss://push.example/")[0]
    assert len(own.mint("anna", lifetime=90 * DAY)) < len(others.mint("anna", lifetime=10 * DAY)) - 500


def test_it_can_be_taken_back_all_the_same() -> None:
    stage, anna, bert = stage_of("own")
    token = stage.mint("anna", lifetime=90 * DAY)
    (listed,) = anna.node.view().introductions
    anna.ask("introductions.revoke", introduction_id=text_of(listed["introduction_id"]))
    anna.skew = bert.skew = 30 * DAY
    number = bert.request("mesh.join", token=token, name="bert")
    stage.advance(5)
    answer = bert.answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.TOKEN_REVOKED


def test_elsewhere_a_day_is_a_day() -> None:
    stage, anna, _ = stage_of("wss://push.example/")
    assert MAX_LIFETIME <= MAX_SPAN
    assert lifetime(stage, anna, 90 * DAY) == pytest.approx(MAX_LIFETIME, abs=1)
    stage, anna, _ = stage_of("wss://push.example/", "own")
    assert lifetime(stage, anna, 90 * DAY) == pytest.approx(90 * DAY, abs=1)
    assert lifetime(stage, anna, 3000 * DAY) == pytest.approx(MAX_OWN_LIFETIME, abs=1)


@pytest.mark.parametrize("span", [3 * DAY, 90 * DAY])
def test_which_capabilities_last(span: float) -> None:
    now = 1_800_000_000.0
    exps = lasting(now, span)
    assert is_lasting(exps, now)
    assert not is_lasting(exps, now + span - DAY / 2)
    assert is_usable(exps[0], now + span - DAY / 2)  # by then it is like any other
    assert not is_lasting(exps, now + span + 1)
    assert not any(is_lasting(expiries(now, 14 * DAY), now + hours * 3600) for hours in range(0, 14 * 24))
