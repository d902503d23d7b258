"""Link states on the wire: any bytes are one or malformed; what is forged, old or from the future is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_keys import DAY, MESH, NOW, seed, suite

from meshd.crypto import identity
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import MeshId
from meshd.wire.codec import decode, encode
from meshd.wire.link_state import (
    LINK_STATE_LIFETIME,
    MAX_LINK_STATE_SIZE,
    MAX_NEIGHBORS,
    LinkState,
    _Body,
    _Signed,
    decode_link_state,
    make_link_state,
    verify_link_state,
)

ANNA, BERT = suite("anna"), suite("bert")


def made(who: str = "bert", **changes: Any) -> LinkState:
    values: dict[str, Any] = {"number": 7 << 33, "issued": NOW, "neighbors": (b"bbbbbbbb", b"aaaaaaaa")}
    return make_link_state(suite(who), MESH, **(values | changes))


def verify(state: LinkState, now: float = NOW, mesh: MeshId = MESH) -> None:
    verify_link_state(state, BERT.peer_id, ANNA, mesh, now)


def refused(state: LinkState, now: float = NOW, mesh: MeshId = MESH) -> str:
    with pytest.raises(Rejected) as caught:
        verify(state, now, mesh)
    return caught.value.reason


SAMPLE = made()


@settings(max_examples=50)
@given(
    st.integers(0, 2**40 - 1),
    st.integers(0, 2**40 - 1),
    st.sets(st.binary(min_size=8, max_size=8), max_size=MAX_NEIGHBORS).map(tuple),
)
def test_one_comes_back(number: int, issued: int, neighbors: tuple[bytes, ...]) -> None:
    state = made(number=number, issued=issued, neighbors=neighbors)
    assert decode_link_state(state.encoded) == state
    assert (state.number, state.issued, state.neighbors) == (number, issued, tuple(sorted(neighbors)))


def test_twelve_neighbors_take_two_hundred_bytes() -> None:
    state = made(neighbors=tuple(bytes([n]) * 8 for n in range(12)))
    assert len(state.encoded) <= 200
    most = made(neighbors=tuple(n.to_bytes(8, "big") for n in range(MAX_NEIGHBORS)), number=2**40 - 1)
    assert len(most.encoded) <= MAX_LINK_STATE_SIZE


def test_it_lives_for_a_week() -> None:
    verify(SAMPLE, NOW + LINK_STATE_LIFETIME - 1)
    assert refused(SAMPLE, NOW + LINK_STATE_LIFETIME) == "link_state_expired"


def test_one_from_the_future_is_refused() -> None:
    verify(made(issued=NOW + 500))
    assert refused(made(issued=NOW + DAY)) == "link_state_in_future"


def test_another_mesh_and_another_member_are_refused() -> None:
    assert refused(SAMPLE, mesh=MeshId(identity.public_of(seed("another mesh")))) == "bad_signature"
    assert refused(made("anna")) == "bad_signature"
    body = decode(_Body, decode(_Signed, SAMPLE.encoded, 400).body, 400)
    forged = encode(dataclasses.replace(body, neighbors=b"evil" * 2))
    signature = suite("anna").sign(b"meshd link state 1\0" + MESH + forged)
    assert refused(decode_link_state(encode(_Signed(forged, signature)))) == "bad_signature"


@pytest.mark.parametrize("neighbors", [b"seven b", b"bbbbbbbbaaaaaaaa", b"aaaaaaaaaaaaaaaa", BERT.peer_id[:8]])
def test_neighbors_that_are_no_rising_row_of_others_are_malformed(neighbors: bytes) -> None:
    body = encode(_Body(BERT.peer_id[:8], 1, NOW, neighbors))
    with pytest.raises(MalformedMessage):
        decode_link_state(encode(_Signed(body, bytes(64))))


def test_every_changed_byte_is_refused() -> None:
    for position in range(len(SAMPLE.encoded)):
        changed = bytearray(SAMPLE.encoded)
        changed[position] ^= 1
        with pytest.raises((Rejected, MalformedMessage)):
            verify(decode_link_state(bytes(changed)))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_link_state_or_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_link_state(data)


@given(st.binary(max_size=300))
def test_any_signed_body_is_a_link_state_or_malformed(body: bytes) -> None:
    try:
        state = decode_link_state(encode(_Signed(body, bytes(64))))
    except MalformedMessage:
        return
    assert len(state.prefix) == 8
