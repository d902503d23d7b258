"""Scenarios about messages for members that are away: they arrive once, whatever becomes of those that keep them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from meshd.config import Config
from meshd.core.delivery.keeping import Keeping
from meshd.core.delivery.kept_rows import key_of
from meshd.ids import PeerId, text_of
from meshd.sim.machine import Machine
from meshd.sim.scenarios import scenario
from meshd.sim.stage import Stage
from meshd.wire.messages import DepositKept, DepositWithdrawn, KeptTaken, MessageDeposit, MessageKept

# Policy
MISSED = 120.0  # seconds until everybody has noticed that somebody is gone
BACK = 300.0  # seconds until somebody who comes back has a link
TALK = 40.0  # seconds that two need to have each other's messages taken or brought
LATE = 2400.0  # seconds until a keeper that was not answered has tried again
NEVER = replace(Config(), mesh=replace(Config().mesh, keeper="never"))


class _Dropping(Keeping):
    """It says that it keeps what it is given, and keeps nothing."""

    __slots__ = ()

    def on_deposit(self, sender: PeerId, message: MessageDeposit) -> None:
        """See ``Keeping``."""
        self._post.send(sender, DepositKept(message.recipient, message.message))


class _Replaying(Keeping):
    """It forgets nothing, and brings everything again and again."""

    __slots__ = ()

    def on_taken(self, recipient: PeerId, message: KeptTaken) -> None:
        """See ``Keeping``."""
        row = self._kept.get(key_of(message.sender, recipient, message.message))
        if row is not None and self._ctx.rng.random() < 0.8:
            self._post.send(recipient, MessageKept(message.sender, message.message, row.sealed))

    def on_withdrawn(self, sender: PeerId, message: DepositWithdrawn) -> None:
        """See ``Keeping``."""


class _Letters:
    """What has been written and is to arrive: each once."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._written: dict[bytes, int] = {}

    def write(self, sender: int, receiver: int, count: int = 1) -> None:
        """Somebody writes, and nobody waits."""
        for _ in range(count):
            body = b"%d to %d: %d" % (sender, receiver, len(self._written))
            peer = text_of(self._machine(receiver).peer)
            self._stage.network.ask(sender, "messages.send", peer=peer, body=body, wait=False)
            self._written[body] = receiver

    def expect_all(self) -> None:
        """All there, and each once."""
        machines = self._stage.network.machines
        came = Counter((machine.index, message["body"]) for machine in machines for message in machine.delivered)
        lost = [body for body, receiver in self._written.items() if not came[receiver, body]]
        twice = [body for (_, body), count in came.items() if count > 1 and body in self._written]
        self._stage.expect(not lost, f"{len(lost)} of {len(self._written)} messages have not come: {lost[:3]}")
        self._stage.expect(not twice, f"messages came twice: {twice[:3]}")

    def expect_acknowledged(self, *senders: int) -> None:
        """They know it."""
        for index in senders:
            node = self._machine(index).node
            waiting = 0 if node is None else len(node.view().outbox)
            self._stage.expect(not waiting, f"n{index} does not know of {waiting} messages that they have come")

    def _machine(self, index: int) -> Machine:
        return self._stage.network.machines[index]


def _mesh(stage: Stage, *keepers: int) -> _Letters:
    for index in keepers:
        machine = stage.network.machines[index]
        machine.config = replace(machine.config, mesh=replace(machine.config.mesh, keeper="always"))
    stage.start()
    stage.found()
    stage.join_everybody()
    stage.rest()
    stage.undisturbed = False
    return _Letters(stage)


def _off(stage: Stage, *indices: int) -> None:
    stage.kill(*indices)
    stage.wait(MISSED)


def _on(stage: Stage, *indices: int) -> None:
    stage.start(*indices)
    for index in indices:
        stage.expect(stage.until(lambda index=index: stage.neighbors(index) > 0, BACK), f"n{index} is back")  # type: ignore[misc]


def _false(stage: Stage, index: int, behaviour: type[Keeping]) -> None:
    node = stage.network.machines[index].node
    assert node is not None
    node.keeping.__class__ = behaviour


@scenario(3, config=NEVER)
def never_awake_together(stage: Stage) -> None:
    """Two laptops that are never there at the same time write to each other, by way of the third machine."""
    letters = _mesh(stage, 2)
    awake, asleep = 0, 1
    _off(stage, asleep)
    for turn in range(5):
        letters.write(awake, asleep, 1 + stage.dice.randrange(5))
        stage.wait(stage.dice.uniform(TALK, 3 * TALK))
        _off(stage, awake)
        stage.wait(stage.dice.uniform(0.0, 12 * 3600.0) if turn % 2 else 0.0)
        awake, asleep = asleep, awake
        _on(stage, awake)
        stage.wait(TALK)
    _off(stage, awake)
    _on(stage, asleep)
    stage.wait(TALK)
    letters.expect_all()
    letters.expect_acknowledged(asleep)
    _on(stage, awake)
    stage.rest(LATE)
    letters.expect_acknowledged(0, 1)


@scenario(3)
def small_mesh_without_keepers(stage: Stage) -> None:
    """Three machines, none of them always up: the one that is there keeps what two others write to each other."""
    letters = _mesh(stage)
    _off(stage, 1)
    letters.write(0, 1, 3)
    stage.wait(TALK)
    _off(stage, 0)
    _off(stage, 2)  # nobody is there
    stage.start(2)
    _on(stage, 1)
    stage.wait(TALK)
    letters.expect_all()
    _off(stage, 1)
    _on(stage, 0)
    stage.wait(TALK)
    letters.expect_acknowledged(0)
    _on(stage, 1)
    stage.rest(LATE)


@scenario(4, config=NEVER)
def keepers_crash(stage: Stage) -> None:
    """Both keepers lose power again and again, at any moment, while two write to each other through them."""
    letters = _mesh(stage, 2, 3)
    awake, asleep = 0, 1
    _off(stage, asleep)
    for _ in range(4):
        for _ in range(3):
            letters.write(awake, asleep, 1 + stage.dice.randrange(3))
            stage.wait(stage.dice.uniform(0.0, 6.0))
            victim = stage.dice.choice((2, 3))
            stage.kill(victim)
            stage.wait(stage.dice.uniform(0.0, 30.0))
            _on(stage, victim)
        stage.wait(TALK)
        _off(stage, awake)
        awake, asleep = asleep, awake
        stage.start(awake)
        stage.wait(stage.dice.uniform(0.0, 8.0))
        stage.kill(stage.dice.choice((awake, 2, 3)))
        stage.wait(stage.dice.uniform(0.0, 30.0))
        _on(stage, *(i for i in (awake, 2, 3) if stage.network.machines[i].node is None))
        stage.wait(TALK)
    _on(stage, asleep)
    stage.rest(LATE)
    letters.expect_all()
    letters.expect_acknowledged(0, 1)


@scenario(4, config=NEVER)
def keepers_disk_full(stage: Stage) -> None:
    """One keeper's disk is full, later the other's: what cannot be kept is refused, and what is kept arrives."""
    letters = _mesh(stage, 2, 3)
    _off(stage, 1)
    for full, free in ((2, 3), (3, 2)):
        stage.network.machines[full].store_fails = True
        stage.network.machines[free].store_fails = False
        stage.wait(60.0)
        letters.write(0, 1, 5)
        stage.wait(3 * TALK)
    stage.network.machines[3].store_fails = False
    _off(stage, 0)
    _on(stage, 1)
    stage.wait(TALK)
    letters.expect_all()
    _on(stage, 0)
    stage.rest(LATE)
    letters.expect_acknowledged(0)


@scenario(5, config=NEVER)
def false_keepers(stage: Stage) -> None:
    """Of three keepers one drops everything and says that it has it, one plays everything again and again."""
    letters = _mesh(stage, 2, 3, 4)
    _false(stage, 2, _Dropping)
    _false(stage, 3, _Replaying)
    awake, asleep = 0, 1
    _off(stage, asleep)
    for _ in range(4):
        letters.write(awake, asleep, 3)
        stage.wait(TALK)
        _off(stage, awake)
        awake, asleep = asleep, awake
        _on(stage, awake)
        stage.wait(2 * TALK)
    _off(stage, awake)
    _on(stage, asleep)
    stage.wait(TALK)
    letters.expect_all()
    letters.expect_acknowledged(asleep)
    _on(stage, awake)
    stage.rest(LATE)
    letters.expect_all()


@scenario(4, config=NEVER)
def revoked_while_kept(stage: Stage) -> None:
    """A member is revoked while keepers have messages of its, and messages for it: none of them arrives."""
    letters = _mesh(stage, 2)
    admin, away, thief = 0, 1, 3
    _off(stage, away)
    before = len(stage.network.machines[away].delivered)
    _Letters(stage).write(thief, away, 3)
    letters.write(admin, away, 2)
    stage.wait(TALK)
    stage.network.ask(admin, "members.revoke", peer=text_of(stage.network.machines[thief].peer))
    stage.wait(60.0)
    stage.kill(thief)
    _off(stage, admin)
    _on(stage, away)
    stage.wait(2 * TALK)
    letters.expect_all()
    came = len(stage.network.machines[away].delivered) - before
    stage.expect(came == 2, f"{came} messages came, two of them from a member")
    _on(stage, admin)
    stage.rest(LATE)
    letters.expect_acknowledged(admin)
