"""Our own push subscriptions: a channel for each holder, topped up, made anew when a service forgets us."""

from __future__ import annotations

from dataclasses import replace

from playbook import Player, Stage

from meshd.config import Config, PushConfig
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.pushing import channels
from meshd.core.pushing.capabilities import OWN_TOP_UP_SPAN
from meshd.ids import ChannelId
from meshd.wire.parts import Grant


def three() -> tuple[Stage, Player, Player, Player]:
    stage = Stage("anna", "bert", "carl")
    anna, bert, carl = stage.mesh()
    stage.advance(5)
    return stage, anna, bert, carl


def test_every_neighbor_has_a_channel_and_a_grant() -> None:
    _, anna, bert, carl = three()
    for player, others in ((anna, (bert, carl)), (bert, (anna, carl)), (carl, (anna, bert))):
        assert {other.id for other in others} <= set(player.node.holders)
        assert all(other.node.grants.can_push(player.id) for other in others)


def test_no_two_holders_share_a_channel_or_a_key() -> None:
    stage, anna, _, _ = three()
    keys = [command.vapid_key for command in anna.did(cm.RegisterChannel)]
    assert len(keys) == len(set(keys)) >= 3
    assert all(len(key) == 65 and key[0] == 4 for key in keys)
    words = [endpoint for endpoint, owner in stage.endpoints.items() if owner[0] is anna]
    assert len(words) == len(set(words)) >= 2


def test_channel_ids_are_uuids_of_version_4() -> None:
    _, anna, _, _ = three()
    for command in anna.did(cm.RegisterChannel):
        assert command.channel[6] >> 4 == 4
        assert command.channel[8] >> 6 == 2


def test_a_service_that_has_forgotten_us_gets_new_channels_and_neighbors_new_grants() -> None:
    stage, anna, bert, carl = three()
    old = {endpoint for endpoint, owner in stage.endpoints.items() if owner[0] is anna}
    generation = anna.node.membership.own_record.generation  # type: ignore[union-attr]
    for endpoint in old:
        del stage.endpoints[endpoint]
    anna.give(ev.UserAgentConnected("mozilla", "another uaid", True))
    stage.advance(5)
    new = {endpoint for endpoint, owner in stage.endpoints.items() if owner[0] is anna}
    assert new
    assert not new & old
    assert anna.notices("subscriptions_lost") == [{"service": "mozilla"}]
    for other in (bert, carl):
        held = other.node.grants._rows[anna.id]
        assert held.generation == generation + 1
        known = other.node.membership.record(anna.id)
        assert known is not None
        assert known.generation == generation + 1
        assert {part.prefix for part in held.subscriptions} == {"https://mozilla.example/wpush/v2/"}
    assert anna.disk["user_agents"][b"mozilla/newcomers"] == b"another uaid"


def test_coming_back_as_who_we_were_changes_nothing() -> None:
    stage, anna, bert, _ = three()
    grants = len(anna.sent(Grant))
    for newcomers in (False, True):
        anna.give(ev.UserAgentDisconnected("mozilla", "gone for a while", newcomers))
    assert any("No push service" in warning for warning in anna.node.view().status["warnings"])
    for newcomers in (False, True):
        anna.give(ev.UserAgentConnected("mozilla", stage.uaids["anna", "mozilla", newcomers], newcomers))
    stage.advance(5)
    assert len(anna.sent(Grant)) == grants
    assert not anna.notices("subscriptions_lost")
    assert not any("No push service" in warning for warning in anna.node.view().status["warnings"])
    assert bert.node.grants.can_push(anna.id)


def test_the_uaid_outlives_a_restart() -> None:
    stage, anna, _, _ = three()
    uaids = {stage.uaids["anna", "mozilla", newcomers] for newcomers in (False, True)}
    anna.restart()
    opened = anna.did(cm.OpenUserAgent)[-2:]
    assert {command.uaid for command in opened} == uaids
    assert all(command.uaid not in repr(command) for command in opened)


def test_grants_are_topped_up_long_before_they_end() -> None:
    stage, anna, bert, _ = three()
    for _ in range(60):
        stage.skip(3600)
        stage.advance(10)
        until = bert.node.grants.push_until(anna.id)
        assert until is not None
        assert until - stage.unix > OWN_TOP_UP_SPAN - 3600


def test_a_channel_that_is_refused_is_asked_for_again_with_the_next_connection() -> None:
    stage, anna, _, _ = three()
    anna.node.holders.ensure(b"somebody")
    for command in anna.handle(ev.TimerFired()):
        if not isinstance(command, cm.RegisterChannel):
            stage.do(anna, command)
    stage.run()
    (channel,) = [
        c.channel for c in anna.did(cm.RegisterChannel) if anna.node.holders.of_channel(c.channel) == [b"somebody"]
    ]
    anna.give(ev.ChannelRefused(channel, 500))
    assert anna.notices("channel_refused") == [{"channel": channel, "status": 500}]
    assert not anna.node.holders.is_ready(b"somebody")
    anna.give(ev.UserAgentConnected("mozilla", stage.uaids["anna", "mozilla", True], True))
    assert anna.node.holders.is_ready(b"somebody")


def test_a_service_that_says_of_every_channel_that_it_is_taken_is_not_asked_in_a_loop() -> None:
    stage, anna, _, _ = three()
    anna.node.holders.ensure(b"somebody")

    def registered(event: ev.Event) -> list[ChannelId]:
        return [command.channel for command in anna.handle(event) if isinstance(command, cm.RegisterChannel)]

    (channel,) = registered(ev.TimerFired())
    (other,) = registered(ev.ChannelRefused(channel, 409))
    assert other != channel
    assert not registered(ev.ChannelRefused(other, 409))
    stage.advance(2 * channels.REGISTER_RETRY_INTERVAL)
    assert anna.node.holders.is_ready(b"somebody")


def test_an_endpoint_that_is_none_is_not_granted() -> None:
    stage, anna, bert, _ = three()
    (channel,) = [
        c.channel for c in anna.did(cm.RegisterChannel) if anna.node.holders.of_channel(c.channel) == [bert.id]
    ]
    grants = len(anna.sent(Grant))
    for endpoint in ("", "javascript:1", "x" * 2000, "https://"):
        anna.give(ev.ChannelRegistered(channel, endpoint))
    assert len(anna.sent(Grant)) == grants
    assert anna.counters["channels_refused"] == 4
    assert stage


def test_channels_and_services_that_are_not_ours() -> None:
    _, anna, _, _ = three()
    stranger = ChannelId(b"x" * 16)
    anna.give(ev.ChannelRegistered(stranger, "https://mozilla.example/wpush/v2/abc"))
    anna.give(ev.ChannelRefused(stranger, 400))
    anna.give(ev.UserAgentConnected("wss://elsewhere/", "uaid"))
    anna.give(ev.UserAgentDisconnected("wss://elsewhere/", "x"))
    assert not anna.notices("subscriptions_lost")
    assert anna.node.holders.of_channel(stranger) == []


def test_a_member_that_leaves_loses_its_channel() -> None:
    stage, anna, bert, _ = three()
    bert.ask("mesh.leave")
    stage.advance(1)
    assert bert.id not in anna.node.holders
    assert not [owner for owner in stage.endpoints.values() if owner[0] is bert]


def test_channels_are_bounded() -> None:
    _, anna, _, _ = three()
    for number in range(channels.MAX_CHANNELS + 10):
        anna.node.holders.ensure(number.to_bytes(8, "big"))
    anna.handle(ev.TimerFired())
    assert sum(service["channels"] for service in anna.node.view().status["push"]) == channels.MAX_CHANNELS
    assert anna.counters["channels_limit"] >= 10


def test_a_channel_at_each_service() -> None:
    config = replace(Config(), push=PushConfig(services=("mozilla", "wss://push.example/")))
    stage = Stage("anna", "bert", config=config)
    anna, bert = stage.mesh()
    assert len(bert.node.grants._rows[anna.id].subscriptions) == 2
    assert [service["state"] for service in anna.node.view().status["push"]] == ["connected", "connected"]
    # one forgets us: the other goes on serving, and soon there are two again
    anna.give(ev.UserAgentConnected("mozilla", "another uaid", True))
    stage.advance(5)
    held = bert.node.grants._rows[anna.id]
    assert len(held.subscriptions) == 2
    assert held.generation == 1


def test_without_services_a_node_is_a_member_all_the_same() -> None:
    config = replace(Config(), push=PushConfig(services=()))
    stage = Stage("anna", config=config)
    stage.found("anna")
    status = stage["anna"].node.view().status
    assert status["push"] == []
    assert any("nobody can join through this node" in warning for warning in status["warnings"])
