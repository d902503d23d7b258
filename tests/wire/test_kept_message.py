"""What keepers keep: made by its sender alone, opened by its recipient alone, and never larger than fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.crypto.suite import RealSuite
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import CLOCK_SKEW, MeshId, Now, SessionId
from meshd.sim.suite import KeyTable, SimSuite
from meshd.wire.depositing import MAX_RECEIPT_SIZE, MAX_SEALED_MESSAGE_SIZE
from meshd.wire.envelope import open_envelope, seal
from meshd.wire.kept_message import MAX_KEPT_LIFETIME, check_kept_times, open_kept, seal_kept
from meshd.wire.messages import (
    MAX_BODY_SIZE,
    MAX_ENVELOPE_SIZE,
    TO_A_MEMBER,
    Acknowledgement,
    ApplicationMessage,
    KeptTaken,
    MessageDeposit,
    MessageKept,
    Ping,
    decode_message,
    encode_message,
)

MESH = MeshId(b"m" * 32)
TABLE = KeyTable()
SENDER, RECIPIENT, OTHER = (SimSuite(TABLE, name * 32, name.upper() * 32) for name in (b"s", b"r", b"x"))
REAL_SENDER, REAL_RECIPIENT = (RealSuite(name * 32, name.upper() * 32) for name in (b"s", b"r"))
MESSAGE = ApplicationMessage(b"i" * 16, "chat", 2**48 - 1, 2**40 - 1, b"hello")
LARGEST = ApplicationMessage(b"i" * 16, "\N{GRINNING FACE}" * 32, 2**48 - 1, 2**40 - 1, bytes(MAX_BODY_SIZE))
NOW = 1_800_000_000


@pytest.mark.parametrize("message", [MESSAGE, Acknowledgement((b"i" * 16,))])
@pytest.mark.parametrize(("sender", "recipient"), [(SENDER, RECIPIENT), (REAL_SENDER, REAL_RECIPIENT)])
def test_its_recipient_opens_what_its_sender_has_sealed(
    sender: SimSuite, recipient: SimSuite, message: ApplicationMessage | Acknowledgement
) -> None:
    sealed = seal_kept(sender, MESH, recipient.peer_id, recipient.sealing_key, message, NOW, NOW + 10)
    assert open_kept(recipient, MESH, sender.peer_id, sealed) == (message, NOW, NOW + 10)


def test_nobody_else_opens_or_makes_it() -> None:
    sealed = seal_kept(SENDER, MESH, RECIPIENT.peer_id, RECIPIENT.sealing_key, MESSAGE, NOW, NOW + 10)
    for suite, mesh, sender in (
        (OTHER, MESH, SENDER.peer_id),
        (RECIPIENT, MeshId(b"n" * 32), SENDER.peer_id),
        (RECIPIENT, MESH, OTHER.peer_id),
    ):
        with pytest.raises(Rejected):
            open_kept(suite, mesh, sender, sealed)
    for_another = seal_kept(SENDER, MESH, OTHER.peer_id, RECIPIENT.sealing_key, MESSAGE, NOW, NOW + 10)
    with pytest.raises(Rejected, match="not_for_us"):
        open_kept(RECIPIENT, MESH, SENDER.peer_id, for_another)


def test_every_changed_byte_of_a_kept_message_is_refused() -> None:
    sealed = seal_kept(REAL_SENDER, MESH, REAL_RECIPIENT.peer_id, REAL_RECIPIENT.sealing_key, MESSAGE, NOW, NOW + 10)
    for index in range(len(sealed)):
        changed = bytearray(sealed)
        changed[index] ^= 1
        with pytest.raises(Rejected):
            open_kept(REAL_RECIPIENT, MESH, REAL_SENDER.peer_id, bytes(changed))


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_kept_message_or_one_of_two_errors(data: bytes, really_sealed: bool) -> None:
    sealed = RECIPIENT.seal(RECIPIENT.sealing_key, b"meshd kept message 1\0" + MESH, data) if really_sealed else data
    with pytest.raises((MalformedMessage, Rejected)):
        open_kept(RECIPIENT, MESH, SENDER.peer_id, sealed)


def test_only_messages_and_acknowledgements_are_read_from_it() -> None:
    sealed = seal_kept(SENDER, MESH, RECIPIENT.peer_id, RECIPIENT.sealing_key, Ping(1), NOW, NOW + 10)
    assert open_kept(RECIPIENT, MESH, SENDER.peer_id, sealed).message is None


def test_the_largest_message_passes_over_others_to_a_keeper_and_from_it() -> None:
    recipient = REAL_RECIPIENT
    sealed = seal_kept(REAL_SENDER, MESH, recipient.peer_id, recipient.sealing_key, LARGEST, 2**40 - 1, 2**40 - 1)
    assert len(sealed) <= MAX_SEALED_MESSAGE_SIZE
    full = bytes(MAX_SEALED_MESSAGE_SIZE)
    for message in (
        MessageDeposit(recipient.peer_id, b"i" * 16, 2**40 - 1, 2**40 - 1, full),
        MessageKept(recipient.peer_id, b"i" * 16, full),
    ):
        envelope = seal(
            REAL_SENDER,
            MESH,
            recipient.peer_id,
            recipient.sealing_key,
            session=SessionId(b"session!"),
            sequence=2**32 - 1,
            body=encode_message(message),
            now=Now(0.0, float(2**40 - 1000)),
        )
        assert len(envelope) <= MAX_ENVELOPE_SIZE
        letter = open_envelope(recipient, MESH, envelope)
        assert decode_message(letter.body, TO_A_MEMBER) == message


def test_a_receipt_fits() -> None:
    receipt = seal_kept(
        REAL_SENDER,
        MESH,
        REAL_RECIPIENT.peer_id,
        REAL_RECIPIENT.sealing_key,
        Acknowledgement((b"i" * 16,)),
        2**40 - 1,
        2**40 - 1,
    )
    assert len(receipt) <= MAX_RECEIPT_SIZE
    encode_message(KeptTaken(REAL_RECIPIENT.peer_id, b"i" * 16, receipt))


@pytest.mark.parametrize(
    ("issued", "expires", "reason"),
    [
        (NOW, NOW + int(MAX_KEPT_LIFETIME), None),
        (NOW - 100, NOW - int(CLOCK_SKEW), None),
        (NOW - 2000, NOW - int(CLOCK_SKEW) - 1, "expired"),
        (NOW + int(CLOCK_SKEW) + 1, NOW + 2000, "clock"),
        (NOW, NOW + int(MAX_KEPT_LIFETIME) + 1, "clock"),
    ],
)
def test_times_of_a_kept_message(issued: int, expires: int, reason: str | None) -> None:
    if reason is None:
        check_kept_times(issued, expires, Now(0.0, float(NOW)))
    else:
        with pytest.raises(Rejected, match=reason):
            check_kept_times(issued, expires, Now(0.0, float(NOW)))
