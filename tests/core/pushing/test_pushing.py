"""Sending pushes: what each answer of a push service means."""

from __future__ import annotations

from itertools import pairwise

import pytest
from push_desk import SERVICES, Desk

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.pushing.budget import MIN_PUSH_INTERVAL
from meshd.core.pushing.pushing import MAX_PUSHES, MAX_TRIES
from meshd.ids import PushId


def one() -> tuple[Desk, cm.SendPush]:
    desk = Desk()
    assert desk.send()
    (push,) = desk.asked()
    return desk, push


@pytest.mark.parametrize("status", [200, 201, 202])
def test_accepted(status: int) -> None:
    desk, push = one()
    desk.answer(push, status)
    assert desk.result() == "accepted"
    assert desk.wait(200) == []


def test_what_is_sent() -> None:
    _, push = one()
    assert push.endpoint.startswith("https://mozilla.example/wpush/v2/")
    assert (push.ttl, push.urgency, push.topic) == (120, "high", "")
    assert b"plaintext" not in repr(push).encode()


def test_topics_are_short_base64url() -> None:
    desk = Desk()
    desk.send(topic=b"join" + bytes(40))
    (push,) = desk.asked()
    assert len(push.topic) <= 32
    assert push.topic.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_capability_is_put_away_and_the_clock_doubted(status: int) -> None:
    desk, push = one()
    desk.answer(push, status)
    sent = desk.asked()
    assert all(again.authorization != push.authorization for again in sent)
    for again in sent:
        desk.answer(again, status)
    assert desk.result() == "failed"
    assert not desk.grants.can_push(desk.bert.id)
    assert not desk.send(b"next")
    (notice,) = desk.notices("push_unauthorized")
    assert (notice["peer"], notice["service"], notice["status"]) == (desk.bert.id, "https://mozilla.example", status)
    assert any("clock" in warning for warning in desk.anna.node.view().status["warnings"])


def test_what_was_refused_for_a_wrong_clock_serves_again_later() -> None:
    desk, push = one()
    desk.answer(push, 401)
    while sent := desk.asked():
        desk.answer(sent[0], 401)
    desk.anna.restart()
    assert desk.anna.node.grants.can_push(desk.bert.id)
    desk.let_in(3601.0)
    assert desk.send(b"next")
    (again,) = desk.asked()
    desk.answer(again, 201)
    assert desk.result() == "accepted"
    assert not desk.pushing.clock_doubted


@pytest.mark.parametrize("status", [404, 410])
def test_a_dead_endpoint_is_forgotten(status: int) -> None:
    desk, push = one()
    desk.answer(push, status)
    assert desk.result() == "gone"
    assert not desk.grants.can_push(desk.bert.id)
    assert not desk.send()


@pytest.mark.parametrize("status", [204, 206, 301, 307, 308, 400, 402, 405, 418, 451])
def test_what_will_not_get_better_is_not_tried_again(status: int) -> None:
    desk, push = one()
    desk.answer(push, status)
    assert desk.result() == "failed"
    assert desk.wait(200) == []
    assert desk.grants.can_push(desk.bert.id)


def test_a_redirect_is_not_followed() -> None:
    desk, push = both()
    desk.answer(push, 307)
    (other,) = desk.asked()
    assert other.endpoint != push.endpoint
    desk.answer(other, 201)
    assert desk.result() == "accepted"


def test_too_large_is_tried_once_more_in_a_smaller_size() -> None:
    desk = Desk()
    desk.pushing.send(b"push", bytes(1500), peer=desk.bert.id, lifetime=60.0)
    (push,) = desk.asked()
    desk.answer(push, 413)
    (again,) = desk.asked()
    assert len(push.body) == 2743
    assert len(again.body) == 2048
    desk.answer(again, 413)
    assert desk.asked() == []
    assert desk.result() == "failed"


def test_what_does_not_fit_the_smaller_size_is_not_sent() -> None:
    desk = Desk()
    desk.pushing.send(b"push", bytes(3000), peer=desk.bert.id, lifetime=60.0)
    (push,) = desk.asked()
    assert len(push.body) == 4096
    desk.answer(push, 413)
    assert desk.asked() == []
    assert desk.result() == "failed"
    assert "fit" in desk.outcomes[-1].detail


def test_what_an_endpoint_does_not_take_is_remembered() -> None:
    desk = Desk()
    desk.pushing.send(b"push", bytes(3000), peer=desk.bert.id, lifetime=60.0)
    (push,) = desk.asked()
    desk.answer(push, 413)
    desk.asked()
    assert desk.pushing.send(b"next", bytes(3000), peer=desk.bert.id, lifetime=60.0)
    assert desk.asked() == []
    assert desk.send(b"small")
    assert len(desk.asked()) == 1


@pytest.mark.parametrize("detail", ["endpoint_refused: private_address", "malformed_request"])
def test_what_we_would_not_send_is_not_tried_again(detail: str) -> None:
    desk, push = one()
    desk.answer(push, 0, detail=detail)
    assert desk.result() == "failed"
    assert desk.wait(200) == []


@pytest.mark.parametrize("status", [0, 408, 425, 429, 500, 502, 503, 507, 599])
def test_what_may_get_better_is_tried_again_later(status: int) -> None:
    desk, push = one()
    desk.answer(push, status)
    assert desk.asked() == []
    again = desk.wait(1.0)
    assert len(again) == 1
    assert again[0].ttl < 120 or desk.ctx.now.mono
    desk.answer(again[0], 201)
    assert desk.result() == "accepted"


def test_retry_after_is_kept_to() -> None:
    desk, push = one()
    desk.answer(push, 429, retry_after=20.0)
    assert desk.wait(19.9) == []
    assert len(desk.wait(0.2)) == 1


@pytest.mark.parametrize("retry_after", [121.0, 100_000.0])
def test_a_retry_after_that_is_too_long_is_a_failure(retry_after: float) -> None:
    desk, push = one()
    desk.answer(push, 503, retry_after=retry_after)
    assert desk.result() == "failed"


def test_retry_after_holds_for_the_next_push_as_well() -> None:
    desk, push = one()
    desk.answer(push, 429, retry_after=300.0)
    assert desk.result() == "failed"
    assert desk.send(b"next")
    assert desk.asked() == []
    assert desk.result() == "withheld"
    assert "alone" in desk.outcomes[-1].detail
    desk.wait(250.0)
    assert desk.send(b"later")
    assert desk.wait(45.0) == []
    assert len(desk.wait(10.0)) == 1


def test_no_service_silences_us_for_more_than_a_day() -> None:
    desk, push = one()
    desk.answer(push, 503, retry_after=1e9)
    desk.result()
    desk.let_in(86_401.0)
    assert desk.send(b"next")
    assert len(desk.asked()) == 1


def test_a_good_answer_ends_the_backoff() -> None:
    desk, push = one()
    for _ in range(4):
        desk.answer(push, 503)
        while not (sent := desk.wait(1.0)):
            pass
        (push,) = sent
    desk.answer(push, 201)
    desk.wait(MIN_PUSH_INTERVAL)
    desk.send(b"next")
    (push,) = desk.asked()
    desk.answer(push, 503)
    assert len(desk.wait(1.0)) == 1


def test_tries_grow_apart_and_end() -> None:
    desk = Desk()
    desk.send(lifetime=10_000.0)
    times = []
    (push,) = desk.asked()
    for _ in range(MAX_TRIES):
        times.append(desk.ctx.now.mono)
        desk.answer(push, 503)
        if desk.result() is not None:
            break
        while not (sent := desk.wait(0.5)):
            pass
        (push,) = sent
    assert desk.result() == "failed"
    assert len(times) == MAX_TRIES
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[0] < 1.5
    assert gaps[-1] > 15


def test_it_gives_up_when_its_time_is_over() -> None:
    desk = Desk()
    desk.send(lifetime=5.0)
    (push,) = desk.asked()
    pushes = 1
    while desk.result() is None:
        desk.answer(push, 503)
        sent = desk.wait(2.0)
        pushes += len(sent)
        if sent:
            (push,) = sent
        assert pushes < 10
    assert desk.result() == "failed"


def test_the_same_name_replaces() -> None:
    desk, push = one()
    assert desk.send(b"push")
    (newer,) = desk.wait(MIN_PUSH_INTERVAL)
    desk.answer(push, 410)  # the answer to the older does not matter any more
    assert desk.grants.can_push(desk.bert.id)
    desk.answer(newer, 201)
    assert desk.result() == "accepted"


def test_a_cancelled_push_has_no_outcome() -> None:
    desk, push = one()
    desk.pushing.cancel(b"push")
    desk.answer(push, 503)
    assert desk.wait(100) == []
    assert desk.result() is None


def test_answers_to_what_was_never_sent() -> None:
    desk, _ = one()
    desk.pushing.on_answer(ev.PushAnswered(PushId(999_999), 410))
    assert desk.grants.can_push(desk.bert.id)


def test_pushes_are_bounded() -> None:
    desk = Desk()
    for number in range(MAX_PUSHES):
        assert desk.send(b"%d" % number)
    assert not desk.send(b"one more")
    assert desk.send(b"0")  # that one is there already


def test_too_much_does_not_fit() -> None:
    desk = Desk()
    assert desk.pushing.send(b"push", bytes(4000), peer=desk.bert.id, lifetime=60.0)
    assert desk.asked() == []
    assert desk.result() == "failed"


# -- two services -----------------------------------------------------------------------------------------------------


def both() -> tuple[Desk, cm.SendPush]:
    desk = Desk(SERVICES)
    assert desk.send()
    (push,) = desk.asked()
    return desk, push


@pytest.mark.parametrize("status", [400, 401, 404, 410, 413, 429, 500, 503, 0])
def test_another_subscription_is_tried_at_once(status: int) -> None:
    desk, push = both()
    desk.answer(push, status, retry_after=100.0 if status == 429 else None)
    sent = desk.wait(2.0)
    while sent and sent[0].endpoint == push.endpoint:  # 401: another capability for the same one first
        desk.answer(sent[0], status)
        sent = desk.wait(2.0)
    assert len(sent) == 1
    assert sent[0].endpoint.split("/")[2] != push.endpoint.split("/")[2]
    desk.answer(sent[0], 201)
    assert desk.result() == "accepted"


def test_a_long_retry_after_of_one_service_does_not_hold_up_the_other() -> None:
    desk, push = both()
    desk.answer(push, 503, retry_after=100_000.0)
    sent = desk.wait(2.0)
    assert len(sent) == 1
    assert sent[0].endpoint != push.endpoint


def test_when_both_are_down_both_are_tried_again() -> None:
    desk, push = both()
    seen = [push.endpoint]
    for _ in range(5):
        desk.answer(push, 503)
        for _ in range(100):
            if sent := desk.wait(1.0):
                break
        (push,) = sent
        seen.append(push.endpoint)
    assert len(set(seen)) == 2
    assert desk.result() is None


def test_one_dead_endpoint_leaves_the_other() -> None:
    desk, push = both()
    desk.answer(push, 410)
    (other,) = desk.asked()
    desk.answer(other, 201)
    assert desk.result() == "accepted"
    assert desk.send(b"next")
    (after,) = desk.wait(MIN_PUSH_INTERVAL)
    assert after.endpoint == other.endpoint


@pytest.mark.parametrize("status", [0, 500, 503])
def test_a_service_that_failed_lately_is_not_the_first_choice(status: int) -> None:
    desk, push = both()
    desk.answer(push, status)
    (other,) = desk.asked()
    desk.answer(other, 201)
    desk.wait(MIN_PUSH_INTERVAL)
    desk.send(b"next")
    (after,) = desk.asked()
    assert after.endpoint == other.endpoint
    desk.answer(after, 201)
    desk.wait(60.0)
    desk.send(b"later")
    (later,) = desk.asked()
    assert later.endpoint == push.endpoint


def test_one_crowded_endpoint_does_not_speak_against_its_service() -> None:
    desk, push = both()
    desk.answer(push, 429, retry_after=2.0)
    (other,) = desk.asked()
    desk.answer(other, 201)
    desk.wait(MIN_PUSH_INTERVAL)
    desk.send(b"next")
    (after,) = desk.asked()
    assert after.endpoint == push.endpoint


# -- the budget -------------------------------------------------------------------------------------------------------


def test_two_pushes_to_one_peer_are_some_seconds_apart() -> None:
    desk, push = one()
    desk.answer(push, 201)
    assert desk.send(b"next")
    assert desk.wait(MIN_PUSH_INTERVAL - 0.1) == []
    assert len(desk.wait(0.2)) == 1
    assert desk.counters["pushes_waited"] == 1


def test_an_answer_need_not_wait_for_a_push_of_our_own_accord() -> None:
    """Two that come back at one moment call each other; whose offer loses answers at once. Once in a span, though."""
    desk, push = one()
    desk.answer(push, 201)
    desk.pushing.heard(desk.bert.id)
    assert desk.send(b"answer")
    (answer,) = desk.asked()
    desk.answer(answer, 201)
    desk.pushing.heard(desk.bert.id)
    assert desk.send(b"another")
    assert desk.wait(MIN_PUSH_INTERVAL - 0.1) == []
    assert len(desk.wait(0.2)) == 1


def test_what_no_service_took_does_not_hold_up_the_next() -> None:
    desk, push = one()
    desk.answer(push, 400)
    assert desk.send(b"next")
    assert len(desk.asked()) == 1


def pushed_in(desk: Desk, seconds: float, status: int = 201) -> list[float]:
    """When pushes leave for somebody who is called again and again."""
    times, end = [], desk.ctx.now.mono + seconds
    while desk.ctx.now.mono < end:
        desk.send(b"again", lifetime=60.0)
        for push in desk.wait(10.0):
            times.append(desk.ctx.now.mono)
            desk.answer(push, status)
        desk.let_in(20.0)
    return times


@pytest.mark.parametrize("status", [201, 503])
def test_so_many_pushes_in_a_day_and_no_more(status: int) -> None:
    desk = Desk()
    times = pushed_in(desk, 86_400.0, status)
    assert 14 < len(times) <= 50
    assert sum(1 for when in times if when < times[0] + 600.0) <= 14
    assert desk.counters["pushes_over_budget"] > 0
    assert desk.result() == "withheld"
    assert "budget" in desk.outcomes[-1].detail


def test_what_is_over_the_budget_waits_if_there_will_be_room() -> None:
    desk = Desk()
    pushed_in(desk, 3600.0)
    assert desk.send(b"patient", lifetime=7200.0)
    assert desk.asked() == []
    assert len(desk.wait(3600.0)) == 1


def test_an_answer_goes_whatever_was_called_in_vain() -> None:
    desk = Desk()
    pushed_in(desk, 7200.0)
    desk.pushing.cancel(b"again")
    desk.pushing.heard(desk.bert.id)
    assert desk.send(b"answer")
    assert len(desk.wait(MIN_PUSH_INTERVAL)) == 1


def test_one_peer_does_not_use_up_the_budget_of_another() -> None:
    desk = Desk()
    pushed_in(desk, 3600.0)
    part = desk.grants.subscriptions(desk.bert.id)
    assert desk.pushing.send(b"stranger", b"x", subscriptions=part, lifetime=60.0)
    assert len(desk.asked()) == 1
