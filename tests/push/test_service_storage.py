"""What waits for a user agent that is away: TTL, Topic, batches, the reset, restarts."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest
import structlog
import trio
from push_service_client import UserAgent, authorization, connected, new_channel, plaintext_of, sending

from meshd.errors import StoreError
from meshd.push.service.app import PushService, serve
from meshd.push.service.config import Limits, ServiceConfig
from meshd.push.service.registry import Stored
from meshd.push.service.store import DATABASE_NAME, Store


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def service(nursery: trio.Nursery, tmp_path: Path, clock: Clock) -> PushService:
    return await started(nursery, tmp_path, clock)


async def started(nursery: trio.Nursery, state: Path, clock: Clock, **limits: float) -> PushService:
    config = ServiceConfig(state, "127.0.0.1:0", "http://push.test", limits=Limits(**limits))  # type: ignore[arg-type]

    async def run(*, task_status: trio.TaskStatus[PushService]) -> None:
        await serve(config, clock=clock, task_status=task_status)

    return await nursery.start(run)


def url(service: PushService) -> str:
    return f"ws://127.0.0.1:{service.port}/"


def local(service: PushService, endpoint: str) -> str:
    """The endpoint as it is reached here: the service goes by a public name."""
    return endpoint.replace("http://push.test", f"http://127.0.0.1:{service.port}")


async def deliver(service: PushService, clock: Clock, endpoint: str, *plaintexts: bytes, **headers: str) -> None:
    headers.setdefault("authorization", authorization(endpoint, exp=clock.now + 3600))
    async with sending() as sender:
        await sender.deliver(local(service, endpoint), *plaintexts, **headers)


async def status(service: PushService, clock: Clock, endpoint: str) -> tuple[int, int | None]:
    async with sending() as sender:
        answer = await sender.post(
            local(service, endpoint), authorization=authorization(endpoint, exp=clock.now + 3600)
        )
        return answer.status_code, answer.json()["errno"] if answer.content else None


async def registered(service: PushService) -> tuple[str, str]:
    """The uaid and endpoint of a user agent that has gone away again."""
    async with connected(url(service)) as agent:
        return agent.uaid, await agent.register()


async def counted(service: PushService, name: str, number: int) -> None:
    with trio.fail_after(5):
        while service.counters[name] < number:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def nothing_waits(agent: UserAgent) -> bool:
    await agent.settled()
    return agent.inbox == []


async def test_messages_wait_in_order(service: PushService, clock: Clock):
    uaid, endpoint = await registered(service)
    await deliver(service, clock, endpoint, b"1", b"2", b"3")
    async with connected(url(service), uaid) as agent:
        assert await agent.receive(3) == [b"1", b"2", b"3"]
        assert await nothing_waits(agent)


async def test_the_public_url_is_the_origin(service: PushService, clock: Clock):
    _, endpoint = await registered(service)
    assert endpoint.startswith("http://push.test/wpush/v2/")
    assert service.websocket_url == "ws://push.test/"
    async with sending(clock.now) as sender:
        answer = await sender.post(local(service, endpoint))  # signed for the address and not for the public name
    assert answer.status_code == 401


async def test_a_ttl_of_zero_is_now_or_never(service: PushService, clock: Clock):
    uaid, endpoint = await registered(service)
    await deliver(service, clock, endpoint, b"never", ttl="0")
    async with connected(url(service), uaid) as agent:
        await deliver(service, clock, endpoint, b"now", ttl="0")
        assert await agent.receive() == [b"now"]
        assert await nothing_waits(agent)


async def test_expired_messages_never_come(service: PushService, clock: Clock):
    uaid, endpoint = await registered(service)
    await deliver(service, clock, endpoint, b"short", ttl="10")
    await deliver(service, clock, endpoint, b"long", ttl="100")
    clock.now += 10
    async with connected(url(service), uaid) as agent:
        assert await agent.receive() == [b"long"]
        assert await nothing_waits(agent)


async def test_expired_messages_are_cleared_away(nursery: trio.Nursery, tmp_path: Path, clock: Clock):
    service = await started(nursery, tmp_path, clock, housekeeping_interval=0.05)
    _, endpoint = await registered(service)
    await deliver(service, clock, endpoint, b"1", b"2", ttl="10")
    clock.now += 11
    await counted(service, "expired", 2)
    assert service.status().endswith("0 messages waiting")


async def test_a_topic_replaces_what_has_not_been_delivered(service: PushService, clock: Clock):
    uaid, endpoint = await registered(service)
    await deliver(service, clock, endpoint, b"old", topic="offer")
    await deliver(service, clock, endpoint, b"other", topic="else")
    await deliver(service, clock, endpoint, b"plain")
    await deliver(service, clock, endpoint, b"new", topic="offer")
    async with connected(url(service), uaid) as agent:
        assert await agent.receive(3) == [b"other", b"plain", b"new"]
        assert await nothing_waits(agent)


async def test_batches_of_ten_each_after_all_of_the_last(service: PushService, clock: Clock):
    uaid, endpoint = await registered(service)
    await deliver(service, clock, endpoint, *(b"%d" % number for number in range(25)))
    async with connected(url(service), uaid) as agent:
        await agent.settled()
        batch, agent.inbox = agent.inbox, []
        assert [plaintext_of(message) for message in batch] == [b"%d" % number for number in range(10)]
        await deliver(service, clock, endpoint, b"late")  # waits its turn
        await agent.acknowledge(*batch[:9])
        assert await nothing_waits(agent)
        await agent.acknowledge(batch[9])
        assert await agent.receive(16) == [b"%d" % number for number in range(10, 25)] + [b"late"]
        await deliver(service, clock, endpoint, b"direct")
        assert await agent.receive() == [b"direct"]


async def test_too_much_waiting_resets_the_user_agent(nursery: trio.Nursery, tmp_path: Path, clock: Clock):
    assert Limits().max_stored_per_user_agent == 150  # autopush's; fewer here, it is quicker
    service = await started(nursery, tmp_path, clock, max_stored_per_user_agent=12)
    async with connected(url(service)) as agent:
        flooded, innocent = await agent.register(), await agent.register()
    await deliver(service, clock, flooded, *(b"%d" % number for number in range(11)))
    await deliver(service, clock, innocent, b"one more")
    assert await status(service, clock, flooded) == (410, 105)
    assert await status(service, clock, flooded) == (410, 106)
    assert await status(service, clock, innocent) == (410, 106)
    async with connected(url(service), agent.uaid) as again:
        assert again.uaid != agent.uaid
        assert await nothing_waits(again)


async def test_one_sender_alone_resets_nobody(nursery: trio.Nursery, tmp_path: Path, clock: Clock):
    service = await started(nursery, tmp_path, clock, max_stored_per_channel=3)
    async with connected(url(service)) as agent:
        flooded, innocent = await agent.register(), await agent.register()
    await deliver(service, clock, flooded, b"1", b"2")
    await deliver(service, clock, flooded, b"3", topic="t")
    assert await status(service, clock, flooded) == (429, 201)
    await deliver(service, clock, flooded, b"4", topic="t")  # what replaces takes no more room
    await deliver(service, clock, innocent, b"5")
    async with connected(url(service), agent.uaid) as agent:
        assert await agent.receive(4) == [b"1", b"2", b"4", b"5"]
        await agent.settled()
    await deliver(service, clock, flooded, b"room again")


async def test_as_much_as_may_wait_arrives(nursery: trio.Nursery, tmp_path: Path, clock: Clock):
    service = await started(nursery, tmp_path, clock, max_stored_per_user_agent=32)
    uaid, endpoint = await registered(service)
    await deliver(service, clock, endpoint, *(b"%d" % number for number in range(32)))
    async with connected(url(service), uaid) as agent:
        assert await agent.receive(32) == [b"%d" % number for number in range(32)]


async def test_a_connected_user_agent_that_acknowledges_nothing_is_not_reset(
    nursery: trio.Nursery, tmp_path: Path, clock: Clock
):
    service = await started(nursery, tmp_path, clock, max_stored_per_user_agent=3)
    async with connected(url(service)) as agent:
        endpoint = await agent.register()
        await deliver(service, clock, endpoint, b"1", b"2", b"3")
        assert await status(service, clock, endpoint) == (503, 202)
        assert await agent.receive(3) == [b"1", b"2", b"3"]
        await agent.settled()
        await deliver(service, clock, endpoint, b"4")


async def test_unregistering_ends_what_waits(service: PushService, clock: Clock):
    channel = new_channel()
    async with connected(url(service)) as agent:
        endpoint = await agent.register(channel)
    await deliver(service, clock, endpoint, *(b"%d" % number for number in range(15)))
    async with connected(url(service), agent.uaid) as agent:
        assert len(await agent.receive(10)) == 10
        await agent.unregister(channel)
        assert await agent.unregister(channel) == 200
    assert (await status(service, clock, endpoint))[0] == 410


async def test_after_sixty_days_a_user_agent_is_forgotten(nursery: trio.Nursery, tmp_path: Path, clock: Clock):
    service = await started(nursery, tmp_path, clock, housekeeping_interval=0.05)
    uaid, endpoint = await registered(service)
    async with connected(url(service)) as stays:
        await stays.register()
        clock.now += 61 * 86400
        await counted(service, "user_agent_forgotten", 1)
        assert (await status(service, clock, endpoint))[0] == 410
    async with connected(url(service), uaid) as agent, connected(url(service), stays.uaid) as again:
        assert agent.uaid != uaid
        assert again.uaid == stays.uaid


async def test_a_restart_keeps_everything(tmp_path: Path, clock: Clock):
    async with trio.open_nursery() as first:
        service = await started(first, tmp_path, clock)
        uaid, endpoint = await registered(service)
        await deliver(service, clock, endpoint, b"old", topic="t")
        await deliver(service, clock, endpoint, b"1", b"2")
        first.cancel_scope.cancel()
    async with trio.open_nursery() as second:
        service = await started(second, tmp_path, clock)
        await deliver(service, clock, endpoint, b"new", topic="t")
        async with connected(url(service), uaid) as agent:
            assert agent.uaid == uaid
            assert await agent.receive(3) == [b"1", b"2", b"new"]
            await agent.settled()
        second.cancel_scope.cancel()
    async with trio.open_nursery() as third:
        service = await started(third, tmp_path, clock)
        async with connected(url(service), uaid) as agent:
            assert await nothing_waits(agent)
        third.cancel_scope.cancel()


async def test_stopping_tells_the_connected(nursery: trio.Nursery, tmp_path: Path):
    scope = trio.CancelScope()

    async def run(*, task_status: trio.TaskStatus[PushService]) -> None:
        with scope:
            await serve(ServiceConfig(tmp_path, "127.0.0.1:0"), task_status=task_status)

    service: PushService = await nursery.start(run)
    async with connected(service.websocket_url) as agent:
        scope.cancel()
        assert await agent.closed() == (1001, "GoingAway")


async def test_a_state_directory_is_for_one_service(service: PushService, tmp_path: Path):
    with pytest.raises(StoreError, match="in use"):
        await serve(ServiceConfig(tmp_path, "127.0.0.1:0"))


def test_state_is_for_its_owner_only(tmp_path: Path):
    tmp_path.chmod(0o755)
    store = Store.open(tmp_path, Limits())
    store.load()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    store.close()
    assert DATABASE_NAME in modes
    assert all(mode & 0o077 == 0 for mode in modes.values()), modes


def test_a_newer_or_foreign_database_is_refused(tmp_path: Path):
    Store.open(tmp_path, Limits()).close()
    with sqlite3.connect(tmp_path / DATABASE_NAME) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match="newer version"):
        Store.open(tmp_path, Limits())
    (tmp_path / DATABASE_NAME).write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(tmp_path, Limits())
    with pytest.raises(StoreError, match="directory"):
        Store.open(Path("/proc/nowhere"), Limits())


async def test_the_log_says_once_that_the_database_is_full_and_once_that_it_is_not(
    nursery: trio.Nursery, tmp_path: Path
):
    store = Store.open(tmp_path / "state", Limits(max_database_size=64 * 4096))
    await nursery.start(store.run)
    with structlog.testing.capture_logs() as lines:
        refused = 0
        for number in range(70):  # more than the pages there are
            store.add_message(Stored(str(number), b"u", b"c", None, 1e12), bytes(4096))
            try:
                await store.commit()
            except StoreError:
                refused += 1
        store.drop_user_agent(b"u")
        await store.commit()
    assert 3 < refused < 60
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("store_failing", "error"),
        ("store_works_again", "info"),
    ]
    assert "full" in lines[0]["reason"]
    store.close()
