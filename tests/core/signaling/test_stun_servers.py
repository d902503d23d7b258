"""Who is asked for our address within a mesh: members that say they answer, own push services, a token's servers."""

from __future__ import annotations

from dataclasses import replace

from playbook import Player, Stage

from meshd.config import Config, PushConfig
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.signaling.stun_servers import MAX_ASKED
from meshd.wire.introduction import decode_token

ANNA, ANNA_V6 = "45.0.0.7:4000", "[2a0e::7]:4000"


def asked(player: Player) -> tuple[str, ...]:
    """Whom its links may ask."""
    return player.did(cm.UseStunServers)[-1].servers


def answering(player: Player, *servers: str) -> None:
    player.give(ev.AddressesChanged(("192.168.1.2",), answering=servers))
    player.stage.advance(1)


def test_nobody_is_asked_without_a_mesh() -> None:
    assert asked(Stage("anna")["anna"]) == ()


def test_a_member_with_a_public_address_is_asked_by_the_others() -> None:
    stage = Stage("anna", "bert")
    anna, bert = stage.found("anna"), stage["bert"]
    stage.join("bert", "anna")
    assert asked(bert) == ()
    answering(anna, ANNA, ANNA_V6)
    assert asked(bert) == (ANNA, ANNA_V6)
    assert asked(anna) == (), "it need not ask itself"
    answering(anna, ANNA)
    assert asked(bert) == (ANNA,)
    answering(anna)
    assert asked(bert) == ()


def test_a_member_that_has_left_is_not_asked() -> None:
    stage = Stage("anna", "bert")
    anna, bert = stage.found("anna"), stage["bert"]
    stage.join("bert", "anna")
    answering(anna, ANNA)
    anna.ask("mesh.leave")
    stage.advance(1)
    assert asked(bert) == ()


def test_a_record_does_not_make_others_knock_at_home() -> None:
    stage = Stage("anna", "bert")
    anna = stage.found("anna")
    stage.join("bert", "anna")
    answering(anna, "192.168.1.1:53", "[::1]:22")
    assert asked(stage["bert"]) == ()


def test_few_of_many_are_asked() -> None:
    names = [f"m{number}" for number in range(MAX_ASKED + 2)]
    stage = Stage("anna", *names)
    stage.found("anna")
    for number, name in enumerate(names):
        stage.join(name, "anna")
        answering(stage[name], f"45.0.0.{number}:4000")
    stage.advance(5)
    assert len(asked(stage["anna"])) == MAX_ASKED
    assert len({asked(stage[name]) for name in names}) > 1, "not everybody the same"


def test_a_token_names_them_and_its_bearer_asks_before_it_is_admitted() -> None:
    stage = Stage("anna", "bert")
    anna, bert = stage.found("anna"), stage["bert"]
    answering(anna, ANNA)
    token = anna.ask("introductions.mint")["token"]
    assert decode_token(token).stun_servers == (ANNA,)
    bert.push_works = False
    bert.request("mesh.join", token=token, name="bert", timeout=30.0)
    assert asked(bert) == (ANNA,)
    kinds = [type(command) for command in bert.log]
    assert kinds.index(cm.PrepareLink) > len(kinds) - 1 - kinds[::-1].index(cm.UseStunServers), "before gathering"
    stage.advance(40)
    assert asked(bert) == (), "the join has failed"


def test_push_services_of_ones_own_answer_too() -> None:
    own = ("mozilla", "ws://push.example:8085/", "wss://push.example.net/", "ws://[2001:db8::7]/x")
    config = replace(Config(), push=PushConfig(services=own))
    stage = Stage("anna", config=config)
    anna = stage.found("anna")
    assert asked(anna) == ("push.example:8085", "push.example.net:3478", "[2001:db8::7]:80")


def test_whom_strangers_can_reach_is_not_warned() -> None:
    stage = Stage("anna")
    anna = stage.found("anna")
    assert anna.ask("introductions.mint")["warnings"]
    answering(anna, ANNA)  # a router has mapped a port
    assert anna.ask("introductions.mint")["warnings"] == []
    answering(anna)
    assert anna.ask("introductions.mint")["warnings"]


def test_members_that_are_there_are_asked_before_those_that_are_away() -> None:
    names = [f"m{number}" for number in range(MAX_ASKED + 3)]
    stage = Stage("anna", *names)
    stage.found("anna")
    for number, name in enumerate(names):
        stage.join(name, "anna")
        answering(stage[name], f"45.0.0.{number}:4000")
    stage.advance(5)
    gone = asked(stage["anna"])[0]
    absent = stage[names[int(gone.split(":")[0].rpartition(".")[2])]]
    absent.crash()
    stage.advance(30)
    assert gone not in asked(stage["anna"])
    assert len(asked(stage["anna"])) == MAX_ASKED
