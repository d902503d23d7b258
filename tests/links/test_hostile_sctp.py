"""A peer that passed DTLS and says what it likes in SCTP: what it can make us hold, answer and compute is bounded."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
import tracemalloc

import pytest
import trio
from link_ends import End, link_up, run_clean, settle, two_ends
from offender import PORT, _overhear, data_chunk, of, send_packet  # noqa: F401

from meshd.core.commands import Priority
from meshd.core.events import LinkClosed, LinkConnected, LinkPrepared, MessageReceived
from meshd.links.association import MAX_UNACKNOWLEDGED_SIZE
from meshd.links.dtls import LinkDtls
from meshd.links.outbox import MAX_OUTBOX_SIZE
from meshd.transport.association import Association
from meshd.transport.chunks import (
    FIRST,
    FORWARD_TSN,
    HEARTBEAT,
    I_FORWARD_TSN,
    INIT,
    LAST,
    RE_CONFIG,
    UNORDERED,
    encode_chunk,
    encode_forward_tsn,
    encode_packet,
    encode_parameter,
    encode_sack,
)
from meshd.wire.frame import encode_credit

DCEP = 50
DCEP_OPEN = struct.pack("!BBHLHH", 3, 0, 0, 0, 1, 0) + b"x"
MIB = 1 << 20


class Offender:
    """An end whose own SCTP is silenced after the link stands: it hears all and says what the test wants."""

    def __init__(self, end: End, link: int = 1) -> None:
        self.end = end
        self.link = link
        self.heard: list[bytes] = []
        live = end.link(link)
        live._dtls.on_packet = self.heard.append
        live._connection.on_flush = lambda: None
        live._association._on_timer = lambda: None
        live._association._ended = True
        if live._association._timer is not None:
            live._association._timer.cancel()
        self.sent_size = 0

    def send(self, *chunks: bytes) -> None:
        self.sent_size += sum(map(len, chunks))
        send_packet(self.end, *chunks, link=self.link)

    def send_whole(self, packet: bytes) -> None:
        """One that is sealed as it is, whatever its tag."""
        before = vars(of(self.end, self.link)).copy()
        self.end.link(self.link)._dtls.send([packet])
        vars(of(self.end, self.link)).update(before)

    def data(self, **fields) -> bytes:
        return data_chunk(self.end, link=self.link, **fields)

    @property
    def last_tsn(self) -> int:
        """Of what the victim has sent."""
        return (of(self.end, self.link, theirs=True).tsn - 1) % 2**32

    @property
    def heard_size(self) -> int:
        return sum(map(len, self.heard))


async def turns(count: int = 20) -> None:
    """Let what is on the way arrive: a few rounds of the loop, each of which reads all there is."""
    for _ in range(count):
        await trio.sleep(0.001)


async def still_well(a: End, b: End, link: int = 2) -> None:
    """The other link of the same two ends has its round trips."""
    heard_a, heard_b = len(a.of(MessageReceived, link)), len(b.of(MessageReceived, link))
    for n in range(5):
        a.send(b"ping", link=link)
        await b.wait(MessageReceived, link, heard_b + n + 1)
        b.send(b"pong", link=link)
        await a.wait(MessageReceived, link, heard_a + n + 1)
    assert a.of(LinkClosed, link) == b.of(LinkClosed, link) == []


def against(attack, *, patience: float = 20.0):
    """Play it: ``attack(a, offender)`` on link 1, with link 2 beside it."""

    async def main() -> None:
        async with two_ends(patience=patience) as (a, b):
            await link_up(a, b)
            await link_up(a, b, 2)
            await attack(a, Offender(b))
            await still_well(a, b)
            a.faults.clear()
            b.faults.clear()

    run_clean(main)


async def misbehaved(a: End) -> None:
    assert (await a.wait(LinkClosed)).reason == "peer_misbehaved"
    assert a.port.counters["peer_misbehaved"] == 1


# -- what is held -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [FIRST, UNORDERED | FIRST, UNORDERED | FIRST | LAST, FIRST | LAST, 0],
    ids=["begun", "begun unordered", "gaps", "beyond a gap", "middles"],
)
def test_tiny_chunks_without_end_hold_a_few_megabytes(flags):
    """Each begins a message, or stands beyond a gap of its own: what they cost counts, not what they carry."""

    async def attack(a: End, offender: Offender) -> None:
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        try:
            position = 2
            for _ in range(500):
                parts = []
                for _ in range(40):
                    parts.append(offender.data(after=position, flags=flags, stream=position % 16, data=b"x"))
                    position += 2 if position < 60_000 else 0
                offender.send(*(number_of_own(part, n) for n, part in enumerate(parts, position)))
                if a.of(LinkClosed):
                    break
                await trio.lowlevel.checkpoint()
            await turns()
            held = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert held < 5 * MIB

    against(attack, patience=40.0)


def number_of_own(chunk: bytes, number: int) -> bytes:
    """The same I-DATA chunk as part of another message."""
    return chunk[:12] + struct.pack(">L", number) + chunk[16:]


def test_a_flood_beyond_the_window():
    async def attack(a: End, offender: Offender) -> None:
        for n in range(20_000):
            offender.send(number_of_own(offender.data(after=n + 1, data=bytes(1_100)), n + 100))
            if a.of(LinkClosed):
                break
            await trio.lowlevel.checkpoint()
        await misbehaved(a)
        assert n * 1_100 < 16 * MIB

    against(attack)


def test_a_channel_opened_again_and_again_is_not_acknowledged_each_time():
    """With the window shut nothing leaves, and each acknowledgement would wait."""

    async def attack(a: End, offender: Offender) -> None:
        a.send(b"x" * 10)
        await settle(lambda: bool(offender.heard))
        offender.send(encode_sack(offender.last_tsn, 0, [], []))
        for n in range(3_000):
            offender.send(offender.data(after=n, flags=UNORDERED | FIRST | LAST, ppid=DCEP, data=DCEP_OPEN))
            if a.of(LinkClosed):
                break
            await trio.lowlevel.checkpoint()
        await turns()
        if not a.of(LinkClosed):
            assert a.link()._association.buffered_size < 1_000

    against(attack)


def test_all_acknowledged_but_the_first_for_ever():
    """What is not acknowledged in order has to be kept: a stream without end waits, at a bound."""

    async def attack(a: End, offender: Offender) -> None:
        ours, theirs = socket.socketpair()
        user = trio.SocketStream(trio.socket.from_stdlib_socket(ours))

        async def write_on() -> None:
            while True:
                await user.send_all(bytes(MIB))

        a.open_stream(theirs.detach())
        offender.send(offender.data(data=encode_credit(1, 1 << 40, priority=1)))
        association = a.link()._association._association
        most = further = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_on)
            await settle(lambda: offender.heard_size > 10_000)
            sender = association._session.sender
            # What leaves is told as come at once, all but the first; so the windows grow, and everything is kept.
            for _ in range(6_000):
                outstanding = sender.outstanding
                last = min(outstanding.next_tsn - outstanding.cumulative - 1, 65_535)
                if last >= 2:
                    offender.send(encode_sack(outstanding.cumulative, 1 << 30, [(2, last)], []))
                await trio.lowlevel.checkpoint()
                most = max(most, association.unacknowledged_size)
                further += most > MAX_UNACKNOWLEDGED_SIZE
                if a.of(LinkClosed) or further > 500:
                    break
            nursery.cancel_scope.cancel()
        await user.aclose()
        assert MAX_UNACKNOWLEDGED_SIZE < most < MAX_UNACKNOWLEDGED_SIZE + MIB
        assert a.faults == []

    against(attack, patience=30.0)


def test_a_window_that_never_opens_ends_the_link_when_too_much_waits():
    async def attack(a: End, offender: Offender) -> None:
        a.send(b"x")
        await settle(lambda: bool(offender.heard))
        offender.send(encode_sack(offender.last_tsn, 0, [], []))
        await turns()
        sent = 0
        while not a.of(LinkClosed) and sent < 4 * MAX_OUTBOX_SIZE:
            a.send(bytes(60_000), Priority.BULK)
            sent += 60_000
            offender.send(encode_sack(offender.last_tsn - 1, 0, [], []))
            await trio.lowlevel.checkpoint()
        assert (await a.wait(LinkClosed)).reason == "send_overflow"
        assert sent < MAX_OUTBOX_SIZE + MIB

    against(attack)


# -- what is answered -------------------------------------------------------------------------------------------------


def floods(offender: Offender) -> dict[str, list[bytes]]:
    own = of(offender.end, theirs=True).tag
    fixed = struct.pack(">LLHHL", own, 1 << 20, 16, 16, of(offender.end).tsn)
    strange = b"".join(encode_parameter(0xC100 + n, bytes(1_900)) for n in range(8))
    reset = struct.pack(">LLL", 77, 0, 0) + b"".join(n.to_bytes(2) for n in range(500))
    return {
        "heartbeats": [encode_chunk(HEARTBEAT, encode_parameter(1, bytes(900)))] * 10,
        "long heartbeats": [encode_chunk(HEARTBEAT, encode_parameter(1, bytes(14_000)))],
        "init": [encode_chunk(INIT, fixed)],
        "init with strange parameters": [encode_chunk(INIT, fixed + strange)],
        "resets out of turn": [encode_chunk(RE_CONFIG, encode_parameter(13, reset))] * 5,
        "unknown chunks": [encode_chunk(0xC5, bytes(200))] * 20,
        "unknown chunks of no length": [encode_chunk(0xC5)] * 1_000,
        "nothing new": [offender.data(after=-1)],
    }


@pytest.mark.parametrize("flood", [
    "heartbeats", "long heartbeats", "init", "init with strange parameters", "resets out of turn", "unknown chunks",
    "unknown chunks of no length", "nothing new",
])  # fmt: skip
def test_a_flood_of_questions_is_answered_in_measure(flood):
    async def attack(a: End, offender: Offender) -> None:
        chunks = floods(offender)[flood]
        tag = 0 if flood.startswith("init") else of(offender.end).tag
        packet = encode_packet(PORT, tag, *chunks)
        sent = 0
        for _ in range(600):
            offender.send_whole(packet)
            sent += len(packet)
            await trio.lowlevel.checkpoint()
        await turns()
        assert a.of(LinkClosed) == []
        # As much as was asked at most; of small packets the header of the answer is what counts.
        assert offender.heard_size < max(1.1 * sent, 600 * 400)
        a.send(b"still here")
        before = len(offender.heard)
        await settle(lambda: any(b"still here" in packet for packet in offender.heard[before - 20 :]))

    against(attack)


def test_stream_resets_end_the_link_and_no_other():
    async def attack(a: End, offender: Offender) -> None:
        expected = a.link()._association._association._session.resets._peer_last
        for n in range(1, 300):
            body = struct.pack(">LLL", (expected + n) % 2**32, 0, (of(offender.end).tsn - 1) % 2**32)
            offender.send(encode_chunk(RE_CONFIG, encode_parameter(13, body)))
        assert (await a.wait(LinkClosed)).reason == "closed_by_peer"

    against(attack)


# -- what is computed -------------------------------------------------------------------------------------------------


def test_one_packet_that_skips_thousands_of_messages_costs_no_seconds():
    async def attack(a: End, offender: Offender) -> None:
        position = 2
        for _ in range(100):
            parts = [offender.data(after=position + n, flags=FIRST, data=b"x") for n in range(40)]
            offender.send(*(number_of_own(part, n) for n, part in enumerate(parts, 10_000 + position)))
            position += 40
            await trio.lowlevel.checkpoint()
        await turns()
        association = a.link()._association._association
        assert association.statistics().held_size > 3_000
        now = of(offender.end).tsn
        for ahead in range(5):
            skip = [(0, False, n) for n in range(1_900)]
            packet = encode_packet(PORT, of(offender.end).tag, encode_forward_tsn(now + ahead, skip, True))
            began = time.process_time()
            association.receive(packet, time.monotonic())
            assert time.process_time() - began < 0.2
        offender.send(encode_chunk(I_FORWARD_TSN, b"\0\0\0"))
        await misbehaved(a)

    against(attack)


@pytest.mark.parametrize("ahead", [1, 70_000, 2**31 - 1, 2**31, 2**32 - 1])
def test_leaps_of_forward_tsn(ahead):
    async def attack(a: End, offender: Offender) -> None:
        for n in range(50):
            tsn = (of(offender.end).tsn + ahead * n) % 2**32
            offender.send(encode_forward_tsn(tsn, [(0, False, n * ahead % 2**32)], True))
        await turns()
        for reason in [closed.reason for closed in a.of(LinkClosed)]:
            assert reason == "peer_misbehaved"

    against(attack)


def test_acknowledgements_of_a_thousand_pieces_cost_little():
    async def attack(a: End, offender: Offender) -> None:
        for _ in range(10):
            a.send(bytes(60_000), Priority.BULK)
        await settle(lambda: offender.heard_size > 5_000)
        association = a.link()._association._association
        cumulative = association._session.sender.outstanding.cumulative & 0xFFFFFFFF
        blocks = [(2, 3), *[(2, 2)] * 4_000]
        packet = encode_packet(PORT, of(offender.end).tag, encode_sack(cumulative, 1 << 20, blocks, []))
        began = time.process_time()
        for _ in range(50):
            association.receive(packet, time.monotonic())
        assert time.process_time() - began < 50 * 0.002

    against(attack)


# -- each state, and ourselves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("nth", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "garbage",
    [b"", b"x", bytes(12), os.urandom(40), encode_packet(PORT, 0, encode_chunk(INIT, bytes(16))),
     encode_packet(PORT, 0, struct.pack(">BBH", INIT, 0, 3)), encode_packet(PORT, 0, encode_chunk(FORWARD_TSN, b"x"))],
    ids=["empty", "one byte", "zeros", "noise", "an INIT of nothing", "a chunk too short", "out of turn"],
)  # fmt: skip
def test_malformed_sctp_in_the_middle_of_the_handshake(nth, garbage, monkeypatch):
    """The link comes up by repetition, or ends; the other one goes on."""
    send = LinkDtls.send
    count: dict[LinkDtls, int] = {}

    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b, 2)

            def replaced(self: LinkDtls, packets: list[bytes]) -> None:
                for packet in packets:
                    if b.port._links.get(1) is not None and self is b.link()._dtls:
                        count[self] = count.get(self, -1) + 1
                        if count[self] == nth and garbage:
                            packet = garbage[:4] + (packet[4:8] if garbage[4:8] != bytes(4) else bytes(4)) + garbage[8:]
                    send(self, [packet])

            monkeypatch.setattr(LinkDtls, "send", replaced)
            a.prepare(1, offerer=True)
            b.prepare(1, offerer=False)
            b.connect((await a.wait(LinkPrepared)).description)
            a.connect((await b.wait(LinkPrepared)).description)
            await settle(lambda: bool(a.of(LinkConnected) or a.of(LinkClosed)))
            assert [closed.reason for closed in a.of(LinkClosed)] in ([], ["peer_misbehaved"], ["closed_by_peer"])
            await still_well(a, b)
            a.faults.clear()
            b.faults.clear()

    run_clean(main)


@pytest.mark.parametrize("method", ["receive", "transmit", "handle_timer", "take_events"])
def test_a_bug_of_ours_ends_one_link(method, monkeypatch):
    """All links share one socket: what one of them throws must not stop the reading of the others."""

    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            await link_up(a, b, 2)
            victim = a.link()._association._association
            original = getattr(Association, method)

            def broken(self, *arguments, **options):
                if self is victim:
                    raise ZeroDivisionError("our own bug")
                return original(self, *arguments, **options)

            monkeypatch.setattr(Association, method, broken)
            for n in range(20):
                b.send(b"%d" % n)
                b.send(b"%d" % n, link=2)
            asyncio.get_running_loop().call_soon(a.link()._association._on_timer)
            assert (await a.wait(LinkClosed)).reason == "fault"
            await a.wait(MessageReceived, 2, 20)
            assert {repr(error) for error in a.faults} == {"ZeroDivisionError('our own bug')"}
            monkeypatch.undo()
            await still_well(a, b)
            a.faults.clear()
            b.faults.clear()

    run_clean(main)
