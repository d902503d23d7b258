from __future__ import annotations

import gc
import os
from dataclasses import replace

import pytest
import trio
from link_ends import LOOPBACK, End, link_up, run_clean, settle, spoil, two_ends

from meshd.core.commands import CloseLink, PrepareLink, Priority, SendMessage
from meshd.core.events import LinkClosed, LinkConnected, LinkPrepared, MessageReceived, SendBufferHigh, SendBufferLow
from meshd.errors import LocalMisuse
from meshd.ids import LinkId
from meshd.links.outbox import MAX_OUTBOX_SIZE
from meshd.links.port import open_links
from meshd.wire.frame import MAX_MESSAGE_SIZE
from meshd.wire.session_description import Candidate


def test_a_link_opens_and_carries_messages_both_ways():
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            up_a, up_b = await a.wait(LinkConnected), await b.wait(LinkConnected)
            assert up_a.local_fingerprint == up_b.remote_fingerprint != up_a.remote_fingerprint
            assert up_b.local_fingerprint == up_a.remote_fingerprint
            assert up_a.local_fingerprint == a.of(LinkPrepared)[0].description.fingerprint
            assert (up_a.local_kind, up_a.remote_kind) == ("host", "host")
            assert up_a.local_address == up_b.remote_address
            assert up_a.local_address.startswith("127.0.0.1:")
            a.send(b"ping")
            assert (await b.wait(MessageReceived)).data == b"ping"
            b.send(b"")
            assert (await a.wait(MessageReceived)).data == b""

    run_clean(main)


def test_messages_of_every_size_arrive_whole_and_in_order():
    sizes = [0, 1, 16_381, 16_382, 16_383, 65_536, MAX_MESSAGE_SIZE]

    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            sent = [bytes([n]) * size for n, size in enumerate(sizes)]
            for data in sent:
                a.send(data, Priority.BULK)
            await b.wait(MessageReceived, count=len(sizes))
            assert b.messages() == sent
            with pytest.raises(LocalMisuse):
                a.send(bytes(MAX_MESSAGE_SIZE + 1))

    run_clean(main)


def test_control_overtakes_bulk():
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            for _ in range(20):
                a.send(b"b" * 60_000, Priority.BULK)
            a.send(b"m", Priority.MESSAGE)
            a.send(b"c", Priority.CONTROL)
            await b.wait(MessageReceived, count=22)
            order = [data[:1] for data in b.messages()]
            assert order.index(b"c") < order.index(b"m") <= 2

    run_clean(main)


def test_the_outbox_tells_high_and_low_and_overflow_ends_the_link():
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            piece = bytes(MAX_MESSAGE_SIZE)
            for _ in range(MAX_OUTBOX_SIZE // 2 // MAX_MESSAGE_SIZE + 2):
                a.send(piece, Priority.BULK)
            assert a.of(SendBufferHigh) == []  # never from inside a command
            await a.wait(SendBufferHigh)
            await a.wait(SendBufferLow)
            assert len(a.of(SendBufferHigh)) == len(a.of(SendBufferLow)) == 1
            for _ in range(MAX_OUTBOX_SIZE // MAX_MESSAGE_SIZE + 2):
                a.send(piece, Priority.BULK)
            assert (await a.wait(LinkClosed)).reason == "send_overflow"
            assert (await b.wait(LinkClosed)).reason == "closed_by_peer"

    run_clean(main)


def test_closing_sends_what_is_queued_and_only_the_peer_hears_of_it():
    async def main() -> None:
        async with two_ends() as (a, b):
            await link_up(a, b)
            for _ in range(10):
                a.send(b"x" * 50_000, Priority.BULK)
            a.close()
            await b.wait(MessageReceived, count=10)
            assert (await b.wait(LinkClosed)).reason == "closed_by_peer"
            await settle(lambda: len(a.port) == 0)
            assert a.of(LinkClosed) == []

    run_clean(main)


def test_leaving_the_port_says_goodbye():
    async def main() -> None:
        b = End()
        async with open_links(LOOPBACK, b.deliver) as b.port:
            a = End()
            async with open_links(LOOPBACK, a.deliver) as a.port:
                await link_up(a, b)
            assert (await b.wait(LinkClosed)).reason == "closed_by_peer"
            assert len(a.port) == 0

    run_clean(main)


@pytest.mark.parametrize("side", ["offerer", "answerer"])
def test_another_certificate_than_described_is_refused(side):
    async def main() -> None:
        async with two_ends() as (a, b):
            a.prepare(offerer=True)
            b.prepare(offerer=False)
            of_a, of_b = (await a.wait(LinkPrepared)).description, (await b.wait(LinkPrepared)).description
            deceived, other = (a, b) if side == "offerer" else (b, a)
            wrong = {"fingerprint": bytes(32)}
            a.connect(spoil(of_b, **wrong) if side == "offerer" else of_b)
            b.connect(of_a if side == "offerer" else spoil(of_a, **wrong))
            assert (await deceived.wait(LinkClosed)).reason == "dtls_failed"
            assert deceived.of(LinkConnected) == []
            await other.wait(LinkClosed)
            assert other.of(LinkConnected) == []

    run_clean(main)


def test_without_an_answer_the_deadline_ends_the_attempt():
    async def main() -> None:
        async with two_ends(replace(LOOPBACK, connect_timeout=0.05)) as (a, b):
            a.prepare(offerer=True)
            b.prepare(offerer=False)
            a.connect((await b.wait(LinkPrepared)).description)
            # A peer without our description answers no check, and so looks like one to whom there is no path.
            assert (await a.wait(LinkClosed)).reason == "ice_failed"
            # Nobody listens where this says, and nothing is there to try at all:
            for link, candidates in ((2, (Candidate("host", "127.0.0.1", 9),)), (3, ())):
                a.prepare(link, offerer=True)
                await a.wait(LinkPrepared, link)
                a.connect(spoil(b.of(LinkPrepared)[0].description, candidates=candidates), link)
                assert (await a.wait(LinkClosed, link)).reason == "ice_failed"

    run_clean(main)


def test_links_go_on_with_the_certificate_that_they_began_with():
    async def main() -> None:
        async with two_ends() as (a, b):
            fingerprints = []
            for link in (1, 2):
                a.prepare(link, offerer=True)
                b.prepare(link, offerer=False)
                a.connect((await b.wait(LinkPrepared, link)).description, link)
                b.connect((await a.wait(LinkPrepared, link)).description, link)
                fingerprints.append((await a.wait(LinkConnected, link)).local_fingerprint)
                await b.wait(LinkConnected, link)
                assert a.port.certificate()[0] == fingerprints[-1]
                a.port.renew_certificate()
                b.port.renew_certificate()
            assert fingerprints[0] != fingerprints[1]
            for link in (1, 2):
                a.send(b"of the day before", link=link)
                assert (await b.wait(MessageReceived, link)).data == b"of the day before"

    run_clean(main)


def test_who_answers_waits_as_long_as_its_answer_may_take():
    """It is carried by people: the offerer begins long after the deadline of other links."""

    async def main() -> None:
        async with two_ends(replace(LOOPBACK, connect_timeout=1.0)) as (a, b):
            for link in (1, 2):
                a.prepare(link, offerer=True)
                b.prepare(link, offerer=False)
            b.connect((await a.wait(LinkPrepared, 1)).description, 1, patience=5.0)
            b.connect((await a.wait(LinkPrepared, 2)).description, 2)
            await b.wait(LinkClosed, 2)
            a.connect((await b.wait(LinkPrepared, 1)).description, 1)
            await a.wait(LinkConnected, 1)
            await b.wait(LinkConnected, 1)

    run_clean(main)


def test_a_peer_that_stops_after_ice_meets_the_deadline():
    async def main() -> None:
        async with two_ends(replace(LOOPBACK, connect_timeout=0.1)) as (a, b):
            a.prepare(offerer=True)
            b.prepare(offerer=False)
            of_a, of_b = (await a.wait(LinkPrepared)).description, (await b.wait(LinkPrepared)).description
            # Both wait for a ClientHello of the other.
            a.connect(spoil(of_b, setup="active"))
            shake = b.link()._dtls.handshake
            b.link()._dtls.handshake = lambda role, fingerprint: shake("server", fingerprint)
            b.connect(of_a)
            assert (await a.wait(LinkClosed)).reason == "connect_timeout"
            await b.wait(LinkClosed)

    run_clean(main)


def test_setups_that_do_not_go_together_are_refused():
    async def main() -> None:
        async with two_ends() as (a, b):
            a.prepare(offerer=True)
            b.prepare(offerer=False)
            of_a, of_b = (await a.wait(LinkPrepared)).description, (await b.wait(LinkPrepared)).description
            a.connect(spoil(of_b, setup="actpass"))
            b.connect(spoil(of_a, setup="active"))
            for end in (a, b):
                assert (await end.wait(LinkClosed)).reason == "bad_description"

    run_clean(main)


def test_misuse_raises_and_late_commands_do_not():
    async def main() -> None:
        async with two_ends(replace(LOOPBACK, max_links=2)) as (a, _):
            a.prepare(offerer=True)
            with pytest.raises(LocalMisuse):
                a.prepare(offerer=True)
            a.prepare(2, offerer=True)
            a.prepare(3, offerer=True)
            assert a.of(LinkClosed, 3) == []  # never from inside a command
            assert (await a.wait(LinkClosed, 3)).reason == "link_limit"
            a.send(b"too early")
            a.port.submit(SendMessage(LinkId(99), b"too late"))
            a.port.submit(CloseLink(LinkId(99)))
            assert a.port.counters["command_late"] == 2
            assert a.port.counters["message_unsent"] == 1
            a.close(2)
            await settle(lambda: len(a.port) == 1)
            a.port.submit(PrepareLink(LinkId(4), True))
            await a.wait(LinkPrepared, 4)

    run_clean(main)


def test_closing_from_inside_an_event_is_allowed_everywhere():
    async def main() -> None:
        async with two_ends() as (a, b):
            for link, kind in enumerate((LinkPrepared, LinkConnected, MessageReceived), start=1):

                def react(event, link=link, kind=kind):
                    if isinstance(event, kind) and event.link == link:
                        a.close(link)

                a.react = react
                if kind is LinkPrepared:
                    a.prepare(link, offerer=True)
                else:
                    await link_up(a, b, link)
                    b.send(b"now", link=link)
                await a.wait(kind, link)
                await settle(lambda: len(a.port) == 0)
                assert a.of(LinkClosed, link) == []

    run_clean(main)


def test_links_give_back_sockets_and_tasks():
    """Fifty links, half of them given up at different moments of their opening."""

    async def main() -> None:
        import asyncio

        async with two_ends() as (a, b):
            await link_up(a, b, 1000)  # what is made once for all has been made
            gc.collect()
            before = (len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()))
            for link in range(50):
                if link % 2:
                    await link_up(a, b, link)
                else:
                    a.prepare(link, offerer=True)
                    b.prepare(link, offerer=False)
                    if link % 4:
                        b.connect((await a.wait(LinkPrepared, link)).description, link)
                        a.connect((await b.wait(LinkPrepared, link)).description, link)
                        # Give up while checking, shaking hands, opening: at no moment in particular.
                        for _ in range(link):
                            await trio.lowlevel.checkpoint()
                a.close(link)
                b.close(link)
            await settle(lambda: len(a.port) == len(b.port) == 1)
            await settle(lambda: (len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())) <= before)
            assert {e.reason for e in b.events if isinstance(e, LinkClosed)} <= {"closed_by_peer"}

    run_clean(main)
