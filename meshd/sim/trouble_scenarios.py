"""Scenarios about what goes wrong later."""

from __future__ import annotations

from meshd.sim.conditions import Conditions, rough
from meshd.sim.scenarios import scenario
from meshd.sim.stage import Stage


def _mesh(stage: Stage, rest: bool = True) -> None:
    stage.start()
    stage.found()
    stage.join_everybody()
    if rest:
        stage.rest()


@scenario(6)
def killed_at_random(stage: Stage) -> None:
    """kill -9 and return at random moments while messages flow."""
    _mesh(stage)
    for _ in range(12):
        victims = stage.dice.sample(range(stage.size), stage.dice.choice((1, 1, 2)))
        stage.talk(6)
        stage.wait(stage.dice.uniform(0.0, 0.3))
        stage.kill(*victims)
        stage.wait(stage.dice.choice((0.0, 1.0, 12.0)))
        stage.start(*victims)
        stage.wait(stage.dice.uniform(0.0, 20.0))
    stage.rest(1200.0)


@scenario(8, rough)
def killed_in_rough_weather(stage: Stage) -> None:
    """The same where everything else goes wrong too."""
    _mesh(stage, rest=False)
    for _ in range(8):
        victim = stage.dice.randrange(stage.size)
        stage.talk(6)
        stage.wait(stage.dice.uniform(0.0, 2.0))
        stage.kill(victim)
        stage.wait(stage.dice.choice((0.0, 1.0, 30.0)))
        stage.start(victim)
        stage.talk(6)
        stage.wait(stage.dice.uniform(0.0, 20.0))
    stage.rest(2400.0)


@scenario(5)
def relay_dies(stage: Stage) -> None:
    """The only common neighbor of two that want a link dies between offer and answer."""
    stage.start()
    stage.found()
    stage.join_all((1,))
    for index in range(2, stage.size):
        token = stage.mint(0)
        stage.join(index, token)
        stage.until(lambda index=index: stage.neighbors(index) > 0, 60.0)  # type: ignore[misc]
        stage.wait(stage.dice.uniform(0.0, 0.5))
        stage.kill(0)
        stage.wait(stage.dice.uniform(0.0, 20.0))
        stage.start(0)
        stage.until(lambda: stage.neighbors(0) > 0, 200.0)
    stage.rest(1200.0)


@scenario(8)
def glare_storm(stage: Stage) -> None:
    """Everybody dials everybody at the same moment: all links are cut, and the graph stays known."""
    _mesh(stage)
    for _ in range(3):
        for machine, node in stage.network.running():
            for other in stage.network.machines:
                record = node.membership.record(other.peer)
                if record is not None and other is not machine:
                    node.topology.want(record, delay=0.0)
        for machine, _node in stage.network.running():
            links = list(machine.ends)
            stage.dice.shuffle(links)
            for link in links[: len(links) * 2 // 3]:
                stage.network.links.break_link(machine, link)
        stage.wait(stage.dice.uniform(0.0, 30.0))
    stage.rest()


@scenario(6)
def power_cut(stage: Stage) -> None:
    """All machines lose power and come back: no link is left, push alone brings them together."""
    _mesh(stage)
    stage.talk(10)
    stage.kill(*range(stage.size))
    stage.wait(30.0)
    stage.start()
    stage.expect(stage.until(lambda: all(stage.neighbors(i) for i in range(stage.size)), 120.0), "links within 2 min")
    stage.rest(1200.0)


@scenario(5)
def power_cut_one_by_one(stage: Stage) -> None:
    """After a power cut the machines come back minutes apart."""
    _mesh(stage)
    stage.kill(*range(stage.size))
    for index in stage.dice.sample(range(stage.size), stage.size):
        stage.wait(stage.dice.uniform(10.0, 300.0))
        stage.start(index)
    stage.rest(1800.0)


@scenario(3)
def away_40_hours(stage: Stage) -> None:
    """A member switched off for 40 h comes back while the others run: capabilities still serve, either way."""
    _mesh(stage)
    stage.kill(1)
    stage.wait(40 * 3600.0)
    stage.start(1)
    stage.expect(stage.until(lambda: stage.neighbors(1) == stage.size - 1, 300.0), "back within 5 min")
    stage.rest()


@scenario(3)
def asleep_14_days(stage: Stage) -> None:
    """All are switched off for a fortnight: nobody could top anything up, and capabilities still serve."""
    _mesh(stage)
    stage.wait(stage.dice.uniform(0.0, 7200.0))
    stage.kill(*range(stage.size))
    stage.wait(14 * 86400.0)
    stage.start()
    stage.expect(stage.until(lambda: stage.neighbors(1) == stage.size - 1, 600.0), "back within 10 min")
    stage.rest()


@scenario(3)
def asleep_16_days(stage: Stage) -> None:
    """All are switched off for 16 days: no capability serves, so they stay apart until one introduces another anew."""
    _mesh(stage)
    stage.kill(*range(stage.size))
    stage.wait(16 * 86400.0)
    stage.start()
    stage.wait(600.0)
    stage.expect(not any(stage.neighbors(i) for i in range(stage.size)), "nobody can call anybody")


@scenario(5)
def subscriptions_lost(stage: Stage) -> None:
    """The push service forgets one member, then two at once, one of them while it is off."""
    _mesh(stage)
    stage.network.forget_user_agent(1)
    stage.wait(60.0)
    stage.kill(1)
    stage.start(1)
    stage.rest()
    stage.network.forget_user_agent(2)
    stage.network.forget_user_agent(3)
    stage.wait(60.0)
    stage.kill(2, 3)
    stage.wait(5.0)
    stage.start(2, 3)
    stage.rest()
    stage.kill(*range(stage.size))
    stage.start()
    stage.rest(1200.0)


@scenario(5)
def subscription_lost_while_away(stage: Stage) -> None:
    """The push service forgets a member while it is switched off."""
    _mesh(stage)
    stage.network.push.forget_machine(1)
    stage.kill(1)
    stage.wait(600.0)
    stage.start(1)
    stage.rest()
    stage.kill(*range(stage.size))
    stage.start()
    stage.rest(1200.0)


@scenario(5)
def clock_jumps(stage: Stage) -> None:
    """Clocks jump back and forth by up to nine minutes while messages flow, and one by a day for a moment."""
    _mesh(stage)
    for _ in range(6):
        index = stage.dice.randrange(stage.size)
        stage.network.set_clock(index, stage.dice.uniform(-540.0, 540.0) / 2)
        stage.talk(6)
        stage.wait(stage.dice.uniform(1.0, 90.0))
    stage.network.set_clock(1, 86400.0)
    stage.talk(4)
    stage.wait(90.0)
    for index in range(stage.size):
        stage.network.set_clock(index, 0.0)
    stage.wait(5.0)
    stage.rest()


@scenario(5)
def store_fails(stage: Stage) -> None:
    """Disks are full for a while and recover; some machines are killed with a full disk."""
    _mesh(stage)
    for _ in range(6):
        index = stage.dice.randrange(stage.size)
        stage.network.machines[index].store_fails = True
        stage.talk(8)
        stage.wait(stage.dice.uniform(0.0, 30.0))
        victim = stage.dice.randrange(stage.size)
        stage.kill(victim)
        stage.wait(stage.dice.uniform(0.0, 12.0))
        if stage.dice.random() < 0.5:
            stage.kill(index)
        stage.network.machines[index].store_fails = False
        stage.talk(8)
        for back in dict.fromkeys((victim, index)):
            if stage.network.machines[back].node is None:
                stage.start(back)
        stage.wait(stage.dice.uniform(0.0, 20.0))
        if stage.dice.random() < 0.5:
            stage.kill(index)
            stage.start(index)
    stage.rest(1200.0)


@scenario(4)
def store_fails_while_joining(stage: Stage) -> None:
    """The introducer's disk, or the joiner's, is full during a join, and recovers."""
    stage.start()
    stage.found()
    stage.undisturbed = False
    for index in range(1, stage.size):
        stage.wait(10.0)  # the founder's disk has recovered: give its daemon the time to try again
        token = stage.mint(0)
        sick = stage.network.machines[stage.dice.choice((0, index))]
        request = stage.join(index, token)
        stage.wait(stage.dice.uniform(0.0, 2.0))
        sick.store_fails = True
        stage.wait(stage.dice.uniform(0.1, 25.0))
        sick.store_fails = False
        stage.outcome(index, request)
        if not stage.is_member(index):
            stage.outcome(index, stage.join(index, token))
        stage.expect(stage.is_member(index), f"n{index} gets in")
    stage.rest(1200.0)


@scenario(8)
def partition(stage: Stage) -> None:
    """The network falls into two halves and heals, shortly and for long, while messages flow."""
    _mesh(stage)
    stage.undisturbed = False
    everybody = list(range(stage.size))
    for seconds in (3.0, 20.0, 400.0):
        stage.dice.shuffle(everybody)
        half = stage.dice.randrange(1, stage.size)
        stage.network.links.cut(set(everybody[:half]), set(everybody[half:]))
        stage.talk(10)
        stage.wait(seconds)
        stage.talk(10)
        stage.network.links.heal()
        stage.rest(2400.0)


@scenario(12)
def some_pairs_cannot(stage: Stage) -> None:
    """Half of all pairs cannot connect: they stay routable, and are not tried in vain for ever."""
    stage.network.conditions.unconnectable = 0.5
    stage.start()
    stage.found()
    stage.join_everybody()
    stage.rest(1200.0)


def _far() -> Conditions:
    return Conditions(latency=(0.2, 0.9), push_latency=(1.0, 8.0), connect=(1.0, 4.0))


@scenario(8, _far)
def far_apart(stage: Stage) -> None:
    """Everything takes long: satellite links, sleepy phones."""
    _mesh(stage)
    stage.talk(20)
    stage.rest()


@scenario(30)
def big(stage: Stage) -> None:
    """More members than a full mesh has: routes over several hops, messages between all, a few killed."""
    _mesh(stage)
    stage.talk(40)
    for _ in range(4):
        victim = stage.dice.randrange(stage.size)
        stage.kill(victim)
        stage.talk(20)
        stage.wait(stage.dice.uniform(0.0, 30.0))
        stage.start(victim)
    stage.rest(1200.0)


@scenario(3)
def quiet_day(stage: Stage) -> None:
    """Nothing happens for a day: nothing grows, nobody pushes but to itself, to see whether that works."""
    _mesh(stage)
    push = stage.network.push
    before = push.accepted - push.accepted_by_oneself
    stage.wait(86400.0)
    stage.expect(push.accepted - push.accepted_by_oneself == before, "no push in a quiet day")
    stage.expect(push.accepted_by_oneself >= 3 * stage.size, "everybody tests its subscriptions")
    stage.rest()


@scenario(5)
def streams_come_and_go(stage: Stage) -> None:
    """Byte streams are wanted, taken, refused and given up; links break under some, daemons die under others."""
    _mesh(stage)
    ask, descriptor = stage.network.request, 0
    for _ in range(60):
        opener, acceptor = stage.dice.sample(range(stage.size), 2)
        descriptor += 2
        if stage.dice.random() < 0.8:
            params = {"application": "x", "descriptor": descriptor, "timeout": 20.0}
            ask(acceptor, "streams.accept", **params, peer=stage.dice.choice((None, f"n{opener}")))
        patience = stage.dice.choice((0.01, 5.0))  # the shorter one is shorter than most answers take
        params = {"application": "x", "descriptor": descriptor + 1, "timeout": patience}
        ask(opener, "streams.open", **params, peer=f"n{acceptor}")
        stage.wait(stage.dice.uniform(0.0, 0.5))
        match stage.dice.randrange(12):
            case 0:
                stage.kill(opener)
                stage.start(opener)
            case 1:
                machine = stage.network.machines[acceptor]
                for link in list(machine.ends):
                    stage.network.links.break_link(machine, link)
            case 2 | 3:
                stage.end_streams()
    stage.wait(30.0)
    stage.end_streams()
    stage.rest()
    opened = sum(notice[1] == "stream_opened" for machine in stage.network.machines for notice in machine.notices)
    stage.expect(opened > 20, f"only {opened} streams opened")
    for machine, node in stage.network.running():
        stage.expect(not len(node.stream_book), f"n{machine.index} still has {len(node.stream_book)} streams")


@scenario(6, lambda: Conditions(loss=0.05, latency=(0.05, 0.25)))
def deaths_are_noticed(stage: Stage) -> None:
    """Slow paths lose one in twenty for half an hour and nobody is blamed; then one dies, and all know within 5 s."""
    _mesh(stage)
    began = stage.network.now
    stage.wait(1800.0)
    lost = [
        (machine.index, when, fields["reason"])
        for machine in stage.network.machines
        for when, name, fields in machine.notices
        if name == "link_down" and when > began and fields["reason"] == "silent"
    ]
    stage.expect(not lost, f"no link is given up: {lost}")
    stage.kill(2)
    gone = stage.network.machines[2].peer
    nodes = [node for _, node in stage.network.running()]
    stage.expect(stage.until(lambda: all(node.neighbors.current(gone) is None for node in nodes), 5.0), "all know it")
    stage.start(2)
    stage.rest()
