"""Heartbeats: whom to give up, and whom not."""

from __future__ import annotations

import itertools

import pytest
from playbook import Player, Stage

from meshd.config import MeshConfig
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.overlay.pulse import MIN_PROBE_INTERVAL, MIN_PROBES, Pulse, PulseState
from meshd.core.pushing.budget import MAX_BURST
from meshd.wire.messages import (
    LINK_MESSAGES,
    ApplicationMessage,
    Goodbye,
    Heartbeat,
    HeartbeatAnswer,
    Hello,
    decode_message,
    encode_message,
)

INTERVAL, TIMEOUT = MeshConfig().heartbeat_interval, MeshConfig().link_timeout


def two() -> tuple[Stage, Player, Player]:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh(20.0)
    return stage, anna, bert


def silent_after(stage: Stage, player: Player, limit: float = 60.0) -> float:
    """Seconds until ``player`` gives a link up."""
    began = stage.mono
    while stage.mono - began < limit:
        stage.advance(0.1)
        if player.notices("link_down"):
            assert player.notices("link_down")[-1]["reason"] == "silent"
            return stage.mono - began
    raise AssertionError("it never did")


def test_a_silent_link_is_given_up() -> None:
    stage, anna, bert = two()
    link = anna.link_to(bert)
    bert.crash()
    assert TIMEOUT - 1.5 * INTERVAL <= silent_after(stage, anna) <= TIMEOUT + 0.2
    assert anna.counters["links_lost_silent"] == 1
    assert cm.CloseLink(link) not in anna.did(cm.CloseLink)  # it may come back
    stage.advance(MeshConfig().silence_timeout)
    assert cm.CloseLink(link) in anna.did(cm.CloseLink)
    assert anna.counters["links_silent_closed"] == 1


def test_a_quiet_link_is_kept() -> None:
    stage, anna, bert = two()
    stage.advance(300)
    assert not anna.notices("link_down")
    assert anna.link_to(bert)


def test_a_quiet_link_costs_little() -> None:
    stage, anna, bert = two()
    for player in (anna, bert):
        player.log.clear()
    stage.advance(600)
    beats = [command for player in (anna, bert) for command in player.did(cm.SendHeartbeat)]
    assert len(beats) <= 1.2 * 600 / INTERVAL  # of both sides together
    assert len(anna.did(cm.SendMessage)) <= 0.2 * 600 / INTERVAL  # records


def test_heartbeats_take_no_messages() -> None:
    """The transport carries them, once, past whatever waits; and it answers them."""
    stage, anna, bert = two()
    for player in (anna, bert):
        player.log.clear()
    stage.advance(10)
    assert anna.did(cm.SendHeartbeat) or bert.did(cm.SendHeartbeat)
    for player in (anna, bert):
        assert not player.sent(Heartbeat)
        assert not player.sent(HeartbeatAnswer)


def test_a_heartbeat_by_message_is_answered_by_message() -> None:
    """A page in a browser has no other way. Late answers say nothing, so they are not sent again."""
    _, anna, bert = two()
    anna.hear(bert, Heartbeat(12345))
    assert anna.sent(HeartbeatAnswer) == [HeartbeatAnswer(12345)]
    assert not anna.did(cm.SendMessage)[-1].reliable


def test_heartbeats_of_links_that_are_gone_are_nothing() -> None:
    _, anna, bert = two()
    link = anna.link_to(bert)
    anna.give(ev.LinkClosed(link, "closed_by_peer"))
    anna.give(ev.HeartbeatReceived(link))
    anna.give(ev.HeartbeatAnswered(link, 1))
    assert "bert" not in anna.neighbors()


def test_a_heartbeat_that_overtakes_the_hello_does_no_harm() -> None:
    stage, anna, bert = two()
    stage.separate("anna", "bert")
    stage.cut.clear()
    early = itertools.count(1)

    def tap(sender: Player, receiver: Player, data: bytes) -> bytes:
        if isinstance(decode_message(data, LINK_MESSAGES), Hello):
            link = max(receiver.ends)
            for message in (Heartbeat(next(early)), HeartbeatAnswer(next(early))):
                receiver.handle(ev.MessageReceived(link, encode_message(message)))
        return data

    stage.tap = tap
    stage.advance(60)
    assert next(early) > 4
    assert anna.neighbors() == {"bert"}
    assert bert.neighbors() == {"anna"}
    assert "link_hello_missing" not in anna.counters | bert.counters


def test_many_links_are_looked_after_together() -> None:
    stage = Stage(*(f"n{index}" for index in range(9)))
    stage.mesh(60.0)
    player = stage["n0"]
    assert len(player.neighbors()) == 8
    before = len(player.wakings)
    stage.advance(100)
    woken = len(player.wakings) - before  # for everything there is to do
    assert woken <= 300  # for each link by itself it would be 800


def test_anything_that_comes_keeps_a_link() -> None:
    """A peer whose heartbeats are late behind its messages is there."""
    stage, anna, bert = two()
    stage.tap = lambda sender, receiver, data: None if sender is bert else data
    for _ in range(10):
        stage.advance(4)
        anna.hear(bert, ApplicationMessage(bytes(16), "chat", 0, 2**39, b"still here"))
    assert not anna.notices("link_down")
    assert silent_after(stage, anna) <= TIMEOUT + 0.2


def test_a_silent_link_is_tried_quickly_before_it_is_given_up() -> None:
    stage, anna, bert = two()
    before = len(anna.did(cm.SendHeartbeat))
    bert.crash()
    silent_after(stage, anna)
    assert len(anna.did(cm.SendHeartbeat)) - before >= MIN_PROBES


def test_one_answer_to_the_quick_ones_is_enough() -> None:
    stage, anna, bert = two()
    lost: list[bytes] = []
    stage.tap = lambda sender, receiver, data: lost.append(data) if len(lost) < 6 else data  # type: ignore[func-returns-value]
    stage.advance(60)
    assert len(lost) == 6
    assert not anna.notices("link_down")
    assert not bert.notices("link_down")


@pytest.mark.parametrize("late", [3.0, 20.0, 600.0])
def test_who_was_late_itself_blames_nobody(late: float) -> None:
    """Anna's loop stood still. What Bert sent meanwhile still waits to be read."""
    stage, anna, bert = two()
    stage.mono += late
    stage.unix += late
    anna.give(ev.TimerFired())
    assert not anna.notices("link_down")
    assert anna.counters["held_up"] == 1
    stage.advance(1)
    assert anna.neighbors() == {"bert"}
    assert bert.neighbors() == {"anna"} or late > TIMEOUT


@pytest.mark.parametrize("late", [0.5, 3.0, 20.0])
def test_being_late_says_nothing_about_the_path(late: float) -> None:
    """The answer lay in the socket while Anna's loop stood still."""
    stage, anna, bert = two()
    stage.tap = lambda sender, receiver, data: None if sender is bert else data
    asked = len(anna.did(cm.SendHeartbeat))
    while len(anna.did(cm.SendHeartbeat)) == asked:
        stage.advance(0.01)
    heartbeat = anna.did(cm.SendHeartbeat)[-1]
    stage.mono += late
    stage.unix += late
    anna.give(ev.HeartbeatAnswered(heartbeat.link, heartbeat.number))
    pulse = pulse_of(anna, bert)
    assert pulse.srtt == 0.0
    assert anna.neighbors() == {"bert"}


def test_a_stuttering_loop_blames_nobody() -> None:
    """Held up again and again: each time what has come meanwhile is read only after the timer."""
    stage, anna, bert = two()
    unread: list[bytes] = []
    stage.tap = lambda sender, receiver, data: unread.append(data) if sender is bert else data  # type: ignore[func-returns-value]
    for _ in range(200):
        stage.mono += 0.9
        stage.unix += 0.9
        anna.give(ev.TimerFired())
        for data in unread:
            anna.handle(ev.MessageReceived(anna.link_to(bert), data))
        unread.clear()
    assert anna.counters["held_up"] > 50
    assert not anna.notices("link_down")


@pytest.mark.parametrize("late", [0.15, 0.4, 0.9])
def test_a_stuttering_loop_notices_a_death_in_the_end(late: float) -> None:
    stage, anna, bert = two()
    bert.crash()
    for _ in range(200):
        due = anna.node.next_deadline()
        assert due is not None
        passed = max(0.0, due - stage.mono) + late
        stage.mono += passed
        stage.unix += passed
        anna.give(ev.TimerFired())
        if anna.notices("link_down"):
            break
    assert anna.notices("link_down")[-1]["reason"] == "silent"


def test_who_is_late_to_give_up_looks_again_first() -> None:
    stage, anna, bert = two()
    unread: list[bytes] = []
    stage.tap = lambda sender, receiver, data: unread.append(data) if sender is bert else None  # type: ignore[func-returns-value]
    pulse = pulse_of(anna, bert)
    while stage.mono < pulse.heard + TIMEOUT - 0.01:
        stage.advance(0.005)
    stage.mono += 0.3
    stage.unix += 0.3
    anna.give(ev.TimerFired())
    assert anna.neighbors() == {"bert"}
    bert.handle(ev.MessageReceived(bert.link_to(anna), encode_message(Heartbeat(1))))
    anna.hear(bert, HeartbeatAnswer(1))
    stage.advance(1.0)
    assert anna.neighbors() == {"bert"}


def test_a_machine_that_has_slept_blames_nobody_and_begins_to_ask_anew() -> None:
    """The monotonic clock stands still in sleep, as on Linux. What was being asked is long void."""
    stage, anna, bert = two()
    bert.crash()
    while pulse_of(anna, bert).state is not PulseState.PROBING:
        stage.advance(0.1)
    anna.skew += 3600.0
    assert MIN_PROBES * MIN_PROBE_INTERVAL <= silent_after(stage, anna) <= TIMEOUT
    assert anna.counters["slept"] == 1


def test_who_was_late_itself_still_notices_a_death() -> None:
    stage, anna, bert = two()
    bert.crash()
    stage.mono += 600
    stage.unix += 600
    anna.give(ev.TimerFired())
    assert not anna.notices("link_down")
    assert silent_after(stage, anna) <= TIMEOUT + 0.2


def pulse_of(player: Player, other: Player) -> Pulse:
    link = player.node.neighbors.current(other.id)
    assert link is not None
    return link.pulse


def test_round_trips_are_measured() -> None:
    _, anna, bert = two()
    assert pulse_of(anna, bert).srtt == 0.0  # on a stage nothing takes time
    (shown,) = anna.node.view().peers
    assert (shown["rtt"], shown["loss"]) == (0.0, 0.0)


def test_answers_to_what_was_not_asked_measure_nothing() -> None:
    _, anna, bert = two()
    for number in (0, 5, 2**32 - 1):
        anna.give(ev.HeartbeatAnswered(anna.link_to(bert), number))
        anna.hear(bert, HeartbeatAnswer(number))
    assert pulse_of(anna, bert).srtt == 0.0


def test_the_wall_clock_does_not_matter() -> None:
    stage, anna, bert = two()
    stage.unix += 86_400
    stage.advance(20)
    stage.unix -= 2 * 86_400
    stage.advance(20)
    assert not anna.notices("link_down")
    assert not bert.notices("link_down")


def test_a_lost_link_is_made_again_by_push_when_there_is_no_other_way() -> None:
    stage, anna, bert = two()
    pushes = len(stage.pushes)
    stage.separate("anna", "bert")
    stage.cut.clear()
    stage.advance(60)
    assert anna.neighbors() == {"bert"}
    assert bert.neighbors() == {"anna"}
    assert len(stage.pushes) - pushes == 2


def test_a_stopping_node_says_goodbye() -> None:
    stage, anna, bert = two()
    anna.give(ev.Stopping())
    assert anna.sent(Goodbye)[-1].reason == "stopping"
    assert bert.neighbors() == set()
    assert bert.notices("link_down")[-1]["reason"] == "stopping"
    pushes = len(stage.pushes)
    anna.crash()
    stage.advance(20)
    assert len(stage.pushes) == pushes  # it is given time to come back by itself
    anna.start()
    stage.advance(60)
    assert bert.neighbors() == {"anna"}


def test_a_goodbye_with_a_made_up_reason_is_not_repeated() -> None:
    _, anna, bert = two()
    anna.hear(bert, Goodbye("\x1b[31m; rm -rf"))
    assert anna.notices("link_down")[-1]["reason"] == "closed_by_peer"


def test_members_that_are_off_are_called_ever_more_rarely() -> None:
    stage, _, bert = two()
    bert.crash()
    stage.advance(60)
    counts = []
    for _ in range(4):
        before = len(stage.pushes)
        stage.advance(1800)
        counts.append(len(stage.pushes) - before)
    assert counts[0] <= MAX_BURST
    assert counts[-1] <= 2
    bert.start()
    stage.advance(120)
    assert bert.neighbors() == {"anna"}


def test_losses_are_counted_by_reason_and_a_peer_makes_up_none() -> None:
    stage, anna, bert = two()
    anna.hear(bert, Goodbye("made_up_by_the_peer"))
    assert anna.counters["links_lost"] == anna.counters["links_lost_other"] == 1
    stage.advance(60)
    anna.log.clear()
    bert.crash()
    silent_after(stage, anna)
    assert anna.counters["links_lost_silent"] == 1
    assert not any("made_up" in name for name in anna.counters)


def test_the_last_trouble_is_shown_until_there_is_a_new_one_or_the_member_leaves() -> None:
    stage, anna, bert = two()
    bert.crash()
    silent_after(stage, anna)
    when = stage.unix
    bert.start()
    stage.advance(60)
    assert anna.neighbors() == {"bert"}
    (shown,) = anna.node.view().peers
    assert shown["last_error"] == "silent"
    assert shown["last_error_at"] == pytest.approx(when, abs=0.2)
    assert shown["link_id"] == anna.link_to(bert)
    bert.request("mesh.leave")
    stage.advance(10)
    assert anna.node.topology.last_trouble(bert.id) is None
