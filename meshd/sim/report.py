"""What came of a simulation, in a few lines."""

from __future__ import annotations

from collections import Counter
from time import perf_counter

from meshd.sim.stage import Stage

# Policy
MAX_LINES = 12  # of violations shown


class Report:
    """Made while a scenario plays: ``begin``, then ``lines``."""

    def __init__(self, scenario: str, seed: int) -> None:
        self._scenario = scenario
        self._seed = seed
        self._began = perf_counter()  # of this process, not of the simulation: only for events per second

    def summary(self, stage: Stage) -> str:
        """One line: what was played, how much happened, whether all held."""
        network = stage.network
        elapsed = perf_counter() - self._began
        links = sum(len(node.neighbors) for _, node in network.running()) // 2
        verdict = "ok" if not stage.violations else f"{len(stage.violations)} VIOLATIONS"
        return (
            f"{self._scenario:28} seed {self._seed:<5} {len(network.machines):4} nodes {links:5} links "
            f"{network.now:10.1f} s {network.events:8} events {network.events / elapsed:7.0f}/s "
            f"{network.push.accepted:5} pushes  {network.trace()[:12]}  {verdict}"
        )

    @staticmethod
    def violations(stage: Stage) -> list[str]:
        """The first ones, with their time; and the last events of those that the very first is about."""
        found = [f"    {v.when:10.3f}  {v.invariant}: {v.what}" for v in stage.violations[:MAX_LINES]]
        return found + [f"        {line}" for v in stage.violations[:1] for line in v.story]

    @staticmethod
    def figures(stage: Stage) -> list[str]:
        """What the scenario has measured."""
        return [f"    {line}" for line in stage.figures]

    @staticmethod
    def counters(stage: Stage) -> list[str]:
        """What the nodes have counted, all together."""
        total: Counter[str] = Counter()
        for _, node in stage.network.running():
            total.update(node.view().status["counters"])
        return [f"    {name:32} {count}" for name, count in sorted(total.items())]
