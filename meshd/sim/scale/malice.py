"""What malicious members do: their nodes are real, but their daemons say more, less, or something else.

They have all that a member has, their keys included, and no right to introduce. Whoever they invent is known to no
machine, and whatever they write in another's name begins with ``FORGED``.
"""

from __future__ import annotations

from random import Random

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.crypto.admission import Rights, issue
from meshd.ids import MESSAGE_ID_SIZE, PREFIX_SIZE, Instance, Now, PeerId, SessionId
from meshd.sim.machine import Machine
from meshd.sim.network import EPOCH
from meshd.sim.scale.mesh import Mesh
from meshd.sim.scale.traffic import FORGED
from meshd.sim.suite import SimSuite
from meshd.wire import envelope
from meshd.wire import messages as ms
from meshd.wire.broadcasting import LINK_STATE_NEWS, NewsItem
from meshd.wire.link_state import NUMBERS_A_SECOND, make_link_state
from meshd.wire.record import RELAYS, make_record

DEEDS = ("drop", "replay", "forge", "flood", "lie")

# Policy
REMEMBERED = 50  # messages heard, to be said again
INTERVAL = 5.0  # seconds between two deeds of one member
FLOOD = 200  # messages at once: more than a relay passes on for one neighbor in a second


class Malicious:
    """One malicious member: takes out what it should pass on, and acts now and then."""

    def __init__(self, mesh: Mesh, index: int, deeds: tuple[str, ...], dice: Random) -> None:
        self._mesh = mesh
        self._machine: Machine = mesh.network.machines[index]
        self._deeds = deeds
        self._dice = dice
        self._heard: list[bytes] = []
        self._machine.tamper = self.tamper
        mesh.malicious.add(index)

    # -- what passes through it ---------------------------------------------------------------------------------------

    def tamper(self, event: ev.Event, commands: list[cm.Command]) -> list[cm.Command]:
        """See ``Machine.tamper``."""
        if not isinstance(event, ev.MessageReceived):
            return commands
        if len(self._heard) < REMEMBERED:
            self._heard.append(event.data)
        elif self._dice.random() < 0.05:
            self._heard[self._dice.randrange(REMEMBERED)] = event.data
        if "drop" not in self._deeds:
            return commands
        return [command for command in commands if not self._passes_on(event.data, command)]

    @staticmethod
    def _passes_on(data: bytes, command: cm.Command) -> bool:
        """Whether that hands on what has just come: the same bytes, but for what counts hops at their beginning."""
        return isinstance(command, cm.SendMessage) and len(data) > 64 and command.data[-48:] == data[-48:]

    # -- what it does of itself ---------------------------------------------------------------------------------------

    def act(self) -> None:
        """One deed of those it is given to."""
        if self._machine.node is None:
            return
        deed = self._dice.choice(self._deeds)
        match deed:
            case "replay" if self._heard:
                for data in self._dice.choices(self._heard, k=5):
                    self._say(data)
            case "forge":
                self._forge()
            case "flood":
                self._flood()
            case "lie":
                self._lie()

    def _say(self, data: bytes) -> None:
        links = list(self._machine.ends)
        if links:
            self._mesh.network.links.transmit(self._machine, self._dice.choice(links), data)

    def _victim(self) -> Machine:
        return self._mesh.network.machines[self._dice.choice(self._mesh.honest())]

    def _forge(self) -> None:
        """A message in another's name, a record in another's name, and an admission that it has no right to."""
        suite, mesh = self._machine.suite, self._mesh.node(self._machine.index).membership.mesh
        victim, receiver = self._victim(), self._victim()
        body = ms.encode_message(
            ms.ApplicationMessage(
                self._dice.randbytes(MESSAGE_ID_SIZE),
                "message",
                int((EPOCH + self._mesh.network.now) * 1000),
                int(EPOCH + self._mesh.network.now) + 600,
                FORGED,
            )
        )
        forged = envelope.seal(
            _InTheNameOf(suite, victim.peer), mesh, receiver.peer, receiver.suite.sealing_key,
            session=SessionId(self._dice.randbytes(8)), sequence=0, body=body,
            now=Now(self._mesh.network.now, EPOCH + self._mesh.network.now),
        )  # fmt: skip
        self._say(ms.encode_message(ms.Forward(6, forged)))
        record = self._mesh.node(self._machine.index).membership.record(victim.peer)
        if record is not None:
            self._say(ms.encode_message(ms.Records((self._record(record.chain, record.number + 1000),))))
        self._say(ms.encode_message(ms.Records((self._invented(),))))

    def _record(self, chain: tuple[object, ...], number: int) -> bytes:
        made = make_record(
            self._machine.suite,
            self._mesh.node(self._machine.index).membership.mesh,
            number=number,
            chain=chain,  # type: ignore[arg-type]
            generation=1,
            features=0,
            instance=Instance(bytes(8)),
            issued=int(EPOCH + self._mesh.network.now),
            flags=RELAYS,
        )
        return made.encoded

    def _invented(self) -> bytes:
        """The record of a peer that exists nowhere, admitted by this one."""
        suite, membership = self._machine.suite, self._mesh.node(self._machine.index).membership
        now = int(EPOCH + self._mesh.network.now)
        seed = self._dice.randbytes(32)
        certificate = issue(
            suite.sign, membership.mesh, suite.peer_id, subject=PeerId(suite.identity_of(seed)), name="invented",
            rights=Rights.INTRODUCE, issued=now, expires=now + 86_400,
        )  # fmt: skip
        invented = SimSuite(self._mesh.network.table, seed, seed)
        made = make_record(
            invented, membership.mesh, number=now, chain=(*membership.chain, certificate), generation=0,
            features=0, instance=Instance(bytes(8)), issued=now, flags=RELAYS,
        )  # fmt: skip
        return made.encoded

    def _flood(self) -> None:
        for _ in range(FLOOD):
            self._say(ms.encode_message(ms.Ping(self._dice.getrandbits(32))))
            self._say(ms.encode_message(ms.RecordsWanted(self._victim().peer[:PREFIX_SIZE])))

    def _lie(self) -> None:
        """Its own link state, properly signed, with neighbors that it does not have."""
        node, now = self._mesh.node(self._machine.index), int(EPOCH + self._mesh.network.now)
        others = tuple({self._victim().peer[:PREFIX_SIZE] for _ in range(40)} - {self._machine.peer[:PREFIX_SIZE]})
        number = now * NUMBERS_A_SECOND + 1
        suite, mesh = self._machine.suite, node.membership.mesh
        state = make_link_state(suite, mesh, number=number, issued=now, neighbors=others)
        self._say(ms.encode_message(ms.News((NewsItem(LINK_STATE_NEWS, 0, state.encoded),))))


class _InTheNameOf(SimSuite):
    """Signs with its own key and says that it was another."""

    def __init__(self, own: SimSuite, other: PeerId) -> None:
        self.__dict__.update(own.__dict__)
        self.peer_id = other
