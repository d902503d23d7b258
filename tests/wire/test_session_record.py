from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.errors import LocalMisuse, MalformedMessage
from meshd.wire.frame import MAX_VARINT
from meshd.wire.session_record import (
    SessionAck,
    SessionData,
    SessionDone,
    SessionProbe,
    decode_session_record,
    encode_session_ack,
    encode_session_data,
    encode_session_done,
    encode_session_probe,
)

offsets = st.integers(0, MAX_VARINT - 2**20)


@given(offsets, st.binary(max_size=50), st.booleans())
def test_data_comes_back(offset: int, data: bytes, last: bool) -> None:
    if data or last:
        assert decode_session_record(encode_session_data(offset, data, last=last)) == SessionData(offset, data, last)
    else:
        with pytest.raises(LocalMisuse):
            encode_session_data(offset, data, last=last)


@given(offsets, offsets)
def test_the_rest_comes_back(received: int, limit: int) -> None:
    assert decode_session_record(encode_session_ack(received, limit)) == SessionAck(received, limit)
    assert decode_session_record(encode_session_done()) == SessionDone()
    assert decode_session_record(encode_session_probe()) == SessionProbe()


@given(st.binary(max_size=40))
def test_any_bytes_give_a_record_or_the_one_error(data: bytes) -> None:
    with suppress(MalformedMessage):
        decode_session_record(data)


@pytest.mark.parametrize("data", ["", "00", "0005", "01", "02", "0205", "00ffffffffffffffff41"])
def test_what_is_cut_off_or_too_long(data: str) -> None:
    with pytest.raises(MalformedMessage):
        decode_session_record(bytes.fromhex(data))


def test_later_versions_may_say_more() -> None:
    assert decode_session_record(b"\5whatever") is None
    assert decode_session_record(encode_session_ack(1, 2) + b"more") == SessionAck(1, 2)
    assert decode_session_record(encode_session_done() + b"more") == SessionDone()
