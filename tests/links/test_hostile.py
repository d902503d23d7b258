"""What a peer that passed DTLS may do wrong, and what anybody may send to a socket: one link suffers, at most."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

import pytest
import trio
from link_ends import End, link_up, run_clean, settle, two_ends

from meshd.core.commands import Priority
from meshd.core.events import LinkClosed, LinkConnected, MessageReceived
from meshd.links.guest import from_asyncio
from meshd.links.webrtc import DataChunk, ForwardTsnChunk, InitChunk, ReconfigChunk, SackChunk
from meshd.wire.frame import MAX_FRAME_SIZE, Frame, encode_frame

DCEP, TEXT, BINARY = 50, 51, 53
DCEP_OPEN = struct.pack("!BBHLHH", 3, 0, 0, 0, 1, 0) + b"x"


def chunk_of(kind, **fields):
    chunk = kind()
    for name, value in fields.items():
        setattr(chunk, name, value)
    return chunk


async def send_chunks(end: End, *chunks) -> None:
    """Send SCTP chunks as they are, through the peer's own DTLS."""
    sctp = end.link()._sctp

    async def send() -> None:
        for chunk in chunks:
            await sctp._send_chunk(chunk)
            await asyncio.sleep(0)

    await from_asyncio(send())


async def send_raw(end: End, data: bytes) -> None:
    await from_asyncio(end.link()._dtls._send_data(data))


async def send_message(end: End, data: bytes) -> None:
    end.link()._channel.send(data)


def next_data(end: End, *, after: int = 0, stream: int = 0, ppid: int = BINARY, flags: int = 3, data: bytes = b"x"):
    tsn = (end.link()._sctp._local_tsn + after) % 2**32
    sequence = end.link()._sctp._outbound_stream_seq.get(0, 0)
    return chunk_of(
        DataChunk, flags=flags, tsn=tsn, stream_id=stream, stream_seq=sequence, protocol=ppid, user_data=data
    )


async def junk_after_dtls(end: End) -> None:
    await send_chunks(end, chunk_of(InitChunk, initiate_tag=1, advertised_rwnd=1, initial_tsn=1, outbound_streams=0))
    sctp = end.link()._sctp
    header = struct.pack("!HHL", 5_000, 5_000, sctp._remote_verification_tag)
    from google_crc32c import value as crc32c

    def packet(body: bytes) -> bytes:
        return header + struct.pack("<L", crc32c(header + bytes(4) + body)) + body

    await send_raw(end, packet(struct.pack("!BBH", 0, 3, 6) + b"xx"))  # a DATA chunk without its own header


CRIMES = {
    "an open request on the channel in use": lambda end: send_chunks(end, next_data(end, ppid=DCEP, data=DCEP_OPEN)),
    "a channel more": lambda end: send_chunks(end, next_data(end, stream=2, ppid=DCEP, data=DCEP_OPEN)),
    "text": lambda end: send_chunks(end, next_data(end, ppid=TEXT, data=b"\xff")),
    "a frame with reserved bits": lambda end: send_chunks(end, next_data(end, data=b"\xff\x00")),
    "an empty frame": lambda end: send_chunks(end, next_data(end, data=b"")),
    "a chunk cut short": lambda end: junk_after_dtls(end),
    "an acknowledgement of everything": lambda end: send_chunks(
        end,
        chunk_of(
            SackChunk,
            cumulative_tsn=(end.link()._sctp._last_received_tsn or 0),
            gaps=[(0, 65_535)] * 50,
            advertised_rwnd=1,
            duplicates=[],
        ),
    ),
    "fragments without end": lambda end: send_chunks(
        end, *(next_data(end, after=n, flags=2 if n == 0 else 0, data=bytes(1_100)) for n in range(1_300))
    ),
    "a message longer than a frame": lambda end: send_message(end, bytes(MAX_FRAME_SIZE + 1)),
}


@pytest.mark.parametrize("crime", CRIMES)
def test_a_misbehaving_peer_loses_its_link_and_nothing_else_happens(crime):
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            await link_up(a, b, 2)
            # The offender's own end must not be what notices.
            await CRIMES[crime](b)
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
            kinds = [DataChunk, SackChunk, ForwardTsnChunk, ReconfigChunk, InitChunk]
            for link in range(2, 14):
                await link_up(a, b, link)
                for _ in range(40):
                    kind = random.choice(kinds).type
                    body = random.randbytes(random.choice([0, 3, 4, 12, 16, 40]))
                    sctp = b.link(link)._sctp

                    class Raw:
                        raw = struct.pack("!BBH", kind, random.randrange(8), len(body) + 4) + body

                        def __bytes__(self):
                            return self.raw + bytes(-len(self.raw) % 4)

                    await from_asyncio(sctp._send_chunk(Raw()))
                    if b.of(LinkClosed, link):
                        break
                a.close(link)
                b.close(link)
            a.send(b"unharmed")
            assert (await b.wait(MessageReceived)).data == b"unharmed"
            a.faults.clear()
            b.faults.clear()

    run_clean(main)


def test_frames_of_later_versions_are_counted_and_skipped():
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            b.link()._outbox.put([encode_frame(Frame(9, 0, False, 7, b"what is this"))], 0)
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
        from meshd.links.ice import MAX_EARLY_RECORDS

        junk = lambda: b"\x17\xfe\xfd\x00\x01" + os.urandom(60)  # noqa: E731
        async with two_ends() as (a, b):
            a.prepare(2, offerer=True)
            for _ in range(MAX_EARLY_RECORDS + 10):
                a.link(2)._connection.receive_record(junk())
            assert a.port.counters["datagram_overflow"] == 10
            assert len(a.link(2)._connection.take_early_records()) == MAX_EARLY_RECORDS
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
