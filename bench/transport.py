"""Two associations in memory at the packet size of a plain internet path: microseconds for each packet of data.

What profiles have taught: a third of the time was the bytes, copied three times on their way out, and most of that was
glibc giving the top of the heap back and asking for it again whenever a few 16 KiB buffers died (M_TRIM_THRESHOLD).
Of what is left, half is making and unmaking one object for each chunk; the rest is spread so thin that no line stands
out.
"""

from __future__ import annotations

import argparse
import asyncio  # noqa: TID251  (for aiortc alone)
import cProfile
import pstats
import time

from aiortc import RTCDataChannel, RTCDataChannelParameters  # noqa: TID251
from aiortc.rtcsctptransport import RTCSctpCapabilities, RTCSctpTransport  # noqa: TID251

from meshd.transport.association import Association
from meshd.transport.config import BASE_PACKET_SIZE, AssociationConfig
from meshd.transport.events import Message

MESSAGE_SIZE = 16_384
BATCH = 16  # packets that one wake-up of the socket brings
BINARY = 53


class Bench:
    """One run. The clock counts the work done by the two and leaps over the time in which both would sleep."""

    def __init__(self, config: AssociationConfig) -> None:
        self.slept = 0.0
        self.sending = 0.0
        self.receiving = 0.0
        self.packets = 0
        now = self.now()
        self.a = Association(config, tag=1, initial_tsn=7, cookie_key=bytes(32), now=now)
        self.b = Association(config, tag=2, initial_tsn=9, cookie_key=bytes(32), now=now)
        self.a.connect(now)
        while not (self.a.is_established and self.b.is_established):
            self.turn()
        self.sending = self.receiving = 0.0

    def now(self) -> float:
        """Seconds."""
        return time.thread_time() + self.slept

    def turn(self) -> None:
        """One wake-up of each end."""
        a, b = self.a, self.b
        begin = time.thread_time()
        now = begin + self.slept
        if (deadline := a.next_deadline()) is not None and deadline <= now:
            a.handle_timer(now)
        there = a.transmit(now)
        a.take_events()
        middle = time.thread_time()
        now = middle + self.slept
        if (deadline := b.next_deadline()) is not None and deadline <= now:
            b.handle_timer(now)
        back = b.transmit(now)
        for start in range(0, len(there), BATCH):
            for packet in there[start : start + BATCH]:
                b.receive(packet, now)
            back += b.transmit(now)
        after = time.thread_time()
        now = after + self.slept
        for packet in back:
            a.receive(packet, now)
        end = time.thread_time()
        if not there and not back:
            deadlines = [at for at in (a.next_deadline(), b.next_deadline()) if at is not None]
            self.slept = max(self.slept, min(deadlines) - end)
            return
        self.packets += len(there)
        self.sending += middle - begin + end - after
        self.receiving += after - middle


def run(config: AssociationConfig, size: int) -> tuple[float, float, int, float]:
    """Send ``size`` bytes: seconds in the sender, seconds in the receiver, packets, MB/s if one process did both."""
    bench = Bench(config)
    message = bytes(MESSAGE_SIZE)
    sent = received = 0
    while received < size:
        begin = time.thread_time()
        while sent < size and bench.a.unsent_size() < 262_144:
            bench.a.send(1, BINARY, message, priority=2)
            sent += MESSAGE_SIZE
        bench.sending += time.thread_time() - begin
        bench.turn()
        begin = time.thread_time()
        received += sum(len(event.data) for event in bench.b.take_events() if isinstance(event, Message))
        bench.receiving += time.thread_time() - begin
    return bench.sending, bench.receiving, bench.packets, size / (bench.sending + bench.receiving) / 1e6


class Handover:
    """What aiortc takes for its DTLS transport: packets wait in a list for the other end."""

    state = "connected"

    def __init__(self, role: str) -> None:
        self._role = role
        self.sent: list[bytes] = []

    def _register_data_receiver(self, receiver: object) -> None:
        pass

    def _unregister_data_receiver(self, receiver: object) -> None:
        pass

    async def _send_data(self, data: bytes) -> None:
        self.sent.append(data)


async def run_aiortc(size: int) -> tuple[float, float, int, float]:
    """The same as ``run`` with aiortc's own association as it comes."""
    there, back = Handover("client"), Handover("server")
    a, b = RTCSctpTransport(there), RTCSctpTransport(back)  # type: ignore[arg-type]
    received = packets = 0
    sending = receiving = 0.0

    async def turn() -> None:
        nonlocal packets, sending, receiving
        begin = time.thread_time()
        inbox, back.sent = back.sent, []
        for packet in inbox:
            await a._handle_data(packet)
        await asyncio.sleep(0)
        middle = time.thread_time()
        inbox, there.sent = there.sent, []
        packets += len(inbox)
        for packet in inbox:
            await b._handle_data(packet)
        sending += middle - begin
        receiving += time.thread_time() - middle

    await a.start(RTCSctpCapabilities(maxMessageSize=65_536), 5000)
    await b.start(RTCSctpCapabilities(maxMessageSize=65_536), 5000)
    while "connecting" in (a.state, b.state):
        await turn()
    channels = [RTCDataChannel(end, RTCDataChannelParameters(negotiated=True, id=1)) for end in (a, b)]

    @channels[1].on("message")
    def on_message(data: bytes) -> None:
        nonlocal received
        received += len(data)

    sent = packets = 0
    sending = receiving = 0.0
    while received < size:
        begin = time.thread_time()
        while sent < size and channels[0].bufferedAmount < 262_144:
            channels[0].send(bytes(MESSAGE_SIZE))
            sent += MESSAGE_SIZE
        sending += time.thread_time() - begin
        await turn()
    await a.stop()
    await b.stop()
    return sending, receiving, packets, size / (sending + receiving) / 1e6


def main() -> None:
    """Print the table, or with ``--profile`` where the time goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="MiB for each row")
    parser.add_argument("--packet", type=int, default=BASE_PACKET_SIZE, help="bytes")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    size = options.size * 1_048_576
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(run, AssociationConfig(base_packet_size=options.packet), size)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    print(f"{'congestion':10} {'chunks':7} {'packet':>6} {'µs sender':>10} {'µs receiver':>12} {'MB/s, both':>11}")

    def row(congestion: str, kind: str, packet: int, rows: list[tuple[float, float, int, float]]) -> None:
        # The least of several runs: on a busy machine everything else is somebody else's time.
        sending = min(s / n for s, _, n, _ in rows) * 1e6
        receiving = min(r / n for _, r, n, _ in rows) * 1e6
        speed = max(m for *_, m in rows)
        print(f"{congestion:10} {kind:7} {packet:6} {sending:10.2f} {receiving:12.2f} {speed:11.0f}")

    for packet in (options.packet, 16_384):
        for congestion in ("bbr", "reno"):
            for interleaving in (True, False):
                config = AssociationConfig(
                    congestion=congestion,
                    base_packet_size=packet,
                    max_packet_size=packet,
                    offer_interleaving=interleaving,
                )
                kind = "I-DATA" if interleaving else "DATA"
                row(congestion, kind, packet, [run(config, size // 6) for _ in range(6)])
    row("aiortc", "DATA", 1200 + 16, [asyncio.run(run_aiortc(size // 12)) for _ in range(3)])


if __name__ == "__main__":
    main()
