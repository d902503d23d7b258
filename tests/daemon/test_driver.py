"""The driver between a small scripted core and its ports."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from meshd.core.commands import CloseLink, Command, Notify, Persist, Refuse, Respond
from meshd.core.events import (
    Event,
    LinkClosed,
    Persisted,
    RequestAbandoned,
    Requested,
    Started,
    Stopping,
    TimerFired,
)
from meshd.daemon import driver as driver_module
from meshd.daemon.driver import CoreFailed, Driver
from meshd.errors import Code, ControlError, LocalMisuse
from meshd.ids import LinkId, Now, RequestId, Ticket


class ScriptedCore:
    """Answers each event by what ``react`` says and remembers them all."""

    def __init__(self, react: Callable[[Event], list[Command]] = lambda event: []) -> None:
        self.events: list[Event] = []
        self.times: list[Now] = []
        self.deadline: float | None = None
        self.react = react

    def handle(self, event: Event, now: Now) -> list[Command]:
        self.events.append(event)
        self.times.append(now)
        return self.react(event)

    def next_deadline(self) -> float | None:
        return self.deadline


class Clocks:
    def __init__(self) -> None:
        self.unix_offset = 1_700_000_000.0

    def __call__(self) -> Now:
        try:
            mono = trio.current_time()
        except RuntimeError:
            mono = 0.0
        return Now(mono, mono + self.unix_offset)


def test_commands_reach_their_ports_in_order() -> None:
    commands = [Persist(Ticket(1), ()), CloseLink(LinkId(1)), Persist(Ticket(2), ()), Notify("joined", {})]
    driver = Driver(ScriptedCore(lambda event: commands), observe=lambda command, now: seen.append(command))
    seen: list[Command] = []
    driver.attach(seen.append, Persist, CloseLink)
    driver.start()
    assert seen == commands


def test_event_delivered_by_a_port_waits_until_the_commands_at_hand_are_out() -> None:
    order: list[str] = []

    def react(event: Event) -> list[Command]:
        order.append(type(event).__name__)
        return [Persist(Ticket(1), ()), CloseLink(LinkId(1))] if isinstance(event, Started) else []

    driver = Driver(ScriptedCore(react))

    def store(command: Persist) -> None:
        driver.deliver(Persisted(command.ticket))
        order.append("Persist")

    driver.attach(store, Persist)
    driver.attach(lambda command: order.append("CloseLink"), CloseLink)
    driver.start()
    assert order == ["Started", "Persist", "CloseLink", "Persisted"]


def test_two_ports_for_one_command_are_a_bug() -> None:
    driver = Driver(ScriptedCore())
    driver.attach(print, Persist)
    with pytest.raises(LocalMisuse):
        driver.attach(print, Persist)


async def test_timers_fire_at_the_deadline_and_move(autojump_clock: trio.testing.MockClock) -> None:
    core = ScriptedCore()
    clocks = Clocks()
    fired: list[float] = []

    def react(event: Event) -> list[Command]:
        if isinstance(event, TimerFired):
            fired.append(round(trio.current_time() - start, 6))
            core.deadline = trio.current_time() + 10 if len(fired) < 3 else None
        return []

    core.react = react
    driver = Driver(core, clocks=clocks)
    start = trio.current_time()
    core.deadline = start + 100
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        await trio.sleep(1)
        core.deadline = start + 5
        driver.deliver(LinkClosed(LinkId(1), "an event that brings the deadline forward"))
        await trio.sleep(1_000)
        nursery.cancel_scope.cancel()
    assert fired == [5, 15, 25]


async def test_core_that_stays_due_leaves_room_for_others(autojump_clock: trio.testing.MockClock) -> None:
    core = ScriptedCore()
    driver = Driver(core, clocks=Clocks())
    core.deadline = trio.current_time() - 50
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert 90 <= len(core.events) <= 110


def test_clock_jump_is_noted_once() -> None:
    clocks, noted = Clocks(), []
    driver = Driver(ScriptedCore(), clocks=clocks, observe=lambda command, now: noted.append(command))
    driver.start()
    clocks.unix_offset += 4.0  # slewed: nothing to say
    driver.deliver(TimerFired())
    clocks.unix_offset -= 3_600.0
    driver.deliver(TimerFired())
    driver.deliver(TimerFired())
    assert noted == [Notify("clock_jumped", {"seconds": -3_600.0})]


async def test_request_gets_its_result_or_its_refusal() -> None:
    def react(event: Event) -> list[Command]:
        if not isinstance(event, Requested):
            return []
        if event.method == "peers.ping":
            return [Respond(event.request, {"rtt": 1.0, **event.params})]
        return [Refuse(event.request, Code.NO_MESH, "Detail.")]

    driver = Driver(ScriptedCore(react))
    assert await driver.request("peers.ping", {"peer": "x"}) == {"rtt": 1.0, "peer": "x"}
    with pytest.raises(ControlError) as caught:
        await driver.request("mesh.leave", {})
    assert (caught.value.code, caught.value.detail) == (Code.NO_MESH, "Detail.")


async def test_cancelled_request_is_abandoned_and_a_late_answer_harmless() -> None:
    core = ScriptedCore()
    driver = Driver(core)
    with trio.move_on_after(0):
        await driver.request("mesh.join", {})
    assert [type(event) for event in core.events] == [Requested, RequestAbandoned]
    core.react = lambda event: [Respond(RequestId(1), {})]
    driver.deliver(TimerFired())


async def test_requests_are_bounded() -> None:
    driver = Driver(ScriptedCore())
    async with trio.open_nursery() as nursery:
        for _ in range(driver_module.MAX_REQUESTS):
            nursery.start_soon(driver.request, "mesh.join", {})
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ControlError) as caught:
            await driver.request("mesh.join", {})
        assert caught.value.code is Code.BUSY
        nursery.cancel_scope.cancel()


async def test_stopping_lets_the_core_speak_then_refuses_and_drops() -> None:
    core = ScriptedCore()
    driver = Driver(core)
    codes: list[Code] = []

    async def ask() -> None:
        with pytest.raises(ControlError) as caught:
            await driver.request("mesh.join", {})
        codes.append(caught.value.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        driver.stop()
    driver.deliver(LinkClosed(LinkId(1), "closed_by_peer"))
    driver.end()
    driver.deliver(LinkClosed(LinkId(2), "closed_by_peer"))
    await ask()
    assert codes == [Code.STOPPING, Code.STOPPING]
    assert [type(event) for event in core.events] == [Requested, Stopping, LinkClosed]


@pytest.mark.parametrize("fault", ["core", "port", "no port", "endless"])
async def test_crash_ends_the_daemon_and_refuses_who_waits(fault: str) -> None:
    def react(event: Event) -> list[Command]:
        if isinstance(event, Requested):
            return []
        if fault == "core":
            raise ZeroDivisionError("oh")
        return [CloseLink(LinkId(1)), Persist(Ticket(1), ())]

    def port(command: Any) -> None:
        if fault == "port":
            raise ZeroDivisionError("oh")
        if fault == "endless":
            for _ in range(driver_module.MAX_QUEUED_EVENTS + 1):
                driver.deliver(TimerFired())

    driver = Driver(ScriptedCore(react))
    driver.attach(port, CloseLink)
    if fault != "no port":
        driver.attach(port, Persist)
    failures: list[BaseException] = []
    refused: list[Code] = []

    async def run() -> None:
        with pytest.raises(CoreFailed) as caught:
            await driver.run()
        failures.append(caught.value.__cause__ or caught.value)

    async def ask() -> None:
        with pytest.raises(ControlError) as caught:
            await driver.request("mesh.join", {})
        refused.append(caught.value.code)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            driver.deliver(TimerFired())  # does not raise: the caller may be a callback of aiortc's
    assert isinstance(failures[0], ZeroDivisionError if fault in ("core", "port") else LocalMisuse)
    assert refused == [Code.INTERNAL_ERROR]
    assert driver.counters["core_failed"] == 1
