"""What is sent arrives once, in the order of its stream, whatever the path does to the packets."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sctp_path import Path, World

from meshd.errors import LocalMisuse
from meshd.transport import chunks
from meshd.transport.config import AssociationConfig
from meshd.transport.events import Drained, Established, Writable

BINARY = 53
DATA_ONLY = AssociationConfig(offer_interleaving=False)
RENO = AssociationConfig(congestion="reno")


def kinds(packet: bytes) -> list[int]:
    return [kind for kind, _, _ in chunks.split_chunks(packet)]


def both(config: AssociationConfig) -> tuple[AssociationConfig, AssociationConfig]:
    return config, config


@pytest.mark.parametrize("interleaving", [True, False])
def test_messages_of_all_sizes_arrive(interleaving: bool) -> None:
    world = World(configs=both(AssociationConfig(offer_interleaving=interleaving))).connect()
    assert Established(interleaving) in world.ends[0].events
    sent = [bytes([n % 256]) * n for n in (1, 2, 3, 4, 1000, 1151, 1152, 1155, 1156, 1159, 1160, 5000, 16_384, 262_144)]
    for data in sent:
        world.a.send(1, BINARY, data)
    assert world.run(10, lambda: len(world.ends[1].messages) == len(sent))
    assert [message.data for message in world.ends[1].messages] == sent
    assert {message.stream for message in world.ends[1].messages} == {1}
    assert world.run(1, lambda: world.ends[0].events[-1:] == [Drained()])
    assert world.a.unacknowledged_size == 0


plans = st.lists(
    st.tuples(
        st.integers(0, 3),  # stream
        st.integers(1, 9000),  # size
        st.booleans(),  # ordered
        st.integers(0, 2),  # priority
        st.booleans(),  # from a, or from b
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    plan=plans,
    seed=st.integers(0, 1 << 30),
    loss=st.sampled_from([0.0, 0.02, 0.2, 0.4]),
    jitter=st.sampled_from([0.0, 0.002, 0.05]),
    duplicate=st.sampled_from([0.0, 0.3]),
    interleaving=st.booleans(),
    controller=st.sampled_from(["bbr", "reno"]),
)
def test_exactly_once_and_in_order_over_any_path(plan, seed, loss, jitter, duplicate, interleaving, controller) -> None:
    config = AssociationConfig(congestion=controller, offer_interleaving=interleaving, max_timeouts=100)
    path = Path(delay=0.005, loss=0.0, jitter=jitter, duplicate=duplicate)
    world = World(seed=seed, path=path, configs=both(config)).connect()
    for one in world.paths:
        one.loss = loss
    expected: list[dict[tuple[int, bool], list[bytes]]] = [{}, {}]
    for number, (stream, size, ordered, priority, from_a) in enumerate(plan):
        data = (number.to_bytes(4) * (size // 4 + 1))[:size]
        end = world.ends[0 if from_a else 1]
        # Of one stream only one priority: otherwise priority decides the order, as it should.
        end.association.send(stream, BINARY, data, priority=stream if ordered else priority, ordered=ordered)
        expected[1 if from_a else 0].setdefault((stream, ordered), []).append(data)
    total = [sum(map(len, of.values())) for of in expected]
    assert world.run(3000, lambda: all(len(world.ends[i].messages) >= total[i] for i in (0, 1)))
    world.run(2)
    for index in (0, 1):
        got: dict[int, list[bytes]] = {}
        for message in world.ends[index].messages:
            got.setdefault(message.stream, []).append(message.data)
        for stream in range(4):
            ordered_ones = expected[index].get((stream, True), [])
            others = expected[index].get((stream, False), [])
            arrived = got.get(stream, [])
            assert sorted(arrived) == sorted(ordered_ones + others)
            rest = list(others)
            in_order = []
            for data in arrived:
                if data in rest and data not in ordered_ones:
                    rest.remove(data)
                else:
                    in_order.append(data)
            if not others:
                assert in_order == ordered_ones
    assert world.ends[0].closed is None
    assert world.ends[1].closed is None


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1 << 30), interleaving=st.booleans())
def test_ordered_streams_keep_their_order_under_loss(seed, interleaving) -> None:
    world = World(
        seed=seed, path=Path(loss=0.05, jitter=0.01), configs=both(AssociationConfig(offer_interleaving=interleaving))
    )
    world.connect()
    for number in range(300):
        world.a.send(number % 2, BINARY, number.to_bytes(4) * (1 + number % 600), priority=number % 2)
    assert world.run(120, lambda: len(world.ends[1].messages) == 300)
    for stream in (0, 1):
        numbers = [int.from_bytes(m.data[:4]) for m in world.ends[1].messages if m.stream == stream]
        assert numbers == list(range(stream, 300, 2))


def test_a_small_urgent_message_passes_a_long_one_between_fragments() -> None:
    world = World(path=Path(rate=125_000, delay=0.02)).connect()
    world.a.send(1, BINARY, bytes(200_000), priority=2)
    world.run(0.3)
    world.a.send(0, BINARY, b"urgent", priority=0)
    assert world.run(10, lambda: len(world.ends[1].messages) == 2)
    assert [len(message.data) for message in world.ends[1].messages] == [6, 200_000]


def test_without_interleaving_a_message_begun_is_finished_first() -> None:
    world = World(path=Path(rate=125_000, delay=0.02), configs=both(DATA_ONLY)).connect()
    world.a.send(1, BINARY, bytes(100_000), priority=2)
    world.a.send(1, BINARY, bytes(100_001), priority=2)
    world.run(0.3)
    world.a.send(0, BINARY, b"urgent", priority=0)
    assert world.run(10, lambda: len(world.ends[1].messages) == 3)
    assert [len(message.data) for message in world.ends[1].messages] == [100_000, 6, 100_001]


def test_streams_of_one_priority_share() -> None:
    world = World(path=Path(rate=125_000, delay=0.02)).connect()
    world.a.send(1, BINARY, bytes(100_000))
    world.a.send(2, BINARY, bytes(10_000))
    assert world.run(10, lambda: len(world.ends[1].messages) == 2)
    assert [len(message.data) for message in world.ends[1].messages] == [10_000, 100_000]


def test_a_loss_holds_up_its_own_stream_only() -> None:
    world = World(path=Path(delay=0.05)).connect()
    world.a.send(1, BINARY, b"lost at first")
    world.paths[0].is_down = True
    world.flush(0)
    world.paths[0].is_down = False
    world.a.send(1, BINARY, b"behind it")
    world.flush(0)
    world.a.send(0, BINARY, b"another stream")
    world.a.send(1, BINARY, b"unordered", ordered=False)
    assert world.run(10, lambda: len(world.ends[1].messages) == 4)
    assert [m.data for m in world.ends[1].messages] == [b"another stream", b"unordered", b"lost at first", b"behind it"]


def test_small_messages_share_a_packet() -> None:
    world = World().connect()
    world.run(1)
    world.ends[0].keep = True
    for _ in range(40):
        world.a.send(0, BINARY, b"twenty bytes of text")
    world.run(1)
    data = [packet for packet in world.ends[0].sent if chunks.I_DATA in kinds(packet)]
    assert len(data) == 2
    assert all(len(packet) <= 1191 for packet in data)
    assert len(world.ends[1].messages) == 40


def test_acknowledgements_are_few_and_go_with_data() -> None:
    world = World(path=Path(delay=0.02, rate=5_000_000)).connect()
    world.ends[1].keep = True
    sent = 0

    def more() -> bool:
        nonlocal sent
        while sent < 200 and world.a.unsent_size() < 100_000:
            world.a.send(1, BINARY, bytes(16_384))
            sent += 1
        return len(world.ends[1].messages) == 200

    assert world.run(30, more)
    figures = world.a.statistics()
    acknowledgements = len([packet for packet in world.ends[1].sent if chunks.SACK in kinds(packet)])
    assert acknowledgements < figures.data_packets_sent / 3
    world.ends[1].sent.clear()
    world.run(1)
    # question and answer: the acknowledgement of the question travels with the answer
    world.ends[1].sent.clear()
    world.a.send(0, BINARY, b"question")
    assert world.run(1, lambda: len(world.ends[1].messages) == 201)
    world.b.send(0, BINARY, b"answer")
    assert world.run(1, lambda: len(world.ends[0].messages) == 1)
    assert [kinds(packet) for packet in world.ends[1].sent] == [[chunks.SACK, chunks.I_DATA]]


def test_a_lone_packet_is_acknowledged_within_twenty_milliseconds() -> None:
    world = World(path=Path(delay=0.001)).connect()
    world.run(1)
    world.a.send(0, BINARY, b"x")
    start = world.now
    assert world.run(1, lambda: world.a.unacknowledged_size == 0 and world.a.unsent_size() == 0)
    assert 0.02 <= world.now - start < 0.025


def test_the_immediate_bit_is_honoured() -> None:
    world = World(path=Path(delay=0.001)).connect()
    world.run(1)

    def mark(sender: int, packet: bytes) -> bytes:
        if sender == 0 and packet[12] == chunks.I_DATA:
            return packet[:13] + bytes([packet[13] | chunks.IMMEDIATE]) + packet[14:]
        return packet

    world.on_packet = mark
    world.a.send(0, BINARY, b"x")
    start = world.now
    assert world.run(1, lambda: world.a.unacknowledged_size == 0 and world.a.unsent_size() == 0)
    assert world.now - start < 0.003


# -- flow control ------------------------------------------------------------------------------------------------------


def test_a_reader_that_stops_stops_the_sender_and_loses_nothing() -> None:
    config = AssociationConfig(max_receive_buffer_size=100_000)
    world = World(configs=both(config)).connect()
    for number in range(40):
        world.a.send(1, BINARY, bytes([number]) * 16_384)

    def read_nothing(_: int) -> None:
        world.b.set_unread_size(sum(len(message.data) for message in world.ends[1].messages))

    world.before_transmit = read_nothing
    world.run(20)
    held = sum(len(message.data) for message in world.ends[1].messages)
    assert held <= 100_000
    assert world.ends[0].closed is None, "a closed window is no death"
    figures = world.a.statistics()
    assert figures.timeouts > 3
    assert figures.chunks_retransmitted < 30, "probes of a closed window are few"
    world.before_transmit = lambda _: None
    world.b.set_unread_size(0)
    start = world.now
    assert world.run(20, lambda: len(world.ends[1].messages) == 40)
    assert world.now - start < 2, "the window's opening was told, not waited for"
    assert [message.data[0] for message in world.ends[1].messages] == list(range(40))


def test_the_peers_window_is_respected() -> None:
    world = World(configs=(AssociationConfig(), AssociationConfig(max_receive_buffer_size=20_000))).connect()
    world.paths[0].delay = 1.0
    for _ in range(10):
        world.a.send(1, BINARY, bytes(16_384))
    world.flush(0)
    assert world.a.unacknowledged_size <= 20_000
    assert world.run(60, lambda: len(world.ends[1].messages) == 10)


def test_the_send_buffer_is_bounded_and_says_when_there_is_room() -> None:
    world = World(configs=both(AssociationConfig(max_send_buffer_size=600_000))).connect()
    for _ in range(36):
        world.a.send(1, BINARY, bytes(16_384))
    with pytest.raises(LocalMisuse, match="full"):
        world.a.send(1, BINARY, bytes(16_384))
    assert world.a.unsent_size() == 36 * 16_384
    assert world.a.unsent_size(0) == 36 * 16_384
    assert world.a.unsent_size(1) == 0
    assert world.run(10, lambda: Writable() in world.ends[0].events)
    world.a.send(1, BINARY, bytes(16_384))
    with pytest.raises(LocalMisuse, match="bytes"):
        world.a.send(1, BINARY, b"")
    with pytest.raises(LocalMisuse, match="bytes"):
        world.a.send(1, BINARY, bytes(262_145))
    with pytest.raises(LocalMisuse, match="range"):
        world.a.send(16, BINARY, b"x")
