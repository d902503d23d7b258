"""Byte streams over a real link, from file descriptor to file descriptor."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from link_ends import PATIENCE, End, Lent, link_up, run_clean, settle, two_ends

from meshd.core.commands import CloseStream, OpenStream, Priority
from meshd.core.events import LinkClosed, StreamEnded
from meshd.errors import MalformedMessage
from meshd.ids import LinkId
from meshd.links.association import HAND_OVER_SIZE
from meshd.links.streams import LinkStreams
from meshd.wire import credit
from meshd.wire.credit import MAX_STREAM_WINDOW, STREAM_WINDOW
from meshd.wire.frame import (
    Frame,
    FrameType,
    ResetCode,
    encode_credit,
    encode_data,
    encode_reset,
    encode_varint,
)

BULK = int(Priority.BULK)


@dataclass
class User:
    """Who uses a stream: the other end of the socket that its daemon was given."""

    stream: trio.SocketStream

    async def send(self, data: bytes, *, last: bool = True) -> None:
        await self.stream.send_all(data)
        if last:
            await self.stream.send_eof()

    async def receive(self) -> bytes:
        """All up to the end."""
        return b"".join([piece async for piece in self.stream])


def user_of(end: End, stream: int = 1, link: int = 1) -> User:
    ours, theirs = socket.socketpair()
    end.open_stream(theirs.detach(), stream, link)
    user = User(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
    users.setdefault(end, []).append(user)
    return user


@asynccontextmanager
async def linked(patience: float = PATIENCE) -> AsyncIterator[tuple[End, End]]:
    """Two ends with link 1 between them; closes what ``user_of`` has made."""
    async with two_ends(patience=patience) as (a, b):
        await link_up(a, b)
        try:
            yield a, b
        finally:
            for user in users.pop(a, []) + users.pop(b, []):
                user.stream.socket.close()


users: dict[End, list[User]] = {}


def streams_of(end: End):
    return end.link()._traffic.streams


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


async def ended(end: End, stream: int = 1) -> StreamEnded:
    def found() -> list[StreamEnded]:
        return [event for event in end.of(StreamEnded) if event.stream == stream]

    await settle(lambda: bool(found()))
    return found()[0]


def test_ten_megabytes_each_way_arrive_as_they_were_sent():
    size = 10_000_000

    async def main() -> None:
        async with linked(50.0) as (a, b):
            digests = {}

            async def use(user: User, seed: int, name: str) -> None:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(user.send, noise(size, seed))
                    digest = hashlib.sha256()
                    async for piece in user.stream:
                        digest.update(piece)
                    digests[name] = digest.digest()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(use, user_of(a), 1, "at a")
                nursery.start_soon(use, user_of(b), 2, "at b")
            assert digests["at b"] == hashlib.sha256(noise(size, 1)).digest()
            assert digests["at a"] == hashlib.sha256(noise(size, 2)).digest()
            for end in (a, b):
                assert await ended(end) == StreamEnded(LinkId(1), 1, "done", size, size)
            assert len(streams_of(a)) == len(streams_of(b)) == 0

    run_clean(main)


def test_a_slow_reader_holds_its_sender_back():
    async def main() -> None:
        async with linked() as (a, b):
            sender, reader = user_of(a), user_of(b)
            data = noise(12_000_000, 3)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.send, data)
                nursery.start_soon(reader.stream.send_eof)
                nursery.start_soon(sender.receive)
                spent = lambda: streams_of(a)._streams[1].sending  # noqa: E731
                await settle(lambda: 0 < spent().offset == spent().limit)
                # What has been taken and not read sits in two sockets and in one window, and no more is taken:
                assert streams_of(b).unwritten_size <= MAX_STREAM_WINDOW
                assert a.link()._traffic.outbox.size == b.link()._traffic.outbox.size == 0
                for _ in range(100):
                    await trio.lowlevel.checkpoint()
                assert spent().offset < len(data) / 2
                assert await reader.receive() == data
            assert (await ended(b)).reason == "done"

    run_clean(main)


def test_messages_keep_flowing_while_bulk_runs():
    async def main() -> None:
        async with linked() as (a, b):
            sender, reader = user_of(a), user_of(b)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.send, noise(20_000_000, 4))
                nursery.start_soon(reader.receive)
                await settle(lambda: streams_of(b)._streams[1].receiving.received > 0)
                for number in range(20):
                    before = streams_of(a)._streams[1].sending.offset
                    a.send(b"%d" % number, Priority.MESSAGE)
                    # Nothing of the stream stands before it but what SCTP has taken already.
                    assert a.link()._traffic.outbox.size <= 10
                    await settle(lambda number=number: len(b.messages()) > number)
                    after = streams_of(a)._streams[1].sending.offset
                    assert after - before < MAX_STREAM_WINDOW + HAND_OVER_SIZE
                assert streams_of(a)._streams, "the stream was over before the messages were"
                nursery.cancel_scope.cancel()

    run_clean(main)


def test_streams_take_turns():
    async def main() -> None:
        async with linked() as (a, b):
            pairs = {number: (user_of(a, number), user_of(b, number)) for number in (1, 3, 5)}
            async with trio.open_nursery() as nursery:
                for sender, reader in pairs.values():
                    nursery.start_soon(sender.send, noise(1_500_000, 5))
                    nursery.start_soon(reader.receive)
                await settle(lambda: streams_of(a)._streams[1].sending.offset > 800_000)
                offsets = [stream.sending.offset for stream in streams_of(a)._streams.values()]
                assert min(offsets) > max(offsets) / 3
                nursery.cancel_scope.cancel()

    run_clean(main)


def test_one_way_ends_and_the_other_goes_on():
    async def main() -> None:
        async with linked() as (a, b):
            asker, answerer = user_of(a), user_of(b)
            await asker.send(b"question")
            assert await answerer.receive() == b"question"
            assert a.of(StreamEnded) == []
            await answerer.send(b"answer")
            assert await asker.receive() == b"answer"
            assert await ended(a) == StreamEnded(LinkId(1), 1, "done", 8, 6)
            assert await ended(b) == StreamEnded(LinkId(1), 1, "done", 6, 8)

    run_clean(main)


def test_done_means_that_the_reader_at_the_other_end_was_given_everything():
    async def main() -> None:
        async with linked() as (a, b):
            sender, reader = user_of(a), user_of(b)
            await reader.stream.send_eof()
            data = noise(STREAM_WINDOW * 3, 6)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.send, data)
                await settle(lambda: streams_of(b).unwritten_size > 0)
                assert a.of(StreamEnded) == []
                assert await reader.receive() == data
            assert (await ended(a)).reason == "done"

    run_clean(main)


def test_pipes_carry_one_way():
    async def main() -> None:
        async with linked() as (a, b):
            (out, source), (sink, into) = os.pipe(), os.pipe()
            a.open_stream(out)
            b.open_stream(into)
            async with trio.lowlevel.FdStream(source) as writer, trio.lowlevel.FdStream(sink) as reader:
                data = noise(400_000, 7)
                received = bytearray()
                async with trio.open_nursery() as nursery:

                    async def write() -> None:
                        await writer.send_all(data)
                        await writer.aclose()

                    nursery.start_soon(write)
                    async for piece in reader:
                        received += piece
                assert received == data
                assert await ended(a) == StreamEnded(LinkId(1), 1, "done", len(data), 0)
                assert await ended(b) == StreamEnded(LinkId(1), 1, "done", 0, len(data))

    run_clean(main)


def test_a_reader_that_goes_away_resets_the_stream():
    async def main() -> None:
        async with linked() as (a, b):
            sender, reader = user_of(a), user_of(b)
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    with pytest.raises(trio.BrokenResourceError):
                        await sender.send(bytes(4_000_000))

                nursery.start_soon(send)
                await reader.stream.receive_some(1000)
                await reader.stream.aclose()
            assert (await ended(a)).reason == "closed_by_peer"
            assert (await ended(b)).reason == "closed_here"

    run_clean(main)


def test_a_sender_that_dies_does_not_pass_for_one_that_is_done():
    async def main() -> None:
        async with linked() as (a, b):
            sender, reader = user_of(a), user_of(b)
            await sender.send(b"half of it", last=False)
            await sender.stream.aclose()
            assert await reader.receive() == b"half of it"
            assert (await ended(a)).reason == "closed_here"
            assert (await ended(b)).reason == "closed_by_peer"

    run_clean(main)


def test_a_sender_that_dies_after_the_other_way_has_ended_is_found_out_too():
    async def main() -> None:
        async with linked() as (a, b):
            sender, reader = user_of(a), user_of(b)
            await reader.stream.send_eof()
            await sender.send(b"half of it", last=False)
            assert await sender.receive() == b""
            a.users_gone = True
            await sender.stream.aclose()
            assert await reader.receive() == b"half of it"
            assert (await ended(a)).reason == "closed_here"
            assert (await ended(b)).reason == "closed_by_peer"

    run_clean(main)


def test_a_wish_that_was_withdrawn_ends_the_stream():
    async def main() -> None:
        async with linked() as (a, b):
            reader = user_of(b)
            a.port.submit(CloseStream(LinkId(1), 1, ResetCode.WITHDRAWN))
            assert (await ended(b)).reason == "withdrawn"
            assert await reader.receive() == b""
            assert a.of(StreamEnded) == []

    run_clean(main)


def test_a_lost_link_ends_its_streams_and_frees_everything():
    async def main() -> None:
        async with linked() as (a, b):
            await link_up(a, b, 2)
            settled = len(os.listdir("/proc/self/fd"))
            everybody = [user_of(end, number) for number in (1, 3) for end in (a, b)]
            await everybody[0].send(b"x", last=False)
            assert await everybody[1].stream.receive_some(1) == b"x"
            a.close()
            assert (await b.wait(LinkClosed)).reason == "closed_by_peer"
            assert [event.reason for event in b.of(StreamEnded)] == ["link_lost"] * 2
            assert b.of(StreamEnded)[0].received_size == 1
            assert b.events.index(b.of(StreamEnded)[1]) < b.events.index(b.of(LinkClosed)[0])
            for user in everybody:
                assert await user.receive() == b""
                await user.stream.aclose()
            assert a.of(StreamEnded) == []  # whoever closes a link hears no more of it
            await settle(lambda: len(os.listdir("/proc/self/fd")) <= settled)

    run_clean(main)


def test_a_regular_file_is_refused(tmp_path):
    async def main() -> None:
        async with linked() as (a, b):
            reader = user_of(b)
            a.open_stream(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT))
            assert (await ended(a)).reason == "failed_here"
            assert (await ended(b)).reason == "failed_there"
            assert await reader.receive() == b""

    run_clean(main)


@pytest.mark.parametrize(
    "frames",
    [
        [encode_data(1, 1, b"a gap", priority=BULK)],
        [encode_data(1, 0, b"ab", priority=BULK), encode_data(1, 0, b"ab", priority=BULK)],
        [encode_data(1, 0, b"end", priority=BULK, last=True), encode_data(1, 3, b"more", priority=BULK)],
        [encode_data(1, n * 16_000, bytes(16_000), priority=BULK) for n in range(40)],
        [encode_reset(1, ResetCode.DONE, priority=BULK)],
        [encode_data(7, 0, b"", priority=BULK)[:-1]],
    ],
    ids=["gap", "repetition", "after the end", "beyond its credit", "done before its end", "cut off"],
)
def test_what_no_honest_peer_sends_ends_the_link(frames, monkeypatch):
    monkeypatch.setattr(credit, "MAX_STREAM_WINDOW", STREAM_WINDOW)  # so that it does not grow meanwhile

    async def main() -> None:
        async with linked() as (a, b):
            user_of(b)
            for frame in frames:
                a.link()._traffic._queue(frame, BULK)
            assert (await b.wait(LinkClosed)).reason == "peer_misbehaved"
            assert b.port.counters["peer_misbehaved"] == 1
            assert len(b.faults) == 1
            b.faults.clear()

    run_clean(main)


def test_a_descriptor_that_has_gone_meanwhile_fails_the_stream():
    async def main() -> None:
        async with linked() as (a, b):
            user_of(b)
            a.port.submit(OpenStream(LinkId(1), 1, 99))
            assert (await ended(a)).reason == "failed_here"
            assert (await ended(b)).reason == "failed_there"

    run_clean(main)


FRAMES = st.builds(
    Frame,
    st.sampled_from([FrameType.DATA, FrameType.CREDIT, FrameType.RESET]),
    st.just(BULK),
    st.booleans(),
    st.integers(1, 3),
    st.one_of(
        st.binary(max_size=12),
        st.builds(lambda number, data: encode_varint(number) + data, st.integers(0, 40), st.binary(max_size=20)),
    ),
)


@given(st.lists(FRAMES, max_size=20))
def test_any_frames_are_taken_or_malformed(frames):
    async def main() -> None:
        events: list[StreamEnded] = []
        sent: list[bytes] = []
        streams = LinkStreams(
            LinkId(1),
            queue=lambda frame, priority: sent.append(frame),
            wake=lambda: None,
            tell=events.append,
            counters=Counter(),
        )
        pairs = [socket.socketpair() for _ in range(2)]
        for number, (_, theirs) in enumerate(pairs, start=1):
            streams.open(number, Lent(theirs.detach(), End()))
        try:
            for frame in frames:
                streams.on_frame(frame)
                while streams.take() is not None:
                    pass
        except MalformedMessage:
            pass
        assert streams.unwritten_size <= 2 * MAX_STREAM_WINDOW
        streams.end_all()
        await asyncio.sleep(0)
        assert len(streams) == 0
        assert sorted(event.stream for event in events) == [1, 2]
        for ours, _ in pairs:
            ours.close()

    asyncio.run(main())


def test_frames_of_streams_that_are_over_are_counted_and_no_more():
    async def main() -> None:
        async with linked() as (a, b):
            for frame in (
                encode_data(1, 0, b"x", priority=BULK),
                encode_credit(1, 9, priority=BULK),
                encode_reset(1, 0, priority=BULK),
                encode_reset(1, 77, priority=BULK),
            ):
                a.link()._traffic._queue(frame, BULK)
            a.send(b"still here", Priority.BULK)
            await settle(lambda: b.messages() == [b"still here"])
            assert b.port.counters["stream_frame_late"] == 4

    run_clean(main)
