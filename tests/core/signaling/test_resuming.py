"""A new path for a link whose own does not answer: when it is looked for, and that the link stays the one it is."""

from __future__ import annotations

import pytest
from playbook import Player, Stage, in_order

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.signaling.resuming import POLITE_DELAY
from meshd.wire.messages import LINK_MESSAGES, Forward, decode_message

ELAPSED = 0.7


class Trio:
    """Two neighbors whose path is gone, and one that both reach. ``one`` has the smaller id of the two."""

    def __init__(self, *names: str) -> None:
        self.stage = Stage(*names)
        self.stage.mesh(20.0)
        self.one, self.other = in_order(self.stage["anna"], self.stage["bert"])
        self.links = {player: player.link_to(peer) for player, peer in self.ends}
        self.envelopes = 0  # that went by the path that is gone
        for player, _ in self.ends:
            player.log.clear()
        self.before = {player: dict(player.counters) for player, _ in self.ends}
        self.stage.tap = self._pass

    @property
    def ends(self) -> tuple[tuple[Player, Player], tuple[Player, Player]]:
        return (self.one, self.other), (self.other, self.one)

    def _pass(self, sender: Player, receiver: Player, data: bytes) -> bytes | None:
        if {sender, receiver} != {self.one, self.other}:
            return data
        if all(self.gained(player, "links_resumed") for player, _ in self.ends):
            return data
        self.envelopes += isinstance(decode_message(data, LINK_MESSAGES), Forward)
        return None

    def gained(self, player: Player, name: str) -> int:
        return player.counters.get(name, 0) - self.before[player].get(name, 0)

    def offered(self) -> int:
        return sum(self.gained(player, "sessions_offered") for player, _ in self.ends)

    def doubt(self, player: Player, elapsed: float = ELAPSED) -> None:
        player.give(ev.ProbeFailed(self.links[player], elapsed))

    def expect_resumed(self) -> None:
        for player, peer in self.ends:
            assert player.link_to(peer) == self.links[player], "the very same link"
            assert self.gained(player, "links_resumed") == 1
            assert not player.notices("link_down")
            assert [link.id for link in player.node.neighbors.links() if link.peer == peer.id] == [self.links[player]]
            assert not player.node.signaling.sessions()
        assert self.envelopes == 0, "an offer would wait there for the path that it is to replace"


def three() -> Trio:
    return Trio("carl", "anna", "bert")


def test_when_both_ends_find_out_one_of_them_offers() -> None:
    trio = three()
    trio.stage.advance(1.0)
    for player, _ in reversed(trio.ends):
        trio.doubt(player)
    trio.stage.advance(0.1)
    trio.expect_resumed()
    assert trio.offered() == 1
    assert trio.gained(trio.one, "links_doubted") == 1
    trio.stage.advance(30.0)
    trio.expect_resumed()
    assert trio.offered() == 1


def test_if_the_larger_id_alone_finds_out_it_offers_a_little_later() -> None:
    trio = three()
    trio.stage.advance(1.0)
    trio.doubt(trio.other)
    trio.stage.advance(0.9 * POLITE_DELAY)
    assert trio.offered() == 0
    trio.stage.advance(0.2 * POLITE_DELAY)
    trio.expect_resumed()


def test_both_at_the_very_same_moment_end_with_the_same_link() -> None:
    """The larger's time is over when the smaller's probing fails."""
    trio = three()
    trio.stage.advance(1.0)
    trio.doubt(trio.other)
    trio.stage.advance(POLITE_DELAY - 0.001)
    commands = trio.one.handle(ev.ProbeFailed(trio.links[trio.one], ELAPSED))
    commands += trio.one.handle(ev.TimerFired())
    trio.stage.mono += 0.001
    commands_of_other = trio.other.handle(ev.TimerFired())
    for player, its in ((trio.one, commands), (trio.other, commands_of_other)):
        assert any(isinstance(command, cm.PrepareLink) for command in its)
        for command in its:
            trio.stage.do(player, command)
    trio.stage.advance(5.0)
    trio.expect_resumed()


@pytest.mark.parametrize("elapsed", [0.0, 0.05])
def test_on_a_slow_path_no_answer_can_be_there_yet(elapsed: float) -> None:
    trio = three()
    trio.stage.advance(1.0)
    trio.doubt(trio.one, elapsed)
    trio.stage.advance(0.5)
    assert trio.offered() == 0


def test_who_has_just_been_heard_is_not_doubted() -> None:
    trio = three()
    trio.stage.tap = None
    trio.stage.advance(1.0)
    link = trio.one.node.neighbors.current(trio.other.id)
    assert link is not None
    link.pulse.hear(trio.stage.mono)
    trio.doubt(trio.one)
    trio.stage.advance(0.5)
    assert trio.offered() == 0


def test_who_is_heard_in_the_meantime_is_not_offered_a_path() -> None:
    trio = three()
    trio.stage.advance(1.0)
    trio.doubt(trio.other)
    trio.stage.tap = None
    link = trio.other.node.neighbors.current(trio.one.id)
    assert link is not None
    link.pulse.hear(trio.stage.mono + 0.9 * POLITE_DELAY)
    trio.stage.advance(2 * POLITE_DELAY)
    assert trio.offered() == 0


def test_where_nobody_can_carry_the_offer_silence_is_waited_for() -> None:
    pair = Trio("anna", "bert")
    pair.stage.advance(1.0)
    pushes = len(pair.stage.pushes)
    for player, _ in pair.ends:
        pair.doubt(player)
    pair.stage.advance(3.0)
    assert pair.offered() == 0
    assert len(pair.stage.pushes) == pushes
    assert not pair.one.notices("link_down")


def test_a_link_that_is_gone_or_not_up_yet_is_not_doubted() -> None:
    trio = three()
    trio.stage.advance(1.0)
    trio.one.give(ev.ProbeFailed(trio.links[trio.one] + 100, ELAPSED))  # type: ignore[arg-type]
    trio.one.node.neighbors.give_up(trio.one.node.neighbors.links()[-1])
    trio.stage.advance(0.05)
    assert trio.gained(trio.one, "links_doubted") == 0
