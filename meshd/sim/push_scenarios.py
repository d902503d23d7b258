"""Scenarios about who can call whom: keepers, grants kept for the absent, partitions, and push services that fail."""

from __future__ import annotations

from dataclasses import replace

from meshd.config import Config
from meshd.sim.scenarios import scenario
from meshd.sim.stage import Stage

# Policy
GRANTING = 2400.0  # seconds within which everybody's keepers have been given what they are to hold
CALLED = 900.0  # seconds within which somebody who is out of everybody's reach is found by push


def _with(**settings: object) -> Config:
    return replace(Config(), mesh=replace(Config().mesh, **settings))  # type: ignore[arg-type]


def _mesh(stage: Stage, *keepers: int) -> None:
    """Everybody in one mesh; the keepers hold what they are to."""
    for index in keepers:
        machine = stage.network.machines[index]
        machine.config = replace(machine.config, mesh=replace(machine.config.mesh, keeper="always"))
    stage.start()
    stage.found()
    stage.join_everybody()
    stage.rest()
    if keepers:
        stage.wait(GRANTING)


def _linked(stage: Stage, one: int, other: int) -> bool:
    node = stage.network.machines[one].node
    return node is not None and node.neighbors.current(stage.network.machines[other].peer) is not None


def _holds(stage: Stage, holder: int, owner: int) -> bool:
    node = stage.network.machines[holder].node
    return node is not None and node.grants.can_push(stage.network.machines[owner].peer)


def _pushes(stage: Stage) -> int:
    return stage.network.push.accepted


@scenario(4, config=_with(keeper="never"))
def neighbors_asleep(stage: Stage) -> None:
    """One loses its only neighbor, and holds nothing of anybody: a keeper pushes for one that could link with it."""
    stage.undisturbed = False
    away, only, keeper, friend = range(4)
    stage.network.apart |= {(away, keeper), (away, friend)}
    _mesh(stage, keeper)
    stage.expect(_holds(stage, keeper, away), "the keeper holds a capability of the one that will be alone")
    stage.kill(only, away, friend)
    machines = stage.network.machines
    machines[away].disk["grants"].clear()  # as of a backup from before
    machines[friend].disk["grants"].pop(machines[away].peer, None)
    stage.network.apart -= {(away, friend)}
    stage.start(away, friend)
    stage.expect(not _holds(stage, friend, away) and not _holds(stage, away, friend), "neither can push to the other")
    stage.expect(stage.until(lambda: _linked(stage, friend, away), CALLED), "the friend has found it")
    stage.wait(5.0)
    counted = [node.view().status["counters"] for _, node in stage.network.running()]
    stage.expect(any(counters.get("behalf_pushed") for counters in counted), "the keeper has pushed for the friend")
    stage.start(only)
    stage.rest(2400.0)


@scenario(4, config=_with(keeper="never"))
def both_changed_while_away(stage: Stage) -> None:
    """The subscriptions of two change while both are away; they are never there together with their common friend."""
    stage.undisturbed = False
    first, second, friend, keeper = 0, 1, 2, 3
    _mesh(stage, keeper)
    stage.kill(first, second)
    for index in (first, second):
        stage.network.push.forget_machine(index)
    stage.start(first)
    stage.expect(stage.until(lambda: _linked(stage, first, keeper), CALLED), "the first is back")
    stage.wait(GRANTING)
    stage.network.links.cut({first}, {second, friend, keeper})
    stage.wait(120.0)
    stage.start(second)
    stage.expect(stage.until(lambda: _linked(stage, second, keeper), CALLED), "the second is back")
    stage.wait(60.0)
    stage.expect(_holds(stage, second, first), "the second has been given what the first has left for it")
    stage.kill(friend, keeper)
    stage.network.links.heal()
    stage.expect(stage.until(lambda: _linked(stage, first, second), CALLED), "the two have found each other")
    stage.start(friend, keeper)
    stage.rest(2400.0)


@scenario(6)
def every_push_service_down(stage: Stage) -> None:
    """All push services fail for hours: a mesh that has links does not notice, not even when links break."""
    _mesh(stage)
    stage.undisturbed = False
    stage.network.set_push(down=True)
    before = _pushes(stage)
    for _ in range(8):
        machine = stage.network.machines[stage.dice.randrange(stage.size)]
        link = stage.dice.choice(list(machine.ends))
        stage.network.links.break_link(machine, link)
        stage.talk(8)
        stage.wait(stage.dice.uniform(60.0, 300.0))
        whole = stage.until(lambda: all(stage.neighbors(i) == stage.size - 1 for i in range(stage.size)), 60.0)
        stage.expect(whole, "all links are back within a minute")
    stage.wait(3600.0)
    stage.expect(_pushes(stage) == before, "nobody has pushed")
    stage.network.set_push(down=False)
    stage.rest()


@scenario(12)
def half_vanishes(stage: Stage) -> None:
    """Half of all vanish at once and stay away for hours: a few call a few of them; then all are back."""
    _mesh(stage)
    stage.undisturbed = False
    half = stage.size // 2
    stage.network.links.cut(set(range(half)), set(range(half, stage.size)))
    stage.wait(30.0)
    before = _pushes(stage)
    stage.wait(60.0)
    at_once = _pushes(stage) - before
    # Of each side 4 are called, by 3 each; before an answer comes, each offer is pushed up to three times.
    stage.expect(at_once <= 2 * 4 * 3 * 4, f"{at_once} pushes in the first minute")
    stage.wait(2 * 3600.0)
    in_all = _pushes(stage) - before
    # 3 to 5 call each of 6, each some 7 times in that time, and every call is answered.
    stage.expect(in_all <= 50 * stage.size, f"{in_all} pushes in two hours")
    stage.network.links.heal()
    stage.rest(4 * 3600.0)


@scenario(20, config=_with(max_full_mesh=4, keeper="never"))
def alone_in_a_big_mesh(stage: Stage) -> None:
    """In a mesh where nobody knows all, all neighbors of one are switched off: its keepers bring it back."""
    keepers, lonely = (2, 3, 4), stage.size - 1
    apart = {(keeper, lonely) for keeper in keepers}
    stage.network.apart |= apart
    _mesh(stage, *keepers)
    stage.undisturbed = False
    stage.network.apart -= apart
    asleep = [i for i in range(stage.size) if _linked(stage, lonely, i)]
    stage.kill(*asleep)
    stage.expect(stage.until(lambda: not stage.neighbors(lonely), 120.0), "it is alone")
    stage.expect(stage.until(lambda: bool(stage.neighbors(lonely)), CALLED), "it has been called")
    stage.start(*asleep)
    stage.rest(2400.0)
