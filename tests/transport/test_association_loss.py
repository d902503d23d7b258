"""How losses are found and mended: by later arrivals, by a probe, by the timer; and what a SACK costs."""

from __future__ import annotations

import pytest
from sctp_path import Path, World

from meshd.transport import chunks
from meshd.transport.config import AssociationConfig
from meshd.transport.congestion.controller import Packet
from meshd.transport.events import Closed
from meshd.transport.outstanding import ACKNOWLEDGED, Outstanding, SentChunk

BINARY = 53


def is_data(packet: bytes) -> bool:
    return any(kind in (chunks.I_DATA, chunks.DATA) for kind, _, _ in chunks.split_chunks(packet))


class Lose:
    """Drops the data packets of end 0 with these numbers, counting from when it is made."""

    def __init__(self, world: World, *numbers: int) -> None:
        self.numbers = numbers
        self.seen = 0
        world.on_packet = self

    def __call__(self, sender: int, packet: bytes) -> bytes | None:
        if sender or not is_data(packet):
            return packet
        self.seen += 1
        return None if self.seen - 1 in self.numbers else packet


@pytest.fixture
def world() -> World:
    """A path of 40 ms there and back of which the round trip is known."""
    world = World(path=Path(delay=0.02)).connect()
    world.a.send(0, BINARY, bytes(3000))
    assert world.run(2, lambda: world.a.statistics().srtt is not None)
    world.run(1)
    world.ends[1].events.clear()
    return world


def test_a_hole_is_filled_within_a_round_trip_and_a_bit(world: World) -> None:
    Lose(world, 2)
    start = world.now
    world.a.send(1, BINARY, bytes(9_000))
    assert world.run(5, lambda: bool(world.ends[1].messages))
    assert world.now - start < 0.065, "no timer is as quick"
    figures = world.a.statistics()
    assert (figures.chunks_retransmitted, figures.timeouts, figures.tail_probes) == (1, 0, 0)


def test_a_lost_retransmission_is_found_without_the_timer(world: World) -> None:
    Lose(world, 2, 8)
    world.a.send(1, BINARY, bytes(9_000))
    world.run(0.041)
    for _ in range(30):
        world.a.send(0, BINARY, bytes(1100))
        world.run(0.005)
    assert world.run(5, lambda: any(message.stream == 1 for message in world.ends[1].messages))
    figures = world.a.statistics()
    assert figures.chunks_retransmitted == 2
    assert figures.timeouts == 0


def test_a_lost_tail_is_found_by_a_probe(world: World) -> None:
    Lose(world, 1)
    start = world.now
    world.a.send(1, BINARY, bytes(2_000))
    assert world.run(5, lambda: bool(world.ends[1].messages))
    assert world.now - start < 0.22, "an acknowledgement, two round trips and a bit, one way: before the timer"
    figures = world.a.statistics()
    assert (figures.timeouts, figures.tail_probes) == (0, 1)


def test_what_goes_once_is_never_sent_again_as_a_probe(world: World) -> None:
    Lose(world, 0)
    world.a.send(0, BINARY, b"beat", ordered=False, max_retransmits=0)
    world.run(5)
    assert not world.ends[1].messages
    figures = world.a.statistics()
    assert (figures.chunks_retransmitted, figures.tail_probes) == (0, 0)


def test_a_lost_tail_behind_which_something_goes_once_is_the_probe(world: World) -> None:
    Lose(world, 0, 1)
    world.a.send(1, BINARY, bytes(1_000))
    world.run(0.001)
    world.a.send(0, BINARY, b"beat", ordered=False, max_retransmits=0)
    start = world.now
    assert world.run(5, lambda: bool(world.ends[1].messages))
    assert world.now - start < 0.2, "before the timer"
    figures = world.a.statistics()
    assert (figures.timeouts, figures.tail_probes) == (0, 1)
    assert [message.stream for message in world.ends[1].messages] == [1]


def test_the_timer_mends_what_nothing_else_does_and_backs_off(world: World) -> None:
    world.paths[0].is_down = True
    world.ends[0].keep = True
    world.a.send(1, BINARY, bytes(1_000))
    start = world.now
    world.run(3.5)
    assert world.a.statistics().timeouts == 3, "after 0.25 s, and then twice as long each time"
    world.paths[0].is_down = False
    assert world.run(5, lambda: bool(world.ends[1].messages))
    assert world.now - start < 4.5


def test_after_the_timer_what_the_peer_waits_for_goes_first(world: World) -> None:
    world.paths[0].is_down = True
    world.a.send(1, BINARY, bytes(9_000))
    world.run(1.0)
    firsts: list[int] = []

    def note(sender: int, packet: bytes) -> bytes:
        if sender == 0 and is_data(packet):
            firsts.append(int.from_bytes(packet[16:20]))
        return packet

    world.on_packet = note
    before = world.a.statistics().timeouts
    assert world.run(5, lambda: world.a.statistics().timeouts > before)
    world.run(0.001)
    assert firsts
    assert firsts[0] == min(firsts)


def test_a_peer_that_is_silent_for_too_long_is_gone() -> None:
    config = AssociationConfig(max_timeouts=4)
    world = World(configs=(config, config)).connect()
    world.paths[0].is_down = world.paths[1].is_down = True
    world.a.send(1, BINARY, b"anybody there?")
    assert world.run(60, lambda: world.ends[0].closed is not None)
    assert world.ends[0].closed == Closed("timeout", "the peer acknowledges nothing")
    world.run(60)
    assert world.ends[1].closed is None, "who has nothing to say does not miss anything"


def test_sending_now_and_then_does_not_put_the_timer_off() -> None:
    config = AssociationConfig(max_timeouts=3)
    world = World(configs=(config, config)).connect()
    world.a.send(0, BINARY, b"x")
    world.run(1)
    world.paths[0].is_down = True
    start = world.now
    while world.ends[0].closed is None and world.now < start + 60:
        world.a.send(0, BINARY, b"y")
        world.run(0.05)
    assert world.ends[0].closed is not None


def test_reordering_is_learned_and_costs_few_retransmissions() -> None:
    world = World(seed=5, path=Path(delay=0.02, jitter=0.008, rate=2_000_000)).connect()
    for _ in range(100):
        world.a.send(1, BINARY, bytes(16_384))
    assert world.run(60, lambda: len(world.ends[1].messages) == 100)
    figures = world.a.statistics()
    assert figures.chunks_retransmitted < 0.05 * figures.data_packets_sent


def test_a_peer_that_takes_back_what_it_acknowledged_gets_it_again() -> None:
    world = World().connect()
    world.run(1)
    sent: list[bytes] = []
    world.on_packet = lambda sender, packet: sent.append(packet) if sender == 0 else packet
    for number in range(3):
        world.a.send(0, BINARY, bytes([number]) * 1000)
    world.flush(0)
    assert len(sent) == 3
    header = chunks.PORTS_AND_TAG.pack(5000, 5000, 0x11111111) + bytes(4)
    # All but the first, then the first: and then nothing is known of the second and third any more.
    world.a.receive(header + chunks.encode_sack(999, 1_000_000, [(2, 3)], []), world.now)
    world.a.receive(header + chunks.encode_sack(1000, 1_000_000, [], []), world.now)
    world.on_packet = lambda sender, packet: None if sender else packet
    assert world.run(10, lambda: world.a.statistics().chunks_retransmitted >= 2)
    world.run(0.1)
    assert len(world.ends[1].messages) == 0, "the first never came here"


def test_a_sack_costs_what_it_newly_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: how many chunks are looked at."""
    outstanding = Outstanding(0)
    looked_at = 0

    class Counting(dict):
        def __getitem__(self, key):
            nonlocal looked_at
            looked_at += 1
            return super().__getitem__(key)

        def pop(self, *key):
            nonlocal looked_at
            looked_at += 1
            return super().pop(*key)

    outstanding.chunks = Counting()
    for tsn in range(10_000):
        outstanding.add(SentChunk(tsn, bytes(16), memoryview(b"x"), None))
    for end in range(10, 10_000, 2):  # one is missing and the rest comes in, two by two
        for chunk in outstanding.acknowledge(4, [(6, end)]):
            chunk.state = ACKNOWLEDGED
    assert looked_at < 10_100


def test_a_packet_is_handed_back_to_the_controller_once() -> None:
    world = World(seed=9, path=Path(delay=0.01, jitter=0.01, duplicate=0.1)).connect()
    world.paths[0].loss = world.paths[1].loss = 0.1
    controller = world.a._session.sender.controller
    out: dict[int, Packet] = {}
    handed: list[Packet] = []
    on_sent, on_acknowledged, on_lost = controller.on_sent, controller.on_acknowledged, controller.on_lost

    class Watched:
        def __getattr__(self, name):
            return getattr(controller, name)

        def on_sent(self, *args):
            packet = on_sent(*args)
            out[id(packet)] = packet
            return packet

        def on_acknowledged(self, now, packets, in_flight, rtt):
            handed.extend(packets)
            assert in_flight >= 0
            on_acknowledged(now, packets, in_flight, rtt)

        def on_lost(self, now, packets, in_flight):
            handed.extend(packets)
            on_lost(now, packets, in_flight)

    world.a._session.sender.controller = Watched()
    for number in range(150):
        world.a.send(number % 3, BINARY, bytes(1 + number * 37 % 4000))
    assert world.run(60, lambda: len(world.ends[1].messages) == 150)
    world.run(1)
    assert world.a.statistics().in_flight_size == 0
    assert len({id(packet) for packet in handed}) == len(handed)
    assert {id(packet) for packet in handed} <= set(out)


def test_a_timer_that_comes_late_lets_what_the_peer_has_said_be_read_first(world: World) -> None:
    answers: list[bytes] = []

    def hold_answers(sender: int, packet: bytes) -> bytes | None:
        if sender:
            answers.append(packet)
        return None if sender else packet

    world.on_packet = hold_answers
    before = world.a.statistics()
    world.a.send(1, BINARY, bytes(9_000))
    world.run(0.05)  # it has arrived, and is acknowledged
    late = world.now + 0.5
    world.a.handle_timer(late)
    assert not world.a.transmit(late)
    deadline = world.a.next_deadline()
    assert deadline is not None
    assert late < deadline < late + 0.01
    for packet in answers:
        world.a.receive(packet, late + 0.001)
    world.a.handle_timer(deadline)
    after = world.a.statistics()
    assert (after.timeouts, after.tail_probes) == (before.timeouts, before.tail_probes)
    assert after.chunks_retransmitted == before.chunks_retransmitted


def test_a_timer_that_comes_late_waits_once(world: World) -> None:
    world.on_packet = lambda sender, packet: None
    world.a.send(1, BINARY, bytes(900))
    world.a.transmit(world.now)
    late = world.now + 2
    world.a.handle_timer(late)
    world.a.handle_timer(late + 1)
    assert world.a.transmit(late + 1)
    assert world.a.statistics().timeouts == 1
