"""Each invariant of the large scenarios is worth something: a node broken in one way makes it, and it alone, speak."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from meshd.core import commands as cm
from meshd.core.node import Node
from meshd.sim.scale.guard import CHECKS, LOOKED_INTO
from meshd.sim.scale.malice import Malicious
from meshd.sim.scale.play import Play
from meshd.sim.scale.script import parse

SCRIPT = """
[scenario]
title = "to be broken"
nodes = 6
[world]
nat = "none"
[[phases]]
do = "settle"
seconds = 30
"""
assert LOOKED_INTO >= 6  # all of them, at each look


def a_mesh() -> Play:
    play = Play(parse(SCRIPT, "broken.toml"))
    play.run()
    assert play.guard.violations == []
    return play


def node_of(play: Play, index: int) -> Node:
    return play.mesh.node(index)


def later(play: Play, seconds: float = 20.0) -> set[str]:
    """Let time pass and look: the names of what is violated."""
    play.wait(seconds)
    return {violation.invariant for violation in play.guard.violations}


def test_every_invariant_has_a_test_here() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {check.__name__ for check in CHECKS} <= tested


def tampering(play: Play, index: int, change: Callable[[cm.Command], list[cm.Command]]) -> None:
    play.network.machines[index].tamper = lambda _event, commands: [
        made for command in commands for made in change(command)
    ]


def test_deliveries_are_genuine() -> None:
    """It delivers what comes twice."""
    play = a_mesh()
    for index in range(6):
        tampering(play, index, lambda c: [c, c] if isinstance(c, cm.DeliverMessage) else [c])
    play.traffic.write()
    assert later(play) == {"deliveries_are_genuine"}
    assert "again" in play.guard.violations[0].what


def test_deliveries_are_genuine_and_nobody_is_impersonated() -> None:
    """It believes the sender's name that another has written on it."""
    play = a_mesh()
    other = play.network.machines[5].peer

    def misled(command: cm.Command) -> list[cm.Command]:
        if isinstance(command, cm.DeliverMessage):
            return [cm.DeliverMessage({**command.message, "peer_id": other})]
        return [command]

    for index in range(5):
        tampering(play, index, misled)
    for _ in range(8):
        play.traffic.write()
    assert later(play) == {"deliveries_are_genuine"}
    assert play.traffic.impersonations > 0


def test_capabilities_end() -> None:
    """It pushes with what has run out."""
    play = a_mesh()

    def stale(command: cm.Command) -> list[cm.Command]:
        if isinstance(command, cm.SendPush):
            key, exp, signature, subject = command.authorization.split(" ", 3)
            return [replace(command, authorization=f"{key} {int(exp) - 200_000} {signature} {subject}")]
        return [command]

    tampering(play, 0, stale)
    play.network.request(0, "push.test")
    assert later(play) == {"capabilities_end"}


def test_queues_are_bounded() -> None:
    """It collects warnings without end."""
    play = a_mesh()
    node_of(play, 3).outlook.warnings.extend(["It rains."] * 20)
    assert later(play, 6.0) == {"queues_are_bounded"}
    assert "n3" in play.guard.violations[0].what
    assert play.guard.violations[0].story


def test_members_are_admitted() -> None:
    """One that may introduce others is stolen, and invents a member."""
    play = a_mesh()
    member = Malicious(play.mesh, 5, ("forge",), play.guard.dice)
    for _ in range(5):
        member.act()
    assert later(play) == {"members_are_admitted"}
    assert "invented" in play.guard.violations[0].what


def test_the_living_are_connected() -> None:
    """One has lost all its links and does not look for new ones."""
    play = a_mesh()
    machine = play.network.machines[4]
    machine.tamper = lambda _event, _commands: []
    for link in list(machine.ends):
        play.network.links.close(machine, link)
    assert later(play, 90.0) == {"the_living_are_connected"}
    assert "n4" in play.guard.violations[0].what


def test_who_may_not_introduce_gets_nobody_in_and_speaks_in_nobodys_name() -> None:
    phase = '[[phases]]\ndo = "malice"\nshare = 0.2\ndeeds = ["forge", "lie", "replay", "flood"]\nseconds = 60'
    play = Play(parse(SCRIPT + phase, "malice.toml"))
    play.run()
    assert len(play.mesh.malicious) == 1
    assert play.guard.violations == []
    assert play.traffic.impersonations == play.guard.intruders == 0
    counters = [play.mesh.node(i).view().status["counters"] for i in play.mesh.honest()]
    assert any(counter.get("records_rejected") for counter in counters)


def test_a_look_does_not_change_what_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    first = a_mesh()
    monkeypatch.setattr("meshd.sim.scale.play.LOOK_INTERVAL", 1.0)
    assert a_mesh().network.trace() == first.network.trace()
