"""The mesh of a scenario as the world sees it: who is in it, who lives, which links carry, where next hops lead."""

from __future__ import annotations

from collections import deque
from random import Random

from meshd.core.node import Node
from meshd.core.overlay.routing import MAX_HOPS
from meshd.ids import PeerId
from meshd.sim.machine import Machine
from meshd.sim.network import Network

Graph = dict[int, set[int]]


class Mesh:
    """Members by the index of their machine. ``since``: when (simulated seconds) each came to be one."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.since: dict[int, float] = {}
        self.gone: dict[int, float] = {}  # who has left or was revoked, and when
        self.malicious: set[int] = set()
        self.sides: tuple[set[int], ...] = ()  # while the network is cut
        self._indices = {machine.peer: machine.index for machine in network.machines}

    def enter(self, index: int) -> None:
        """That machine's node is a member from now on."""
        self.since[index] = self.network.now

    def drop(self, index: int) -> None:
        """It is none any more."""
        self.since.pop(index, None)
        self.gone[index] = self.network.now

    def index_of(self, peer: PeerId) -> int | None:
        """The machine of that id; None for an invented one."""
        return self._indices.get(peer)

    def node(self, index: int) -> Node:
        """The node of a machine that runs."""
        node = self.network.machines[index].node
        assert node is not None, f"n{index} does not run"
        return node

    def is_up(self, index: int) -> bool:
        """Whether that machine's daemon runs."""
        return self.network.machines[index].node is not None

    def living(self) -> list[int]:
        """Members whose daemon runs."""
        return [index for index in self.since if self.is_up(index)]

    def honest(self) -> list[int]:
        """Of these, those that do what they should."""
        return [index for index in self.living() if index not in self.malicious]

    # -- the graph ----------------------------------------------------------------------------------------------------

    def graph(self) -> Graph:
        """Which living members have a link that carries just now."""
        living = self.living()
        present, links = set(living), self.network.links
        return {index: links.across(self.network.machines[index]) & present for index in living}

    @staticmethod
    def parts(graph: Graph) -> list[list[int]]:
        """Its connected components, the largest first."""
        seen: set[int] = set()
        parts: list[list[int]] = []
        for start in graph:
            if start in seen:
                continue
            seen.add(start)
            part = [start]
            for at in part:
                for other in sorted(graph[at]):
                    if other not in seen:
                        seen.add(other)
                        part.append(other)
            parts.append(part)
        return sorted(parts, key=len, reverse=True)

    @staticmethod
    def distances(graph: Graph, start: int) -> dict[int, int]:
        """Links from there to everybody in reach."""
        found, queue = {start: 0}, deque([start])
        while queue:
            at = queue.popleft()
            for other in graph[at]:
                if other not in found:
                    found[other] = found[at] + 1
                    queue.append(other)
        return found

    def parts_of_honest(self, graph: Graph) -> list[list[int]]:
        """The components that an honest member is in: malicious ones may be left alone."""
        return [part for part in self.parts(graph) if not self.malicious.issuperset(part)]

    # -- next hops ----------------------------------------------------------------------------------------------------

    def walk(self, start: int, end: int) -> int | None:
        """How many links an envelope crosses if each member hands it where it would now; None if it does not arrive."""
        at, peer = start, self.network.machines[end].peer
        for hops in range(MAX_HOPS + 1):
            if at == end:
                return hops
            hop = self.node(at).routing.next_hop(peer)
            following = None if hop is None else self._indices.get(hop)
            if following is None or not self.is_up(following):
                return None
            if following not in self.network.links.across(self.network.machines[at]):
                return None
            at = following
        return None

    def walks(self, count: int, dice: Random) -> list[int | None]:
        """Those of random pairs of honest living members."""
        living = self.honest()
        if len(living) < 2:
            return []
        return [self.walk(*dice.sample(living, 2)) for _ in range(count)]

    def is_whole(self, count: int, dice: Random) -> bool:
        """Whether the living are one part, and ``count`` random pairs reach each other by their next hops."""
        return len(self.parts_of_honest(self.graph())) <= 1 and None not in self.walks(count, dice)

    def machines(self) -> list[Machine]:
        """Those of the living."""
        return [self.network.machines[index] for index in self.living()]
