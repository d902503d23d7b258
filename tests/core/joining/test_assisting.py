"""Joining where joiner and introducer cannot connect: another member answers, within the same two pushes."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from playbook import Player, Stage

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.joining.arrivals import HELP_WAIT
from meshd.core.joining.assisting import MAX_ASSISTED, choose
from meshd.core.overlay.neighbors import Link
from meshd.ids import LinkId, MeshId, PeerId, SessionId
from meshd.wire.envelope import seal
from meshd.wire.joining import MAX_FURTHER, AnswerGiven, AnswerWanted, JoinAnswered
from meshd.wire.messages import encode_message
from meshd.wire.session_description import decode, encode


def two_members_and_dora() -> Stage:
    """anna, bert and carl are a mesh; dora cannot connect to anna."""
    stage = Stage("anna", "bert", "carl")
    stage.mesh()
    stage.add("dora")
    stage.separate("anna", "dora")
    stage.pushes.clear()
    for player in stage.players.values():
        player.log.clear()
    return stage


def begin(stage: Stage) -> int:
    return stage["dora"].request("mesh.join", token=stage.mint("anna"), name="dora")


def wanted(stage: Stage) -> list[AnswerWanted]:
    return stage["anna"].sent(AnswerWanted)


def test_other_members_answer_within_two_pushes() -> None:
    stage = two_members_and_dora()
    answer = stage.join("dora", "anna")
    assert [(one, other) for one, other, _ in stage.pushes] == [("dora", "anna"), ("anna", "dora")]
    assert answer["introducer"] == {"peer_id": stage["anna"].id, "name": "anna"}
    stage.advance(5)
    assert stage["dora"].neighbors() == {"bert", "carl"}
    assert stage["dora"].ask("peers.ping", peer="anna")["via"] != []
    assert len(stage.pushes) == 2


def test_the_pushes_stay_within_their_sizes() -> None:
    stage = two_members_and_dora()
    stage.join("dora", "anna")
    first, second = (len(push.body) - 103 for _, _, push in stage.pushes)
    assert first <= 1200
    assert second <= 3993


def test_one_that_can_be_reached_is_enough() -> None:
    stage = two_members_and_dora()
    stage.separate("bert", "dora")
    stage.join("dora", "anna")
    assert stage["dora"].neighbors() == {"carl"}


def test_links_of_helpers_and_introducer_are_all_kept() -> None:
    stage = Stage("anna", "bert", "carl", "dora", "emil")
    stage.mesh()
    stage.add("fritz")
    stage.join("fritz", "anna")
    assert len(stage["fritz"].neighbors()) >= 1 + MAX_FURTHER


def test_no_one_is_asked_before_the_admission_is_durable() -> None:
    stage = two_members_and_dora()
    token = stage.mint("anna")
    anna = stage["anna"]
    anna.disk_mode = "slow"
    stage["dora"].request("mesh.join", token=token, name="dora")
    assert not wanted(stage)
    anna.let_disk_go()
    assert len(wanted(stage)) == 2


def test_a_helper_says_hello_only_when_it_knows_the_newcomer_durably() -> None:
    stage = two_members_and_dora()
    for name in ("bert", "carl"):
        stage[name].disk_mode = "slow"
    number = begin(stage)
    stage.advance(HELP_WAIT + 0.1)
    assert number not in stage["dora"].answers
    assert all(not stage[name].sent(AnswerGiven) for name in ("bert", "carl"))


def test_slow_members_are_not_waited_for_long() -> None:
    stage = two_members_and_dora()
    stage.tap = lambda one, other, data: None if data[:2] == bytes((0x96, 41)) else data
    stage.cut.clear()
    number = begin(stage)
    assert number not in stage["dora"].answers
    stage.advance(HELP_WAIT + 0.1)
    assert isinstance(stage["dora"].answers[number], dict)
    assert "anna" in stage["dora"].neighbors()


def test_a_lone_introducer_waits_for_nobody() -> None:
    stage = Stage("anna", "bert")
    stage.found("anna")
    bert = stage["bert"]
    number = bert.request("mesh.join", token=stage.mint("anna"), name="bert")
    assert isinstance(bert.answers[number], dict)
    assert not [session for session in bert.node.signaling.sessions() if session.peer == b""]


def test_offers_that_nobody_answers_are_given_up() -> None:
    stage = two_members_and_dora()
    stage.join("dora", "anna")
    assert all(session.peer for session in stage["dora"].node.signaling.sessions())
    stage.advance(130)
    assert all(link.peer for link in stage["dora"].node.neighbors.links())


def test_a_retry_replaces_what_the_helpers_had_begun() -> None:
    stage = two_members_and_dora()
    stage.hold_pushes = True
    number = begin(stage)
    stage.held_pushes.clear()
    stage.let_pushes_go()
    stage.advance(21)
    stage.advance(HELP_WAIT + 0.1)
    assert isinstance(stage["dora"].answers[number], dict)
    stage.advance(10)
    assert stage["dora"].neighbors() == {"bert", "carl"}


# -- who may ask ------------------------------------------------------------------------------------------------------


def asked(stage: Stage, session: bytes = b"session1") -> tuple[Player, AnswerWanted]:
    """bert is asked to answer for a newcomer that anna has admitted, and gives nothing away about it yet."""
    anna, eve = stage["anna"], stage.add("eve")
    chain = tuple(c.encoded for c in anna.node.admitting.chain_for(eve.id, "eve"))
    return eve, AnswerWanted(session, chain, eve.suite.sealing_key, encode(stage.description(eve)), 60)


def test_only_who_has_admitted_the_newcomer_may_ask() -> None:
    stage = Stage("anna", "bert", "carl")
    anna, bert, carl = stage.mesh()
    eve, message = asked(stage)
    bert.hear(carl, message)
    assert bert.counters["rejected_not_its_newcomer"] == 1
    assert not bert.node.membership.is_member(eve.id)
    bert.hear(anna, message)
    assert bert.node.membership.is_member(eve.id)


def test_a_newcomer_without_a_valid_admission_gets_no_answer() -> None:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh()
    eve, message = asked(stage)
    forged = replace(message, chain=(*message.chain[:-1], message.chain[-1][:-1] + b"\0"))
    bert.hear(anna, forged)
    assert not bert.sent(AnswerGiven)
    assert not bert.node.membership.is_member(eve.id)
    assert bert.neighbors() == {"anna"}


def test_newcomers_at_a_time_are_few() -> None:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh()
    for number in range(MAX_ASSISTED + 2):
        eve = stage.add(f"eve{number}")
        chain = tuple(c.encoded for c in anna.node.admitting.chain_for(eve.id, eve.name))
        offer = encode(stage.description(eve))
        bert.hear(anna, AnswerWanted(b"session" + bytes((number,)), chain, eve.suite.sealing_key, offer, 60))
    given = bert.sent(AnswerGiven)
    assert [bool(answer.envelope) for answer in given] == [True] * MAX_ASSISTED + [False] * 2


def test_the_same_session_is_answered_once() -> None:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh()
    _, message = asked(stage)
    bert.hear(anna, message)
    bert.hear(anna, message)
    assert [bool(answer.envelope) for answer in bert.sent(AnswerGiven)] == [True, False]


def test_an_answer_that_nobody_asked_for_is_dropped() -> None:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh()
    anna.hear(bert, AnswerGiven(b"session1", b"x" * 100))
    assert anna.counters["answers_stale"] == 1


# -- what the joiner believes -----------------------------------------------------------------------------------------


def with_answer(stage: Stage, make: str) -> Player:
    """dora joins; what bert answers is changed on its way, by somebody who has bert's keys or only his own."""
    dora, bert, carl = stage["dora"], stage["bert"], stage["carl"]
    stage.separate("carl", "dora")

    def tap(one: Player, other: Player, data: bytes) -> bytes | None:
        if data[:2] != bytes((0x93, 42)):
            return data
        if one is carl:
            return encode_message(AnswerGiven(_session_of(stage, "carl"), b""))
        session = SessionId(_session_of(stage, "bert"))
        signer = carl if make == "another's admission" else bert
        chain = bert.node.membership.chain
        shared = 0 if make == "no chain" else 1
        answered = JoinAnswered(
            encode(replace(stage.description(bert), setup="active")),
            signer.suite.sealing_key,
            shared,
            tuple(c.encoded for c in chain[1:]) if make != "no chain" else (chain[-1].encoded,),
        )
        envelope = seal(
            signer.suite,
            MeshId(bert.node.membership.mesh),
            dora.id,
            dora.suite.sealing_key,
            session=SessionId(b"another!") if make == "another session" else session,
            sequence=1,
            body=encode_message(answered if make != "another message" else AnswerGiven(session, b"")),
            now=bert.now,
        )
        return encode_message(AnswerGiven(session, envelope if make != "garbage" else b"g" * 300))

    stage.tap = tap
    begin(stage)
    stage.advance(HELP_WAIT + 0.1)
    stage.tap = None
    return dora


def _session_of(stage: Stage, helper: str) -> bytes:
    link = stage["anna"].link_to(stage[helper])
    sent = [c.data for c in stage["anna"].did(cm.SendMessage) if c.link == link and c.data[:2] == bytes((0x96, 41))]
    return sent[-1][4:12]


@pytest.mark.parametrize("make", ["another's admission", "no chain", "another session", "another message", "garbage"])
def test_an_answer_that_does_not_hold_is_not_connected_to(make: str) -> None:
    stage = two_members_and_dora()
    dora = with_answer(stage, make)
    assert dora.node.membership.row is not None  # the introducer's own answer is good
    assert dora.counters["join_answers_rejected"] == 1
    assert dora.neighbors() == set()
    remotes = [command.remote.fingerprint for command in dora.did(cm.ConnectLink)]
    assert remotes == [stage.fingerprint(stage["anna"])]


def test_the_hello_binds_a_helper_too() -> None:
    """An introducer that has another member's answer, and stands at the end of the link itself, is found out."""
    stage = two_members_and_dora()
    stage.tap = lambda one, other, data: None if one.name != "anna" and other.name == "dora" else data
    begin(stage)
    stage.advance(0.1)
    dora = stage["dora"]
    links = [link for link in dora.node.neighbors.links() if link.peer == stage["bert"].id]
    assert links
    assert dora.neighbors() == set()
    hello = next(
        c for c in stage["bert"].did(cm.SendMessage) if c.link in stage["bert"].ends and c.data[:2] == b"\x97\x01"
    )
    other = replace_signature(hello.data, stage["carl"])
    dora.give(ev.MessageReceived(links[0].id, other))
    assert [notice["reason"] for notice in dora.notices("link_refused")] == ["hello_forged"]
    assert dora.neighbors() == set()


def replace_signature(hello: bytes, signer: Player) -> bytes:
    return hello[:-64] + signer.suite.sign(hello[:-64])


# -- whom to ask ------------------------------------------------------------------------------------------------------


def link(number: int, address: str, kind: str = "host") -> Link:
    made = Link(LinkId(number), PeerId(bytes([number]) * 32), SessionId(bytes(8)), MeshId(bytes(32)))
    made.connected = ev.LinkConnected(made.id, b"", b"", remote_kind=kind, remote_address=address)
    return made


def test_who_has_a_public_address_is_asked_first_and_neighbors_of_one_router_last() -> None:
    links = [
        link(1, "192.168.1.7:4000"),
        link(2, "8.8.4.4:1000", "srflx"),
        link(3, "8.8.4.4:1001", "prflx"),
        link(4, "9.9.9.9:4000"),
        link(5, "[2606:4700::1]:4000"),
        link(6, "9.9.9.1:4000", "relay"),
        link(7, ""),
    ]
    for seed in range(20):
        order = [made.id for made in choose(links, PeerId(bytes(32)), Random(seed))]
        assert set(order[:2]) == {4, 5}
        assert order[2] in (2, 3)
        assert order[-1] in (2, 3)
        assert set(order) == {1, 2, 3, 4, 5, 6, 7}


def test_the_newcomer_itself_is_not_asked() -> None:
    assert choose([link(1, "")], PeerId(bytes([1]) * 32), Random(1)) == []


# -- the bytes --------------------------------------------------------------------------------------------------------


def test_further_offers_cost_little_where_only_the_credentials_differ() -> None:
    stage = Stage("anna")
    first = stage.description(stage["anna"])
    second = replace(first, ufrag="ABCD", pwd="p" * 24)
    data = encode(second, first)
    assert len(data) == 23
    assert decode(data, first) == second
    assert len(encode(replace(second, candidates=()), first)) > 23
