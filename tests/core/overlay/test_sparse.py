"""Links in a mesh that is too large for all: enough, not too many, and none given up that anybody needs."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from playbook import Player, Stage

from meshd.config import Config, MeshConfig
from meshd.core.overlay.degree import accepted_links, wanted_links
from meshd.core.overlay.sparse import OWN_CHOICE
from meshd.wire.messages import Goodbye

SMALL = replace(Config(), mesh=MeshConfig(max_full_mesh=4))


@given(st.integers(2, 100_000), st.integers(2, 128))
def test_a_mesh_is_full_or_wants_a_few_links_each(members: int, most: int) -> None:
    wanted, accepted = wanted_links(members, most), accepted_links(members, most)
    if members <= most:
        assert wanted == members - 1
    else:
        assert wanted <= 14
        assert accepted == 2 * wanted
    assert wanted_links(1000, 16) == 9
    assert wanted_links(10_000, 16) == 12


def crowd(count: int, seconds: float) -> list[Player]:
    names = [f"n{number:02}" for number in range(count)]
    stage = Stage(*names, config=SMALL)
    players = stage.mesh(seconds)
    return players


def degrees(players: list[Player]) -> list[int]:
    return [len(player.neighbors()) for player in players if player.alive]


def test_everybody_has_enough_links_and_nobody_too_many() -> None:
    players = crowd(20, 120.0)
    wanted = wanted_links(20, 4)
    assert all(wanted <= degree <= accepted_links(20, 4) for degree in degrees(players))
    assert sum(degrees(players)) / 20 <= wanted + 2.5
    for player in players:
        assert all(player.node.routing.next_hop(other.id) is not None for other in players if other is not player)
        assert len(player.node.sparse._chosen) >= OWN_CHOICE


def test_what_is_lost_is_replaced_at_once() -> None:
    players = crowd(20, 60.0)
    stage = players[0].stage
    for player in players[15:]:
        player.crash()
    stage.advance(20.0)
    wanted = wanted_links(20, 4)
    assert all(degree >= wanted for degree in degrees(players))
    living = players[:15]
    for player in living:
        assert all(player.node.routing.next_hop(other.id) is not None for other in living if other is not player)


def test_links_that_are_too_many_are_given_up_with_a_word() -> None:
    players = crowd(20, 120.0)
    said = [message.reason for player in players for message in player.sent(Goodbye)]
    assert set(said) <= {"surplus", "replaced"}
    assert sum(player.counters.get("links_shed", 0) for player in players) >= said.count("surplus") > 0


def test_the_timers_are_as_many_as_links_and_not_as_members() -> None:
    players = crowd(20, 60.0)
    for player in players:
        named = [key for key in player.node._ctx.timers._deadlines if key[0] == "dial"]
        assert not named
