"""Scenarios about links that outlive their paths."""

from __future__ import annotations

from meshd.ids import LinkId
from meshd.sim.machine import Machine
from meshd.sim.scenarios import scenario
from meshd.sim.stage import Stage

# Policy
LONG_ENOUGH = 25.0  # seconds until a link whose path is gone is up again over another: silence, offer, answer
SOON_ENOUGH = 4.4  # seconds; a missed heartbeat after 2.5 at most, some retries; silence would take 4.5
LONG_BY_PUSH = 60.0  # the same for two that nobody can tell of each other


def _mesh_with_stream(stage: Stage) -> tuple[Machine, LinkId]:
    """A mesh, and a byte stream from n0 to n1; where the stream runs."""
    stage.start()
    stage.found()
    stage.join_everybody()
    stage.rest()
    stage.network.request(1, "streams.accept", application="x", peer=None, descriptor=1, timeout=20.0)
    stage.network.request(0, "streams.open", application="x", peer="n1", descriptor=2, timeout=20.0)
    machine = stage.network.machines[0]
    stage.expect(stage.until(lambda: bool(machine.streams), 20.0), "a stream is open")
    (link, _), *_ = machine.streams
    return machine, link


def _is_up(machine: Machine, link: LinkId) -> bool:
    assert machine.node is not None
    return any(
        (current := machine.node.neighbors.current(peer)) is not None and current.id == link
        for peer in machine.node.neighbors.peers()
    )


def _counted(machine: Machine, name: str) -> int:
    assert machine.node is not None
    counters: dict[str, int] = machine.node.view().status["counters"]
    return counters.get(name, 0)


def _expect_same(stage: Stage, machine: Machine, link: LinkId) -> None:
    """The very same link carries the very same stream, and nothing is left of the attempts."""
    stage.talk(6)
    stage.rest()
    stage.expect(_is_up(machine, link), "the link goes on")
    stage.expect(bool(machine.streams), "the stream goes on")
    stage.expect(len(machine.ends) == stage.size - 1, f"n{machine.index} has {len(machine.ends)} links")
    stage.end_streams()
    stage.rest()


@scenario(3)
def path_lost(stage: Stage) -> None:
    """A NAT forgets a link; the two find each other another path over the third, before anybody is called silent."""
    machine, link = _mesh_with_stream(stage)
    others = [other for other in stage.network.machines if other is not machine]
    stage.undisturbed = False
    for number in range(1, 4):
        stage.network.links.lose_path(machine, link)
        stage.talk(6)
        resumed = stage.until(lambda n=number: _counted(machine, "links_resumed") == n, SOON_ENOUGH)  # type: ignore[misc]
        stage.expect(resumed and _is_up(machine, link), "the link is resumed")
    stage.rest()
    stage.expect(sum(_counted(other, "links_resumed") for other in others) == 3, "the other end says the same")
    for each in stage.network.machines:
        stage.expect(_counted(each, "links_opened") == 2, "no new links were made")
        stage.expect(not any(name == "link_down" for _, name, _ in each.notices), "nobody was ever called silent")
    _expect_same(stage, machine, link)


@scenario(3)
def path_lost_of_all(stage: Stage) -> None:
    """A machine loses the paths to all others at once: nobody can carry an offer, so the silence is waited for."""
    machine, link = _mesh_with_stream(stage)
    stage.undisturbed = False
    for lost in list(machine.ends):
        stage.network.links.lose_path(machine, lost)
    stage.talk(6)
    stage.expect(stage.until(lambda: not _is_up(machine, link), 10.0), "the silence is noticed")
    stage.expect(_counted(machine, "links_resumed") == 0, "there was no other way")
    stage.expect(stage.until(lambda: _is_up(machine, link), LONG_BY_PUSH), "the link is resumed")
    _expect_same(stage, machine, link)


@scenario(2)
def path_lost_of_two(stage: Stage) -> None:
    """The same where nobody else is there: the new path is found by push."""
    machine, link = _mesh_with_stream(stage)
    stage.undisturbed = False
    stage.network.links.lose_path(machine, link)
    stage.expect(stage.until(lambda: not _is_up(machine, link), 10.0), "the silence is noticed")
    stage.expect(stage.until(lambda: _is_up(machine, link), LONG_BY_PUSH), "the link is resumed")
    _expect_same(stage, machine, link)


@scenario(4)
def cable_pulled(stage: Stage) -> None:
    """A machine is off the network for a while, and everything is as before when it is back."""
    machine, link = _mesh_with_stream(stage)
    stage.undisturbed = False
    for seconds in (3.0, 15.0, 40.0):
        stage.network.links.cut({0}, set(range(1, stage.size)))
        stage.talk(6)
        stage.wait(seconds)
        stage.network.links.heal()
        stage.expect(stage.until(lambda: _is_up(machine, link), LONG_ENOUGH), f"up again after {seconds:g} s")
    _expect_same(stage, machine, link)


@scenario(3)
def restarted_while_called(stage: Stage) -> None:
    """Two daemons end and start again while offers for their former selves are on their way by push."""
    stage.start()
    stage.found()
    stage.join_everybody()
    stage.rest()
    stage.undisturbed = False
    stage.network.links.cut({0}, {1, 2})
    stage.wait(stage.dice.choice((3.0, 6.0, 15.0, 40.0)))
    stage.network.links.heal()
    stage.wait(stage.dice.uniform(0.0, 2.0))
    stage.kill(0, 1)
    stage.wait(stage.dice.uniform(0.0, 1.0))
    stage.start(0, 1)
    linked = stage.until(lambda: all(stage.neighbors(index) == 2 for index in range(3)), LONG_ENOUGH)
    stage.expect(linked, "all are linked again")
    stage.rest()


@scenario(3)
def silent_for_too_long(stage: Stage) -> None:
    """What is not heard for a minute is given up, with its streams; a link is made anew when the peer is back."""
    machine, link = _mesh_with_stream(stage)
    stage.undisturbed = False
    stage.network.links.cut({0}, {1, 2})
    stage.wait(200.0)
    stage.expect(machine.node is not None and not len(machine.node.streams), "the stream has ended")
    stage.network.links.heal()
    stage.rest(2400.0)
    stage.expect(not _is_up(machine, link), "the old link is not up")
