from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.commands import Priority
from meshd.errors import LocalMisuse, MalformedMessage
from meshd.wire.frame import (
    MAX_CIRCUIT_FRAME_SIZE,
    MAX_FRAME_SIZE,
    MAX_MESSAGE_SIZE,
    MAX_VARINT,
    PRIORITIES,
    Frame,
    FrameType,
    Reassembler,
    decode_data,
    decode_frame,
    decode_number,
    decode_varint,
    encode_circuit,
    encode_circuit_credit,
    encode_credit,
    encode_data,
    encode_datagram,
    encode_frame,
    encode_reset,
    encode_varint,
    fragment,
    max_circuit_record_size,
    max_data_size,
)

priorities = st.integers(0, PRIORITIES - 1)
streams = st.integers(1, MAX_VARINT)
long_sizes = st.integers(MAX_FRAME_SIZE - 1, MAX_FRAME_SIZE + 1)
messages = st.one_of(
    st.binary(max_size=64),
    st.builds(lambda size, byte: bytes([byte]) * size, st.integers(0, MAX_MESSAGE_SIZE), st.integers(0, 255)),
)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        # RFC 9000, appendix A.1
        (151_288_809_941_952_652, "c2197c5eff14e88c"),
        (494_878_333, "9d7f3e7d"),
        (15_293, "7bbd"),
        (37, "25"),
    ],
)
def test_varints_of_the_standard(value, data):
    assert encode_varint(value) == bytes.fromhex(data)
    assert decode_varint(bytes.fromhex(data)) == (value, len(data) // 2)


@given(st.integers(0, MAX_VARINT), st.binary(max_size=3), st.binary(max_size=3))
def test_varints_come_back(value, before, after):
    data = encode_varint(value)
    assert decode_varint(before + data + after, len(before)) == (value, len(before) + len(data))


@pytest.mark.parametrize("data", ["", "40", "4025", "80000025", "c0000000"])
def test_varints_cut_off_or_longer_than_need_be_are_malformed(data):
    with pytest.raises(MalformedMessage):
        decode_varint(bytes.fromhex(data))


def test_varints_beyond_the_range_are_misuse():
    for value in (-1, MAX_VARINT + 1):
        with pytest.raises(LocalMisuse):
            encode_varint(value)


def test_the_bytes_stay_as_they_are():
    assert fragment(b"hi", Priority.CONTROL) == [b"\x00\x00hi"]
    assert fragment(b"hi", Priority.BULK) == [b"\x20\x00hi"]
    assert [frame[:2] for frame in fragment(bytes(MAX_FRAME_SIZE), Priority.MESSAGE)] == [b"\x50\x00", b"\x10\x00"]
    assert encode_data(5, 300, b"abc", priority=Priority.BULK) == bytes.fromhex("61 05 412c") + b"abc"
    assert encode_data(5, 300, b"", priority=Priority.BULK, last=True) == bytes.fromhex("21 05 412c")
    assert encode_credit(5, 65_536, priority=Priority.CONTROL) == bytes.fromhex("02 05 80010000")
    assert encode_reset(5, 2, priority=Priority.CONTROL) == bytes.fromhex("03 05 02")
    assert encode_circuit(5, b"abc", priority=Priority.BULK) == bytes.fromhex("25 05") + b"abc"
    assert encode_circuit_credit(5, 65_536, priority=Priority.MESSAGE) == bytes.fromhex("16 05 80010000")


@given(priorities, st.binary(max_size=MAX_FRAME_SIZE - 2))
def test_a_datagram_is_one_frame_of_no_stream(priority, data):
    assert decode_frame(encode_datagram(data, priority)) == Frame(FrameType.DATAGRAM, priority, False, 0, data)
    for more, stream in ((True, 0), (False, 1)):
        with pytest.raises(MalformedMessage):
            decode_frame(encode_frame(Frame(FrameType.DATAGRAM, priority, more, stream, data[:100])))


@given(st.integers(7, 15), priorities, st.booleans(), st.integers(0, MAX_VARINT), st.binary(max_size=100))
def test_frames_come_back_unknown_types_too(frame_type, priority, more, stream, payload):
    frame = Frame(frame_type, priority, more, stream, payload)
    assert decode_frame(encode_frame(frame)) == frame


@given(st.binary(max_size=64) | st.builds(lambda head, size: head.ljust(size, b"x"), st.binary(max_size=9), long_sizes))
def test_any_bytes_are_a_frame_or_malformed(data):
    try:
        frame = decode_frame(data)
    except MalformedMessage:
        return
    assert encode_frame(frame) == data
    for decode in (decode_data, decode_number):
        with contextlib.suppress(MalformedMessage):
            decode(frame)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(MAX_FRAME_SIZE + 1),
        b"\x80\x00",
        b"\x30\x00",
        b"\x00\x01",
        b"\x01\x00\x00",
        b"\x00",
        b"\x05\x00",
        b"\x06\x00\x01",
        b"\x45\x01",
    ],
)
def test_what_no_frame_may_be(data):
    with pytest.raises(MalformedMessage):
        decode_frame(data)


def test_frames_that_nobody_would_take_are_misuse():
    for frame in (
        Frame(16, 0, False, 0, b""),
        Frame(0, PRIORITIES, False, 0, b""),
        Frame(0, 0, False, 0, bytes(MAX_FRAME_SIZE)),
    ):
        with pytest.raises(LocalMisuse):
            encode_frame(frame)
    with pytest.raises(LocalMisuse):
        fragment(bytes(MAX_MESSAGE_SIZE + 1), Priority.BULK)


@given(messages, priorities)
def test_a_message_comes_back_from_its_frames(message, priority):
    frames = fragment(message, priority)
    assert all(len(frame) <= MAX_FRAME_SIZE for frame in frames)
    reassembler = Reassembler()
    *partial, whole = [reassembler.feed(decode_frame(frame)) for frame in frames]
    assert whole == message
    assert set(partial) <= {None}


@given(st.lists(st.tuples(messages, priorities), max_size=4), st.randoms(use_true_random=False))
def test_messages_of_different_priority_may_be_interleaved(sent, random):
    queues = [[f for m, p in sent if p == priority for f in fragment(m, p)] for priority in range(PRIORITIES)]
    reassembler, received = Reassembler(), [[] for _ in range(PRIORITIES)]
    while any(queues):
        frame = decode_frame(random.choice([queue for queue in queues if queue]).pop(0))
        if (message := reassembler.feed(frame)) is not None:
            received[frame.priority].append(message)
    assert received == [[m for m, p in sent if p == priority] for priority in range(PRIORITIES)]


def test_a_message_without_end_is_malformed():
    reassembler = Reassembler()
    piece = Frame(FrameType.MESSAGE, 1, True, 0, bytes(16_000))
    for _ in range(MAX_MESSAGE_SIZE // 16_000):
        assert reassembler.feed(piece) is None
    with pytest.raises(MalformedMessage):
        reassembler.feed(piece)
    with pytest.raises(MalformedMessage):
        Reassembler().feed(Frame(FrameType.MESSAGE, 0, True, 0, b""))


@given(streams, st.integers(0, MAX_VARINT // 2), st.binary(max_size=64), priorities, st.booleans())
def test_stream_bytes_come_back(stream, offset, data, priority, last):
    data = data or b"x"
    frame = decode_frame(encode_data(stream, offset, data, priority=priority, last=last))
    assert (frame.type, frame.stream, frame.priority) == (FrameType.DATA, stream, priority)
    assert decode_data(frame) == (offset, data, last)


@given(streams, st.integers(0, MAX_VARINT))
def test_as_many_stream_bytes_fit_as_is_said(stream, offset):
    size = max_data_size(stream, offset)
    assert len(encode_data(stream, offset, bytes(size), priority=2)) == MAX_FRAME_SIZE
    with pytest.raises(LocalMisuse):
        encode_data(stream, offset, bytes(size + 1), priority=2)


@given(streams, st.binary(min_size=1, max_size=64), priorities)
def test_records_of_circuits_come_back(circuit, record, priority):
    frame = decode_frame(encode_circuit(circuit, record, priority=priority))
    assert frame == Frame(FrameType.CIRCUIT, priority, False, circuit, record)


@given(streams)
def test_as_long_a_record_fits_a_circuit_as_is_said(circuit):
    size = max_circuit_record_size(circuit)
    assert len(encode_circuit(circuit, bytes(size), priority=2)) == MAX_CIRCUIT_FRAME_SIZE <= MAX_FRAME_SIZE


@given(streams, st.integers(0, MAX_VARINT), st.binary(max_size=4))
def test_numbers_come_back_whatever_a_later_version_appends(stream, number, later):
    for encode in (encode_credit, encode_reset, encode_circuit_credit):
        assert decode_number(decode_frame(encode(stream, number, priority=0) + later)) == number


def test_stream_frames_that_make_no_sense_are_malformed():
    for payload in (b"", encode_varint(MAX_VARINT) + b"x"):
        with pytest.raises(MalformedMessage):
            decode_data(Frame(FrameType.DATA, 2, False, 1, payload))
    with pytest.raises(MalformedMessage):
        decode_data(Frame(FrameType.DATA, 2, True, 1, b"\x00"))
