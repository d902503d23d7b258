"""Opening and ending: who may call, what is believed, what is repeated, and how it is over."""

from __future__ import annotations

import pytest
from sctp_path import Path, World

from meshd.transport import chunks
from meshd.transport.association import Association
from meshd.transport.config import AssociationConfig
from meshd.transport.events import Closed, Drained, Established

BINARY = 53


def first_kind(packet: bytes) -> int:
    return packet[12]


def test_one_side_calls() -> None:
    world = World()
    world.a.connect(world.now)
    start = world.now
    assert world.run(5, lambda: world.a.is_established and world.b.is_established)
    assert world.now - start <= 0.041, "two round trips"
    world.a.send(0, BINARY, b"hello")
    world.b.send(0, BINARY, b"hello")
    assert world.run(5, lambda: all(end.messages for end in world.ends))


@pytest.mark.parametrize("seed", range(20))
def test_both_sides_call_at_once_over_a_bad_path(seed: int) -> None:
    world = World(seed=seed, path=Path(loss=0.3, jitter=0.02, duplicate=0.2))
    world.a.send(0, BINARY, b"queued before")
    world.connect()
    world.b.send(0, BINARY, b"after")
    assert world.run(60, lambda: all(end.messages for end in world.ends))
    assert next(type(event) for event in world.ends[0].events if not isinstance(event, Drained)) is Established
    assert sum(isinstance(event, Established) for event in world.ends[0].events) == 1


def test_nobody_there() -> None:
    world = World(path=Path(is_down=True))
    world.a.connect(world.now)
    start = world.now
    assert world.run(60, lambda: world.ends[0].closed is not None)
    assert world.ends[0].closed.reason == "handshake_timeout"
    assert 9.5 < world.now - start < 10.5
    assert world.paths[0].dropped > 3
    assert world.a.next_deadline() is None


def test_packets_with_a_wrong_tag_port_or_checksum_are_nothing() -> None:
    config = AssociationConfig(offer_zero_checksum=False)
    world = World(configs=(config, config)).connect()
    world.run(1)
    before = world.b.statistics()
    abort = chunks.encode_chunk(chunks.ABORT)
    world.b.receive(chunks.encode_packet(5000, 0x12345, abort), world.now)
    world.b.receive(chunks.encode_packet(5001, 0x22222222, abort), world.now)
    world.b.receive(chunks.PORTS_AND_TAG.pack(5000, 5000, 0x22222222) + b"\0\0\0\0" + abort, world.now)
    assert not world.b.is_closed
    assert world.b.statistics().packets_received == before.packets_received + 3
    world.b.receive(chunks.encode_packet(5000, 0x22222222, abort), world.now)
    assert world.b.is_closed


@pytest.mark.parametrize("offers", [(True, True), (True, False), (False, True), (False, False)])
def test_checksums_are_left_out_when_both_agree(offers: tuple[bool, bool]) -> None:
    configs = tuple(AssociationConfig(offer_zero_checksum=offer) for offer in offers)
    world = World(configs=configs).connect()
    for end in world.ends:
        end.keep = True
    world.a.send(0, BINARY, b"hello")
    world.b.send(0, BINARY, b"hello")
    assert world.run(5, lambda: all(end.messages for end in world.ends))
    for end in world.ends:
        assert end.sent
        for packet in end.sent:
            assert chunks.is_checksum_right(packet) != all(offers)


@pytest.mark.parametrize("offers", [(True, False), (False, True)])
def test_interleaving_only_when_both_offer_it(offers: tuple[bool, bool]) -> None:
    world = World(configs=tuple(AssociationConfig(offer_interleaving=offer) for offer in offers)).connect()
    assert Established(False) in world.ends[0].events
    world.ends[0].keep = True
    world.a.send(0, BINARY, b"hello")
    assert world.run(5, lambda: bool(world.ends[1].messages))
    assert chunks.DATA in [kind for packet in world.ends[0].sent for kind, _, _ in chunks.split_chunks(packet)]


def cookie_echo_of(world: World) -> bytes:
    """Let a's call go so far that it holds b's cookie, and keep the packet that gives it back."""
    world.a.connect(world.now)
    world.ends[0].keep = True
    assert world.run(5, lambda: any(first_kind(p) == chunks.COOKIE_ECHO for p in world.ends[0].sent))
    return next(p for p in world.ends[0].sent if first_kind(p) == chunks.COOKIE_ECHO)


def test_a_forged_cookie_is_discarded_and_a_stale_one_begins_anew() -> None:
    world = World()
    world.on_packet = lambda sender, packet: None if first_kind(packet) == chunks.COOKIE_ECHO else packet
    echo = cookie_echo_of(world)
    (_, _, cookie), *_ = chunks.split_chunks(echo)
    forged = chunks.encode_chunk(chunks.COOKIE_ECHO, cookie[:-1] + bytes([cookie[-1] ^ 1]))
    world.b.receive(chunks.encode_packet(5000, 0x22222222, forged), world.now)
    assert not world.b.is_established
    assert world.b.transmit(world.now) == []
    world.now += 61
    world.b.receive(echo, world.now)
    assert not world.b.is_established
    (error,) = world.b.transmit(world.now)
    assert first_kind(error) == chunks.ERROR
    world.on_packet = lambda sender, packet: packet
    world.a.receive(error, world.now)
    (init,) = world.a.transmit(world.now)
    assert first_kind(init) == chunks.INIT


def test_nothing_is_kept_of_who_only_says_init() -> None:
    world = World()
    world.a.connect(world.now)
    (init,) = world.a.transmit(world.now)
    for _ in range(1000):
        world.b.receive(init, world.now)
        assert len(world.b.transmit(world.now)) == 1
    assert world.b.next_deadline() is None


def test_a_peer_that_lost_its_state_ends_the_association() -> None:
    world = World().connect()
    fresh = Association(AssociationConfig(), tag=77, initial_tsn=5, cookie_key=bytes(32), now=world.now)
    fresh.connect(world.now)
    (init,) = fresh.transmit(world.now)
    world.b.receive(init, world.now)
    world.flush(1)
    assert world.ends[1].closed is not None
    assert world.ends[1].closed.reason == "peer_restarted"


def test_handshake_packets_that_come_again_change_nothing() -> None:
    world = World()
    world.ends[0].keep = world.ends[1].keep = True
    world.connect()
    world.a.send(0, BINARY, b"one")
    assert world.run(5, lambda: bool(world.ends[1].messages))
    for packet in list(world.ends[0].sent):
        world.b.receive(packet, world.now)
    for packet in list(world.ends[1].sent):
        world.a.receive(packet, world.now)
    world.run(1)
    world.b.send(0, BINARY, b"two")
    assert world.run(5, lambda: bool(world.ends[0].messages))
    assert len(world.ends[1].messages) == 1
    assert world.ends[0].closed is None
    assert world.ends[1].closed is None


def test_data_that_overtakes_the_cookie_ack_is_not_lost() -> None:
    world = World()
    world.a.connect(world.now)
    held: list[bytes] = []

    def hold_back(sender: int, packet: bytes) -> bytes | None:
        if sender == 1 and first_kind(packet) == chunks.COOKIE_ACK:
            held.append(packet)
            return None
        return packet

    world.on_packet = hold_back
    world.b.send(0, BINARY, b"first")
    start = world.now
    assert world.run(5, lambda: bool(world.ends[0].messages))
    assert held
    assert world.now - start < 0.05
    assert world.a.is_established


def test_the_first_timer_knows_the_round_trip() -> None:
    world = World(path=Path(delay=0.01)).connect()
    assert world.a.statistics().srtt == pytest.approx(0.02)
    assert world.b.statistics().srtt == pytest.approx(0.02)
    world.paths[0].is_down = True
    world.a.send(0, BINARY, b"lost")
    world.flush(0)
    world.paths[0].is_down = False
    start = world.now
    assert world.run(5, lambda: bool(world.ends[1].messages))
    assert world.now - start < 0.1, "a probe after two round trips and a bit"


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("both", [False, True])
def test_a_shutdown_delivers_what_is_queued(seed: int, both: bool) -> None:
    world = World(seed=seed, path=Path(loss=0.1, jitter=0.01)).connect()
    for _ in range(10):
        world.a.send(1, BINARY, bytes(16_384))
    world.b.send(1, BINARY, bytes(50_000))
    world.a.shutdown()
    if both:
        world.b.shutdown()
    world.a.send(1, BINARY, b"too late")
    assert world.run(60, lambda: world.ends[0].closed is not None and world.ends[1].closed is not None)
    assert {end.closed for end in world.ends} <= {Closed("shutdown"), world.ends[1].closed, world.ends[0].closed}
    assert Closed("shutdown") in (world.ends[0].closed, world.ends[1].closed)
    assert [len(message.data) for message in world.ends[1].messages] == [16_384] * 10
    assert [len(message.data) for message in world.ends[0].messages] == [50_000]


def test_a_shutdown_over_a_good_path_ends_both_alike() -> None:
    world = World().connect()
    world.a.send(1, BINARY, bytes(50_000))
    world.b.shutdown()
    assert world.run(5, lambda: world.ends[0].closed is not None and world.ends[1].closed is not None)
    assert world.ends[0].closed == world.ends[1].closed == Closed("shutdown")
    assert world.ends[1].messages


def test_an_abort_is_told_with_its_reason() -> None:
    world = World().connect()
    world.a.abort("the node is going away")
    world.run(1)
    assert world.ends[0].closed == Closed("aborted", "the node is going away")
    assert world.ends[1].closed == Closed("aborted_by_peer", "the node is going away")
    assert world.a.next_deadline() is None
    world.a.send(0, BINARY, b"nothing")
    world.a.receive(bytes(100), world.now)
    assert world.a.transmit(world.now) == []
    assert world.a.take_events() == []


def test_shutdown_before_anything() -> None:
    world = World()
    world.a.shutdown()
    assert world.a.take_events() == [Closed("shutdown", "before it began")]
