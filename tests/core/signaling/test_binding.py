"""The first frame of a link: who does not prove who it is gets nothing."""

from __future__ import annotations

from typing import Any

import pytest
from playbook import End, Player, Stage, in_order

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.overlay.neighbors import HELLO_TIMEOUT, Link, Neighbors
from meshd.ids import LinkId, PeerId
from meshd.wire.messages import (
    LINK_MESSAGES,
    ApplicationMessage,
    Goodbye,
    Hello,
    Records,
    decode_message,
    encode_message,
)


def members() -> tuple[Stage, Player, Player, Player]:
    stage = Stage("anna", "bert", "carl")
    anna, bert, carl = stage.mesh()
    return stage, anna, bert, carl


def half_open() -> tuple[Stage, Player, Player, LinkId, list[bytes]]:
    """Anna and Bert are about to be linked again: Bert's hello is held back, and what he had sent."""
    stage, anna, bert, _ = members()
    first, second = in_order(anna, bert)
    stage.separate(first.name, second.name)
    stage.cut.clear()
    held: list[bytes] = []

    def tap(one: Player, other: Player, data: bytes) -> bytes | None:
        if one is second and other is first:
            held.append(data)  # the hello, and what a peer says that has taken ours
            return None
        return data

    stage.tap = tap
    for _ in range(50):
        stage.advance(0.2)
        if held:
            break
    (link,) = [made.id for made in first.node.neighbors.links() if made.peer == second.id]
    return stage, first, second, link, held


def refused_with(player: Player, link: LinkId) -> list[str]:
    return [notice["reason"] for notice in player.notices("link_refused") if notice["link"] == link]


def test_links_are_up_when_both_have_proved_themselves() -> None:
    stage, first, second, link, held = half_open()
    assert second.name not in first.neighbors()
    stage.tap = None
    first.give(ev.MessageReceived(link, held[0]))
    stage.advance(1)
    assert second.name in first.neighbors()
    assert first.name in second.neighbors()


def test_the_first_thing_sent_on_a_link_is_the_hello_alone() -> None:
    _, first, _, link, _ = half_open()
    sent = [decode_message(c.data, LINK_MESSAGES) for c in first.did(cm.SendMessage) if c.link == link]
    assert [type(message) for message in sent] == [Hello]


@pytest.mark.parametrize(
    "message",
    [Goodbye("stopping"), Records(()), ApplicationMessage(bytes(16), "x", 0, 2**39, b"early")],
    ids=lambda message: type(message).__name__,
)
def test_anything_before_the_hello_ends_the_link(message: Any) -> None:
    _, first, second, link, _ = half_open()
    first.give(ev.MessageReceived(link, encode_message(message)))
    assert refused_with(first, link) == ["hello_missing"]
    assert cm.CloseLink(link) in first.log
    assert first.inbox == []
    assert second.name not in first.neighbors()


@pytest.mark.parametrize("data", [b"", b"\xc1", b"GET / HTTP/1.1\r\n\r\n", bytes(70_000)])
def test_garbage_before_the_hello_ends_the_link(data: bytes) -> None:
    _, first, _, link, _ = half_open()
    first.give(ev.MessageReceived(link, data))
    assert refused_with(first, link) == ["malformed"]


def test_an_unknown_message_before_the_hello_ends_the_link() -> None:
    _, first, _, link, _ = half_open()
    first.give(ev.MessageReceived(link, b"\x91\xcc\xfa"))
    assert refused_with(first, link) == ["hello_missing"]


def test_silence_ends_the_link() -> None:
    stage, first, second, link, _ = half_open()
    second.crash()
    stage.advance(HELLO_TIMEOUT + 0.1)
    assert refused_with(first, link) == ["hello_missing"]


def changed(held: bytes, **fields: Any) -> bytes:
    hello = decode_message(held, LINK_MESSAGES)
    values = {name: getattr(hello, name) for name in Hello.__match_args__} | fields
    return encode_message(Hello(**values))


def binding(
    first: Player, link: LinkId, signer: Player, mine: bytes, theirs: bytes, session: bytes | None = None
) -> bytes:
    made = first.node.neighbors.link(link)
    assert made is not None
    copy = Link(made.id, made.peer, session or made.session, made.mesh)  # type: ignore[arg-type]
    return Neighbors._binding(copy, PeerId(signer.id), first.id, mine, theirs)


def test_a_forged_hello_ends_the_link() -> None:
    _, first, _, link, held = half_open()
    first.give(ev.MessageReceived(link, changed(held[0], signature=bytes(64))))
    assert refused_with(first, link) == ["hello_forged"]


def test_another_member_cannot_stand_at_the_other_end() -> None:
    """RFC 8844: a member that passes one peer off as another, with the right fingerprints."""
    stage, first, second, link, held = half_open()
    (other,) = [player for player in stage.players.values() if player not in (first, second)]
    message = binding(first, link, other, stage.fingerprint(second), stage.fingerprint(first))
    first.give(ev.MessageReceived(link, changed(held[0], signature=other.suite.sign(message))))
    assert refused_with(first, link) == ["hello_forged"]


@pytest.mark.parametrize("case", ["swapped", "another certificate", "another session", "our own", "right"])
def test_a_hello_holds_for_one_link_alone(case: str) -> None:
    stage, first, second, link, held = half_open()
    ours, theirs = stage.fingerprint(first), stage.fingerprint(second)
    signer = second
    if case == "swapped":
        message = binding(first, link, second, ours, theirs)
    elif case == "another certificate":
        message = binding(first, link, second, bytes(32), ours)
    elif case == "another session":
        message = binding(first, link, second, theirs, ours, b"another!")
    elif case == "our own":  # our own hello played back to us
        signer = first
        message = binding(first, link, first, ours, theirs)
    else:
        message = binding(first, link, second, theirs, ours)
    first.give(ev.MessageReceived(link, changed(held[0], signature=signer.suite.sign(message))))
    assert refused_with(first, link) == ([] if case == "right" else ["hello_forged"])


def test_the_fingerprint_is_that_of_the_link_and_not_of_the_description() -> None:
    """Whoever sits between two links sees both descriptions, but has another certificate."""
    stage, anna, bert, _ = members()
    stage.separate("anna", "bert")
    stage.cut.clear()
    connect = stage.connect

    def between(end: End) -> None:
        connect(end)
        for place, (player, boot, event) in enumerate(stage.queue):
            if isinstance(event, ev.LinkConnected) and player in (anna, bert):
                wrong = ev.LinkConnected(event.link, event.local_fingerprint, b"m" * 32)
                stage.queue[place] = (player, boot, wrong)

    stage.connect = between  # type: ignore[method-assign]
    stage.advance(20)
    assert anna.neighbors() == bert.neighbors() == {"carl"}
    assert "hello_forged" in {notice["reason"] for notice in anna.notices("link_refused")}


@pytest.mark.parametrize(("version", "minimum", "taken"), [(2, 2, True), (9, 2, True), (9, 3, False), (1, 1, False)])
def test_versions_are_negotiated(version: int, minimum: int, taken: bool) -> None:
    _, first, second, link, held = half_open()
    first.give(ev.MessageReceived(link, changed(held[0], version=version, min_version=minimum)))
    assert (second.name in first.neighbors()) is taken
    assert refused_with(first, link) == ([] if taken else ["version_unsupported"])


def test_a_hello_before_the_link_stands() -> None:
    stage, first, second, link, held = half_open()
    end = first.ends[link]
    stage.separate(first.name, second.name)  # and they try again, and gather, but nothing connects
    stage.advance(5)
    links = [made.id for made in first.node.neighbors.links() if made.peer == second.id]
    assert links
    assert end.link not in links
    first.give(ev.MessageReceived(links[0], held[0]))
    assert refused_with(first, links[0]) == ["hello_out_of_turn"]


def test_a_hello_twice_ends_the_link() -> None:
    stage, first, second, link, held = half_open()
    stage.tap = None
    first.give(ev.MessageReceived(link, held[0]))
    assert second.name in first.neighbors()
    first.give(ev.MessageReceived(link, held[0]))
    assert refused_with(first, link) == ["hello_out_of_turn"]


def test_garbage_on_a_link_that_is_up_ends_it() -> None:
    _, anna, bert, _ = members()
    link = anna.link_to(bert)
    anna.hear(bert, b"\xc1\xc1\xc1")
    assert refused_with(anna, link) == ["malformed"]
    assert anna.counters["messages_malformed"] == 1


def test_messages_of_a_later_version_are_ignored() -> None:
    _, anna, bert, _ = members()
    anna.hear(bert, b"\x92\xcc\xfa\xc0")
    assert anna.counters["messages_unknown"] == 1
    assert "bert" in anna.neighbors()


def test_messages_on_links_that_are_gone_are_ignored() -> None:
    _, anna, _, _ = members()
    for link in (0, 999):
        for event in (
            ev.MessageReceived(LinkId(link), b"\xc1"),
            ev.LinkConnected(LinkId(link), bytes(32), bytes(32)),
            ev.LinkClosed(LinkId(link), "ice_failed"),
            ev.SendBufferHigh(LinkId(link)),
            ev.SendBufferLow(LinkId(link)),
        ):
            assert anna.handle(event) == []
