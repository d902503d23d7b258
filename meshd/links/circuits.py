"""Circuits: what goes over one link for pairs without a link of their own, as whole records that only they can read.

At each end of a link a circuit has a user: one end of a relayed stream, or, at a relay, the circuit on the other side.
Credit runs from hop to hop, so that nobody holds more of a circuit than it has granted, and a relay that nobody reads
from stops reading. Neighbors take turns, and within one neighbor's the circuits.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

from meshd.core.commands import Priority
from meshd.errors import LocalMisuse, MalformedMessage
from meshd.ids import LinkId
from meshd.wire.credit import ReceiveCredit, SendCredit
from meshd.wire.frame import (
    Frame,
    FrameType,
    decode_number,
    encode_circuit,
    encode_circuit_credit,
    max_circuit_record_size,
)

# Policy
CIRCUIT_WINDOW = 262_144  # bytes granted on a circuit at first, at each hop
CIRCUIT_SLACK = 131_072  # bytes that wait at a relay whose next hop is quick: what came in one go
MAX_CIRCUIT_WINDOWS_SIZE = 16_777_216  # bytes granted on all circuits of a link above which no window grows

BULK = int(Priority.BULK)
CREDIT_PRIORITY = int(Priority.MESSAGE)


class CircuitUser(Protocol):
    """Whoever a circuit at one end of a link is for."""

    source: LinkId | None
    """The link whose neighbor's bytes these are; None: our own."""

    def take_record(self, size: int) -> bytes | None:
        """The next record to send, of at most ``size`` bytes; None if there is none, or none that fits."""
        ...

    def on_record(self, record: bytes) -> None:
        """A record has come. Once it is no burden any more: ``Circuit.consumed``."""
        ...

    def on_circuit_over(self) -> None:
        """The circuit is gone: closed here, or with its link. Nothing is to be asked of it any more."""
        ...


class _Nobody:
    """The user of a circuit whose user has left it."""

    source: LinkId | None = None

    def take_record(self, size: int) -> bytes | None:
        return None

    def on_record(self, record: bytes) -> None:
        pass

    def on_circuit_over(self) -> None:
        pass


_NOBODY = _Nobody()


class Circuit:
    """One circuit at one end of a link."""

    __slots__ = (
        "_circuits",
        "head",
        "is_over",
        "is_ready",
        "max_record_size",
        "number",
        "receiving",
        "sending",
        "user",
    )

    def __init__(self, number: int, user: CircuitUser, circuits: LinkCircuits) -> None:
        self.number = number
        self.user = user
        self._circuits = circuits
        self.sending = SendCredit()
        self.receiving = ReceiveCredit(CIRCUIT_WINDOW, CIRCUIT_SLACK)
        self.head = encode_circuit(number, b"", priority=BULK)  # of the frame of a record
        self.max_record_size = max_circuit_record_size(number)
        self.is_ready = False  # stands in the queue of those who may have something to send
        self.is_over = False

    def wake(self) -> None:
        """There may be something to send."""
        if not (self.is_ready or self.is_over):
            self._circuits.make_ready(self)

    def leave(self) -> None:
        """Its user is nobody's any more: nothing is sent, and what comes is dropped, until it is closed."""
        self.user = _NOBODY

    def consumed(self, size: int) -> None:
        """So many bytes of records that came are no burden any more: as many may come."""
        if not self.is_over:
            self._circuits.grant(self, size)


class LinkCircuits:
    """The circuits of one link. Called on asyncio's loop; nothing waits.

    ``queue(frame, priority)`` sends a frame before those that are still to be taken; ``wake()`` says that ``take`` may
    give something.
    """

    def __init__(
        self, *, queue: Callable[[bytes, int], None], wake: Callable[[], None], counters: Counter[str]
    ) -> None:
        self._queue = queue
        self._wake = wake
        self._counters = counters
        self._circuits: dict[int, Circuit] = {}
        self._ready: dict[LinkId | None, deque[Circuit]] = {}  # by source; the first one's turn is next
        self._windows_size = 0

    def __len__(self) -> int:
        return len(self._circuits)

    def open(self, number: int, user: CircuitUser) -> Circuit:
        """A circuit for ``user``, who may be given records from now on. Raises LocalMisuse for one that is open."""
        if number in self._circuits:
            raise LocalMisuse(f"circuit {number} is open already")
        circuit = self._circuits[number] = Circuit(number, user, self)
        self._windows_size += circuit.receiving.window
        self._queue(encode_circuit_credit(number, circuit.receiving.limit, priority=CREDIT_PRIORITY), CREDIT_PRIORITY)
        return circuit

    def close(self, number: int) -> None:
        """It is over; its user is told. Nothing, if there is none of that number."""
        circuit = self._circuits.pop(number, None)
        if circuit is not None:
            self._windows_size -= circuit.receiving.window
            circuit.is_over = True
            circuit.user.on_circuit_over()

    def close_all(self) -> None:
        """The link is going."""
        for number in list(self._circuits):
            self.close(number)
        self._ready.clear()

    # -- out ----------------------------------------------------------------------------------------------------------

    def make_ready(self, circuit: Circuit) -> None:
        """It may have something to send."""
        circuit.is_ready = True
        self._ready.setdefault(circuit.user.source, deque()).append(circuit)
        self._wake()

    def take(self) -> bytes | None:
        """The next frame: of each neighbor in turn, of each of its circuits in turn; None if there is nothing."""
        while self._ready:
            source, waiting = next(iter(self._ready.items()))
            circuit = waiting.popleft()
            circuit.is_ready = False
            record = None
            if not circuit.is_over:
                record = circuit.user.take_record(min(circuit.sending.available, circuit.max_record_size))
            if record is not None and not circuit.is_over and not circuit.is_ready:
                circuit.is_ready = True
                waiting.append(circuit)
            if record is not None or not waiting:
                del self._ready[source]
                if waiting:
                    self._ready[source] = waiting  # at the end: the others come first
            if record is not None:
                circuit.sending.spend(len(record))
                return circuit.head + record
        return None

    # -- in -----------------------------------------------------------------------------------------------------------

    def on_frame(self, frame: Frame) -> None:
        """A CIRCUIT or CIRCUIT_CREDIT frame. Raises MalformedMessage if no peer in good faith would have sent it."""
        circuit = self._circuits.get(frame.stream)
        if frame.type == FrameType.CIRCUIT_CREDIT:
            limit = decode_number(frame)
            if circuit is not None and circuit.sending.grant(limit):
                circuit.wake()
        elif circuit is not None:
            if not frame.payload:
                raise MalformedMessage("an empty record")
            circuit.receiving.receive(circuit.receiving.received, len(frame.payload))
            circuit.user.on_record(frame.payload)
        if circuit is None:
            self._counters["circuit_frame_late"] += 1  # on its way when the circuit was closed here

    def grant(self, circuit: Circuit, size: int) -> None:
        """See ``Circuit.consumed``."""
        before = circuit.receiving.window
        limit = circuit.receiving.consume(size, may_grow=self._windows_size < MAX_CIRCUIT_WINDOWS_SIZE)
        self._windows_size += circuit.receiving.window - before
        if limit is not None:
            frame = encode_circuit_credit(circuit.number, limit, priority=CREDIT_PRIORITY)
            self._queue(frame, CREDIT_PRIORITY)
