"""Streams between two ends without a link, over relays: sealed, whole, at the pace of their readers."""

from __future__ import annotations

import hashlib
import random

import pytest
import trio
from link_ends import run_clean, settle
from relay_ends import Chain, chain

from meshd.core.commands import AttachCircuit, CloseLink, OpenRelayedStream
from meshd.core.events import RelayedStreamConnected, RelayedStreamEnded, RelayedStreamStalled
from meshd.ids import LinkId
from meshd.links import relayed_stream
from meshd.links.circuits import CIRCUIT_WINDOW
from meshd.links.relaying import SpliceSide
from meshd.wire.credit import MAX_STREAM_WINDOW


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


async def use(user: trio.SocketStream, content: bytes, digests: dict[str, bytes], name: str) -> None:
    """Send it, and take the digest of what comes."""
    digest = hashlib.sha256()

    async def send() -> None:
        await user.send_all(content)
        await user.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        async for piece in user:
            digest.update(piece)
    digests[name] = digest.digest()


def digests_of(a: bytes, b: bytes) -> dict[str, bytes]:
    return {"a": hashlib.sha256(b).digest(), "b": hashlib.sha256(a).digest()}


async def ended(made: Chain, end: int) -> RelayedStreamEnded:
    await settle(lambda: bool(made.of(end, RelayedStreamEnded)))
    return made.of(end, RelayedStreamEnded)[0]


def stream_of(made: Chain, end: int):
    return made.ends[end].port._board._streams[1]


def sides(made: Chain, relay: int = 0) -> list[SpliceSide]:
    """The users of all circuits at a relay."""
    links = made.relays[relay].port._links.values()
    return [circuit.user for link in links for circuit in link._traffic.circuits._circuits.values()]


def test_four_megabytes_each_way_over_a_relay():
    size = 4_000_000
    one, other = noise(size, 1), noise(size, 2)

    async def main() -> None:
        async with chain(patience=15.0) as made:
            digests: dict[str, bytes] = {}
            a, b = made.use()
            made.connect()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(use, a, one, digests, "a")
                nursery.start_soon(use, b, other, digests, "b")
            assert digests == digests_of(one, other)
            for end in (0, 1):
                done = await ended(made, end)
                assert (done.reason, done.sent_size, done.received_size) == ("done", size, size)
                assert len(made.of(end, RelayedStreamConnected)) == 1
                assert made.ends[end].port._board._kept.size == 0
            assert made.relays[0].port.counters["relayed_size"] > 2 * size

    run_clean(main)


def test_the_relay_sees_nothing_of_what_passes():
    content = b"the same words again and again. " * 2_000

    async def main() -> None:
        async with chain() as made:
            seen: list[bytes] = []
            digests: dict[str, bytes] = {}
            a, b = made.use()
            made.connect()
            await settle(lambda: len(sides(made)) == 2)
            for side in sides(made):
                watched = Watched(seen)
                watched.extend(side.queue)
                side.queue = watched
            async with trio.open_nursery() as nursery:
                nursery.start_soon(use, a, content, digests, "a")
                nursery.start_soon(use, b, b"", digests, "b")
            assert digests == digests_of(content, b"")
            assert sum(map(len, seen)) > len(content)
            assert not any(content[start : start + 8] in record for record in seen for start in range(32))

    run_clean(main)


class Watched(relayed_stream.deque):
    """A relay's queue that remembers what was in it."""

    def __init__(self, seen: list[bytes]) -> None:
        super().__init__()
        self._seen = seen

    def append(self, record: bytes) -> None:
        self._seen.append(record)
        super().append(record)


def test_a_slow_reader_fills_no_relay():
    content = noise(12_000_000, 3)

    async def main() -> None:
        async with chain(patience=40.0) as made:
            a, b = made.use()
            made.connect()
            async with trio.open_nursery() as nursery:
                digests: dict[str, bytes] = {}
                nursery.start_soon(use, a, content, digests, "a")
                spent = lambda: stream_of(made, 0)._sending  # noqa: E731
                unread = lambda: len(stream_of(made, 1)._local.unwritten)  # noqa: E731
                # The reader's window is full, the sender has nothing left to spend, and the relay nothing to forward:
                await settle(
                    lambda: spent().offset == spent().limit and 0 < unread() == stream_of(made, 1)._receiving.waiting
                )
                await settle(lambda: not any(side.queue for side in sides(made)))
                assert spent().offset < len(content) / 2
                assert made.relays[0].link(2)._traffic.outbox.size == 0
                nursery.start_soon(use, b, b"", digests, "b")
            assert digests == digests_of(content, b"")

    run_clean(main)


@pytest.mark.parametrize("how", ["circuit", "link", "silently"])
def test_another_path_carries_on(how: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relayed_stream, "STALL_TIMEOUT", 0.3)
    monkeypatch.setattr(relayed_stream, "WATCH_INTERVAL", 0.05)
    size = 3_000_000
    one, other = noise(size, 4), noise(size, 5)

    async def main() -> None:
        async with chain(2, patience=15.0) as made:
            digests: dict[str, bytes] = {}
            a, b = made.use()
            made.connect(relay=0, circuit=1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(use, a, one, digests, "a")
                nursery.start_soon(use, b, other, digests, "b")
                await settle(lambda: stream_of(made, 1)._receiving.received > size / 4)
                if how == "circuit":
                    made.drop()
                elif how == "link":
                    for link in (1, 2):
                        made.relays[0].port.submit(CloseLink(LinkId(link)))
                else:
                    for side in sides(made):
                        side.queue = Hole()
                    await settle(lambda: bool(made.of(0, RelayedStreamStalled)))
                    assert made.of(0, RelayedStreamStalled)[0].reason == "stalled"
                made.connect(relay=1, circuit=3)
            assert digests == digests_of(one, other)
            for end in (0, 1):
                assert (await ended(made, end)).reason == "done"
                assert len(made.of(end, RelayedStreamConnected)) == 2

    run_clean(main)


class Hole(relayed_stream.deque):
    def append(self, record: bytes) -> None:
        pass


class Tampered(relayed_stream.deque):
    """What a relay might do to the fifth record that passes."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how
        self._count = 0
        self._held: list[bytes] = []
        self._last = b""

    def append(self, record: bytes) -> None:
        self._count += 1
        if self._count == 5 and self._how == "change":
            record = record[:-1] + bytes([record[-1] ^ 1])
        elif self._count == 5 and self._how == "drop":
            return
        elif self._count == 5 and self._how == "swap":
            self._held.append(record)
            return
        elif self._count == 5 and self._how == "replay":
            self._last = record
        super().append(record if self._count != 6 or self._how != "replay" else self._last)
        while self._held:
            super().append(self._held.pop())


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("change", "session_forged"),
        ("drop", "session_gap"),
        ("swap", "session_gap"),
        ("replay", "session_replayed"),
    ],
)
def test_a_relay_that_tampers_is_found_out_and_left(how: str, reason: str):
    content = noise(2_000_000, 6)

    async def main() -> None:
        async with chain(2, patience=30.0) as made:
            digests: dict[str, bytes] = {}
            a, b = made.use()
            made.connect(relay=0, circuit=1)
            await settle(lambda: len(made.of(0, RelayedStreamConnected)) == 1 and len(sides(made)) == 2)
            await settle(lambda: len(made.of(1, RelayedStreamConnected)) == 1)
            next(side for side in sides(made) if side.source == 1).queue = Tampered(how)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(use, a, content, digests, "a")
                nursery.start_soon(use, b, b"", digests, "b")
                await settle(lambda: bool(made.of(1, RelayedStreamStalled)))
                assert made.of(1, RelayedStreamStalled)[0].reason == reason
                assert made.ends[1].port.counters[reason] == 1
                made.connect(relay=1, circuit=3)
            assert digests == digests_of(content, b"")
            assert (await ended(made, 1)).received_size == len(content)

    run_clean(main)


def test_quotas_slow_a_neighbor_down():
    content = noise(1_500_000, 7)

    async def main() -> None:
        async with chain(patience=30.0, rate=2_000_000.0) as made:
            digests: dict[str, bytes] = {}
            a, b = made.use()
            made.connect()
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(use, a, content, digests, "a")
                nursery.start_soon(use, b, b"", digests, "b")
            assert digests == digests_of(content, b"")
            assert trio.current_time() - began > 0.4  # 1.5 MB at 2 MB/s, a quarter of a second's worth at once
            assert made.relays[0].port.counters["relay_quota_waits"] > 0
            made.drop()
            assert len(made.relays[0].port._board._quotas) == 0

    run_clean(main)


def test_a_reader_that_goes_away_ends_it():
    async def main() -> None:
        async with chain() as made:
            a, b = made.use()
            made.connect()
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    with pytest.raises(trio.BrokenResourceError):
                        await a.send_all(bytes(50_000_000))

                nursery.start_soon(send)
                await b.receive_some(1)
                await b.aclose()
                gone = await ended(made, 1)
                assert (gone.reason, gone.code) == ("closed_here", 2)
                made.end(0, "closed_by_peer")
            assert (await ended(made, 0)).reason == "closed_by_peer"

    run_clean(main)


def test_done_is_believed_only_from_where_it_is_so():
    async def main() -> None:
        async with chain() as made:
            made.use()
            made.connect()
            await settle(lambda: len(made.of(0, RelayedStreamConnected)) == 1)
            made.end(0, "done")
            assert (await ended(made, 0)).reason == "failed_there"
            made.end(0, "done")  # twice does no harm
            made.end(1, "path_lost")
            assert (await ended(made, 1)).reason == "path_lost"

    run_clean(main)


def test_what_cannot_begin():
    async def main() -> None:
        async with chain() as made:
            end = made.ends[0]
            end.port.submit_circuit(OpenRelayedStream(9, 9, b"1" * 32, b"2" * 32))  # there is no such descriptor
            await settle(lambda: bool(made.of(0, RelayedStreamEnded, 9)))
            assert made.of(0, RelayedStreamEnded, 9)[0].reason == "failed_here"
            end.port.submit_circuit(AttachCircuit(9, LinkId(1), 1))
            end.port.submit_circuit(AttachCircuit(1, LinkId(7), 1))
            assert end.port.counters["command_late"] == 2
            assert CIRCUIT_WINDOW <= MAX_STREAM_WINDOW

    run_clean(main)


def test_an_idle_stream_notices_a_dead_relay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relayed_stream, "PROBE_INTERVAL", 0.1)
    monkeypatch.setattr(relayed_stream, "STALL_TIMEOUT", 0.2)
    monkeypatch.setattr(relayed_stream, "WATCH_INTERVAL", 0.03)

    async def main() -> None:
        async with chain() as made:
            made.use()
            made.connect()
            await settle(lambda: len(made.of(0, RelayedStreamConnected)) == 1)
            await settle(lambda: made.ends[1].port._board._streams[1]._sealer._counter > 2)  # it has answered probes
            assert made.of(0, RelayedStreamStalled) == []
            for side in sides(made):
                side.queue = Hole()
            await settle(lambda: bool(made.of(0, RelayedStreamStalled) and made.of(1, RelayedStreamStalled)))

    run_clean(main)


def test_keys_are_changed_by_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relayed_stream, "REKEY_INTERVAL", 0.05)
    monkeypatch.setattr(relayed_stream, "WATCH_INTERVAL", 0.02)

    async def main() -> None:
        async with chain() as made:
            a, b = made.use()
            made.connect()
            for number in range(200):
                await a.send_all(b"%03d" % number)
                assert await b.receive_some(3) == b"%03d" % number
                if made.ends[1].port._board._streams[1]._opener._epoch >= 2:
                    break
                await trio.sleep(0.005)
            assert made.ends[1].port._board._streams[1]._opener._epoch >= 2

    run_clean(main)
