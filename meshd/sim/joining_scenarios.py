"""Scenarios about getting in."""

from __future__ import annotations

from meshd.errors import Code
from meshd.sim.conditions import rough
from meshd.sim.scenarios import scenario
from meshd.sim.stage import Stage


@scenario(10)
def one_by_one(stage: Stage) -> None:
    """Everybody joins through the founder, one after the other."""
    stage.start()
    stage.found()
    stage.join_all(range(1, stage.size))
    stage.rest()


@scenario(12)
def all_at_once(stage: Stage) -> None:
    """Everybody joins at the same moment with one token of as many uses."""
    stage.start()
    stage.found()
    token = stage.mint(0, uses=stage.size - 1)
    requests = [(index, stage.join(index, token)) for index in range(1, stage.size)]
    for index, request in requests:
        stage.expect(stage.outcome(index, request) is None, f"n{index} joins")
    stage.rest()


@scenario(5)
def one_too_many(stage: Stage) -> None:
    """A token of three uses in the hands of four, the introducer killed and back between the second and the rest."""
    stage.start()
    stage.found()
    token = stage.mint(0, uses=3)
    requests = [(index, stage.join(index, token)) for index in (1, 2)]
    stage.wait(stage.dice.uniform(0.0, 3.0))
    stage.kill(0)
    stage.network.start(0)
    requests += [(index, stage.join(index, token)) for index in range(3, stage.size)]
    outcomes = [stage.outcome(index, request) for index, request in requests]
    stage.expect(outcomes.count(Code.TOKEN_USED_UP) == 1, f"one is told why it does not get in: {outcomes}")
    stage.expect(sum(map(stage.is_member, range(1, stage.size))) == 3, "three get in")
    stage.rest()


@scenario(9)
def many_introducers(stage: Stage) -> None:
    """Three members introduce at the same time, to people who all want the same name."""
    stage.start()
    stage.found()
    stage.join_all((1, 2))
    tokens = {index: stage.mint(index % 3) for index in range(3, stage.size)}
    requests = [
        (index, stage.network.request(index, "mesh.join", token=token, timeout=300.0, name="laptop"))
        for index, token in tokens.items()
    ]
    for index, request in requests:
        stage.expect(stage.outcome(index, request) is None, f"n{index} joins")
    stage.rest()


@scenario(20, rough)
def rough_weather(stage: Stage) -> None:
    """Twenty nodes; messages lost and out of order, pushes late, lost and twice, 30 % of pairs cannot connect."""
    stage.start()
    stage.found()
    stage.join_everybody()
    stage.rest(1200.0)


@scenario(4)
def killed_while_joining(stage: Stage) -> None:
    """kill -9 of the joiner or the introducer at any moment of a join; both come back, the token is pasted again."""
    stage.start()
    stage.found()
    stage.join_all((1,))
    for index in range(2, stage.size):
        token = stage.mint(0)
        request = stage.join(index, token)
        stage.wait(stage.dice.uniform(0.0, 2.5))
        victim = stage.dice.choice((0, index))
        stage.kill(victim)
        stage.wait(stage.dice.choice((0.0, 0.5, 15.0)))
        stage.network.start(victim)
        if victim == 0:
            stage.outcome(index, request)
        for _ in range(4):
            if stage.is_member(index) and stage.until(lambda index=index: stage.neighbors(index) > 0, 60.0):  # type: ignore[misc]
                break
            stage.outcome(index, stage.join(index, token))
        stage.expect(stage.is_member(index), f"n{index} gets in with the same token")
    stage.rest(1200.0)


@scenario(3)
def push_down_while_joining(stage: Stage) -> None:
    """The push service fails in the middle of a join, and comes back within a minute."""
    stage.start()
    stage.found()
    stage.undisturbed = False
    for index in range(1, stage.size):
        token = stage.mint(0)
        request = stage.join(index, token)
        stage.wait(stage.dice.uniform(0.0, 1.5))
        stage.network.set_push(down=True)
        stage.wait(stage.dice.uniform(5.0, 40.0))
        stage.network.set_push(down=False)
        outcome = stage.outcome(index, request)
        stage.expect(outcome in (None, Code.PUSH_UNAVAILABLE), f"n{index} joins, or is told: {outcome}")
        if outcome is not None:
            stage.join_all((index,))
    stage.rest()


@scenario(3)
def clocks(stage: Stage) -> None:
    """A clock nine minutes off works; one that is fifteen minutes off is named as the error."""
    stage.start()
    stage.found()
    for skew in (540.0, -540.0):
        stage.network.set_clock(1, skew)
        outcome = stage.outcome(1, stage.join(1, stage.mint(0)))
        stage.expect(outcome is None, f"a clock {skew:+.0f} s off joins: {outcome}")
        stage.network.ask(1, "mesh.leave")
        stage.wait(30.0)
    stage.undisturbed = False
    for skew in (900.0, -900.0):
        stage.network.set_clock(2, skew)
        outcome = stage.outcome(2, stage.join(2, stage.mint(0)))
        stage.expect(outcome is Code.CLOCK_WRONG, f"a clock {skew:+.0f} s off is named: {outcome}")
    stage.network.set_clock(2, 0.0)
    stage.join_all((1, 2))
    stage.rest()


@scenario(4)
def leave_and_return(stage: Stage) -> None:
    """A member leaves, is forgotten, and joins again through somebody else."""
    stage.start()
    stage.found()
    stage.join_all(range(1, stage.size))
    stage.rest()
    stage.undisturbed = False
    for introducer in (2, 0):
        stage.network.ask(1, "mesh.leave")
        stage.wait(stage.dice.choice((0.2, 5.0, 60.0)))
        stage.talk(4)
        stage.join_all((1,), introducer)
        stage.expect(stage.is_member(1), "it is back")
    stage.rest()


@scenario(4)
def killed_while_leaving(stage: Stage) -> None:
    """kill -9 in the moment of leaving: afterwards it is a member that all know, or none."""
    stage.start()
    stage.found()
    stage.join_all(range(1, stage.size))
    stage.rest()
    for _ in range(4):
        stage.network.request(1, "mesh.leave")
        stage.wait(stage.dice.uniform(0.0, 0.02))
        stage.kill(1)
        stage.start(1)
        stage.rest()
        if not stage.is_member(1):
            stage.join_all((1,))
    stage.rest()


@scenario(6)
def renamed_by_two(stage: Stage) -> None:
    """Two admins cannot be; but two members ask for one name at the same time."""
    stage.start()
    stage.found()
    stage.join_all(range(1, stage.size))
    stage.rest()
    requests = [(index, stage.network.request(index, "node.rename", name="box")) for index in (1, 2)]
    outcomes = [stage.outcome(index, request) for index, request in requests]
    stage.expect(
        sorted(map(str, outcomes)) == sorted(map(str, (None, Code.NAME_TAKEN))), f"one of the two gets it: {outcomes}"
    )
    stage.rest()


@scenario(4)
def introducer_out_of_reach(stage: Stage) -> None:
    """Joiner and introducer cannot connect: another member answers in the same two pushes."""
    stage.start()
    stage.found()
    stage.join_all((1, 2))
    stage.rest()
    stage.network.apart.add((0, 3))
    outcome = stage.outcome(3, stage.join(3, stage.mint(0)))
    stage.expect(outcome is None, f"it is in, by way of another: {outcome}")
    stage.rest()


@scenario(5)
def one_member_in_reach(stage: Stage) -> None:
    """Of the introducer and three others, the joiner can connect to one; another is killed while it joins."""
    stage.start()
    stage.found()
    stage.join_all((1, 2, 3))
    stage.rest()
    reachable, killed, _ = stage.dice.sample((1, 2, 3), 3)
    stage.network.apart.update((index, 4) for index in range(4) if index != reachable)
    request = stage.join(4, stage.mint(0))
    stage.wait(stage.dice.uniform(0.0, 2.0))
    stage.kill(killed)
    outcome = stage.outcome(4, request)
    stage.expect(outcome is None, f"it is in, by way of n{reachable}: {outcome}")
    stage.network.start(killed)
    stage.rest()


@scenario(4)
def nobody_in_reach(stage: Stage) -> None:
    """The joiner can connect to nobody: it is admitted, and told that there is no link; it goes on trying."""
    stage.start()
    stage.found()
    stage.join_all((1, 2))
    stage.undisturbed = False
    stage.network.conditions.unconnectable = 1.0
    outcome = stage.outcome(3, stage.join(3, stage.mint(0)))
    stage.expect(outcome is Code.LINK_FAILED, f"it is told that no connection could be made: {outcome}")
    stage.network.conditions.unconnectable = 0.0
    stage.wait(600.0)
    stage.rest()


@scenario(4)
def copy_and_paste(stage: Stage) -> None:
    """No push service at all: people carry offers and answers, late, and with a kill in between."""
    stage.start()
    stage.network.set_push(down=True)
    stage.found()
    for index in range(1, stage.size):
        introducer = stage.dice.randrange(index)
        token = stage.network.ask(introducer, "introductions.mint", by_hand=True)["token"]
        killed = stage.dice.random() < 0.3
        for _ in range(1 + killed):
            offered = stage.network.ask(index, "links.offer", token=token)["text"]
            stage.wait(stage.dice.uniform(0.0, 200.0))
            answered = stage.network.ask(introducer, "links.answer", text=offered)["text"]
            stage.wait(stage.dice.uniform(0.0, 200.0))
            if killed:
                stage.kill(index)
                stage.network.start(index)
                outcome = stage.outcome(index, stage.network.request(index, "links.accept", text=answered))
                stage.expect(outcome is Code.PASTE_UNKNOWN, f"it has forgotten its offer: {outcome}")
                killed = False
                continue
            outcome = stage.outcome(index, stage.network.request(index, "links.accept", text=answered))
            stage.expect(outcome is None, f"n{index} is in: {outcome}")
        stage.rest()
    stage.kill(*range(stage.size))
    stage.start()
    for index in range(1, stage.size):
        offered = stage.network.ask(0, "links.offer", peer=f"n{index}")["text"]
        stage.wait(stage.dice.uniform(0.0, 200.0))
        answered = stage.network.ask(index, "links.answer", text=offered)["text"]
        stage.wait(stage.dice.uniform(0.0, 200.0))
        outcome = stage.outcome(0, stage.network.request(0, "links.accept", text=answered))
        stage.expect(outcome is None, f"n{index} is linked again: {outcome}")
    stage.rest()
