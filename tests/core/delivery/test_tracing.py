"""The way to a member, hop by hop: what each relay says, what is guessed, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from playbook import Player, Refused, Stage

from meshd.config import Config, MeshConfig
from meshd.core import events as ev
from meshd.core.delivery.tracing import ANSWER_BURST, MAX_TRACES
from meshd.errors import Code
from meshd.ids import RequestId
from meshd.wire.messages import Forward, HopTold, HopWanted, News, encode_message


def line(count: int = 4, *, config: dict[str, Config] | None = None) -> tuple[Stage, list[Player]]:
    """A - B - C - …: only those next to each other can connect."""
    names = [f"node{number}" for number in range(count)]
    stage = Stage()
    for name in names:
        stage.add(name, (config or {}).get(name))
    for i, one in enumerate(names):
        stage.cut.update(frozenset((one, other)) for other in names[i + 2 :])
    stage.found(names[0])
    for i, name in enumerate(names[1:]):
        stage.join(name, names[i])
        stage.advance(1)
    stage.advance(5)
    return stage, [stage[name] for name in names]


def trace(player: Player, peer: str, **params: Any) -> dict[str, Any]:
    """One that needs time to end."""
    number = player.request("peers.trace", peer=peer, probes=params.pop("probes", 3), **params)
    player.stage.advance(0 if number in player.answers else 60)
    answer = player.answers[number]
    assert isinstance(answer, dict), answer
    return answer


def names(answer: dict[str, Any]) -> list[str]:
    return [hop["name"] for hop in answer["hops"]]


def deaf(player: Player, kind: type[Any]) -> None:
    """What it says of that kind gets lost, wrapped up or not: it says nothing else here."""

    def tap(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        message = Stage.decode(data)
        return None if sender is player and isinstance(message, kind | Forward) else data

    player.stage.tap = tap


def test_every_hop_is_named_by_the_one_before_and_timed() -> None:
    _, (first, *_) = line(4)
    answer = trace(first, "node3")
    assert answer["outcome"] == "arrived"
    assert names(answer) == ["node1", "node2", "node3"]
    assert [hop["told"] for hop in answer["hops"]] == [False, True, True]
    assert all(len(hop["rtts"]) == 3 and hop["lost"] == 0 for hop in answer["hops"])
    assert answer["expected"] == ["node1", "node2"]


def test_a_neighbor_is_one_hop() -> None:
    _, (first, *_) = line(3)
    answer = trace(first, "node1", probes=1)
    assert (answer["outcome"], names(answer), answer["expected"]) == ("arrived", ["node1"], [])
    assert len(answer["hops"][0]["rtts"]) == 1


def without_news(deaf: Player) -> Callable[[Player, Player, bytes], bytes | None]:
    """It does not hear what others say of their links."""
    return lambda _, receiver, data: None if receiver is deaf and isinstance(Stage.decode(data), News) else data


def test_a_detour_that_our_records_do_not_show_is_seen() -> None:
    """Node 1 has just lost its link to node 3, and goes by node 2; the first still believes in the short way."""
    stage = Stage("first", "node1", "node2", "node3")
    stage.cut.update({frozenset(("first", "node2")), frozenset(("first", "node3"))})
    first, near, _, last = stage.mesh()
    assert names(trace(first, "node3")) == ["node1", "node3"]
    stage.tap = lambda sender, receiver, data: (
        None if receiver is first and isinstance(Stage.decode(data), News) else data
    )
    for one, other in ((near, last), (last, near)):
        one.give(ev.LinkClosed(one.link_to(other), "ice_failed"))
    stage.cut.add(frozenset(("node1", "node3")))
    stage.advance(2)
    answer = trace(first, "node3")
    assert names(answer) == ["node1", "node2", "node3"]
    assert answer["outcome"] == "arrived"
    assert answer["expected"] == ["node1"]


def test_a_silent_hop_is_stepped_over_by_our_own_records() -> None:
    _, (first, second, *_) = line(4)
    deaf(second, HopTold)
    second.stage.tap, tap = None, second.stage.tap

    def only_its_own(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        return data if isinstance(Stage.decode(data), Forward) else tap(sender, receiver, data)  # type: ignore[misc]

    second.stage.tap = only_its_own
    answer = trace(first, "node3", timeout=1.0)
    assert answer["outcome"] == "arrived"
    assert names(answer) == ["node1", "node2", "node3"]
    silent, guessed, last = answer["hops"]
    assert (silent["rtt"], silent["lost"]) == (None, 2)
    assert not guessed["told"]
    assert last["told"]


def test_a_member_that_does_not_answer_ends_it() -> None:
    _, (first, *_, last) = line(3)
    deaf(last, HopTold)
    answer = trace(first, "node2", timeout=1.0)
    assert answer["outcome"] == "silent"
    assert names(answer) == ["node1", "node2"]
    assert answer["hops"][-1]["rtt"] is None


def test_a_relay_without_a_way_says_so() -> None:
    stage, (first, _, third, last) = line(4)
    stage.tap = lambda sender, receiver, data: (
        None if receiver is first and isinstance(Stage.decode(data), News) else data
    )
    last.crash()
    third.give(ev.LinkClosed(third.link_to(last), "ice_failed"))
    answer = trace(first, "node3")
    assert answer["outcome"] == "no_route"
    assert names(answer)[-1] in ("node1", "node2")


def test_without_a_way_from_here_it_is_refused() -> None:
    stage, (first, second, _) = line(3)
    second.crash()
    stage.advance(30)
    assert first.refusal("peers.trace", peer="node2") is Code.PEER_UNREACHABLE
    assert first.refusal("peers.trace", peer="node0") is Code.REFUSED
    assert first.refusal("peers.trace", peer="nobody") is Code.PEER_UNKNOWN


def test_who_does_not_relay_says_nothing_of_ways() -> None:
    _, (first, second, third) = line(3, config={"node1": replace(Config(), mesh=MeshConfig(relay=False))})
    second.hear(first, HopWanted(5, third.id, first.id))
    assert second.sent(HopTold)[-1] == HopTold(5, None, "refused")


@pytest.mark.parametrize("whom", ["us", "itself", "a stranger"])
def test_a_relay_that_lies_makes_no_endless_trace(whom: str) -> None:
    _, (first, second, _) = line(3)
    named = {"us": first.id, "itself": second.id, "a stranger": bytes(32)}[whom]

    def lie(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        message = Stage.decode(data)
        if sender is second and isinstance(message, HopTold):
            return encode_message(HopTold(message.number, named, ""))  # type: ignore[arg-type]
        return data

    first.stage.tap = lie
    answer = trace(first, "node2")
    assert answer["outcome"] == ("silent" if whom == "a stranger" else "loop")
    assert len(answer["hops"]) <= 2


def test_only_the_hop_that_was_asked_is_believed() -> None:
    stage, (first, second, third) = line(3)
    deaf(second, HopTold)
    number = first.request("peers.trace", peer="node2", probes=1, timeout=5.0)
    asked = first.sent(HopWanted)[-1]
    stage.tap = None
    first.give(ev.MessageReceived(first.link_to(second), b"\x94\x5b"))  # malformed: its own link's end
    stage.advance(2)
    third_says = HopTold(asked.number, None, "arrived")
    first.node.tracing.on_told(third.id, third_says)
    first.node.tracing.on_told(second.id, replace(third_says, number=asked.number + 1))
    assert number not in first.answers


def test_questions_without_end_are_answered_for_a_while() -> None:
    stage, (first, second, third) = line(3)
    for number in range(ANSWER_BURST + 20):
        second.hear(first, HopWanted(number, third.id, first.id))
    assert len(second.sent(HopTold)) == ANSWER_BURST
    assert second.counters["traces_refused"] == 20
    second.hear(third, HopWanted(1, first.id, third.id))  # the other member has an allowance of its own
    assert second.sent(HopTold)[-1] == HopTold(1, first.id, "")
    stage.advance(1)
    second.hear(first, HopWanted(7, third.id, first.id))
    assert second.sent(HopTold)[-1].number == 7


def test_traces_at_one_time_are_few_and_end_with_their_askers() -> None:
    _, (first, second, _) = line(3)
    deaf(second, HopTold)
    numbers = [first.request("peers.trace", peer="node2", timeout=5.0) for _ in range(MAX_TRACES + 1)]
    answer = first.answers[numbers[-1]]
    assert isinstance(answer, Refused)
    assert answer.code is Code.BUSY
    timers = first.node.timer_count()
    for number in numbers[:-1]:
        first.give(ev.RequestAbandoned(RequestId(number)))
    assert first.node.timer_count() == timers - MAX_TRACES
    first.stage.advance(60)
    assert not [number for number in numbers[:-1] if number in first.answers]
