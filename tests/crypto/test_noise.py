"""The handshake of sessions: the published vectors, and everything that must not pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.crypto import noise, sealing
from meshd.crypto.noise import FIRST_OVERHEAD_SIZE, SECOND_OVERHEAD_SIZE, Initiator, Responder
from meshd.crypto.session import RecordOpener, RecordSealer
from meshd.errors import Rejected

SEEDS = {name: bytes([number]) * 32 for number, name in enumerate(("initiator", "responder", "one", "other", "eve"), 1)}
PROLOGUE = b"about what"


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


# Noise_IK_25519_ChaChaPoly_SHA256 of cacophony's vectors, which the implementations of Noise share
# (https://github.com/haskell-cryptography/cacophony, vectors/cacophony.txt)
VECTOR = {
    "prologue": unhex("4a6f686e2047616c74"),
    "init_static": unhex("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1"),
    "init_ephemeral": unhex("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a"),
    "init_remote_static": unhex("31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62"),
    "resp_static": unhex("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893"),
    "resp_ephemeral": unhex("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b"),
}
HANDSHAKE = [
    (
        unhex("4c756477696720766f6e204d69736573"),
        unhex(
            "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944718da798efbcd91528520204f904b9bd6c7413dccdc214"
            "d951e15253e39987f18146e8cd0873654207148333479d4d16c289f0294b29960a72f48e0b7bba2e89083169825e59642148d492020664"
            "ccf7"
        ),
    ),
    (
        unhex("4d757272617920526f746862617264"),
        unhex(
            "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088435361e70b2ed446e6c9ec387d1d6b3b840f194e373979d2"
            "41b203c4acafccf5"
        ),
    ),
]
TRANSPORT = [  # alternating, the initiator first; the first two have nonce 0, the next two nonce 1
    ("462e20412e20486179656b", "050e9f3c8fac16b68dbce8f8c4bfbf6617c897f9ada4aa29aa19c8"),
    ("4361726c204d656e676572", "344233a6cabb7141d80f3da2fedc311d9646bbb0f505afe403a667"),
    ("4a65616e2d426170746973746520536179", "62cdeeb172ad7ade7aa7d9e069da5790f12331bfa00177787a1d0810c67dc3b2b4"),
    (
        "457567656e2042f6686d20766f6e2042617765726b",
        "029bead1b40992327044d409d9a1f3ad8f36c3c452775d557e18bbeb2e8dfcead32d514024",
    ),
]


def test_the_published_vector() -> None:
    initiator = Initiator(
        VECTOR["init_static"], VECTOR["init_remote_static"], VECTOR["prologue"], VECTOR["init_ephemeral"]
    )
    (first_payload, first), (second_payload, second) = HANDSHAKE
    assert initiator.write(first_payload) == first
    responder = Responder(VECTOR["resp_static"], VECTOR["prologue"], first, VECTOR["resp_ephemeral"])
    assert responder.payload == first_payload
    assert responder.initiator_key == sealing.public_of(VECTOR["init_static"])
    message, theirs = responder.write(second_payload)
    assert message == second
    payload, ours = initiator.read(second)
    assert payload == second_payload
    assert (ours.sending, ours.receiving) == (theirs.receiving, theirs.sending)
    assert ours.handshake_hash == theirs.handshake_hash
    sealers = [RecordSealer(ours.sending), RecordSealer(theirs.sending)]
    openers = [RecordOpener(theirs.receiving), RecordOpener(ours.receiving)]
    for number, (plaintext, sealed) in enumerate(TRANSPORT):
        record = sealers[number % 2].seal(unhex(plaintext))
        assert record == (number // 2).to_bytes(8, "big") + unhex(sealed)
        assert openers[number % 2].open(record) == unhex(plaintext)


def begin(payload: bytes = b"") -> tuple[Initiator, bytes]:
    responder_key = sealing.public_of(SEEDS["responder"])
    initiator = Initiator(SEEDS["initiator"], responder_key, PROLOGUE, SEEDS["one"])
    return initiator, initiator.write(payload)


def ask(message: bytes, ephemeral: str = "other") -> Responder:
    return Responder(SEEDS["responder"], PROLOGUE, message, SEEDS[ephemeral])


def answer(message: bytes, payload: bytes = b"") -> tuple[bytes, noise.SessionKeys]:
    return ask(message).write(payload)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_both_ends_get_the_payloads_and_the_same_keys(one: bytes, other: bytes) -> None:
    initiator, first = begin(one)
    assert len(first) == len(one) + FIRST_OVERHEAD_SIZE
    assert ask(first).payload == one
    second, theirs = answer(first, other)
    assert len(second) == len(other) + SECOND_OVERHEAD_SIZE
    payload, ours = initiator.read(second)
    assert (payload, ours.sending, ours.receiving) == (other, theirs.receiving, theirs.sending)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_a_first_message(data: bytes) -> None:
    with pytest.raises(Rejected):
        ask(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_an_answer_and_the_right_one_is_still_taken(data: bytes) -> None:
    initiator, first = begin()
    with pytest.raises(Rejected):
        initiator.read(data)
    second, _ = answer(first, b"yes")
    assert initiator.read(second)[0] == b"yes"


@given(st.integers(min_value=0), st.integers(1, 255))
def test_no_byte_of_a_message_can_be_changed(place: int, change: int) -> None:
    initiator, first = begin(b"payload")
    second, _ = answer(first, b"payload")
    changed = bytearray(first)
    changed[place % len(first)] ^= change
    with pytest.raises(Rejected):
        ask(bytes(changed))
    changed = bytearray(second)
    changed[place % len(second)] ^= change
    with pytest.raises(Rejected):
        initiator.read(bytes(changed))


def test_another_prologue_or_another_key_is_refused() -> None:
    _, first = begin()
    for seed, prologue in ((SEEDS["responder"], b"about something else"), (SEEDS["eve"], PROLOGUE)):
        with pytest.raises(Rejected):
            Responder(seed, prologue, first, SEEDS["other"])
    second, _ = answer(first)
    other = Initiator(SEEDS["eve"], sealing.public_of(SEEDS["responder"]), PROLOGUE, SEEDS["eve"])
    other.write(b"")
    with pytest.raises(Rejected):
        other.read(second)  # made for somebody else's first message


def test_points_of_low_order_are_refused() -> None:
    with pytest.raises(Rejected, match="bad_session_key"):
        Initiator(SEEDS["initiator"], bytes(32), PROLOGUE, SEEDS["one"]).write(b"")
    _, first = begin()
    with pytest.raises(Rejected, match="bad_session_key"):
        ask(bytes(32) + first[32:])


def test_each_handshake_has_keys_of_its_own() -> None:
    """Static keys alone do not make a session's keys: what was recorded stays closed when they are stolen."""
    _, first = begin()
    _, keys = answer(first)
    _, again = ask(first, "eve").write(b"")
    assert {keys.sending, keys.receiving}.isdisjoint({again.sending, again.receiving})


def test_nothing_shows_its_secrets() -> None:
    initiator, first = begin()
    responder = ask(first)
    _, keys = answer(first)
    assert repr(initiator) == "Initiator(…)"
    assert repr(responder) == "Responder(…)"
    assert repr(keys.sending)[2:10] not in repr(keys)
