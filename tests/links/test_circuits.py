"""Circuits of one link without a network: whose turn it is, and what no honest peer sends."""

from __future__ import annotations

from collections import Counter, deque

import pytest

from meshd.errors import LocalMisuse, MalformedMessage
from meshd.ids import LinkId
from meshd.links.circuits import CIRCUIT_WINDOW, MAX_CIRCUIT_WINDOWS_SIZE, Circuit, LinkCircuits
from meshd.wire.credit import MAX_STREAM_WINDOW
from meshd.wire.frame import (
    Frame,
    FrameType,
    decode_frame,
    decode_number,
    encode_circuit_credit,
    encode_varint,
)


class User:
    def __init__(self, source: int | None, *records: bytes) -> None:
        self.source = None if source is None else LinkId(source)
        self.records = deque(records)
        self.got: list[bytes] = []
        self.is_over = False

    def take_record(self, size: int) -> bytes | None:
        return self.records.popleft() if self.records and len(self.records[0]) <= size else None

    def on_record(self, record: bytes) -> None:
        self.got.append(record)

    def on_circuit_over(self) -> None:
        self.is_over = True


class Bench:
    def __init__(self) -> None:
        self.queued: list[bytes] = []
        self.counters: Counter[str] = Counter()
        self.circuits = LinkCircuits(
            queue=lambda frame, priority: self.queued.append(frame), wake=lambda: None, counters=self.counters
        )

    def open(self, number: int, user: User, credit: int = 1_000_000) -> Circuit:
        circuit = self.circuits.open(number, user)
        self.circuits.on_frame(decode_frame(encode_circuit_credit(number, credit, priority=1)))
        return circuit

    def order(self) -> list[int]:
        """The circuits of all frames that may be sent, in order."""
        frames = iter(self.circuits.take, None)
        return [decode_frame(frame).stream for frame in frames]


def records(count: int, size: int = 1_000) -> list[bytes]:
    return [bytes(size)] * count


def test_neighbors_take_turns_however_many_circuits_they_have() -> None:
    bench = Bench()
    for number in range(1, 6):
        bench.open(number, User(7, *records(4)))
    bench.open(6, User(8, *records(4)))
    order = bench.order()
    assert len(order) == 24
    assert order[:8].count(6) == 4  # one of each two, while it has any
    assert sorted(order[:8]) == [1, 2, 3, 4, 6, 6, 6, 6]


def test_nothing_is_sent_beyond_what_the_next_hop_granted() -> None:
    bench = Bench()
    user = User(None, *records(5))
    circuit = bench.open(1, user, credit=2_500)
    assert bench.order() == [1, 1]
    bench.circuits.on_frame(decode_frame(encode_circuit_credit(1, 2_000, priority=1)))  # limits never fall
    assert bench.order() == []
    bench.circuits.on_frame(decode_frame(encode_circuit_credit(1, 4_000, priority=1)))
    assert bench.order() == [1, 1]
    circuit.leave()
    circuit.wake()
    assert bench.order() == []


def test_more_than_was_granted_is_no_good_faith() -> None:
    bench = Bench()
    user = User(None)
    circuit = bench.circuits.open(1, user)
    assert decode_number(decode_frame(bench.queued[-1])) == CIRCUIT_WINDOW
    frame = Frame(FrameType.CIRCUIT, 2, False, 1, bytes(16_000))
    for _ in range(CIRCUIT_WINDOW // 16_000):
        bench.circuits.on_frame(frame)
    with pytest.raises(MalformedMessage):
        bench.circuits.on_frame(frame)
    with pytest.raises(MalformedMessage):
        bench.circuits.on_frame(Frame(FrameType.CIRCUIT, 2, False, 1, b""))
    with pytest.raises(MalformedMessage):
        bench.circuits.on_frame(Frame(FrameType.CIRCUIT_CREDIT, 1, False, 1, b""))
    for _ in user.got:
        circuit.consumed(16_000)
    assert decode_number(decode_frame(bench.queued[-1])) > CIRCUIT_WINDOW


def test_windows_grow_up_to_a_limit_for_all_together() -> None:
    bench = Bench()
    pairs = [(bench.circuits.open(number, User(None)), number) for number in range(1, 9)]
    for _ in range(40):
        for circuit, number in pairs:
            for _ in range(32):
                bench.circuits.on_frame(Frame(FrameType.CIRCUIT, 2, False, number, bytes(8_000)))
                circuit.consumed(8_000)
    total = sum(circuit.receiving.window for circuit, _ in pairs)
    assert bench.circuits._windows_size == total
    assert MAX_CIRCUIT_WINDOWS_SIZE / 2 < total < MAX_CIRCUIT_WINDOWS_SIZE + MAX_STREAM_WINDOW
    bench.circuits.close_all()
    assert bench.circuits._windows_size == 0


def test_what_comes_too_late_does_no_harm() -> None:
    bench = Bench()
    user = User(None, *records(1))
    circuit = bench.open(1, user)
    with pytest.raises(LocalMisuse):
        bench.circuits.open(1, user)
    bench.circuits.close(1)
    bench.circuits.close(1)
    assert (user.is_over, len(bench.circuits), bench.order()) == (True, 0, [])
    circuit.wake()
    circuit.consumed(1)
    for kind, payload in ((FrameType.CIRCUIT, b"x"), (FrameType.CIRCUIT_CREDIT, encode_varint(9))):
        bench.circuits.on_frame(Frame(kind, 2, False, 1, payload))
    assert bench.counters["circuit_frame_late"] == 2
