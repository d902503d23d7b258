from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_keys import DAY, MESH, NOW, certificate, founder_chain, member_chain, seed, suite

from meshd.crypto import identity
from meshd.crypto.admission import Chain
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import Instance, MeshId
from meshd.wire.codec import decode, encode
from meshd.wire.parts import MAX_RECORD_SIZE
from meshd.wire.record import (
    DEPARTED,
    RECORD_LIFETIME,
    RELAYS,
    Record,
    _Body,
    _Signed,
    decode_record,
    make_record,
    verify_record,
)

ANNA, BERT = suite("anna"), suite("bert")


def record(who: str = "bert", chain: Chain | None = None, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "number": 7,
        "chain": member_chain(who) if chain is None else chain,
        "generation": 3,
        "features": 5,
        "instance": Instance(b"instance"),
        "issued": NOW,
        "flags": RELAYS,
    }
    return make_record(suite(who), MESH, **(values | changes))


def verify(made: Record, now: float = NOW, mesh: MeshId = MESH) -> None:
    verify_record(made, ANNA, mesh, now)


def refused(made: Record, now: float = NOW, mesh: MeshId = MESH) -> str:
    with pytest.raises(Rejected) as caught:
        verify(made, now, mesh)
    return caught.value.reason


SAMPLE = record()


@settings(max_examples=30)
@given(
    st.integers(0, 2**40 - 1),
    st.integers(0, 2**40 - 1),
    st.integers(0, 2**16 - 1),
)
def test_a_record_comes_back_and_verifies(number: int, generation: int, flags: int) -> None:
    made = record(number=number, generation=generation, flags=flags)
    assert decode_record(made.encoded) == made
    verify(decode_record(made.encoded))


def test_what_it_says() -> None:
    assert (SAMPLE.peer, SAMPLE.name, SAMPLE.departed) == (BERT.peer_id, "bert", False)
    assert record(flags=DEPARTED).departed


def test_the_longest_record_fits() -> None:
    chain = (
        certificate(None, "anna", member_chain("x")[0].rights, name="a" * 32),
        certificate("anna", "bert", name="b" * 32),
        certificate("bert", "carl", name="c" * 32),
        certificate("carl", "dora", name="d" * 32),
    )
    made = record(
        "dora",
        chain,
        number=2**40 - 1,
        features=2**64 - 1,
        issued=NOW,
    )
    assert len(made.encoded) <= MAX_RECORD_SIZE
    verify(decode_record(made.encoded))


def test_it_lives_for_a_week() -> None:
    verify(SAMPLE, NOW + DAY - 1)
    long = record(chain=(certificate(None, "bert", expires=NOW + 1000 * DAY),))
    verify(long, NOW + RECORD_LIFETIME - 1)
    assert refused(long, NOW + RECORD_LIFETIME) == "record_expired"
    assert refused(SAMPLE, NOW + DAY) == "admission_expired"


def test_another_mesh_is_refused() -> None:
    other = MeshId(identity.public_of(seed("another mesh")))
    assert refused(SAMPLE, mesh=other) == "chain_broken"


def signed_by(who: str, **changes: Any) -> Record:
    body = decode(_Body, decode(_Signed, SAMPLE.encoded, MAX_RECORD_SIZE).body, MAX_RECORD_SIZE)
    data = encode(dataclasses.replace(body, **changes))
    signature = suite(who).sign(b"meshd record 1\0" + MESH + data)
    return decode_record(encode(_Signed(data, signature)))


def test_somebody_elses_record_is_forged() -> None:
    assert refused(signed_by("anna")) == "bad_signature"  # not even an admin speaks for a member
    assert refused(signed_by("carl")) == "bad_signature"
    verify(signed_by("bert"))


def test_a_record_with_anothers_chain_is_forged() -> None:
    stolen = tuple(c.encoded for c in founder_chain())
    assert refused(signed_by("bert", chain=stolen)) == "bad_signature"


def test_a_record_that_lives_too_long_is_refused() -> None:
    assert refused(signed_by("bert", expires=NOW + int(RECORD_LIFETIME) + 1)) == "record_too_long"


def test_a_record_from_the_future_is_refused() -> None:
    """Or it would outlive all that its member says later with a right clock."""
    issued = NOW + 30 * DAY
    assert refused(signed_by("bert", issued=issued, expires=issued + int(RECORD_LIFETIME))) == "record_in_future"
    verify(signed_by("bert", issued=NOW + 500, expires=NOW + 500 + int(RECORD_LIFETIME)))


def test_a_record_without_a_chain_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        signed_by("bert", chain=())


def test_every_changed_byte_is_refused() -> None:
    for position in range(len(SAMPLE.encoded)):
        changed = bytearray(SAMPLE.encoded)
        changed[position] ^= 1
        with pytest.raises((Rejected, MalformedMessage)):
            verify(decode_record(bytes(changed)))


@given(st.binary(max_size=500))
def test_any_bytes_are_a_record_or_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_record(data)


@given(st.binary(max_size=300))
def test_any_signed_body_is_a_record_or_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_record(encode(_Signed(body, bytes(64))))
