"""An invariant that did not hold, and what those it is about had done last."""

from __future__ import annotations

import re
from dataclasses import dataclass

from meshd.sim.inspection import last_events
from meshd.sim.network import Network

# Policy
MAX_VIOLATIONS = 50  # kept; the first ones say the most
MAX_TOLD = 2  # machines whose last events are kept with it

_MACHINE = re.compile(r"\bn(\d+)\b")


@dataclass(frozen=True, slots=True)
class Violation:
    """``when`` in simulated seconds; ``what`` names machines as ``n3``; ``story``: their last events, a line each."""

    invariant: str
    when: float
    what: str
    story: tuple[str, ...] = ()


def violation(invariant: str, what: str, network: Network) -> Violation:
    """One that is found now."""
    indices = [int(number) for number in dict.fromkeys(_MACHINE.findall(what))]
    known = [network.machines[index] for index in indices if index < len(network.machines)]
    story = [line for machine in known[:MAX_TOLD] for line in last_events(machine)]
    return Violation(invariant, network.now, what, tuple(story))
