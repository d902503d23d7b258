"""The records of sessions: each counts once, in order, under the key of its time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.crypto.noise import rekey
from meshd.crypto.session import (
    COUNTER_SIZE,
    EPOCH_RECORDS,
    MAX_EPOCHS_AHEAD,
    OVERHEAD_SIZE,
    RecordOpener,
    RecordSealer,
)
from meshd.errors import LocalMisuse, Rejected

KEY = bytes(range(32))


def ends() -> tuple[RecordSealer, RecordOpener]:
    return RecordSealer(KEY), RecordOpener(KEY)


def counter_of(record: bytes) -> int:
    return int.from_bytes(record[:COUNTER_SIZE], "big")


@given(st.lists(st.tuples(st.binary(max_size=100), st.booleans(), st.booleans()), max_size=30))
def test_what_comes_is_what_was_sent_whatever_is_lost_or_turned(sent: list[tuple[bytes, bool, bool]]) -> None:
    sealer, opener = ends()
    for plaintext, lost, turned in sent:
        if turned:
            sealer.turn()
        record = sealer.seal(plaintext)
        assert len(record) == len(plaintext) + OVERHEAD_SIZE
        if not lost:
            try:
                assert opener.open(record) == plaintext
            except Rejected:  # so many keys in a row are never lost with a path
                assert counter_of(record) >= MAX_EPOCHS_AHEAD * EPOCH_RECORDS
                return


@given(st.binary(max_size=100))
def test_any_bytes_are_refused(data: bytes) -> None:
    sealer, opener = ends()
    with pytest.raises(Rejected):
        opener.open(data)
    assert opener.open(sealer.seal(b"still")) == b"still"


@given(st.integers(min_value=0), st.integers(1, 255))
def test_no_byte_can_be_changed(place: int, change: int) -> None:
    sealer, opener = ends()
    record = sealer.seal(b"content")
    changed = bytearray(record)
    changed[place % len(record)] ^= change
    with pytest.raises(Rejected):
        opener.open(bytes(changed))
    assert opener.open(record) == b"content"


def test_a_record_counts_once_and_none_that_was_overtaken() -> None:
    sealer, opener = ends()
    first, second, third = (sealer.seal(bytes([number])) for number in range(3))
    assert opener.open(second) == b"\1"
    for old in (first, second):
        with pytest.raises(Rejected, match="session_replayed"):
            opener.open(old)
    assert opener.open(third) == b"\2"


def test_keys_follow_one_another_by_count_and_when_asked() -> None:
    sealer, opener = ends()
    for _ in range(EPOCH_RECORDS):
        last = sealer.seal(b"")
    assert opener.open(last) == b""
    record = sealer.seal(b"next")
    assert counter_of(record) == EPOCH_RECORDS
    assert RecordOpener(KEY).open(record) == b"next"  # all before it were lost
    assert opener.open(record) == b"next"
    sealer.turn()
    sealer.turn()  # once: the key of now has not been used yet
    assert counter_of(turned := sealer.seal(b"turned")) == 2 * EPOCH_RECORDS
    assert opener.open(turned) == b"turned"


def test_the_key_of_now_opens_nothing_of_before() -> None:
    sealer, _ = ends()
    old = sealer.seal(b"secret")
    later = RecordOpener(rekey(KEY))
    with pytest.raises(Rejected):
        later.open(old)


def test_a_claim_of_many_keys_costs_little() -> None:
    sealer, opener = ends()
    genuine = sealer.seal(b"x")
    far = ((MAX_EPOCHS_AHEAD + 1) * EPOCH_RECORDS).to_bytes(COUNTER_SIZE, "big") + genuine[COUNTER_SIZE:]
    with pytest.raises(Rejected, match="too far ahead"):
        opener.open(far)
    near = (MAX_EPOCHS_AHEAD * EPOCH_RECORDS).to_bytes(COUNTER_SIZE, "big") + genuine[COUNTER_SIZE:]
    with pytest.raises(Rejected, match="session_forged"):
        opener.open(near)
    assert opener.open(genuine) == b"x"


def test_counters_end() -> None:
    sealer, _ = ends()
    sealer._counter = 2**64 - 1
    with pytest.raises(LocalMisuse):
        sealer.seal(b"")


def test_nothing_shows_its_key() -> None:
    assert repr(ends()) == "(RecordSealer(…), RecordOpener(…))"
