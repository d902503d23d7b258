"""Links whose paths change under them: routers that forget, addresses that go, cables that are pulled."""

from __future__ import annotations

import hashlib
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace

import pytest
import trio
from link_ends import LOOPBACK, PATIENCE, End, run_clean, settle, streaming, two_ends
from nat import Nat

from meshd.core.commands import Priority, ProbePath
from meshd.core.events import LinkClosed, LinkConnected, LinkPrepared, ProbeFailed
from meshd.ids import LinkId
from meshd.links import consent, continuity, mobility
from meshd.links.sockets import LinkSockets

BOTH = replace(LOOPBACK, addresses=("127.0.0.1", "127.0.0.2"))


@dataclass
class Roamer:
    """A link between ``inner``, which is behind a router, and ``outer``."""

    inner: End
    outer: End
    nat: Nat

    def probe(self, *ends: End) -> None:
        for end in ends:
            end.port.submit(ProbePath(LinkId(1)))

    def moved(self) -> list[int]:
        """How often each end has changed its path."""
        return [end.port.counters["path_moved"] for end in (self.inner, self.outer)]

    def peer_port(self) -> int:
        """Where the outer end sends to."""
        return self.outer.link()._connection.in_use[1][1]


@asynccontextmanager
async def roaming(*, offerer_behind: bool, config=LOOPBACK, patience: float = PATIENCE) -> AsyncIterator[Roamer]:
    with closing(Nat()) as nat:
        async with trio.open_nursery() as nursery:
            nat.start(nursery)
            async with two_ends(config, patience) as ends:
                inner, outer = ends if offerer_behind else ends[::-1]
                inner.prepare(offerer=offerer_behind)
                outer.prepare(offerer=not offerer_behind)
                outer.connect(nat.hide((await inner.wait(LinkPrepared)).description))
                inner.connect(nat.lead_to((await outer.wait(LinkPrepared)).description))
                await inner.wait(LinkConnected)
                await outer.wait(LinkConnected)
                yield Roamer(inner, outer, nat)
                assert inner.of(LinkClosed) == outer.of(LinkClosed) == []
            nursery.cancel_scope.cancel()


def numbered(count: int, name: str, begin: int = 0) -> list[bytes]:
    return [f"{name} {number}".encode() for number in range(begin, begin + count)]


async def exchange(one: End, other: End, begin: int = 0) -> None:
    """Some messages each way, each exactly once and in order."""
    for sender in (one, other):
        name = "a" if sender is one else "b"
        for data in numbered(20, name, begin):
            sender.send(data, Priority.MESSAGE)
    for receiver, name in ((other, "a"), (one, "b")):
        await settle(lambda receiver=receiver: len(receiver.messages()) >= begin + 20)
        assert receiver.messages() == numbered(begin + 20, name)


roles = pytest.mark.parametrize("offerer_behind", [True, False], ids=["offerer", "answerer"])


@roles
@pytest.mark.parametrize("asks", ["inner", "nobody"])
def test_a_router_that_forgets_costs_nothing(offerer_behind, asks):
    """Upstream heals this at the controlled end only, and after seconds."""

    async def main() -> None:
        async with roaming(offerer_behind=offerer_behind) as roamer:
            await exchange(roamer.inner, roamer.outer)
            roamer.nat.forget()
            began = trio.current_time()
            if asks == "inner":
                roamer.probe(roamer.inner)
            await exchange(roamer.inner, roamer.outer, 20)
            assert trio.current_time() - began < 3.0
            assert roamer.moved() == [0, 1]
            assert roamer.peer_port() in roamer.nat.ports

    run_clean(main)


@roles
def test_addresses_that_a_link_has_left_are_not_kept(offerer_behind, monkeypatch):
    """Not even where checks have come from so many others that the one in use was not among the last ones heard."""
    monkeypatch.setattr(continuity, "MAX_LEARNT", 3)

    async def main() -> None:
        async with roaming(offerer_behind=offerer_behind, patience=40.0) as roamer:
            demux = roamer.outer.port.sockets.demux
            roamer.probe(roamer.inner)
            for number in range(1, 4):
                await settle(lambda: any(data[:2] == b"\0\1" for data in roamer.nat.seen))
                check = next(data for data in roamer.nat.seen if data[:2] == b"\0\1")
                with ExitStack() as stack:
                    for _ in range(4):
                        thief = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                        thief.bind(("127.0.0.1", 0))
                        thief.sendto(check, roamer.nat._outside)
                        await settle(lambda thief=thief: thief.getsockname() in demux._claims)
                roamer.nat.forget()
                roamer.probe(roamer.inner)
                await settle(lambda n=number: roamer.moved()[1] == n)
            first, learnt = 1, 3
            assert len(demux._claims) <= first + learnt
            await exchange(roamer.inner, roamer.outer)

    run_clean(main)


@roles
def test_an_address_that_goes_is_replaced_by_another(offerer_behind):
    async def main() -> None:
        async with roaming(offerer_behind=offerer_behind, config=BOTH) as roamer:
            await exchange(roamer.inner, roamer.outer)
            used = roamer.inner.link()._connection.in_use[0].name
            roamer.nat.blocked.add(used)
            roamer.probe(roamer.inner, roamer.outer)
            await exchange(roamer.inner, roamer.outer, 20)
            assert roamer.inner.link()._connection.in_use[0].name in set(BOTH.addresses) - {used}
            assert roamer.moved() == [1, 1]

    run_clean(main)


@roles
def test_that_no_path_answers_is_said_within_a_second_and_again_while_it_lasts(offerer_behind):
    async def main() -> None:
        async with roaming(offerer_behind=offerer_behind) as roamer:
            await exchange(roamer.inner, roamer.outer)
            roamer.probe(roamer.inner)
            await settle(lambda: roamer.inner.port.counters["path_probed"] > 0)
            await settle(lambda: not roamer.inner.link()._connection._continuity.mobility.is_searching)
            assert roamer.inner.of(ProbeFailed) == []
            roamer.nat.is_down = True
            began = trio.current_time()
            roamer.probe(roamer.inner)
            first = await roamer.inner.wait(ProbeFailed)
            assert mobility.UNANSWERED_TIME - 0.01 <= first.elapsed <= trio.current_time() - began + 0.01
            assert first.elapsed < mobility.SCHEDULE[3]
            again = await roamer.inner.wait(ProbeFailed, count=3)
            assert again.elapsed > mobility.SCHEDULE[3]
            roamer.nat.is_down = False
            await exchange(roamer.inner, roamer.outer, 20)

    run_clean(main)


@roles
def test_a_stream_goes_on_over_three_paths(offerer_behind):
    size = 3_000_000
    content = hashlib.shake_128(b"roaming").digest(size)

    async def main() -> None:
        async with (
            roaming(offerer_behind=offerer_behind, patience=40.0) as roamer,
            streaming(roamer.inner, roamer.outer, content) as got,
        ):
            for part in (1, 2):
                await settle(lambda part=part: len(got[1]) > part * size / 3)
                roamer.nat.forget()
                roamer.probe(roamer.inner)

    run_clean(main)


@roles
def test_old_checks_from_elsewhere_move_nothing(offerer_behind):
    async def main() -> None:
        async with roaming(offerer_behind=offerer_behind) as roamer:
            # A check as the peer makes them in use, nominating if it may; then one of a round
            roamer.inner.link()._connection._continuity.consent.ask()
            roamer.probe(roamer.inner)
            checks = lambda: [data for data in roamer.nat.seen if data[:2] == b"\0\1"]  # noqa: E731
            await settle(lambda: len(checks()) >= 2)
            await exchange(roamer.inner, roamer.outer)
            before = roamer.peer_port()
            thief = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            await thief.bind(("127.0.0.1", 0))
            got: list[bytes] = []

            async def listen() -> None:
                while True:
                    got.append((await thief.recvfrom(65_536))[0])

            for is_down in (False, True):
                async with trio.open_nursery() as nursery:
                    roamer.nat.is_down = is_down
                    nursery.start_soon(listen)
                    got.clear()
                    for check in checks():
                        for _ in range(200):
                            await thief.sendto(check, roamer.nat._outside)
                    await settle(lambda: any(data[:2] == b"\1\1" for data in got) and got[-1][:2] == b"\0\1")
                    with trio.move_on_after(2 * mobility.MAX_GRACE):
                        while True:  # nothing that the thief can send is an answer
                            for data in [data for data in got if data[:2] == b"\0\1"]:
                                await thief.sendto(b"\1\1" + data[2:], roamer.nat._outside)
                            await trio.sleep(0.05)
                    assert roamer.peer_port() == before
                    assert sum(data[:2] == b"\0\1" for data in got) <= mobility.MAX_BURST + 2 * mobility.CHECK_RATE
                    assert all(data[0] < 2 for data in got), "no data goes there"
                    nursery.cancel_scope.cancel()
            roamer.nat.is_down = False
            thief.close()
            await exchange(roamer.inner, roamer.outer, 20)
            assert roamer.moved() == [0, 0]

    run_clean(main)


@roles
def test_without_consent_nothing_is_sent_and_with_it_all_goes_on(offerer_behind, monkeypatch):
    monkeypatch.setattr(consent, "INTERVAL", 0.1)
    monkeypatch.setattr(consent, "TIMEOUT", 0.4)
    monkeypatch.setattr(consent, "GIVE_UP_TIMEOUT", 30.0)
    monkeypatch.setattr(mobility, "SLOW_INTERVAL", 0.2)

    async def main() -> None:
        async with roaming(offerer_behind=offerer_behind) as roamer:
            await exchange(roamer.inner, roamer.outer)
            roamer.nat.is_down = True
            consents = [end.link()._connection._continuity.consent for end in (roamer.inner, roamer.outer)]
            await settle(lambda: all(one.is_paused for one in consents))
            for number in range(20, 40):
                roamer.inner.send(f"a {number}".encode(), Priority.MESSAGE)
                roamer.outer.send(f"b {number}".encode(), Priority.MESSAGE)
            dropped = roamer.nat.dropped
            dropped.clear()
            await settle(lambda: len(dropped) > 10)
            assert {data[:2] for data in dropped} == {b"\0\1"}, "checks alone"
            roamer.nat.forget()
            roamer.nat.is_down = False
            for receiver, name in ((roamer.outer, "a"), (roamer.inner, "b")):
                await settle(lambda receiver=receiver: len(receiver.messages()) == 40)
                assert receiver.messages() == numbered(40, name)

    run_clean(main)


def test_a_way_that_is_gone_is_told_and_a_full_buffer_is_a_loss():
    async def main() -> None:
        counters: Counter[str] = Counter()
        sockets = LinkSockets(replace(LOOPBACK, addresses=()), counters)
        shared = sockets.for_address("127.0.0.1")
        assert shared is not None
        there = ("127.0.0.1", shared.port)
        for source, works in ((None, True), ("127.0.0.1", True), ("192.0.2.77", False)):
            assert shared.send(b"\xff", there, source) is works
            assert shared.send_batch(b"\xff" * 30, 10, there, source) is works
        plain = shared._socket

        class Full:
            def __getattr__(self, name):
                return getattr(plain, name)

            def sendmsg(self, *arguments):
                raise BlockingIOError(11, "full")

        counters.clear()
        shared._socket = Full()  # type: ignore[assignment]
        assert shared.send(b"\xff", there)
        assert shared.send_batch(b"\xff" * 30, 10, there)
        assert counters["datagram_unsent"] >= 2
        sockets.close()

    run_clean(main)
