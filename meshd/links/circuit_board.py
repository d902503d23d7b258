"""Who is at the ends of circuits: relayed streams of this node, and splices of what it relays for others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from meshd.core.commands import AttachCircuit, CloseCircuit, EndRelayedStream, OpenRelayedStream, SpliceCircuits
from meshd.core.events import Event, RelayedStreamEnded
from meshd.ids import LinkId
from meshd.links.circuits import Circuit, CircuitUser
from meshd.links.descriptor import Lent
from meshd.links.relayed_stream import Kept, RelayedStream
from meshd.links.relaying import Quotas, Splice
from meshd.wire.frame import ResetCode

CircuitCommand = OpenRelayedStream | AttachCircuit | EndRelayedStream | SpliceCircuits | CloseCircuit


class CircuitLink(Protocol):
    """What this board asks of a link."""

    def open_circuit(self, circuit: int, user: CircuitUser) -> Circuit | None:
        """Raises LocalMisuse for a number in use. None: the link is about to end."""
        ...

    def close_circuit(self, circuit: int) -> None:
        """Nothing, if there is none."""
        ...


class CircuitBoard:
    """Called on asyncio's loop; nothing waits. ``link_of`` finds a link that has not ended."""

    def __init__(
        self,
        link_of: Callable[[LinkId], CircuitLink | None],
        take_descriptor: Callable[[int], Lent | None],
        deliver: Callable[[Event], None],
        counters: Counter[str],
    ) -> None:
        self._link_of = link_of
        self._take_descriptor = take_descriptor
        self._deliver = deliver
        self._counters = counters
        self._streams: dict[int, RelayedStream] = {}
        self._kept = Kept()
        self._quotas = Quotas()

    def submit(self, command: CircuitCommand) -> None:
        """Carry it out. Raises LocalMisuse for a number that is in use."""
        match command:
            case OpenRelayedStream():
                self._open(command)
            case AttachCircuit(stream, link, circuit):
                self._attach(stream, link, circuit)
            case EndRelayedStream(stream, reason):
                if (ending := self._streams.get(stream)) is not None:
                    ending.end(reason)
            case SpliceCircuits():
                self._splice(command)
            case CloseCircuit(link, circuit):
                if (found := self._link_of(link)) is not None:
                    found.close_circuit(circuit)

    def _open(self, command: OpenRelayedStream) -> None:
        lent = self._take_descriptor(command.descriptor)
        keys = (command.sending_key, command.receiving_key)
        try:
            if lent is None:
                raise FileNotFoundError
            stream = RelayedStream(
                command.stream, lent, keys, tell=self._tell, kept=self._kept, counters=self._counters
            )
        except OSError:
            ended = RelayedStreamEnded(command.stream, "failed_here", int(ResetCode.FAILED), 0, 0)
            asyncio.get_running_loop().call_soon(self._deliver, ended)
            return
        self._streams[command.stream] = stream

    def _tell(self, event: Event) -> None:
        if isinstance(event, RelayedStreamEnded):
            self._streams.pop(event.stream, None)
        self._deliver(event)

    def _attach(self, number: int, link: LinkId, circuit_number: int) -> None:
        stream, found = self._streams.get(number), self._link_of(link)
        if stream is None or stream.is_over or found is None:
            self._counters["command_late"] += 1
            return
        circuit = found.open_circuit(circuit_number, stream)
        if circuit is not None:
            stream.attach(circuit)

    def _splice(self, command: SpliceCircuits) -> None:
        incoming, outgoing = self._link_of(command.link), self._link_of(command.onward_link)
        if incoming is None or outgoing is None:
            self._counters["command_late"] += 1
            return
        links, whose = (command.link, command.onward_link), (command.link, command.destination)
        splice = Splice(links, whose, command.rate, self._quotas, self._counters)
        one = incoming.open_circuit(command.circuit, splice.sides[0])
        other = outgoing.open_circuit(command.onward_circuit, splice.sides[1])
        if one is None or other is None:
            incoming.close_circuit(command.circuit)
            outgoing.close_circuit(command.onward_circuit)
            splice.end()
            return
        splice.sides[0].circuit, splice.sides[1].circuit = one, other

    def end_all(self) -> None:
        """The port is closing."""
        for stream in list(self._streams.values()):
            stream.end("link_lost")
