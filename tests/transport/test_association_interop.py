"""Our association against aiortc's, in one process: packets go from hand to hand, by way of a DTLS that is none."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable

import pytest
from aiortc import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import RTCSctpCapabilities, RTCSctpTransport

from meshd.transport.association import Association
from meshd.transport.config import AssociationConfig
from meshd.transport.events import ChannelOpened, Closed, Event, Message, StreamReset

BINARY = 53
TEXT = 51


class Bridge:
    """What aiortc takes for its DTLS transport, and the loop around our association."""

    state = "connected"

    def __init__(self, role: str, loss: float, seed: int) -> None:
        self._role = role
        self.loss = loss
        self.rng = random.Random(seed)
        self.ours = Association(
            AssociationConfig(), tag=0xABCDEF, initial_tsn=0xFFFFFFF8, cookie_key=bytes(32), now=time.monotonic()
        )
        self.events: list[Event] = []
        self.receiver: RTCSctpTransport | None = None
        self.woken = asyncio.Event()
        self.inbox: list[bytes] = []

    def _register_data_receiver(self, receiver: RTCSctpTransport) -> None:
        self.receiver = receiver

    def _unregister_data_receiver(self, receiver: RTCSctpTransport) -> None:
        self.receiver = None

    async def _send_data(self, data: bytes) -> None:
        if self.rng.random() >= self.loss:
            self.inbox.append(data)
            self.woken.set()

    async def run(self) -> None:
        ours = self.ours
        while True:
            inbox, self.inbox = self.inbox, []
            for packet in inbox:
                ours.receive(packet, time.monotonic())
            ours.handle_timer(time.monotonic())
            for packet in ours.transmit(time.monotonic()):
                if self.receiver is not None and self.rng.random() >= self.loss:
                    await self.receiver._handle_data(packet)
            self.events += ours.take_events()
            deadline = ours.next_deadline()
            wait = None if deadline is None else max(deadline - time.monotonic(), 0)
            self.woken.clear()
            if self.inbox:
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.woken.wait(), wait)

    def messages(self) -> list[tuple[int, int, bytes]]:
        return [(e.stream, e.ppid, e.data) for e in self.events if isinstance(e, Message)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  (what aiortc holds has no event)
            await asyncio.sleep(0.002)


Story = Callable[[Bridge, RTCSctpTransport], Awaitable[None]]


def play(story: Story, *, role: str = "client", loss: float = 0.0, connect: bool = True) -> None:
    async def main() -> None:
        bridge = Bridge(role, loss, seed=11)
        theirs = RTCSctpTransport(bridge)  # type: ignore[arg-type]
        task = asyncio.create_task(bridge.run())
        if connect:
            bridge.ours.connect(time.monotonic())
        bridge.woken.set()
        await theirs.start(RTCSctpCapabilities(maxMessageSize=65_536), 5000)
        try:
            await until(lambda: bridge.ours.is_established and theirs.state == "connected")
            await story(bridge, theirs)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await theirs.stop()
        assert not [event for event in bridge.events if isinstance(event, Closed) and event.reason == "peer_misbehaved"]

    asyncio.run(main())


def channel_of(theirs: RTCSctpTransport, number: int) -> tuple[RTCDataChannel, list[bytes | str]]:
    channel = RTCDataChannel(theirs, RTCDataChannelParameters(label="ours", negotiated=True, id=number))
    got: list[bytes | str] = []
    channel.on("message", got.append)
    return channel, got


@pytest.mark.parametrize("connect", [True, False])
@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_messages_both_ways(connect: bool, loss: float) -> None:
    async def story(bridge: Bridge, theirs: RTCSctpTransport) -> None:
        channel, got = channel_of(theirs, 0)
        sent = [bytes([n]) * (1 + n * 997 % 16_384) for n in range(30)]
        for data in sent:
            bridge.ours.send(0, BINARY, data)
            channel.send(data)
        bridge.ours.send(0, TEXT, "grüß dich".encode())
        bridge.woken.set()
        await until(lambda: len(got) == 31 and len(bridge.messages()) == 30)
        assert got == [*sent, "grüß dich"]
        assert bridge.messages() == [(0, BINARY, data) for data in sent]

    play(story, loss=loss, connect=connect)


def test_their_channel_opened_in_band_works_and_is_closed_both_ways() -> None:
    async def story(bridge: Bridge, theirs: RTCSctpTransport) -> None:
        channel = RTCDataChannel(theirs, RTCDataChannelParameters(label="chat"))
        await until(lambda: channel.readyState == "open")
        assert ChannelOpened(0, "chat") in bridge.events
        channel.send(b"hello")
        await until(lambda: bridge.messages() == [(0, BINARY, b"hello")])
        channel.close()
        await until(lambda: channel.readyState == "closed")
        await until(lambda: StreamReset(0) in bridge.events)

    play(story)


def test_messages_without_retransmissions_over_a_lossy_path() -> None:
    async def story(bridge: Bridge, theirs: RTCSctpTransport) -> None:
        channel, got = channel_of(theirs, 1)
        for number in range(100):
            bridge.ours.send(1, BINARY, number.to_bytes(4), ordered=False, max_retransmits=0)
            bridge.woken.set()
            await asyncio.sleep(0.001)
        bridge.ours.send(1, BINARY, b"last")
        bridge.woken.set()
        await until(lambda: b"last" in got)
        assert 50 < len(got) <= 101
        channel.send(b"still there")
        await until(lambda: bool(bridge.messages()))

    play(story, loss=0.1)


def test_a_shutdown_is_understood() -> None:
    async def story(bridge: Bridge, theirs: RTCSctpTransport) -> None:
        _, got = channel_of(theirs, 0)
        bridge.ours.send(0, BINARY, bytes(50_000))
        bridge.ours.shutdown()
        bridge.woken.set()
        await until(lambda: Closed("shutdown") in bridge.events)
        assert got == [bytes(50_000)]

    play(story)


def test_their_abort_is_understood() -> None:
    async def story(bridge: Bridge, theirs: RTCSctpTransport) -> None:
        await theirs.stop()
        await until(lambda: any(isinstance(event, Closed) for event in bridge.events))
        assert Closed("aborted_by_peer") in bridge.events

    play(story)
