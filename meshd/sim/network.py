"""The world around the nodes: virtual time, a store for each, links that lose and delay, pairs that cannot connect.

A machine's shell is played here: every command of its node becomes an event somewhere, now or later. All randomness
comes from one seed, all order from one heap; so a run is repeatable to the byte, and ``trace`` proves it.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from meshd.config import Config
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.node import Node
from meshd.core.state import TABLES, Stored
from meshd.errors import Code
from meshd.ids import LinkId, Now, PeerId, RequestId
from meshd.sim.pushservice import PushService
from meshd.sim.suite import KeyTable, SimSuite
from meshd.wire.session_description import Candidate, SessionDescription

# Policy
EPOCH = 1_800_000_000.0  # Unix seconds at which every simulation begins


@dataclass(slots=True)
class Conditions:
    """What the network does to everybody. Seconds; shares between 0 and 1."""

    latency: tuple[float, float] = (0.01, 0.06)  # of a message on a link, one way
    loss: float = 0.0  # of link messages: a link is reliable, so each loss costs a retransmission's delay
    retransmission: float = 0.3
    push_latency: tuple[float, float] = (0.05, 0.8)
    push_loss: float = 0.0
    push_duplication: float = 0.0
    gather: tuple[float, float] = (0.0, 0.02)
    connect: tuple[float, float] = (0.05, 0.3)
    connect_timeout: float = 15.0
    disk: tuple[float, float] = (0.001, 0.008)
    unconnectable: float = 0.0  # share of pairs that never connect directly


@dataclass(slots=True)
class _End:
    """One side of a link being made or made."""

    machine: int
    link: LinkId
    offerer: bool
    description: SessionDescription
    fingerprint: bytes
    remote: SessionDescription | None = None
    other: _End | None = None
    free_at: float = 0.0  # messages on a link stay in order
    open: bool = True


@dataclass(slots=True)
class Machine:
    """One simulated machine: its keys and disk outlive its daemon."""

    index: int
    suite: SimSuite
    config: Config
    disk: Stored = field(default_factory=lambda: {table: {} for table in TABLES})
    node: Node | None = None
    boot: int = 0
    skew: float = 0.0  # seconds its wall clock is ahead
    deadline: float | None = None
    ends: dict[LinkId, _End] = field(default_factory=dict)
    answers: dict[int, tuple[Code | None, Any]] = field(default_factory=dict)
    delivered: list[dict[str, Any]] = field(default_factory=list)
    notices: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    push_down: bool = False

    @property
    def peer(self) -> PeerId:
        """Its id."""
        return self.suite.peer_id


class Network:
    """Machines, and everything between them."""

    def __init__(
        self, seed: int, size: int, conditions: Conditions | None = None, config: Config | None = None
    ) -> None:
        self.rng = Random(seed)
        self.conditions = conditions or Conditions()
        self.now = 0.0
        self.table = KeyTable()
        self.push = PushService(self.table)
        self.machines: list[Machine] = []
        self.transform: Callable[[int, ev.Event], ev.Event | None] | None = None  # a saboteur's hand, for tests
        self._heap: list[tuple[float, int, int, int, ev.Event]] = []
        self._sequence = 0
        self._requests = 0
        self._descriptions: dict[str, _End] = {}
        self._trace = hashlib.sha256()
        self.events = 0
        base = config or Config()
        for index in range(size):
            suite = SimSuite(self.table, self.rng.randbytes(32), self.rng.randbytes(32))
            self.machines.append(Machine(index, suite, named(base, f"n{index}")))

    # -- the world ----------------------------------------------------------------------------------------------------

    def trace(self) -> str:
        """A hash over every event that every node has handled, and every command it gave."""
        return self._trace.hexdigest()

    def unconnectable(self, a: int, b: int) -> bool:
        """Whether those two never connect directly: decided by the pair alone, so it stays that way."""
        low, high = sorted((a, b))
        return Random(low * 100_003 + high).random() < self.conditions.unconnectable

    def start(self, index: int) -> None:
        """Start a machine's daemon, with what its disk has."""
        machine = self.machines[index]
        machine.boot += 1
        stored = {table: dict(contents) for table, contents in machine.disk.items()}
        machine.node = Node(machine.config, machine.suite, Random(self.rng.getrandbits(64)), stored)
        self._handle(machine, ev.Started())

    def kill(self, index: int) -> None:
        """kill -9: memory is gone, links fall silent."""
        machine = self.machines[index]
        machine.node, machine.deadline = None, None
        for end in machine.ends.values():
            end.open = False
        machine.ends.clear()
        self.push.disconnect(index)

    def schedule(self, delay: float, machine: Machine, event: ev.Event) -> None:
        """Something will happen to that machine's present daemon."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay, self._sequence, machine.index, machine.boot, event))

    def between(self, span: tuple[float, float]) -> float:
        """A moment within a span."""
        return self.rng.uniform(*span)

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; True as soon as ``until`` holds, False (or True without one) when the time is over."""
        end = self.now + seconds
        while True:
            if until is not None and until():
                return True
            when, machine = self._next()
            if when > end:
                self.now = end
                return until is None
            self.now = max(self.now, when)
            if machine is not None:
                self._handle(machine, ev.TimerFired())
            else:
                _, _, index, boot, event = heapq.heappop(self._heap)
                target = self.machines[index]
                if target.node is not None and target.boot == boot and (event := self._arrives(target, event)):
                    self._handle(target, event)

    @staticmethod
    def _arrives(machine: Machine, event: ev.Event) -> ev.Event | None:
        """What becomes of an event about a link when its time has come: the link may be another by then."""
        if isinstance(event, _ConnectTimeout | _Hangup):
            end = machine.ends.get(event.link)
            if end is None or (isinstance(event, _ConnectTimeout) and end.other is not None):
                return None
            end.open = False
            del machine.ends[event.link]
            return ev.LinkClosed(event.link, event.reason)
        if (
            isinstance(event, ev.LinkPrepared | ev.LinkConnected | ev.MessageReceived)
            and event.link not in machine.ends
        ):
            return None
        return event

    def _next(self) -> tuple[float, Machine | None]:
        when = self._heap[0][0] if self._heap else float("inf")
        timer: Machine | None = None
        for machine in self.machines:
            if machine.deadline is not None and machine.deadline < when:
                when, timer = machine.deadline, machine
        return when, timer

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
        commands = node.handle(event, now)
        self._trace.update(f"{self.now:.6f} {machine.index} {event!r}".encode())
        for command in commands:
            self._trace.update(repr(command).encode())
            if isinstance(command, cm.SendMessage):
                self._trace.update(command.data)
            self._carry_out(machine, command)
        machine.deadline = node.next_deadline()

    # -- playing the shell --------------------------------------------------------------------------------------------

    def _carry_out(self, machine: Machine, command: cm.Command) -> None:
        match command:
            case cm.Persist(ticket, changes):
                self._write(machine, changes)
                self.schedule(self.between(self.conditions.disk), machine, ev.Persisted(ticket))
            case cm.PrepareLink(link, offerer):
                self._prepare(machine, link, offerer)
            case cm.ConnectLink(link, remote):
                self._connect(machine, link, remote)
            case cm.SendMessage(link, data):
                self._transmit(machine, link, ev.MessageReceived, data)
            case cm.CloseLink(link):
                self._close(machine, link)
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
            case cm.Notify(name, fields):
                machine.notices.append((self.now, name, dict(fields)))
            case cm.DeliverMessage(message):
                machine.delivered.append(dict(message))

    @staticmethod
    def _write(machine: Machine, changes: tuple[cm.Change, ...]) -> None:
        for change in changes:
            match change:
                case cm.Put(table, key, value):
                    machine.disk[table][key] = value
                case cm.Delete(table, key):
                    machine.disk[table].pop(key, None)
                case cm.Clear(table):
                    machine.disk[table].clear()

    # -- links --------------------------------------------------------------------------------------------------------

    def _prepare(self, machine: Machine, link: LinkId, offerer: bool) -> None:
        fingerprint = hashlib.sha256(b"%d %d" % (machine.index, machine.boot)).digest()
        ufrag = f"m{machine.index}b{machine.boot}l{link}".ljust(4, "x")
        description = SessionDescription(
            ufrag,
            "p" * 24,
            fingerprint,
            "actpass" if offerer else "active",
            (Candidate("host", f"10.{machine.index // 250}.{machine.index % 250}.1", 1024 + link % 60000),),
        )
        end = _End(machine.index, link, offerer, description, fingerprint)
        machine.ends[link] = end
        self._descriptions[ufrag] = end
        self.schedule(self.between(self.conditions.gather), machine, ev.LinkPrepared(link, description))

    def _connect(self, machine: Machine, link: LinkId, remote: SessionDescription) -> None:
        end = machine.ends.get(link)
        if end is None:
            return
        end.remote = remote
        other = self._descriptions.get(remote.ufrag)
        mutual = other is not None and other.remote is not None and other.remote.ufrag == end.description.ufrag
        if other is not None and mutual and other.open and not self.unconnectable(machine.index, other.machine):
            delay = self.between(self.conditions.connect)
            for side, across in ((end, other), (other, end)):
                side.other = across
                event = ev.LinkConnected(
                    side.link,
                    side.fingerprint,
                    across.fingerprint,
                    local_address=str(side.machine),
                    remote_address=str(across.machine),
                )
                self.schedule(delay, self.machines[side.machine], event)
        self.schedule(self.conditions.connect_timeout, machine, _ConnectTimeout(link, "ice_failed"))

    def _transmit(self, machine: Machine, link: LinkId, kind: type[ev.MessageReceived], data: bytes) -> None:
        end = machine.ends.get(link)
        if end is None or end.other is None:
            return
        delay = self.between(self.conditions.latency)
        while self.rng.random() < self.conditions.loss:
            delay += self.conditions.retransmission
        end.free_at = max(end.free_at, self.now + delay)
        other = end.other
        if other.open:
            self.schedule(end.free_at - self.now, self.machines[other.machine], kind(other.link, data))

    def _close(self, machine: Machine, link: LinkId) -> None:
        end = machine.ends.pop(link, None)
        if end is None:
            return
        end.open = False
        if end.other is not None and end.other.open:
            other = end.other
            delay = max(end.free_at - self.now, self.between(self.conditions.latency))
            self.schedule(delay, self.machines[other.machine], _Hangup(other.link, "closed_by_peer"))

    # -- push ---------------------------------------------------------------------------------------------------------

    def _user_agent(self, machine: Machine, command: cm.Command) -> None:
        delay = self.between(self.conditions.push_latency) / 4
        match command:
            case cm.OpenUserAgent(service, uaid):
                if self.push.down or machine.push_down:
                    self.schedule(delay, machine, ev.UserAgentDisconnected(service, "refused"))
                    return
                welcome, stored = self.push.hello(machine.index, uaid)
                self.schedule(delay, machine, welcome)
                for event in stored:
                    self.schedule(delay + self.between(self.conditions.push_latency), machine, event)
            case cm.CloseUserAgent():
                self.push.disconnect(machine.index)
            case cm.RegisterChannel():
                registered = self.push.register(machine.index, command)
                if registered is not None:
                    self.schedule(delay, machine, registered)
            case cm.UnregisterChannel():
                self.push.unregister(machine.index, command)

    def _post(self, machine: Machine, command: cm.SendPush) -> None:
        delay = self.between(self.conditions.push_latency)
        if self.push.down or machine.push_down:
            self.schedule(delay, machine, ev.PushAnswered(command.push, 0, "refused"))
            return
        status, delivery = self.push.accept(command, EPOCH + self.now)
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


class _ConnectTimeout(ev.LinkClosed):
    """Fires only if the link has not connected; told apart by its class, told to the node as what it is."""

    __slots__ = ()


class _Hangup(ev.LinkClosed):
    """The other side has closed a link."""

    __slots__ = ()


def named(config: Config, name: str) -> Config:
    """The same configuration for a machine of that name, with the simulated push service."""
    return replace(
        config,
        node=replace(config.node, name=name),
        push=replace(config.push, services=("sim",)),
    )
