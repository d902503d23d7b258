"""Streams as the core sees them: asked for, accepted, refused, ended. The bytes are tested with the links."""

from __future__ import annotations

from typing import Any

import pytest
from playbook import Player, Refused, Stage, in_order

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.delivery.stream_book import MAX_ACCEPTORS, MAX_OUTCOMES, MAX_STREAMS_PER_PEER
from meshd.errors import Code
from meshd.ids import RequestId
from meshd.wire.frame import ResetCode
from meshd.wire.messages import StreamAccepted, StreamRefused, StreamWanted


@pytest.fixture
def pair() -> tuple[Player, Player]:
    """Two members with a link, the smaller id first."""
    one, other = Stage("a", "b").mesh()
    return in_order(one, other)


def accept(player: Player, descriptor: int = 70, **params: Any) -> int:
    return player.request("streams.accept", **{"application": "backup", "descriptor": descriptor, **params})


def wish(player: Player, peer: Player, descriptor: int = 7, **params: Any) -> int:
    given = {"peer": peer.name, "application": "backup", "descriptor": descriptor, **params}
    return player.request("streams.open", **given)


def end(player: Player, stream: cm.OpenStream, reason: str = "done") -> None:
    player.give(ev.StreamEnded(stream.link, stream.stream, reason, 10, 20))


def refused(player: Player, request: int) -> Code | None:
    answer = player.answers.get(request)
    return answer.code if isinstance(answer, Refused) else None


def deaf(stage: Stage) -> None:
    """Messages on links are lost from now on."""
    stage.tap = lambda sender, receiver, data: None


def test_a_stream_that_both_sides_want_opens_at_both(pair):
    one, other = pair
    accepting = accept(other)
    assert accepting not in other.answers
    opening = wish(one, other, parameters=b"to /home")
    assert one.did(cm.OpenStream) == [cm.OpenStream(one.link_to(other), 1, 7)]
    assert other.did(cm.OpenStream) == [cm.OpenStream(other.link_to(one), 1, 70)]
    told = {"stream": 1, "application": "backup"}
    assert one.answers[opening] == {**told, "peer_id": other.id, "name": other.name, "parameters": b""}
    assert other.answers[accepting] == {**told, "peer_id": one.id, "name": one.name, "parameters": b"to /home"}
    assert [notice["ours"] for notice in one.notices("stream_opened")] == [True]
    assert [notice["ours"] for notice in other.notices("stream_opened")] == [False]


def test_the_answer_goes_before_the_first_byte_can(pair):
    one, other = pair
    accept(other)
    wish(one, other)
    kinds = [type(command) for command in other.log]
    said = max(n for n, command in enumerate(other.log) if isinstance(command, cm.SendMessage))
    assert other.sent(StreamAccepted)
    assert said < kinds.index(cm.OpenStream)


def test_the_two_sides_never_give_the_same_number(pair):
    one, other = pair
    for first, second in ((one, other), (other, one), (one, other)):
        accept(second)
        wish(first, second)
    assert [stream.stream for stream in one.did(cm.OpenStream)] == [1, 2, 3]
    assert [stream.stream for stream in other.did(cm.OpenStream)] == [1, 2, 3]


@pytest.mark.parametrize("numbers", [(2,), (0,), (1, 1), (3, 1)], ids=str)
def test_a_number_that_is_not_the_openers_next_ends_the_link(pair, numbers):
    one, other = pair
    *before, last = numbers
    for number in before:
        other.hear(one, StreamWanted(number, "backup", b""))
    assert other.neighbors() == {one.name}
    link = other.link_to(one)
    other.hear(one, StreamWanted(last, "backup", b""))
    assert cm.CloseLink(link) in other.log
    assert other.counters["link_stream_number"] == 1


def test_acceptors_are_served_in_order_once_each_and_by_what_they_take(pair):
    one, other = pair
    accept(other, 70, application="photos")
    accept(other, 71, peer=other.stage["a" if other.name == "b" else "b"].name)
    accept(other, 72)
    answers = [wish(one, other, n) for n in range(3)]
    assert [stream.descriptor for stream in other.did(cm.OpenStream)] == [71, 72]
    assert refused(one, answers[2]) is Code.REFUSED
    assert other.counters["streams_refused"] == 1
    assert other.sent(StreamRefused) == [StreamRefused(5, "no_acceptor")]


def test_an_acceptor_for_one_member_is_not_for_others():
    a, b, c = Stage("a", "b", "c").mesh()
    accept(a, peer="c")
    assert refused(b, wish(b, a)) is Code.REFUSED
    wish(c, a)
    assert len(a.did(cm.OpenStream)) == 1


@pytest.mark.parametrize("method", ["streams.open", "streams.accept"])
def test_unknown_members_and_no_mesh_are_refused(pair, method):
    one, _ = pair
    assert one.refusal(method, peer="nobody", application="x", descriptor=1) is Code.PEER_UNKNOWN
    lonely = one.stage.add("lonely")
    assert lonely.refusal(method, peer="a", application="x", descriptor=1) is Code.NO_MESH
    assert refused(one, wish(one, one)) is Code.REFUSED


def test_limits_for_each_peer_hold_at_both_ends(pair):
    one, other = pair
    for n in range(MAX_STREAMS_PER_PEER):
        accept(other)
        wish(one, other, n)
    assert len(one.node.streams) == len(other.node.streams) == MAX_STREAMS_PER_PEER
    assert refused(one, wish(one, other)) is Code.BUSY
    accept(other)
    other.hear(one, StreamWanted(1001, "backup", b""))
    assert other.sent(StreamRefused)[-1] == StreamRefused(1001, "busy")
    end(one, one.did(cm.OpenStream)[0])
    end(other, other.did(cm.OpenStream)[0])
    request = wish(one, other)
    assert request in one.answers or refused(one, request) is None
    assert len(other.node.streams) <= MAX_STREAMS_PER_PEER


def test_only_so_many_may_wait(pair):
    _, other = pair
    requests = [accept(other) for _ in range(MAX_ACCEPTORS + 1)]
    assert [request for request in requests if refused(other, request) is Code.BUSY] == requests[-1:]


def test_a_peer_that_never_answers_is_given_up(pair):
    one, other = pair
    deaf(one.stage)
    request = wish(one, other, timeout=3.0)
    one.stage.advance(2.9)
    assert request not in one.answers
    one.stage.advance(0.2)
    assert refused(one, request) is Code.NOT_ACKNOWLEDGED
    assert one.did(cm.CloseStream) == [cm.CloseStream(one.link_to(other), 1, ResetCode.WITHDRAWN)]
    assert len(one.node.streams) == 0
    one.hear(other, StreamAccepted(1))
    one.hear(other, StreamRefused(1, "no_acceptor"))
    assert one.counters["streams_late"] == 2
    assert one.did(cm.OpenStream) == []


def test_an_acceptor_waits_as_long_as_it_said(pair):
    _, other = pair
    patient, hasty = accept(other), accept(other, timeout=5.0)
    other.stage.advance(20.0)
    assert refused(other, hasty) is Code.NOT_ACKNOWLEDGED
    assert patient not in other.answers


def test_an_abandoned_wish_is_withdrawn_and_an_abandoned_acceptor_serves_nobody(pair):
    one, other = pair
    gone = accept(other)
    other.give(ev.RequestAbandoned(RequestId(gone)))
    assert refused(one, wish(one, other)) is Code.REFUSED
    deaf(one.stage)
    request = wish(one, other)
    one.give(ev.RequestAbandoned(RequestId(request)))
    assert [close.code for close in one.did(cm.CloseStream)] == [ResetCode.WITHDRAWN]
    assert len(one.node.streams) == 0


def test_the_end_is_told_to_all_who_wait_and_to_who_asks_later(pair):
    one, other = pair
    accept(other)
    wish(one, other)
    waiting = [one.request("streams.wait", stream=1) for _ in range(2)]
    gone = one.request("streams.wait", stream=1)
    one.give(ev.RequestAbandoned(RequestId(gone)))
    one.stage.advance(4.0)
    end(one, one.did(cm.OpenStream)[0])
    late = one.request("streams.wait", stream=1)
    for request in (*waiting, late):
        answer = one.answers[request]
        assert (answer["reason"], answer["sent_size"], answer["received_size"]) == ("done", 10, 20)
        assert answer["elapsed"] == pytest.approx(4.0)
    assert gone not in one.answers
    assert one.counters["streams_done"] == 1
    assert [notice["reason"] for notice in one.notices("stream_ended")] == ["done"]
    assert one.refusal("streams.wait", stream=99) is Code.REFUSED


def test_ends_are_forgotten_in_time(pair):
    one, other = pair
    for _ in range(MAX_OUTCOMES + 1):
        accept(other)
        wish(one, other)
        for player in pair:
            end(player, player.did(cm.OpenStream)[-1], "closed_here")
    assert one.refusal("streams.wait", stream=1) is Code.REFUSED
    assert one.ask("streams.wait", stream=2)["reason"] == "closed_here"


def test_a_lost_link_ends_its_streams_and_refuses_its_wishes(pair):
    one, other = pair
    accept(other)
    wish(one, other)
    waiting = one.request("streams.wait", stream=1)
    deaf(one.stage)
    hanging = wish(one, other)
    one.stage.separate("a", "b")
    assert one.answers[waiting]["reason"] == "link_lost"
    assert refused(one, hanging) is Code.PEER_UNREACHABLE
    assert len(one.node.streams) == len(other.node.streams) == 0


def test_what_the_links_room_says_of_unknown_streams_does_no_harm(pair):
    one, other = pair
    one.give(ev.StreamEnded(one.link_to(other), 5, "done", 0, 0))
    assert one.notices("stream_ended") == []


def test_leaving_ends_streams(pair):
    one, other = pair
    accept(other)
    wish(one, other)
    one.ask("mesh.leave")
    assert [notice["reason"] for notice in one.notices("stream_ended")] == ["link_lost"]
    assert [notice["reason"] for notice in other.notices("stream_ended")] == ["link_lost"]
