"""One timer for what many links do now and then."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

from meshd.links.ticks import Ticks

TICK = 0.02


class Client:
    """Notes the ticks at which it was called."""

    def __init__(self, due: float, then: Callable[[], None] = lambda: None) -> None:
        self.due = due
        self.calls: list[float] = []
        self._then = then

    def on_tick(self, now: float) -> None:
        self.due = math.inf
        self.calls.append(now)
        self._then()


def play(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(5):
            await work

    asyncio.run(limited())


async def called(*clients: Client) -> None:
    while not all(client.calls for client in clients):  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.001)


def test_what_is_due_within_a_tick_is_done_in_one_waking() -> None:
    async def work() -> None:
        ticks, tick = Ticks(TICK), math.ceil(asyncio.get_running_loop().time() / TICK) + 2
        clients = [Client((tick - 0.9 + part / 10) * TICK) for part in range(9)]
        for client in clients:
            ticks.add(client)
        await called(*clients)
        assert len({client.calls[0] for client in clients}) == 1

    play(work())


def test_what_becomes_due_sooner_is_done_sooner() -> None:
    async def work() -> None:
        ticks, now = Ticks(TICK), asyncio.get_running_loop().time()
        late, soon = Client(now + 3600), Client(now + 7200)
        ticks.add(late)
        ticks.add(soon)
        soon.due = now
        ticks.look(soon)
        await called(soon)
        assert not late.calls
        late.due = now
        ticks.look(late)
        await called(late)

    play(work())


def test_what_ends_during_a_tick_is_not_called_any_more() -> None:
    async def work() -> None:
        ticks, now = Ticks(TICK), asyncio.get_running_loop().time()
        second = Client(now)
        first = Client(now, then=lambda: ticks.remove(second))
        ticks.add(first)
        ticks.add(second)
        later = Client(now + 3 * TICK)
        ticks.add(later)
        await called(first, later)
        assert not second.calls
        ticks.remove(first)
        ticks.remove(later)
        assert len(ticks) == 0

    play(work())


def test_who_breaks_breaks_for_itself_alone_and_is_called_again() -> None:
    class Broken(Client):
        def on_tick(self, now: float) -> None:
            self.calls.append(now)
            raise ValueError("a fault")

    async def work() -> None:
        told: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: told.append(context["exception"]))
        ticks, now = Ticks(TICK), loop.time()
        broken, sound, later = Broken(now), Client(now), Client(now + 3 * TICK)
        for client in (broken, sound, later):
            ticks.add(client)
        await called(broken, sound, later)
        assert 1 < len(broken.calls) <= 1 + (later.calls[0] - broken.calls[0]) / TICK + 0.5, "once a tick"
        assert len(told) == len(broken.calls)
        ticks.remove(broken)

    play(work())
