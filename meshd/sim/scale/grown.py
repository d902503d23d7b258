"""A mesh that has grown already: the disks and links of a consistent moment, made without playing its growth.

All have the same records and link states, and these say what is so: a random graph of links between pairs that can
connect, with as many links for each as it would want. The links are planted as if their signaling had happened: both
ends prove themselves to each other by the daemon's own code before time begins. What else is kept in memory alone
(capabilities for pushes, measured round trips, the broadcast tree) comes by itself while the scenario settles.
"""

from __future__ import annotations

from random import Random

from meshd.core.membership.membership import RECORD_RENEW_INTERVAL
from meshd.core.node import Node
from meshd.core.overlay.degree import SPARE_LINKS, accepted_links, wanted_links
from meshd.core.overlay.link_states import RENEW_INTERVAL
from meshd.core.state import MESH_KEY as MESH_ROW_KEY
from meshd.core.state import MeshRow
from meshd.crypto.admission import Certificate, Chain, Rights, issue
from meshd.ids import INSTANCE_SIZE, PREFIX_SIZE, Instance, LinkId, MeshId, SessionId
from meshd.sim.machine import Machine
from meshd.sim.network import EPOCH, Network
from meshd.sim.scale.mesh import Graph, Mesh
from meshd.sim.stage import MESH_KEY
from meshd.wire import codec
from meshd.wire.link_state import NUMBERS_A_SECOND, LinkState, make_link_state
from meshd.wire.record import RELAYS, Record, make_record

# Policy
ADMINS = 4  # the founder and the next ones; they have admitted all others
AGE = 86_400  # seconds since everybody was admitted
LIFETIME = 365 * 86_400
FIRST_LINK = 1 << 40  # numbers of planted links: far from those that nodes count up
SAMPLE = 50  # members by which is judged with how many of all one can connect
TRIES = 200  # to find a partner for a link


def graph(network: Network, size: int, dice: Random) -> Graph:
    """A random graph in which each has as many neighbors as it wants, or a few more, and all are one component."""
    config = network.machines[0].config.mesh
    wanted, accepted = (count(size, config.max_full_mesh) for count in (wanted_links, accepted_links))
    edges: Graph = {index: set() for index in range(size)}

    def join(a: int, b: int) -> bool:
        if a == b or b in edges[a] or network.unconnectable(a, b):
            return False
        edges[a].add(b)
        edges[b].add(a)
        return True

    for index in range(1, size):  # one component first: each to somebody before it
        next(filter(None, (join(index, dice.randrange(index)) for _ in range(TRIES))), None)
    sample = dice.sample(range(size), min(size, SAMPLE))
    hard_first = sorted(range(size), key=lambda index: -sum(network.unconnectable(index, other) for other in sample))
    for most in (wanted, wanted + SPARE_LINKS, accepted):  # first among those that want another, too
        for index in hard_first:
            for _ in range(TRIES):
                if len(edges[index]) >= min(wanted, size - 1):
                    break
                other = dice.randrange(size)
                if len(edges[other]) < most:
                    join(index, other)
    return edges


class Grown:
    """``powerless``: members that were admitted without the right to introduce others."""

    def __init__(self, mesh: Mesh, size: int, dice: Random, powerless: set[int]) -> None:
        self._mesh = mesh
        self._network = mesh.network
        self._dice = dice
        self._powerless = powerless
        self._machines = mesh.network.machines[:size]
        self._key = MeshId(self._machines[0].suite.identity_of(MESH_KEY))
        self._edges = graph(mesh.network, size, dice)
        self._dials = [0] * size

    def plant(self) -> None:
        """Write the disks, start all, link them."""
        luck = [self._dice.getrandbits(64) for _ in self._machines]
        chains = [self._chain(machine) for machine in self._machines]
        records = [self._record(*of_one) for of_one in zip(self._machines, chains, luck, strict=True)]
        rows = {bytes(record.peer): record.encoded for record in records}
        states = {state.prefix: state for state in map(self._link_state, self._machines)}
        for machine, record, chain in zip(self._machines, records, chains, strict=True):
            row = MeshRow(self._key, "home", tuple(c.encoded for c in chain), record.number, 0)
            machine.disk["mesh"][MESH_ROW_KEY] = codec.encode(row)
            machine.disk["records"] = dict(rows)
            self._network.start(machine.index, luck[machine.index])
            self._mesh.enter(machine.index)
            self._mesh.node(machine.index).link_states._states.update(states)
            if machine.forgetful:
                machine.disk["records"] = {}
        self._plant_links()
        for machine in self._machines:
            self._calm(self._mesh.node(machine.index))

    def _calm(self, node: Node) -> None:
        """What it would say of itself all know already; it says it again in its time."""
        for name, interval in (("record", RECORD_RENEW_INTERVAL), ("link_state", RENEW_INTERVAL)):
            node._ctx.timers.set((name, b""), self._dice.uniform(0.0, interval))

    def _plant_links(self) -> None:
        number = FIRST_LINK
        for index, others in self._edges.items():
            for other in sorted(others):
                if index < other:
                    self._link(self._machines[index], self._machines[other], number)
                    number += 2

    def _chain(self, machine: Machine) -> Chain:
        if machine.index < ADMINS:
            return (self._certificate(machine, None),)
        admin = self._machines[machine.index % min(ADMINS, len(self._machines))]
        return (self._certificate(admin, None), self._certificate(machine, admin))

    def _certificate(self, machine: Machine, admin: Machine | None) -> Certificate:
        rights = Rights.INTRODUCE if machine.index not in self._powerless else Rights.NONE
        suite = machine.suite
        return issue(
            (lambda message: suite.sign_with(MESH_KEY, message)) if admin is None else admin.suite.sign,
            self._key,
            self._key if admin is None else admin.peer,
            subject=machine.peer,
            name=machine.config.node.name,
            rights=Rights.ADMIN | Rights.INTRODUCE if admin is None else rights,
            issued=int(EPOCH) - AGE,
            expires=int(EPOCH) - AGE + LIFETIME,
        )

    def _link_state(self, machine: Machine) -> LinkState:
        neighbors = tuple(self._machines[other].peer[:PREFIX_SIZE] for other in self._edges[machine.index])
        issued = int(EPOCH) - 60
        number = issued * NUMBERS_A_SECOND
        return make_link_state(machine.suite, self._key, number=number, issued=issued, neighbors=neighbors)

    def _record(self, machine: Machine, chain: Chain, luck: int) -> Record:
        """With the instance that its daemon will draw first of all."""
        return make_record(
            machine.suite,
            self._key,
            number=int(EPOCH) - 60,
            chain=chain,
            generation=0,
            features=0,
            instance=Instance(Random(luck).randbytes(INSTANCE_SIZE)),
            issued=int(EPOCH) - 60,
            flags=RELAYS,
        )

    def _link(self, a: Machine, b: Machine, number: int) -> None:
        ids = (LinkId(number), LinkId(number + 1))
        session = SessionId(self._dice.randbytes(8))
        for machine, other, link in ((a, b, ids[0]), (b, a, ids[1])):
            self._mesh.node(machine.index).neighbors.add(link, other.peer, session, self._key)
        dialer, dialed = sorted((a, b), key=lambda machine: self._dials[machine.index])
        self._dials[dialer.index] += 1
        self._mesh.node(dialer.index).topology._sparse._dialed[dialed.peer] = 0.0  # each has chosen some of its own
        self._network.links.plant(a, ids[0], b, ids[1])
