"""The parts of congestion control, one by one."""

from __future__ import annotations

import math
from random import Random

import pytest

from meshd.transport.config import AssociationConfig
from meshd.transport.congestion.bbr import Bbr
from meshd.transport.congestion.competition import Competition
from meshd.transport.congestion.controller import Packet, make_controller
from meshd.transport.congestion.delivery_rate import DeliveryRate
from meshd.transport.congestion.fair_window import FairWindow
from meshd.transport.congestion.filters import WindowedMax, WindowedMin
from meshd.transport.congestion.interruption import Interruption
from meshd.transport.congestion.losses import MAX_OWN_LOSS, LossJudge
from meshd.transport.congestion.pacer import UNPACED, Pacer
from meshd.transport.congestion.reno import Reno
from meshd.transport.send_queue import Outgoing, SendQueue
from meshd.transport.sender import Sender


def test_the_largest_of_the_last_slots() -> None:
    random = Random(7)
    largest = WindowedMax(4)
    slots: list[list[float]] = [[]]
    for _ in range(500):
        if random.random() < 0.3:
            largest.advance()
            if slots[-1]:
                slots.append([])
        else:
            value = random.uniform(1, 100)
            slots[-1].append(value)
            largest.update(value)
        # A slot without a value is none, so the last one that is empty stands for itself only.
        window = slots[-4:]
        assert largest.value == max((max(slot) for slot in window if slot), default=0.0)


def test_a_reset_forgets_all_but_one_value() -> None:
    largest = WindowedMax(10)
    for value in (5, 90, 7):
        largest.update(value)
        largest.advance()
    largest.reset(3)
    largest.advance()
    assert largest.value == 3


def test_the_smallest_of_the_last_seconds() -> None:
    random = Random(3)
    smallest = WindowedMin(9.0, 50.0, 0.0)
    seen = [(0.0, 50.0)]
    now = 0.0
    for _ in range(2000):
        now += random.uniform(0, 0.1)
        value = random.uniform(1, 100)
        smallest.update(now, value)
        seen.append((now, value))
        assert smallest.value <= min(value for when, value in seen if when > now - 6.0)
        assert smallest.value >= min(value for when, value in seen if when >= now - 9.2)


# -- delivery rate ------------------------------------------------------------------------------------------------


def test_the_rate_of_a_steady_flow() -> None:
    sampler = DeliveryRate(0.0)
    packets: list[Packet] = []
    for number in range(100):
        now = number * 0.01
        packets.append(sampler.on_sent(now, 1000, 5000 if number else 0))
        if number >= 5:
            sampler.on_acknowledged(now + 0.001, [packets[number - 5]])
    assert sampler.rate == pytest.approx(100_000, rel=0.02)


def test_acknowledgements_in_a_heap_do_not_raise_the_rate() -> None:
    sampler = DeliveryRate(0.0)
    packets = [sampler.on_sent(number * 0.01, 1000, number * 1000) for number in range(50)]
    rates = []
    for number in range(0, 50, 10):
        sampler.on_acknowledged(0.6 + number * 1e-4, packets[number : number + 10])
        rates.append(sampler.rate)
    assert max(rates) <= 100_000 * 1.03


def test_idle_time_does_not_lower_the_rate() -> None:
    sampler = DeliveryRate(0.0)
    sampler.on_acknowledged(0.05, [sampler.on_sent(0.0, 1000, 0)])
    later = [sampler.on_sent(100.0 + number * 0.001, 1000, number * 1000) for number in range(10)]
    sampler.on_acknowledged(100.05, later)
    assert sampler.rate == pytest.approx(10_000 / 0.05)


def test_samples_of_a_sender_with_little_to_say_are_marked_until_the_path_is_full_again() -> None:
    sampler = DeliveryRate(0.0)
    first = sampler.on_sent(0.0, 1000, 0)
    sampler.on_app_limited(1000)
    second = sampler.on_sent(0.01, 1000, 1000)
    sampler.on_acknowledged(0.05, [first])
    assert not sampler.is_app_limited
    sampler.on_acknowledged(0.06, [second])
    assert sampler.is_app_limited
    sampler.on_acknowledged(0.11, [sampler.on_sent(0.06, 1000, 0)])
    assert not sampler.is_app_limited


# -- losses -------------------------------------------------------------------------------------------------------


class Judged:
    """A judge, told of packets one by one as if they came with the given round trip."""

    def __init__(self) -> None:
        self.judge = LossJudge()
        self.judge.set_floor(0.05)
        self.now = 0.0

    def acknowledged(self, packets: int, round_trip: float) -> None:
        self.now += 0.001
        self.judge.on_round_trip(self.now, round_trip)
        self.judge.on_acknowledged(packets, round_trip, False)

    def lost(self, packets: int) -> bool:
        return self.judge.on_lost(packets, self.now + 0.0005, 100, False)


def test_losses_without_a_queue_are_the_paths_own() -> None:
    judged = Judged()
    random = Random(1)
    for _ in range(3000):
        if random.random() < 0.05:
            assert not judged.lost(1)
        else:
            judged.acknowledged(1, 0.051)
    assert judged.judge.own_loss == pytest.approx(0.05, abs=0.015)


def test_losses_at_any_round_trip_are_the_paths_own_though_that_jitters() -> None:
    judged = Judged()
    random = Random(2)
    verdicts = 0
    for number in range(20_000):
        if number % 100 == 0:
            judged.judge.on_round(random.uniform(0.06, 0.1))
        if random.random() < 0.05:
            verdicts += judged.lost(1) and number > 1000  # before, there is nothing to compare with
        else:
            judged.acknowledged(1, random.uniform(0.06, 0.1))
    assert judged.judge.own_loss == pytest.approx(0.05, abs=0.015)
    assert verdicts <= 2


def test_a_loss_in_a_queue_means_congestion_unless_the_path_loses_anyway() -> None:
    judged = Judged()
    judged.acknowledged(100, 0.05)
    judged.acknowledged(1, 0.09)
    assert judged.lost(1)
    judged = Judged()
    for _ in range(1000):
        judged.acknowledged(49, 0.05)
        judged.lost(1)
    judged.acknowledged(100, 0.09)
    assert not judged.lost(2)
    assert judged.lost(12)


def test_a_loss_is_judged_by_the_packet_that_left_before_it() -> None:
    judged = Judged()
    judged.acknowledged(100, 0.05)
    judged.acknowledged(1, 0.09)
    full = judged.now
    judged.acknowledged(1, 0.05)
    assert judged.judge.on_lost(1, full, 100, False)
    assert not judged.judge.on_lost(1, judged.now, 100, False)


def test_more_loss_than_any_path_has_of_its_own_means_congestion_without_a_queue() -> None:
    judged = Judged()
    verdicts = []
    for _ in range(200):
        judged.acknowledged(1, 0.05)
        verdicts.append(judged.lost(1))
    assert any(verdicts)
    assert judged.judge.own_loss <= MAX_OWN_LOSS


def test_what_was_learned_above_a_shortest_round_trip_that_was_none_is_forgotten() -> None:
    judged = Judged()
    for _ in range(100):
        judged.acknowledged(9, 0.05)
        judged.lost(1)
    judged.judge.set_floor(0.049)
    assert judged.judge.own_loss == pytest.approx(0.1, abs=0.01)
    judged.judge.set_floor(0.02)
    assert judged.judge.own_loss == 0


# -- interruptions ------------------------------------------------------------------------------------------------


def heard(interruption: Interruption, since: float, interval: float, rounds: int) -> tuple[float, list[bool]]:
    """Acknowledgements at such intervals, one a round; when the last came, and which rounds were disturbed."""
    disturbed = []
    for number in range(1, rounds + 1):
        now = since + number * interval
        interruption.on_acknowledged(now, 0.04, 0.0005)
        disturbed.append(interruption.has_met(now - 0.04))
        interruption.on_round(now, disturbed[-1])
    return now, disturbed


def test_what_was_under_way_while_nothing_was_heard_is_disturbed() -> None:
    interruption = Interruption(0.0)
    now, disturbed = heard(interruption, 0.0, 0.01, 100)
    assert not any(disturbed)
    now += 0.2
    interruption.on_acknowledged(now, 0.04, 0.0005)
    assert interruption.has_met(now - 0.001)
    assert not interruption.has_met(now)


def test_silence_with_nothing_in_flight_and_that_of_a_slow_path_are_no_interruptions() -> None:
    interruption = Interruption(0.0)
    heard(interruption, 0.0, 0.01, 10)
    interruption.on_idle_end(10.0)
    interruption.on_acknowledged(10.05, 0.04, 0.0005)
    assert not interruption.has_met(10.0)
    interruption.on_acknowledged(10.25, 0.04, 0.1)
    assert not interruption.has_met(10.0)


def test_a_path_that_is_silent_in_every_round_is_like_that() -> None:
    interruption = Interruption(0.0)
    now, disturbed = heard(interruption, 0.0, 0.15, 50)
    assert not any(disturbed)
    now, disturbed = heard(interruption, now, 0.01, 50)
    assert heard(interruption, now, 0.15, 8)[1] == [True] * 8
    assert not any(heard(interruption, now, 0.15, 50)[1][-10:])


def test_while_rounds_are_disturbed_little_is_forgotten() -> None:
    interruption = Interruption(0.0)
    assert interruption.on_round(0.1, False)
    assert sum(interruption.on_round(0.1 + 0.05 * number, True) for number in range(1, 81)) in (3, 4)


# -- the fair window ----------------------------------------------------------------------------------------------


def test_a_window_in_packets_of_another_size_is_scaled_once() -> None:
    competition = Competition(0.0)
    competition.on_congestion(100.0)
    competition.on_congestion(100.0)
    competition.undo()
    assert competition.fair is not None
    before = competition.fair.packets
    competition.scale(0.5)
    assert competition.fair.packets == before / 2


def test_the_fair_window_is_cubics() -> None:
    fair = FairWindow(100.0)
    fair.on_congestion(100.0)
    assert fair.packets == pytest.approx(70.0)
    now, sizes = 0.0, []
    while now < 8.0:
        fair.on_round(now, 0.2)
        sizes.append(fair.packets)
        now += 0.2
    # K = cbrt(30 / 0.4) = 4.2 s: back at the old maximum then, hesitating there, then beyond it.
    assert sizes[int(4.2 / 0.2)] == pytest.approx(100.0, rel=0.03)
    assert sizes[-1] > 110
    assert sizes == sorted(sizes)


# -- Reno ---------------------------------------------------------------------------------------------------------


def fly(controller: Reno | Bbr, now: float, count: int) -> list[Packet]:
    return [controller.on_sent(now, 1200, number * 1200) for number in range(count)]


def test_reno_doubles_then_halves_once_for_a_round() -> None:
    reno = Reno(0.0, 1200)
    before = reno.window
    packets = fly(reno, 0.0, 10)
    for at in range(0, 10, 2):
        reno.on_acknowledged(0.05, packets[at : at + 2], (8 - at) * 1200, 0.05)
    assert reno.window == 2 * before
    packets = fly(reno, 0.1, 20)
    reno.on_lost(0.15, packets[:1], 19 * 1200)
    reno.on_lost(0.151, packets[1:3], 17 * 1200)
    assert reno.window == before
    reno.on_spurious(0.2, packets[:1])
    assert reno.window == 2 * before
    reno.on_timeout(0.3)
    assert reno.window == 1200


def test_reno_does_not_grow_a_window_that_is_not_used() -> None:
    reno = Reno(0.0, 1200)
    packets = fly(reno, 0.0, 2)
    reno.on_app_limited(2400)
    before = reno.window
    reno.on_acknowledged(0.05, packets, 0, 0.05)
    assert reno.window == before


# -- pacing -------------------------------------------------------------------------------------------------------


class FixedRate(Reno):
    def __init__(self, rate: float, quantum: int) -> None:
        super().__init__(0.0, 1200)
        self.pacing_rate = rate
        self.send_quantum = quantum


@pytest.mark.parametrize(("rate", "quantum"), [(625_000, 2400), (5e6, 5000), (5e7, 50_000), (1e9, 65536)])
@pytest.mark.parametrize("lateness", [0.0, 0.001])
def test_the_pacer_keeps_the_rate_with_timers_of_a_millisecond(rate: float, quantum: int, lateness: float) -> None:
    pacer = Pacer(FixedRate(rate, quantum), 0.0)
    now, sent, wakes = 0.0, 0, 0
    while now < 1.0:
        budget = pacer.budget(now)
        while budget > 0:
            pacer.on_sent(now, 1200)
            budget -= 1200
            sent += 1200
        when = pacer.next_time()
        assert when is not None
        assert when > now
        wakes += 1
        now = when + lateness
    assert sent == pytest.approx(rate, rel=0.05, abs=2 * quantum)
    assert wakes <= 1001


def test_an_opened_burst_may_be_used_in_parts_and_a_pause_makes_no_flood() -> None:
    pacer = Pacer(FixedRate(1e6, 12_000), 0.0)
    for part in range(10):
        assert pacer.budget(part * 1e-6) > 0
        pacer.on_sent(part * 1e-6, 1200)
    assert pacer.budget(1e-5) == 0
    assert pacer.budget(100.0) <= 12_000 + 2000


def test_a_sender_that_waited_and_was_woken_late_makes_up_for_a_quarter_of_the_window() -> None:
    controller = FixedRate(1e6, 12_000)
    controller.window = 100_000
    waiting, silent = Pacer(controller, 0.0), Pacer(controller, 0.0)
    for pacer in (waiting, silent):
        pacer.on_sent(0.0, 12_000)
    due = waiting.next_time()
    assert due is not None
    assert waiting.budget(due + 0.02) == pytest.approx(32_000, abs=100)
    waiting.on_sent(due + 0.02, 32_000)
    due = waiting.next_time()
    assert due is not None
    assert waiting.budget(due + 0.5) == 12_000 + 25_000
    assert silent.budget(0.5) <= 12_000 + 2000


def test_who_waited_with_what_was_given_up_is_not_late_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = FixedRate(1e5, 2400)
    controller.window = 100_000
    monkeypatch.setattr("meshd.transport.sender.make_controller", lambda *_, **__: controller)
    queue = SendQueue()
    sender = Sender(AssociationConfig(), queue, 1, 4_000_000, 0.0)
    message = Outgoing(0, 53, bytes(16_000), 0, True, 0)
    queue.put(message)
    first = len(sender.transmit(0.0, b"", b""))
    assert sender.next_deadline() is not None
    sender.abandoning.abandon(message)
    sender.transmit(0.1, b"", b"")
    queue.put(Outgoing(0, 53, bytes(60_000), 0, True, None))
    assert len(sender.transmit(10.0, b"", b"")) <= first


def test_without_a_rate_there_is_no_waiting() -> None:
    pacer = Pacer(FixedRate(math.inf, 1200), 0.0)
    pacer.on_sent(0.0, 1 << 20)
    assert pacer.budget(0.0) == UNPACED
    assert pacer.next_time() is None


def test_the_factory_knows_two_names() -> None:
    assert isinstance(make_controller("bbr", 0.0, 1200), Bbr)
    assert isinstance(make_controller("reno", 0.0, 1200), Reno)
    with pytest.raises(ValueError, match="say bbr or reno"):
        make_controller("vegas", 0.0, 1200)  # type: ignore[arg-type]


# -- the model, by hand -------------------------------------------------------------------------------------------


def test_after_a_timeout_the_window_grows_back_by_what_arrives() -> None:
    bbr = Bbr(0.0, 1200)
    now = 0.0
    for _ in range(30):
        packets = fly(bbr, now, 40)
        now += 0.05
        bbr.on_acknowledged(now, packets, 0, 0.05)
    before = bbr.window
    bbr.on_timeout(now)
    assert bbr.window == 4 * 1200
    bbr.on_acknowledged(now + 0.05, fly(bbr, now, 4), 0, 0.05)
    assert bbr.window == 8 * 1200
    for _ in range(10):
        now += 0.05
        bbr.on_acknowledged(now + 0.05, fly(bbr, now, 40), 0, 0.05)
    assert bbr.window >= before * 0.8


def test_a_cut_for_a_loss_that_was_none_is_taken_back() -> None:
    bbr = Bbr(0.0, 1200)
    now = 0.0
    for _ in range(30):
        packets = fly(bbr, now, 40)
        now += 0.05
        bbr.on_acknowledged(now, packets, 0, 0.05)
    before = bbr.window
    packets = fly(bbr, now, 40)
    bbr.on_acknowledged(now + 0.06, packets[3:20], 23 * 1200, 0.06)
    bbr.on_acknowledged(now + 0.08, packets[20:], 3600, 0.08)
    bbr.on_lost(now + 0.08, packets[:3], 0)
    assert bbr.window < before * 0.8
    bbr.on_spurious(now + 0.09, packets[:3])
    assert bbr.window >= before


def test_larger_packets_do_not_shrink_the_windows_bytes() -> None:
    bbr = Bbr(0.0, 1191)
    now = 0.0
    for size in (1191, 1191, 1191, 16384, 1191):
        bbr.on_mtu_change(size)
        assert bbr.window >= 4 * size
        assert bbr.send_quantum >= 2 * size
        for _ in range(5):
            packets = fly(bbr, now, 20)
            now += 0.02
            bbr.on_acknowledged(now, packets, 0, 0.02)
        assert bbr.window >= 4 * size
