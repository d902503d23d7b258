"""What a link says about itself, messages that go once, and memory while much passes."""

from __future__ import annotations

import asyncio

import pytest
from link_ends import LOOPBACK, link_up, run_clean, settle, two_ends

from meshd.core.commands import Priority, SendHeartbeat, SendMessage
from meshd.core.events import HeartbeatAnswered, HeartbeatReceived, LinkConnected, LinkPrepared, MessageReceived
from meshd.errors import LocalMisuse
from meshd.ids import LinkId
from meshd.links.outbox import MAX_OUTBOX_SIZE
from meshd.links.statistics import RATE_INTERVAL, RateMeter
from meshd.wire.frame import MAX_FRAME_SIZE


def once(data: bytes, link: int = 1) -> SendMessage:
    return SendMessage(LinkId(link), data, Priority.CONTROL, reliable=False)


def test_a_link_that_is_up_has_figures_and_others_have_none():
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            a.prepare(2, offerer=True)
            await a.wait(LinkPrepared, 2)
            for number in range(20):
                a.send(bytes(1_000))
                await b.wait(MessageReceived, count=number + 1)
            figures = a.port.statistics()
            assert set(figures) == {LinkId(1)}
            ours, theirs = figures[LinkId(1)], b.port.statistics()[LinkId(1)]
            assert (ours.kind_local, ours.kind_remote) == ("host", "host")
            assert ours.remote_address == theirs.local_address == (await a.wait(LinkConnected)).remote_address
            assert ours.bytes_sent == theirs.bytes_received == 20 * 1_002
            assert ours.packets_sent >= 20
            assert ours.packets_lost == ours.packets_retransmitted == 0
            assert ours.round_trip_time is not None
            assert 0 < ours.min_round_trip_time < 1
            assert ours.congestion_window > 0
            assert ours.packet_size > 1_000
            assert ours.age > 0
            assert ours.send_rate > theirs.send_rate
            await settle(lambda: a.port.statistics()[LinkId(1)].buffered_size == 0)

    run_clean(main)


def test_rates_are_of_the_last_seconds():
    meter = RateMeter(0.0)
    now, total = 0.0, 0
    while now < 20:
        now += 0.1
        total += 100
        meter.update(now, total)
    assert meter.rate(now, total) == pytest.approx(1_000, rel=0.1)
    assert meter.rate(now + 10 * RATE_INTERVAL, total) < 100
    late = now + 10 * RATE_INTERVAL
    meter.update(late, total + 5_000)
    assert meter.rate(late + 0.1, total + 5_000) < 1_000


def test_heartbeats_are_answered_below_the_core():
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            a.port.submit(SendHeartbeat(LinkId(1), 7))
            await b.wait(HeartbeatReceived)
            assert (await a.wait(HeartbeatAnswered)).number == 7
            assert not a.messages()
            assert not b.messages()
            b.prepare(2, offerer=True)
            b.port.submit(SendHeartbeat(LinkId(2), 1))  # it is not up yet: nobody is asked

    run_clean(main)


def test_a_message_that_goes_once_arrives_among_pieces_of_others():
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            long = bytes(60_000)
            for _ in range(5):
                a.send(long, Priority.CONTROL)
                a.port.submit(once(b"beat"))
            await b.wait(MessageReceived, count=10)
            assert sorted(map(len, b.messages())) == [4] * 5 + [60_000] * 5
            with pytest.raises(LocalMisuse):
                a.port.submit(once(bytes(MAX_FRAME_SIZE)))

    run_clean(main)


def test_what_goes_once_never_ends_a_link_that_is_full():
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            piece = bytes(90_000)
            while a.link()._traffic.outbox.size + len(piece) < MAX_OUTBOX_SIZE - 1_000:
                a.send(piece, Priority.BULK)
            left = MAX_OUTBOX_SIZE - a.link()._traffic.outbox.size
            a.send(bytes(min(left - 50, 90_000)), Priority.BULK)
            while MAX_OUTBOX_SIZE - a.link()._traffic.outbox.size >= 1_000:
                a.send(bytes(900), Priority.BULK)
            a.port.submit(once(bytes(1_000)))
            assert a.port.counters["message_unsent"] == 1
            a.send(b"end", Priority.BULK)
            await settle(lambda: b.messages()[-1:] == [b"end"])

    run_clean(main)


def test_bulk_is_handed_over_as_it_leaves_and_not_before():
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            most = 0

            def react(event) -> None:
                nonlocal most
                association = a.link()._association
                most = max(most, association._association.unsent_size())

            b.react = react
            for _ in range(40):
                a.send(bytes(90_000), Priority.BULK)
            await b.wait(MessageReceived, count=40)
            from meshd.links.association import HAND_OVER_SIZE

            assert most <= HAND_OVER_SIZE + MAX_FRAME_SIZE

    run_clean(main)


@pytest.mark.parametrize("congestion", ["bbr", "reno"])
def test_either_congestion_control_carries_a_link(congestion):
    from dataclasses import replace

    async def main() -> None:
        async with two_ends(replace(LOOPBACK, congestion=congestion)) as (a, b):
            await link_up(a, b)
            for _ in range(30):
                a.send(bytes(90_000), Priority.BULK)
            await b.wait(MessageReceived, count=30)

    run_clean(main)


def test_an_idle_link_has_no_task_but_its_own():
    async def main() -> set[str]:
        async with two_ends() as (a, b):
            await link_up(a, b)
            return {task.get_name() for task in asyncio.all_tasks()}

    names = run_clean(main)
    assert not {name for name in names if name.startswith(("ice", "link-1-"))}
