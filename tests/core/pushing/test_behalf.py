"""Pushes on behalf of others: who may ask for them, how many, and what the asker does with the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from playbook import Player, Stage

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.facts import PushOutcome
from meshd.core.pushing.behalf import ASK_TIMEOUT, ASKER_BURST, CALLED_BURST, PAIR_BURST
from meshd.ids import Now
from meshd.wire.envelope import seal
from meshd.wire.messages import Ping, PushReported, PushWanted, encode_message


def three() -> tuple[Stage, Player, Player, Player]:
    """anna and carl have bert for a common friend, and no link."""
    stage = Stage("anna", "bert", "carl")
    stage.separate("anna", "carl")
    stage.mesh(120.0)
    anna, bert, carl = (stage[name] for name in ("anna", "bert", "carl"))
    anna.node.grants.forget(carl.id)
    bert.log.clear()
    return stage, anna, bert, carl


def sealed(sender: Player, recipient: Player, sequence: int = 1) -> bytes:
    return seal(
        sender.suite,
        sender.node.membership.mesh,
        recipient.id,
        recipient.suite.sealing_key,
        session=b"session1",  # type: ignore[arg-type]
        sequence=sequence,
        body=encode_message(Ping(1)),
        now=Now(0.0, sender.stage.unix),
    )


def wanted(asker: Player, called: Player, number: int = 1, **other: Any) -> PushWanted:
    fields = {"recipient": called.id, "envelope": sealed(asker, called, number), "topic": b"t", "lifetime": 60}
    return PushWanted(number, **(fields | other))


def test_a_friend_pushes_a_sealed_envelope() -> None:
    stage, anna, bert, carl = three()
    carl.log.clear()
    bert.hear(anna, wanted(anna, carl, 7))
    assert bert.sent(PushReported)[-1] == PushReported(7, "accepted")
    assert [(one, other) for one, other, _ in stage.pushes][-1] == ("bert", "carl")
    assert carl.counters["pushes_received"] >= 1
    (notice,) = bert.notices("pushed_for_another")
    assert (notice["asker"], notice["peer"], notice["outcome"]) == (anna.id, carl.id, "accepted")


def test_without_a_capability_it_says_so() -> None:
    _, anna, bert, carl = three()
    bert.node.grants.forget(carl.id)
    bert.hear(anna, wanted(anna, carl))
    assert bert.sent(PushReported)[-1].outcome == "no_capability"
    assert bert.did(cm.SendPush) == []


@pytest.mark.parametrize("spoil", ["to_another", "to_the_friend", "to_oneself", "to_a_stranger", "other_mesh"])
def test_what_is_not_pushed(spoil: str) -> None:
    _, anna, bert, carl = three()
    envelope = sealed(anna, carl)
    changed: dict[str, dict[str, Any]] = {
        "to_another": {"envelope": sealed(anna, bert)},
        "to_the_friend": {"recipient": bert.id, "envelope": sealed(anna, bert)},
        "to_oneself": {"recipient": anna.id, "envelope": sealed(anna, anna)},
        "to_a_stranger": {"recipient": bytes(32), "envelope": envelope[:10] + bytes(32) + envelope[42:]},
        "other_mesh": {"envelope": envelope[:2] + bytes(8) + envelope[10:]},
    }
    bert.hear(anna, wanted(anna, carl, **changed[spoil]))
    assert bert.sent(PushReported)[-1].outcome == "refused"
    assert bert.did(cm.SendPush) == []


def test_who_does_not_want_to_keep_does_not_push_either() -> None:
    _, anna, bert, carl = three()
    bert.give(ev.Reconfigured(replace(bert.config, mesh=replace(bert.config.mesh, keeper="never"))))
    bert.hear(anna, wanted(anna, carl))
    assert bert.sent(PushReported)[-1].outcome == "refused"


def test_an_asker_has_a_quota_and_so_has_who_is_called() -> None:
    stage, anna, bert, carl = three()
    dora = stage.add("dora")
    stage.separate("dora", "carl")
    stage.join("dora", "bert")
    stage.advance(10)
    bert.log.clear()

    def asked_for(asker: Player, times: int) -> list[str]:
        before = len(bert.sent(PushReported))
        for number in range(times):
            stage.advance(6)
            bert.hear(asker, wanted(asker, carl, number))
        return [report.outcome for report in bert.sent(PushReported)[before:]]

    outcomes = asked_for(anna, CALLED_BURST + 2)
    assert outcomes == ["accepted"] * PAIR_BURST + ["quota"] * (CALLED_BURST + 2 - PAIR_BURST)
    others = asked_for(dora, CALLED_BURST)  # one alone does not use up what there is for who is called
    assert others.count("accepted") == CALLED_BURST - PAIR_BURST
    assert PAIR_BURST < CALLED_BURST < ASKER_BURST
    assert others[-1] == "quota"
    assert bert.counters["behalf_quota"] > 0
    assert bert.node.pushing.send(b"own", b"x", peer=carl.id, lifetime=60.0)  # the friend's own budget is not used up


def outcomes_of(player: Player) -> list[PushOutcome]:
    return [fact for fact in player.node._ctx.facts if isinstance(fact, PushOutcome)]


def ask(anna: Player, carl: Player) -> bool:
    anna.node._ctx.now = anna.now
    return anna.node.asking.ask(b"name", carl.id, sealed(anna, carl), topic=b"", lifetime=60.0, ticket=None)


def test_the_next_friend_is_asked_when_one_cannot() -> None:
    stage = Stage("anna", "bert", "carl", "dora")
    stage.separate("anna", "carl")
    stage.mesh(120.0)
    anna, carl = stage["anna"], stage["carl"]
    assert ask(anna, carl)
    (first,) = (entry for entry in anna.node.asking._asked.values())
    other = next(friend for friend in (stage["bert"], stage["dora"]) if friend.id != first.asked)
    asked_first = stage.named(first.asked or b"")
    anna.node.asking.on_reported(other.id, PushReported(first.number, "accepted"))  # it was not asked
    assert outcomes_of(anna) == []
    anna.node.asking.on_reported(asked_first.id, PushReported(first.number, "no_capability"))
    assert first.asked == other.id
    anna.node.asking.on_reported(asked_first.id, PushReported(first.number, "accepted"))  # too late
    assert outcomes_of(anna) == []
    anna.node.asking.on_reported(other.id, PushReported(first.number, "accepted"))
    assert [fact.outcome for fact in outcomes_of(anna)] == ["accepted"]


def test_a_friend_that_does_not_answer_is_not_waited_for() -> None:
    _, anna, _, carl = three()
    assert ask(anna, carl)
    anna.node._ctx.now = Now(anna.now.mono + ASK_TIMEOUT, anna.now.unix + ASK_TIMEOUT)
    anna.node.asking.on_timer(b"name")
    (outcome,) = outcomes_of(anna)
    assert outcome.outcome == "failed"
    assert "no answer" in outcome.detail


def test_what_a_friend_says_is_no_counters_name() -> None:
    _, anna, bert, carl = three()
    assert ask(anna, carl)
    (entry,) = anna.node.asking._asked.values()
    anna.node.asking.on_reported(bert.id, PushReported(entry.number, "<script>"))
    (outcome,) = outcomes_of(anna)
    assert outcome.detail.endswith("refused")


def test_nobody_to_ask() -> None:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh()
    assert not anna.node.asking.can_ask(bert.id)
    assert not ask(anna, bert)
