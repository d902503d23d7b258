from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_keys import MESH, NOW, seed, suite

from meshd.crypto import identity
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import CLOCK_SKEW, MeshId, Now, SessionId
from meshd.wire.codec import decode, encode
from meshd.wire.envelope import (
    HEADER_SIZE,
    MAX_LIFETIME,
    Letter,
    _Sealed,
    _Signed,
    check_times,
    open_envelope,
    read_header,
    seal,
)
from meshd.wire.messages import MAX_BODY_SIZE, MAX_ENVELOPE_SIZE

ANNA, BERT, CARL = suite("anna"), suite("bert"), suite("carl")
SESSION = SessionId(b"session!")
OTHER_MESH = MeshId(identity.public_of(seed("another mesh")))


def at(unix: float) -> Now:
    return Now(0.0, unix)


def envelope(body: bytes = b"hello", *, sequence: int = 1, lifetime: float = MAX_LIFETIME) -> bytes:
    return seal(
        ANNA,
        MESH,
        BERT.peer_id,
        BERT.sealing_key,
        session=SESSION,
        sequence=sequence,
        body=body,
        now=at(NOW + 0.9),
        lifetime=lifetime,
    )


SAMPLE = envelope()


@settings(max_examples=25)
@given(st.binary(min_size=1, max_size=500), st.binary(min_size=8, max_size=8), st.integers(0, 2**32 - 1))
def test_an_envelope_brings_its_letter(body: bytes, session: bytes, sequence: int) -> None:
    data = seal(
        ANNA,
        MESH,
        BERT.peer_id,
        BERT.sealing_key,
        session=SessionId(session),
        sequence=sequence,
        body=body,
        now=at(NOW),
        lifetime=60.0,
    )
    assert open_envelope(BERT, MESH, data) == Letter(ANNA.peer_id, SessionId(session), sequence, NOW, NOW + 60, body)
    header = read_header(data)
    assert (header.suite, header.recipient) == (ANNA.number, BERT.peer_id)
    assert ANNA.peer_id not in data  # a relay does not learn who writes


def test_the_longest_body_fits() -> None:
    data = envelope(bytes(MAX_BODY_SIZE + 200))
    assert len(data) <= MAX_ENVELOPE_SIZE
    assert len(open_envelope(BERT, MESH, data).body) == MAX_BODY_SIZE + 200


def test_every_changed_byte_is_refused() -> None:
    for position in range(len(SAMPLE)):
        changed = bytearray(SAMPLE)
        changed[position] ^= 1
        with pytest.raises((Rejected, MalformedMessage)):
            open_envelope(BERT, MESH, bytes(changed))


@given(st.binary(max_size=400))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises((Rejected, MalformedMessage)):
        open_envelope(BERT, MESH, data)


@given(st.binary(max_size=200))
def test_whatever_is_sealed_is_a_letter_or_refused(plaintext: bytes) -> None:
    """Anybody can seal anything to us: what is inside needs the same care as what is outside."""
    header = SAMPLE[:HEADER_SIZE]
    data = header + CARL.seal(BERT.sealing_key, b"meshd envelope 1\0" + header, plaintext)
    with pytest.raises((Rejected, MalformedMessage)):
        open_envelope(BERT, MESH, data)


@pytest.mark.parametrize("size", range(0, len(SAMPLE), 7))
def test_a_cut_envelope_is_refused(size: int) -> None:
    with pytest.raises((Rejected, MalformedMessage)):
        open_envelope(BERT, MESH, SAMPLE[:size])


def test_only_the_recipient_opens_it() -> None:
    with pytest.raises(Rejected, match="not_for_us"):
        open_envelope(CARL, MESH, SAMPLE)


def test_a_letter_sealed_again_for_somebody_else_does_not_verify() -> None:
    """Bert cannot hand Anna's letter on as if she had written it to Carl."""
    inside = BERT.open(None, b"meshd envelope 1\0" + SAMPLE[:HEADER_SIZE], SAMPLE[HEADER_SIZE:])
    header = SAMPLE[: HEADER_SIZE - 32] + CARL.peer_id
    forged = header + BERT.seal(CARL.sealing_key, b"meshd envelope 1\0" + header, inside)
    with pytest.raises(Rejected, match="bad_signature"):
        open_envelope(CARL, MESH, forged)


def test_a_letter_of_another_mesh_does_not_verify() -> None:
    with pytest.raises(Rejected, match="wrong_mesh"):
        open_envelope(BERT, OTHER_MESH, SAMPLE)
    # the same with the hint changed and everything sealed again: the signature covers the whole mesh id
    inside = BERT.open(None, b"meshd envelope 1\0" + SAMPLE[:HEADER_SIZE], SAMPLE[HEADER_SIZE:])
    header = SAMPLE[:2] + OTHER_MESH[:8] + BERT.peer_id
    forged = header + CARL.seal(BERT.sealing_key, b"meshd envelope 1\0" + header, inside)
    with pytest.raises(Rejected, match="bad_signature"):
        open_envelope(BERT, OTHER_MESH, forged)


def test_nobody_writes_in_another_name() -> None:
    inside = BERT.open(None, b"meshd envelope 1\0" + SAMPLE[:HEADER_SIZE], SAMPLE[HEADER_SIZE:])
    sealed = decode(_Sealed, inside, 1000)
    signed = decode(_Signed, sealed.signed, 1000)
    header = SAMPLE[:HEADER_SIZE]
    body = encode(_Signed(signed.sender, signed.session, 2, signed.issued, signed.expires, signed.body))
    signature = CARL.sign(b"meshd envelope 1\0" + header + MESH + body)
    forged = header + CARL.seal(BERT.sealing_key, b"meshd envelope 1\0" + header, encode(_Sealed(body, signature)))
    with pytest.raises(Rejected, match="bad_signature"):
        open_envelope(BERT, MESH, forged)


def test_an_unknown_suite_is_named() -> None:
    with pytest.raises(Rejected, match="unknown_suite"):
        open_envelope(BERT, MESH, SAMPLE[:1] + b"\x63" + SAMPLE[2:])


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(Rejected, match="bad_sealing_key"):
        seal(ANNA, MESH, BERT.peer_id, bytes(32), session=SESSION, sequence=1, body=b"x", now=at(NOW))


def test_a_token_seed_opens_what_is_sealed_to_the_token() -> None:
    token_key = ANNA.sealing_key_of(seed("token"))
    data = seal(BERT, MESH, token_key, token_key, session=SESSION, sequence=1, body=b"let me in", now=at(NOW))
    assert open_envelope(ANNA, MESH, data, seed("token")).body == b"let me in"
    with pytest.raises(Rejected, match="not_for_us"):
        open_envelope(ANNA, MESH, data)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (NOW, None),
        (NOW + MAX_LIFETIME, None),
        (NOW + MAX_LIFETIME + CLOCK_SKEW, None),
        (NOW + MAX_LIFETIME + CLOCK_SKEW + 0.1, "expired"),
        (NOW - CLOCK_SKEW, None),
        (NOW - CLOCK_SKEW - 0.1, "clock"),
        (NOW + 10 * 365 * 86_400, "expired"),
        (0, "clock"),
    ],
)
def test_times_at_their_limits(now: float, reason: str | None) -> None:
    letter = open_envelope(BERT, MESH, SAMPLE)
    if reason is None:
        check_times(letter, at(now))
    else:
        with pytest.raises(Rejected) as caught:
            check_times(letter, at(now))
        assert caught.value.reason == reason


def test_a_letter_may_not_be_valid_for_long() -> None:
    check_times(Letter(ANNA.peer_id, SESSION, 1, NOW, NOW + 300, b"x"), at(NOW))
    with pytest.raises(Rejected, match="clock"):
        check_times(Letter(ANNA.peer_id, SESSION, 1, NOW, NOW + 301, b"x"), at(NOW))


@given(st.integers(0, 2**40 - 1), st.integers(0, 2**40 - 1), st.integers(0, 2**40))
def test_an_accepted_letter_was_written_lately(issued: int, expires: int, now: int) -> None:
    letter = Letter(ANNA.peer_id, SESSION, 1, issued, expires, b"x")
    try:
        check_times(letter, at(now))
    except Rejected:
        return
    assert -CLOCK_SKEW <= now - issued <= MAX_LIFETIME + CLOCK_SKEW


def test_the_letter_does_not_show_its_body() -> None:
    assert "hello" not in repr(open_envelope(BERT, MESH, SAMPLE))
