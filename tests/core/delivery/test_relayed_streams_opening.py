"""Streams between members without a link, as the core sees them; the bytes are tested with the links."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from playbook import Player, Refused, Stage

from meshd.config import Config, MeshConfig
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.delivery import circuits, relayed_streams, stream_paths
from meshd.core.delivery.relayed_streams import RECOVERY_TIMEOUT
from meshd.core.delivery.stream_book import MAX_STREAMS_PER_PEER
from meshd.errors import Code
from meshd.ids import RequestId
from meshd.wire import messages as ms
from meshd.wire.frame import ResetCode


def diamond(*, config: dict[str, Config] | None = None) -> tuple[Player, Player, Player, Player]:
    """Two ends without a link, and two relays that each have one to both."""
    stage = Stage()
    for name in ("one", "r1", "r2", "other"):
        stage.add(name, (config or {}).get(name))
    one, r1, r2, other = stage.mesh()
    stage.separate("one", "other")
    stage.advance(15.0)
    for player in (one, r1, r2, other):
        player.log.clear()
    return one, r1, r2, other


def accept(player: Player, descriptor: int = 70, **params: Any) -> int:
    return player.request("streams.accept", **{"application": "backup", "descriptor": descriptor, **params})


def wish(player: Player, peer: Player, descriptor: int = 7, **params: Any) -> int:
    given = {"peer": peer.name, "application": "backup", "descriptor": descriptor, **params}
    return player.request("streams.open", **given)


def opened(one: Player, other: Player) -> tuple[int, int]:
    """A stream with a path; its handles at both ends."""
    accept(other)
    wish(one, other)
    handles = tuple(player.did(cm.OpenRelayedStream)[-1].stream for player in (one, other))
    connect(one, other)
    return handles[0], handles[1]


def connect(*players: Player) -> None:
    for player in players:
        player.give(ev.RelayedStreamConnected(player.did(cm.AttachCircuit)[-1].stream))


def end(player: Player, handle: int, reason: str = "done", code: int = ResetCode.DONE) -> None:
    player.give(ev.RelayedStreamEnded(handle, reason, int(code), 10, 20))


def refused(player: Player, request: int) -> Code | None:
    answer = player.answers.get(request)
    return answer.code if isinstance(answer, Refused) else None


def relay_of(one: Player, *relays: Player) -> tuple[Player, Player]:
    """By whom the newest circuit goes, and the other one."""
    link = one.did(cm.AttachCircuit)[-1].link
    first, second = relays
    return (first, second) if link == one.link_to(first) else (second, first)


def circuit_total(*players: Player) -> int:
    return sum(len(player.node.circuits._ends) for player in players)


def test_a_stream_over_a_relay_opens_at_both_ends_with_keys_that_the_relay_never_sees() -> None:
    one, r1, r2, other = diamond()
    accepting = accept(other)
    opening = wish(one, other, parameters=b"to /home")
    (ours,), (theirs,) = one.did(cm.OpenRelayedStream), other.did(cm.OpenRelayedStream)
    assert (ours.descriptor, theirs.descriptor) == (7, 70)
    assert (ours.sending_key, ours.receiving_key) == (theirs.receiving_key, theirs.sending_key)
    assert opening not in one.answers  # nothing can pass yet
    assert other.answers[accepting]["parameters"] == b"to /home"
    relay, idle = relay_of(one, r1, r2)
    (splice,) = relay.did(cm.SpliceCircuits)
    assert idle.did(cm.SpliceCircuits) == []
    assert (splice.link, splice.onward_link) == (relay.link_to(one), relay.link_to(other))
    assert (splice.destination, splice.rate) == (other.id, Config().mesh.relay_rate)
    assert one.did(cm.AttachCircuit) == [cm.AttachCircuit(ours.stream, one.link_to(relay), splice.circuit)]
    assert other.did(cm.AttachCircuit) == [cm.AttachCircuit(theirs.stream, other.link_to(relay), splice.onward_circuit)]
    connect(one, other)
    assert one.answers[opening]["name"] == "other"
    seen = b"".join(command.data for command in relay.did(cm.SendMessage))
    assert not any(key in seen for key in (ours.sending_key, ours.receiving_key))


def test_the_wish_goes_before_the_credit_at_each_hop() -> None:
    one, r1, r2, other = diamond()
    accept(other)
    wish(one, other)
    relay, _ = relay_of(one, r1, r2)
    for player, kind in ((one, cm.AttachCircuit), (relay, cm.SpliceCircuits)):
        order = [
            command
            for command in player.log
            if isinstance(command, kind)
            or (isinstance(command, cm.SendMessage) and isinstance(Stage.decode(command.data), ms.CircuitWanted))
        ]
        assert [type(command) for command in order] == [cm.SendMessage, kind]


def test_the_end_is_told_to_both_and_frees_everything() -> None:
    one, r1, r2, other = diamond()
    ours, theirs = opened(one, other)
    waiting = one.request("streams.wait", stream=ours)
    end(one, ours)
    assert one.answers[waiting]["reason"] == "done"
    assert other.did(cm.EndRelayedStream) == [cm.EndRelayedStream(theirs, "done")]
    end(other, theirs)
    assert circuit_total(one, r1, r2, other) == 0
    assert [len(player.node.stream_book) for player in (one, other)] == [0, 0]
    assert one.node.relayed_streams._paths._tags == other.node.relayed_streams._paths._tags == {}
    assert [notice["reason"] for notice in other.notices("stream_ended")] == ["done"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (ResetCode.READER_GONE, "closed_by_peer"),
        (ResetCode.FAILED, "failed_there"),
        (ResetCode.WITHDRAWN, "withdrawn"),
        (99, "failed_there"),
    ],
)
def test_how_it_ended_reaches_the_other_end(code: int, reason: str) -> None:
    one, _, _, other = diamond()
    ours, theirs = opened(one, other)
    end(other, theirs, "closed_here", code)  # type: ignore[arg-type]
    assert one.did(cm.EndRelayedStream) == [cm.EndRelayedStream(ours, reason)]


def test_a_dead_relay_is_replaced_by_the_other() -> None:
    one, r1, r2, other = diamond()
    opened(one, other)
    relay, second = relay_of(one, r1, r2)
    relay.crash()
    for player in (one, other):
        player.give(ev.LinkClosed(player.link_to(relay), "consent_expired"))
    one.stage.advance(0.1)
    assert one.did(cm.AttachCircuit)[-1].link == one.link_to(second)
    assert other.did(cm.AttachCircuit)[-1].link == other.link_to(second)
    assert len(one.did(cm.AttachCircuit)) == 2
    connect(one, other)
    assert circuit_total(one, second, other) == 4
    one.stage.advance(2 * RECOVERY_TIMEOUT)
    assert one.notices("stream_ended") == []


def test_a_relay_that_drops_is_left() -> None:
    """It says nothing and does nothing: the links room notices, by acknowledgements that do not come."""
    one, r1, r2, other = diamond()
    ours, _ = opened(one, other)
    relay, second = relay_of(one, r1, r2)
    one.give(ev.RelayedStreamStalled(ours, "stalled"))
    assert relay_of(one, r1, r2)[0] is second
    assert len(relay.node.circuits._ends) == 0
    assert len(second.did(cm.SpliceCircuits)) == 1
    assert [notice["reason"] for notice in one.notices("stream_path_lost")] == ["stalled"]


def test_the_other_end_may_ask_for_another_path() -> None:
    one, r1, r2, other = diamond()
    _, theirs = opened(one, other)
    _, second = relay_of(one, r1, r2)
    other.give(ev.RelayedStreamStalled(theirs, "session_forged"))
    assert one.did(cm.AttachCircuit)[-1].link == one.link_to(second)
    assert other.did(cm.AttachCircuit)[-1].link == other.link_to(second)


def test_without_any_path_it_ends_in_time_and_says_why() -> None:
    one, r1, r2, other = diamond()
    ours, theirs = opened(one, other)
    for relay in (r1, r2):
        relay.crash()
        for player in (one, other):
            player.give(ev.LinkClosed(player.link_to(relay), "consent_expired"))
    one.stage.advance(RECOVERY_TIMEOUT - 5.0)
    assert one.did(cm.EndRelayedStream) == []
    one.stage.advance(6.0)
    assert one.did(cm.EndRelayedStream) == [cm.EndRelayedStream(ours, "no_route")]
    assert other.did(cm.EndRelayedStream) == [cm.EndRelayedStream(theirs, "path_lost")]
    end(one, ours, "no_route")
    assert one.ask("streams.wait", stream=ours)["reason"] == "no_route"


def test_a_direct_link_that_has_come_carries_it_on() -> None:
    one, r1, r2, other = diamond()
    opened(one, other)
    relay, _ = relay_of(one, r1, r2)
    one.stage.cut.clear()
    one.stage.advance(400.0)
    assert other.name in one.neighbors()
    one.stage.separate("one", relay.name)
    assert one.did(cm.AttachCircuit)[-1].link == one.link_to(other)
    assert other.did(cm.AttachCircuit)[-1].link == other.link_to(one)


# -- what is refused --------------------------------------------------------------------------------------------------


def test_nobody_accepts() -> None:
    one, _, _, other = diamond()
    assert refused(one, wish(one, other)) is Code.REFUSED
    accept(other, peer="r1")
    assert refused(one, wish(one, other)) is Code.REFUSED
    assert len(one.node.stream_book) == len(other.node.stream_book) == 0


def test_no_way_at_all() -> None:
    stage = Stage("one", "other")
    one, other = stage.mesh()
    stage.separate("one", "other")
    stage.advance(1.0)
    accept(other)
    assert refused(one, wish(one, other)) is Code.PEER_UNREACHABLE


def test_an_end_that_never_answers() -> None:
    one, _, _, other = diamond()
    accept(other)
    one.stage.tap = lambda sender, receiver, data: None if receiver is other else data
    request = wish(one, other, timeout=5.0)
    one.stage.advance(4.9)
    assert request not in one.answers
    one.stage.advance(0.2)
    assert refused(one, request) is Code.NOT_ACKNOWLEDGED
    assert len(one.node.stream_book) == 0


def test_a_wish_that_was_lost_is_said_again_and_an_answer_too() -> None:
    one, _, _, other = diamond()
    accept(other)
    lost: list[object] = []

    def lose_first(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        is_envelope = isinstance(Stage.decode(data), ms.Forward) and receiver.name in ("r1", "r2")
        if is_envelope and len(lost) < 2 and lost[-1:] != [sender]:
            lost.append(sender)
            return None
        return data

    one.stage.tap = lose_first
    request = wish(one, other, timeout=20.0)
    one.stage.advance(6.0)
    assert lost == [one, other]
    assert len(one.did(cm.OpenRelayedStream)) == len(other.did(cm.OpenRelayedStream)) == 1
    connect(one, other)
    assert one.answers[request]["name"] == "other"


def test_who_gives_up_meanwhile_leaves_nothing_behind() -> None:
    one, r1, r2, other = diamond()
    accept(other)
    request = wish(one, other)
    one.give(ev.RequestAbandoned(RequestId(request)))
    assert one.did(cm.EndRelayedStream)[0].reason == "withdrawn"
    assert other.did(cm.EndRelayedStream)[0].reason == "withdrawn"
    end(other, other.did(cm.OpenRelayedStream)[0].stream, "withdrawn")
    assert circuit_total(one, r1, r2, other) == 0
    assert [len(player.node.stream_book) for player in (one, other)] == [0, 0]


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("refused", Code.REFUSED),
        ("busy", Code.BUSY),
        ("no_route", Code.PEER_UNREACHABLE),
        ("whatever", Code.NOT_ACKNOWLEDGED),
    ],
)
def test_relays_that_will_not(reason: str, code: Code) -> None:
    one, r1, r2, other = diamond()
    accept(other)

    def lose_circuits(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        return None if isinstance(Stage.decode(data), ms.CircuitWanted) else data

    one.stage.tap = lose_circuits
    request = wish(one, other, timeout=8.0)
    for _ in range(80):
        asked = one.did(cm.AttachCircuit)[-1]
        relay = r1 if asked.link == one.link_to(r1) else r2
        one.hear(relay, ms.CircuitClosed(asked.circuit, reason))
        one.stage.advance(0.1)
    one.stage.advance(0.2)
    assert refused(one, request) is code
    assert {each.link for each in one.did(cm.AttachCircuit)} == {one.link_to(r1), one.link_to(r2)}
    assert len(one.did(cm.AttachCircuit)) < 20
    assert other.did(cm.EndRelayedStream)[-1].reason == "withdrawn"


def test_limits_for_each_peer_hold() -> None:
    one, _, _, other = diamond()
    for n in range(MAX_STREAMS_PER_PEER):
        accept(other)
        wish(one, other, n)
        one.stage.advance(0.3)
    accept(other)
    assert refused(one, wish(one, other)) is Code.BUSY


def test_a_revoked_member_loses_its_streams() -> None:
    one, r1, r2, other = diamond()
    admin = next(player for player in (one, r1, r2, other) if player.node.membership.chain[-1].rights & 2)
    victim, partner = (other, one) if admin is not other else (one, other)
    ours, theirs = opened(one, other)
    handle = ours if partner is one else theirs
    if admin is victim:
        return
    admin.request("members.revoke", peer=victim.name)
    one.stage.advance(2.0)
    assert cm.EndRelayedStream(handle, "revoked") in partner.did(cm.EndRelayedStream)


# -- at the relay -----------------------------------------------------------------------------------------------------


def wanted(relay: Player, sender: Player, number: int, destination: Player, hops: int = 4, tag: int = 0) -> str | None:
    """A neighbor that asks by itself; why it is refused."""
    before = len(relay.sent(ms.CircuitClosed))
    tag_bytes = (tag or number).to_bytes(16, "big")
    relay.hear(sender, ms.CircuitWanted(number, destination.id, hops, tag_bytes))
    closed = [message for message in relay.sent(ms.CircuitClosed)[before:] if message.circuit == number]
    return closed[0].reason if closed else None


def numbers(sender: Player, relay: Player) -> range:
    """The numbers that the sender may give circuits, after those it has."""
    return range(1001 if sender.id < relay.id else 1002, 100_000, 2)


def silent(relay: Player, destination: Player) -> None:
    """The destination does not answer, so that what is asked for stays."""
    relay.stage.tap = lambda sender, receiver, data: None if receiver is destination else data


def test_what_a_relay_refuses() -> None:
    one, relay, _, other = diamond()
    silent(relay, other)
    number = iter(numbers(one, relay))
    assert wanted(relay, one, next(number), other, hops=1) == "too_far"
    stranger = one.stage.add("stranger")
    assert wanted(relay, one, next(number), stranger) == "no_route"
    first = next(number)
    assert wanted(relay, one, first, other) is None
    assert wanted(relay, one, next(number), other, tag=first) == "no_route"  # it has come round
    relay.give(ev.SendBufferHigh(relay.link_to(other)))
    assert wanted(relay, one, next(number), other) == "busy"
    relay.give(ev.Reconfigured(replace(relay.config, mesh=MeshConfig(relay=False))))
    assert wanted(relay, one, next(number), other) == "refused"
    for reason in ("too_far", "no_route", "busy", "refused"):
        assert relay.counters[f"circuit_{reason}"] >= 1


def test_quotas_by_neighbor_and_by_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuits, "MAX_CIRCUITS_PER_NEIGHBOR", 3)
    monkeypatch.setattr(circuits, "MAX_CIRCUITS_PER_DESTINATION", 4)
    one, relay, second, other = diamond()
    silent(relay, other)
    number, its_number = iter(numbers(one, relay)), iter(numbers(second, relay))
    assert [wanted(relay, one, next(number), other) for _ in range(4)] == [None, None, None, "busy"]
    assert [wanted(relay, second, n, other, tag=n + 500_000) for n in (next(its_number), next(its_number))] == [
        None,
        "busy",
    ]
    opened_here = [end for end, splice in relay.node.circuits._ends.items() if splice and splice.incoming == end]
    relay.hear(one, ms.CircuitClosed(opened_here[0][1], "done"))
    assert wanted(relay, one, next(number), other) is None
    assert len(relay.node.circuits._relayed) == 4


def test_circuits_are_rationed_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    one, relay, _, other = diamond()
    silent(relay, other)
    number = iter(numbers(one, relay))
    for _ in range(circuits.CIRCUIT_BURST):
        n = next(number)
        assert wanted(relay, one, n, other) is None
        relay.hear(one, ms.CircuitClosed(n, "done"))
    assert wanted(relay, one, next(number), other) == "busy"
    relay.stage.advance(1.0)
    assert wanted(relay, one, next(number), other) is None


def test_a_number_out_of_turn_ends_the_link() -> None:
    one, relay, _, other = diamond()
    number = numbers(one, relay)[0]
    wanted(relay, one, number, other)
    link = relay.link_to(one)
    relay.hear(one, ms.CircuitWanted(number, other.id, 3, bytes(16)))
    assert cm.CloseLink(link) in relay.log


def test_a_circuit_that_nobody_expects_is_refused_end_to_end() -> None:
    one, relay, _, other = diamond()
    number = numbers(one, relay)[0]
    assert wanted(relay, one, number, other) == "refused"
    assert other.counters["circuit_unknown"] == 1
    assert circuit_total(relay, other) == 0


def test_a_tag_counts_once() -> None:
    """A relay that has seen the circuit of a stream cannot draw the stream to itself with the same tag."""
    one, r1, r2, other = diamond()
    opened(one, other)
    relay, second = relay_of(one, r1, r2)
    (asked,) = relay.sent(ms.CircuitWanted)
    attached = len(other.did(cm.AttachCircuit))
    number = numbers(second, other)[0]
    assert wanted(other, second, number, other, tag=int.from_bytes(asked.tag, "big")) == "refused"
    assert len(other.did(cm.AttachCircuit)) == attached


def test_nobody_else_can_end_a_stream_or_ask_for_its_path() -> None:
    one, r1, _, other = diamond()
    opened(one, other)
    session = next(iter(one.node.relayed_streams._streams))[1]
    attached = len(one.did(cm.AttachCircuit))
    for message in (
        ms.RelayedStreamOver(session, 0),
        ms.PathWanted(session),
        ms.RelayedStreamAccepted(session, b"x" * 80),
        ms.RelayedStreamRefused(session, "busy"),
    ):
        one.hear(r1, message)
    assert one.did(cm.EndRelayedStream) == []
    assert len(one.did(cm.AttachCircuit)) == attached


def test_a_handshake_that_does_not_open_is_refused() -> None:
    one, r1, _, _ = diamond()
    accept(one)
    one.hear(r1, ms.RelayedStreamWanted(b"s" * 16, b"no handshake at all, nor anything like one"))
    assert one.sent(ms.RelayedStreamRefused)[-1].reason == "handshake"
    assert len(one.node.stream_book) == 0


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relayed_streams, "MAX_ENDED", 3)
    one, _, _, other = diamond()
    for _ in range(5):
        ours, theirs = opened(one, other)
        end(one, ours)
        end(other, theirs)
        one.stage.advance(1.0)
    assert len(one.node.relayed_streams._ended) == len(other.node.relayed_streams._ended) == 3
    assert stream_paths.MAX_TAGS_AHEAD > 5 * stream_paths.MAX_TRIES  # what can be asked for within one recovery
