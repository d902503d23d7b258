"""The STUN responder: right answers, no amplification, few for one household, bounded memory."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from meshd.wire import stun
from meshd.wire.stun import BindingError, BindingRequest, BindingSuccess
from meshd.wire.stun_responder import MAX_SOURCES, SOURCE_BURST, SOURCE_RATE, TOTAL_BURST, StunResponder

TRANSACTION = bytes(range(12))
PLAIN = stun.encode(BindingRequest(TRANSACTION))
ASKER = ("203.0.113.7", 40_000)


def test_whoever_asks_learns_the_address_it_came_from() -> None:
    responder = StunResponder(Counter())
    for source in (ASKER, ("2001:db8::7", 1)):
        answer = responder.answer(PLAIN, source, 0.0)
        assert answer is not None
        assert stun.decode(answer) == BindingSuccess(TRANSACTION, source)
    mapped = responder.answer(PLAIN, ("::ffff:203.0.113.9", 9), 0.0)
    assert mapped is not None
    assert stun.decode(mapped) == BindingSuccess(TRANSACTION, ("203.0.113.9", 9)), "seen by a socket of both families"
    assert responder.counters == {"stun_answered": 3}


def test_what_it_cannot_do_it_refuses() -> None:
    answer = StunResponder(Counter()).answer(stun.encode(BindingRequest(TRANSACTION, change_port=True)), ASKER, 0.0)
    assert answer is not None
    assert stun.decode(answer) == BindingError(TRANSACTION, 420, unknown=(stun.CHANGE_REQUEST,))


def test_checks_and_answers_are_not_answered() -> None:
    responder = StunResponder(Counter())
    check = PLAIN[:2] + b"\0\x08" + PLAIN[4:] + b"\x00\x06\x00\x04ab:c"
    for data in (check, stun.encode(BindingSuccess(TRANSACTION, ASKER)), b"", b"\x16\xfe\xfd" + bytes(40)):
        assert responder.answer(data, ASKER, 0.0) is None
    assert responder.counters == {"stun_ignored": 4}


def test_a_household_gets_a_burst_and_then_a_trickle() -> None:
    responder = StunResponder(Counter())

    def answers(host: str, now: float, asked: int = 200) -> int:
        return sum(responder.answer(PLAIN, (host, 1_024 + i), now) is not None for i in range(asked))

    assert answers("203.0.113.7", 0.0) == SOURCE_BURST
    assert answers("203.0.113.8", 0.0, 10) == 10, "the next household is not concerned"
    assert answers("203.0.113.7", 2.0) == 2 * SOURCE_RATE
    assert answers("2001:db8::1", 0.0) == SOURCE_BURST
    assert answers("2001:db8::2", 0.0) == 0, "the same 64 bits"


def test_a_flood_from_everywhere_is_bounded_in_answers_and_memory() -> None:
    responder = StunResponder(Counter())
    sources = ((f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", 5_000) for i in range(3 * MAX_SOURCES))
    assert sum(responder.answer(PLAIN, source, 0.0) is not None for source in sources) == TOTAL_BURST
    assert responder.remembered <= MAX_SOURCES


@given(
    st.binary(max_size=100)
    | st.lists(st.integers(0, 0x7FFF), max_size=20).map(
        lambda numbers: (
            b"\0\1"
            + (4 * len(numbers)).to_bytes(2, "big")
            + stun.COOKIE
            + TRANSACTION
            + b"".join(number.to_bytes(2, "big") + b"\0\0" for number in numbers)
        )
    ),
    st.ip_addresses().map(str),
    st.integers(0, 65_535),
)
def test_no_answer_is_much_longer_than_its_request(data: bytes, host: str, port: int) -> None:
    answer = StunResponder(Counter()).answer(data, (host, port), 0.0)
    assert answer is None or len(answer) <= len(data) + 24
