"""The shared sockets, over loopback."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
import trio
from aioice import stun
from link_ends import LOOPBACK, link_up, run_clean, settle, two_ends

from meshd.core.events import LinkConnected, LinkPrepared, MessageReceived
from meshd.errors import ConfigError
from meshd.links.guest import from_asyncio
from meshd.links.socket import MAX_SEGMENTS, SharedSocket
from meshd.links.sockets import LinkSockets


@dataclass(frozen=True)
class Config:
    addresses: tuple[str, ...] = ()
    port: int = 0


class Taker:
    """Claims an address, keeps what comes from there."""

    is_handshaking = False

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.flushes = 0

    def receive_record(self, datagram: bytes) -> bool:
        self.got.append(datagram)
        return True

    def receive_request(self, request: stun.Message, source: tuple[str, int], local_address: str) -> None:
        raise AssertionError

    def flush(self) -> None:
        self.flushes += 1


def record(size: int, mark: int) -> bytes:
    return b"\x17\xfe\xfd\x00\x01" + bytes([mark % 256]) * (size - 5)


@pytest.mark.parametrize(("address", "local"), [("127.0.0.1", "127.0.0.3"), ("::1", "::1")])
@pytest.mark.parametrize("can_segment", [True, False])
def test_a_batch_arrives_as_the_datagrams_it_is_made_of(address, local, can_segment):
    async def main() -> None:
        counters: Counter[str] = Counter()
        ours, theirs = LinkSockets(Config(), counters), LinkSockets(Config(), counters)
        out, into = ours.for_address(address), theirs.for_address(address)
        if out is None or into is None:
            pytest.skip("no IPv6 on this machine")
        out._can_segment = can_segment
        taker = Taker()
        theirs.demux.claim(taker, (local, out.port), proven=True)
        sent = []
        for size, count, last in ((1_200, 3, 7), (16_400, 9, 16_400), (100, 2 * MAX_SEGMENTS + 1, 5), (60_000, 2, 6)):
            batch = [record(size, n) for n in range(count)] + [record(last, 255)]
            out.send_batch(b"".join(batch), size, (address, into.port), local)
            sent += batch
        await settle(lambda: len(taker.got) == len(sent))
        assert taker.got == sent
        assert taker.flushes > 0
        if can_segment:
            assert taker.flushes < len(sent) / 4, "many datagrams, few wake-ups"
        assert not counters
        ours.close()
        theirs.close()

    run_clean(main)


def test_what_cannot_be_segmented_on_its_way_is_sent_singly(monkeypatch):
    async def main() -> None:
        counters: Counter[str] = Counter()
        sockets = LinkSockets(Config(("127.0.0.1",)), counters)
        (shared,) = sockets.all
        taker = Taker()
        sockets.demux.claim(taker, ("127.0.0.1", shared.port), proven=True)
        plain = shared._socket

        class Unable:
            def __getattr__(self, name):
                return getattr(plain, name)

            def sendmsg(self, parts, ancillary, flags, to):
                if any(kind == 103 for _, kind, _ in ancillary):
                    raise OSError(errno.EIO, "no checksums")
                return plain.sendmsg(parts, ancillary, flags, to)

        shared._socket = Unable()  # type: ignore[assignment]
        batch = [record(500, n) for n in range(4)]
        shared.send_batch(b"".join(batch), 500, ("127.0.0.1", shared.port))
        await settle(lambda: len(taker.got) == 4)
        assert taker.got == batch
        assert counters == {"segmentation_refused": 1}
        sockets.close()

    run_clean(main)


def test_one_port_for_both_families_and_a_socket_for_each_configured_address():
    async def main() -> None:
        counters: Counter[str] = Counter()
        wild = LinkSockets(Config(), counters)
        assert len({shared.port for shared in wild.all}) == 1
        assert wild.for_address("127.0.0.1") is wild.for_address("10.1.2.3")
        named = LinkSockets(Config(("127.0.0.1", "127.0.0.2", "192.0.2.77")), counters)
        assert {shared.address for shared in named.all} == {"127.0.0.1", "127.0.0.2"}
        assert named.for_address("192.0.2.77") is None
        assert named.for_address("127.0.0.9") is None
        assert counters["address_unusable"] == 2
        named.close()
        assert named.for_address("192.0.2.77") is None
        wild.close()

    run_clean(main)


def test_a_pinned_port_carries_all_links_and_one_that_is_taken_is_said_so():
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            with pytest.raises(ConfigError, match=f"links.port: UDP port {port} of 127.0.0.1 is in use"):
                LinkSockets(Config(("127.0.0.1",), port), Counter())
        async with two_ends(replace(LOOPBACK, addresses=("127.0.0.1",))) as (a, b):
            for link in range(5):
                await link_up(a, b, link)
            ports = {(await a.wait(LinkConnected, link)).local_address for link in range(5)}
            assert len(ports) == 1
            for link in range(5):
                a.send(b"%d" % link, link=link)
                assert (await b.wait(MessageReceived, link)).data == b"%d" % link

    run_clean(main)


def test_every_address_of_a_machine_is_heard_on_one_socket():
    async def main() -> None:
        async with two_ends(replace(LOOPBACK, addresses=())) as (a, b):
            a.prepare(offerer=True)
            b.prepare(offerer=False)
            of_a, of_b = (await a.wait(LinkPrepared)).description, (await b.wait(LinkPrepared)).description
            assert len({c.port for c in of_a.candidates}) == 1
            b.connect(of_a)
            a.connect(of_b)
            await a.wait(LinkConnected)
            await b.wait(LinkConnected)

    run_clean(main)


def test_stun_goes_through_it_both_ways():
    async def main() -> None:
        counters: Counter[str] = Counter()
        asking, answering = LinkSockets(Config(("127.0.0.1",)), counters), LinkSockets(Config(), counters)
        (ours,), theirs = asking.all, answering.for_address("127.0.0.1")
        assert theirs is not None
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        with suppress(stun.TransactionError):
            await from_asyncio(ours.request(request, ("127.0.0.1", theirs.port), retransmissions=-1))
        await settle(lambda: True)

        def answer(shared: SharedSocket, datagram: bytes, source: tuple[str, int], local_address: str) -> None:
            asked = stun.parse_message(datagram)
            response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, asked.transaction_id)
            response.attributes["XOR-MAPPED-ADDRESS"] = source
            shared.send(bytes(response), source, local_address)

        answering.hear_stray_requests(answer)
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        with trio.fail_after(5):
            response = await from_asyncio(ours.request(request, ("127.0.0.1", theirs.port)))
        assert response.attributes["XOR-MAPPED-ADDRESS"] == ("127.0.0.1", ours.port)
        assert not ours.transactions
        asking.close()
        answering.close()

    run_clean(main)


def test_after_the_end_sending_is_only_counted():
    async def main() -> None:
        counters: Counter[str] = Counter()
        sockets = LinkSockets(Config(("127.0.0.1",)), counters)
        (shared,) = sockets.all
        sockets.close()
        shared.send(b"late", ("127.0.0.1", 9))
        shared.send_batch(b"late" * 9, 4, ("127.0.0.1", 9))
        assert shared.is_closed
        assert counters["datagram_unsent"] >= 2
        await asyncio_tick()

    run_clean(main)


async def asyncio_tick() -> None:
    await from_asyncio(asyncio.sleep(0))
