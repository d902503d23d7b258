from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.errors import LocalMisuse, MalformedMessage
from meshd.wire.credit import MAX_STREAM_WINDOW, ReceiveCredit, SendCredit


@given(
    st.integers(1, 5_000),
    st.lists(st.tuples(st.sampled_from(["send", "arrive", "read", "grant"]), st.integers(0, 4_000)), max_size=60),
)
def test_a_sender_that_keeps_to_its_credit_never_overruns_and_never_sticks(window, steps):
    """Bytes and credits travel as slowly as the steps say, each in order."""
    sender, receiver = SendCredit(window), ReceiveCredit(window)
    sent, granted = [], []

    def do(step: str, size: int) -> None:
        if step == "send" and (size := min(size, sender.available)):
            sent.append((sender.spend(size), size))
        elif step == "arrive" and sent:
            receiver.receive(*sent.pop(0))
        elif step == "read":
            if (limit := receiver.consume(min(size, receiver.waiting))) is not None:
                granted.append(limit)
        elif step == "grant" and granted:
            assert sender.grant(granted.pop(0))
        assert 0 <= receiver.waiting <= receiver.window
        assert sender.offset <= sender.limit <= receiver.limit

    for step, size in steps:
        do(step, size)
    while sent:
        do("arrive", 0)
    do("read", receiver.waiting)
    while granted:
        do("grant", 0)
    assert sender.available > 0  # all was read, so the sender may go on


def test_repeated_and_old_limits_do_no_harm():
    sender = SendCredit(10)
    assert sender.grant(20)
    assert not sender.grant(20)
    assert not sender.grant(5)
    assert sender.limit == 20


def test_beyond_the_limit_is_misuse_here_and_malformed_from_there():
    sender = SendCredit(10)
    with pytest.raises(LocalMisuse):
        sender.spend(11)
    receiver = ReceiveCredit(10)
    for offset, size in ((0, 11), (1, 1)):
        with pytest.raises(MalformedMessage):
            receiver.receive(offset, size)
    receiver.receive(0, 4)
    with pytest.raises(MalformedMessage):
        receiver.receive(0, 4)
    with pytest.raises(LocalMisuse):
        receiver.consume(5)
    for window in (0, MAX_STREAM_WINDOW + 1):
        with pytest.raises(LocalMisuse):
            ReceiveCredit(window)
