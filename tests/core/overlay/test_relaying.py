"""Envelopes over others: ways, quotas, and what comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from playbook import Player, Refused, Stage

from meshd.config import Config, MeshConfig
from meshd.core import events as ev
from meshd.core.overlay.relay import BYTE_RATE, MAX_TRACES, MESSAGE_RATE
from meshd.core.overlay.routing import MAX_HOPS
from meshd.errors import Code
from meshd.wire.messages import MAX_BODY_SIZE, Forward, Undeliverable, encode_message

HEADER = b"\1\1" + b"m" * 8


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


def test_a_message_goes_over_two_hops() -> None:
    stage, (first, *_, last) = line(4)
    answer = first.ask("messages.send", peer="node3", body=b"far away")
    assert answer["state"] == "acknowledged"
    assert [message["body"] for message in last.inbox] == [b"far away"]
    assert stage["node1"].counters["envelopes_relayed"] >= 1
    assert stage["node2"].counters["envelopes_relayed"] >= 1


def test_the_longest_message_goes_over_two_hops() -> None:
    _, (first, *_, last) = line(4)
    first.ask("messages.send", peer="node3", body=bytes(MAX_BODY_SIZE))
    assert len(last.inbox[0]["body"]) == MAX_BODY_SIZE


def test_a_ping_names_the_way() -> None:
    _, (first, *_) = line(4)
    answer = first.ask("peers.ping", peer="node3")
    assert answer["via"] == ["node1", "node2"]
    assert first.ask("peers.ping", peer="node1")["via"] == []


def test_the_view_shows_the_way() -> None:
    _, (first, *_) = line(4)
    shown = {peer["name"]: (peer["link"] == "up", peer["via"], peer["reachable"]) for peer in first.node.view().peers}
    assert shown["node1"] == (True, [], True)
    assert shown["node3"] == (False, ["node1", "node2"], True)


def test_what_cannot_be_delivered_comes_back() -> None:
    """Node 2 loses node 3 and nobody knows yet: what is sent comes back the way it went."""
    stage, (first, _, third, last) = line(4)
    stage.tap = lambda sender, receiver, data: data if receiver is not first or len(data) < 120 else None
    last.crash()
    third.give(ev.LinkClosed(third.link_to(last), "ice_failed"))
    number = first.request("messages.send", peer="node3", body=b"x", timeout=3.0)
    stage.tap = None
    assert first.counters["envelopes_returned"] >= 1
    assert third.counters["relay_no_route"] >= 1
    stage.advance(5)
    answer = first.answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.NOT_ACKNOWLEDGED


def test_no_way_at_all() -> None:
    stage, (first, *_) = line(3)
    stage["node1"].crash()
    stage.advance(30)
    assert first.refusal("peers.ping", peer="node2") is Code.PEER_UNREACHABLE
    assert not {peer["name"]: peer["reachable"] for peer in first.node.view().peers}["node2"]


def test_a_node_that_does_not_relay_is_no_way() -> None:
    config = replace(Config(), mesh=MeshConfig(relay=False))
    stage, (first, *_) = line(3, config={"node1": config})
    assert first.refusal("peers.ping", peer="node2") is Code.PEER_UNREACHABLE
    stage["node1"].hear(first, Forward(5, HEADER + stage["node2"].id + bytes(60)))
    assert stage["node1"].sent(Undeliverable)[-1].reason == "refused"


def forward_of(size: int, to: Player, hops: int = 5, number: int = 0) -> Forward:
    return Forward(hops, (HEADER + to.id + number.to_bytes(8, "big")).ljust(size, b"\0"))


def test_quotas_are_charged_to_the_neighbor_that_hands_it_over() -> None:
    stage, (first, second, third) = line(3)
    for number in range(int(2 * MESSAGE_RATE) + 10):
        second.hear(first, forward_of(100, third, number=number))
    assert second.counters["relay_busy"] == 10
    assert {message.reason for message in second.sent(Undeliverable)} == {"busy"}
    second.hear(third, forward_of(100, first))  # the other neighbor has an account of its own
    assert second.counters["relay_busy"] == 10
    stage.advance(1)
    second.hear(first, forward_of(100, third))
    assert second.counters["relay_busy"] == 10


def test_bytes_are_counted_too() -> None:
    _, (first, second, third) = line(3)
    size = 65_000
    for number in range(int(2 * BYTE_RATE / size) + 5):
        second.hear(first, forward_of(size, third, number=number))
    assert second.counters["relay_busy"] == 5


def test_hops_are_bounded() -> None:
    _, (first, second, third) = line(3)
    second.hear(first, forward_of(100, third, hops=1))
    second.hear(first, forward_of(100, third, hops=0))
    assert second.counters["relay_too_far"] == 2
    sent = len(second.sent(Forward))
    second.hear(first, forward_of(100, third, hops=255))
    assert [message.hops for message in second.sent(Forward)[sent:]] == [MAX_HOPS - 1]


def test_nothing_goes_back_where_it_came_from() -> None:
    _, (_, second, third) = line(3)
    second.hear(third, forward_of(100, third))
    assert second.counters["relay_no_route"] == 1


def test_unknown_destinations() -> None:
    stage, (first, second, _) = line(3)
    eve = stage.add("eve")
    second.hear(first, forward_of(100, eve))
    assert second.counters["relay_no_route"] == 1


@pytest.mark.parametrize("envelope", [b"x", HEADER, b"\2" + bytes(100)])
def test_what_is_no_envelope_is_not_passed_on(envelope: bytes) -> None:
    _, (first, second, _) = line(3)
    sent = len(second.sent(Forward))
    second.hear(first, Forward(5, envelope))
    assert len(second.sent(Forward)) == sent


def test_forged_reports_do_nothing() -> None:
    """A report of something we never sent, or by somebody it never passed."""
    _, (first, second, _) = line(3)
    first.hear(second, Undeliverable(b"whatever", "no_route"))
    assert "envelopes_returned" not in first.counters
    assert first.neighbors() == {"node1"}


def test_traces_are_bounded() -> None:
    stage, (first, second, third) = line(3)
    for number in range(MAX_TRACES + 100):
        if number % 300 == 0:
            stage.mono += 10
        data = encode_message(forward_of(60, third, number=number))
        second.handle(ev.MessageReceived(second.link_to(first), data))
    assert len(second.node.relay._traces) == MAX_TRACES


def test_a_congested_next_hop_is_said_to_be_busy() -> None:
    _, (first, second, third) = line(3)
    second.give(ev.SendBufferHigh(second.link_to(third)))
    second.hear(first, forward_of(100, third))
    assert second.sent(Undeliverable)[-1].reason == "busy"
    second.give(ev.SendBufferLow(second.link_to(third)))
    second.hear(first, forward_of(100, third, number=1))
    assert second.sent(Forward)[-1].envelope[:42] == HEADER + third.id
