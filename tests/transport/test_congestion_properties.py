"""Whatever an association says, and in whatever order: no exception, and limits that hold."""

from __future__ import annotations

import math
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.transport.congestion.controller import Packet, make_controller
from meshd.transport.congestion.pacer import Pacer

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ("send", "send", "acknowledge", "acknowledge", "lose", "spurious", "timeout", "limited", "mtu")
        ),
        st.floats(0, 3) | st.floats(0, 0.01),
        st.integers(1, 20),
        st.none() | st.floats(-1, 5) | st.floats(0, 0.1),
    ),
    max_size=120,
)


@pytest.mark.parametrize("name", ["bbr", "reno"])
@given(steps=STEPS, seed=st.integers(0, 5), is_still=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_sequence(name: Literal["bbr", "reno"], steps: list, seed: int, is_still: bool) -> None:
    now = 1000.0
    mtu = 1191
    controller = make_controller(name, now, mtu, seed=seed)
    pacer = Pacer(controller, now)
    flying: list[Packet] = []
    gone: list[Packet] = []
    in_flight = 0
    for what, pause, count, rtt in steps:
        now += 0.0 if is_still else pause
        if what == "send":
            for _ in range(count):
                flying.append(controller.on_sent(now, mtu, in_flight))
                pacer.on_sent(now, mtu)
                in_flight += mtu
        elif what in ("acknowledge", "lose"):
            taken, flying = flying[:count], flying[count:]
            in_flight -= sum(packet.size for packet in taken)
            if what == "acknowledge":
                controller.on_acknowledged(now, taken, in_flight, rtt)
            else:
                controller.on_lost(now, taken, in_flight)
                gone += taken
        elif what == "spurious":
            controller.on_spurious(now, gone[:count])
            gone = gone[count:]
        elif what == "timeout":
            flying, in_flight = [], 0
            controller.on_timeout(now)
        elif what == "limited":
            controller.on_app_limited(in_flight)
        else:
            mtu = (1191, 1400, 16384)[count % 3]
            controller.on_mtu_change(mtu)
        smallest = 4 * mtu if name == "bbr" else mtu
        assert smallest <= controller.window <= 1 << 30
        assert isinstance(controller.window, int)
        assert controller.pacing_rate > 0
        assert not math.isnan(controller.pacing_rate)
        assert name == "reno" or controller.pacing_rate < math.inf
        assert 2 * mtu <= controller.send_quantum <= max(1 << 20, 10 * mtu)
        assert pacer.budget(now) >= 0
        when = pacer.next_time()
        assert when is None or now - 1 < when < math.inf
