"""What others hold of ours: for how long, who is a newcomer, what is taken back, and what gives way."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from playbook import Player, Stage

from meshd.config import Config, PushConfig
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.context import Context
from meshd.core.pushing.audit import Audit
from meshd.core.pushing.capabilities import (
    CLOCK_SLACK,
    GRANT_SPAN,
    MAX_AHEAD,
    OWN_GRANT_SPAN,
    OWN_PROMISED_SPAN,
    OWN_TOP_UP_SPAN,
    PROMISED_SPAN,
    TOP_UP_SPAN,
    further_expiries,
    is_usable,
)
from meshd.core.pushing.channels import MAX_CHANNELS, Channels
from meshd.core.pushing.granting import LOOK_INTERVAL
from meshd.core.pushing.holders import ESTABLISHED_AFTER, HOLD_TIME, Holders
from meshd.ids import ChannelId, Instance, Now
from meshd.sim.suite import KeyTable, SimSuite
from meshd.wire.messages import GrantTaken
from meshd.wire.parts import MAX_CAPABILITIES, Grant

SHARED = replace(Config(), push=PushConfig(subscription="shared"))
HOLDER = b"h" * 32


class Bench:
    """The holders of one node on their own; the push service does what it is asked."""

    def __init__(self, config: Config | None = None) -> None:
        suite = SimSuite(KeyTable(), b"i" * 32, b"s" * 32)
        self.ctx = Context(config or Config(), suite, Random(1), Instance(bytes(8)))
        self.ctx.now = Now(1000.0, 1_800_000_000.0)
        self.audit = Audit(self.ctx, {})
        self.channels = Channels(self.ctx, {})
        self.holders = Holders(self.ctx, {}, self.channels, self.audit)
        self.holders.activate()
        self.closed: list[ChannelId] = []
        self.serve()

    def serve(self) -> None:
        """Answer what is asked of the push service, until nothing is."""
        while commands := self.ctx.take_commands():
            for command in commands:
                match command:
                    case cm.Persist(ticket):
                        self.ctx.persisted(ticket)
                    case cm.OpenUserAgent(service, _, newcomers):
                        self.channels.on_connected((service, newcomers), f"uaid {newcomers}")
                    case cm.RegisterChannel(_, channel):
                        self.channels.on_registered(channel, f"https://push.example/{channel.hex()}")
                    case cm.UnregisterChannel(_, channel):
                        self.closed.append(channel)
        self.ctx.facts.clear()

    def wait(self, seconds: float) -> None:
        self.ctx.now = Now(self.ctx.now.mono + seconds, self.ctx.now.unix + seconds)

    def meet(self, holder: bytes = HOLDER) -> set[int]:
        """A holder is there for a moment, and confirms what it is given: the expiries of that."""
        self.holders.ensure(holder)
        self.serve()
        if not self.holders.is_due(holder, 0):
            return set()
        grant = self.holders.renewal(holder, 0)
        if grant is None:
            return set()
        exps = {c.exp for part in grant.subscriptions for c in part.capabilities}
        self.holders.on_taken(holder, 0, max(exps) - CLOCK_SLACK)
        self.serve()
        return exps


# -- how long ---------------------------------------------------------------------------------------------------------

slack = st.integers(-CLOCK_SLACK + 2, CLOCK_SLACK - 2)


@pytest.mark.parametrize(
    ("config", "promised"), [(Config(), OWN_PROMISED_SPAN), (SHARED, PROMISED_SPAN)], ids=["own", "shared"]
)
@settings(max_examples=300, deadline=None)
@example(visits=[130_804], since_look=0.0, at=1.0, owner=-598, service=598)  # one whole capability was not enough
@given(
    visits=st.lists(st.integers(1, 20 * 86_400), max_size=8),
    since_look=st.floats(0, 1.25 * LOOK_INTERVAL),
    at=st.floats(0, 1),
    owner=slack,
    service=slack,
)
def test_from_the_last_contact_on_a_holder_can_push_for_the_promised_span(
    config: Config, promised: float, visits: list[int], since_look: float, at: float, owner: int, service: int
) -> None:
    """Whenever it was here, and however far the clocks of the owner and of the service are off, either way."""
    bench = Bench(config)
    bench.ctx.now = Now(0.0, bench.ctx.now.unix + owner)
    held = bench.meet()
    for pause in visits:
        bench.wait(pause)
        bench.holders.sweep(0, lambda _: True)
        bench.serve()
        before = set(bench.holders._rows)
        held = held | bench.meet() if HOLDER in before else bench.meet()
        held = {exp for exp in held if exp > bench.ctx.now.unix - owner}
        assert len(held) <= MAX_CAPABILITIES + 1
    contact = bench.ctx.now.unix - owner + since_look  # by the true clock; the next look would have been a little later
    when = contact + at * promised
    seen = when + service
    usable = [exp for exp in held if seen < exp <= seen + MAX_AHEAD]
    assert usable, "no JWT serves"


@pytest.mark.parametrize(("span", "least"), [(OWN_GRANT_SPAN, OWN_TOP_UP_SPAN), (GRANT_SPAN, TOP_UP_SPAN)])
@given(now=st.floats(1_700_000_000, 4_000_000_000), share=st.floats(0, 1), at=st.floats(0, 1))
def test_a_renewal_goes_on_where_the_old_ends_and_is_short(
    span: float, least: float, now: float, share: float, at: float
) -> None:
    held_until = int(now + share * span)
    exps = further_expiries(held_until, now, span, least)
    end = max([held_until, *(exp - CLOCK_SLACK for exp in exps)])
    assert end >= now + least - 1
    assert end <= now + span + 1
    moment = held_until + (end - held_until) * at
    assert not exps or any(is_usable(exp, moment) for exp in exps)
    assert len(exps) <= (end - held_until) / (MAX_AHEAD - 2 * CLOCK_SLACK) + 1


def test_a_day_of_renewals_is_one_capability_for_each_holder() -> None:
    bench = Bench()
    bench.meet()
    carried = 0
    for _ in range(10 * 48):
        bench.wait(1800.0)
        carried += len(bench.meet())
    assert carried <= 11


# -- confirming -------------------------------------------------------------------------------------------------------


def test_what_is_not_confirmed_is_said_again_and_stays_the_same() -> None:
    bench = Bench()
    bench.holders.ensure(HOLDER)
    bench.serve()
    first = bench.holders.renewal(HOLDER, 0)
    bench.wait(60.0)
    again = bench.holders.renewal(HOLDER, 0)
    assert first is not None
    assert again is not None
    assert again.subscriptions[0].capabilities[-1] == first.subscriptions[0].capabilities[-1]
    assert bench.holders.is_due(HOLDER, 0)
    assert not bench.holders.on_taken(HOLDER, 0, 5)  # something older
    assert not bench.holders.on_taken(HOLDER, 1, 2**39)  # something of another generation
    assert bench.holders.on_taken(HOLDER, 0, first.subscriptions[0].capabilities[-1].exp - CLOCK_SLACK)
    assert not bench.holders.is_due(HOLDER, 0)


def test_a_lost_grant_is_said_again_until_it_is_confirmed() -> None:
    stage = Stage("anna", "bert")
    lost: list[bytes] = []

    def tap(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        message = stage.decode(data)
        if isinstance(message, GrantTaken) and len(lost) < 6:
            lost.append(data)
            return None
        return data

    stage.tap = tap
    anna, bert = stage.mesh(600.0)
    assert len(lost) == 6
    for player, other in ((anna, bert), (bert, anna)):
        row = player.node.holders.row(other.id)
        assert row is not None
        assert row.taken_until == row.granted_until
        grants = len(player.sent(Grant))
        stage.advance(600.0)
        assert len(player.sent(Grant)) == grants


# -- newcomers --------------------------------------------------------------------------------------------------------


def test_after_a_day_a_holder_moves_to_the_user_agent_for_the_established() -> None:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh(60.0)
    (old,) = anna.node.channels.current(bert.id, newcomer=True)
    assert old in stage.newcomers
    for _ in range(int(ESTABLISHED_AFTER / LOOK_INTERVAL) + 3):
        stage.skip(LOOK_INTERVAL)
        stage.advance(10.0)
    (new,) = anna.node.channels.current(bert.id, newcomer=False)
    assert new not in stage.newcomers
    assert not anna.node.holders.is_newcomer(bert.id)
    assert anna.node.channels.row(old) is None  # taken back once bert had the new one
    assert [command.channel for command in anna.did(cm.UnregisterChannel)].count(old) == 1
    (held,) = bert.node.grants.subscriptions(anna.id)
    assert bert.node.grants.push_until(anna.id) is not None
    assert stage.endpoint(held) in [e for e, owner in stage.endpoints.items() if owner[2] == new]
    assert "changed" in [row.kind for row in anna.node.audit.entries(bert.id, None, 0, 100)]


def test_a_holder_that_is_away_is_not_moved() -> None:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh(60.0)
    bert.crash()
    stage.advance(3 * ESTABLISHED_AFTER)
    assert anna.node.holders.is_newcomer(bert.id)
    assert anna.node.channels.ready(bert.id, newcomer=True)


def test_the_user_agent_for_newcomers_is_left_when_nobody_is_one() -> None:
    stage = Stage("anna", "bert")
    anna, _ = stage.mesh(60.0)
    for _ in range(3 * 48):
        stage.skip(LOOK_INTERVAL)
        stage.advance(10.0)
    assert [command for command in anna.did(cm.CloseUserAgent) if command.newcomers]
    assert not [command for command in anna.did(cm.CloseUserAgent) if not command.newcomers]
    before = len(anna.did(cm.OpenUserAgent))
    stage.mint("anna")
    (opened,) = anna.did(cm.OpenUserAgent)[before:]
    assert opened.newcomers


def test_a_flood_that_makes_the_service_forget_costs_only_the_newcomers() -> None:
    stage = Stage("anna", "bert", "carl")
    anna, bert, carl = stage.mesh(60.0)
    for _ in range(int(ESTABLISHED_AFTER / LOOK_INTERVAL) + 3):
        stage.skip(LOOK_INTERVAL)
        stage.advance(10.0)
    established = {anna.node.channels.current(other.id, newcomer=False) for other in (bert, carl)}
    stage.mint("anna")
    anna.give(ev.UserAgentConnected("mozilla", "another uaid", newcomers=True))
    stage.advance(60.0)
    assert {anna.node.channels.current(other.id, newcomer=False) for other in (bert, carl)} == established
    assert all(anna.node.channels.ready(other.id, newcomer=False) for other in (bert, carl))


# -- giving way -------------------------------------------------------------------------------------------------------


def test_the_least_useful_channel_gives_way() -> None:
    bench = Bench()
    peers = [number.to_bytes(32, "big") for number in range(1, MAX_CHANNELS)]
    for peer in peers:
        bench.meet(peer)
        bench.wait(1.0)
    bench.holders.ensure(b"token   ")
    bench.serve()
    assert len(list(bench.channels)) == MAX_CHANNELS
    bench.wait(HOLD_TIME)
    bench.holders.ensure(HOLDER)
    bench.serve()
    assert bench.holders.is_ready(HOLDER)
    assert not bench.holders.is_ready(b"token   ") or not bench.holders.is_ready(peers[0])
    assert len(list(bench.channels)) <= MAX_CHANNELS
    assert bench.closed


def test_nobody_gives_way_in_the_first_hour() -> None:
    bench = Bench()
    for number in range(MAX_CHANNELS + 5):
        bench.holders.ensure(number.to_bytes(32, "big"))
    bench.serve()
    assert not bench.closed
    assert len(list(bench.holders)) == MAX_CHANNELS
    assert bench.ctx.counters["channels_limit"] == 5


def test_what_has_run_out_is_taken_back() -> None:
    bench = Bench()
    bench.meet()
    (channel,) = bench.channels.current(HOLDER, newcomer=True)
    bench.wait(OWN_GRANT_SPAN + 2 * CLOCK_SLACK)
    bench.holders.sweep(0, lambda _: True)
    bench.serve()
    assert bench.closed == [channel]
    assert bench.holders.row(HOLDER) is None
    assert bench.audit.entries(HOLDER, "taken_back", 0, 10)


# -- one subscription for all -----------------------------------------------------------------------------------------


def test_a_shared_subscription_serves_tokens_and_members() -> None:
    stage = Stage("anna", "bert", "carl", config=SHARED)
    anna, bert, carl = stage.mesh(60.0)
    assert all(
        player.neighbors() == {other.name for other in stage.players.values()} - {player.name}
        for player in (anna, bert, carl)
    )
    assert len([row for _, row in anna.node.channels if row.holder != anna.id]) == 1
    until = bert.node.grants.push_until(anna.id)
    assert until is not None
    assert TOP_UP_SPAN < until - stage.unix <= GRANT_SPAN + 1
    bert.crash()
    stage.advance(30.0)
    bert.start()
    stage.advance(60.0)
    assert carl.name in bert.neighbors()


def test_revoking_one_takes_a_shared_subscription_from_all_and_gives_the_others_a_new_one() -> None:
    stage = Stage("anna", "bert", "carl", config=SHARED)
    anna, _, carl = stage.mesh(60.0)
    old = {endpoint for endpoint, owner in stage.endpoints.items() if owner[0] is anna}
    anna.ask("members.revoke", peer="bert")
    stage.advance(60.0)
    assert not old & set(stage.endpoints)
    assert carl.node.grants.can_push(anna.id)
    (held,) = carl.node.grants.subscriptions(anna.id)
    assert stage.endpoint(held) in stage.endpoints
