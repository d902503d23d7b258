"""Scenarios about keys that change."""

from __future__ import annotations

from dataclasses import replace

from meshd.sim.conditions import Conditions, rough
from meshd.sim.scenarios import scenario
from meshd.sim.stage import Stage


def _rough() -> Conditions:
    return replace(rough(), unconnectable=0.0)


@scenario(5, _rough)
def keys_renewed(stage: Stage) -> None:
    """Everybody renews its keys while messages, offers, joins and pushes are under way; one was away meanwhile."""
    stage.start()
    stage.found()
    stage.join_all(range(1, stage.size - 1))
    stage.wait(60.0)
    away = stage.size - 2
    stage.kill(away)
    for round_ in range(4):
        token = stage.mint(0)
        joining = stage.join(stage.size - 1, token) if round_ == 1 else None
        for machine, _ in stage.network.running():
            stage.talk(2)
            stage.network.request(machine.index, "keys.rotate")
            stage.wait(stage.dice.uniform(0.0, 0.5))
        victim = stage.dice.randrange(away)
        stage.kill(victim)
        stage.talk(4)
        stage.wait(stage.dice.choice((0.0, 1.0, 20.0)))
        stage.start(victim)
        if joining is not None and stage.outcome(stage.size - 1, joining) is not None:
            stage.join_all((stage.size - 1,))  # its introducer was killed under it: a person pastes again
        stage.wait(stage.dice.uniform(0.0, 30.0))
    stage.start(away)
    stage.rest(2400.0)
    unopened = sum(node.view().status["counters"].get("envelopes_not_for_us", 0) for _, node in stage.network.running())
    stage.expect(not unopened, "every envelope can be opened by whom it is for")
