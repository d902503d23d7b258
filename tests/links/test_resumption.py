"""ICE restarts: a link that goes on over the path of another."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace

import pytest
import trio
from link_ends import LOOPBACK, End, run_clean, settle, streaming, two_ends
from nat import Nat

from meshd.core.commands import ConnectLink, PrepareLink, Priority
from meshd.core.events import LinkClosed, LinkConnected, LinkPrepared, LinkResumed
from meshd.ids import LinkId

OLD, NEW = 1, 2


@dataclass
class Restart:
    """Two ends whose link 1 goes through a router that can be taken away."""

    one: End
    other: End
    nat: Nat

    async def describe(self, *, offerer: bool = True, resumes: tuple[bool, bool] = (True, True)) -> None:
        """Have link 2 prepared at both ends; ``offerer``: the first one's role."""
        for end, role, wanted in ((self.one, offerer, resumes[0]), (self.other, not offerer, resumes[1])):
            end.port.submit(PrepareLink(LinkId(NEW), role, LinkId(OLD) if wanted else None))
        self.of_one = (await self.one.wait(LinkPrepared, NEW)).description
        self.of_other = (await self.other.wait(LinkPrepared, NEW)).description

    def connect(self, *, resume: tuple[bool, bool] = (True, True)) -> None:
        self.other.port.submit(ConnectLink(LinkId(NEW), self.of_one, resume[1]))
        self.one.port.submit(ConnectLink(LinkId(NEW), self.of_other, resume[0]))

    async def resumed(self) -> None:
        for end in (self.one, self.other):
            assert (await end.wait(LinkResumed, OLD)).by == NEW
            await settle(lambda end=end: LinkId(NEW) not in end.port._links)
            assert end.of(LinkClosed, NEW) == []


@asynccontextmanager
async def linked(config=LOOPBACK) -> AsyncIterator[Restart]:
    with closing(Nat()) as nat:
        async with trio.open_nursery() as nursery:
            nat.start(nursery)
            async with two_ends(config, 30.0) as (one, other):
                one.prepare(OLD, offerer=True)
                other.prepare(OLD, offerer=False)
                other.connect(nat.hide((await one.wait(LinkPrepared)).description))
                one.connect(nat.lead_to((await other.wait(LinkPrepared)).description))
                await one.wait(LinkConnected)
                await other.wait(LinkConnected)
                yield Restart(one, other, nat)
            nursery.cancel_scope.cancel()


async def both_ways(restart: Restart, begin: int, count: int = 20) -> None:
    """Messages are sent at both ends now; all that have ever been sent arrive once and in order."""
    for end in (restart.one, restart.other):
        for number in range(begin, begin + count):
            end.send(str(number).encode(), Priority.MESSAGE)
    await arrived(restart, begin + count)


async def arrived(restart: Restart, count: int) -> None:
    for end in (restart.one, restart.other):
        await settle(lambda end=end: len(end.messages()) >= count)
        assert end.messages() == [str(number).encode() for number in range(count)]


@pytest.mark.parametrize("offerer", [True, False], ids=["same roles", "other roles"])
@pytest.mark.parametrize("path_is_there", [True, False])
def test_all_that_was_queued_goes_over_the_new_path(offerer, path_is_there):
    async def main() -> None:
        async with linked() as restart:
            await both_ways(restart, 0)
            restart.nat.is_down = not path_is_there
            for end in (restart.one, restart.other):
                for number in range(20, 40):
                    end.send(str(number).encode(), Priority.MESSAGE)
            await restart.describe(offerer=offerer)
            assert restart.of_one.fingerprint == (await restart.one.wait(LinkConnected)).local_fingerprint
            restart.connect()
            await restart.resumed()
            await arrived(restart, 40)
            restart.nat.is_down = True
            await both_ways(restart, 40)
            resumed = restart.one.of(LinkResumed)[0]
            statistics = restart.one.port.statistics()
            assert list(statistics) == [OLD]
            assert statistics[LinkId(OLD)].remote_address == resumed.remote_address
            assert resumed.remote_address != (await restart.one.wait(LinkConnected)).remote_address
            restart.one.close(OLD)
            assert (await restart.other.wait(LinkClosed)).reason == "closed_by_peer"
            for end in (restart.one, restart.other):
                await settle(lambda end=end: len(end.port) == len(end.port.sockets.demux) == 0)

    run_clean(main)


def test_a_stream_goes_on_over_the_new_path():
    size = 3_000_000
    content = hashlib.shake_128(b"resumption").digest(size)

    async def main() -> None:
        async with linked() as restart, streaming(restart.one, restart.other, content) as got:
            await settle(lambda: min(map(len, got)) > size / 4)
            restart.nat.is_down = True
            await restart.describe()
            restart.connect()
            await restart.resumed()

    run_clean(main)


def test_a_restart_that_fails_leaves_the_link_alone():
    async def main() -> None:
        async with linked(replace(LOOPBACK, connect_timeout=1.0)) as restart:
            await restart.describe()
            restart.of_one = replace(restart.of_one, candidates=())
            restart.of_other = replace(restart.of_other, pwd="x" * 24)
            restart.connect()
            for end in (restart.one, restart.other):
                assert (await end.wait(LinkClosed, NEW)).reason == "ice_failed"
                assert end.of(LinkResumed) == end.of(LinkClosed, OLD) == []
            await both_ways(restart, 0)

    run_clean(main)


def test_an_agreement_that_did_not_come_about_makes_a_link_of_its_own():
    """The answerer has started again, or does not know what resumption is."""

    async def main() -> None:
        async with linked() as restart:
            await restart.describe(resumes=(True, False))
            restart.connect(resume=(False, False))
            for end in (restart.one, restart.other):
                await end.wait(LinkConnected, NEW)
                assert end.of(LinkResumed) == []
            restart.one.send(b"on the new one", link=NEW)
            await settle(lambda: restart.other.messages(NEW) == [b"on the new one"])
            await both_ways(restart, 0)

    run_clean(main)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_link_that_is_gone_is_not_resumed(when):
    async def main() -> None:
        async with linked() as restart:
            await restart.describe()
            if when == "before":
                restart.one.close(OLD)
                await restart.other.wait(LinkClosed)
                await settle(lambda: not restart.one.port._leaving)
                restart.connect()
            else:
                restart.connect()
                restart.one.close(OLD)
            assert (await restart.one.wait(LinkClosed, NEW)).reason == "nothing_to_resume"
            assert restart.one.of(LinkResumed) == []

    run_clean(main)


def test_who_has_another_certificate_resumes_nothing():
    async def main() -> None:
        async with linked() as restart:
            await restart.describe()
            restart.of_other = replace(restart.of_other, fingerprint=bytes(32))
            restart.connect()
            assert (await restart.one.wait(LinkClosed, NEW)).reason == "nothing_to_resume"
            await both_ways(restart, 0)

    run_clean(main)
