from __future__ import annotations

import contextlib
import dataclasses
import tracemalloc
from dataclasses import dataclass
from typing import Any, ClassVar

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_values import messages_of, plain_values, values_of

from meshd.errors import MalformedMessage
from meshd.wire.codec import MAX_ITEMS, Blob, Kind, Many, Maybe, Nested, Text, Uint, decode, encode, fixed, unpack
from meshd.wire.messages import (
    ENVELOPE_MESSAGES,
    LINK_MESSAGES,
    MAX_BODY_SIZE,
    MAX_ENVELOPE_SIZE,
    MAX_PEER_MESSAGE_SIZE,
    ApplicationMessage,
    Digest,
    Forward,
    Heartbeat,
    Records,
    decode_message,
    encode_message,
    peer_prefixes,
)

ALL = LINK_MESSAGES | ENVELOPE_MESSAGES
any_message = st.one_of([messages_of(cls) for cls in ALL.values()])


@dataclass(frozen=True)
class Inner:
    number: int
    WIRE: ClassVar[tuple[Kind, ...]] = (Uint(8),)


@dataclass(frozen=True)
class Sample:
    key: bytes
    note: str
    inner: Inner
    several: tuple[int, ...] = ()
    maybe: bytes | None = None
    WIRE: ClassVar[tuple[Kind, ...]] = (
        fixed(4),
        Text(8),
        Nested(Inner),
        Many(Uint(16), 3),
        Maybe(Blob(1, 2)),
    )


def raw(value: Any) -> list[Any]:
    return msgpack.unpackb(encode_message(value))  # type: ignore[no-any-return]


def pack(value: Any) -> bytes:
    return msgpack.packb(value)  # type: ignore[no-any-return]


# -- what goes out comes back -----------------------------------------------------------------------------------------


@given(any_message)
def test_every_message_comes_back_as_it_was(message: Any) -> None:
    assert decode_message(encode_message(message), ALL) == message


@settings(max_examples=40)
@given(any_message, st.lists(plain_values(), min_size=1, max_size=3))
def test_what_a_later_version_appends_is_ignored(message: Any, more: list[Any]) -> None:
    try:
        data = pack(raw(message) + more)
        unpack(data, MAX_PEER_MESSAGE_SIZE)
    except (MalformedMessage, ValueError, OverflowError):
        return  # maps and the like are not allowed even there
    assert decode_message(data, ALL) == message


@given(messages_of(Sample))
def test_missing_fields_at_the_end_take_their_defaults(sample: Any) -> None:
    fields = msgpack.unpackb(encode(sample))
    short = decode(Sample, pack(fields[:3]), 1000)
    assert short == dataclasses.replace(sample, several=(), maybe=None)
    with pytest.raises(MalformedMessage):
        decode(Sample, pack(fields[:2]), 1000)


@pytest.mark.parametrize("cls", ALL.values(), ids=lambda cls: cls.__name__)
def test_every_class_lays_out_all_its_fields(cls: type[Any]) -> None:
    assert len(cls.WIRE) == len(dataclasses.fields(cls))


def test_numbers_are_used_once_and_tables_agree() -> None:
    assert all(LINK_MESSAGES[n] is ENVELOPE_MESSAGES[n] for n in LINK_MESSAGES.keys() & ENVELOPE_MESSAGES.keys())
    assert len(set(ALL.values())) == len(ALL)


# -- whatever comes in ------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_unknown_or_malformed(data: bytes) -> None:
    try:
        message = decode_message(data, ALL)
    except MalformedMessage:
        return
    assert message is None or type(message) in ALL.values()


@settings(max_examples=60)
@given(st.sampled_from(sorted(ALL)), st.lists(plain_values(), max_size=10))
def test_any_fields_are_a_message_or_malformed(number: int, fields: list[Any]) -> None:
    try:
        message = decode_message(pack([number, *fields]), ALL)
    except MalformedMessage:
        return
    assert type(message) is ALL[number]
    assert decode_message(encode_message(message), ALL) == message


@given(any_message, st.data())
def test_one_changed_byte_is_a_message_or_malformed(message: Any, data: st.DataObject) -> None:
    encoded = bytearray(encode_message(message))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(MalformedMessage):
        decode_message(bytes(encoded), ALL)


@given(any_message, st.data())
def test_every_beginning_of_a_message_is_malformed(message: Any, data: st.DataObject) -> None:
    encoded = encode_message(message)
    with pytest.raises(MalformedMessage):
        decode_message(encoded[: data.draw(st.integers(0, len(encoded) - 1))], ALL)
    with pytest.raises(MalformedMessage):
        decode_message(encoded + b"\0", ALL)


def test_an_unknown_number_is_no_error() -> None:
    assert decode_message(pack([250, "from", {}, 2029]), ALL) is None
    assert decode_message(encode_message(Heartbeat(1)), {}) is None


@pytest.mark.parametrize(
    "value",
    [
        [True, 1],  # true is no 1
        [3.0, 1],
        [],
        3,
        None,
        {3: 1},
        ["3", 1],
        [3, -1],
        [3, 1 << 32],
        [3, True],
        [3, 1.0],
        [3, {1: 2}],
        [3, msgpack.ExtType(5, b"x")],
        [3, msgpack.Timestamp(1)],
    ],
)
def test_what_is_no_heartbeat(value: Any) -> None:
    with pytest.raises(MalformedMessage):
        decode_message(msgpack.packb(value), ALL)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",  # never used in msgpack
        b"\xdd\xff\xff\xff\xff",  # four thousand million elements, it says
        b"\xdc\xff\xff" + b"\0" * 0xFFFF,
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x91" * 60_000 + b"\x01",  # sixty thousand deep
        b"\x92\x03\xa4\xff\xfe\xfd\xfc",  # text that is no UTF-8
        b"\x92\x03\xa3\xed\xa0\x80",  # half of a surrogate pair
        b"\x92\x03\x01\x01",
    ],
)
def test_hostile_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_message(data, ALL)


def test_hostile_bytes_cost_no_more_than_they_are_long() -> None:
    """A message of 64 KB must not make megabytes of memory by the thousand."""
    nested = b"\xdc\x0f\xff" + b"\x90" * 0xFFF
    hostile = [b"\xdd\xff\xff\xff\xff" + b"\0" * 60_000, b"\x91" * 60_000, b"\x9f" + nested * 15]
    for data in hostile:
        tracemalloc.start()
        try:
            with contextlib.suppress(MalformedMessage):
                decode_message(data, {})
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 100 * len(data)


def test_too_many_bytes_and_items_are_malformed() -> None:
    with pytest.raises(MalformedMessage):
        decode_message(bytes(MAX_PEER_MESSAGE_SIZE + 1), ALL)
    with pytest.raises(MalformedMessage):
        unpack(pack([0] * (MAX_ITEMS + 1)), 100_000)
    assert len(unpack(pack([0] * MAX_ITEMS), 100_000)) == MAX_ITEMS


@given(st.data())
def test_each_kind_takes_what_it_gives_and_no_other_type(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([Uint(8), fixed(3), Text(4), Many(Uint(8), 2), Maybe(Uint(8))]))
    value = data.draw(values_of(kind))
    assert kind.load(kind.dump(value)) == value
    for other in (True, 1.5, b"longer than any", "longer than any", [1, 2, 3, 4], 300, {}):
        with pytest.raises(MalformedMessage):
            kind.load(other)


# -- limits that must fit into each other -----------------------------------------------------------------------------


def test_the_longest_message_fits_into_its_envelope_and_that_onto_a_link() -> None:
    longest = encode_message(
        ApplicationMessage(bytes(16), "ä" * 32, (1 << 48) - 1, (1 << 40) - 1, bytes(MAX_BODY_SIZE))
    )
    assert len(longest) + 400 < MAX_ENVELOPE_SIZE
    forward = encode_message(Forward(255, bytes(MAX_ENVELOPE_SIZE)))
    assert len(forward) <= MAX_PEER_MESSAGE_SIZE
    assert len(encode_message(Digest(2, tuple(range(32)), bytes(8 * 1024)))) <= MAX_PEER_MESSAGE_SIZE


def test_prefixes_are_cut_up() -> None:
    assert peer_prefixes(b"a" * 8 + b"b" * 8) == [b"a" * 8, b"b" * 8]
    assert Records(()).records == ()
