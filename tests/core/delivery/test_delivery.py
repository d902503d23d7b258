"""Messages of people and programs: acknowledged when they would survive, delivered once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from playbook import Player, Refused, Stage

from meshd.config import Config, MeshConfig
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.delivery import inbox
from meshd.core.delivery.outbox import MAX_IN_FLIGHT, MAX_OUTBOX_MESSAGES
from meshd.errors import Code
from meshd.ids import RequestId
from meshd.wire.messages import (
    LINK_MESSAGES,
    MAX_BODY_SIZE,
    Acknowledgement,
    ApplicationMessage,
    MessageRefused,
    decode_message,
)


def two(**mesh: Any) -> tuple[Stage, Player, Player]:
    stage = Stage("anna", "bert", config=replace(Config(), mesh=MeshConfig(**mesh)))
    anna, bert = stage.mesh(5.0)
    return stage, anna, bert


def lose(stage: Stage, kind: type[Any]) -> list[Any]:
    """Lose all messages of that kind from now on; gives those that were lost."""
    lost: list[Any] = []

    def tap(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        message = decode_message(data, LINK_MESSAGES)
        if isinstance(message, kind):
            lost.append(message)
            return None
        return data

    stage.tap = tap
    return lost


def code_of(player: Player, number: int) -> Code:
    answer = player.answers[number]
    assert isinstance(answer, Refused), answer
    return answer.code


def bodies(player: Player) -> list[bytes]:
    return [message["body"] for message in player.inbox]


def unread(player: Player) -> list[bytes]:
    return [message["body"] for message in player.node.view().messages]


# -- as it should be --------------------------------------------------------------------------------------------------


def test_a_message_arrives_with_all_that_belongs_to_it() -> None:
    stage, anna, bert = two()
    answer = anna.ask("messages.send", peer="bert", body=b"hello", application="chat")
    assert (answer["state"], answer["name"], answer["peer_id"]) == ("acknowledged", "bert", bert.id)
    (message,) = bert.inbox
    assert (message["body"], message["application"], message["name"]) == (b"hello", "chat", "anna")
    assert message["sent_at"] == pytest.approx(stage.unix, abs=0.01)
    assert bert.node.view().messages == [message]
    assert anna.node.view().status["outbox"]["queued"] == 0
    assert bert.node.view().status["inbox"] == {"unread": 1, "size": 5}


def test_messages_arrive_in_the_order_they_were_sent() -> None:
    _, anna, bert = two()
    for number in range(100):
        anna.request("messages.send", peer="bert", body=b"%d" % number, wait=False)
    assert bodies(bert) == [b"%d" % number for number in range(100)]


def test_nothing_is_sent_before_it_is_durable_here() -> None:
    _, anna, bert = two()
    anna.disk_mode = "slow"
    waiting = anna.request("messages.send", peer="bert", body=b"one")
    queued = anna.request("messages.send", peer="bert", body=b"two", wait=False)
    assert bodies(bert) == []
    assert not {waiting, queued} & anna.answers.keys()
    anna.let_disk_go()
    assert bodies(bert) == [b"one", b"two"]
    answers = [anna.answers[number] for number in (waiting, queued)]
    assert [answer["state"] for answer in answers] == ["acknowledged", "queued"]  # type: ignore[index]


@pytest.mark.parametrize("meanwhile", ["time passes", "the buffer drains", "another message goes"])
def test_also_not_by_another_door(meanwhile: str) -> None:
    stage, anna, bert = two()
    anna.ask("messages.send", peer="bert", body=b"before")
    anna.disk_mode = "slow"
    anna.request("messages.send", peer="bert", body=b"too early", wait=False)
    if meanwhile == "time passes":
        stage.advance(20)
    elif meanwhile == "the buffer drains":
        anna.give(ev.SendBufferHigh(anna.link_to(bert)))
        anna.request("messages.send", peer="bert", body=b"too early as well", wait=False)
        anna.give(ev.SendBufferLow(anna.link_to(bert)))
    else:
        anna.hear(bert, Acknowledgement((b"x" * 16,)))
        anna.request("messages.send", peer="bert", body=b"too early as well", wait=False)
    assert bodies(bert) == [b"before"]
    anna.let_disk_go()
    stage.advance(20)
    assert bodies(bert)[:2] == [b"before", b"too early"]


def test_nothing_is_acknowledged_before_it_is_durable_there() -> None:
    _, anna, bert = two()
    bert.disk_mode = "slow"
    number = anna.request("messages.send", peer="bert", body=b"hello")
    assert not bert.sent(Acknowledgement)
    assert bert.inbox == []
    assert bert.node.view().messages == []
    assert number not in anna.answers
    bert.let_disk_go()
    assert len(bert.sent(Acknowledgement)) == 1
    assert bodies(bert) == [b"hello"]
    assert number in anna.answers


def test_a_receiver_that_cannot_write_acknowledges_nothing_until_it_can() -> None:
    stage, anna, bert = two()
    bert.disk_mode = "full"
    number = anna.request("messages.send", peer="bert", body=b"hello", timeout=100.0)
    stage.advance(30)
    assert not bert.sent(Acknowledgement)
    assert bert.inbox == []
    assert number not in anna.answers
    bert.disk_mode = "good"
    stage.advance(60)
    assert bodies(bert) == [b"hello"]
    assert isinstance(anna.answers[number], dict)
    bert.restart()
    assert unread(bert) == [b"hello"]


def test_a_receiver_that_dies_before_it_is_durable_gets_it_again() -> None:
    stage, anna, bert = two()
    bert.disk_mode = "slow"
    number = anna.request("messages.send", peer="bert", body=b"hello", timeout=200.0)
    bert.disk_mode = "good"
    bert.restart()
    stage.advance(120)
    assert bodies(bert) == [b"hello"]
    assert isinstance(anna.answers[number], dict)


def test_a_sender_that_cannot_write_says_so_and_sends_nothing() -> None:
    stage, anna, bert = two()
    anna.disk_mode = "full"
    assert anna.refusal("messages.send", peer="bert", body=b"hello") is Code.STORE_FAILED
    anna.disk_mode = "good"
    stage.advance(60)
    assert bodies(bert) == []
    assert anna.node.view().status["outbox"]["queued"] == 0
    anna.ask("messages.send", peer="bert", body=b"now")
    assert bodies(bert) == [b"now"]


# -- once -------------------------------------------------------------------------------------------------------------


def test_a_lost_acknowledgement_leads_to_no_second_delivery() -> None:
    stage, anna, bert = two()
    lost = lose(stage, Acknowledgement)
    number = anna.request("messages.send", peer="bert", body=b"hello", timeout=100.0)
    stage.advance(12)
    assert len(lost) >= 2
    stage.tap = None
    stage.advance(60)
    assert isinstance(anna.answers[number], dict)
    assert bodies(bert) == [b"hello"]
    assert bert.counters["messages_repeated"] >= 1


def test_also_not_when_it_was_read_and_its_receiver_restarted() -> None:
    stage, anna, bert = two()
    lose(stage, Acknowledgement)
    anna.request("messages.send", peer="bert", body=b"hello", wait=False)
    bert.ask("messages.read", message_ids=[bert.inbox[0]["message_id"]])
    bert.restart()
    stage.tap = None
    stage.advance(60)
    assert bodies(bert) == [b"hello"]
    assert unread(bert) == []
    assert anna.node.view().status["outbox"]["queued"] == 0


def test_also_not_when_its_sender_restarted() -> None:
    stage, anna, bert = two()
    lose(stage, Acknowledgement)
    anna.request("messages.send", peer="bert", body=b"hello", wait=False)
    anna.restart()
    stage.tap = None
    stage.advance(60)
    assert bodies(bert) == [b"hello"]
    assert anna.node.view().status["outbox"]["queued"] == 0


def test_what_comes_twice_at_once_is_kept_once() -> None:
    _, anna, bert = two()
    bert.disk_mode = "slow"
    message = ApplicationMessage(b"m" * 16, "chat", 0, 2**39, b"hello")
    for _ in range(3):
        bert.hear(anna, message)
    bert.let_disk_go()
    assert bodies(bert) == [b"hello"]
    assert len(bert.sent(Acknowledgement)) == 1


def test_the_same_id_from_two_senders_is_no_repetition() -> None:
    stage = Stage("anna", "bert", "carl")
    anna, bert, carl = stage.mesh()
    carl.hear(anna, ApplicationMessage(b"m" * 16, "chat", 0, 2**39, b"from anna"))
    carl.hear(bert, ApplicationMessage(b"m" * 16, "chat", 0, 2**39, b"from bert"))
    assert bodies(carl) == [b"from anna"]
    assert carl.sent(MessageRefused)[-1].reason == "id_taken"
    carl.ask("messages.read", message_ids=[b"m" * 16])
    carl.hear(bert, ApplicationMessage(b"m" * 16, "chat", 0, 2**39, b"from bert"))
    assert bodies(carl) == [b"from anna", b"from bert"]


def test_acknowledgements_of_others_messages_do_nothing() -> None:
    stage = Stage("anna", "bert", "carl")
    anna, bert, carl = stage.mesh()
    bert.crash()
    anna.request("messages.send", peer="bert", body=b"hello", wait=False)
    (identifier,) = anna.disk["outbox"]
    anna.hear(carl, Acknowledgement((identifier, b"x" * 16)))
    anna.hear(carl, MessageRefused(identifier, "inbox_full"))
    assert anna.node.view().status["outbox"]["queued"] == 1
    assert "messages_refused" not in anna.counters


# -- waiting, giving up -----------------------------------------------------------------------------------------------


def test_a_timeout_leaves_the_message_in_the_queue() -> None:
    stage, anna, bert = two()
    bert.crash()
    number = anna.request("messages.send", peer="bert", body=b"hello", timeout=5.0)
    stage.advance(6)
    assert code_of(anna, number) is Code.NOT_ACKNOWLEDGED
    assert anna.node.view().status["outbox"]["queued"] == 1
    bert.start()
    stage.advance(120)
    assert bodies(bert) == [b"hello"]


def test_a_queue_outlives_a_restart() -> None:
    stage, anna, bert = two()
    bert.crash()
    anna.request("messages.send", peer="bert", body=b"hello", wait=False)
    anna.restart()
    bert.start()
    stage.advance(180)
    assert bodies(bert) == [b"hello"]


def test_nobody_waits_any_more() -> None:
    stage, anna, bert = two()
    bert.crash()
    number = anna.request("messages.send", peer="bert", body=b"hello", timeout=5.0)
    anna.give(ev.RequestAbandoned(RequestId(number)))
    stage.advance(10)
    assert number not in anna.answers
    assert anna.node.view().status["outbox"]["queued"] == 1


def test_messages_expire() -> None:
    stage, anna, bert = two(message_lifetime=3600.0)
    bert.crash()
    anna.request("messages.send", peer="bert", body=b"hello", wait=False)
    stage.skip(3700)
    assert anna.node.view().status["outbox"]["queued"] == 0
    assert anna.notices("message_expired")
    assert anna.disk["outbox"] == {}


def test_an_expired_message_is_refused() -> None:
    stage, anna, bert = two()
    bert.hear(anna, ApplicationMessage(b"m" * 16, "chat", 0, int(stage.unix) - 601, b"old"))
    assert bert.sent(MessageRefused)[-1].reason == "expired"
    assert bodies(bert) == []


def test_a_message_that_is_to_be_remembered_for_ever_is_not() -> None:
    stage, anna, bert = two()
    bert.hear(anna, ApplicationMessage(b"m" * 16, "chat", 0, 2**40 - 1, b"eternal"))
    (until,) = bert.disk["received"].values()
    assert int.from_bytes(until, "big") < stage.unix + 32 * 86_400


def test_the_window_is_bounded() -> None:
    stage, anna, bert = two()
    lose(stage, ApplicationMessage)
    for _ in range(3 * MAX_IN_FLIGHT):
        anna.request("messages.send", peer="bert", body=b"x", wait=False)
    assert len(anna.sent(ApplicationMessage)) == MAX_IN_FLIGHT
    stage.tap = None
    stage.advance(60)
    assert len(bodies(bert)) == 3 * MAX_IN_FLIGHT


def test_a_congested_link_gets_no_more() -> None:
    _, anna, bert = two()
    link = anna.link_to(bert)
    anna.give(ev.SendBufferHigh(link))
    anna.request("messages.send", peer="bert", body=b"x", wait=False)
    assert not anna.sent(ApplicationMessage)
    anna.give(ev.SendBufferLow(link))
    assert bodies(bert) == [b"x"]


def test_the_outbox_is_bounded() -> None:
    stage, anna, bert = two()
    bert.crash()
    for _ in range(MAX_OUTBOX_MESSAGES):
        params = {"peer": "bert", "body": b"x", "wait": False}
        stage.queue.append((anna, anna.boot, ev.Requested(RequestId(next(stage.numbers)), "messages.send", params)))
    stage.run()
    assert anna.refusal("messages.send", peer="bert", body=b"x") is Code.BUSY
    assert anna.node.view().status["outbox"]["queued"] == MAX_OUTBOX_MESSAGES


@pytest.mark.parametrize(
    ("peer", "body", "code"),
    [
        ("anna", b"x", Code.REFUSED),
        ("nobody", b"x", Code.PEER_UNKNOWN),
        ("", b"x", Code.PEER_UNKNOWN),
        ("bert", bytes(MAX_BODY_SIZE + 1), Code.TOO_LARGE),
    ],
)
def test_what_is_refused(peer: str, body: bytes, code: Code) -> None:
    _, anna, _ = two()
    assert anna.refusal("messages.send", peer=peer, body=body) is code


# -- the inbox --------------------------------------------------------------------------------------------------------


def test_a_full_inbox_refuses_and_what_is_refused_comes_later() -> None:
    stage, anna, bert = two(max_inbox_messages=4)
    for number in range(2):
        anna.ask("messages.send", peer="bert", body=b"%d" % number)
    number = anna.request("messages.send", peer="bert", body=b"2")
    assert code_of(anna, number) is Code.BUSY
    assert anna.node.view().status["outbox"]["queued"] == 1
    bert.ask("messages.read", message_ids=[message["message_id"] for message in bert.inbox])
    stage.advance(60)
    assert bodies(bert) == [b"0", b"1", b"2"]


def test_one_sender_fills_half_of_it() -> None:
    stage = Stage("anna", "bert", "carl", config=replace(Config(), mesh=MeshConfig(max_inbox_messages=8)))
    anna, bert, _ = stage.mesh()
    for _ in range(8):
        anna.request("messages.send", peer="carl", body=b"from anna", wait=False)
    for _ in range(4):
        bert.ask("messages.send", peer="carl", body=b"from bert")
    assert sorted(unread(stage["carl"])) == [b"from anna"] * 4 + [b"from bert"] * 4


def test_one_sender_fills_half_of_its_bytes() -> None:
    stage = Stage("anna", "bert", "carl", config=replace(Config(), mesh=MeshConfig(max_inbox_size=200_000)))
    anna, bert, carl = stage.mesh()
    for _ in range(4):
        anna.request("messages.send", peer="carl", body=bytes(45_000), wait=False)
    assert carl.node.view().status["inbox"] == {"unread": 2, "size": 90_000}
    bert.ask("messages.send", peer="carl", body=bytes(60_000))


def test_one_sender_takes_its_share_of_what_is_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MAX_RECEIVED_PER_SENDER", 3)
    stage = Stage("anna", "bert", "carl")
    anna, bert, carl = stage.mesh()
    for _ in range(3):
        anna.ask("messages.send", peer="carl", body=b"read at once")
        carl.ask("messages.read", message_ids=[carl.inbox[-1]["message_id"]])
    assert anna.refusal("messages.send", peer="carl", body=b"one more") is Code.BUSY
    assert bert.ask("messages.send", peer="carl", body=b"from another")["state"] == "acknowledged"


def test_reading_frees_it_durably() -> None:
    _, anna, bert = two()
    anna.ask("messages.send", peer="bert", body=b"hello")
    bert.disk_mode = "slow"
    identifier = bert.inbox[0]["message_id"]
    number = bert.request("messages.read", message_ids=[identifier, b"x" * 16, identifier])
    assert number not in bert.answers
    bert.let_disk_go()
    assert bert.answers[number] == {"removed": 1}
    assert bert.node.view().status["inbox"] == {"unread": 0, "size": 0}
    assert bert.disk["inbox"] == {}
    assert bert.ask("messages.read", message_ids=[identifier]) == {"removed": 0}


def test_an_inbox_outlives_a_restart_and_leaving() -> None:
    _, anna, bert = two()
    anna.ask("messages.send", peer="bert", body=b"hello")
    bert.restart()
    assert unread(bert) == [b"hello"]
    bert.ask("mesh.leave")
    assert unread(bert) == [b"hello"]
    bert.restart()
    assert unread(bert) == [b"hello"]


def test_kept_at_any_moment_of_a_crash() -> None:
    """The receiver dies after each number of writes: what was acknowledged is there, and nothing is there twice."""
    for writes in range(12):
        stage, anna, bert = two()
        bert.disk_mode = "slow"
        numbers = [anna.request("messages.send", peer="bert", body=b"%d" % i, timeout=500.0) for i in range(3)]
        bert.let_disk_go(writes)
        acknowledged = [i for i, number in enumerate(numbers) if number in anna.answers]
        bert.disk_mode = "good"
        bert.crash()
        there = {row[-1:] for row in bert.disk["inbox"].values()}
        assert {b"%d" % i for i in acknowledged} <= there
        bert.start()
        stage.advance(180)
        assert sorted(unread(bert)) == [b"0", b"1", b"2"]
        assert all(isinstance(anna.answers[number], dict) for number in numbers)
        assert not [c for c in bert.did(cm.DeliverMessage) if c.message["body"] not in (b"0", b"1", b"2")]
