"""The world around the nodes: virtual time, a store for each, links that lose and delay, pairs that cannot connect.

A machine's shell is played here: every command of its node becomes an event somewhere, now or later. All randomness
comes from one seed, all order from one heap; so a run is repeatable to the byte, and ``trace`` proves it.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any, Protocol

from meshd.config import Config
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.node import Node
from meshd.errors import Code
from meshd.ids import Now, RequestId, Ticket
from meshd.sim.conditions import Conditions
from meshd.sim.linkage import Linkage
from meshd.sim.machine import Machine
from meshd.sim.pushservice import SERVICE, PushService
from meshd.sim.suite import KeyTable, SimSuite
from meshd.sim.terrain import Terrain
from meshd.sim.trace import Trace

# Policy
EPOCH = 1_800_000_000.0  # Unix seconds at which every simulation begins
CPU_SAMPLING = 16
RECONNECT_DELAY = 10.0  # seconds until a user agent comes back whose connection another one has replaced
REPLACED, TRIES_AGAIN = "replaced by another connection", "tries again"


class Watcher(Protocol):
    """Sees everything that happens, and changes nothing."""

    def on_started(self, machine: Machine) -> None:
        """Its daemon is about to start."""

    def on_killed(self, machine: Machine) -> None:
        """Its daemon is gone."""

    def on_handled(self, machine: Machine, event: ev.Event, commands: list[cm.Command]) -> None:
        """Its node has handled an event; the commands are about to be carried out."""


class Network:
    """Machines, and everything between them."""

    def __init__(
        self, seed: int, size: int, conditions: Conditions | None = None, config: Config | None = None
    ) -> None:
        self._seed = seed
        self.rng = Random(seed)
        self.conditions = conditions or Conditions()
        self.now = 0.0
        self.table = KeyTable()
        self.push = PushService(self.table)
        self.machines: list[Machine] = []
        self.links = Linkage(self)
        self.apart: set[tuple[int, int]] = set()  # pairs that never connect directly, the lower index first
        self.transform: Callable[[int, ev.Event], ev.Event | None] | None = None  # a saboteur's hand, for tests
        self.watchers: list[Watcher] = []
        self._heap: list[tuple[float, int, int, int, ev.Event | None]] = []
        self._sequence = 0
        self._requests = 0
        self._trace = Trace()
        self.terrain: Terrain | None = None  # else latencies and unconnectable pairs are drawn from the conditions
        self.stop_at = math.inf  # the state at that time is wanted: ``Stopped`` is raised there
        self.cpu = 0.0  # seconds in nodes, of this process; measured at one event of CPU_SAMPLING
        self.events = 0
        base = config or Config()
        for index in range(size):
            suite = SimSuite(self.table, self.rng.randbytes(32), self.rng.randbytes(32))
            self.machines.append(Machine(index, suite, named(base, f"n{index}")))

    # -- the world ----------------------------------------------------------------------------------------------------

    def trace(self) -> str:
        """See ``meshd.sim.trace``."""
        return self._trace.hexdigest()

    def unconnectable(self, a: int, b: int) -> bool:
        """Whether those two never connect directly: decided by the pair alone, so it stays that way."""
        low, high = sorted((a, b))
        if self.terrain is not None:
            return (low, high) in self.apart or not self.terrain.connects(a, b)
        luck = Random((self._seed * 1009 + low) * 100_003 + high).random()
        return (low, high) in self.apart or luck < self.conditions.unconnectable

    def start(self, index: int, luck: int | None = None) -> None:
        """Start a machine's daemon, with what its disk has. ``luck`` is the seed of its dice."""
        machine = self.machines[index]
        assert machine.node is None, f"n{index} runs already"
        machine.boot += 1
        for watcher in self.watchers:
            watcher.on_started(machine)
        luck = self.rng.getrandbits(64) if luck is None else luck
        stored = {table: dict(contents) for table, contents in machine.disk.items()}
        machine.node = Node(machine.config, machine.suite, Random(luck), stored)
        self._handle(machine, ev.Started())

    def kill(self, index: int) -> None:
        """kill -9: memory is gone, links fall silent."""
        machine = self.machines[index]
        machine.node, machine.deadline, machine.alarm = None, None, None
        machine.user_agents.clear()
        machine.unregistering.clear()
        machine.lose_power(self.rng)
        self.links.fall_silent(machine)
        machine.streams.clear()
        machine.relayed.clear()
        self.push.disconnect(index)
        for watcher in self.watchers:
            watcher.on_killed(machine)

    def stop(self, index: int) -> None:
        """systemctl stop: the neighbors are told, what is being written gets to the disk."""
        machine = self.machines[index]
        self._handle(machine, ev.Stopping())
        while machine.writes:
            machine.write(machine.writes.popleft()[1])
        self.links.hang_up(machine)
        self.kill(index)

    def double(self, index: int) -> Machine:
        """A machine that has all that this one has on its disk, keys included: a copy in somebody else's hands."""
        original = self.machines[index]
        machine = Machine(len(self.machines), original.suite.copy(), original.config)
        machine.disk = {table: dict(contents) for table, contents in original.disk.items()}
        self.machines.append(machine)
        return machine

    def set_clock(self, index: int, skew: float) -> None:
        """That machine's wall clock is so many seconds ahead from now on."""
        self.machines[index].skew = skew

    def schedule(self, delay: float, machine: Machine, event: ev.Event) -> None:
        """Something will happen to that machine's present daemon."""
        self._push(self.now + delay, machine, event)

    def _push(self, when: float, machine: Machine, event: ev.Event | None) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (when, self._sequence, machine.index, machine.boot, event))

    def between(self, span: tuple[float, float]) -> float:
        """A moment within a span."""
        return self.rng.uniform(*span)

    def latency(self, a: int, b: int) -> float:
        """Seconds that a message on a link takes from one machine to the other."""
        if self.terrain is not None:
            return self.terrain.latency(a, b, self.rng)
        return self.rng.uniform(*self.conditions.latency)

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; True as soon as ``until`` holds, False (or True without one) when the time is over.

        Raises Stopped at ``stop_at``.
        """
        end = self.now + seconds
        heap = self._heap
        while True:
            if until is not None and until():
                return True
            if self.stop_at <= end and (not heap or heap[0][0] > self.stop_at):
                self.now = max(self.now, self.stop_at)
                raise Stopped
            if not heap or heap[0][0] > end:
                self.now = max(self.now, end)
                return until is None
            self.now = max(self.now, heap[0][0])
            when, _, index, boot, event = heapq.heappop(heap)
            machine = self.machines[index]
            if machine.node is None or machine.boot != boot:
                continue
            if event is None:
                self._on_alarm(machine, when)
            elif (arrived := self._arrives(machine, event)) is not None:
                self._handle(machine, arrived)

    def _on_alarm(self, machine: Machine, when: float) -> None:
        if machine.alarm != when:
            return  # an earlier one was set since, and has taken over
        machine.alarm = None
        if machine.deadline is not None and machine.deadline <= self.now:
            self._handle(machine, ev.TimerFired())
        else:
            self._set_alarm(machine)

    def _set_alarm(self, machine: Machine) -> None:
        """At most one alarm per machine counts; one that rings early is set again."""
        if machine.deadline is not None and (machine.alarm is None or machine.deadline < machine.alarm):
            machine.alarm = machine.deadline
            self._push(machine.deadline, machine, None)

    def _arrives(self, machine: Machine, event: ev.Event) -> ev.Event | None:
        """What becomes of an event when its time has come: the link may be gone by then, the disk full."""
        if isinstance(event, WriteEnded):
            ticket, changes = machine.writes.popleft()
            assert ticket == event.ticket
            if machine.store_fails:
                return ev.PersistFailed(ticket, "no space left on device")
            machine.write(changes)
            return ev.Persisted(ticket)
        if isinstance(event, ev.UserAgentDisconnected) and event.reason == TRIES_AGAIN:
            if event.newcomers in machine.user_agents and not self.push.is_owner(machine.index, event.newcomers):
                self._hello(machine, event.newcomers)
            return None
        return self.links.arrives(machine, event)

    def tell(self, machine: Machine, event: ev.Event) -> None:
        """Something happens to that machine's daemon now."""
        self._handle(machine, event)

    def _handle(self, machine: Machine, event: ev.Event) -> None:
        if self.transform is not None:
            changed = self.transform(machine.index, event)
            if changed is None:
                return
            event = changed
        node = machine.node
        assert node is not None
        self.events += 1
        now = Now(self.now, EPOCH + self.now + machine.skew)
        if self.events % CPU_SAMPLING:
            commands = node.handle(event, now)
        else:
            began = time.thread_time_ns()
            commands = node.handle(event, now)
            self.cpu += (time.thread_time_ns() - began) * 1e-9 * CPU_SAMPLING
        if machine.tamper is not None:
            commands = machine.tamper(event, commands)
        self._trace.note(self.now, machine.index, event, commands)
        if machine.recent is not None:
            machine.recent.append((self.now, event, commands))
        for watcher in self.watchers:
            watcher.on_handled(machine, event, commands)
        for command in commands:
            self._carry_out(machine, command)
        machine.deadline = node.next_deadline()
        self._set_alarm(machine)

    # -- playing the shell --------------------------------------------------------------------------------------------

    def _carry_out(self, machine: Machine, command: cm.Command) -> None:
        match command:
            case cm.SendMessage(link, data, reliable=reliable):
                self.links.transmit(machine, link, data, reliable)
            case cm.SendHeartbeat(link, number):
                self.links.ask(machine, link, number)
            case cm.Notify(name, fields):
                machine.notices.append((self.now, name, dict(fields)))
            case cm.Persist(ticket, changes):
                machine.writes.append((ticket, changes))
                machine.disk_free_at = max(machine.disk_free_at, self.now) + self.between(self.conditions.disk)
                self._push(machine.disk_free_at, machine, WriteEnded(ticket))
            case cm.PrepareLink(link, offerer, resumes):
                self.links.prepare(machine, link, offerer, resumes)
            case cm.ConnectLink(link, remote, resume, patience):
                self.links.connect(machine, link, remote, resume, patience)
            case cm.ProbePath(link):
                self.links.probe(machine, link)
            case cm.CloseLink(link):
                self.links.close(machine, link)
            case cm.OpenStream(link, stream):
                machine.streams[link, stream] = None  # there are no bytes here; scenarios say when it ends
            case cm.CloseStream(link, stream):
                self.links.end_stream(machine, link, stream, "withdrawn")
            case cm.OpenRelayedStream(stream):
                machine.relayed[stream] = None
            case cm.AttachCircuit(stream):  # the other end answers, once it has the circuit, too
                self.schedule(2 * self.between(self.conditions.latency), machine, ev.RelayedStreamConnected(stream))
            case cm.EndRelayedStream(stream, reason):
                self.end_relayed(machine, stream, reason)
            case cm.OpenUserAgent() | cm.CloseUserAgent() | cm.RegisterChannel() | cm.UnregisterChannel():
                self._user_agent(machine, command)
            case cm.AcknowledgePush():
                self.push.acknowledge(machine.index, command)
            case cm.SendPush():
                self._post(machine, command)
            case cm.Respond(request, result):
                machine.answers[request] = (None, result)
            case cm.Refuse(request, code, detail):
                machine.answers[request] = (code, detail)
            case cm.DeliverMessage(message):
                machine.delivered.append(dict(message))

    def end_relayed(self, machine: Machine, stream: int, reason: str) -> None:
        """The bytes of a stream over others have come to their end here."""
        if machine.relayed.pop(stream, False) is None:
            self.schedule(0.0, machine, ev.RelayedStreamEnded(stream, reason, 0, 0, 0))

    # -- push ---------------------------------------------------------------------------------------------------------

    def _user_agent(self, machine: Machine, command: cm.Command) -> None:
        match command:
            case cm.OpenUserAgent(_, uaid, newcomers):
                machine.user_agents[newcomers] = uaid
                self._hello(machine, newcomers)
            case cm.CloseUserAgent(_, newcomers):
                machine.user_agents.pop(newcomers, None)
                self.push.disconnect(machine.index, newcomers)
            case cm.RegisterChannel():
                registered = self.push.register(machine.index, command)
                if registered is not None:
                    self.schedule(self.between(self.conditions.push_latency) / 4, machine, registered)
            case cm.UnregisterChannel():
                if not self.push.unregister(machine.index, command):
                    machine.unregistering.append(command)

    def _hello(self, machine: Machine, newcomers: bool) -> None:
        """The receiver connects; while it cannot, it keeps trying: see ``set_push``."""
        delay = self.between(self.conditions.push_latency) / 4
        if self.push.down or machine.push_down:
            self.schedule(delay, machine, ev.UserAgentDisconnected(SERVICE, "refused", newcomers))
            return
        owner = (machine.index, newcomers)
        replaced = self.push.owner_of(machine.user_agents[newcomers])
        if replaced is not None and replaced[0] != machine.index:  # two daemons with one identity
            gone = ev.UserAgentDisconnected(SERVICE, REPLACED, newcomers)
            self.schedule(delay, self.machines[replaced[0]], gone)
            self.schedule(RECONNECT_DELAY, self.machines[replaced[0]], replace(gone, reason=TRIES_AGAIN))
        welcome, stored = self.push.hello(owner, machine.user_agents[newcomers], EPOCH + self.now)
        machine.user_agents[newcomers] = welcome.uaid
        machine.unregistering = [
            command for command in machine.unregistering if not self.push.unregister(machine.index, command)
        ]
        self.schedule(delay, machine, welcome)
        for event in stored:
            self.schedule(delay + self.between(self.conditions.push_latency), machine, event)

    def set_push(self, *, down: bool, only: int | None = None) -> None:
        """The push service fails for everybody (or for one machine), or is there again: receivers come back."""
        if only is None:
            self.push.down = down
        else:
            self.machines[only].push_down = down
        for machine in self.machines if only is None else [self.machines[only]]:
            if machine.node is not None:
                self._reconnect(machine)

    def _reconnect(self, machine: Machine) -> None:
        self.push.disconnect(machine.index)
        for newcomers in list(machine.user_agents):
            if not (self.push.down or machine.push_down):
                self.schedule(0.0, machine, ev.UserAgentDisconnected(SERVICE, "connection lost", newcomers))
            self._hello(machine, newcomers)

    def forget_user_agent(self, index: int, newcomers: bool | None = None) -> None:
        """The service forgets that machine (it was flooded, or away for months): all its subscriptions are gone."""
        machine = self.machines[index]
        self.push.forget_machine(index, newcomers)
        self._reconnect(machine)

    def _post(self, machine: Machine, command: cm.SendPush) -> None:
        delay = self.between(self.conditions.push_latency)
        if self.push.down or machine.push_down:
            self.schedule(delay, machine, ev.PushAnswered(command.push, 0, "refused"))
            return
        status, delivery = self.push.accept(command, EPOCH + self.now)
        self.push.accepted_by_oneself += delivery is not None and delivery[0] == machine.index
        self.schedule(delay / 2, machine, ev.PushAnswered(command.push, status))
        if delivery is None or self.rng.random() < self.conditions.push_loss:
            return
        target, event = delivery
        copies = 2 if self.rng.random() < self.conditions.push_duplication else 1
        for _ in range(copies):
            self.schedule(self.between(self.conditions.push_latency), self.machines[target], event)

    # -- people -------------------------------------------------------------------------------------------------------

    def request(self, index: int, method: str, **params: object) -> int:
        """Somebody asks that machine's daemon; ``answer`` gives what came of it."""
        self._requests += 1
        machine = self.machines[index]
        if machine.node is not None:
            self._handle(machine, ev.Requested(RequestId(self._requests), method, dict(params)))
        return self._requests

    def answer(self, index: int, request: int) -> tuple[Code | None, Any] | None:
        """None while it is open."""
        return self.machines[index].answers.get(request)

    def ask(self, index: int, method: str, timeout: float = 200.0, **params: object) -> Any:
        """Ask and wait for the result. Raises AssertionError if it is refused or does not come."""
        request = self.request(index, method, **params)
        self.run(timeout, until=lambda: self.answer(index, request) is not None)
        answer = self.answer(index, request)
        assert answer is not None, f"{method} on n{index} was never answered"
        assert answer[0] is None, f"{method} on n{index}: {answer[0]} {answer[1]}"
        return answer[1]

    def running(self) -> Iterator[tuple[Machine, Node]]:
        """The machines whose daemon runs."""
        return ((machine, machine.node) for machine in self.machines if machine.node is not None)


class Stopped(Exception):
    """The time has come at which somebody wants to look: see ``Network.stop_at``."""


class WriteEnded(ev.Persisted):
    """The disk is done with that ticket, for better or worse; the node is told ``Persisted`` or ``PersistFailed``."""

    __slots__ = ()

    def __init__(self, ticket: Ticket) -> None:
        super().__init__(ticket)


def named(config: Config, name: str) -> Config:
    """The same configuration for a machine of that name, with the simulated push service."""
    return replace(
        config,
        node=replace(config.node, name=name),
        push=replace(config.push, services=(SERVICE,)),
    )
