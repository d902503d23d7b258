"""Scenarios about members that are revoked, and thieves that will not have it."""

from __future__ import annotations

from meshd.core.node import Node
from meshd.ids import text_of
from meshd.sim.network import EPOCH
from meshd.sim.scenarios import scenario
from meshd.sim.stage import MESH_KEY, Stage
from meshd.sim.theft import DatingBack, Deaf

# Policy
AT_ONCE = 5.0  # seconds until everybody who is there has dropped whoever was revoked
AFTER_HEALING = 900.0  # the same for those that were cut off: until they have a link again


def _node(stage: Stage, index: int) -> Node:
    node = stage.network.machines[index].node
    assert node is not None
    return node


def _deafen(stage: Stage, index: int) -> None:
    _node(stage, index).revoking.__class__ = Deaf


def _dropped(stage: Stage, by: list[int], whom: list[int]) -> bool:
    """Whether these are neither members nor neighbors for those."""
    peers = [stage.network.machines[index].peer for index in whom]
    nodes = [node for machine, node in stage.network.running() if machine.index in by]
    return not any(
        node.membership.is_member(peer) or node.neighbors.current(peer) is not None for node in nodes for peer in peers
    )


def _revoke(stage: Stage, admin: int, index: int, since: float | None = None) -> None:
    name = text_of(stage.network.machines[index].peer)
    stage.network.ask(admin, "members.revoke", peer=name, since=since)


@scenario(8)
def two_revocations(stage: Stage) -> None:
    """Two admins each revoke a member of the other half while the network is cut; one member is away meanwhile."""
    stage.start()
    stage.found()
    stage.join_everybody()
    stage.rest()
    stage.network.ask(0, "admins.appoint", peer="n1", mesh_key=MESH_KEY)
    stage.rest()
    stage.undisturbed = False
    stage.kill(6)
    stage.network.links.cut({0, 2, 4, 6}, {1, 3, 5, 7})
    stage.wait(stage.dice.uniform(0.0, 60.0))
    _revoke(stage, 0, 3)
    _revoke(stage, 1, 2)
    stage.expect(stage.until(lambda: _dropped(stage, [0, 4], [3]), AT_ONCE), "n3 is dropped by one half at once")
    stage.expect(stage.until(lambda: _dropped(stage, [1, 5, 7], [2]), AT_ONCE), "n2 is dropped by the other at once")
    if stage.dice.random() < 0.5:
        stage.kill(4)
        stage.start(4)
    stage.talk(6)
    stage.network.links.heal()
    stage.start(6)
    stay = [0, 1, 4, 5, 6, 7]
    stage.expect(stage.until(lambda: _dropped(stage, stay, [2, 3]), AFTER_HEALING), "all have dropped both")
    stage.until(lambda: not stage.is_member(2) and not stage.is_member(3), AFTER_HEALING)
    stage.kill(*[index for index in (2, 3) if stage.is_member(index)])  # that never met anybody who could tell
    stage.rest(2400.0)
    counts = [len(node.revocations) for machine, node in stage.network.running() if machine.index in stay]
    stage.expect(counts == [2] * 6, f"all know both revocations: {counts}")
    stage.expect(all(len(_node(stage, index).membership) == 6 for index in stay), "all others are in one mesh")


@scenario(8)
def thief_dates_back(stage: Stage) -> None:
    """A stolen introducer admits accomplices and dates that back; the admin's daemon renews them; all fall together.

    Its daemon, and theirs, take no notice of the revocation.
    """
    stage.start()
    stage.found()
    stage.join_all((1,))
    stage.join_all((2, 3), introducer=1)
    stage.join_all((4, 5))
    stage.rest()
    stage.wait(600.0)
    stolen = EPOCH + stage.network.now
    stage.undisturbed = False
    _node(stage, 1).admitting.__class__ = DatingBack
    stage.join_all((6, 7), introducer=1)
    stage.wait(60.0)
    for index in (1, 6, 7):
        _deafen(stage, index)
    _revoke(stage, 0, 1, since=stolen)
    honest, thieves = [0, 2, 3, 4, 5], [1, 6, 7]
    stage.expect(stage.until(lambda: _dropped(stage, honest, thieves), AT_ONCE), "the thief and its friends are out")
    stage.talk(8)
    stage.wait(stage.dice.uniform(300.0, 1200.0))
    stage.expect(_dropped(stage, honest, thieves), "and stay out, whatever they try")
    stage.kill(3)
    stage.start(3)
    stage.wait(120.0)
    stage.expect(_dropped(stage, honest, thieves), "also of one that has started again")
    stage.kill(*thieves)
    stage.rest(2400.0)
    direct = [len(_node(stage, index).membership.chain) for index in (2, 3)]
    stage.expect(direct == [2, 2], f"whom it admitted before hang on the admin now: {direct}")
