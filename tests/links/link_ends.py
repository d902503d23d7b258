"""Two link ports in one process, over loopback, with everything they deliver on record."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace

import trio

from meshd.config import LinksConfig
from meshd.core.commands import CloseLink, ConnectLink, OpenStream, PrepareLink, Priority, SendMessage
from meshd.core.events import Event, LinkClosed, LinkConnected, LinkPrepared, MessageReceived, StreamEnded
from meshd.ids import LinkId
from meshd.links.guest import run
from meshd.links.link import Link
from meshd.links.port import LinkPort, open_links
from meshd.wire.session_description import SessionDescription, decode, encode

LOOPBACK = LinksConfig(allow_loopback=True, addresses=("127.0.0.1",))
PATIENCE = 10.0  # seconds until a test gives up; nothing here takes a tenth of it


@dataclass
class Lent:
    """A descriptor that a user of that end has passed."""

    fd: int
    end: End

    def take(self) -> int:
        return self.fd

    def is_owner_gone(self) -> bool:
        return self.end.users_gone


class End:
    """One node's links and what they said."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.faults: list[BaseException] = []
        self.port: LinkPort
        self.descriptors: dict[int, Lent] = {}
        self.users_gone = False
        self.react: Callable[[Event], None] = lambda event: None
        self._changed = trio.Event()

    def deliver(self, event: Event) -> None:
        self.events.append(event)
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        self.react(event)

    def of(self, kind: type, link: int = 1) -> list:
        return [event for event in self.events if isinstance(event, kind) and event.link == link]

    async def wait(self, kind: type, link: int = 1, count: int = 1):
        """The last of ``count`` events of that kind about that link, now or when it comes."""
        while len(found := self.of(kind, link)) < count:
            await self._changed.wait()
        return found[count - 1]

    def prepare(self, link: int = 1, *, offerer: bool) -> None:
        self.port.submit(PrepareLink(LinkId(link), offerer))

    def connect(self, remote: SessionDescription, link: int = 1, patience: float = 0.0) -> None:
        self.port.submit(ConnectLink(LinkId(link), decode(encode(remote)), patience=patience))

    def send(self, data: bytes, priority: Priority = Priority.CONTROL, link: int = 1) -> None:
        self.port.submit(SendMessage(LinkId(link), data, priority))

    def close(self, link: int = 1) -> None:
        self.port.submit(CloseLink(LinkId(link)))

    def open_stream(self, fd: int, stream: int = 1, link: int = 1) -> None:
        """Takes ``fd`` over."""
        self.descriptors[stream] = Lent(fd, self)
        self.port.submit(OpenStream(LinkId(link), stream, stream))

    def messages(self, link: int = 1) -> list[bytes]:
        return [event.data for event in self.of(MessageReceived, link)]

    def link(self, link: int = 1) -> Link:
        return self.port._links[LinkId(link)]


async def settle(condition: Callable[[], bool]) -> None:
    """Wait until it holds; the deadline is the test's own."""
    while not condition():  # noqa: ASYNC110 - it watches things that no event tells of
        await trio.sleep(0.001)


def open_end(end: End, config: LinksConfig) -> AbstractAsyncContextManager[LinkPort]:
    """That end's port."""
    take = lambda number: end.descriptors.pop(number, None)  # noqa: E731
    return open_links(config, end.deliver, lambda link, error: end.faults.append(error), take)


@asynccontextmanager
async def two_ends(config: LinksConfig = LOOPBACK, patience: float = PATIENCE) -> AsyncIterator[tuple[End, End]]:
    """Two ports; at the end neither may have met a fault that the test did not take out of ``faults``."""
    offerer, answerer = End(), End()
    with trio.fail_after(patience):
        async with (
            open_end(offerer, config) as one,
            open_end(answerer, config) as other,
        ):
            offerer.port, answerer.port = one, other
            yield offerer, answerer
    assert (offerer.faults, answerer.faults) == ([], [])


async def link_up(offerer: End, answerer: End, link: int = 1, its_link: int | None = None) -> None:
    """Open a link between the two; ``its_link`` is its number at the answerer's, if that is another."""
    its_link = its_link or link
    offerer.prepare(link, offerer=True)
    answerer.prepare(its_link, offerer=False)
    answerer.connect((await offerer.wait(LinkPrepared, link)).description, its_link)
    offerer.connect((await answerer.wait(LinkPrepared, its_link)).description, link)
    await offerer.wait(LinkConnected, link)
    await answerer.wait(LinkConnected, its_link)


@asynccontextmanager
async def streaming(one: End, other: End, content: bytes) -> AsyncIterator[list[bytearray]]:
    """A stream that carries ``content`` both ways; gives what has come at each so far. At the end all of it has."""
    users = []
    for end in (one, other):
        ours, theirs = socket.socketpair()
        end.open_stream(theirs.detach())
        users.append(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
    got = [bytearray(), bytearray()]

    async def send(user: trio.SocketStream) -> None:
        await user.send_all(content)
        await user.send_eof()

    async def receive(number: int) -> None:
        async for piece in users[number]:
            got[number] += piece

    async with trio.open_nursery() as nursery:
        for number, user in enumerate(users):
            nursery.start_soon(send, user)
            nursery.start_soon(receive, number)
        yield got
    assert [bytes(pieces) == content for pieces in got] == [True, True]
    for end in (one, other):
        assert (await end.wait(StreamEnded)).reason == "done"
    for user in users:
        user.socket.close()


def run_clean(async_fn, *args):
    """Run under the guest loop; an exception that nobody handled fails the test."""
    strays: list[object] = []
    result = run(async_fn, *args, on_stray=lambda error, context: strays.append((error, context)))
    assert strays == []
    return result


def spoil(description: SessionDescription, **changes: object) -> SessionDescription:
    return replace(description, **changes)


__all__ = [
    "LOOPBACK",
    "PATIENCE",
    "End",
    "LinkClosed",
    "link_up",
    "run_clean",
    "settle",
    "spoil",
    "streaming",
    "two_ends",
]
