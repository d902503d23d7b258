"""What a mesh of a thousand members costs one node: counts and bytes, never seconds.

One real node holds the records of a random graph of degree 10; its ten neighbors are played by hand.
"""

from __future__ import annotations

import sys
from random import Random

import pytest

from meshd.config import Config
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.node import Node
from meshd.core.overlay.routing import MAX_HOPS
from meshd.core.state import MESH_KEY, MeshRow, Stored
from meshd.crypto.admission import Chain, Rights, issue
from meshd.ids import PREFIX_SIZE, Instance, LinkId, MeshId, Now, PeerId, SessionId
from meshd.sim.suite import KeyTable, SimSuite
from meshd.wire import codec
from meshd.wire import messages as ms
from meshd.wire.broadcasting import RECORD_NEWS
from meshd.wire.link_state import LinkState, make_link_state
from meshd.wire.messages import decode_message, encode_message
from meshd.wire.record import RELAYS, Record, decode_record, make_record

MEMBERS = 1000
DEGREE = 10
NOW = Now(0.0, 1_800_000_000.0)
MESH_SEED = b"m" * 32


class Graph:
    """A thousand members in a random graph in which everybody has ten neighbors, more or less."""

    def __init__(self, members: int = MEMBERS) -> None:
        rng = Random(1)
        self.table = KeyTable()
        self.suites = [SimSuite(self.table, rng.randbytes(32), rng.randbytes(32)) for _ in range(members)]
        self.mesh = MeshId(self.suites[0].identity_of(MESH_SEED))
        self.edges: list[set[int]] = [set() for _ in range(members)]
        for at in range(members):
            for other in rng.sample(range(members), DEGREE // 2):
                if other != at:
                    self.edges[at].add(other)
                    self.edges[other].add(at)
        self.founder = self._certificate(0, self.mesh)
        self.records = [self.record(at, 1) for at in range(members)]
        self.link_states = [self.link_state(at, 1) for at in range(members)]

    def _certificate(self, at: int, issuer: bytes) -> Chain:
        suite = self.suites[at]
        first = issuer == self.mesh
        certificate = issue(
            lambda message: suite.sign_with(MESH_SEED, message) if first else self.suites[0].sign(message),
            self.mesh,
            issuer,
            subject=suite.peer_id,
            name=f"member-{at}",
            rights=Rights.ADMIN | Rights.INTRODUCE if first else Rights.INTRODUCE,
            issued=int(NOW.unix),
            expires=int(NOW.unix) + 365 * 86400,
        )
        return (certificate,) if first else (*self.founder, certificate)

    def record(self, at: int, number: int) -> Record:
        suite = self.suites[at]
        return make_record(
            suite,
            self.mesh,
            number=number,
            chain=self.founder if at == 0 else self._certificate(at, self.suites[0].peer_id),
            generation=0,
            features=0,
            instance=Instance(bytes(8)),
            issued=int(NOW.unix),
            flags=RELAYS,
        )

    def link_state(self, at: int, number: int) -> LinkState:
        neighbors = tuple(self.suites[n].peer_id[:PREFIX_SIZE] for n in self.edges[at])
        suite = self.suites[at]
        return make_link_state(suite, self.mesh, number=number, issued=int(NOW.unix), neighbors=neighbors)

    def stored(self, at: int, records: list[Record]) -> Stored:
        chain = tuple(c.encoded for c in self.records[at].chain)
        row = MeshRow(self.mesh, "big", chain, 1, 0)
        return {
            "mesh": {MESH_KEY: codec.encode(row)},
            "records": {bytes(record.peer): record.encoded for record in records},
        }


@pytest.fixture(scope="module")
def graph() -> Graph:
    return Graph()


class Pair:
    """Two nodes with one link between them, which carries everything at once and counts it."""

    def __init__(self, graph: Graph, records: tuple[list[Record], list[Record]]) -> None:
        self.graph = graph
        first = graph.edges[0]
        self.indices = (0, min(first))
        self.nodes = [
            Node(Config(), graph.suites[at], Random(at), graph.stored(at, known))
            for at, known in zip(self.indices, records, strict=True)
        ]
        self.links = [LinkId(1000), LinkId(1001)]
        self.sent: list[tuple[int, bytes]] = []
        for side, node in enumerate(self.nodes):
            self.carry(side, node.handle(ev.Started(), NOW))
            self._teach(node, records[side])
        for side in (0, 1):
            self._prepare(side)
        hellos = [node.handle(self._connected(side), NOW) for side, node in enumerate(self.nodes)]
        self._carry([(side, command) for side in (0, 1) for command in hellos[side]])
        assert all(len(node.neighbors) == 1 for node in self.nodes)
        for second in range(1, 10):
            for side, node in enumerate(self.nodes):
                self.carry(side, node.handle(ev.TimerFired(), Now(NOW.mono + second, NOW.unix + second)))

    def _teach(self, node: Node, known: list[Record]) -> None:
        """Link states are not kept on disk: a node that has been up for a while has heard them all."""
        ours = {self.graph.suites[at].peer_id for at in self.indices}
        peers = {record.peer for record in known} - ours
        for state, suite in zip(self.graph.link_states, self.graph.suites, strict=True):
            if suite.peer_id in peers:
                node.link_states.accept(state.encoded, PeerId(bytes(32)))

    def _connected(self, side: int) -> ev.Event:
        return ev.LinkConnected(self.links[side], bytes([side]) * 32, bytes([1 - side]) * 32)

    def _prepare(self, side: int) -> None:
        peer = self.graph.suites[self.indices[1 - side]].peer_id
        self.nodes[side].neighbors.add(self.links[side], peer, SESSION, self.graph.mesh)

    def carry(self, side: int, commands: list[cm.Command]) -> None:
        """Play the shell: writes are durable at once, the link has no delay, nothing else is there."""
        self._carry([(side, command) for command in commands])

    def _carry(self, queue: list[tuple[int, cm.Command]]) -> None:
        for at, command in queue:
            if isinstance(command, cm.Persist):
                event: ev.Event = ev.Persisted(command.ticket)
                to = at
            elif isinstance(command, cm.SendMessage) and command.link == self.links[at]:
                self.sent.append((at, command.data))
                to = 1 - at
                event = ev.MessageReceived(self.links[to], command.data)
            else:
                continue
            queue.extend((to, more) for more in self.nodes[to].handle(event, NOW))

    def traffic(self, kind: type) -> int:
        """Bytes of messages of that kind so far, both ways."""
        return sum(len(data) for _, data in self.sent if isinstance(decode_message(data, ms.LINK_MESSAGES), kind))


SESSION = SessionId(b"sessions")


def test_a_member_takes_at_most_five_hundred_bytes_of_payload(graph: Graph) -> None:
    """What travels, that is, held once: its part of the record, and the link state. The chain above it is shared."""
    node = Node(Config(), graph.suites[0], Random(1), graph.stored(0, graph.records))
    parents = {id(record.chain[0]) for record in node.membership if len(record.chain) > 1}
    assert len(parents) == 1
    sizes = [payload_of(record) for record in node.membership if len(record.chain) > 1]
    states = [len(state.encoded) for state in graph.link_states]
    assert sum(sizes) / len(sizes) + sum(states) / len(states) <= 480
    twelve = [len(state.encoded) for state in graph.link_states if len(state.neighbors) == 12]
    assert max(sizes) + max(twelve) <= 500
    assert sum(len(record.encoded) for record in graph.records) / MEMBERS < 520


def payload_of(record: Record) -> int:
    return sum(map(len, record.pieces)) + len(record.chain[-1].encoded)


def test_a_record_is_small_in_memory(graph: Graph) -> None:
    """Resident: everything that only this member's record and link state hold."""
    node = Node(Config(), graph.suites[0], Random(1), graph.stored(0, graph.records))
    assert len(node.membership) == MEMBERS
    shared = {id(record.chain[0]) for record in node.membership}
    resident = sum(deep_size(record, shared) for record in node.membership) / MEMBERS
    resident += sum(deep_size(state, shared) for state in graph.link_states) / MEMBERS
    assert resident < 3000  # so ten thousand members take under 30 MB


def deep_size(thing: object, but: set[int]) -> int:
    """Bytes of a value and all that only it holds."""
    if id(thing) in but:
        return 0
    size = sys.getsizeof(thing)
    if isinstance(thing, tuple | list):
        size += sum(deep_size(each, but) for each in thing)
    elif hasattr(type(thing), "__dataclass_fields__"):
        size += sum(deep_size(getattr(thing, name), but) for name in type(thing).__dataclass_fields__)
    return size


def test_routes_lead_everywhere_and_reading_them_parses_nothing(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(graph, (graph.records, graph.records))
    calls: list[int] = []
    monkeypatch.setattr(
        "meshd.core.membership.membership.decode_record", lambda data: calls.append(1) or decode_record(data)
    )
    between = graph.link_state(pair.indices[1], 1 << 39)  # its other links are there only on paper
    pair.nodes[0].link_states.accept(between.encoded, PeerId(bytes(32)))
    routing = pair.nodes[0].routing
    routing.changed()
    reached = [hops for record in graph.records[1:] if (hops := routing.hops(record.peer)) is not None]
    assert len(reached) == MEMBERS - 1
    assert max(reached) < MAX_HOPS
    assert not calls


def compared(pair: Pair) -> list[bytes]:
    """What is said in a comparison."""
    before = len(pair.sent)
    pair.carry(0, _compare(pair))
    return [data for _, data in pair.sent[before:]]


def test_equal_neighbors_find_that_out_in_a_few_bytes(graph: Graph) -> None:
    pair = Pair(graph, (graph.records, graph.records))
    assert sum(map(len, compared(pair))) < 50


def test_one_change_costs_little_more_than_the_record(graph: Graph) -> None:
    pair = Pair(graph, (graph.records, graph.records))
    newer = graph.record(500, 2)
    pair.nodes[0].membership.accept(newer.encoded, PeerId(bytes(32)))
    said = compared(pair)
    assert pair.nodes[1].membership.record(newer.peer) == newer
    assert sum(map(len, said)) < 2000 + len(newer.encoded)


def test_two_that_differ_in_three_of_ten_thousand_exchange_about_three() -> None:
    graph = Graph(10_000)
    pair = Pair(graph, (graph.records, graph.records))
    news = [graph.record(500, 2), graph.record(5000, 2)]
    for side, record in enumerate(news):
        pair.nodes[side].membership.accept(record.encoded, PeerId(bytes(32)))
    moved = graph.link_state(9000, 2)
    pair.nodes[1].link_states.accept(moved.encoded, PeerId(bytes(32)))
    said = compared(pair)
    assert all(node.membership.record(record.peer) == record for node in pair.nodes for record in news)
    assert pair.nodes[0].link_states.of(moved.prefix) == moved
    messages = [decode_message(data, ms.LINK_MESSAGES) for data in said]
    given = [data for message in messages if isinstance(message, ms.Records) for data in message.records]
    assert len(given) == 2
    overhead = sum(map(len, said)) - sum(len(record.encoded) for record in news) - len(moved.encoded)
    assert overhead < 3000
    assert sum(map(len, compared(pair))) < 50


def test_a_newcomer_gets_everything_once(graph: Graph) -> None:
    known = [graph.records[0], graph.records[min(graph.edges[0])]]
    pair = Pair(graph, (graph.records, known))
    pair.carry(0, _compare(pair))
    assert len(pair.nodes[1].membership) == MEMBERS
    assert sum(1 for _ in pair.nodes[1].link_states) == MEMBERS
    everything = sum(len(record.encoded) for record in graph.records)
    everything += sum(len(state.encoded) for state in graph.link_states)
    assert pair.traffic(ms.Records) < 1.1 * everything
    assert pair.traffic(ms.Summary) < 2000
    assert max(len(data) for _, data in pair.sent) < ms.MAX_PEER_MESSAGE_SIZE


def test_news_is_taken_once_and_repetitions_are_pruned(graph: Graph) -> None:
    pair = Pair(graph, (graph.records, graph.records))
    news = encode_message(ms.News((ms.NewsItem(RECORD_NEWS, 0, graph.record(600, 2).encoded),)))
    link = pair.links[0]
    first = pair.nodes[0].handle(ev.MessageReceived(link, news), NOW)
    assert any(isinstance(command, cm.Persist) for command in first)
    again = pair.nodes[0].handle(ev.MessageReceived(link, news), NOW)
    assert [c.data for c in again if isinstance(c, cm.SendMessage)] == [encode_message(ms.Prune())]
    assert len(again) == 1


def _compare(pair: Pair) -> list[cm.Command]:
    pair.nodes[0].reconciliation.compare_with(pair.graph.suites[pair.indices[1]].peer_id)
    return pair.nodes[0].handle(ev.TimerFired(), NOW)
