"""Who calls, by push, a member that there is no way to: a few, and more only when nothing comes of it."""

from __future__ import annotations

from playbook import Player, Stage

from meshd.core import events as ev
from meshd.core.pushing.calling import (
    CALLED_AT_FIRST,
    CALLED_STEP,
    CALLERS,
    CALLERS_STEP,
    FIRST_SPAN,
    MAX_SPAN,
    RESTING,
)
from meshd.ids import Now
from meshd.wire.record import KEEPS

NAMES = ("anna", "bert", "carl", "dora", "emma", "finn", "gina")


def without_the_last() -> tuple[Stage, list[Player], Player]:
    """A mesh whose last member has just vanished."""
    stage = Stage(*NAMES)
    *others, last = stage.mesh(60.0)
    last.crash()
    stage.advance(60.0)  # silence is noticed, and nobody believes in a way any more
    assert not any(player.node.routing.next_hop(last.id) for player in others)
    return stage, others, last


def callers(players: list[Player], called: Player, lost: float = 0.0) -> list[str]:
    """Those whose part it would be, so long after it was lost."""
    found = []
    for player in players:
        calling = player.node.calling
        calling.look()
        since = calling._since.get(called.id, player.now.mono)
        player.node._ctx.now = Now(since + lost, player.now.unix)
        if calling.is_ours(called.id):
            found.append(player.name)
        player.node._ctx.now = player.now
    return found


def test_a_few_call_at_first() -> None:
    _, others, last = without_the_last()
    assert len(callers(others, last)) == CALLERS


def test_then_one_after_the_other_and_more_as_time_goes_by() -> None:
    _, others, last = without_the_last()
    first = set(callers(others, last))
    spans = [FIRST_SPAN * 1.5 * 2**span for span in range(2, 9)]  # in the middle of each
    turns = [callers(others, last, lost) for lost in spans]
    assert all(len(turn) == 1 for turn in turns)
    early = [turn[0] for turn, lost in zip(turns, spans, strict=True) if lost < CALLERS_STEP]
    assert set(early) == first  # each of them
    by_days = [callers(others, last, day * 86400.0 + span * MAX_SPAN) for day in range(1, 8) for span in range(4)]
    assert {name for turn in by_days for name in turn} == {player.name for player in others}


def test_only_they_push() -> None:
    stage, others, last = without_the_last()
    chosen = callers(others, last)
    pushing = {one for one, other, _ in stage.pushes if other == last.name and one != "anna"}  # she let them all in
    assert pushing <= set(chosen)
    assert pushing


def test_who_is_alone_calls_all_but_not_at_once() -> None:
    stage = Stage(*NAMES)
    *others, last = stage.mesh(60.0)
    for player in others:
        player.crash()
    for _ in range(300):
        if len(last.node.calling._since) < len(others):
            stage.advance(0.1)
    asked = [player for player in others if callers([last], player)]
    assert len(asked) == CALLED_AT_FIRST
    assert len([player for player in others if callers([last], player, CALLED_STEP + 1)]) == CALLED_AT_FIRST + 1


def test_who_can_do_nothing_does_not_call() -> None:
    _, others, last = without_the_last()
    for player in others:
        player.node.grants.forget(last.id)
    assert callers(others, last)  # friends may hold something
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh()
    bert.crash()
    stage.advance(5.0)
    anna.node.grants.forget(bert.id)
    assert callers([anna], bert, 86_400.0) == []


def test_who_can_find_nobody_again_says_so() -> None:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh()
    bert.crash()
    stage.advance(60.0)

    def warned() -> bool:
        return any("meshctl offer" in warning for warning in anna.node.view().status["warnings"])

    assert not warned()
    anna.node.grants.forget(bert.id)
    assert warned()
    bert.start()
    stage.advance(120.0)
    assert anna.neighbors() == {"bert"}
    assert not warned()


def test_who_is_found_again_is_forgotten() -> None:
    stage, others, last = without_the_last()
    last.start()
    stage.advance(120.0)
    assert all(player.node.calling._since == {} for player in (*others, last))


def test_who_says_that_it_stops_is_left_alone_for_a_while() -> None:
    stage = Stage(*NAMES)
    *others, last = stage.mesh(60.0)
    last.give(ev.Stopping())
    last.crash()
    stage.advance(60.0)
    told = [player for player in others if last.id in player.node.calling._resting]
    assert len(told) > CALLERS
    assert callers(told, last) == []
    assert callers(others, last, RESTING + 60.0)


def test_who_comes_into_the_mesh_takes_the_absent_for_long_gone() -> None:
    stage, others, last = without_the_last()
    comer, *_ = others
    comer.crash()
    stage.advance(7200.0)
    comer.start()
    stage.advance(30.0)
    lost = comer.now.mono - comer.node.calling._since[last.id]
    assert lost > 7200.0


def test_keepers_are_called_first() -> None:
    stage = Stage(*NAMES)
    *others, last = stage.mesh(60.0)
    keeper = max(others, key=lambda player: player.id)  # last by its id
    keeper.node.membership.offers_changed(features=KEEPS)
    stage.advance(5.0)
    for player in others:
        player.crash()
    for _ in range(300):
        if len(last.node.calling._since) < len(others):
            stage.advance(0.1)
    assert keeper in [player for player in others if callers([last], player)]
