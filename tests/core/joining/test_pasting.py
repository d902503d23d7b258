"""Offers and answers by copy and paste: between members, and with a token for one who is none yet. No push at all."""

from __future__ import annotations

from typing import Any

import pytest
from playbook import Player, Refused, Stage, outcome

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.joining.pasting import MAX_OPEN
from meshd.core.signaling.session import PASTE_TIMEOUT
from meshd.errors import Code
from meshd.ids import RequestId, text_of
from meshd.wire.paste import PREFIXES


def apart(*names: str) -> Stage:
    """A mesh of which no two have a link, a path or a push."""
    stage = Stage(*(names or ("anna", "bert")))
    stage.mesh()
    stage.push_status = lambda push: 410
    for player in stage.players.values():
        player.restart()
        player.push_works = False
    stage.pushes.clear()
    for player in stage.players.values():
        player.log.clear()
        assert player.neighbors() == set()
    return stage


def lonely(*names: str) -> tuple[Stage, Player]:
    """A founder without any push service, and others without a mesh."""
    stage = Stage("anna", *(names or ("bert",)))
    for player in stage.players.values():
        player.push_works = False
    return stage, stage.found("anna")


def offer(player: Player, peer: str) -> str:
    text: str = player.ask("links.offer", peer=peer)["text"]
    return text


def answer(player: Player, text: str) -> str:
    answered: str = player.ask("links.answer", text=text)["text"]
    return answered


def accept(player: Player, text: str) -> dict[str, Any]:
    return player.ask("links.accept", text=text)


# -- between members --------------------------------------------------------------------------------------------------


def test_two_members_without_a_path_get_a_link() -> None:
    stage = apart()
    anna, bert = stage["anna"], stage["bert"]
    answered = answer(bert, offer(anna, "bert"))
    result = accept(anna, answered)
    assert (result["name"], result["joined"], result["mesh_name"]) == ("bert", False, "home")
    assert anna.neighbors() == {"bert"}
    assert bert.neighbors() == {"anna"}
    assert stage.pushes == []


def test_a_text_survives_line_wraps_and_quotes() -> None:
    stage = apart()
    text = offer(stage["anna"], "bert")
    wrapped = "> " + "\n> ".join(text[i : i + 60] for i in range(0, len(text), 60)) + "\n"
    answered = answer(stage["bert"], f"hello, paste this:\n{wrapped}")
    assert accept(stage["anna"], f"“{answered}”.")["name"] == "bert"


def test_the_answering_side_knocks_as_long_as_the_offer_is_open() -> None:
    stage = apart()
    answer(stage["bert"], offer(stage["anna"], "bert"))
    connects = stage["bert"].did(cm.ConnectLink)
    assert [command.patience for command in connects] == [PASTE_TIMEOUT]


def test_minutes_later_is_in_time_and_more_is_too_late() -> None:
    stage = apart()
    anna, bert = stage["anna"], stage["bert"]
    text = offer(anna, "bert")
    stage.advance(200)
    answered = answer(bert, text)
    stage.advance(300)
    assert accept(anna, answered)["name"] == "bert"
    stage = apart()
    anna, bert = stage["anna"], stage["bert"]
    answered = answer(bert, offer(anna, "bert"))
    stage.advance(PASTE_TIMEOUT + 1)
    assert anna.refusal("links.accept", text=answered) is Code.PASTE_UNKNOWN
    assert [session for session in anna.node.signaling.sessions() if session.peer == bert.id and session.sent] == []


def test_an_offer_of_yesterday_has_expired() -> None:
    stage = apart()
    text = offer(stage["anna"], "bert")
    stage.advance(1000)
    assert stage["bert"].refusal("links.answer", text=text) is Code.PASTE_EXPIRED


def test_an_offer_made_before_a_restart_is_not_open_any_more() -> None:
    stage = apart()
    answered = answer(stage["bert"], offer(stage["anna"], "bert"))
    stage["anna"].restart()
    assert stage["anna"].refusal("links.accept", text=answered) is Code.PASTE_UNKNOWN


def test_each_text_is_used_once() -> None:
    stage = apart()
    anna, bert = stage["anna"], stage["bert"]
    text = offer(anna, "bert")
    answered = answer(bert, text)
    assert bert.refusal("links.answer", text=text) is Code.PASTE_USED
    accept(anna, answered)
    assert anna.refusal("links.accept", text=answered) in (Code.PASTE_USED, Code.PASTE_UNKNOWN)
    bert.restart()
    assert bert.refusal("links.answer", text=text) is Code.PASTE_USED


def test_the_newest_offer_for_a_member_counts() -> None:
    stage = apart()
    anna, bert = stage["anna"], stage["bert"]
    first, second = offer(anna, "bert"), offer(anna, "bert")
    assert anna.refusal("links.accept", text=answer(bert, first)) is Code.PASTE_UNKNOWN
    assert accept(anna, answer(bert, second))["name"] == "bert"


def test_a_text_for_somebody_else_says_so() -> None:
    stage = apart("anna", "bert", "carl")
    assert stage["carl"].refusal("links.answer", text=offer(stage["anna"], "bert")) is Code.PASTE_ELSEWHERE


def test_a_member_of_another_mesh_is_told_so() -> None:
    stage = apart()
    _, eve = lonely("eve")
    number = eve.request("links.answer", text=offer(stage["anna"], "bert"))
    refused = eve.answers[number]
    assert isinstance(refused, Refused)
    assert refused.code is Code.PASTE_ELSEWHERE


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda text: text[: len(text) // 2], Code.PASTE_TRUNCATED),
        (lambda text: text[:60] + ("A" if text[60] != "A" else "B") + text[61:], Code.PASTE_MANGLED),
        (lambda text: "meshd1_AQFy", Code.PASTE_FOREIGN),
        (lambda text: text.replace(PREFIXES["offer"], PREFIXES["answer"]), Code.PASTE_FOREIGN),
        (lambda text: "hello", Code.PASTE_FOREIGN),
        (lambda text: "", Code.INVALID_PARAMS),
    ],
)
def test_what_is_wrong_with_a_text_is_told(make: Any, code: Code) -> None:
    stage = apart()
    text = make(offer(stage["anna"], "bert"))
    assert stage["bert"].refusal("links.answer", text=text) is code


def test_a_pair_that_cannot_connect_is_told_why() -> None:
    stage = apart()
    anna, bert = stage["anna"], stage["bert"]
    stage.separate("anna", "bert")
    number = anna.request("links.accept", text=answer(bert, offer(anna, "bert")))
    stage.advance(60)
    refused = anna.answers[number]
    assert isinstance(refused, Refused)
    assert refused.code is Code.LINK_FAILED
    assert "meshctl offer" in refused.detail


def test_offers_at_one_time_are_few() -> None:
    stage = apart()
    anna, bert = stage["anna"], stage["bert"]
    texts = [offer(anna, "bert") for _ in range(MAX_OPEN + 3)]  # each replaces the one before
    for text in texts[:MAX_OPEN]:
        answer(bert, text)
    assert bert.refusal("links.answer", text=texts[MAX_OPEN]) is Code.BUSY
    stage.advance(PASTE_TIMEOUT + 1)
    answer(bert, offer(anna, "bert"))


def test_a_pending_offer_keeps_nobody_from_linking_otherwise() -> None:
    stage = Stage("anna", "bert", "carl")
    stage.mesh()
    stage.separate("anna", "bert")
    anna, bert = stage["anna"], stage["bert"]
    offer(anna, "bert")
    offer(bert, "anna")
    stage.cut.clear()
    stage.advance(120)
    assert "bert" in anna.neighbors()


def test_whom_it_is_for_has_to_be_said() -> None:
    stage = apart()
    assert stage["anna"].refusal("links.offer") is Code.INVALID_PARAMS
    assert stage["anna"].refusal("links.offer", peer="anna") is Code.REFUSED
    assert stage["anna"].refusal("links.offer", peer="nobody") is Code.PEER_UNKNOWN


@pytest.mark.parametrize("first", [0, 1])
def test_two_links_that_come_up_crossing_do_not_end_each_other(first: int) -> None:
    """Each side hears the hello of another one first. Both keep the same, and at once."""
    stage = apart()
    anna, bert = stage["anna"], stage["bert"]
    to_anna, to_bert = answer(bert, offer(anna, "bert")), answer(anna, offer(bert, "anna"))
    stage.tap = lambda one, other, data: None
    anna.request("links.accept", text=to_anna)
    bert.request("links.accept", text=to_bert)
    stage.tap = None
    hellos = [(player, c) for player in (anna, bert) for c in player.did(cm.SendMessage) if c.link in player.ends]
    assert len(hellos) == 4
    arriving = {(p.name, p.ends[c.link].other.link): (p, c) for p, c in hellos}  # type: ignore[union-attr]
    links = sorted({link for name, link in arriving if name == "bert"})  # at anna
    across = {link: anna.ends[link].other.link for link in links}  # type: ignore[union-attr]
    crossing = [("bert", links[first]), ("anna", across[links[1 - first]])]
    for name, link in crossing + [key for key in arriving if key not in crossing]:
        receiver = anna if name == "bert" else bert
        stage.queue.append((receiver, receiver.boot, ev.MessageReceived(link, arriving[name, link][1].data)))
    stage.run()
    assert anna.neighbors() == {"bert"}
    assert bert.neighbors() == {"anna"}
    assert across[anna.link_to(bert)] == bert.link_to(anna)


# -- nobody waits for ever --------------------------------------------------------------------------------------------


def ask_while_gathering(player: Player, method: str, **params: Any) -> int:
    """Ask for a text while gathering takes its time."""
    number = next(player.stage.numbers)
    for command in player.handle(ev.Requested(RequestId(number), method, params)):
        if not isinstance(command, cm.PrepareLink):
            player.stage.do(player, command)
    player.stage.run()
    assert number not in player.answers
    return number


def two_and_a_way() -> tuple[Stage, Player, Player]:
    """Two members whose link has broken, and a third."""
    stage = Stage("anna", "bert", "carl")
    stage.mesh()
    stage.separate("anna", "bert")
    return stage, stage["anna"], stage["bert"]


def test_who_waits_for_an_offer_is_told_that_there_is_a_link_by_now() -> None:
    stage, anna, _ = two_and_a_way()
    number = ask_while_gathering(anna, "links.offer", peer="bert")
    stage.cut.clear()
    stage.advance(120)
    assert "bert" in anna.neighbors()
    assert outcome(anna, number) is Code.LINK_FAILED


def test_offers_for_a_member_that_departs_are_over() -> None:
    stage, anna, bert = two_and_a_way()
    offer(anna, "bert")
    number = ask_while_gathering(anna, "links.answer", text=offer(bert, "anna"))
    bert.ask("mesh.leave")
    stage.advance(5)
    assert anna.node.membership.name_of(bert.id) is None
    assert not [session for session in anna.node.signaling.sessions() if session.peer == bert.id]
    assert outcome(anna, number) is Code.LINK_FAILED


@pytest.mark.parametrize("end", ["time", "leaving", "another"])
def test_who_carries_a_newcomers_offer_is_answered_however_it_ends(end: str) -> None:
    stage, anna = lonely()
    bert = stage["bert"]
    token = anna.ask("introductions.mint", by_hand=True)["token"]
    text = bert.ask("links.offer", token=token, name="bert")["text"]
    number = ask_while_gathering(anna, "links.answer", text=text)
    if end == "time":
        stage.advance(PASTE_TIMEOUT + 1)
    elif end == "leaving":
        anna.ask("mesh.leave")
    else:
        bert.restart()
        answer(anna, bert.ask("links.offer", token=token, name="bert")["text"])
    assert outcome(anna, number) is Code.LINK_FAILED


# -- SDP --------------------------------------------------------------------------------------------------------------


def test_sdp_both_ways_with_the_peer_named_by_a_person() -> None:
    stage = apart()
    anna, bert = stage["anna"], stage["bert"]
    offered = anna.ask("links.offer", peer="bert")["sdp"]
    answered = bert.ask("links.answer", sdp=offered, peer="anna")["sdp"]
    assert "a=setup:active" in answered or "a=setup:actpass" in offered
    assert anna.ask("links.accept", sdp=answered, peer="bert")["name"] == "bert"
    assert anna.neighbors() == {"bert"}


def test_an_sdp_of_another_than_said_gets_no_further_than_the_hello() -> None:
    stage = apart("anna", "bert", "carl")
    anna, carl = stage["anna"], stage["carl"]
    offered = anna.ask("links.offer", peer="bert")["sdp"]
    answered = carl.ask("links.answer", sdp=offered, peer="anna")["sdp"]
    anna.request("links.accept", sdp=answered, peer="bert")
    assert anna.neighbors() == set()
    assert [notice["reason"] for notice in anna.notices("link_refused")] == ["hello_forged"]


def test_an_sdp_without_a_name_is_refused() -> None:
    stage = apart()
    offered = stage["anna"].ask("links.offer", peer="bert")["sdp"]
    assert stage["bert"].refusal("links.answer", sdp=offered) is Code.INVALID_PARAMS
    assert stage["bert"].refusal("links.answer", sdp="v=0", peer="anna") is Code.PASTE_MANGLED


# -- newcomers --------------------------------------------------------------------------------------------------------


def test_a_newcomer_is_admitted_without_any_push() -> None:
    stage, anna = lonely()
    bert = stage["bert"]
    token = anna.ask("introductions.mint", by_hand=True)["token"]
    text = bert.ask("links.offer", token=token, name="bert")["text"]
    answered = answer(anna, text)
    assert bert.node.membership.row is None
    result = accept(bert, answered)
    assert (result["name"], result["joined"], result["mesh_name"]) == ("anna", True, "home")
    assert bert.neighbors() == {"anna"}
    assert stage.pushes == []
    assert [listed["state"] for listed in anna.node.view().introductions] == ["used"]


def test_a_token_for_pushes_does_as_well() -> None:
    stage = Stage("anna", "bert")
    stage.found("anna")
    token = stage.mint("anna")
    stage.pushes.clear()
    text = stage["bert"].ask("links.offer", token=token, name="bert")["text"]
    assert accept(stage["bert"], answer(stage["anna"], text))["joined"]
    assert stage.pushes == []


def test_a_token_by_hand_says_so_where_a_push_is_wanted() -> None:
    stage, anna = lonely()
    token = anna.ask("introductions.mint", by_hand=True)["token"]
    assert stage["bert"].refusal("mesh.join", token=token, name="bert") is Code.PUSH_UNAVAILABLE


def test_other_members_answer_a_pasted_offer_too() -> None:
    stage = Stage("anna", "bert", "carl")
    stage.mesh()
    stage.add("dora")
    stage.separate("anna", "dora")
    text = stage["dora"].ask("links.offer", token=stage.mint("anna"), name="dora")["text"]
    answered = answer(stage["anna"], text)
    stage.advance(200)
    assert accept(stage["dora"], answered)["joined"]
    assert stage["dora"].neighbors() & {"bert", "carl"}
    assert len(answered) < 2953  # a QR code holds no more


def test_nothing_is_handed_over_before_the_admission_is_durable() -> None:
    stage, anna = lonely()
    token = anna.ask("introductions.mint", by_hand=True)["token"]
    text = stage["bert"].ask("links.offer", token=token, name="bert")["text"]
    anna.disk_mode = "slow"
    number = anna.request("links.answer", text=text)
    assert number not in anna.answers
    anna.let_disk_go()
    assert isinstance(anna.answers[number], dict)


@pytest.mark.parametrize(("spoil", "code"), [("used", Code.TOKEN_USED_UP), ("revoked", Code.TOKEN_REVOKED)])
def test_a_token_that_is_none_any_more_is_told_to_the_introducer(spoil: str, code: Code) -> None:
    stage, anna = lonely("bert", "carl")
    minted = anna.ask("introductions.mint", by_hand=True)
    text = stage["bert"].ask("links.offer", token=minted["token"], name="bert")["text"]
    if spoil == "used":
        answer(anna, stage["carl"].ask("links.offer", token=minted["token"], name="carl")["text"])
    else:
        anna.ask("introductions.revoke", introduction_id=text_of(minted["introduction_id"]))
    assert anna.refusal("links.answer", text=text) is code


def test_a_killed_newcomer_begins_anew() -> None:
    stage, anna = lonely()
    bert = stage["bert"]
    token = anna.ask("introductions.mint", by_hand=True)["token"]
    answered = answer(anna, bert.ask("links.offer", token=token, name="bert")["text"])
    bert.restart()
    assert bert.refusal("links.accept", text=answered) is Code.PASTE_UNKNOWN
    again = answer(anna, bert.ask("links.offer", token=token, name="bert")["text"])
    assert accept(bert, again)["joined"]


def test_a_pending_offer_does_not_stand_in_the_way_of_a_join_or_a_founding() -> None:
    stage = Stage("anna", "bert")
    stage.found("anna")
    bert = stage["bert"]
    bert.ask("links.offer", token=stage.mint("anna"), name="bert")
    stage.join("bert", "anna")
    assert bert.neighbors() == {"anna"}
    stage, anna = lonely()
    bert = stage["bert"]
    token = anna.ask("introductions.mint", by_hand=True)["token"]
    answered = answer(anna, bert.ask("links.offer", token=token, name="bert")["text"])
    stage.found("bert")
    assert bert.refusal("links.accept", text=answered) in (Code.PASTE_UNKNOWN, Code.PEER_UNKNOWN)


def test_a_newcomer_without_a_link_is_a_member_and_can_offer_again() -> None:
    stage, anna = lonely()
    bert = stage["bert"]
    token = anna.ask("introductions.mint", by_hand=True)["token"]
    stage.separate("anna", "bert")
    answered = answer(anna, bert.ask("links.offer", token=token, name="bert")["text"])
    number = bert.request("links.accept", text=answered)
    stage.advance(60)
    refused = bert.answers[number]
    assert isinstance(refused, Refused)
    assert refused.code is Code.LINK_FAILED
    assert "meshctl offer --peer anna" in refused.detail
    stage.cut.clear()
    assert accept(bert, answer(anna, offer(bert, "anna")))["name"] == "anna"
    assert bert.neighbors() == {"anna"}
