"""What a peer that passed DTLS may do wrong, and what anybody may send to a socket: one link suffers, at most."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

import pytest
import trio
from link_ends import End, link_up, run_clean, settle, two_ends
from offender import _overhear, data_chunk, of, send_packet  # noqa: F401

from meshd.core.commands import Priority
from meshd.core.events import LinkClosed, LinkConnected, MessageReceived
from meshd.transport.chunks import (
    FIRST,
    FORWARD_TSN,
    I_DATA,
    I_FORWARD_TSN,
    LAST,
    RE_CONFIG,
    encode_chunk,
    encode_sack,
)
from meshd.wire.frame import MAX_FRAME_SIZE, Frame, encode_frame

DCEP, TEXT, BINARY = 50, 51, 53
DCEP_OPEN = struct.pack("!BBHLHH", 3, 0, 0, 0, 1, 0) + b"x"


def send_data(end: End, **fields) -> None:
    send_packet(end, data_chunk(end, **fields))


def never_ending(end: End, count: int = 1_300) -> None:
    for n in range(count):
        send_data(end, after=n, flags=FIRST if n == 0 else 0, data=bytes(1_100))


def long_message(end: End) -> None:
    size = MAX_FRAME_SIZE // 15
    for n in range(16):
        send_data(end, after=n, flags=FIRST if n == 0 else LAST if n == 15 else 0, data=bytes(size))


CRIMES = {
    "a channel more": lambda end: send_data(end, stream=2, ppid=DCEP, data=DCEP_OPEN),
    "a channel beyond all": lambda end: send_data(end, stream=60_000, ppid=DCEP, data=DCEP_OPEN),
    "data on another stream": lambda end: send_data(end, stream=3),
    "text": lambda end: send_data(end, ppid=TEXT, data=b"\xff"),
    "a frame with reserved bits": lambda end: send_data(end, data=b"\xff\x00"),
    "an empty frame": lambda end: send_data(end, ppid=57, data=b"\x00"),
    "a chunk without data": lambda end: send_data(end, data=b""),
    "a chunk cut short": lambda end: send_packet(end, struct.pack("!BBH", I_DATA, 3, 6) + b"xxxx"),
    "a chunk longer than its packet": lambda end: send_packet(end, struct.pack("!BBH", I_DATA, 3, 600) + bytes(20)),
    "an acknowledgement of what was never sent": lambda end: send_packet(
        end, encode_sack(of(end, theirs=True).tsn + 1_000, 1_000_000, [(1, 65_535)] * 50, [])
    ),
    "fragments without end": never_ending,
    "a message longer than a frame": long_message,
}


@pytest.mark.parametrize("crime", CRIMES)
def test_a_misbehaving_peer_loses_its_link_and_nothing_else_happens(crime):
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            await link_up(a, b, 2)
            # The offender's own end must not be what notices.
            CRIMES[crime](b)
            assert (await a.wait(LinkClosed)).reason == "peer_misbehaved"
            assert a.port.counters["peer_misbehaved"] == 1
            assert a.messages() == []
            a.send(b"still here", link=2)
            assert (await b.wait(MessageReceived, 2)).data == b"still here"
            assert len(a.faults) == 1
            a.faults.clear()
            b.faults.clear()

    run_clean(main)


def test_random_sctp_never_does_more_than_close_the_link():
    async def main() -> None:
        import random

        random = random.Random(7)
        async with two_ends() as (a, b):
            await link_up(a, b)
            kinds = [*range(16), I_DATA, RE_CONFIG, FORWARD_TSN, I_FORWARD_TSN, 255]
            for link in range(2, 14):
                await link_up(a, b, link)
                for _ in range(40):
                    body = random.randbytes(random.choice([0, 3, 4, 12, 16, 40]))
                    send_packet(b, encode_chunk(random.choice(kinds), body, random.randrange(8)), link=link)
                    await trio.lowlevel.checkpoint()
                    if b.of(LinkClosed, link):
                        break
                a.close(link)
                b.close(link)
            a.send(b"unharmed")
            assert (await b.wait(MessageReceived)).data == b"unharmed"
            a.faults.clear()
            b.faults.clear()

    run_clean(main)


def test_an_open_request_for_a_channel_that_is_there_changes_nothing():
    """Peers whose library cannot agree on channels beforehand say it in band (RFC 8832)."""

    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            b.link()._association._association.send(0, DCEP, DCEP_OPEN)
            b.send(b"after it")
            assert (await a.wait(MessageReceived)).data == b"after it"
            a.send(b"still here")
            assert (await b.wait(MessageReceived)).data == b"still here"
            assert a.of(LinkClosed) == []

    run_clean(main)


def test_frames_of_later_versions_are_counted_and_skipped():
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            b.link()._traffic.outbox.put([encode_frame(Frame(9, 0, False, 7, b"what is this"))], 0)
            b.send(b"known", Priority.BULK)
            assert (await a.wait(MessageReceived)).data == b"known"
            assert a.port.counters["frame_unknown"] == 1

    run_clean(main)


def test_strangers_reach_neither_dtls_nor_the_log():
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            host, _, port = (await a.wait(LinkConnected)).local_address.rpartition(":")
            with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                hello = b"\x16\xfe\xff" + bytes(40)
                stun = struct.pack("!HHI12s", 1, 8, 0x2112A442, bytes(12))
                datagrams = [
                    (b"", "datagram_empty"),
                    (hello, "datagram_foreign"),
                    (b"\x80" + bytes(20), "datagram_unknown"),
                    (b"\x01\x02", "stun_malformed"),
                    (stun + struct.pack("!HHI", 0x0024, 2, 0), "stun_malformed"),  # PRIORITY of two bytes
                    (stun + struct.pack("!HHI", 0x0006, 4, 0xFFFFFFFF), "stun_malformed"),  # USERNAME not UTF-8
                ]
                for data, _ in datagrams:
                    await stranger.sendto(data, (host, int(port)))
            counters = a.port.counters
            await settle(lambda: sum(counters.values()) == len(datagrams))
            assert all(counters[name] for _, name in datagrams)
            a.send(b"ping")
            assert (await b.wait(MessageReceived)).data == b"ping"

    run_clean(main)


def test_a_flood_of_datagrams_is_dropped_not_stored():
    """Before the keys are there only so much is kept; afterwards what is no record of the link's is gone at once."""

    async def main() -> None:
        from meshd.links.early import MAX_EARLY_RECORDS

        junk = lambda: b"\x17\xfe\xfd\x00\x01" + os.urandom(60)  # noqa: E731
        async with two_ends() as (a, b):
            a.prepare(2, offerer=True)
            for _ in range(MAX_EARLY_RECORDS + 10):
                assert not a.link(2)._connection.receive_record(junk()), "nobody has keys yet"
                a.link(2)._connection.receive_record(b"\x16\xfe\xfd\x00\x00" + os.urandom(60))
            assert a.port.counters["datagram_overflow"] == 10
            assert len(a.link(2)._connection.early_records.take()) == MAX_EARLY_RECORDS
            await link_up(a, b)
            connection = a.link()._connection
            assert not any(connection.receive_record(junk()) for _ in range(5_000))
            a.send(b"ping")
            assert (await b.wait(MessageReceived)).data == b"ping"
            b.send(b"pong")
            assert (await a.wait(MessageReceived)).data == b"pong"

    run_clean(main)


def test_an_exception_of_ours_in_deliver_does_not_end_the_link():
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)

            def react(event) -> None:
                if isinstance(event, MessageReceived) and event.data == b"bad":
                    raise LookupError("our own bug")

            a.react = react
            b.send(b"bad")
            b.send(b"good")
            await a.wait(MessageReceived, count=2)
            assert [repr(error) for error in a.faults] == ["LookupError('our own bug')"]
            a.faults.clear()

    run_clean(main)


def test_no_task_outlives_its_links():
    async def main() -> set[str]:
        async with two_ends() as (a, b):
            await link_up(a, b)
            return {task.get_name() for task in asyncio.all_tasks()}

    names = run_clean(main)
    assert {name for name in names if name.startswith("link-")} == {"link-1"}
