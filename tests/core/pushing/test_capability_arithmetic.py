from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.joining.introductions import MAX_LIFETIME
from meshd.core.pushing.capabilities import CLOCK_SLACK, GRANT_SPAN, MAX_AHEAD, expiries, is_usable, usable_until
from meshd.wire.parts import MAX_CAPABILITIES

unix = st.floats(1_700_000_000, 4_000_000_000)
spans = st.floats(60, 15 * 86_400)


@given(unix, spans, st.floats(0, 1))
def test_at_every_moment_of_the_span_one_is_usable(now: float, span: float, share: float) -> None:
    at = now + span * share
    assert any(is_usable(exp, at) for exp in expiries(now, span))


@given(unix, spans, st.floats(0, 1), st.floats(-CLOCK_SLACK + 2, CLOCK_SLACK - 2))
def test_what_is_usable_to_us_is_taken_by_a_service_whose_clock_is_a_little_off(
    now: float, span: float, share: float, skew: float
) -> None:
    at = now + span * share
    for exp in expiries(now, span):
        if is_usable(exp, at):
            assert at + skew < exp <= at + skew + MAX_AHEAD  # RFC 8292 section 2


@given(unix, st.floats(3600, 15 * 86_400), st.floats(-CLOCK_SLACK + 2, CLOCK_SLACK - 2))
def test_a_holder_whose_clock_is_a_little_off_can_use_it_at_once(now: float, span: float, skew: float) -> None:
    assert any(is_usable(exp, now + skew) for exp in expiries(now, span))


@given(unix, spans)
def test_there_are_no_more_than_are_needed(now: float, span: float) -> None:
    made = expiries(now, span)
    assert len(made) <= span / (MAX_AHEAD - 2 * CLOCK_SLACK) + 2
    assert made == sorted(made)
    assert made[-1] <= now + span + CLOCK_SLACK


def test_what_travels_is_little() -> None:
    assert len(expiries(1_800_000_000, GRANT_SPAN)) == 3
    assert len(expiries(1_800_000_000, 12 * 3600)) == 1
    assert len(expiries(1_800_000_000, MAX_LIFETIME)) <= MAX_CAPABILITIES


@given(unix, spans)
def test_until_when_is_the_end_of_the_span(now: float, span: float) -> None:
    assert usable_until(expiries(now, span), now) == pytest.approx(now + span, abs=2)


@given(unix, st.lists(st.integers(-200_000, 400_000), max_size=8))
def test_until_when_against_trying_it_out(now: float, offsets: list[int]) -> None:
    exps = [int(now) + offset for offset in offsets]
    until = usable_until(exps, now)
    step = 300.0
    at = now
    while at < until - 2:
        assert any(is_usable(exp, at) for exp in exps)
        at += step
    assert not any(is_usable(exp, until + 3) for exp in exps) or until > now or not any(is_usable(e, now) for e in exps)


@pytest.mark.parametrize("exp", [0, 2**40 - 1])
def test_nonsense_is_never_usable(exp: int) -> None:
    assert not is_usable(exp, 1_800_000_000)
    assert usable_until([exp], 1_800_000_000) == 1_800_000_000
