"""Founding a mesh and minting tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from playbook import EPOCH, Player, Refused, Stage

from meshd.config import Config, IntroductionsConfig
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.joining.introductions import MAX_INTRODUCTIONS
from meshd.errors import Code
from meshd.ids import text_of
from meshd.wire.introduction import decode_token

KEY = bytes(range(32))


def alone(name: str = "anna") -> tuple[Stage, Player]:
    stage = Stage(name)
    return stage, stage.found(name)


def test_a_founder_is_a_member_and_an_admin() -> None:
    stage = Stage("anna")
    answer = stage["anna"].ask("mesh.found", mesh_name="home", name="anna", mesh_key=KEY)
    assert answer["mesh_name"] == "home"
    assert answer["mesh_id"] == stage["anna"].suite.identity_of(KEY)
    status = stage["anna"].node.view().status
    assert (status["state"], status["name"], status["members"], status["links"]) == ("member", "anna", 1, 0)
    assert status["mesh"]["admin"]


def test_founding_is_answered_when_it_is_durable() -> None:
    stage = Stage("anna")
    stage["anna"].disk_mode = "slow"
    number = stage["anna"].request("mesh.found", mesh_name="home", name="anna", mesh_key=KEY)
    assert number not in stage["anna"].answers
    stage["anna"].let_disk_go()
    assert isinstance(stage["anna"].answers[number], dict)


def test_founding_on_a_full_disk_is_as_if_it_had_not_been_asked() -> None:
    stage = Stage("anna")
    anna = stage["anna"]
    anna.disk_mode = "full"
    assert anna.refusal("mesh.found", mesh_name="home", name="anna", mesh_key=KEY) is Code.STORE_FAILED
    assert anna.node.view().status["state"] == "no_mesh"
    anna.disk_mode = "good"
    stage.advance(20)
    assert not any(anna.disk[table] for table in ("mesh", "records", "channels"))
    stage.found("anna")
    assert anna.node.view().status["state"] == "member"


def test_the_mesh_key_is_not_kept() -> None:
    stage = Stage("anna")
    stage["anna"].ask("mesh.found", mesh_name="home", name="anna", mesh_key=KEY)
    assert not any(KEY in value for table in stage["anna"].disk.values() for value in table.values())


@pytest.mark.parametrize(("mesh_name", "name"), [("Home!", "anna"), ("home", "-anna"), ("home", "a" * 33)])
def test_bad_names_are_refused(mesh_name: str, name: str) -> None:
    code = Stage("anna")["anna"].refusal("mesh.found", mesh_name=mesh_name, name=name, mesh_key=KEY)
    assert code is Code.NAME_INVALID


def test_nobody_founds_twice() -> None:
    _, anna = alone()
    assert anna.refusal("mesh.found", mesh_name="home", name="anna", mesh_key=KEY) is Code.IN_MESH


@pytest.mark.parametrize("method", ["messages.send", "peers.ping", "introductions.mint", "node.rename", "mesh.leave"])
def test_without_a_mesh_there_is_little_to_do(method: str) -> None:
    assert Stage("anna")["anna"].refusal(method, peer="x", name="x", body=b"") is Code.NO_MESH


def test_a_restarted_founder_is_who_it_was() -> None:
    _, anna = alone()
    before = anna.node.view().status["mesh"]
    anna.restart()
    assert anna.node.view().status["mesh"] == before


def test_without_a_mesh_no_push_service_is_asked() -> None:
    assert not Stage("anna")["anna"].did(cm.OpenUserAgent)


# -- minting ----------------------------------------------------------------------------------------------------------


def test_a_token_says_where_to_push() -> None:
    _, anna = alone()
    answer = anna.ask("introductions.mint", lifetime=3600.0, uses=2, label="for bert")
    token = decode_token(answer["token"])
    assert token.introducer == anna.id
    assert token.id == answer["introduction_id"]
    assert token.expires == answer["expires_at"] == pytest.approx(EPOCH + 3600, abs=2)
    assert len(token.subscriptions) == 1
    assert answer["uses"] == 2
    (listed,) = anna.node.view().introductions
    assert (listed["state"], listed["label"], listed["uses_left"], listed["joined"]) == ("open", "for bert", 2, [])


def test_each_token_has_a_channel_and_a_key_of_its_own() -> None:
    _, anna = alone()
    one, other = (decode_token(anna.ask("introductions.mint")["token"]) for _ in range(2))
    assert one.subscriptions[0].vapid_key != other.subscriptions[0].vapid_key
    assert one.subscriptions[0].tail != other.subscriptions[0].tail
    assert one.sealing_key != other.sealing_key
    assert one.secret != other.secret


def test_a_token_is_given_out_when_it_would_survive() -> None:
    stage = Stage("anna", "bert")
    anna = stage.found("anna")
    anna.disk_mode = "slow"
    number = anna.request("introductions.mint")
    assert number not in anna.answers
    while number not in anna.answers:
        anna.let_disk_go(1)
    anna.disk_mode = "good"
    anna.restart()
    answer = anna.answers[number]
    assert isinstance(answer, dict)
    stage["bert"].ask("mesh.join", token=answer["token"], name="bert")


def test_a_token_outlives_a_restart() -> None:
    stage = Stage("anna", "bert")
    stage.found("anna")
    token = stage.mint("anna")
    stage["anna"].restart()
    stage["bert"].ask("mesh.join", token=token, name="bert")


def test_without_a_push_service_there_is_no_token() -> None:
    stage = Stage("anna")
    stage["anna"].push_works = False
    stage.found("anna")
    number = stage["anna"].request("introductions.mint")
    stage.advance(15)
    answer = stage["anna"].answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.PUSH_UNAVAILABLE


def test_on_a_full_disk_there_is_no_token() -> None:
    stage, anna = alone()
    anna.disk_mode = "full"
    number = anna.request("introductions.mint")
    stage.advance(15)
    assert isinstance(anna.answers[number], Refused)
    assert anna.refusal("introductions.mint") is Code.STORE_FAILED


def test_a_revoked_token_loses_its_channel() -> None:
    _, anna = alone()
    identifier = anna.ask("introductions.mint")["introduction_id"]
    answer = anna.ask("introductions.revoke", introduction_id=text_of(identifier)[:6])
    assert answer == {"introduction_id": identifier, "state": "revoked"}
    assert anna.did(cm.UnregisterChannel)
    assert [listed["state"] for listed in anna.node.view().introductions] == ["revoked"]


def test_revoking_what_is_not_there() -> None:
    _, anna = alone()
    anna.ask("introductions.mint")
    anna.ask("introductions.mint")
    assert anna.refusal("introductions.revoke", introduction_id="zzzzzz") is Code.TOKEN_UNKNOWN
    assert anna.refusal("introductions.revoke", introduction_id="") is Code.TOKEN_UNKNOWN


def test_expired_tokens_lose_their_channel_and_then_their_place() -> None:
    stage, anna = alone()
    anna.ask("introductions.mint", lifetime=60.0)
    stage.advance(61)
    assert [listed["state"] for listed in anna.node.view().introductions] == ["expired"]
    stage.advance(800)
    assert anna.did(cm.UnregisterChannel)
    stage.skip(8 * 86_400)
    assert anna.node.view().introductions == []
    assert anna.disk["introductions"] == {}


def test_tokens_are_bounded() -> None:
    _, anna = alone()
    for _ in range(MAX_INTRODUCTIONS):
        anna.ask("introductions.mint")
    assert anna.refusal("introductions.mint") is Code.BUSY


def test_who_may_not_introduce_mints_nothing() -> None:
    config = replace(Config(), introductions=IntroductionsConfig(may_introduce=False))
    stage = Stage("anna", "bert", config=config)
    stage.mesh(1.0)
    assert stage["bert"].refusal("introductions.mint") is Code.REFUSED


def test_a_push_on_a_channel_that_we_do_not_know_is_taken_back() -> None:
    stage, anna = alone()
    anna.give(ev.PushReceived("mozilla", b"x" * 16, "version", b"body"))  # type: ignore[arg-type]
    assert anna.did(cm.UnregisterChannel)[-1].channel == b"x" * 16
    assert anna.did(cm.AcknowledgePush)[-1].version == "version"
    assert anna.counters["pushes_dropped"] == 1
    assert stage.endpoints == {}


def test_a_push_that_nobody_can_read_is_acknowledged_as_such() -> None:
    stage, anna = alone()
    anna.ask("introductions.mint")
    ((_, service, channel),) = stage.endpoints.values()
    anna.give(ev.PushReceived(service, channel, "version", b"garbage"))
    assert anna.did(cm.AcknowledgePush)[-1].code == 101
