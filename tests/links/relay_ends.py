"""Two ends and relays between them, over loopback; what the core would say is said by the test."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import trio
from link_ends import LOOPBACK, End, Lent, link_up, open_end

from meshd.core.commands import AttachCircuit, CloseCircuit, EndRelayedStream, OpenRelayedStream, SpliceCircuits
from meshd.core.events import MessageReceived
from meshd.ids import LinkId, PeerId

DESTINATION = PeerId(b"d" * 32)
KEYS = (b"1" * 32, b"2" * 32)
PLENTY = 1e12  # bytes a second


@dataclass
class Chain:
    """``ends[0]`` has a link to each relay (1 for the first, 2 for the second, …), and so has ``ends[1]``.

    A relay's link 1 leads to ``ends[0]``, its link 2 to ``ends[1]``.
    """

    ends: tuple[End, End]
    relays: list[End]
    rate: float = PLENTY
    users: list[trio.SocketStream] = field(default_factory=list)

    def use(self, stream: int = 1) -> tuple[trio.SocketStream, trio.SocketStream]:
        """A stream of that number at both ends, on no circuit yet; its two users."""
        users = []
        for end, keys in zip(self.ends, (KEYS, KEYS[::-1]), strict=True):
            ours, theirs = socket.socketpair()
            end.descriptors[stream] = Lent(theirs.detach(), end)
            end.port.submit_circuit(OpenRelayedStream(stream, stream, *keys))
            users.append(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        self.users += users
        return users[0], users[1]

    def connect(self, stream: int = 1, relay: int = 0, circuit: int = 1) -> None:
        """Have that stream go by that relay: the wish runs before the first credit, as the core's does."""
        one, other = self.ends
        link = LinkId(relay + 1)
        middle = self.relays[relay]

        def at_relay(event: object) -> None:
            if isinstance(event, MessageReceived) and event.data == b"%d" % circuit:
                middle.send(event.data, link=2)
                middle.port.submit_circuit(
                    SpliceCircuits(LinkId(1), circuit, LinkId(2), circuit, DESTINATION, self.rate)
                )

        def at_other(event: object) -> None:
            if isinstance(event, MessageReceived) and event.link == link and event.data == b"%d" % circuit:
                other.port.submit_circuit(AttachCircuit(stream, link, circuit))

        middle.react, other.react = both(middle.react, at_relay), both(other.react, at_other)
        one.send(b"%d" % circuit, link=link)
        one.port.submit_circuit(AttachCircuit(stream, link, circuit))

    def drop(self, relay: int = 0, circuit: int = 1) -> None:
        """That circuit ends at the relay, which forwards nothing of it any more."""
        for link in (1, 2):
            self.relays[relay].port.submit_circuit(CloseCircuit(LinkId(link), circuit))

    def end(self, end: int, reason: str, stream: int = 1) -> None:
        self.ends[end].port.submit_circuit(EndRelayedStream(stream, reason))

    def of(self, end: int, kind: type, stream: int = 1) -> list:
        return [event for event in self.ends[end].events if isinstance(event, kind) and event.stream == stream]


def both(one: Callable[[object], None], other: Callable[[object], None]) -> Callable[[object], None]:
    def call(event: object) -> None:
        one(event)
        other(event)

    return call


@asynccontextmanager
async def chain(relays: int = 1, patience: float = 20.0, rate: float = PLENTY) -> AsyncIterator[Chain]:
    """Two ends that are linked by relays only."""
    everybody = [End() for _ in range(2 + relays)]
    with trio.fail_after(patience):
        async with AsyncExitStack() as stack:
            for end in everybody:
                end.port = await stack.enter_async_context(open_end(end, LOOPBACK))
            one, other, *between = everybody
            made = Chain((one, other), between, rate)
            for number, relay in enumerate(between, 1):
                await link_up(one, relay, number, 1)
                await link_up(other, relay, number, 2)
            try:
                yield made
            finally:
                for user in made.users:
                    user.socket.close()
    assert [end.faults for end in everybody] == [[] for _ in everybody]
