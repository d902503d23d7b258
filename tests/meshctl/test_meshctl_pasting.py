"""offer, answer and accept: what is pasted, what is printed to be pasted, and what is said about it."""

import json

import pytest

OFFER, ANSWER = "meshd-offer1_" + "abcdefghij" * 40, "meshd-answer1_" + "abcdefghij" * 40
SDP = {"type": "offer", "sdp": "v=0\r\n"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["offer", "--peer", "desk"], OFFER),
        (["offer", "--for", "meshd1_x"], OFFER),
        (["answer", OFFER], ANSWER),
    ],
)
def test_the_text_alone_goes_to_standard_output(daemon, words, text):
    ended = daemon.run(*words)
    assert (ended.status, ended.out) == (0, f"{text}\n")
    assert "meshctl accept" in ended.err
    assert "waits until" in ended.err


def test_a_text_in_several_words_and_lines_is_one(daemon):
    half = len(OFFER) // 2
    assert daemon.run("answer", OFFER[:half], OFFER[half:]).status == 0
    assert daemon.run("answer", stdin=f"> {OFFER[:half]}\n> {OFFER[half:]}\n".encode()).status == 0
    assert daemon.run("answer", "-", stdin=OFFER.encode()).out == f"{ANSWER}\n"


def test_accept_tells_an_answer_from_an_application(daemon):
    assert daemon.run("accept", ANSWER).out == "Linked to desk, after 1.5 s.\n"
    assert daemon.run("accept", "-", stdin=ANSWER.encode()).out == "Linked to desk, after 1.5 s.\n"
    assert "Joined home; linked to desk" in daemon.run("accept", f"{ANSWER}join").out
    assert daemon.run("accept", "echo", stdin=b"x").out == "x"
    assert daemon.run("accept", "two", "words").status == 2


def test_three_machines_are_one_pipe(daemon):
    offered = daemon.run("offer", "--peer", "desk").out
    answered = daemon.run("answer", "-", stdin=offered.encode()).out
    assert daemon.run("accept", "-", stdin=answered.encode()).status == 0


def test_an_sdp_is_json_as_browsers_make_it_and_what_it_lacks_is_said(daemon):
    ended = daemon.run("offer", "--peer", "desk", "--sdp")
    assert json.loads(ended.out) == {"type": "offer", "sdp": "v=0\r\ns=-\r\n"}
    assert "not signed" in ended.err
    assert "proved on the link" in ended.err
    answered = daemon.run("answer", "--from", "desk", "--sdp", json.dumps(SDP))
    assert json.loads(answered.out)["type"] == "answer"
    assert daemon.run("accept", "--from", "desk", json.dumps({"type": "answer", "sdp": "v=0"})).status == 0


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["answer", json.dumps(SDP)], "--from PEER"),
        (["answer", "--from", "desk", '{"type":"offer"'], "is it all there?"),
        (["answer", "--from", "desk", '{"sdp":1}'], "as browsers make it"),
        (["answer", "--from", "desk", '{"type":"answer","sdp":"v=0"}'], "meshctl accept"),
        (["accept", "--from", "desk", json.dumps(SDP)], "meshctl answer"),
        (["offer"], "--peer PEER"),
        (["offer", "--peer", "desk", "--for", "meshd1_x"], "--peer PEER"),
        (["offer", "--for", "meshd1_x", "--sdp"], "no SDP"),
        (["offer", "--peer", "desk", "--json", "--qr"], "--json"),
        (["offer", "--peer", "desk", "--sdp", "--qr"], "--sdp"),
        (["answer", "x" * 70_000], "too long"),
    ],
)
def test_wrong_use_says_what_would_be_right(daemon, words, hint):
    ended = daemon.run(*words)
    assert ended.status == 2
    assert hint in ended.err


def test_nothing_pasted_says_who_makes_it(daemon):
    ended = daemon.run("answer", "-", stdin=b"\n")
    assert (ended.status, "meshctl offer" in ended.err) == (2, True)


def test_a_text_that_came_too_late_offers_the_next_step(daemon):
    ended = daemon.run("answer", "meshd-offer1_late")
    assert ended.status == 1
    assert "meshctl offer" in ended.err


def test_a_qr_code_goes_to_standard_error(daemon):
    daemon.env["PYTHONUTF8"] = "1"
    ended = daemon.run("offer", "--peer", "desk", "--qr")
    assert ended.out == f"{OFFER}\n"
    assert "█" in ended.err or "No QR code" in ended.err


def test_a_token_by_hand_says_how_it_is_used(daemon):
    assert "meshctl offer --for" in daemon.run("introduce", "--by-hand").err
