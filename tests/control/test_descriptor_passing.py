"""File descriptors on the control socket: to whom each goes, and that none stays behind."""

import array
import gc
import os
import socket
import tempfile
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from meshd.control import jsonrpc, server
from meshd.control.access import Access
from meshd.control.listeners import open_listeners
from meshd.control.passing import MAX_DESCRIPTORS, Passed, PassedReader

OPEN = {"peer": "desk", "application": "backup"}


class Backend:
    """Takes descriptors, keeps them, or is slow about it."""

    def __init__(self):
        self.taken = []
        self.waiting = trio.Event()

    def identity(self):
        return "0.1.0", "x"

    async def call(self, method, params, caller, passed=None):
        if params.get("application") == "slow":
            self.waiting.set()
            await trio.sleep_forever()
        if params.get("application") == "take":
            self.taken.append(passed.take())
        return {"had": passed is not None}


@asynccontextmanager
async def connected():
    """A backend and a plain socket to it; at the end no file descriptor is left that was not there before."""
    gc.collect()
    with tempfile.TemporaryDirectory(prefix="meshd-") as directory, trio.fail_after(5):
        path = f"{directory}/s"
        before = open_files()
        backend = Backend()
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, await open_listeners(path), backend, Access())
            async with await trio.open_unix_socket(path) as stream:
                assert b"hello" in await stream.receive_some(1 << 16)  # so it has been accepted, and all is open
                yield backend, stream
            nursery.cancel_scope.cancel()
        for fd in backend.taken:
            os.close(fd)
        assert open_files() == before


def open_files():
    return len(os.listdir("/proc/self/fd"))


async def pass_along(stream, data, fds):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    assert await stream.socket.sendmsg([data], rights) == len(data)


class Lines:
    def __init__(self, stream):
        self.stream = stream
        self.reader = jsonrpc.LineReader()
        self.items = []

    async def answer(self):
        while True:
            while not self.items:
                self.items = self.reader.feed(await self.stream.receive_some(1 << 16))
            item = self.items.pop(0)
            if not isinstance(item, jsonrpc.Notification):
                return item


def call(key=1, method="streams.open", **params):
    return jsonrpc.encode_request(key, method, {**OPEN, **params} if method == "streams.open" else params)


@pytest.fixture
def files():
    """Three files to pass."""
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
    yield fds
    for fd in fds:
        os.close(fd)


async def test_a_descriptor_arrives_and_is_the_takers(files):
    async with connected() as (backend, stream):
        await pass_along(stream, call(application="take"), files[:1])
        assert (await Lines(stream).answer()).result == {"had": True}
        assert os.fstat(backend.taken[0]).st_rdev == os.stat(os.devnull).st_rdev
        assert not os.get_inheritable(backend.taken[0])


async def test_what_is_not_taken_is_closed(files):
    async with connected() as (_, stream):
        before = open_files()
        await pass_along(stream, call(), files[:1])
        assert (await Lines(stream).answer()).result == {"had": True}
        assert open_files() == before


@pytest.mark.parametrize(("count", "says"), [(0, "needs a file descriptor"), (2, "takes one"), (3, "takes one")])
async def test_none_and_too_many_are_refused(files, count, says):
    async with connected() as (_, stream):
        await pass_along(stream, call(), files[:count])
        failure = await Lines(stream).answer()
        assert failure.data["symbol"] == "invalid_params"
        assert says in failure.message


async def test_a_method_that_takes_none_does_its_work_all_the_same(files):
    async with connected() as (_, stream):
        before = open_files()
        lines = Lines(stream)
        await pass_along(stream, call(method="node.version"), files)
        assert (await lines.answer()).result == {"had": False}
        for wrong in (b"no json\n", call(method="no.such"), b'{"jsonrpc":"2.0","method":"x"}\n', b"\n"):
            await pass_along(stream, wrong, files)
        await pass_along(stream, call(9, method="node.version"), [])
        while (await lines.answer()).key != 9:
            pass
        assert open_files() == before


async def test_each_goes_to_its_own_line(files):
    async with connected() as (backend, stream):
        for key in range(3):
            await pass_along(stream, call(key, application="take"), files[key : key + 1])
        lines = Lines(stream)
        assert {(await lines.answer()).key for _ in range(3)} == {0, 1, 2}
        assert len(backend.taken) == 3


async def test_a_line_in_pieces_keeps_its_descriptor(files):
    async with connected() as (backend, stream):
        line = call(2, application="take")
        await pass_along(stream, call(1, method="node.version") + line[:9], files[:1])
        lines = Lines(stream)
        assert (await lines.answer()).result == {"had": False}
        await pass_along(stream, line[9:], [])
        assert (await lines.answer()).result == {"had": True}
        assert len(backend.taken) == 1


async def test_who_hangs_up_leaves_nothing_behind(files):
    async with connected() as (backend, stream):
        await pass_along(stream, call(application="slow"), files[:1])
        await backend.waiting.wait()
        await pass_along(stream, b'{"unfinished', files[:2])
        await trio.testing.wait_all_tasks_blocked()


async def test_more_requests_than_may_run_leave_nothing_behind(files):
    async with connected() as (_, stream):
        for key in range(20):
            await pass_along(stream, call(key, application="slow"), files[:1])
        lines = Lines(stream)
        assert (await lines.answer()).data["symbol"] == "busy"


class FakeSource:
    def fileno(self):
        return -1


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"", b"\n", call(), call()[:20], call()[20:], b"no json\n", b"x"]),
            st.integers(0, 3),
        ),
        max_size=8,
    )
)
def test_whatever_comes_every_descriptor_is_given_once_or_closed(chunks):
    reader = PassedReader()
    made, given = [], []
    for data, count in chunks:
        passed = [Passed(os.open(os.devnull, os.O_RDONLY), FakeSource()) for _ in range(count)]
        made += passed
        for _, theirs in reader.feed(data, passed):
            given += theirs
        held = [each for each in made if each.fd >= 0 and each not in given]
        assert len(held) <= MAX_DESCRIPTORS + 1
    assert len(set(map(id, given))) == len(given)
    reader.close()
    for each in made:
        assert each in given or each.fd < 0
        each.close()
