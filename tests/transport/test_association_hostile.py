"""What a peer may do at worst: end its own association, with a reason; memory stays within its limits."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sctp_path import World

from meshd.errors import LocalMisuse, MalformedMessage
from meshd.transport import chunks
from meshd.transport.association import Association
from meshd.transport.channels import decode_open
from meshd.transport.chunks import FIRST, LAST, UNORDERED
from meshd.transport.config import AssociationConfig
from meshd.transport.events import ChannelOpened, Message
from meshd.transport.handshake import decode_init
from meshd.transport.path_mtu import PathMtu
from meshd.transport.stream_reset import StreamResets

BINARY = 53
TAG_OF_B = 0x22222222
TSN_OF_A = 1000
HEADER = chunks.PORTS_AND_TAG.pack(5000, 5000, TAG_OF_B) + bytes(4)

SMALL = AssociationConfig(max_receive_buffer_size=100_000)


# -- decoders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "decode",
    [
        chunks.decode_sack,
        chunks.decode_parameters,
        chunks.split_chunks,
        lambda body: chunks.decode_forward_tsn(body, True),
        lambda body: chunks.decode_forward_tsn(body, False),
        lambda body: StreamResets(1, 2).on_re_config(body, 5, 16),
        decode_init,
        decode_open,
    ],
)
def test_any_bytes_are_a_value_or_the_one_error(decode) -> None:
    @settings(max_examples=80, deadline=None)
    @given(st.binary(max_size=200))
    def check(body: bytes) -> None:
        try:
            decode(body)
        except MalformedMessage:
            return

    check()


@given(
    gaps=st.lists(st.tuples(st.integers(1, 60_000), st.integers(0, 40)), max_size=30),
    duplicates=st.lists(st.integers(0, 0xFFFFFFFF), max_size=5),
)
def test_a_sack_is_read_as_it_was_written(gaps, duplicates) -> None:
    ranges = [(first, first + more) for first, more in gaps]
    packet = bytes(12) + chunks.encode_sack(77, 88, ranges, duplicates)
    ((kind, _, body),) = chunks.split_chunks(packet)
    assert kind == chunks.SACK
    cumulative, window, got, again = chunks.decode_sack(body)
    assert (cumulative, window, again) == (77, 88, duplicates)
    named = {n for first, last in ranges for n in range(first, last + 1)}
    assert {n for first, last in got for n in range(first, last + 1)} == named
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(got))


@given(base=st.integers(600, 2000), more=st.integers(0, 16_000), mtu=st.integers(500, 17_000))
def test_the_search_for_the_packet_size_ends_and_never_overshoots(base: int, more: int, mtu: int) -> None:
    search = PathMtu(base, base + more)
    search.begin(0.0)
    probes = 0
    while (due := search.next_deadline) is not None and due < 500:
        probe = search.take_probe(due, 0.2)
        if not probe:
            continue
        probes += 1
        size = len(probe) + chunks.COMMON_SIZE
        assert size <= base + more
        if size <= mtu:
            (_, _, info), *_ = chunks.split_chunks(bytes(12) + probe)
            search.on_heartbeat_ack(info, due)
    assert probes < 60
    assert search.size <= max(mtu, base)
    assert search.size >= min(mtu, base + more) - 40 or search.size == base & ~3


# -- any packets at all ------------------------------------------------------------------------------------------------

near = st.one_of(st.integers(990, 1040), st.integers(0, 0xFFFFFFFF), st.just(0xFFFFFFEF), st.just(0xFFFFFFF5))
flags = st.integers(0, 15)
small = st.binary(max_size=24)


def raw(kind: int, flag: int, body: bytes) -> bytes:
    return chunks.encode_chunk(kind, body, flag)


data_chunk = st.builds(
    lambda f, t, s, n, p, d: chunks.padded(chunks.DATA_HEADER.pack(chunks.DATA, f, 16 + len(d), t, s, n, p) + d),
    flags, near, st.integers(0, 20), st.integers(0, 5), st.sampled_from([50, 53]), small,
)  # fmt: skip
i_data_chunk = st.builds(
    lambda f, t, s, n, p, d: chunks.padded(chunks.I_DATA_HEADER.pack(chunks.I_DATA, f, 20 + len(d), t, s, 0, n, p) + d),
    flags, near, st.integers(0, 20), st.integers(0, 5), st.integers(0, 60), small,
)  # fmt: skip
sack_chunk = st.builds(
    chunks.encode_sack,
    st.one_of(st.integers(0xFFFFFFE0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)),
    st.sampled_from([0, 1, 5000, 1 << 20, 0xFFFFFFFF]),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 65_535)), max_size=4),
    st.lists(near, max_size=3),
)
forward_chunk = st.builds(
    lambda t, s, i: chunks.encode_forward_tsn(t, s, i),
    near,
    st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.integers(0, 70_000)), max_size=3),
    st.booleans(),
)
reset_chunk = st.builds(
    lambda kind, value, rest: raw(chunks.RE_CONFIG, 0, chunks.encode_parameter(kind, value.to_bytes(4) + rest)),
    st.integers(12, 19), near, small,
)  # fmt: skip
any_chunk = st.builds(raw, st.integers(0, 255), flags, small)
packets = st.builds(
    lambda parts, cut: (HEADER + b"".join(parts))[: None if cut > 40 else -cut - 1],
    st.lists(
        st.one_of(data_chunk, i_data_chunk, i_data_chunk, sack_chunk, forward_chunk, reset_chunk, any_chunk),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 400),
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(packets, packets, packets, st.binary(max_size=60)), min_size=1, max_size=25), st.booleans())
def test_any_packets_raise_nothing_and_leave_a_sound_association(sequence: list[bytes], interleaving: bool) -> None:
    config = AssociationConfig(offer_interleaving=interleaving, max_receive_buffer_size=3000)
    world = World(configs=(config, config)).connect()
    for _ in range(3):
        world.b.send(0, BINARY, bytes(1500), max_retransmits=1)
    for packet in sequence:
        world.b.receive(packet, world.now)
        for answer in world.b.transmit(world.now):
            chunks.split_chunks(answer)
        world.b.take_events()
        world.now += 0.05
        deadline = world.b.next_deadline()
        turns = 0
        while deadline is not None and deadline <= world.now:
            world.b.handle_timer(world.now)
            world.b.transmit(world.now)
            deadline = world.b.next_deadline()
            turns += 1
            assert turns < 5, "a deadline that nothing moves"
    figures = world.b.statistics()
    assert figures is not None
    assert 0 <= figures.in_flight_size <= 6000
    assert 0 <= figures.held_size <= 6100
    assert world.b.unacknowledged_size >= 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=80), packets), max_size=8))
def test_any_packets_before_the_handshake_raise_nothing(sequence: list[bytes]) -> None:
    association = Association(AssociationConfig(), tag=TAG_OF_B, initial_tsn=1, cookie_key=bytes(32), now=0.0)
    for number, packet in enumerate(sequence):
        association.receive(packet, float(number))
        association.transmit(float(number))
        association.handle_timer(float(number))
    assert not association.is_established


# -- attacks -----------------------------------------------------------------------------------------------------------


class Attacker:
    """Speaks to end 1 as end 0, with any chunks it likes, and stops when it is thrown out."""

    def __init__(self, interleaving: bool = True, config: AssociationConfig = SMALL) -> None:
        self.interleaving = interleaving
        self.world = World(configs=(AssociationConfig(offer_interleaving=interleaving), config)).connect()
        self.victim = self.world.b
        self.tsn = TSN_OF_A
        self.answers: list[bytes] = []

    def send(self, *parts: bytes) -> bool:
        self.world.now += 0.0001
        self.victim.receive(HEADER + b"".join(parts), self.world.now)
        self.answers = self.victim.transmit(self.world.now)
        self.world.ends[1].events += self.victim.take_events()
        return not self.victim.is_closed

    def data(
        self, bits: int, payload: bytes, *, stream: int = 0, number: int = 0, word: int = BINARY, skip: int = 0
    ) -> bytes:
        tsn = self.tsn + skip
        self.tsn = tsn + 1
        if self.interleaving:
            head = chunks.I_DATA_HEADER.pack(chunks.I_DATA, bits, 20 + len(payload), tsn, stream, 0, number, word)
        else:
            head = chunks.DATA_HEADER.pack(chunks.DATA, bits, 16 + len(payload), tsn, stream, number, word)
        return chunks.padded(head + payload)

    def reason(self) -> str:
        closed = self.world.ends[1].closed
        assert closed is not None, "still open"
        assert closed.reason == "peer_misbehaved"
        assert closed.detail
        return closed.detail


@pytest.mark.parametrize("interleaving", [True, False])
def test_a_message_that_never_ends(interleaving: bool) -> None:
    config = AssociationConfig()
    attacker = Attacker(interleaving, config)
    sent = 0
    while sent < 1_000_000 and attacker.send(
        attacker.data(FIRST if not sent else 0, bytes(1000), word=sent // 1000 if interleaving and sent else BINARY)
    ):
        sent += 1000
    assert sent <= 262_144
    assert "too long" in attacker.reason()


@pytest.mark.parametrize("interleaving", [True, False])
def test_messages_without_end_on_every_stream(interleaving: bool) -> None:
    attacker = Attacker(interleaving)
    number = 0
    while number < 5000 and attacker.send(attacker.data(FIRST, bytes(1000), stream=number % 16, number=number)):
        number += 1
        assert attacker.victim.statistics().held_size <= 2 * SMALL.max_receive_buffer_size + 1000
    attacker.reason()


@pytest.mark.parametrize("interleaving", [True, False])
def test_a_flood_beyond_the_window(interleaving: bool) -> None:
    attacker = Attacker(interleaving)
    sent = 0
    while sent < 10_000_000 and attacker.send(
        attacker.data(FIRST | LAST, bytes(1000), number=sent // 1000 + 1, skip=0 if sent else 1)
    ):
        sent += 1000
    assert sent <= 3 * SMALL.max_receive_buffer_size
    assert attacker.reason() == "data far beyond the window"


def test_tiny_chunks_out_of_order_hold_little_memory() -> None:
    attacker = Attacker(config=AssociationConfig())
    attacker.tsn += 1
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(0, 20_000, 40):
        parts = [attacker.data(UNORDERED | FIRST, b"x", stream=n % 16, number=n) for n in range(number, number + 40)]
        attacker.send(*parts)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held < 4_000_000


def test_a_slow_drip_into_a_closed_window_is_no_flood() -> None:
    attacker = Attacker()
    attacker.victim.set_unread_size(100_000)
    for _ in range(300):
        attacker.world.now += 1.0
        assert attacker.send(attacker.data(FIRST | LAST, bytes(1000)))
        attacker.tsn -= 1
        ((kind, _, body),) = chunks.split_chunks(attacker.answers[0])
        assert kind == chunks.SACK
        assert chunks.decode_sack(body)[1] == 0


@pytest.mark.parametrize("sack", [
    chunks.encode_sack(0xFFFFFFF5, 1 << 20, [], []),
    chunks.encode_sack(0xFFFFFFEF, 1 << 20, [(2, 65_535)], []),
])  # fmt: skip
def test_a_sack_of_what_was_never_sent(sack: bytes) -> None:
    attacker = Attacker()
    assert not attacker.send(sack)
    assert attacker.reason() == "a SACK of what was never sent"


def test_overlapping_gap_blocks_are_walked_once() -> None:
    attacker = Attacker()
    for _ in range(200):
        attacker.victim.send(0, BINARY, bytes(1100))
    attacker.victim.transmit(attacker.world.now)
    sent = attacker.victim.statistics().data_packets_sent
    assert sent > 5
    blocks = [(2, sent)] * 250
    for _ in range(50):
        assert attacker.send(chunks.encode_sack(0xFFFFFFEF, 1 << 20, blocks, []))
    assert attacker.victim.statistics().in_flight_size >= 0


@pytest.mark.parametrize("window", [0, 1])
def test_a_window_that_never_opens(window: int) -> None:
    attacker = Attacker()
    for _ in range(50):
        attacker.victim.send(0, BINARY, bytes(1100))
    packets = 0
    for _ in range(200):
        attacker.world.now += 0.5
        attacker.victim.handle_timer(attacker.world.now)
        packets += len([p for p in attacker.victim.transmit(attacker.world.now) if p[12] == chunks.I_DATA])
        attacker.send(chunks.encode_sack(0xFFFFFFEF, window, [], []))
        packets += len([p for p in attacker.answers if p[12] == chunks.I_DATA])
    assert packets < 120, "what had left before the window was known, a few at a time"
    assert attacker.victim.unacknowledged_size + attacker.victim.unsent_size() <= 60_000


def test_acknowledging_all_but_the_first_makes_us_keep_no_more_than_the_buffer() -> None:
    attacker = Attacker(config=AssociationConfig(max_send_buffer_size=200_000))
    refused = 0
    for turn in range(600):
        try:
            attacker.victim.send(0, BINARY, bytes(1100))
        except LocalMisuse:
            refused += 1
        attacker.victim.transmit(attacker.world.now)
        sent = attacker.victim.statistics().data_packets_sent - attacker.victim.statistics().chunks_retransmitted
        blocks = [(2, sent)] if sent > 1 else []
        assert attacker.send(chunks.encode_sack(0xFFFFFFEF, 1 << 20, blocks, [])), turn
    assert refused > 300
    assert attacker.victim.unacknowledged_size <= 200_000


def test_tiny_messages_are_counted_too() -> None:
    attacker = Attacker()
    attacker.send(chunks.encode_sack(0xFFFFFFEF, 0, [], []))
    with pytest.raises(LocalMisuse, match="full"):  # noqa: PT012
        for _ in range(70_000):
            attacker.victim.send(0, BINARY, b"x")


def test_a_thousand_streams() -> None:
    attacker = Attacker()
    for stream in range(1000):
        if not attacker.send(attacker.data(FIRST | LAST, b"x", stream=stream)):
            break
    assert stream == 16
    assert attacker.reason() == "a stream that we do not have"


def test_a_channel_opened_and_reset_behind_a_shut_window_is_acknowledged_once() -> None:
    """Each acknowledgement would wait in the queue for as long as the peer likes, and so would the reset."""
    attacker = Attacker()
    attacker.send(chunks.encode_sack(0xFFFFFFEF, 0, [], []))
    attacker.victim.send(0, BINARY, bytes(2_000))
    held = attacker.victim.unsent_size()
    opening = bytes([3]) + bytes(7) + (4).to_bytes(2) + bytes(2) + b"chat"
    for sequence in range(500):
        assert attacker.send(attacker.data(FIRST | LAST, opening, stream=3, word=50))
        body = (TSN_OF_A + sequence).to_bytes(4) + bytes(4) + (attacker.tsn - 1).to_bytes(4) + (3).to_bytes(2)
        assert attacker.send(chunks.encode_chunk(chunks.RE_CONFIG, chunks.encode_parameter(13, body)))
    assert attacker.world.ends[1].events.count(ChannelOpened(3, "chat")) == 1
    assert attacker.victim.unsent_size() <= held + 1


def test_absurd_requests_to_reset() -> None:
    attacker = Attacker()
    for sequence in range(2000):
        body = (TSN_OF_A + sequence).to_bytes(4) + bytes(4) + (TSN_OF_A - 1).to_bytes(4)
        body += b"".join(stream.to_bytes(2) for stream in range(400))
        assert attacker.send(chunks.encode_chunk(chunks.RE_CONFIG, chunks.encode_parameter(13, body)))
        assert sum(map(len, attacker.answers)) < 200
    assert not attacker.send(chunks.encode_chunk(chunks.RE_CONFIG, chunks.encode_parameter(13, b"xxxxx")))
    attacker.reason()


def test_heartbeats_in_hundreds_are_answered_in_measure() -> None:
    attacker = Attacker()
    beat = chunks.encode_chunk(chunks.HEARTBEAT, chunks.encode_parameter(1, bytes(1000)))
    for _ in range(20):
        attacker.victim.receive(HEADER + beat * 15, attacker.world.now)
    answers = attacker.victim.transmit(attacker.world.now)
    assert sum(map(len, answers)) < 20_000
    assert max(map(len, answers)) <= 1191


def test_unknown_chunks_as_their_type_says() -> None:
    attacker = Attacker()
    message = attacker.data(FIRST | LAST, b"x")
    for kind, answered, goes_on in [(0x3E, False, False), (0x7E, True, False), (0xBE, False, True), (0xFE, True, True)]:
        assert attacker.send(chunks.encode_chunk(kind, b"what is this"), message)
        kinds = [k for packet in attacker.answers for k, _, _ in chunks.split_chunks(packet)]
        assert (chunks.ERROR in kinds) == answered
        delivered = [event for event in attacker.world.ends[1].events if isinstance(event, Message)]
        assert bool(delivered) == goes_on
        if goes_on:
            break
