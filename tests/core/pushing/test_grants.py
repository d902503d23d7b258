"""What peers have given us: verified, merged, and told back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playbook import EPOCH, Stage
from push_desk import SERVICES, Desk

from meshd.core.peering import COSTLY_BURST, COSTLY_RATE
from meshd.core.pushing.capabilities import expiries, usable_until
from meshd.core.pushing.grants import endpoint_hash, fewest
from meshd.ids import Now
from meshd.wire.endpoint import join_endpoint
from meshd.wire.messages import GrantTaken, SubscriptionDead
from meshd.wire.parts import MAX_CAPABILITIES, MAX_SUBSCRIPTIONS, CapabilityPart, Grant, SubscriptionPart


def held(desk: Desk) -> tuple[SubscriptionPart, ...]:
    return desk.grants.subscriptions(desk.bert.id)


def generation(desk: Desk) -> int:
    (row,) = desk.grants.view()
    number = row["generation"]
    assert isinstance(number, int)
    return number


def issued(desk: Desk, part: SubscriptionPart, *exps: int) -> SubscriptionPart:
    """That subscription with other capabilities that Bert could issue."""
    channels = desk.bert.node.channels
    row = next(
        row for row in channels._rows.values() if row.holder == desk.anna.id and row.endpoint.endswith(tail(part))
    )
    audience = row.endpoint[: row.endpoint.index("/", 8)]
    subject = desk.bert.config.push.subject
    signatures = [desk.bert.suite.issue_capability(row.seed, audience, exp, subject) for exp in exps]
    capabilities = tuple(CapabilityPart(exp, sign) for exp, sign in zip(exps, signatures, strict=True))
    return replace(part, capabilities=capabilities)


def tail(part: SubscriptionPart) -> str:
    return join_endpoint(part.prefix, part.tail).rpartition("/")[2]


def test_a_grant_of_a_lower_generation_changes_nothing() -> None:
    desk = Desk()
    before = held(desk)
    desk.grants.on_grant(desk.bert.id, Grant(7, before))
    desk.grants.on_grant(desk.bert.id, Grant(6, before))
    assert generation(desk) == 7


@pytest.mark.parametrize("spoil", ["signature", "endpoint", "key", "exp", "long", "scheme"])
def test_a_grant_that_does_not_verify_is_not_stored(spoil: str) -> None:
    desk = Desk()
    (part,) = held(desk)
    capability = part.capabilities[0]
    changed: dict[str, SubscriptionPart] = {
        "signature": replace(part, capabilities=(replace(capability, signature=bytes(64)),)),
        "endpoint": replace(part, prefix="https://elsewhere.example/"),
        "key": replace(part, vapid_key=b"\2" + bytes(32)),
        "exp": replace(part, capabilities=(replace(capability, exp=capability.exp + 86_400),)),
        "long": replace(part, prefix="https://" + "x" * 990),
        "scheme": replace(part, prefix="file:///etc/"),
    }
    desk.grants.forget(desk.bert.id)
    desk.grants.on_grant(desk.bert.id, Grant(1, (changed[spoil],)))
    assert not desk.grants.can_push(desk.bert.id)
    assert desk.bert.id not in desk.grants
    assert desk.counters["grants_unverified"] == 1


@pytest.mark.parametrize("spoil", ["signature", "key"])
def test_what_is_known_does_not_vouch_for_what_is_not(spoil: str) -> None:
    """A signature that we hold already is not verified again; but nothing else may come with it."""
    desk = Desk()
    (part,) = held(desk)
    first, second, *_ = part.capabilities
    changed = {
        "signature": replace(part, capabilities=(replace(first, signature=second.signature),)),
        "key": replace(part, vapid_key=b"\2" + bytes(32), capabilities=(first,)),
    }
    desk.grants.on_grant(desk.bert.id, Grant(generation(desk) + 1, (changed[spoil],)))
    assert held(desk) == (part,)


def test_of_a_grant_the_part_that_verifies_is_kept() -> None:
    desk = Desk(SERVICES)
    good, bad = held(desk)
    desk.grants.forget(desk.bert.id)
    desk.grants.on_grant(desk.bert.id, Grant(1, (replace(bad, prefix="https://elsewhere.example/"), good)))
    assert held(desk) == (good,)


def test_a_grant_lasts_to_its_last_capability() -> None:
    desk = Desk()
    until = desk.grants.push_until(desk.bert.id)
    assert until is not None
    assert until - desk.ctx.now.unix > 36 * 3600
    desk.ctx.now = Now(desk.ctx.now.mono, until + 10)
    assert not desk.grants.can_push(desk.bert.id)
    assert desk.grants.push_until(desk.bert.id) is None
    assert not desk.send()


def test_grants_outlive_a_restart() -> None:
    desk = Desk()
    before = held(desk)
    desk.anna.restart()
    assert desk.anna.node.grants.subscriptions(desk.bert.id) == before
    assert desk.anna.node.grants.can_push(desk.bert.id)


def test_a_renewal_carries_only_what_is_new() -> None:
    desk = Desk()
    (whole,) = held(desk)
    part = replace(whole, capabilities=whole.capabilities[:5])
    given = generation(desk)
    desk.grants.forget(desk.bert.id)
    desk.grants.on_grant(desk.bert.id, Grant(given, (part,)))
    last = part.capabilities[-1].exp
    renewal = issued(desk, part, last + 80_000, last + 160_000)
    desk.grants.on_grant(desk.bert.id, Grant(generation(desk), (renewal,)))
    (merged,) = held(desk)
    assert merged.capabilities == (*part.capabilities, *renewal.capabilities)
    assert desk.grants.push_until(desk.bert.id) == last + 160_000 - 600


def test_what_has_expired_is_dropped_when_something_new_comes() -> None:
    desk = Desk()
    (part,) = held(desk)
    first, *others = part.capabilities
    desk.ctx.now = Now(desk.ctx.now.mono, first.exp + 1.0)
    renewal = issued(desk, part, others[-1].exp + 80_000)
    desk.grants.on_grant(desk.bert.id, Grant(generation(desk), (renewal,)))
    (merged,) = held(desk)
    assert merged.capabilities == (*others, *renewal.capabilities)


def test_a_higher_generation_replaces_everything() -> None:
    desk = Desk(SERVICES)
    first, _ = held(desk)
    desk.grants.on_grant(desk.bert.id, Grant(generation(desk) + 1, (first,)))
    assert held(desk) == (first,)


def test_another_endpoint_at_the_same_service_replaces_the_older() -> None:
    desk = Desk(SERVICES)
    first, second = held(desk)
    moved = replace(first, tail=bytes(48))
    desk.grants.on_grant(desk.bert.id, Grant(generation(desk), (moved,)))
    assert held(desk) == (moved, second)


def test_subscriptions_are_bounded() -> None:
    desk = Desk(SERVICES)
    parts = held(desk)
    for number in range(10):
        moved = tuple(replace(part, tail=bytes((number,)) * 48) for part in parts)
        desk.grants.on_grant(desk.bert.id, Grant(generation(desk), moved))
    assert len(held(desk)) <= MAX_SUBSCRIPTIONS


@given(st.lists(st.integers(0, 14 * 86_400), max_size=40), st.integers(0, 86_400))
def test_as_few_capabilities_as_serve_as_long(offsets: list[int], later: int) -> None:
    exps = sorted({int(EPOCH) + offset for offset in offsets} | set(expiries(EPOCH, 14 * 86_400.0)))
    now = EPOCH + later
    chosen = fewest(exps, now)
    assert len(chosen) <= MAX_CAPABILITIES
    assert set(chosen) <= set(exps)
    assert usable_until(chosen, now) == usable_until(exps, now)


# -- what the givers are told -----------------------------------------------------------------------------------------


def test_every_grant_is_answered_once_it_is_durable() -> None:
    stage = Stage("anna", "bert")
    stage.mesh(60.0)
    anna, bert = stage["anna"], stage["bert"]
    (part,) = anna.node.grants.subscriptions(bert.id)
    (row,) = anna.node.grants.view()
    anna.disk_mode = "slow"
    told = len(anna.sent(GrantTaken))
    anna.hear(bert, Grant(9, (part,)))
    assert len(anna.sent(GrantTaken)) == told
    anna.let_disk_go()
    answer = anna.sent(GrantTaken)[-1]
    assert answer == GrantTaken(9, int(row["until"]))  # type: ignore[call-overload]
    anna.hear(bert, Grant(9, (part,)))
    assert anna.sent(GrantTaken)[told:] == [answer, answer]
    anna.hear(bert, Grant(3, (part,)))  # from a backup: it hears what we have
    assert anna.sent(GrantTaken)[-1] == answer


def test_a_grant_that_does_not_verify_is_not_answered() -> None:
    stage = Stage("anna", "bert")
    stage.mesh(60.0)
    anna, bert = stage["anna"], stage["bert"]
    (part,) = anna.node.grants.subscriptions(bert.id)
    told = len(anna.sent(GrantTaken))
    anna.hear(bert, Grant(9, (replace(part, prefix="https://elsewhere.example/"),)))
    assert len(anna.sent(GrantTaken)) == told


def test_grants_of_one_neighbor_are_rationed() -> None:
    """Each costs verifications, a write and an answer."""
    stage = Stage("anna", "bert", "carl")
    anna, bert, carl = stage.mesh(60.0)
    grant = Grant(0, anna.node.grants.subscriptions(bert.id))
    before = len(anna.sent(GrantTaken))
    for _ in range(200):
        anna.hear(bert, grant)
    assert len(anna.sent(GrantTaken)) - before == COSTLY_BURST
    assert anna.counters["rejected_too_often"] == 200 - COSTLY_BURST
    assert anna.neighbors() == {"bert", "carl"}
    anna.hear(carl, Grant(0, anna.node.grants.subscriptions(carl.id)))
    assert len(anna.sent(GrantTaken)) - before == COSTLY_BURST + 1
    stage.advance(1.5 / COSTLY_RATE)
    anna.hear(bert, grant)
    assert len(anna.sent(GrantTaken)) - before == COSTLY_BURST + 2


def test_the_owner_of_a_dead_subscription_is_told_over_the_mesh() -> None:
    stage = Stage("anna", "bert")
    stage.mesh(60.0)
    anna, bert = stage["anna"], stage["bert"]
    (part,) = anna.node.grants.subscriptions(bert.id)
    stage.push_status = lambda command: 410
    bert.crash()
    for link in [end.link for end in anna.ends.values()]:
        from_here = anna.node.neighbors.link(link)
        assert from_here is not None
    stage.advance(120.0)
    assert anna.counters["pushes_gone"] >= 1
    assert not anna.node.grants.can_push(bert.id)
    assert anna.sent(SubscriptionDead) == []
    stage.push_status = None
    bert.start()  # it calls her
    stage.advance(60.0)
    assert "bert" in anna.neighbors()
    (report,) = anna.sent(SubscriptionDead)
    assert report.endpoint_hash == endpoint_hash(join_endpoint(part.prefix, part.tail))
