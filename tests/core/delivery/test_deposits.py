"""Messages for members that are away: two that are never there together write to each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from playbook import Player, Refused, Stage

from meshd.config import Config, MeshConfig
from meshd.core import commands as cm
from meshd.core.delivery import deposits, keeping
from meshd.core.delivery.deposits import COPIES
from meshd.errors import Code
from meshd.wire.kept_message import MAX_KEPT_LIFETIME, RECEIPT_WAIT, seal_kept
from meshd.wire.messages import (
    LINK_MESSAGES,
    Acknowledgement,
    DepositKept,
    DepositWithdrawn,
    KeptTaken,
    MessageDeposit,
    MessageKept,
    ReceiptKept,
    decode_message,
)


def mesh(*names: str, **settings: Any) -> tuple[Stage, list[Player]]:
    """A mesh of these, with ``settings`` for all. Who is up is no keeper by its uptime yet."""
    stage = Stage(*names, config=replace(Config(), mesh=MeshConfig(**settings)))
    return stage, stage.mesh(10.0)


def three(**settings: Any) -> tuple[Stage, Player, Player, Player]:
    stage, (anna, bert, carl) = mesh("anna", "bert", "carl", **settings)
    return stage, anna, bert, carl


def off(stage: Stage, *players: Player) -> None:
    """Switched off, and missed."""
    for player in players:
        player.crash()
    stage.advance(200.0)


def on(stage: Stage, *players: Player) -> None:
    for player in players:
        player.start()
    stage.advance(60.0)


def bodies(player: Player) -> list[bytes]:
    return [message["body"] for message in player.inbox]


def outbox(player: Player) -> list[tuple[str, list[str]]]:
    return [(entry["state"], entry["kept_by"]) for entry in player.node.view().outbox]


def kept(player: Player) -> int:
    assert len(player.disk["kept_messages"]) == player.node.view().status["kept"]["messages"]
    return len(player.disk["kept_messages"])


def send(player: Player, peer: str, body: bytes = b"hello", until: str = "deposited", **params: Any) -> int:
    return player.request("messages.send", peer=peer, body=body, until=until, **params)


def lose(stage: Stage, *kinds: type[Any]) -> list[Any]:
    """Lose all messages of those kinds from now on; gives those that were lost."""
    lost: list[Any] = []

    def tap(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        message = decode_message(data, LINK_MESSAGES)
        if isinstance(message, kinds):
            lost.append(message)
            return None
        return data

    stage.tap = tap
    return lost


# -- as it should be --------------------------------------------------------------------------------------------------


def test_two_that_are_never_there_together_write_to_each_other() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    number = send(anna, "bert")
    assert number not in anna.answers
    stage.advance(5.0)
    answer = anna.answers[number]
    assert isinstance(answer, dict)
    assert (answer["state"], answer["kept_by"]) == ("deposited", ["carl"])
    assert anna.notices("message_deposited")[0]["keeper"] == carl.id
    assert anna.node.view().status["outbox"] == {"queued": 1, "deposited": 1}
    off(stage, anna)
    on(stage, bert)
    assert bodies(bert) == [b"hello"]
    assert bert.inbox[0]["name"] == "anna"
    assert kept(carl) == 1  # the receipt
    bert.request("messages.send", peer="anna", body=b"and to you", wait=False)
    stage.advance(10.0)
    off(stage, bert)
    on(stage, anna)
    assert outbox(anna) == []
    assert [notice["peer"] for notice in anna.notices("message_acknowledged")] == [bert.id]
    assert bodies(anna) == [b"and to you"]
    off(stage, anna)
    on(stage, bert)
    assert outbox(bert) == []
    assert kept(carl) == 0
    assert (bodies(anna), bodies(bert)) == ([b"and to you"], [b"hello"])


def test_the_sender_is_told_of_the_delivery_while_it_is_there() -> None:
    stage, anna, bert, carl = three()
    stage.cut.add(frozenset(("anna", "bert")))
    off(stage, bert)
    number = send(anna, "bert", until="acknowledged", timeout=3000.0)
    stage.advance(5.0)
    assert number not in anna.answers
    assert outbox(anna) == [("deposited", ["carl"])]
    on(stage, bert)
    answer = anna.answers[number]
    assert isinstance(answer, dict)
    assert answer["state"] == "acknowledged"
    assert bodies(bert) == [b"hello"]
    stage.advance(30.0)
    assert kept(carl) == 0


def test_who_is_there_is_written_to_directly() -> None:
    stage, anna, _, carl = three()
    answer = anna.answers[send(anna, "bert")]
    assert isinstance(answer, dict)
    assert (answer["state"], answer["kept_by"]) == ("acknowledged", [])
    stage.advance(60.0)
    assert not anna.sent(MessageDeposit)
    assert kept(carl) == 0


def test_a_way_that_comes_back_at_once_needs_no_keeper() -> None:
    stage, anna, bert, _ = three()
    bert.crash()
    stage.advance(100.0)
    number = send(anna, "bert", until="acknowledged", timeout=60.0)
    stage.advance(0.5)
    bert.start()
    stage.advance(30.0)
    assert isinstance(anna.answers[number], dict)
    assert not bert.sent(KeptTaken) or bodies(bert) == [b"hello"]


def test_a_sender_that_is_alone_deposits_when_somebody_comes() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert, carl)
    number = send(anna, "bert", timeout=10.0)
    stage.advance(30.0)
    refused = anna.answers[number]
    assert isinstance(refused, Refused)
    assert refused.code is Code.NOT_ACKNOWLEDGED
    assert refused.detail == "There is no path to it now. The message stays queued for 168 h."
    assert outbox(anna) == [("queued", [])]
    on(stage, carl)
    assert outbox(anna) == [("deposited", ["carl"])]


def test_who_waits_in_vain_is_told_who_has_it() -> None:
    stage, anna, bert, _ = three()
    off(stage, bert)
    number = send(anna, "bert", until="acknowledged", timeout=10.0)
    stage.advance(30.0)
    refused = anna.answers[number]
    assert isinstance(refused, Refused)
    assert refused.detail == "There is no path to it now. carl will have it for 168 h."


def test_three_of_many_keep_it_those_with_time_first() -> None:
    names = [f"n{number}" for number in range(7)]
    stage, players = mesh(*names)
    anna, bert = players[0], players[1]
    keepers = players[4:6]
    for keeper in keepers:
        keeper.config = replace(keeper.config, mesh=replace(keeper.config.mesh, keeper="always"))
        keeper.restart()
    stage.advance(30.0)
    off(stage, bert)
    send(anna, "n1")
    stage.advance(5.0)
    assert {message.recipient for message in anna.sent(MessageDeposit)} == {bert.id}
    assert sum(kept(player) for player in players if player.alive) == COPIES
    assert all(kept(keeper) == 1 for keeper in keepers)


def test_messages_arrive_in_the_order_they_were_sent_from_one_keeper() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    for number in range(60):
        anna.request("messages.send", peer="bert", body=b"%02d" % number, wait=False)
    stage.advance(10.0)
    assert kept(carl) == 60
    off(stage, anna)
    on(stage, bert)
    assert sorted(bodies(bert)) == [b"%02d" % number for number in range(60)]
    assert len(bert.inbox) == 60


# -- once, over kills -------------------------------------------------------------------------------------------------


def test_copies_of_all_keepers_are_delivered_once() -> None:
    stage, (anna, bert, carl, dora, emil) = mesh("anna", "bert", "carl", "dora", "emil")
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    assert [kept(player) for player in (carl, dora, emil)] == [1, 1, 1]
    lose(stage, KeptTaken)  # so that all of them bring it
    off(stage, anna)
    on(stage, bert)
    stage.advance(120.0)
    assert all(player.sent(MessageKept) for player in (carl, dora, emil))
    assert bodies(bert) == [b"hello"]
    stage.tap = None
    stage.advance(2 * keeping.MAX_HAND_RETRY)
    on(stage, anna)
    assert outbox(anna) == []
    assert [kept(player) for player in (carl, dora, emil)] == [0, 0, 0]


@pytest.mark.parametrize("read", [False, True])
def test_killed_before_the_keeper_has_the_receipt(read: bool) -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    off(stage, anna)
    lose(stage, KeptTaken)
    on(stage, bert)
    if read:
        bert.ask("messages.read", message_ids=[bert.inbox[0]["message_id"]])
    off(stage, bert)
    stage.tap = None
    on(stage, bert)
    assert bodies(bert) == [b"hello"]
    assert bert.counters["messages_repeated"] >= 1
    on(stage, anna)
    assert outbox(anna) == []
    assert kept(carl) == 0


def test_nothing_leaves_before_it_is_durable() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    anna.disk_mode = "slow"
    send(anna, "bert", timeout=1000.0)
    stage.advance(10.0)
    assert not anna.sent(MessageDeposit)
    carl.disk_mode = "slow"
    anna.let_disk_go()
    stage.advance(10.0)
    assert anna.sent(MessageDeposit)
    assert not carl.sent(DepositKept)
    assert outbox(anna) == [("queued", [])]
    carl.let_disk_go()
    stage.advance(10.0)
    assert outbox(anna) == [("deposited", ["carl"])]
    off(stage, anna)
    bert.disk_mode = "slow"
    on(stage, bert)
    assert carl.sent(MessageKept)
    assert not bert.sent(KeptTaken)
    assert bert.inbox == []
    bert.let_disk_go()
    stage.advance(60.0)
    assert bodies(bert) == [b"hello"]
    assert bert.sent(KeptTaken)


def dies_at(player: Player, number: int, *, lost: bool) -> None:
    """Killed at its so-manieth write from now on: before it is on the disk, or before the daemon knows."""
    genuine, left = player.write, [number]

    def write(persist: cm.Persist) -> None:
        left[0] -= 1
        if left[0] or not lost:
            genuine(persist)
        if not left[0]:
            player.crash()

    player.write = write  # type: ignore[method-assign]


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("victim", ["anna", "bert", "carl"])
def test_everybody_may_be_killed_at_any_write(victim: str, lost: bool) -> None:
    for number in range(1, 6):
        stage, anna, bert, carl = three()
        there = [anna, carl]

        def live(seconds: float, stage: Stage = stage, there: list[Player] = there) -> None:
            for _ in range(10):
                for player in there:
                    if not player.alive:
                        player.start()
                stage.advance(seconds / 10)

        bert.crash()
        live(80.0)
        dies_at(stage[victim], number, lost=lost)
        request = send(anna, "bert", timeout=1000.0)
        live(30.0)
        promised = isinstance(anna.answers.get(request), dict)
        for gone, come in ((anna, bert), (bert, anna), (anna, bert), (bert, anna)):
            gone.crash()
            there[0] = come
            live(80.0)
        assert (
            bodies(bert) == [b"hello"]
            or (victim == "anna" and not promised and not bert.inbox)
            or (victim == "bert" and [entry["body"] for entry in bert.node.view().messages] == [b"hello"])
        ), number
        assert outbox(anna) == []
        assert kept(carl) == 0


def test_a_keeper_forgets_nothing_over_a_restart() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    off(stage, anna)
    carl.restart()
    on(stage, bert)
    assert bodies(bert) == [b"hello"]
    off(stage, bert)
    carl.restart()
    on(stage, anna)
    assert outbox(anna) == []


def test_a_sender_that_restarts_knows_who_has_it() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    anna.restart()
    stage.advance(60.0)
    assert outbox(anna) == [("deposited", ["carl"])]
    assert len(anna.sent(MessageDeposit)) == 1
    assert kept(carl) == 1


# -- who does not keep its word ---------------------------------------------------------------------------------------


def test_a_keeper_that_lies_does_no_harm_while_one_is_honest() -> None:
    stage, (anna, bert, carl, dora, emil) = mesh("anna", "bert", "carl", "dora", "emil")
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    for liar in (carl, dora):  # they said that they have it
        liar.node.keeping.forget_all()
    off(stage, anna)
    on(stage, bert)
    assert bodies(bert) == [b"hello"]
    off(stage, bert)
    on(stage, anna)
    assert outbox(anna) == []
    assert kept(emil) == 0


def test_where_all_have_lost_it_the_sender_deposits_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deposits, "RENEW_INTERVAL", 500.0)
    monkeypatch.setattr(deposits, "LOOK_INTERVAL", 100.0)
    stage, anna, bert, carl = three()
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    carl.node.keeping.forget_all()
    stage.advance(400.0)
    assert kept(carl) == 0
    stage.advance(400.0)
    assert kept(carl) == 1
    assert outbox(anna) == [("deposited", ["carl"])]
    off(stage, anna)
    on(stage, bert)
    assert bodies(bert) == [b"hello"]


def test_what_a_keeper_plays_again_is_delivered_once() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    off(stage, anna)
    on(stage, bert)
    (played,) = {message.sealed: message for message in carl.sent(MessageKept)}.values()
    bert.ask("messages.read", message_ids=[bert.inbox[0]["message_id"]])
    for days in (0, 3, 3, 3):
        stage.skip(days * 86400.0)
        stage.advance(30.0)
        bert.hear(carl, played)
        bert.restart()
        stage.advance(30.0)
    assert bodies(bert) == [b"hello"]
    assert "inbox_expired" not in bert.counters


@pytest.mark.parametrize("change", ["body", "sender", "message", "garbage"])
def test_what_a_keeper_changes_is_found_out(change: str) -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    (deposit,) = anna.sent(MessageDeposit)
    carl.node.keeping.forget_all()
    on(stage, bert)
    stage.separate("anna", "bert")
    before = len(bert.inbox)
    fake = {
        "body": MessageKept(anna.id, deposit.message, deposit.sealed[:-1] + b"?"),
        "sender": MessageKept(carl.id, deposit.message, deposit.sealed),
        "message": MessageKept(anna.id, b"another message!", deposit.sealed),
        "garbage": MessageKept(anna.id, deposit.message, b"?"),
    }[change]
    bert.hear(carl, fake)
    assert len(bert.inbox) == before
    assert bert.sent(KeptTaken)[-1].receipt == b""
    assert "carl" in bert.neighbors()


def test_a_receipt_that_a_keeper_makes_up_is_none() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    (deposit,) = anna.sent(MessageDeposit)
    now = int(stage.unix)
    own = Acknowledgement((deposit.message,))
    sealed = seal_kept(carl.suite, anna.node.membership.mesh, anna.id, anna.suite.sealing_key, own, now, now + 100)
    for receipt in (sealed, b"?", deposit.sealed[:500]):
        anna.hear(carl, ReceiptKept(bert.id, deposit.message, receipt))
    assert outbox(anna) == [("deposited", ["carl"])]
    assert anna.counters["rejected_bad_signature"] >= 1


def test_a_keeper_that_was_not_asked_is_not_believed() -> None:
    stage, (anna, bert, carl, dora) = mesh("anna", "bert", "carl", "dora", keeper="never")
    off(stage, bert)
    send(anna, "bert", timeout=1000.0)
    stage.advance(60.0)
    (identifier,) = anna.disk["outbox"]
    anna.hear(carl, DepositKept(bert.id, identifier))
    anna.hear(dora, DepositKept(dora.id, identifier))
    assert outbox(anna) == [("queued", [])]
    assert carl.counters["deposits_refused"] >= 1


# -- who is no member any more ----------------------------------------------------------------------------------------


def test_what_a_revoked_sender_has_left_is_dropped() -> None:
    stage, (anna, bert, carl, dora) = mesh("anna", "bert", "carl", "dora")
    off(stage, bert)
    send(dora, "bert")
    stage.advance(5.0)
    assert kept(carl) == kept(anna) == 1
    (stray,) = dora.sent(MessageDeposit)[:1]
    anna.ask("members.revoke", peer="dora")
    stage.advance(30.0)
    assert kept(carl) == kept(anna) == 0
    on(stage, bert)
    assert bodies(bert) == []
    bert.hear(carl, MessageKept(dora.id, stray.message, stray.sealed))  # by one that has not dropped it
    assert bodies(bert) == []
    assert bert.sent(KeptTaken)[-1].receipt == b""


def test_nothing_is_kept_for_a_revoked_recipient() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    anna.ask("members.revoke", peer="bert")
    stage.advance(30.0)
    assert kept(carl) == 0
    assert outbox(anna) == []


def test_an_older_daemon_is_neither_asked_nor_written_to_by_keepers() -> None:
    stage, anna, bert, _ = three()
    off(stage, bert)
    membership = anna.node.membership
    old = membership._records[bert.id]
    membership._records[bert.id] = replace(old, features=0)
    send(anna, "bert", timeout=10.0)
    stage.advance(60.0)
    assert not anna.sent(MessageDeposit)
    assert outbox(anna) == [("queued", [])]


# -- keys and clocks --------------------------------------------------------------------------------------------------


def test_a_sealing_key_renewed_meanwhile_opens_it_all_the_same() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    off(stage, anna, carl)
    on(stage, bert)
    for _ in range(3):
        bert.ask("keys.rotate", push=False)
        stage.advance(700.0)
    off(stage, bert)
    on(stage, carl)
    on(stage, bert)
    assert bodies(bert) == [b"hello"]


def test_a_recipient_whose_clock_is_wrong_gets_it_when_it_is_right() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    off(stage, anna)
    bert.skew = -4000.0
    on(stage, bert)
    assert bodies(bert) == []
    assert kept(carl) == 1
    bert.skew = 0.0
    stage.advance(2 * keeping.MAX_HAND_RETRY)
    assert bodies(bert) == [b"hello"]


def test_after_a_week_it_is_over_and_the_sender_says_so_a_day_later() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    stage.skip(MAX_KEPT_LIFETIME + 60.0)
    stage.advance(120.0)
    assert kept(carl) == 0
    assert outbox(anna) == [("deposited", ["carl"])]  # a receipt may be on its way
    stage.skip(RECEIPT_WAIT)
    stage.advance(120.0)
    assert outbox(anna) == []
    assert len(anna.notices("message_expired")) == 1


def test_a_receipt_waits_for_a_sender_that_comes_late() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    off(stage, anna)
    stage.skip(MAX_KEPT_LIFETIME - 1000.0)
    on(stage, bert)
    assert bodies(bert) == [b"hello"]
    off(stage, bert)
    stage.skip(RECEIPT_WAIT / 2)
    on(stage, anna)
    assert anna.notices("message_acknowledged")
    assert not anna.notices("message_expired")
    assert kept(carl) == 0


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_a_keeper_takes_a_quarter_for_one_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MAX_KEPT", 40)
    stage, (anna, bert, carl, dora, emil) = mesh("anna", "bert", "carl", "dora", "emil")
    off(stage, bert, emil)
    for number in range(15):
        anna.request("messages.send", peer="bert", body=b"%d" % number, wait=False)
    stage.advance(30.0)
    assert kept(carl) == kept(dora) == 10
    assert sum(state == "deposited" for state, _ in outbox(anna)) == 10
    dora.request("messages.send", peer="bert", body=b"from another", wait=False)
    stage.advance(30.0)
    assert kept(carl) == 10  # bert's quarter is full as well
    dora.request("messages.send", peer="emil", body=b"to another", wait=False)
    stage.advance(30.0)
    assert kept(carl) == 11
    assert carl.counters["deposits_quota"] >= 1
    on(stage, bert)
    assert len(bert.inbox) == 16  # what was not kept was queued


def test_bytes_are_bounded_too() -> None:
    stage, anna, bert, carl = three(max_kept_size=1_048_576)
    off(stage, bert)
    for _ in range(6):
        anna.request("messages.send", peer="bert", body=bytes(65_536), wait=False)
    stage.advance(30.0)
    assert kept(carl) == 3  # of 66 KB each, in a quarter of a megabyte
    assert carl.node.view().status["kept"]["size"] * keeping.KEPT_SHARE <= 1_048_576


def test_deposits_of_one_sender_are_rationed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "DEPOSIT_BURST", 5)
    stage, anna, bert, carl = three()
    off(stage, bert)
    for number in range(9):
        anna.request("messages.send", peer="bert", body=b"%d" % number, wait=False)
    stage.advance(30.0)
    assert kept(carl) == 5
    assert carl.counters["deposits_quota"] >= 1


def test_a_keeper_whose_disk_is_full_says_so_and_another_is_asked() -> None:
    stage, (anna, bert, carl, _) = mesh("anna", "bert", "carl", "dora")
    carl.disk_mode = "full"
    carl.ask("messages.read", message_ids=[])
    off(stage, bert)
    number = send(anna, "bert", timeout=100.0)
    stage.advance(10.0)
    assert carl.disk["kept_messages"] == {}
    assert outbox(anna) == [("deposited", ["dora"])]
    assert isinstance(anna.answers[number], dict)


def test_an_inbox_that_is_full_takes_it_later() -> None:
    stage, anna, bert, _ = three(max_inbox_messages=2)
    off(stage, bert)
    for number in range(4):
        anna.request("messages.send", peer="bert", body=b"%d" % number, wait=False)
    stage.advance(10.0)
    off(stage, anna)
    on(stage, bert)
    assert len(bert.inbox) == 1  # half of two from one sender
    for _ in range(4):
        bert.ask("messages.read", message_ids=[bert.inbox[-1]["message_id"]])
        stage.advance(2 * keeping.MAX_HAND_RETRY)
    assert sorted(bodies(bert)) == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("spoil", ["to_us", "to_sender", "stranger", "future", "too_long", "past"])
def test_what_a_keeper_does_not_take(spoil: str) -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    now = int(stage.unix)
    good = MessageDeposit(bert.id, b"m" * 16, now, now + 1000, b"sealed")
    changed = {
        "to_us": replace(good, recipient=carl.id),
        "to_sender": replace(good, recipient=anna.id),
        "stranger": replace(good, recipient=bytes(32)),
        "future": replace(good, issued=now + 4000, expires=now + 5000),
        "too_long": replace(good, expires=now + int(MAX_KEPT_LIFETIME) + 10),
        "past": replace(good, issued=now - 5000, expires=now - 4000),
    }
    carl.hear(anna, changed[spoil])
    assert kept(carl) == 0
    carl.hear(anna, good)
    assert kept(carl) == 1


def test_only_the_sender_withdraws_and_only_the_recipient_takes() -> None:
    stage, (anna, bert, carl, dora) = mesh("anna", "bert", "carl", "dora")
    off(stage, bert)
    send(anna, "bert")
    stage.advance(5.0)
    (identifier,) = anna.disk["outbox"]
    carl.hear(dora, DepositWithdrawn(bert.id, (identifier,)))
    carl.hear(dora, KeptTaken(anna.id, identifier, b"receipt"))
    carl.hear(dora, KeptTaken(anna.id, identifier, b""))
    assert kept(carl) == 1
    carl.hear(anna, DepositWithdrawn(bert.id, (identifier,)))
    assert kept(carl) == 0


def test_the_largest_message_is_kept_also_beyond_a_relay() -> None:
    stage, (anna, bert, carl, dora) = mesh("anna", "bert", "carl", "dora")
    dora.config = replace(dora.config, mesh=replace(dora.config.mesh, keeper="never"))
    dora.restart()
    stage.advance(60.0)
    stage.separate("anna", "carl")
    stage.separate("bert", "carl")
    off(stage, bert)
    body = bytes(range(256)) * 256
    send(anna, "bert", body)
    stage.advance(10.0)
    assert kept(carl) == 1
    off(stage, anna)
    on(stage, bert)
    assert bodies(bert) == [body]


def test_a_keeper_that_comes_back_is_asked_again_at_once() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    lost = lose(stage, DepositKept)
    send(anna, "bert", timeout=1000.0)
    stage.advance(5.0)
    carl.restart()
    assert lost
    stage.tap = None
    stage.advance(30.0)
    assert outbox(anna) == [("deposited", ["carl"])]


def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    stage, (anna, bert, _, _) = mesh("anna", "bert", "carl", "dora")
    lost = lose(stage, MessageDeposit)
    off(stage, bert)
    send(anna, "bert", timeout=1000.0)
    stage.advance(60.0)
    assert len(lost) == 2
    stage.tap = None
    stage.advance(2 * deposits.BUSY_WAIT)
    assert outbox(anna)[0][0] == "deposited"


def test_a_message_without_an_answer_is_deposited_although_there_is_a_way() -> None:
    stage, anna, bert, carl = three()
    lose(stage, Acknowledgement)
    number = send(anna, "bert", until="acknowledged", timeout=1000.0)
    stage.advance(60.0)
    assert anna.sent(MessageDeposit)
    assert isinstance(anna.answers[number], dict)  # by the receipt that the keeper brought
    assert bodies(bert) == [b"hello"]
    stage.advance(60.0)
    assert kept(carl) == 0


def test_messages_that_a_stranger_has_left_wait_until_it_is_known() -> None:
    stage, anna, bert, carl = three()
    off(stage, bert)
    stage.add("dora", anna.config)
    stage.join("dora", "anna")
    stage.advance(30.0)
    send(stage["dora"], "bert")
    stage.advance(10.0)
    off(stage, stage["dora"], anna)
    on(stage, bert)
    assert bodies(bert) == [b"hello"]
    assert kept(carl) == 1
