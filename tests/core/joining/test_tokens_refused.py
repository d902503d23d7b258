"""Tokens that do not work, each refused in its own words, and others who try to get in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from playbook import Player, Refused, Stage, founder_and_newcomer, outcome
from published_introduction import PUBLISHED

from meshd.config import Config, PushConfig
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.joining.bearers import REFUSAL_BURST
from meshd.core.joining.joining import RETRY_INTERVAL
from meshd.errors import Code
from meshd.ids import Now, SessionId
from meshd.wire.envelope import seal
from meshd.wire.introduction import Introduction, decode_token, encode_token, proof_of
from meshd.wire.joining import JoinRequest
from meshd.wire.messages import encode_message
from meshd.wire.parts import Grant
from meshd.wire.session_description import encode as encode_description

NO_GRANT = Grant(0, ())


# -- tokens that do not work ------------------------------------------------------------------------------------------


def test_ones_own_token() -> None:
    stage, anna, _ = founder_and_newcomer()
    token = stage.mint("anna")
    anna.ask("mesh.leave")
    assert anna.refusal("mesh.join", token=token, name="anna") is Code.TOKEN_OWN


def test_a_token_pasted_into_a_member() -> None:
    stage, anna, bert = founder_and_newcomer()
    token = stage.mint("anna")
    assert anna.refusal("mesh.join", token=token, name="anna") is Code.TOKEN_OWN
    stage.join("bert", "anna")
    assert bert.refusal("mesh.join", token=token, name="bert") is Code.IN_MESH


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda token: token[:-30], Code.TOKEN_TRUNCATED),
        (lambda token: token[:50] + ("A" if token[50] != "A" else "B") + token[51:], Code.TOKEN_MANGLED),
        (lambda token: "ghp_" + token[7:], Code.TOKEN_FOREIGN),
        (lambda token: "", Code.TOKEN_FOREIGN),
    ],
)
def test_damaged_tokens(spoil: Any, code: Code) -> None:
    stage, _, bert = founder_and_newcomer()
    assert bert.refusal("mesh.join", token=spoil(stage.mint("anna")), name="bert") is code
    assert not stage.pushes


def test_an_introduction_of_another_system() -> None:
    stage, anna, bert = founder_and_newcomer()
    for node in (anna, bert):
        number = node.request("mesh.join", token=PUBLISHED, name="bert")
        stage.advance(1)
        error = node.answers[number]
        assert error.code is Code.TOKEN_FOREIGN
        assert "web3.0-test" in error.detail
        assert "expired" in error.detail
    assert not stage.pushes


def test_an_expired_token() -> None:
    stage, _, bert = founder_and_newcomer()
    token = stage.mint("anna", lifetime=60.0)
    stage.advance(61)
    assert bert.refusal("mesh.join", token=token, name="bert") is Code.TOKEN_EXPIRED


def test_an_expired_token_with_a_clock_that_is_late() -> None:
    """The joiner believes it is in time; the introducer knows better."""
    stage, _, bert = founder_and_newcomer()
    token = stage.mint("anna", lifetime=120.0)
    bert.skew = -200.0
    stage.advance(180)
    number = bert.request("mesh.join", token=token, name="bert")
    stage.advance(1)
    assert outcome(bert, number) is Code.TOKEN_EXPIRED


def test_a_revoked_token() -> None:
    stage, anna, bert = founder_and_newcomer()
    token = stage.mint("anna")
    anna.ask("introductions.revoke", introduction_id=_text(token))
    number = bert.request("mesh.join", token=token, name="bert")
    stage.advance(1)
    assert outcome(bert, number) is Code.TOKEN_REVOKED


def test_a_token_that_is_revoked_while_the_request_is_on_its_way() -> None:
    stage, anna, bert = founder_and_newcomer()
    token = stage.mint("anna")
    stage.hold_pushes = True
    number = bert.request("mesh.join", token=token, name="bert")
    anna.ask("introductions.revoke", introduction_id=_text(token))
    stage.let_pushes_go()
    assert outcome(bert, number) is None  # the channel is gone, so nobody reads it
    stage.advance(RETRY_INTERVAL + 1)
    assert outcome(bert, number) is Code.TOKEN_REVOKED


def _text(token: str) -> str:
    from meshd.ids import text_of

    return text_of(decode_token(token).id)


def test_a_token_that_somebody_else_has_used() -> None:
    stage = Stage("anna", "bert", "carl")
    stage.found("anna")
    token = stage.mint("anna")
    stage["bert"].ask("mesh.join", token=token, name="bert")
    number = stage["carl"].request("mesh.join", token=token, name="carl")
    assert outcome(stage["carl"], number) is Code.TOKEN_USED_UP
    assert stage["anna"].node.membership.record(stage["carl"].id) is None
    assert not stage["anna"].node.grants.can_push(stage["carl"].id)


def test_a_token_for_two() -> None:
    stage = Stage("anna", "bert", "carl", "dora")
    stage.found("anna")
    token = stage.mint("anna", uses=2)
    for name in ("bert", "carl"):
        stage[name].ask("mesh.join", token=token, name=name)
    number = stage["dora"].request("mesh.join", token=token, name="dora")
    assert outcome(stage["dora"], number) is Code.TOKEN_USED_UP


@pytest.mark.parametrize("skew", [-700.0, -1500.0, -4000.0])
def test_clocks_that_disagree_are_named(skew: float) -> None:
    stage, anna, bert = founder_and_newcomer()
    token = stage.mint("anna")
    bert.skew = skew
    number = bert.request("mesh.join", token=token, name="bert")
    stage.advance(5)
    assert outcome(bert, number) is Code.CLOCK_WRONG
    assert not any(bert.disk[table] for table in ("mesh", "records", "channels", "grants"))
    bert.skew = 0.0
    bert.ask("mesh.join", token=token, name="bert")
    assert anna.neighbors() == {"bert"}


@pytest.mark.parametrize("skew", [-300.0, 300.0])
def test_clocks_that_are_a_little_off_do_not_matter(skew: float) -> None:
    stage, _, bert = founder_and_newcomer()
    bert.skew = skew
    stage.join("bert", "anna")


def test_a_token_without_a_push_service() -> None:
    stage, _, bert = founder_and_newcomer()
    token = encode_token(replace(decode_token(stage.mint("anna")), subscriptions=()))
    assert bert.refusal("mesh.join", token=token, name="bert") is Code.PUSH_UNAVAILABLE


@pytest.mark.parametrize("prefix", ["", "javascript:alert(1)", "http://[::1", "x" * 1000])
def test_a_token_whose_endpoint_is_none(prefix: str) -> None:
    stage, _, bert = founder_and_newcomer()
    made = decode_token(stage.mint("anna"))
    part = replace(made.subscriptions[0], prefix=prefix)
    number = bert.request("mesh.join", token=encode_token(replace(made, subscriptions=(part,))), name="bert")
    stage.advance(125)
    assert outcome(bert, number) is not None
    assert bert.did(cm.SendPush) == []


# -- who tries to get in otherwise ------------------------------------------------------------------------------------


def knock(
    stage: Stage,
    who: Player,
    introduction: Introduction,
    proof: bytes | None,
    session: SessionId,
    grant: Grant = NO_GRANT,
) -> None:
    """A join request of one's own making, pushed to the token's channel."""
    description = encode_description(stage.description(who))
    request = JoinRequest(
        introduction.id,
        proof_of(introduction.secret, who.id, session) if proof is None else proof,
        "eve",
        who.suite.sealing_key,
        bytes(8),
        description,
        grant,
    )
    key = introduction.sealing_key
    envelope = seal(
        who.suite, introduction.mesh, key, key, session=session, sequence=1, body=encode_message(request), now=who.now
    )
    part = introduction.subscriptions[0]
    for owner, service, channel in list(stage.endpoints.values()):
        if any(map(owner.node.introductions.is_ours, owner.node.holders.of_channel(channel))):
            body = who.suite.encrypt_push(part.p256dh, part.auth, envelope)
            owner.give(ev.PushReceived(service, channel, "v", body))


def test_a_proof_is_needed() -> None:
    """Who has only seen the token's public parts (a push service, a relay) does not get in."""
    stage, anna, bert = founder_and_newcomer()
    introduction = decode_token(stage.mint("anna"))
    knock(stage, bert, introduction, bytes(32), SessionId(b"session1"))
    other = proof_of(introduction.secret, anna.id, SessionId(b"session2"))
    knock(stage, bert, introduction, other, SessionId(b"session2"))
    old = proof_of(introduction.secret, bert.id, SessionId(b"session1"))
    knock(stage, bert, introduction, old, SessionId(b"session3"))
    assert anna.counters["pushes_dropped"] == 3
    assert anna.disk["admitted"] == {}
    assert [listed["uses_left"] for listed in anna.node.view().introductions] == [1]


def test_a_bearer_who_cannot_be_answered_does_not_break_anything() -> None:
    stage, anna, bert = founder_and_newcomer()
    knock(stage, bert, decode_token(stage.mint("anna")), None, SessionId(b"session1"))
    stage.advance(5)
    assert anna.counters["joins_unanswerable"] == 1
    assert anna.neighbors() == set()


def test_bearers_without_a_real_endpoint_do_not_use_up_room_for_pushes() -> None:
    """Or a used token would be enough to stop an introducer from pushing at all."""
    stage = Stage("anna", "bert", "carl", "dora")
    stage.found("anna")
    token = stage.mint("anna")
    introduction = decode_token(token)
    stage["carl"].ask("mesh.join", token=token, name="carl")
    bad = replace(introduction.subscriptions[0], prefix="nowhere")
    for i in range(300):
        knock(stage, stage["bert"], introduction, None, SessionId(i.to_bytes(8, "big")), Grant(0, (bad,)))
    assert "pushes_limit" not in stage["anna"].counters
    stage.join("dora", "anna")


def test_bearers_of_a_used_token_do_not_make_the_introducer_push_without_end() -> None:
    """Each has a key of its own, made up in no time, and an endpoint of its choice."""
    stage = Stage("anna", "carl", "dora")
    anna = stage.found("anna")
    token = stage.mint("anna")
    introduction = decode_token(token)
    stage["carl"].ask("mesh.join", token=token, name="carl")
    stage.advance(1)
    stage.hold_pushes = True
    before = len(anna.did(cm.SendPush))
    grant = Grant(0, introduction.subscriptions)
    for number in range(2 * REFUSAL_BURST):
        knock(stage, stage.add(f"eve{number}"), introduction, None, SessionId(number.to_bytes(8, "big")), grant)
    assert anna.counters["joins_refused_used_up"] == 2 * REFUSAL_BURST
    assert len(anna.did(cm.SendPush)) - before == REFUSAL_BURST
    assert set(anna.disk["grants"]) == {stage["carl"].id}
    stage.hold_pushes = False
    stage.join("dora", "anna")


def test_a_request_is_taken_once() -> None:
    stage, anna, bert = founder_and_newcomer()
    introduction = decode_token(stage.mint("anna", uses=5))
    knock(stage, bert, introduction, None, SessionId(b"session1"))
    knock(stage, bert, introduction, None, SessionId(b"session1"))
    assert anna.counters["envelopes_replayed"] == 1


def test_an_answer_from_somebody_else_is_not_believed() -> None:
    """Whoever learns the joiner's subscription can push to it, but not as the introducer."""
    stage = Stage("anna", "bert", "carl")
    stage.found("anna")
    stage.join("carl", "anna")
    token = stage.mint("anna")
    stage["anna"].crash()
    bert, carl = stage["bert"], stage["carl"]
    bert.request("mesh.join", token=token, name="bert")
    mesh = decode_token(token).mesh
    envelope = seal(
        carl.suite,
        mesh,
        bert.id,
        bert.suite.sealing_key,
        session=bert.node.signaling.sessions()[0].id,
        sequence=1,
        body=encode_message(Grant(0, ())),
        now=Now(0.0, stage.unix),
    )
    ((_, service, channel),) = [owner for owner in stage.endpoints.values() if owner[0] is bert]
    seed = bert.node.channels._rows[channel].seed
    keys = bert.suite.channel_keys(seed)
    bert.give(ev.PushReceived(service, channel, "v", carl.suite.encrypt_push(keys.p256dh, keys.auth, envelope)))
    assert bert.counters["pushes_dropped"] == 1
    assert bert.node.view().status["state"] == "joining"


def test_who_was_away_and_comes_again_with_a_token_is_answered_by_its_new_subscription() -> None:
    """A member that lost its state begins at generation 0: what it gave before must not win over that."""
    stage, anna, bert = founder_and_newcomer()
    stage.join("bert", "anna")
    bert.give(ev.UserAgentConnected("mozilla", "another uaid"))  # its subscriptions are made anew: generation 1
    stage.advance(2)
    bert.crash()
    bert.disk = {table: {} for table in bert.disk}
    stage.uaids.clear()
    stage.push_status = lambda push: 201  # also to dead endpoints: a service may be slow to forget
    stage.advance(30)
    assert anna.neighbors() == set()
    stage.push_status = None
    stage.advance(10)  # her last push to it is long ago
    bert.start()
    stage.join("bert", "anna")
    assert anna.neighbors() == {"bert"}


def test_a_second_push_service_is_used_when_the_first_is_dead() -> None:
    config = replace(Config(), push=PushConfig(services=("mozilla", "wss://push.example/")))
    stage = Stage("anna", "bert", config=config)
    stage.found("anna")
    token = stage.mint("anna")
    stage.push_status = lambda push: 404 if "mozilla" in push.endpoint else 201
    answer = stage["bert"].ask("mesh.join", token=token, name="bert")
    assert isinstance(answer, dict)
    assert not isinstance(answer, Refused)
