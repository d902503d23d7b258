"""Two daemons with one identity: what is believed about it, and what standing aside means."""

from __future__ import annotations

import pytest
from playbook import Player, Stage

from meshd.core import commands as cm
from meshd.core.membership.twin import ALARM_INTERVAL, FIRST_REST
from meshd.ids import CLOCK_SKEW, Instance, Now, SessionId
from meshd.sim.suite import SimSuite
from meshd.wire.codec import encode
from meshd.wire.doubling import TwinSeen
from meshd.wire.envelope import open_envelope, seal
from meshd.wire.messages import Answer, Message, Offer, Records, encode_message
from meshd.wire.record import Record, make_record
from meshd.wire.session_description import encode as encode_description

NEWER, OLDER = b"\xff" * 8, bytes(8)


def two() -> tuple[Stage, Player, Player]:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh(5.0)
    stage.advance(30.0)
    return stage, anna, bert


def own(player: Player) -> Record:
    record = player.node.membership.own_record
    assert record is not None
    return record


def record_elsewhere(player: Player, instance: bytes, above: int = 10, issued: int | None = None) -> bytes:
    record = own(player)
    return make_record(
        player.suite,
        player.node.membership.mesh,
        number=record.number + above,
        chain=record.chain,
        generation=0,
        features=0,
        instance=Instance(instance),
        issued=int(player.now.unix) if issued is None else issued,
        flags=0,
    ).encoded


def shown(signer: SimSuite, to: Player, message: Message, unix: float) -> TwinSeen:
    """What ``to`` shows of a letter that it has had."""
    mesh = to.node.membership.mesh
    envelope = seal(
        signer,
        mesh,
        to.id,
        to.suite.sealing_key,
        session=SessionId(b"elsewhen"),
        sequence=1,
        body=encode_message(message),
        now=Now(0.0, unix),
    )
    return TwinSeen(open_envelope(to.suite, mesh, envelope).shown)


def offer(stage: Stage, player: Player, instance: bytes) -> Offer:
    return Offer(encode_description(stage.description(player)), Instance(instance), None, None)


def twin(player: Player) -> str | None:
    state: str | None = player.node.view().status["twin"]
    return state


def test_the_one_that_was_started_later_stands_aside_and_comes_back() -> None:
    stage, anna, bert = two()
    assert twin(anna) is None
    anna.hear(bert, Records((record_elsewhere(anna, OLDER),)))
    assert twin(anna) == "aside"
    assert anna.neighbors() == set()
    assert anna.did(cm.CloseUserAgent)
    assert not anna.did(cm.UnregisterChannel), "the other one needs the channels"
    assert anna.notices("stood_aside") == [{"seconds": FIRST_REST}]
    assert "keeps still" in anna.node.view().status["warnings"][0]
    anna.log.clear()
    stage.advance(FIRST_REST - 30.0)
    assert not anna.did(cm.ConnectLink)
    assert not anna.did(cm.SendPush)
    assert not anna.did(cm.OpenUserAgent)
    stage.advance(400.0)  # what bert has pushed meanwhile is lost here: this stage's service keeps nothing
    assert twin(anna) is None
    assert anna.neighbors() == {"bert"}
    assert anna.did(cm.OpenUserAgent)


def test_the_one_that_was_there_first_goes_on_and_says_so_once_in_a_while() -> None:
    stage, anna, bert = two()
    for _ in range(3):
        anna.hear(bert, Records((record_elsewhere(anna, NEWER),)))
        stage.advance(5.0)
    assert twin(anna) == "kept"
    assert anna.neighbors() == {"bert"}
    assert len(anna.notices("identity_doubled")) == 1
    assert "revoke" in anna.node.view().status["warnings"][0]
    stage.advance(ALARM_INTERVAL)
    anna.hear(bert, Records((record_elsewhere(anna, NEWER),)))
    assert len(anna.notices("identity_doubled")) == 2


def test_a_restored_backup_is_no_twin() -> None:
    _, anna, bert = two()
    before = own(anna).number
    anna.hear(bert, Records((record_elsewhere(anna, OLDER, issued=int(anna.now.unix) - 3600),)))
    assert twin(anna) is None
    assert anna.notices("identity_doubled"), "somebody should know"
    assert own(anna).number > before + 10


def test_who_answers_again_and_again_is_alive_whatever_its_clock_says() -> None:
    stage, anna, bert = two()
    for _ in range(3):
        anna.hear(bert, Records((record_elsewhere(anna, OLDER, issued=int(anna.now.unix) - 3600),)))
        stage.advance(1.0)
    assert twin(anna) == "aside"


@pytest.mark.parametrize(("instance", "state"), [(OLDER, "aside"), (NEWER, "kept")])
def test_a_letter_of_ours_that_we_did_not_write_is_proof(instance: bytes, state: str) -> None:
    stage, anna, bert = two()
    anna.hear(bert, shown(anna.suite, bert, offer(stage, anna, instance), stage.unix))
    assert twin(anna) == state
    assert len(anna.notices("identity_doubled")) == 1


def test_what_is_no_proof_changes_nothing() -> None:
    stage, anna, bert = two()
    mine, now = offer(stage, anna, OLDER), stage.unix
    good = shown(anna.suite, bert, mine, now).letter
    for letter in (
        shown(bert.suite, bert, mine, now).letter,  # signed by whoever shows it
        shown(anna.suite, bert, offer(stage, anna, own(anna).instance), now).letter,  # our own
        shown(anna.suite, bert, mine, now - 3600.0).letter,  # of a former run of ours
        shown(anna.suite, bert, Answer(mine.description, Instance(OLDER), None), now).letter,
        good[:-1] + bytes((good[-1] ^ 1,)),
        good[:41] + b"?" + good[42:],
        good[:30],
        b"x",
    ):
        anna.hear(bert, TwinSeen(letter))
        assert twin(anna) is None
        assert not anna.notices("identity_doubled")
        stage.advance(30.0)  # who sends what is no letter at all loses its link for a moment


def test_a_peer_that_restarts_is_shown_to_nobody_else() -> None:
    stage, anna, bert = two()
    bert.restart()
    stage.advance(30.0)
    assert anna.neighbors() == {"bert"}
    assert twin(anna) is twin(bert) is None
    assert CLOCK_SKEW > 0
    assert encode(TwinSeen(b"x"))
