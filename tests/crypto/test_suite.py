"""The real suite and the simulator's promise the core the same things."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.crypto import identity
from meshd.crypto.suite import RealSuite, Suite
from meshd.errors import LocalMisuse, MalformedMessage, MeshError, Rejected
from meshd.sim.suite import KeyTable, SimSuite

SEEDS = [bytes([i]) * 32 for i in range(6)]
AUDIENCE, SUBJECT = "https://push.example", "mailto:a@example"


def pair(kind: str) -> tuple[Suite, Suite]:
    if kind == "real":
        return RealSuite(SEEDS[0], SEEDS[1]), RealSuite(SEEDS[2], SEEDS[3])
    table = KeyTable()
    return SimSuite(table, SEEDS[0], SEEDS[1]), SimSuite(table, SEEDS[2], SEEDS[3])


both = pytest.mark.parametrize("kind", ["real", "simulated"])


@both
def test_signatures(kind: str) -> None:
    ours, theirs = pair(kind)
    signature = ours.sign(b"message")
    assert len(signature) == 64
    assert len(ours.peer_id) == 32
    assert signature == ours.sign(b"message") == theirs.sign_with(SEEDS[0], b"message")
    assert theirs.verify(ours.peer_id, b"message", signature)
    assert theirs.identity_of(SEEDS[0]) == ours.peer_id
    assert not theirs.verify(ours.peer_id, b"another", signature)
    assert not theirs.verify(theirs.peer_id, b"message", signature)
    for broken in (b"", signature[:-1], signature + b"\0", bytes(64), bytes([signature[0] ^ 1]) + signature[1:]):
        assert not theirs.verify(ours.peer_id, b"message", broken)
    for key in (b"", bytes(31), bytes(32), b"\xff" * 32):
        assert not ours.verify(key, b"message", signature)


@both
def test_sealing(kind: str) -> None:
    ours, theirs = pair(kind)
    sealed = ours.seal(theirs.sealing_key, b"info", b"secret")
    assert len(sealed) == len(b"secret") + 48
    assert theirs.open(None, b"info", sealed) == b"secret"
    assert ours.open(SEEDS[3], b"info", sealed) == b"secret"
    for suite, info, data in ((ours, b"info", sealed), (theirs, b"x", sealed), (theirs, b"info", sealed[:-1])):
        with pytest.raises(Rejected, match="not_for_us"):
            suite.open(None, info, data)
    with pytest.raises(Rejected, match="bad_sealing_key"):
        ours.seal(bytes(32), b"info", b"secret")


@both
def test_sessions(kind: str) -> None:
    ours, theirs = pair(kind)
    message, wish = ours.begin_session(theirs.sealing_key, b"about", b"please")
    for suite, prologue, data in ((ours, b"about", message), (theirs, b"else", message), (theirs, b"about", b"x")):
        with pytest.raises(Rejected):
            suite.answer_session(prologue, data)
    theirs.use_sealing_seeds((SEEDS[4], SEEDS[3]))  # it has a newer one by now
    request = theirs.answer_session(b"about", message)
    assert request.payload == b"please"
    answer, their_keys = request.write(b"gladly")
    with pytest.raises(Rejected):
        wish.read(answer[:-1] + b"\0")
    payload, our_keys = wish.read(answer)
    assert payload == b"gladly"
    assert (our_keys.sending, our_keys.receiving) == (their_keys.receiving, their_keys.sending)
    assert our_keys.sending != our_keys.receiving
    with pytest.raises(Rejected):
        ours.begin_session(bytes(32), b"about", b"please")


@both
def test_pushes(kind: str) -> None:
    ours, theirs = pair(kind)
    keys = theirs.channel_keys(SEEDS[4])
    assert (len(keys.p256dh), len(keys.auth), len(keys.vapid_key)) == (33, 16, 33)
    assert keys == theirs.channel_keys(SEEDS[4]) != theirs.channel_keys(SEEDS[5])
    assert len(theirs.uncompressed_vapid_key(SEEDS[4])) == 65
    body = ours.encrypt_push(keys.p256dh, keys.auth, b"plaintext")
    assert theirs.decrypt_push(SEEDS[4], body) == b"plaintext"
    for seed, data in ((SEEDS[5], body), (SEEDS[4], body[:-1]), (SEEDS[4], b""), (SEEDS[4], bytes(200))):
        with pytest.raises(MalformedMessage):
            theirs.decrypt_push(seed, data)
    with pytest.raises(LocalMisuse):
        ours.encrypt_push(keys.p256dh, keys.auth, bytes(3994))
    assert len(ours.encrypt_push(keys.p256dh, keys.auth, bytes(3993))) <= 4096


def test_no_two_pushes_have_a_key_or_a_salt_in_common() -> None:
    ours, theirs = pair("real")
    keys = theirs.channel_keys(SEEDS[4])
    bodies = [ours.encrypt_push(keys.p256dh, keys.auth, b"the same") for _ in range(8)]
    assert len({body[:16] for body in bodies}) == len({body[21:86] for body in bodies}) == 8


@both
def test_capabilities(kind: str) -> None:
    ours, theirs = pair(kind)
    keys = theirs.channel_keys(SEEDS[4])
    signature = theirs.issue_capability(SEEDS[4], AUDIENCE, 1_800_000_000, SUBJECT)
    good = (keys.vapid_key, AUDIENCE, 1_800_000_000, SUBJECT, signature)
    assert len(signature) == 64
    assert ours.verify_capability(*good)
    assert ours.authorization(*good)
    wrong = (b"\2" + b"\1" * 32, "https://other.example", 1_800_000_001, "mailto:b@example", bytes(64))
    for index, value in enumerate(wrong):
        changed = list(good)
        changed[index] = value  # type: ignore[call-overload]
        try:
            assert not ours.verify_capability(*changed)  # type: ignore[arg-type]
        except MalformedMessage:
            assert index == 0  # a point that is not on the curve


@both
@settings(max_examples=20)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_opened_or_refused(kind: str, data: bytes) -> None:
    ours, _ = pair(kind)
    for attempt in (lambda: ours.open(None, b"", data), lambda: ours.decrypt_push(SEEDS[4], data)):
        with pytest.raises(MeshError):
            attempt()


def test_private_keys_are_not_shown() -> None:
    ours, _ = pair("real")
    assert SEEDS[1].hex() not in repr(ours)
    assert repr(SEEDS[1]) not in repr(ours)


def test_an_identity_is_that_of_rfc_8032() -> None:
    """Section 7.1, test 2."""
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    assert identity.public_of(seed).hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert identity.sign(seed, b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
