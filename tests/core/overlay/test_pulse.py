"""The arithmetic of heartbeats on one link."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.overlay.pulse import (
    FIRST_RTO,
    MAX_OUTSTANDING,
    MAX_RTO,
    MIN_PROBES,
    RTT_INTERVAL,
    Pace,
    Pulse,
    PulseState,
    Step,
)

PACE = Pace(2.0, 4.5)


def measured(rtt: float, jitter: float = 0.0, samples: int = 100) -> Pulse:
    """A pulse that knows its path, and has just heard something at 0."""
    pulse, dice, now = Pulse(), Random(1), -2.0 * samples
    for _ in range(samples):
        number = pulse.ask(now)
        pulse.answer(number, now + rtt + dice.uniform(-jitter, jitter))
        now += 2.0
    pulse.hear(0.0)
    return pulse


def asked_until_given_up(pulse: Pulse) -> list[float]:
    """When heartbeats go to a peer that is dead, and at last when it is given up."""
    times = []
    for _ in range(1000):
        now = pulse.next_look(PACE)
        step = pulse.look(now, PACE)
        if step is not Step.REST:
            times.append(now)
        if step is Step.GIVE_UP:
            return times
    raise AssertionError("it is never given up")


@pytest.mark.parametrize("rtt", [0.0, 0.02, 0.1, 0.25, 0.5])
def test_the_dead_are_given_up_in_time_and_not_without_having_been_asked(rtt: float) -> None:
    times = asked_until_given_up(measured(rtt, rtt / 20))
    assert times[0] == pytest.approx(2.0)
    assert times[-1] == pytest.approx(4.5)
    in_time = [asked for asked in times[:-1] if asked + rtt <= times[-1]]
    assert len(in_time) >= MIN_PROBES


def test_who_wants_to_be_asked_rarely_is_asked_rarely() -> None:
    rare, pulse = Pace(60.0, 150.0), measured(0.05)
    times = []
    while not times or times[-1] < 3600.0:
        now = pulse.next_look(rare)
        if pulse.look(now, rare) is Step.ASK:
            times.append(now)
            pulse.hear(now + 0.05)
            pulse.answer(pulse.number, now + 0.05)
    assert len(times) <= 61


@pytest.mark.parametrize("rtt", [1.0, 2.0, 4.0])
def test_slow_paths_get_longer(rtt: float) -> None:
    times = asked_until_given_up(measured(rtt, rtt / 20))
    in_time = [asked for asked in times[:-1] if asked + rtt <= times[-1]]
    assert len(in_time) >= MIN_PROBES
    assert times[-1] < 2.0 + 4 * rtt + 1.0


def test_the_first_answer_may_take_long() -> None:
    """Nothing is known about the path yet: five seconds there and back are no reason to give up."""
    pulse = Pulse()
    pulse.hear(0.0)
    number = pulse.ask(0.0)
    now = 0.0
    while (now := pulse.next_look(PACE)) < 5.0:
        assert pulse.look(now, PACE) is not Step.GIVE_UP
    pulse.hear(5.0)
    pulse.answer(number, 5.0)
    assert pulse.srtt == 5.0


def test_rto_is_that_of_the_rfc() -> None:
    pulse = Pulse()
    assert pulse.rto() == FIRST_RTO
    pulse.answer(pulse.ask(0.0), 0.4)
    assert (pulse.srtt, pulse.rttvar) == (0.4, 0.2)
    assert pulse.rto() == pytest.approx(1.2)
    pulse.answer(pulse.ask(1.0), 1.8)
    assert pulse.rttvar == pytest.approx(0.75 * 0.2 + 0.25 * 0.4)
    assert pulse.srtt == pytest.approx(0.875 * 0.4 + 0.125 * 0.8)


def test_late_answers_measure_their_own_heartbeat() -> None:
    """A path that has become slow is known as such, though quick heartbeats have overtaken the first one's answer."""
    pulse = measured(0.05)
    first = pulse.ask(2.0)
    for tenths in range(1, 5):
        pulse.ask(2.0 + tenths / 10)
    pulse.answer(first, 3.05)
    assert pulse.srtt == pytest.approx(0.875 * 0.05 + 0.125 * 1.05)


def test_busy_links_are_measured_now_and_then_and_never_doubted() -> None:
    pulse = measured(0.02)
    asked, now = [], 0.0
    while now < 100.0:
        now += 0.1
        pulse.hear(now)  # but never an answer
        if pulse.look(now, PACE) is Step.ASK:
            asked.append(now)
        assert pulse.state is PulseState.QUIET
    assert 100 / RTT_INTERVAL - 1 <= len(asked) <= 100 / (RTT_INTERVAL - 0.5) + 1


def test_the_polite_side_waits_for_the_other() -> None:
    pulse = measured(0.02)
    pulse.polite = True
    assert pulse.look(2.0, PACE) is Step.ASK or pulse.next_look(PACE) > 2.2


def test_loss_is_of_what_could_have_been_answered() -> None:
    pulse, now = measured(0.1, samples=1), 0.0
    for turn in range(1000):
        now += 1.0
        number = pulse.ask(now)
        if turn % 4:
            pulse.answer(number, now + 0.1)
    share = pulse.loss(now + 0.5)
    assert share is not None
    assert share == pytest.approx(0.25, abs=0.03)
    pulse.ask(now + 0.6)
    assert pulse.loss(now + 0.6) == pytest.approx(share)  # the last one may still be answered
    assert Pulse().loss(0.0) is None


def test_time_that_we_missed_is_given_back() -> None:
    pulse = measured(0.1)
    pulse.look(2.0, PACE)
    pulse.look(2.3, PACE)
    assert pulse.state is PulseState.PROBING
    pulse.give_back(60.0, 62.3, PACE)
    assert pulse.state is PulseState.QUIET
    assert 62.3 - 2.0 <= pulse.heard <= 62.3
    times = asked_until_given_up(pulse)
    assert times[-1] - times[0] >= 2.0


@given(st.lists(st.tuples(st.sampled_from(["hear", "answer", "stray", "look", "late", "wake"]), st.floats(0.0, 30.0))))
def test_whatever_happens_it_stays_sane(moves: list[tuple[str, float]]) -> None:
    pulse, now = Pulse(), 100.0
    pulse.hear(now)
    for move, delay in moves:
        now += delay
        match move:
            case "hear":
                pulse.hear(now)
            case "answer":
                pulse.hear(now)
                pulse.answer(pulse.number, now)
            case "stray":
                pulse.answer(2**32 - 1, now)
            case "look":
                if pulse.look(now, PACE) is Step.GIVE_UP:
                    assert now - pulse.heard >= PACE.timeout
            case "late":
                pulse.give_back(delay, now, PACE)
            case "wake":
                pulse.wake(now, PACE)
        assert pulse.heard <= now
        assert 0.0 < pulse.rto() <= MAX_RTO
        assert pulse.srtt is None or pulse.srtt >= 0.0
        loss = pulse.loss(now)
        assert loss is None or 0.0 <= loss <= 1.0
        assert len(pulse._sent) <= MAX_OUTSTANDING
