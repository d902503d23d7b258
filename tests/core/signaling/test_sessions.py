"""Signaling between members: glare, restarts, losses, and what is not believed."""

from __future__ import annotations

from typing import Any

import pytest
from playbook import Player, Stage, in_order

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.joining.arrivals import HELP_WAIT
from meshd.ids import SessionId
from meshd.wire.envelope import seal
from meshd.wire.joining import JoinAccepted
from meshd.wire.messages import (
    LINK_MESSAGES,
    Answer,
    Forward,
    Goodbye,
    Offer,
    OfferDeclined,
    Ping,
    Records,
    Undeliverable,
    decode_message,
    encode_message,
)
from meshd.wire.session_description import encode as encode_description


def three() -> tuple[Stage, Player, Player, Player]:
    """Anna and Bert with Carl between them, and no link of their own yet. Anna's id is the smaller."""
    stage = Stage("anna", "bert", "carl")
    stage.cut.add(frozenset(("anna", "bert")))
    stage.found("carl")
    stage.join("anna", "carl")
    stage.join("bert", "carl")
    stage.advance(1)
    one, other = in_order(stage["anna"], stage["bert"])
    return stage, one, other, stage["carl"]


def quiet() -> tuple[Stage, Player, Player, Player]:
    """The same, once all attempts at that link have been given up."""
    stage, one, other, carl = three()
    stage.advance(120)
    for player in (one, other):
        for session in player.node.signaling.sessions():
            player.node.signaling.end(session, "given_up")
        player.handle(ev.TimerFired())
    stage.cut.clear()
    return stage, one, other, carl


def dial(player: Player, peer: Player, *, and_run: bool = True) -> None:
    assert player.node.signaling.dial(peer.id)
    for command in player.handle(ev.TimerFired()):
        player.stage.do(player, command)
    if and_run:
        player.stage.run()


def ends_with_one_link(stage: Stage, one: Player, other: Player) -> None:
    stage.advance(40)
    assert other.name in one.neighbors()
    assert one.name in other.neighbors()
    ours = [link for link in one.node.neighbors.links() if link.peer == other.id]
    theirs = [link for link in other.node.neighbors.links() if link.peer == one.id]
    assert len(ours) == len(theirs) == 1
    assert ours[0].session == theirs[0].session
    assert not one.node.signaling.sessions()
    assert not other.node.signaling.sessions()


@pytest.mark.parametrize("who", ["the smaller", "the larger", "both", "both, the larger first"])
def test_glare_ends_with_one_link(who: str) -> None:
    stage, one, other, _ = quiet()
    pairs = {
        "the smaller": [(one, other)],
        "the larger": [(other, one)],
        "both": [(one, other), (other, one)],
        "both, the larger first": [(other, one), (one, other)],
    }[who]
    for player, peer in pairs:
        dial(player, peer, and_run=False)
    ends_with_one_link(stage, one, other)


def test_of_crossing_offers_that_of_the_smaller_id_stands() -> None:
    stage, one, other, _ = quiet()
    dial(one, other, and_run=False)
    dial(other, one, and_run=False)
    stage.advance(40)
    assert one.counters.get("glare_won", 0) >= 1
    assert other.counters.get("glare_lost", 0) >= 1
    assert one.counters.get("glare_lost", 0) == 0


def test_a_crossing_offer_that_comes_after_the_answer_is_too_late() -> None:
    """By push one may overtake the other. Whoever has answered has given up its own offer."""
    stage, one, other, _ = quiet()
    late: list[tuple[Player, Player, bytes]] = []

    def tap(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        if sender is other and isinstance(decode_message(data, LINK_MESSAGES), Forward) and not late:
            late.append((sender, receiver, data))
            return None
        return data

    stage.tap = tap
    dial(other, one)
    assert late
    cut = stage.cut
    stage.cut = {frozenset((one.name, other.name))}  # so that connecting takes its time
    dial(one, other)
    sender, relay, data = late[0]
    relay.hear(sender, data)
    assert one.counters.get("offers_stale", 0) == 1
    stage.cut = cut
    for player in (one, other):
        for end in list(player.ends.values()):
            if end.remote is not None and end.other is None:
                stage.connect(end)
    ends_with_one_link(stage, one, other)


@pytest.mark.parametrize("seed", range(6))
def test_glare_with_lost_envelopes(seed: int) -> None:
    """Every third, fourth or fifth envelope is lost: it takes longer, and ends the same."""
    stage, one, other, _ = quiet()
    passed = [seed]

    def tap(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        if not isinstance(decode_message(data, LINK_MESSAGES), Forward):
            return data
        passed[0] += 1
        return None if passed[0] % (3 + seed % 3) == 0 else data

    stage.tap = tap
    dial(one, other, and_run=False)
    dial(other, one, and_run=False)
    stage.advance(60)
    ends_with_one_link(stage, one, other)


def test_a_second_link_of_the_same_pair_settles_on_one() -> None:
    stage, one, other, _ = quiet()
    dial(one, other)
    ends_with_one_link(stage, one, other)
    dial(one, other, and_run=False)
    dial(other, one, and_run=False)
    ends_with_one_link(stage, one, other)


def test_a_new_link_takes_over_without_a_gap() -> None:
    stage, one, other, _ = quiet()
    dial(one, other)
    stage.advance(20)
    downs = len(one.notices("link_down"))
    old = one.link_to(other)
    dial(other, one)
    ends_with_one_link(stage, one, other)
    assert one.link_to(other) != old
    assert one.notices("link_up")[-1]["replaced"]
    assert len(one.notices("link_down")) == downs
    assert [message.reason for message in one.sent(Goodbye)][-1:] in ([], ["replaced"])


def test_a_restarted_peer_supersedes_its_old_link() -> None:
    stage, one, other, _ = quiet()
    dial(one, other)
    stage.advance(20)
    old = one.link_to(other)
    other.restart()
    stage.advance(3)  # long before the old link would be missed
    assert other.name in one.neighbors()
    assert one.link_to(other) != old
    assert one.node.neighbors.current(other.id).instance == other.node.membership.own_record.instance  # type: ignore[union-attr]


def test_the_relay_dies_between_offer_and_answer() -> None:
    """The offer went through Carl; the answer cannot: they have each other's capabilities, and push."""
    stage, one, other, carl = quiet()
    lost: list[bytes] = []

    def tap(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        if sender is other and isinstance(decode_message(data, LINK_MESSAGES), Forward):
            lost.append(data)
            return None
        return data

    stage.tap = tap
    dial(one, other)
    assert lost
    carl.crash()
    stage.tap = None
    stage.advance(180)
    assert other.name in one.neighbors()


def test_offers_are_repeated_until_something_happens() -> None:
    stage, one, other, carl = quiet()
    stage.tap = lambda a, b, data: None if isinstance(decode_message(data, LINK_MESSAGES), Forward) else data
    dial(one, other)
    stage.advance(10)
    assert one.counters["signaling_resent"] >= 2
    assert carl.counters.get("envelopes_relayed", 0) >= 0
    stage.tap = None
    stage.advance(10)
    assert other.name in one.neighbors()


def test_a_repeated_offer_is_answered_again_and_makes_no_second_link() -> None:
    stage, one, other, _ = quiet()
    dropped: list[bytes] = []

    def tap(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        if sender is other and isinstance(decode_message(data, LINK_MESSAGES), Forward) and len(dropped) < 2:
            dropped.append(data)
            return None
        return data

    stage.tap = tap
    prepared = len(other.did(cm.PrepareLink))
    dial(one, other)
    stage.advance(15)
    assert len(dropped) == 2
    assert len(other.did(cm.PrepareLink)) == prepared + 1
    ends_with_one_link(stage, one, other)


# -- what is not believed ---------------------------------------------------------------------------------------------


def send(
    stage: Stage, sender: Player, to: Player, message: Any, session: bytes = b"session!", via: str = "carl"
) -> None:
    """A letter of one's own making, handed to ``to`` by a neighbor."""
    envelope = seal(
        sender.suite,
        to.node.membership.mesh,
        to.id,
        to.suite.sealing_key,
        session=SessionId(session),
        sequence=next(stage.numbers),
        body=message if isinstance(message, bytes) else encode_message(message),
        now=sender.now,
    )
    to.hear(stage["carl"], Forward(3, envelope))


def answer(stage: Stage, player: Player) -> Answer:
    return Answer(encode_description(stage.description(player)), bytes(8))


def test_an_answer_to_an_offer_that_was_never_made() -> None:
    stage, one, other, _ = quiet()
    stale = one.counters.get("answers_stale", 0)
    send(stage, other, one, answer(stage, other))
    assert one.counters["answers_stale"] == stale + 1


def test_an_answer_from_another_than_was_asked() -> None:
    stage, one, other, carl = quiet()
    stage.tap = lambda a, b, data: None if isinstance(decode_message(data, LINK_MESSAGES), Forward) else data
    dial(one, other)
    (session,) = one.node.signaling.sessions()
    stale = one.counters.get("answers_stale", 0)
    send(stage, carl, one, answer(stage, carl), session.id)
    assert one.counters["answers_stale"] == stale + 1
    assert session.link not in [command.link for command in one.did(cm.ConnectLink)]
    send(stage, carl, one, OfferDeclined("busy"), session.id)
    assert one.node.signaling.session(session.id) is not None
    send(stage, other, one, OfferDeclined("busy"), session.id)
    assert one.node.signaling.session(session.id) is None


def test_a_second_answer_changes_nothing() -> None:
    stage, one, other, _ = quiet()
    dial(one, other)
    connects = len(one.did(cm.ConnectLink))
    for session in one.node.neighbors.links():
        send(stage, other, one, answer(stage, other), session.session)
    assert len(one.did(cm.ConnectLink)) == connects


@pytest.mark.parametrize("description", [b"\0", b"garbage", bytes(300)])
def test_a_description_that_is_none_hurts_nobody_in_between(description: bytes) -> None:
    """The neighbor that brought it only forwarded it: it cannot look inside, and keeps its link."""
    stage, one, other, _ = quiet()
    send(stage, other, one, Offer(description, bytes(8), None))
    assert "carl" in one.neighbors()
    assert one.notices("envelope_rejected")
    stage.cut.add(frozenset((one.name, other.name)))
    dial(one, other)
    sessions = one.node.signaling.sessions()
    if sessions:
        send(stage, other, one, Answer(description, bytes(8)), sessions[0].id)
    assert "carl" in one.neighbors()


@pytest.mark.parametrize("body", [b"\xc1", b"\x91\x1b", b"\x90", b"x" * 100])
def test_a_body_that_is_none_hurts_nobody_in_between(body: bytes) -> None:
    stage, one, other, _ = quiet()
    send(stage, other, one, body)
    assert "carl" in one.neighbors()
    assert one.notices("envelope_rejected")


def test_messages_that_belong_on_a_link_are_nothing_in_an_envelope() -> None:
    stage, one, other, _ = quiet()
    before = one.neighbors()
    send(stage, other, one, Goodbye("stopping"))
    send(stage, other, one, Undeliverable(bytes(8), "no_route"))
    assert one.counters["messages_unknown"] == 2
    assert one.neighbors() == before


def test_a_member_cannot_admit_a_member() -> None:
    stage, one, other, _ = quiet()
    record = other.node.membership.own_record
    assert record is not None
    send(stage, other, one, JoinAccepted(b"x", (b"x",), "home", record.encoded, None))
    assert one.counters["messages_unknown"] == 1


def test_a_stranger_is_not_heard() -> None:
    stage, one, _, _ = quiet()
    eve = stage.add("eve")
    send(stage, eve, one, Offer(encode_description(stage.description(eve)), bytes(8), None))
    stage.advance(5)
    assert one.counters["envelopes_stranger"] == 1
    assert not [session for session in one.node.signaling.sessions() if session.peer == eve.id]


def test_a_stranger_shows_no_way_and_a_member_does() -> None:
    stage, one, other, _ = quiet()
    eve = stage.add("eve")
    send(stage, eve, one, Offer(encode_description(stage.description(eve)), bytes(8), None))
    assert one.node.routing.next_hop(eve.id) is None
    one.node.routing.unlearn(other.id)
    send(stage, other, one, Ping(1))
    assert one.node.routing.next_hop(other.id) == stage["carl"].id


def test_many_strangers_are_not_kept() -> None:
    stage, one, _, _ = quiet()
    eve = stage.add("eve")
    offer = Offer(encode_description(stage.description(eve)), bytes(8), None)
    for _ in range(100):
        send(stage, eve, one, offer)
    assert one.counters["rejected_stranger"] == 36
    stage.advance(5)
    assert one.counters["envelopes_stranger"] == 64


def test_an_offer_that_overtakes_the_news_of_its_sender_waits_for_it() -> None:
    stage, one, _, carl = quiet()
    eve = stage.add("eve")
    token = stage.mint("carl")
    stage.tap = lambda a, b, data: None if a is carl and b is one else data
    eve.request("mesh.join", token=token, name="eve")
    stage.advance(HELP_WAIT + 0.1)
    stage.tap = None
    assert not one.node.membership.is_member(eve.id)
    send(stage, eve, one, Offer(encode_description(stage.description(eve)), bytes(8), None))
    record = eve.node.membership.own_record
    assert record is not None
    answered = one.counters["sessions_answered"]
    one.hear(carl, Records((record.encoded,)))
    assert one.counters["sessions_answered"] == answered + 1


def test_an_answer_to_an_offer_that_was_given_up_is_told_so() -> None:
    """Or its sender would wait out ICE for a link that nobody makes."""
    stage, one, other, _ = quiet()
    before = one.counters["sessions_answered"], other.counters["answers_stale"]
    send(stage, other, one, Offer(encode_description(stage.description(other)), bytes(8), None))  # not its node's own
    stage.advance(1.0)
    assert (one.counters["sessions_answered"], other.counters["answers_stale"]) == (before[0] + 1, before[1] + 1)
    assert not [s for s in one.node.signaling.sessions() if s.peer == other.id and not s.offerer]
    assert "withdrawn" in [notice["reason"] for notice in one.notices("link_failed")]


def test_sessions_are_bounded() -> None:
    stage, one, other, _ = quiet()
    for number in range(300):
        send(
            stage,
            other,
            one,
            Offer(encode_description(stage.description(other)), bytes(8), None),
            bytes([number % 256]) * 8,
        )
    assert len(one.node.signaling.sessions()) <= 2  # one for each peer
