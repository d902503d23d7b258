"""Many revocations at once: sent in parts, at the pace of the link, and no oftener than a neighbor may ask."""

from __future__ import annotations

import hashlib

from playbook import Player, Stage
from theft import DAY, KEY, four, mesh_of

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.membership.revocation_outbox import ASKED_BURST, ASKED_RATE, PACE_BURST, PACE_RATE
from meshd.core.membership.revocations import MAX_REVOCATIONS
from meshd.crypto.revocation import MAX_KEPT, MAX_REVOCATION_SIZE, Revocation, Scope, revoke
from meshd.ids import PeerId
from meshd.wire.messages import Revocations, RevocationsKnown, encode_message
from meshd.wire.revoking import MAX_REVOCATIONS_SENT

KEPT = tuple(number.to_bytes(16, "big") for number in range(MAX_KEPT))  # as many as fit: the largest there is
HALF_AN_OUTBOX = 2_097_152  # bytes that a link's outbox takes before it says that it is high


def by_the_mesh_key(stage: Stage, number: int, kept: tuple[bytes, ...] = KEPT) -> Revocation:
    now = int(stage.unix)
    suite = stage["anna"].suite
    return revoke(
        lambda message: suite.sign_with(KEY, message),
        mesh_of(stage),
        mesh_of(stage),
        subject=PeerId(hashlib.sha256(b"%d" % number).digest()),
        scope=Scope.MEMBER,
        name="gone",
        issued=now,
        expires=now + DAY,
        void_from=now,
        kept=kept,
    )


def with_many(count: int) -> tuple[Stage, Player, Player]:
    """carl has them on its disk from before; dora asks."""
    stage, _anna, _bert, carl, dora = four()
    for number in range(count):
        assert carl.node.revocations.take(by_the_mesh_key(stage, number).encoded)
    carl.give(ev.TimerFired())
    return stage, carl, dora


def parts_to(player: Player, other: Player) -> list[int]:
    """How many bytes each part has taken."""
    link = player.link_to(other)
    sent = [command for command in player.did(cm.SendMessage) if command.link == link]
    return [len(command.data) for command in sent if isinstance(player.stage.decode(command.data), Revocations)]


def test_all_that_can_be_kept_does_not_overflow_a_link() -> None:
    assert PACE_BURST * MAX_REVOCATIONS_SENT * MAX_REVOCATION_SIZE < HALF_AN_OUTBOX
    assert ASKED_BURST * MAX_REVOCATIONS_SENT > 2 * MAX_REVOCATIONS
    stage, carl, dora = with_many(200)
    carl.hear(dora, RevocationsKnown(b""))
    at_once = parts_to(carl, dora)
    assert len(at_once) == PACE_BURST
    assert sum(at_once) > 300_000
    stage.advance(1)
    assert len(parts_to(carl, dora)) <= PACE_BURST + PACE_RATE + 1
    stage.advance(2)
    assert len(dora.node.revocations) == 200
    assert "carl" in dora.neighbors()
    before = len(parts_to(carl, dora))
    carl.hear(dora, RevocationsKnown(dora.node.revocations.digests()))
    stage.advance(5)
    assert len(parts_to(carl, dora)) == before


def test_who_asks_again_and_again_gets_a_trickle() -> None:
    stage, carl, dora = with_many(64)
    for _ in range(300):
        carl.hear(dora, RevocationsKnown(b""))
        stage.advance(2)
    assert len(parts_to(carl, dora)) <= ASKED_BURST + 600 * ASKED_RATE + 1
    assert "dora" in carl.neighbors()


def test_a_link_that_is_full_is_left_alone_until_it_has_drained() -> None:
    stage, carl, dora = with_many(40)
    link = carl.link_to(dora)
    carl.give(ev.SendBufferHigh(link))
    carl.hear(dora, RevocationsKnown(b""))
    stage.advance(5)
    assert not parts_to(carl, dora)
    carl.give(ev.SendBufferLow(link))
    stage.advance(1)
    assert len(dora.node.revocations) == 40


def test_news_goes_before_what_is_owed() -> None:
    stage, carl, dora = with_many(200)
    carl.hear(dora, RevocationsKnown(b""))
    news = by_the_mesh_key(stage, 1000, ())
    carl.hear(stage["anna"], Revocations((news.encoded,)))
    before = len(parts_to(carl, dora))
    stage.advance(0.2)
    part = [message for message in carl.sent(Revocations) if news.encoded in message.revocations]
    assert part
    assert len(parts_to(carl, dora)) <= before + 3
    assert encode_message(part[-1])


def test_nothing_is_owed_to_who_has_gone() -> None:
    stage, carl, dora = with_many(200)
    link = carl.link_to(dora)
    carl.hear(dora, RevocationsKnown(b""))
    stage.separate("carl", "dora")
    dora.crash()
    sent = [command.link for command in carl.did(cm.SendMessage)].count(link)
    stage.advance(10)
    assert [command.link for command in carl.did(cm.SendMessage)].count(link) == sent
    stage.cut.clear()
    dora.start()
    stage.advance(60)
    assert len(dora.node.revocations) == 200


def test_what_a_neighbor_brings_is_not_sent_to_it() -> None:
    stage, carl, dora = with_many(200)
    carl.hear(dora, RevocationsKnown(b""))
    data = [carl.node.revocations.encoded(digest) or b"" for digest in carl.node.revocations.held()]
    for start in range(0, len(data), MAX_REVOCATIONS_SENT):
        carl.hear(dora, Revocations(tuple(data[start : start + MAX_REVOCATIONS_SENT])))
    before = len(parts_to(carl, dora))
    stage.advance(5)
    assert len(parts_to(carl, dora)) == before
