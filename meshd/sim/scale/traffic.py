"""What people do in a scenario, and what comes of it: messages between random pairs, and broadcasts.

A broadcast is what every version has: a member renews its keys, so that its new record has to reach everybody. What
counts as a copy is a message on a link that contains the record's bytes, whatever its kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.ids import PeerId, text_of
from meshd.sim.machine import Machine
from meshd.sim.scale.mesh import Mesh

# Policy
MAGIC = b"\0meshd.sim\0"  # how every body begins that is written here: nothing hides it from who looks on
NUMBER_SIZE = 8
PATIENCE = 30.0  # seconds within which a message or a broadcast has to be there
SETTLED = 30.0  # seconds after which everybody has heard of a new member
FORGED = b"\1forged"  # how what malicious members invent begins


@dataclass(slots=True)
class Letter:
    """One message. ``boots``: of sender and receiver when it was written."""

    sender: int
    receiver: int
    written: float
    boots: tuple[int, int]
    arrived: float | None = None
    crossings: int = 0


@dataclass(slots=True)
class Broadcast:
    """One member's new record. ``payload`` is empty until it has written it down."""

    origin: int
    begun: float
    payload: bytes = b""
    copies: int = 0
    reached: set[int] = field(default_factory=set)
    boots: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Tally:
    """Sums of what has been judged: ``counted`` of the pairs that lived through it."""

    counted: int = 0
    arrived: int = 0
    late: int = 0
    crossings: int = 0
    delays: list[float] = field(default_factory=list)


class Traffic:
    """Writes, watches, judges."""

    def __init__(self, mesh: Mesh, size: int, dice: Random) -> None:
        self._mesh = mesh
        self._size = size
        self._dice = dice
        self._number = 0
        self._open: dict[int, Letter] = {}
        self._answered: set[int] = set()
        self._broadcasts: list[Broadcast] = []
        self.letters = Tally()
        self.broadcasts = Tally()
        self.copies = 0  # of the payloads of broadcasts, all together
        self.lost: list[Letter] = []  # the first few that did not arrive
        self.wrong: list[str] = []  # deliveries that should not have been; whoever looks takes them out
        self.impersonations = 0

    # -- acting -------------------------------------------------------------------------------------------------------

    def _settled(self) -> list[int]:
        mesh, now = self._mesh, self._mesh.network.now
        return [index for index in mesh.honest() if mesh.since[index] + SETTLED < now or mesh.since[index] == 0.0]

    def write(self) -> int | None:
        """A random member writes to another: gives the number to judge later."""
        able = self._settled()
        if len(able) < 2:
            return None
        sender, receiver = self._dice.sample(able, 2)
        self._number += 1
        machines = self._mesh.network.machines
        boots = (machines[sender].boot, machines[receiver].boot)
        self._open[self._number] = Letter(sender, receiver, self._mesh.network.now, boots)
        body = (MAGIC + self._number.to_bytes(NUMBER_SIZE, "big")).ljust(self._size, b".")
        to = text_of(machines[receiver].peer)
        self._mesh.network.request(sender, "messages.send", peer=to, body=body, wait=False)
        return self._number

    def judge(self, number: int) -> None:
        """Its time is over. A pair of which one has died, or was cut off, meanwhile does not count."""
        letter = self._open[number]
        if not self._lived(letter):
            del self._open[number]
            return
        self.letters.counted += 1
        self.letters.crossings += letter.crossings
        if letter.arrived is not None:
            del self._open[number]
            self.letters.arrived += 1
            self.letters.delays.append(letter.arrived - letter.written)
        elif len(self.lost) < 20:
            self.lost.append(letter)

    def _lived(self, letter: Letter) -> bool:
        machines, mesh = self._mesh.network.machines, self._mesh
        for index, boot in zip((letter.sender, letter.receiver), letter.boots, strict=True):
            if machines[index].boot != boot or not mesh.is_up(index) or index in mesh.malicious or index in mesh.gone:
                return False
        return all((letter.sender in side) == (letter.receiver in side) for side in mesh.sides)

    def broadcast(self) -> Broadcast | None:
        """A random member has something to say to all."""
        able = self._settled()
        if len(able) < 2:
            return None
        origin = self._dice.choice(able)
        made = Broadcast(origin, self._mesh.network.now)
        machines = self._mesh.network.machines
        made.boots = {index: machines[index].boot for index in able if index != origin}
        self._broadcasts.append(made)
        self._mesh.network.request(origin, "keys.rotate")
        return made

    def judge_broadcast(self, made: Broadcast) -> None:
        """Its time is over. Who has a later record of that member does not need this one."""
        self._broadcasts.remove(made)
        mesh, machines = self._mesh, self._mesh.network.machines
        if not made.payload or not mesh.is_up(made.origin):
            return
        living = [i for i, boot in made.boots.items() if mesh.is_up(i) and machines[i].boot == boot]
        living = [i for i in living if i not in mesh.malicious and i not in mesh.gone]
        living = [i for i in living if all((i in side) == (made.origin in side) for side in mesh.sides)]
        self.broadcasts.counted += len(living)
        self.broadcasts.arrived += sum(1 for i in living if i in made.reached or self._knows(i, made.origin))
        self.copies += made.copies

    def _knows(self, index: int, origin: int) -> bool:
        record = self._mesh.node(index).membership.record(self._mesh.network.machines[origin].peer)
        own = self._mesh.node(origin).membership.own_record
        return record is not None and own is not None and record.number >= own.number

    # -- watching -----------------------------------------------------------------------------------------------------

    def on_handled(self, machine: Machine, event: ev.Event, commands: list[cm.Command]) -> None:
        """See ``Watcher``."""
        if self._broadcasts and isinstance(event, ev.MessageReceived):
            for made in self._broadcasts:
                if made.payload and made.payload in event.data and machine.index != made.origin:
                    made.copies += 1
                    made.reached.add(machine.index)
        for command in commands:
            if isinstance(command, cm.SendMessage):
                at = command.data.find(MAGIC)
                if at >= 0:
                    self._crossed(command.data[at + len(MAGIC) :][:NUMBER_SIZE])
            elif isinstance(command, cm.DeliverMessage):
                self._delivered(machine, command)
            elif isinstance(command, cm.Persist) and self._broadcasts:
                self._written(machine, command)

    def _crossed(self, number: bytes) -> None:
        letter = self._open.get(int.from_bytes(number, "big"))
        if letter is not None:
            letter.crossings += 1

    def _written(self, machine: Machine, command: cm.Persist) -> None:
        for made in self._broadcasts:
            if made.origin == machine.index and not made.payload:
                for change in command.changes:
                    if isinstance(change, cm.Put) and (change.table, change.key) == ("records", machine.peer):
                        made.payload = change.value

    def _delivered(self, machine: Machine, command: cm.DeliverMessage) -> None:
        body, sender = command.message["body"], PeerId(command.message["peer_id"])
        number = int.from_bytes(body[len(MAGIC) :][:NUMBER_SIZE], "big")
        letter = self._open.get(number) if body.startswith(MAGIC) else None
        origin = self._mesh.index_of(sender)
        if body.startswith(MAGIC) and number in self._answered:
            self.wrong.append(f"n{machine.index} delivers message {number} again")
        elif not body.startswith(MAGIC) or (letter is not None and origin != letter.sender):
            self.impersonations += 1
            self.wrong.append(f"n{machine.index} delivers what n{origin} has not written")
        elif letter is not None and machine.index != letter.receiver:
            self.wrong.append(f"n{machine.index} delivers message {number}, which is for n{letter.receiver}")
        self._answered.add(number)
        if letter is not None and letter.arrived is None:
            letter.arrived = self._mesh.network.now

    def on_started(self, machine: Machine) -> None:
        """See ``Watcher``."""

    def on_killed(self, machine: Machine) -> None:
        """See ``Watcher``."""
