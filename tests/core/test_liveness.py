"""Heartbeats: whom to give up, and whom not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from playbook import Player, Stage

from meshd.config import Config, MeshConfig
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.wire.messages import (
    ApplicationMessage,
    Goodbye,
    Heartbeat,
    HeartbeatAnswer,
    encode_message,
)

TIMEOUT, INTERVAL = 8.0, 2.0


def two() -> tuple[Stage, Player, Player]:
    stage = Stage("anna", "bert", config=replace(Config(), mesh=MeshConfig(link_timeout=8.0, heartbeat_interval=2.0)))
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
    bert.crash()
    assert TIMEOUT - INTERVAL <= silent_after(stage, anna) <= TIMEOUT + 2 * INTERVAL
    assert anna.counters["links_silent"] == 1
    assert isinstance(anna.did(cm.CloseLink)[-1], cm.CloseLink)


def test_a_quiet_link_is_kept() -> None:
    stage, anna, bert = two()
    stage.advance(300)
    assert not anna.notices("link_down")
    assert anna.link_to(bert)


def test_a_quiet_link_costs_little() -> None:
    stage, anna, _ = two()
    before = len(anna.did(cm.SendMessage))
    stage.advance(60)
    assert len(anna.did(cm.SendMessage)) - before <= 3 * 60 / INTERVAL


def test_anything_that_comes_keeps_a_link() -> None:
    """A peer whose heartbeats are late behind its messages is there."""
    stage, anna, bert = two()
    stage.tap = lambda sender, receiver, data: None if sender is bert else data
    for _ in range(10):
        stage.advance(4)
        anna.hear(bert, ApplicationMessage(bytes(16), "chat", 0, 2**39, b"still here"))
    assert not anna.notices("link_down")
    assert silent_after(stage, anna) <= TIMEOUT + 2 * INTERVAL


@pytest.mark.parametrize("late", [3.0, 20.0, 600.0])
def test_who_was_late_itself_blames_nobody(late: float) -> None:
    """Anna's loop stood still. What Bert sent meanwhile still waits to be read."""
    stage, anna, bert = two()
    stage.mono += late
    stage.unix += late
    anna.give(ev.TimerFired())
    assert not anna.notices("link_down")
    stage.advance(1)
    assert anna.neighbors() == {"bert"}
    assert bert.neighbors() == {"anna"} or late > TIMEOUT


def test_who_was_late_itself_still_notices_a_death() -> None:
    stage, anna, bert = two()
    bert.crash()
    stage.mono += 600
    stage.unix += 600
    anna.give(ev.TimerFired())
    assert not anna.notices("link_down")
    assert silent_after(stage, anna) <= TIMEOUT + 2 * INTERVAL


def test_round_trips_are_measured() -> None:
    stage, anna, bert = two()
    link = anna.node.neighbors.current(bert.id)
    assert link is not None
    assert link.rtt == 0.0  # on a stage nothing takes time
    anna.handle(ev.TimerFired())
    for _ in range(200):
        link.probe, link.probed = 77, stage.mono - 0.25
        anna.handle(ev.MessageReceived(link.id, encode_message(HeartbeatAnswer(77))))
    assert link.rtt == pytest.approx(0.25, rel=0.01)


def test_answers_to_what_was_not_asked_measure_nothing() -> None:
    _, anna, bert = two()
    link = anna.node.neighbors.current(bert.id)
    assert link is not None
    for number in (0, 5, 2**32 - 1):
        anna.hear(bert, HeartbeatAnswer(number))
    assert link.rtt == 0.0


def test_heartbeats_are_answered_with_their_number() -> None:
    _, anna, bert = two()
    anna.hear(bert, Heartbeat(12345))
    assert anna.sent(HeartbeatAnswer)[-1] == HeartbeatAnswer(12345)


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
    assert counts[0] <= 12
    assert counts[-1] <= 2
    bert.start()
    stage.advance(120)
    assert bert.neighbors() == {"anna"}
