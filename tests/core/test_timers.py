from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshd.core.timers import Key, Timers

KEYS: list[Key] = [(name, about) for name in ("a", "b") for about in (b"", b"x", b"y")]
keys = st.sampled_from(KEYS)
times = st.integers(0, 50).map(float)


class TimersAgainstADictionary(RuleBasedStateMachine):
    """The heap must do what a dictionary does, and equal deadlines must come up in the order they were set."""

    def __init__(self) -> None:
        super().__init__()
        self.tested = Timers()
        self.model: dict[Key, tuple[float, int]] = {}
        self.sets = 0

    def note(self, key: Key, deadline: float) -> None:
        self.sets += 1
        self.model[key] = (deadline, self.sets)

    @rule(key=keys, deadline=times)
    def set(self, key: Key, deadline: float) -> None:
        self.tested.set(key, deadline)
        self.note(key, deadline)

    @rule(key=keys, deadline=times)
    def set_at_latest(self, key: Key, deadline: float) -> None:
        self.tested.set_at_latest(key, deadline)
        if key not in self.model or deadline < self.model[key][0]:
            self.note(key, deadline)

    @rule(key=keys)
    def cancel(self, key: Key) -> None:
        self.tested.cancel(key)
        self.model.pop(key, None)

    @rule(now=times)
    def pop_due(self, now: float) -> None:
        due = sorted((when, order, key) for key, (when, order) in self.model.items() if when <= now)
        taken = self.tested.pop_due(now)
        if not due:
            assert taken is None
        else:
            when, _, key = due[0]
            assert taken == (key, when)
            del self.model[key]

    @rule(now=times)
    def pop_all_due(self, now: float) -> None:
        due = sorted((when, order, key) for key, (when, order) in self.model.items() if when <= now)
        for when, _, key in due:
            assert self.tested.pop_due(now) == (key, when)
            del self.model[key]
        assert self.tested.pop_due(now) is None

    @invariant()
    def agrees(self) -> None:
        assert len(self.tested) == len(self.model)
        assert self.tested.next_deadline() == min((when for when, _ in self.model.values()), default=None)


TestTimers = TimersAgainstADictionary.TestCase
TestTimers.settings = settings(max_examples=40, stateful_step_count=40)


@given(st.lists(st.tuples(keys, times), max_size=300))
def test_moving_timers_about_does_not_fill_memory(moves: list[tuple[Key, float]]) -> None:
    timers = Timers()
    for key, deadline in moves * 3:
        timers.set(key, deadline)
    assert len(timers._heap) <= 2 * len(KEYS) + 65


def test_timers_that_are_cancelled_do_not_fill_memory() -> None:
    """A timer a message, each cancelled by its answer: the heap must not keep what nobody waits for."""
    timers = Timers()
    for number in range(10_000):
        key = ("send", number.to_bytes(4, "big"))
        timers.set(key, 1e9 + number)
        timers.cancel(key)
    assert len(timers._heap) <= 65
    assert timers.next_deadline() is None
