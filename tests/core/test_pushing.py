"""Sending pushes: what each answer of a push service means."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from playbook import Player, Stage

from meshd.config import Config, PushConfig
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.facts import PushOutcome
from meshd.core.pushing import MAX_PUSHES, MAX_TRIES
from meshd.ids import Now, PushId
from meshd.wire.parts import Grant, SubscriptionPart

SERVICES = ("mozilla", "wss://push.example/")


class Desk:
    """Anna's sender, on its own: she holds a grant of Bert's, and each answer is the test's."""

    def __init__(self, services: tuple[str, ...] = ("mozilla",)) -> None:
        self.stage = Stage("anna", "bert", config=replace(Config(), push=PushConfig(services=services)))
        self.stage.mesh(60.0)
        self.anna: Player = self.stage["anna"]
        self.bert: Player = self.stage["bert"]
        self.pushing = self.anna.node.pushing
        self.ctx = self.anna.node._ctx
        self.ctx.take_commands()
        self.ctx.now = self.anna.now
        self.outcomes: list[PushOutcome] = []

    def send(self, name: bytes = b"push", lifetime: float = 120.0, **more: Any) -> bool:
        more.setdefault("peer", self.bert.id)
        return self.pushing.send(name, b"plaintext", lifetime=lifetime, **more)

    def asked(self) -> list[cm.SendPush]:
        """What is to be sent since last time."""
        facts = [self.ctx.facts.popleft() for _ in range(len(self.ctx.facts))]
        self.outcomes += [fact for fact in facts if isinstance(fact, PushOutcome)]
        return [command for command in self.ctx.take_commands() if isinstance(command, cm.SendPush)]

    def answer(self, push: cm.SendPush, status: int, retry_after: float | None = None, detail: str = "") -> None:
        self.pushing.on_answer(ev.PushAnswered(push.push, status, detail, retry_after))

    def wait(self, seconds: float) -> list[cm.SendPush]:
        """Let time pass; gives what is sent meanwhile."""
        target = self.ctx.now.mono + seconds
        sent = self.asked()
        while (due := self.ctx.timers.pop_due(target)) is not None:
            (name, about), deadline = due
            if name == "push":
                self.ctx.now = Now(max(deadline, self.ctx.now.mono), self.ctx.now.unix)
                self.pushing.on_timer(about)
                sent += self.asked()
        self.ctx.now = Now(target, self.ctx.now.unix)
        return sent

    def result(self) -> str | None:
        self.asked()
        return self.outcomes[-1].outcome if self.outcomes else None


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
def test_a_refused_capability_is_not_used_again_for_that_push(status: int) -> None:
    desk, push = one()
    desk.answer(push, status)
    sent = desk.asked()
    assert all(again.authorization != push.authorization for again in sent)
    for again in sent:
        desk.answer(again, status)
    assert desk.result() == "failed"
    assert desk.pushing.can_push(desk.bert.id)  # it may be the service's clock; the next push tries again


@pytest.mark.parametrize("status", [404, 410])
def test_a_dead_endpoint_is_forgotten(status: int) -> None:
    desk, push = one()
    desk.answer(push, status)
    assert desk.result() == "gone"
    assert not desk.pushing.can_push(desk.bert.id)
    assert not desk.send()


@pytest.mark.parametrize("status", [301, 307, 400, 413])
def test_what_will_not_get_better_is_not_tried_again(status: int) -> None:
    desk, push = one()
    desk.answer(push, status)
    assert desk.result() == "failed"
    assert desk.wait(200) == []
    assert desk.pushing.can_push(desk.bert.id)


@pytest.mark.parametrize("status", [0, 408, 429, 500, 502, 503, 599])
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
    (newer,) = desk.asked()
    desk.answer(push, 410)  # the answer to the older does not matter any more
    assert desk.pushing.can_push(desk.bert.id)
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
    assert desk.pushing.can_push(desk.bert.id)


def test_pushes_are_bounded() -> None:
    desk = Desk()
    for number in range(MAX_PUSHES):
        assert desk.send(b"%d" % number)
    assert not desk.send(b"one more")
    assert desk.send(b"0")  # that one is there already
    assert len(desk.asked()) == MAX_PUSHES + 1


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
    (after,) = desk.asked()
    assert after.endpoint == other.endpoint


# -- grants -----------------------------------------------------------------------------------------------------------


def grant_of(desk: Desk) -> Grant:
    held: Grant = desk.pushing._grants[desk.bert.id]
    return held


def test_a_grant_of_a_lower_generation_changes_nothing() -> None:
    desk = Desk()
    held = grant_of(desk)
    desk.pushing.on_grant(desk.bert.id, Grant(held.generation + 1, held.subscriptions))
    desk.pushing.on_grant(desk.bert.id, held)
    assert grant_of(desk).generation == held.generation + 1


@pytest.mark.parametrize("spoil", ["signature", "endpoint", "key", "exp", "long", "scheme"])
def test_a_grant_that_does_not_verify_is_not_stored(spoil: str) -> None:
    desk = Desk()
    (part,) = grant_of(desk).subscriptions
    capability = part.capabilities[0]
    changed: dict[str, SubscriptionPart] = {
        "signature": replace(part, capabilities=(replace(capability, signature=bytes(64)),)),
        "endpoint": replace(part, prefix="https://elsewhere.example/"),
        "key": replace(part, vapid_key=b"\2" + bytes(32)),
        "exp": replace(part, capabilities=(replace(capability, exp=capability.exp + 86_400),)),
        "long": replace(part, prefix="https://" + "x" * 990),
        "scheme": replace(part, prefix="file:///etc/"),
    }
    desk.pushing.forget(desk.bert.id)
    desk.pushing.on_grant(desk.bert.id, Grant(1, (changed[spoil],)))
    assert not desk.pushing.can_push(desk.bert.id)
    assert desk.ctx.counters["grants_unverified"] == 1


def test_of_a_grant_the_part_that_verifies_is_kept() -> None:
    desk = Desk(SERVICES)
    good, bad = grant_of(desk).subscriptions
    desk.pushing.forget(desk.bert.id)
    desk.pushing.on_grant(desk.bert.id, Grant(1, (replace(bad, prefix="https://elsewhere.example/"), good)))
    assert grant_of(desk).subscriptions == (good,)


def test_a_grant_lasts_for_two_days() -> None:
    desk = Desk()
    until = desk.pushing.push_until(desk.bert.id)
    assert until is not None
    assert 47 * 3600 < until - desk.ctx.now.unix <= 48 * 3600 + 1
    desk.ctx.now = Now(desk.ctx.now.mono, until + 10)
    assert not desk.pushing.can_push(desk.bert.id)
    assert desk.pushing.push_until(desk.bert.id) is None
    assert not desk.send()


def test_grants_outlive_a_restart() -> None:
    desk = Desk()
    desk.anna.restart()
    assert desk.anna.node.pushing.can_push(desk.bert.id)
