"""Messages given up, streams closed, channels opened in band, heartbeats answered, larger packets found."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sctp_path import Path, World

from meshd.transport import chunks
from meshd.transport.channels import DCEP_PPID, Channels
from meshd.transport.chunks import PAIR
from meshd.transport.config import AssociationConfig
from meshd.transport.events import (
    ChannelOpened,
    Drained,
    HeartbeatAcknowledged,
    HeartbeatReceived,
    Message,
    StreamReset,
)
from meshd.transport.handshake import PeerParameters
from meshd.transport.send_queue import SendQueue
from meshd.transport.stream_reset import PERFORMED, RESPONSE, StreamResets

BINARY = 53
TAG_OF_B = 0x22222222


def kinds_sent(world: World, index: int) -> list[int]:
    return [kind for packet in world.ends[index].sent for kind, _, _ in chunks.split_chunks(packet)]


# -- messages given up (RFC 3758) --------------------------------------------------------------------------------------


@pytest.mark.parametrize("interleaving", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("size", [10, 5000])
def test_a_lost_message_without_retransmissions_is_skipped(interleaving: bool, ordered: bool, size: int) -> None:
    config = AssociationConfig(offer_interleaving=interleaving)
    world = World(configs=(config, config)).connect()
    world.ends[0].keep = True
    world.a.send(0, BINARY, b"before", ordered=ordered, max_retransmits=0)
    world.flush(0)
    world.paths[0].is_down = True
    world.a.send(0, BINARY, bytes(size), ordered=ordered, max_retransmits=0)
    world.flush(0)
    world.paths[0].is_down = False
    world.a.send(0, BINARY, b"after", ordered=ordered, max_retransmits=0)
    assert world.run(5, lambda: len(world.ends[1].messages) == 2)
    assert [message.data for message in world.ends[1].messages] == [b"before", b"after"]
    assert world.run(5, lambda: world.a.unacknowledged_size == 0)
    world.run(2)
    assert (chunks.I_FORWARD_TSN if interleaving else chunks.FORWARD_TSN) in kinds_sent(world, 0)
    assert world.a.statistics().messages_abandoned == 1
    for number in range(5):
        world.a.send(0, BINARY, bytes([number]), ordered=ordered)
    assert world.run(5, lambda: len(world.ends[1].messages) == 7), "the stream goes on"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 30), interleaving=st.booleans(), limit=st.integers(0, 2), ordered=st.booleans())
def test_under_loss_what_is_given_up_never_holds_up_the_rest(seed, interleaving, limit, ordered) -> None:
    config = AssociationConfig(offer_interleaving=interleaving, max_timeouts=60)
    world = World(seed=seed, path=Path(jitter=0.005), configs=(config, config)).connect()
    world.paths[0].loss = world.paths[1].loss = 0.25
    rng = random.Random(seed)
    for number in range(60):
        reliable = number % 3 == 0
        size = rng.choice([4, 100, 3000])
        data = number.to_bytes(4) * (size // 4)
        retransmits = None if reliable else limit
        world.a.send(number % 2, BINARY, data, ordered=ordered, max_retransmits=retransmits)

    def is_over() -> bool:
        return not world.a.unsent_size() and world.ends[0].events[-1:] == [Drained()]

    assert world.run(600, is_over)
    got = [int.from_bytes(message.data[:4]) for message in world.ends[1].messages]
    assert len(got) == len(set(got))
    assert set(range(0, 60, 3)) <= set(got)
    if ordered:
        for stream in (0, 1):
            assert [n for n in got if n % 2 == stream] == sorted(n for n in got if n % 2 == stream)
    assert world.b.statistics().held_size == 0
    assert world.ends[0].closed is None


# -- streams closed (RFC 6525) -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("interleaving", [True, False])
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_a_stream_is_reset_both_ways_and_used_again(interleaving: bool, loss: float) -> None:
    config = AssociationConfig(offer_interleaving=interleaving, max_timeouts=60)
    world = World(seed=3, path=Path(loss=loss), configs=(config, config)).connect()
    for number in range(3):
        world.a.send(4, BINARY, bytes([number]) * 5000)
        world.b.send(4, BINARY, bytes([number]))
    world.a.reset_stream(4)
    assert world.run(120, lambda: all(StreamReset(4) in end.events for end in world.ends))
    assert len(world.ends[1].messages) == 3, "everything sent on it came before"
    assert world.ends[1].events.index(StreamReset(4)) > world.ends[1].events.index(world.ends[1].messages[-1])
    world.run(5)
    for number in range(3):
        world.a.send(4, BINARY, bytes([number]))
    assert world.run(120, lambda: len(world.ends[1].messages) == 6), "numbers start from zero on both ends"
    assert world.ends[0].closed is None
    assert sum(isinstance(event, StreamReset) for event in world.ends[1].events) == 1


def test_what_we_do_not_reset_is_refused_not_ignored() -> None:
    world = World().connect()
    world.run(1)
    world.ends[1].keep = True
    request = (1000).to_bytes(4)  # b expects a's requests from a's initial TSN on
    add = chunks.encode_chunk(chunks.RE_CONFIG, chunks.encode_parameter(17, request + (100).to_bytes(2) + bytes(2)))
    world.b.receive(chunks.encode_packet(5000, TAG_OF_B, add), world.now)
    world.flush(1)
    ((kind, _, body),) = chunks.split_chunks(world.ends[1].sent[-1])
    assert kind == chunks.RE_CONFIG
    assert body == (16).to_bytes(2) + (12).to_bytes(2) + request + (2).to_bytes(4), "denied"


# -- channels in band (RFC 8832) ---------------------------------------------------------------------------------------


def open_message(label: bytes) -> bytes:
    return bytes([3, 0, 0, 0, 0, 0, 0, 0]) + len(label).to_bytes(2) + bytes(2) + label


def test_channels_opened_in_band_are_acknowledged_up_to_a_limit() -> None:
    world = World().connect()
    world.a.send(2, 50, open_message(b"chat"))
    world.a.send(9, 50, open_message(b"too many"))
    assert world.run(5, lambda: StreamReset(9) in world.ends[0].events)
    assert [(m.stream, m.ppid, m.data) for m in world.ends[0].messages] == []
    assert ChannelOpened(2, "chat") in world.ends[1].events
    assert ChannelOpened(9, "too many") not in world.ends[1].events
    assert world.ends[1].messages == []


def test_a_channel_opened_anew_after_a_hasty_try_is_closed_both_ways_too() -> None:
    resets = StreamResets(1, 1)
    channels = Channels(PeerParameters(1, 100_000, 16, 1, reconfiguration=True), SendQueue(), resets)
    opening = Message(5, DCEP_PPID, open_message(b"one"))
    assert channels.on_message(opening) is not None
    channels.on_reset(5)
    assert channels.on_message(opening) is None, "our side is not closed yet"
    resets.take_request([5], 0, 0.0, 1.0)
    resets.on_re_config(chunks.encode_parameter(RESPONSE, PAIR.pack(1, PERFORMED)), 0, 16)
    assert channels.on_message(opening) is not None
    channels.on_reset(5)
    assert resets.is_wanted(5)


# -- heartbeats and packet sizes (RFC 8899) ----------------------------------------------------------------------------


def test_heartbeats_are_answered_with_what_they_carry() -> None:
    world = World().connect()
    world.run(1)
    world.ends[1].keep = True
    info = chunks.encode_parameter(1, b"whatever")
    beat = chunks.encode_chunk(chunks.HEARTBEAT, info) + chunks.encode_chunk(chunks.PAD, bytes(20))
    world.b.receive(chunks.encode_packet(5000, TAG_OF_B, beat), world.now)
    world.flush(1)
    assert chunks.split_chunks(world.ends[1].sent[-1]) == [(chunks.HEARTBEAT_ACK, 0, info)]


def test_a_heartbeat_is_answered_by_the_transport_and_told_on_both_sides() -> None:
    world = World(path=Path(delay=0.2)).connect()
    world.run(1)
    packets = [end.association.statistics().packets_sent for end in world.ends]
    world.a.heartbeat(7, world.now)
    world.run(60)
    assert world.ends[1].events[-1] == HeartbeatReceived()
    assert world.ends[0].events[-1] == HeartbeatAcknowledged(7)
    assert [end.association.statistics().packets_sent for end in world.ends] == [sent + 1 for sent in packets]
    assert world.a.next_deadline() is None
    assert world.b.next_deadline() is None


def test_a_heartbeat_measures_the_round_trip() -> None:
    world = World(path=Path(delay=0.01)).connect()
    for path in world.paths:
        path.delay = 0.3
    for number in range(30):
        world.a.heartbeat(number, world.now)
        world.run(2)
    assert world.a.statistics().srtt == pytest.approx(0.6, rel=0.05)


def test_a_heartbeat_that_is_lost_is_not_sent_again() -> None:
    world = World().connect()
    world.run(1)
    world.paths[0].is_down = True
    world.a.heartbeat(1, world.now)
    world.run(1)
    world.paths[0].is_down = False
    world.run(60)
    assert HeartbeatReceived() not in world.ends[1].events
    assert not world.a.timeouts_in_row


def test_a_heartbeat_passes_what_waits() -> None:
    """Bulk in the send buffer, and a peer whose window is shut."""
    world = World(configs=(AssociationConfig(), AssociationConfig(max_receive_buffer_size=20_000))).connect()
    world.b.set_unread_size(20_000)
    for _ in range(20):
        world.a.send(0, 53, bytes(16_384))
    world.run(5)
    assert world.a.unsent_size()
    world.a.heartbeat(3, world.now)
    world.run(0.1)
    assert HeartbeatAcknowledged(3) in world.ends[0].events


def test_answers_to_what_was_not_asked_are_nothing() -> None:
    world = World().connect()
    world.run(1)
    world.b.heartbeat(1, world.now)
    world.run(1)
    answer = chunks.encode_chunk(chunks.HEARTBEAT_ACK, chunks.encode_parameter(1, bytes((0, 0, 0, 1))))
    for chunk in (answer, answer[:4] + answer[8:], chunks.encode_chunk(chunks.HEARTBEAT_ACK, bytes(8))):
        world.b.receive(
            chunks.encode_packet(5000, TAG_OF_B, chunk[:2] + len(chunk).to_bytes(2, "big") + chunk[4:]), world.now
        )
    world.flush(1)
    assert world.ends[1].events.count(HeartbeatAcknowledged(1)) == 1
    assert world.ends[1].closed is None
    for number in range(1_000):  # of a peer that never answers
        world.a.heartbeat(number, world.now)
        world.a.transmit(world.now)


def test_no_heartbeat_before_there_is_an_association_nor_after() -> None:
    world = World()
    world.a.heartbeat(1, world.now)
    assert world.a.transmit(world.now) == []
    world.connect()
    world.a.abort()
    world.a.transmit(world.now)
    world.a.heartbeat(2, world.now)
    assert world.a.transmit(world.now) == []


@pytest.mark.parametrize(
    ("mtu", "ceiling", "expected"), [(1500, 1400, 1400), (65_536, 16_384, 16_384), (1300, 1400, 1268)]
)
def test_packets_grow_to_what_the_path_carries(mtu: int, ceiling: int, expected: int) -> None:
    config = AssociationConfig(max_packet_size=ceiling)
    world = World(path=Path(mtu=mtu), configs=(config, config)).connect()
    world.a.send(1, BINARY, b"too little to be worth a search")
    world.run(2)
    assert world.a.statistics().packet_size <= 1191
    world.a.send(1, BINARY, bytes(30_000))
    world.run(15)
    world.ends[1].messages.clear()
    assert expected <= world.a.statistics().packet_size <= mtu
    world.ends[0].keep = True
    for _ in range(8):
        world.a.send(1, BINARY, bytes(16_384))
    assert world.run(10, lambda: len(world.ends[1].messages) == 8)
    assert max(map(len, world.ends[0].sent)) > expected - 30


def test_a_path_that_shrinks_is_noticed_and_the_base_still_works() -> None:
    config = AssociationConfig(max_packet_size=4096)
    world = World(path=Path(mtu=9000), configs=(config, config)).connect()
    world.a.send(1, BINARY, bytes(30_000))
    world.run(5)
    assert world.a.statistics().packet_size == 4096
    world.paths[0].mtu = 1200
    world.a.send(1, BINARY, bytes(20_000))
    assert world.run(8, lambda: any(len(message.data) == 20_000 for message in world.ends[1].messages))
    assert world.a.statistics().packet_size <= 1191
    world.a.send(1, BINARY, bytes(50_000))
    assert world.run(60, lambda: any(len(message.data) == 50_000 for message in world.ends[1].messages))
    assert world.ends[0].closed is None


@pytest.mark.parametrize("others", [True, False], ids=["small ones get through", "nothing else"])
@pytest.mark.parametrize("loss", [0.0, 0.02])
@pytest.mark.parametrize("interleaving", [True, False])
def test_a_black_hole_opens_in_the_middle_of_a_stream(others: bool, loss: float, interleaving: bool) -> None:
    """Packets above 1,280 bytes are dropped from one moment on, and nobody says so: everything still arrives."""
    config = AssociationConfig(max_packet_size=1400, offer_interleaving=interleaving)
    path = Path(mtu=1500, delay=0.02, rate=1_000_000, loss=loss)
    world = World(path=path, configs=(config, config), seed=3).connect()
    world.a.send(1, BINARY, bytes(100_000), priority=2)
    assert world.run(10, lambda: world.a.statistics().packet_size == 1400 and world.ends[1].messages)
    world.ends[1].events.clear()
    expected = [bytes([n]) * 16_000 for n in range(60)]
    for message in expected[:30]:
        world.a.send(1, BINARY, message, priority=2)
    world.run(0.2)
    world.paths[0].mtu = 1280
    for message in expected[30:]:
        world.a.send(1, BINARY, message, priority=2)
    world.ends[0].keep = True

    def bulk() -> list[bytes]:
        return [message.data for message in world.ends[1].messages if message.stream == 1]

    began = world.now
    while len(bulk()) < len(expected) and world.now - began < 20:
        if others:
            world.a.send(0, BINARY, b"beat", ordered=False, max_retransmits=0)
        world.run(0.2, lambda: len(bulk()) == len(expected))
    assert bulk() == expected
    assert world.now - began < 8
    assert world.a.statistics().packet_size <= 1280
    assert not any(world.a.may_be_fragmented(packet) for packet in world.ends[0].sent[-20:]), "only what was cut before"
