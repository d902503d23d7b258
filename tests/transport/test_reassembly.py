"""Numbers that come round again, and fragments in any order."""

from __future__ import annotations

import random

import pytest

from meshd.errors import MalformedMessage
from meshd.transport.chunks import FIRST, LAST, UNORDERED
from meshd.transport.outstanding import ACKNOWLEDGED, Outstanding, SentChunk
from meshd.transport.reassembly import Reassembly
from meshd.transport.send_queue import Outgoing, SendQueue

WHOLE = FIRST | LAST


def test_stream_sequence_numbers_come_round() -> None:
    reassembly = Reassembly(2, False, 1000)
    for number in range(65_534):
        reassembly.on_data(number, WHOLE, 0, number, 53, b"x")
    reassembly.messages.clear()
    for offset in (1, 2, 3, 0):  # 65,534 comes last, behind 65,535, 0 and 1
        tsn = 65_534 + offset
        reassembly.on_data(tsn, WHOLE, 0, tsn & 0xFFFF, 53, bytes([offset]))
    assert [message.data for message in reassembly.messages] == [b"\0", b"\1", b"\2", b"\3"]
    assert reassembly.held_size == reassembly.held_count == 0


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("interleaving", [True, False])
def test_fragments_in_any_order(seed: int, interleaving: bool) -> None:
    rng = random.Random(seed)
    reassembly = Reassembly(3, interleaving, 10_000)
    queue = SendQueue()
    queue.interleaving = interleaving
    expected: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    for number in range(12):
        stream = rng.randrange(3)
        data = bytes([number]) * rng.choice([1, 50, 2000, 5000])
        expected[stream].append(data)
        queue.put(Outgoing(stream, 53, data, rng.randrange(2) if stream == 2 else 0, stream != 2, None))
    sent: list[SentChunk] = []
    while queue.size:
        chunk = queue.next_chunk(300, len(sent))
        assert chunk is not None
        sent.append(chunk)
    rng.shuffle(sent)
    for chunk in sent:
        head, payload = chunk.head, bytes(chunk.payload)
        flags, stream = head[1], int.from_bytes(head[8:10])
        if interleaving:
            reassembly.on_i_data(flags, stream, int.from_bytes(head[12:16]), int.from_bytes(head[16:20]), payload)
        else:
            number, ppid = int.from_bytes(head[10:12]), int.from_bytes(head[12:16])
            reassembly.on_data(chunk.tsn, flags, stream, number, ppid, payload)
    for stream in (0, 1):
        assert [message.data for message in reassembly.messages if message.stream == stream] == expected[stream]
    assert sorted(message.data for message in reassembly.messages if message.stream == 2) == sorted(expected[2])
    assert {message.ppid for message in reassembly.messages} == {53}
    assert reassembly.held_size == reassembly.held_count == 0


def test_fragments_that_contradict_each_other() -> None:
    twice = Reassembly(1, True, 1000)
    twice.on_i_data(FIRST, 0, 0, 53, b"a")
    with pytest.raises(MalformedMessage, match="twice"):
        twice.on_i_data(FIRST, 0, 0, 53, b"b")
    beyond = Reassembly(1, True, 1000)
    beyond.on_i_data(0, 0, 0, 5, b"a")
    beyond.on_i_data(LAST, 0, 0, 1, b"a")
    with pytest.raises(MalformedMessage, match="beyond"):
        beyond.on_i_data(FIRST, 0, 0, 53, b"b")
    mixed = Reassembly(2, False, 1000)
    mixed.on_data(1, FIRST, 0, 0, 53, b"a")
    with pytest.raises(MalformedMessage, match="two messages"):
        mixed.on_data(2, LAST, 1, 0, 53, b"a")
    mixed = Reassembly(2, False, 1000)
    mixed.on_data(2, LAST, 1, 0, 53, b"a")
    with pytest.raises(MalformedMessage, match="two messages"):
        mixed.on_data(1, FIRST | UNORDERED, 1, 0, 53, b"a")


def test_outstanding_goes_on_beyond_32_bits() -> None:
    outstanding = Outstanding(0xFFFFFFFE)
    for _ in range(6):
        outstanding.add(SentChunk(outstanding.next_tsn, b"head", memoryview(b"xx"), None))
    assert outstanding.size == 6 * 8
    newly = outstanding.acknowledge(0xFFFFFFFF, [(0x100000001, 0x100000001)])
    assert [chunk.tsn for chunk in newly] == [0xFFFFFFFE, 0xFFFFFFFF, 0x100000001]
    for chunk in newly:
        chunk.state = ACKNOWLEDGED
    assert [chunk.tsn for chunk in outstanding.acknowledge(0x100000002, [])] == [0x100000000, 0x100000002]
