"""Members that exist only as records: for tests of what many cost."""

from __future__ import annotations

import hashlib
from random import Random

from playbook import Player

from meshd.crypto.admission import Rights, issue
from meshd.ids import PREFIX_SIZE, Instance
from meshd.sim.suite import SimSuite
from meshd.wire.link_state import LinkState, make_link_state
from meshd.wire.record import RELAYS, Record, make_record


def suites(player: Player, count: int) -> list[SimSuite]:
    seeds = [hashlib.sha256(b"crowd %d" % number).digest() for number in range(count)]
    return [SimSuite(player.stage.keys, seed, seed) for seed in seeds]


def record_of(
    admin: Player,
    suite: SimSuite,
    *,
    number: int = 1,
    age: int = 0,
    name: str = "",
    features: int = 0,
) -> Record:
    """What a member admitted by ``admin`` would say about itself, ``age`` seconds ago."""
    now = int(admin.stage.unix) - age
    chain = admin.node.membership.chain
    certificate = issue(
        admin.suite.sign,
        admin.node.membership.mesh,
        admin.id,
        subject=suite.peer_id,
        name=name or f"m{suite.peer_id[:6].hex()}",
        rights=Rights.INTRODUCE,
        issued=now,
        expires=now + 365 * 86_400,
    )
    return make_record(
        suite,
        admin.node.membership.mesh,
        number=number,
        chain=(*chain, certificate),
        generation=0,
        features=features,
        instance=Instance(bytes(8)),
        issued=now,
        flags=RELAYS,
    )


def link_state_of(
    admin: Player, suite: SimSuite, neighbors: list[bytes], *, number: int = 1, age: int = 0
) -> LinkState:
    """Which neighbors it would say it has; ``neighbors`` are whole ids."""
    prefixes = tuple(peer[:PREFIX_SIZE] for peer in neighbors)
    issued = int(admin.stage.unix) - age
    return make_link_state(suite, admin.node.membership.mesh, number=number, issued=issued, neighbors=prefixes)


def random_graph(count: int, degree: int, seed: int = 1) -> list[set[int]]:
    """Edges both ways, about ``degree`` at each."""
    rng = Random(seed)
    edges: list[set[int]] = [set() for _ in range(count)]
    for number in range(count):
        while len(edges[number]) < degree:
            other = rng.randrange(count)
            if other != number:
                edges[number].add(other)
                edges[other].add(number)
    return edges
