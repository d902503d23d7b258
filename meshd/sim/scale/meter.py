"""Bytes on links, by kind of message and by who sends them: seen on the wire, not asked of nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.sim.inspection import kind_of
from meshd.sim.machine import Machine
from meshd.sim.scale.traffic import MAGIC

# Specification
WIRE_SIZE = 93  # bytes around a message: IPv4 20, UDP 8, DTLS 1.2 with AES-GCM 37, SCTP 12, DATA chunk 16
HEARTBEAT_SIZE = 105  # IPv4 20, UDP 8, DTLS 37, SCTP 12, HEARTBEAT chunk 28: asked, and the same answered

# Policy
APPLICATION = "application messages"
HEARTBEATS = "heartbeats"
PUSHES = "pushes"


@dataclass(slots=True)
class Sent:
    """What was sent of a kind."""

    messages: int = 0
    size: int = 0


@dataclass(slots=True)
class Meter:
    """Sums since ``restart``. Application messages and pushes are no control traffic."""

    machines: int
    began: float = 0.0
    kinds: dict[str, Sent] = field(default_factory=dict)
    by_machine: list[int] = field(default_factory=list)  # bytes of control traffic

    def restart(self, now: float) -> None:
        """Count from now on."""
        self.began = now
        self.kinds = {}
        self.by_machine = [0] * self.machines

    def on_handled(self, machine: Machine, event: ev.Event, commands: list[cm.Command]) -> None:
        """See ``Watcher``."""
        if not self.by_machine:
            return
        if isinstance(event, ev.HeartbeatReceived):
            self._add(machine.index, HEARTBEATS, HEARTBEAT_SIZE)
        for command in commands:
            if isinstance(command, cm.SendMessage):
                data = command.data
                if MAGIC in data:
                    self._add(None, APPLICATION, len(data) + WIRE_SIZE)
                else:
                    self._add(machine.index, kind_of(data), len(data) + WIRE_SIZE)
            elif isinstance(command, cm.SendHeartbeat):
                self._add(machine.index, HEARTBEATS, HEARTBEAT_SIZE)
            elif isinstance(command, cm.SendPush):
                self._add(None, PUSHES, len(command.body))

    def _add(self, index: int | None, kind: str, size: int) -> None:
        sent = self.kinds.get(kind)
        if sent is None:
            sent = self.kinds[kind] = Sent()
        sent.messages += 1
        sent.size += size
        if index is not None:
            self.by_machine[index] += size

    def control_size(self) -> int:
        """Bytes of control traffic of all together."""
        return sum(self.by_machine)

    def on_started(self, machine: Machine) -> None:
        """See ``Watcher``."""

    def on_killed(self, machine: Machine) -> None:
        """See ``Watcher``."""
