"""Each invariant is worth something: a node that is broken in one way makes it, and it alone, speak up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import meshd.sim.stage as stage_module
from meshd.core import commands as cm
from meshd.core.delivery.inbox import Fate, Taken
from meshd.core.node import Node
from meshd.core.signaling.session import Purpose
from meshd.sim.invariants import AT_EVERY_STEP, AT_REST, NOW_AND_THEN, UNDISTURBED
from meshd.sim.limits import LIMITS
from meshd.sim.stage import Stage
from meshd.wire import messages as ms


def node_of(stage: Stage, index: int) -> Node:
    node = stage.network.machines[index].node
    assert node is not None
    return node


Break = Callable[[Any, str, Callable[..., Any]], None]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Give one object another method: ``made(genuine, *arguments)``. The other nodes behave."""

    def break_it(thing: Any, name: str, made: Callable[..., Any]) -> None:
        genuine = getattr(type(thing), name)

        def chosen(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self is thing:
                return made(lambda *a, **k: genuine(self, *a, **k), *args, **kwargs)
            return genuine(self, *args, **kwargs)

        monkeypatch.setattr(type(thing), name, chosen)

    return break_it


@pytest.fixture
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "STEPS_BETWEEN_CHECKS", 1)


def nothing(_genuine: Any, *_args: Any, **_kwargs: Any) -> None:
    """What a method does that is not there."""


def a_mesh(size: int = 3, seed: int = 1) -> Stage:
    stage = Stage(seed, size)
    stage.start()
    stage.found()
    stage.join_all(range(1, size))
    assert stage.rest()
    assert stage.violations == []
    stage.undisturbed = False
    return stage


def blamed(stage: Stage) -> set[str]:
    return {violation.invariant for violation in stage.violations}


def test_every_invariant_has_a_test_here() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    named = {check.__name__ for table in (AT_EVERY_STEP, NOW_AND_THEN, AT_REST, UNDISTURBED) for check in table}
    assert named <= tested


# -- at every step ----------------------------------------------------------------------------------------------------


def deaf_to_departures(node: Node, broken: Break) -> None:
    broken(node.departures, "forget", nothing)
    broken(node.neighbors, "dismiss", nothing)
    broken(node.neighbors, "on_closed", nothing)
    broken(node.liveness, "on_timer", nothing)
    broken(node.reconciliation, "on_timer", nothing)


def test_strangers_are_told_nothing(broken: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not care that somebody has left, and tells it the news, which that one is keen to hear."""
    monkeypatch.setattr(stage_module, "STEPS_BETWEEN_CHECKS", 1_000_000)  # what is said, not what is kept
    stage = a_mesh()
    deaf_to_departures(node_of(stage, 0), broken)
    broken(node_of(stage, 1).neighbors, "close", nothing)
    broken(node_of(stage, 1).liveness, "on_timer", nothing)
    broken(node_of(stage, 1).peering, "on_message", nothing)
    stage.network.ask(1, "mesh.leave")
    stage.wait(40.0)
    stage.network.forget_user_agent(2)  # that makes a new record
    stage.wait(5.0)
    assert blamed(stage) == {"strangers_are_told_nothing"}


def test_acknowledged_is_kept(broken: Break) -> None:
    """It acknowledges before the message is on its disk."""
    stage = a_mesh()
    broken(
        node_of(stage, 1).post,
        "send",
        lambda genuine, peer, message, priority=cm.Priority.CONTROL, ticket=None: genuine(peer, message, priority),
    )
    stage.network.ask(0, "messages.send", peer="n1", body=b"hi")
    assert stage.rest()
    assert blamed(stage) == {"acknowledged_is_kept"}


def test_acknowledged_is_kept_and_delivered_once(broken: Break) -> None:
    """It forgets what it has received, and the acknowledgement is lost on the way."""
    stage = a_mesh()
    inbox = node_of(stage, 1).inbox
    genuine_messages: list[Any] = []

    def forgetful(genuine: Any, peer: Any, message: Any) -> None:
        genuine_messages.append(message)
        inbox._received.clear()
        inbox._inbox.clear()
        genuine(peer, message)

    broken(inbox, "on_message", forgetful)
    broken(node_of(stage, 0).outbox, "on_acknowledged", nothing)
    stage.network.request(0, "messages.send", peer="n1", body=b"hi", wait=False)
    stage.until(lambda: len(genuine_messages) > 1)
    stage.wait(1.0)
    assert blamed(stage) == {"acknowledged_is_kept"}


def away(stage: Stage, index: int) -> None:
    """Switched off, missed, and written to by n0."""
    stage.kill(index)
    stage.wait(100.0)
    stage.network.request(0, "messages.send", peer=f"n{index}", body=b"hi", wait=False)


def without_waiting(
    genuine: Any, peer: Any, message: Any, priority: cm.Priority = cm.Priority.CONTROL, ticket: Any = None
) -> Any:
    """Said at once, whatever the disk owes."""
    return genuine(peer, message, priority)


def test_acknowledged_is_kept_where_a_keeper_brings_it(broken: Break) -> None:
    """It leaves a receipt before the message is on its disk."""
    stage = a_mesh()
    away(stage, 1)
    stage.wait(10.0)
    stage.kill(0)
    stage.start(1)
    broken(node_of(stage, 1).post, "send", without_waiting)
    stage.wait(200.0)
    assert blamed(stage) == {"acknowledged_is_kept"}


def test_nothing_before_its_disk_of_a_keeper(broken: Break) -> None:
    """It says that it keeps what is not on its disk yet."""
    stage = a_mesh()
    broken(node_of(stage, 2).post, "send", without_waiting)
    away(stage, 1)
    stage.wait(10.0)
    assert blamed(stage) == {"nothing_before_its_disk"}


def test_messages_have_arrived_that_keepers_have(broken: Break) -> None:
    """It hands over nothing."""
    stage = a_mesh()
    away(stage, 1)
    stage.wait(10.0)
    broken(node_of(stage, 2).keeping, "_begin", nothing)
    stage.kill(0)
    stage.start(1)
    stage.wait(200.0)
    broken(node_of(stage, 2).keeping, "on_withdrawn", nothing)
    stage.start(0)
    assert not stage.rest(60.0)
    assert blamed(stage) == {"messages_have_arrived"}


def test_nothing_before_its_disk(broken: Break) -> None:
    """It shows its record before the number is on its disk."""
    stage = a_mesh()

    def hasty(genuine: Any, ticket: Any, command: cm.Command) -> None:
        news = isinstance(command, cm.SendMessage) and isinstance(
            ms.decode_message(command.data, ms.LINK_MESSAGES), ms.Records | ms.News
        )
        genuine(None if news else ticket, command)

    broken(node_of(stage, 1)._ctx, "after", hasty)
    stage.network.forget_user_agent(1)
    stage.wait(5.0)
    assert blamed(stage) == {"nothing_before_its_disk"}


def test_a_number_used_twice_is_noticed(broken: Break) -> None:
    """It numbers its records anew after a restart."""
    stage = a_mesh()
    first = node_of(stage, 1).membership.own_record
    assert first is not None
    broken(node_of(stage, 1).membership, "_next_number", lambda genuine, row: first.number)
    stage.network.forget_user_agent(1)
    stage.wait(5.0)
    stage.kill(1)
    stage.network.start(1)
    stage.wait(5.0)
    assert blamed(stage) == {"nothing_before_its_disk"}


def test_tokens_are_used_up(broken: Break) -> None:
    """It lets everybody in with one token."""
    stage = Stage(1, 3)
    stage.start()
    stage.found()
    broken(node_of(stage, 0).bearers, "_why_not", nothing)
    token = stage.mint(0, uses=1)
    assert [stage.outcome(index, stage.join(index, token)) for index in (1, 2)] == [None, None]
    assert stage.rest()
    assert blamed(stage) == {"tokens_are_used_up"}


def test_pushes_are_rare(broken: Break) -> None:
    """It pushes though there is a way over others."""
    stage = a_mesh()
    stage.wait(60.0)
    broken(node_of(stage, 0).routing, "next_hop", nothing)
    stage.network.conditions.unconnectable = 1.0
    machine = stage.network.machines[0]
    link = node_of(stage, 0).neighbors.current(stage.network.machines[1].peer)
    assert link is not None
    stage.network.links.break_link(machine, link.id)
    stage.wait(30.0)
    assert blamed(stage) == {"pushes_are_rare"}


def test_joins_take_two_pushes(broken: Break) -> None:
    """It answers a joiner twice."""
    stage = Stage(1, 3)
    stage.start()
    stage.found()

    def doubly(genuine: Any, name: bytes, envelope: bytes, **how: Any) -> bool:
        genuine(name + b"again", envelope, **how)
        return bool(genuine(name, envelope, **how))

    broken(node_of(stage, 0).pushing, "send", doubly)
    broken(node_of(stage, 0).pushing._budget, "spaced_at", lambda _genuine, _account: 0.0)
    stage.join_all((1, 2))
    assert stage.rest()
    assert blamed(stage) == {"joins_take_two_pushes"}


# -- now and then -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("always_looking")
def test_neighbors_are_members(broken: Break) -> None:
    """It keeps the link to somebody who has left, but has nothing to say."""
    stage = a_mesh()
    deaf_to_departures(node_of(stage, 0), broken)
    stage.network.ask(1, "mesh.leave")
    stage.wait(40.0)
    assert blamed(stage) == {"neighbors_are_members"}


@pytest.mark.usefixtures("always_looking")
def test_links_are_few(broken: Break) -> None:
    """It opens one link after the other to the same peer."""
    stage = a_mesh()
    node, peer = node_of(stage, 0), stage.network.machines[1].peer

    def eager(_genuine: Any, *_request: Any) -> None:
        for _ in range(3):
            node.signaling.begin(peer, node.membership.mesh, Purpose.MEMBER, offerer=True)

    broken(node.pinging, "begin", eager)
    stage.network.request(0, "peers.ping", peer="n1")
    stage.wait(10.0)
    assert blamed(stage) == {"links_are_few"}


@pytest.mark.usefixtures("always_looking")
def test_containers_are_bounded() -> None:
    """It collects warnings without end."""
    stage = a_mesh()
    node_of(stage, 0).outlook.warnings.extend(["It rains."] * 20)
    stage.wait(5.0)
    assert blamed(stage) == {"containers_are_bounded"}


@pytest.mark.usefixtures("always_looking")
def test_containers_are_bounded_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new map comes without a limit."""
    stage = a_mesh()
    monkeypatch.delitem(LIMITS, "Post._sequences")
    stage.wait(5.0)
    assert blamed(stage) == {"containers_are_bounded"}


@pytest.mark.usefixtures("always_looking")
def test_requests_end(broken: Break) -> None:
    """It waits for an answer for ever."""
    stage = a_mesh()
    broken(node_of(stage, 0).pinging, "begin", nothing)
    stage.network.request(0, "peers.ping", peer="n1")
    stage.wait(660.0)
    assert blamed(stage) == {"requests_end"}


# -- at rest ----------------------------------------------------------------------------------------------------------


def test_all_know_all(broken: Break) -> None:
    """It takes no news."""
    stage = a_mesh()
    broken(node_of(stage, 2).membership, "accept", nothing)
    stage.network.forget_user_agent(1)
    stage.wait(5.0)
    assert not stage.rest(20.0)
    assert blamed(stage) == {"all_know_all"}


def test_mesh_is_full(broken: Break) -> None:
    """Neither of the two dials."""
    stage = a_mesh()
    for index in (0, 1):
        broken(node_of(stage, index).signaling, "dial", nothing)
    link = node_of(stage, 0).neighbors.current(stage.network.machines[1].peer)
    assert link is not None
    stage.network.links.break_link(stage.network.machines[0], link.id)
    assert not stage.rest(30.0)
    assert blamed(stage) == {"mesh_is_full"}


def test_ends_agree(broken: Break) -> None:
    """It forgets a link that it does not need any more, and does not close it."""
    stage = a_mesh()
    node = node_of(stage, 0)
    broken(node.outlook, "on_prepared", lambda genuine, event: setattr(node.outlook, "_scratch", None) or True)
    node.outlook.refresh()
    assert not stage.rest(20.0)
    assert blamed(stage) == {"ends_agree"}


def test_nothing_is_left_over(broken: Break) -> None:
    """It keeps an attempt that leads nowhere."""
    stage = a_mesh()
    node = node_of(stage, 0)
    broken(node.signaling, "end", nothing)
    node.signaling.begin(stage.network.machines[1].peer, node.membership.mesh, Purpose.JOIN, offerer=True)
    assert not stage.rest(60.0)
    assert blamed(stage) == {"nothing_is_left_over"}


def test_messages_have_arrived(broken: Break) -> None:
    """It takes messages and says nothing."""
    stage = a_mesh()
    broken(node_of(stage, 1).inbox, "take", lambda genuine, peer, message: Taken(Fate.ARRIVING))
    stage.network.request(0, "messages.send", peer="n1", body=b"hi", wait=False)
    assert not stage.rest(30.0)
    assert blamed(stage) == {"messages_have_arrived"}


def test_names_tell_apart(broken: Break) -> None:
    """It hides all but one of those who share a name."""
    stage = a_mesh()
    broken(node_of(stage, 0).membership, "named", lambda genuine, name: genuine(name)[:0])
    assert not stage.rest(20.0)
    assert blamed(stage) == {"names_tell_apart"}
