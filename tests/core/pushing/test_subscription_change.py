"""Changes of our push subscriptions, from every cause; pushes to ourselves; and that nobody is lost by them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from playbook import Player, Stage

from meshd.config import Config, PushConfig
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.pushing.granting import FIRST_PUSH_DELAY, MAX_GENERATION_GAP, PASSED_BURST
from meshd.core.pushing.grants import endpoint_hash
from meshd.core.pushing.self_test import DELIVERY_TIMEOUT, FIRST_TEST_DELAY
from meshd.core.pushing.subscription_change import KEEP_OLD, REPORT_INTERVAL
from meshd.errors import Code
from meshd.wire.messages import GrantDeposit, GrantTaken, SubscriptionDead
from meshd.wire.parts import Grant

WEEKLY = replace(Config(), push=PushConfig(rotation_interval=7 * 86_400.0))


def two(config: Config | None = None) -> tuple[Stage, Player, Player]:
    stage = Stage("anna", "bert", config=config)
    anna, bert = stage.mesh(60.0)
    return stage, anna, bert


def generation(player: Player) -> int:
    return player.node.granting.generation()


def held(stage: Stage, holder: Player, owner: Player) -> list[str]:
    """The endpoints of the owner's that the holder would push to."""
    return [stage.endpoint(part) for part in holder.node.grants.subscriptions(owner.id)]


def is_current(owner: Player, holder: Player) -> bool:
    return owner.node.holders.is_current(holder.id, generation(owner))


# -- asked for, and in time -------------------------------------------------------------------------------------------


def test_renewing_gives_everybody_new_keys_and_keeps_the_old_ones_for_a_day() -> None:
    stage, anna, bert = two()
    before = held(stage, bert, anna)
    keys = {command.vapid_key for command in anna.did(cm.RegisterChannel)}
    number = generation(anna)
    assert anna.ask("push.renew") == {"holders": 1, "generation": number + 1}
    stage.advance(10.0)
    after = held(stage, bert, anna)
    assert after
    assert not set(after) & set(before)
    assert is_current(anna, bert)
    assert {command.vapid_key for command in anna.did(cm.RegisterChannel)} > keys
    record = bert.node.membership.record(anna.id)
    assert record is not None
    assert record.generation == number + 1
    assert set(before) <= set(stage.endpoints)  # still listened to
    for _ in range(int(KEEP_OLD / 3600) + 2):
        stage.skip(3600.0)
        stage.advance(5.0)
    assert not set(before) & set(stage.endpoints)


def test_renewing_for_one_member_leaves_the_others_alone() -> None:
    stage = Stage("anna", "bert", "carl")
    anna, bert, carl = stage.mesh(60.0)
    of_bert, of_carl, number = held(stage, bert, anna), held(stage, carl, anna), generation(anna)
    anna.ask("push.renew", peer="bert")
    stage.advance(10.0)
    assert held(stage, carl, anna) == of_carl
    assert not set(held(stage, bert, anna)) & set(of_bert)
    assert generation(anna) == number
    assert is_current(anna, bert)


def test_what_cannot_be_renewed_is_said() -> None:
    stage, anna, _ = two()
    assert anna.refusal("push.renew", peer="nobody") is Code.PEER_UNKNOWN
    alone = Stage("anna", config=replace(Config(), push=PushConfig(services=())))
    alone.found("anna")
    assert alone["anna"].refusal("push.renew") is Code.PUSH_UNAVAILABLE
    assert stage


def test_keys_are_made_anew_in_time_also_over_restarts() -> None:
    stage, anna, bert = two(WEEKLY)
    first = held(stage, bert, anna)
    for day in range(9):
        if day == 4:
            anna.restart()
        for _ in range(24):
            stage.skip(3600.0)
            stage.advance(5.0)
    assert not set(held(stage, bert, anna)) & set(first)
    assert [notice["cause"] for notice in anna.notices("subscriptions_changed")] == ["scheduled"]


# -- a holder that is away --------------------------------------------------------------------------------------------


def test_a_holder_that_was_away_gets_the_new_subscription_when_it_is_back() -> None:
    stage, anna, bert = two()
    bert.crash()
    stage.advance(30.0)
    anna.ask("push.renew")
    stage.advance(60.0)
    old = [endpoint for endpoint, owner in stage.endpoints.items() if owner[0] is anna]
    bert.start()
    stage.advance(120.0)
    assert bert.neighbors() == {"anna"}
    assert is_current(anna, bert)
    assert old


def test_without_a_way_it_is_told_by_push_and_through_friends() -> None:
    stage = Stage("anna", "bert", "carl")
    anna, bert, carl = stage.mesh(60.0)
    stage.separate("anna", "bert")
    stage.separate("carl", "bert")
    stage.hold_pushes = True
    stage.advance(1.0)
    anna.ask("push.renew")
    stage.advance(2 * FIRST_PUSH_DELAY)
    deposits = anna.sent(GrantDeposit)
    assert [(deposit.holder, deposit.generation) for deposit in deposits] == [(bert.id, generation(anna))]
    assert carl.counters["grants_kept"] == 1
    assert anna.counters["grants_pushed"] == 1
    assert [push.urgency for _, to, push in stage.pushes if to == "bert"].count("low") == 1
    stage.let_pushes_go()
    assert set(held(stage, bert, anna)) <= set(stage.endpoints)
    assert bert.node.grants.view()[0]["generation"] == generation(anna)
    stage.advance(86_400.0)
    assert anna.counters["grants_pushed"] <= 2
    assert len(anna.sent(GrantDeposit)) == 1


# -- pushes to ourselves ----------------------------------------------------------------------------------------------


def test_a_test_goes_there_and_back_through_each_user_agent() -> None:
    stage, anna, _ = two()
    before = len(stage.pushes)
    answer = anna.ask("push.test")
    assert {(test["newcomers"], test["outcome"]) for test in answer["tests"]} == {(False, "ok"), (True, "ok")}
    assert all(test["delivered"] is not None for test in answer["tests"])
    (entry,) = anna.node.view().status["push"]
    assert entry["test"] == "ok"
    assert [push[:2] for push in stage.pushes[before:]] == [("anna", "anna")] * 2


def test_what_our_own_budget_holds_up_is_no_time_of_the_service() -> None:
    stage, anna, _ = two()
    anna.ask("push.test")
    number = anna.request("push.test")
    stage.advance(10.0)
    again = anna.answers[number]
    assert isinstance(again, dict)
    assert max(test["delivered"] for test in again["tests"]) < 1.0


def test_a_test_of_an_earlier_run_that_comes_late_is_no_warning() -> None:
    stage, anna, _ = two()
    stage.hold_pushes = True
    anna.request("push.test")
    stage.advance(1.0)
    anna.restart()
    stage.advance(10.0)
    before = len(anna.notices("push_dropped"))
    stage.let_pushes_go()
    assert anna.counters["push_tests_late"] >= 1
    assert len(anna.notices("push_dropped")) == before


def test_tests_run_by_themselves() -> None:
    stage, anna, _ = two()
    assert anna.node.self_test.results == {}
    stage.advance(2 * FIRST_TEST_DELAY)
    assert {result.outcome for result in anna.node.self_test.results.values()} == {"ok"}


@pytest.mark.parametrize(
    ("status", "outcome"), [(410, "dead"), (404, "dead"), (401, "refused"), (503, "down"), (0, "down")]
)
def test_what_a_failing_test_says(status: int, outcome: str) -> None:
    stage, anna, _ = two()
    stage.push_status = lambda _: status
    number = anna.request("push.test")
    stage.advance(90.0)
    answer = anna.answers[number]
    assert isinstance(answer, dict)
    assert {test["outcome"] for test in answer["tests"]} == {outcome}
    opened = [command for command in anna.did(cm.OpenUserAgent) if not command.uaid]
    assert (len(opened) > 2) == (outcome == "dead")  # only what proves the subscription dead makes a new one


def test_a_token_for_a_subscription_that_does_not_work_comes_with_a_warning() -> None:
    stage, anna, _ = two()

    def doubts(**params: bool) -> list[str]:
        warnings = anna.ask("introductions.mint", **params)["warnings"]
        return [warning for warning in warnings if "meshctl push test" in warning]

    assert doubts() == []
    stage.push_status = lambda _: 401
    anna.request("push.test")
    stage.advance(90.0)
    (warning,) = doubts()
    assert "has failed (refused)" in warning
    assert doubts(by_hand=True) == []
    stage.push_status = None
    stage.advance(3600.0)
    anna.ask("push.test")
    assert doubts() == []


def test_a_subscription_that_is_dead_is_made_anew() -> None:
    stage, anna, bert = two()
    anna.ask("push.test")
    before = set(held(stage, bert, anna))
    dead = {endpoint for endpoint, owner in stage.endpoints.items() if owner[0] is anna}
    stage.push_status = lambda push: 410 if push.endpoint in dead else 201
    anna.request("push.test")
    stage.advance(60.0)
    assert not set(held(stage, bert, anna)) & before
    assert is_current(anna, bert)
    assert anna.notices("subscriptions_changed")


def test_what_is_swallowed_twice_is_dead_too() -> None:
    stage, anna, _ = two()
    stage.hold_pushes = True
    for count in (1, 2):
        number = anna.request("push.test")
        stage.advance(DELIVERY_TIMEOUT + 1.0)
        answer = anna.answers[number]
        assert isinstance(answer, dict)
        assert {test["outcome"] for test in answer["tests"]} == {"lost"}
        assert len(anna.did(cm.CloseUserAgent)) == (2 if count == 2 else 0)


def test_a_service_that_is_down_changes_nothing() -> None:
    stage, anna, _ = two()
    number = generation(anna)
    for newcomers in (False, True):
        anna.give(ev.UserAgentDisconnected("mozilla", "gone", newcomers))
    answer = anna.ask("push.test")
    assert {test["outcome"] for test in answer["tests"]} == {"down"}
    stage.advance(3600.0)
    assert generation(anna) == number
    assert not anna.did(cm.CloseUserAgent)


# -- reports of holders -----------------------------------------------------------------------------------------------


def report(stage: Stage, owner: Player, holder: Player) -> SubscriptionDead:
    return SubscriptionDead(generation(owner), endpoint_hash(held(stage, holder, owner)[0]))


def test_a_report_that_is_true_gives_the_holder_a_new_subscription() -> None:
    stage, anna, bert = two()
    (dead,) = held(stage, bert, anna)
    stage.push_status = lambda push: 410 if push.endpoint == dead else 201
    anna.hear(bert, report(stage, anna, bert))
    stage.advance(10.0)
    (new,) = held(stage, bert, anna)
    assert new != dead
    assert is_current(anna, bert)
    assert anna.counters["reports_confirmed"] == 1


def test_a_report_that_is_not_true_changes_nothing() -> None:
    stage, anna, bert = two()
    before = held(stage, bert, anna)
    anna.hear(bert, report(stage, anna, bert))
    stage.advance(60.0)
    assert held(stage, bert, anna) == before
    assert anna.counters["reports_unconfirmed"] == 1
    assert not anna.notices("subscriptions_changed")


def test_reports_are_looked_into_rarely() -> None:
    stage, anna, bert = two()
    for _ in range(20):
        anna.hear(bert, report(stage, anna, bert))
        stage.advance(5.0)
    assert anna.counters["reports_too_often"] == 19
    assert len([push for push in stage.pushes if push[0] == "anna"]) <= 3
    stage.advance(REPORT_INTERVAL)
    anna.hear(bert, report(stage, anna, bert))
    stage.advance(5.0)
    assert anna.counters["reports_unconfirmed"] == 2


def test_a_report_about_what_we_have_replaced_is_answered_with_what_is_there() -> None:
    stage, anna, bert = two()
    old = report(stage, anna, bert)
    grants = len(anna.sent(Grant))
    anna.hear(bert, replace(old, endpoint_hash=bytes(16)))
    stage.advance(5.0)
    assert len(anna.sent(Grant)) == grants + 1
    assert is_current(anna, bert)


def test_a_generation_from_before_a_backup_is_passed() -> None:
    stage, anna, bert = two()
    number = generation(anna)
    anna.hear(bert, GrantTaken(number + 7, 2_000_000_000))
    stage.advance(5.0)
    assert generation(anna) == number + 8
    assert is_current(anna, bert)
    anna.hear(bert, GrantTaken(number + 8 + MAX_GENERATION_GAP + 1, 2_000_000_000))
    stage.advance(5.0)
    assert generation(anna) == number + 8


def test_a_holder_cannot_drive_our_generation_to_its_end() -> None:
    stage, anna, bert = two()
    for _ in range(PASSED_BURST + 5):
        anna.hear(bert, GrantTaken(generation(anna) + MAX_GENERATION_GAP, 2_000_000_000))
    assert generation(anna) <= (PASSED_BURST + 1) * (MAX_GENERATION_GAP + 1)
    assert anna.counters["generation_passed_too_often"] == 5
    stage.advance(5.0)
    assert is_current(anna, bert)


# -- the audit trail --------------------------------------------------------------------------------------------------


def test_the_audit_trail_tells_what_became_of_each_capability() -> None:
    stage, anna, bert = two()
    bert.crash()
    stage.advance(30.0)
    bert.start()
    stage.advance(60.0)
    anna.ask("push.renew", peer="bert")
    stage.advance(10.0)
    bert.ask("mesh.leave")
    stage.advance(10.0)
    kinds = {row.kind for row in anna.node.audit.entries(bert.id, None, 0, 100)}
    assert {"issued", "changed", "taken_back"} <= kinds
    view = anna.node.view().audit({"peer": None, "kind": "taken_back", "since": None, "limit": 10})
    assert view["entries"][0]["holder_id"] == bert.id
    assert view["kept"] == len(anna.node.audit)
    anna.restart()
    assert {row.kind for row in anna.node.audit.entries(bert.id, None, 0, 100)} == kinds


def test_what_is_listed_says_who_has_confirmed_what() -> None:
    stage, anna, bert = two()
    listed = anna.node.view().capabilities
    (entry,) = [entry for entry in listed["given"] if entry["holder_id"] == bert.id]
    assert entry["kind"] == "member"
    assert entry["name"] == "bert"
    assert entry["newcomer"]
    assert entry["given_until"] == entry["taken_until"]
    assert entry["taken_until"] - stage.unix > 13.9 * 86_400
    assert [entry["name"] for entry in listed["held"]] == ["bert"]
