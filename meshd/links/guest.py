"""trio as a guest on asyncio's loop: both on one thread, so that a packet never waits for a hop between loops.

aiortc needs asyncio, everything else here is trio. In guest mode trio runs inside callbacks of uvloop's loop, therefore
aiortc's callbacks may call straight into the driver, and ``asyncio.get_running_loop()`` works inside trio tasks.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import outcome
import trio
import uvloop

from meshd.errors import MeshError
from meshd.links.guest_ticks import wait_on_the_loop

# Policy
FAREWELL_TIMEOUT = 2.0  # asyncio tasks left behind by trio's main get this long to end once they are cancelled

T = TypeVar("T")
OnStray = Callable[[BaseException | None, dict[str, Any]], None]


class TaskAbandoned(MeshError):
    """The asyncio side cancelled a task that trio was waiting for."""


class Tasks:
    """asyncio tasks under a name, held until they end: the loop itself keeps only weak references to tasks.

    A task that fails tells ``on_failure``, at once and not when the garbage collector happens to find it.
    """

    def __init__(self, on_failure: Callable[[BaseException, str], None]) -> None:
        self._held: set[asyncio.Task[Any]] = set()
        self._on_failure = on_failure

    def __len__(self) -> int:
        return len(self._held)

    def start(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run ``coroutine`` on the loop of this thread."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._held.add(task)
        task.add_done_callback(self._ended)
        return task

    async def end(self, timeout: float) -> None:
        """Wait for all of them to end; cancel those that have not after ``timeout`` seconds."""
        if self._held:
            _, late = await asyncio.wait(self._held, timeout=timeout)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=timeout)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._held.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error, task.get_name())


def run(async_fn: Callable[..., Awaitable[T]], *args: object, on_stray: OnStray | None = None) -> T:
    """Run trio's ``async_fn(*args)`` as a guest on a fresh uvloop; returns or raises what it does.

    ``on_stray(exception, context)`` gets what asyncio would otherwise print: exceptions of callbacks, and of tasks that
    nobody awaited. ``context`` is asyncio's own dictionary (``message``, ``task``, …), ``exception`` may be None.
    """
    loop = uvloop.new_event_loop()
    if on_stray is not None:
        tell = on_stray
        loop.set_exception_handler(lambda _loop, context: tell(context.get("exception"), context))
    try:
        asyncio.set_event_loop(loop)  # aiortc still calls asyncio.get_event_loop() in places
        return loop.run_until_complete(_host(async_fn, args)).unwrap()
    finally:
        try:
            loop.run_until_complete(_dismiss_tasks())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _host(async_fn: Callable[..., Awaitable[T]], args: tuple[object, ...]) -> outcome.Outcome[T]:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[outcome.Outcome[T]] = loop.create_future()
    # One empty context for all ticks: whoever woke trio, a callback of aiortc's say, must not lend it theirs.
    context = contextvars.Context()
    wait_on_the_loop()
    trio.lowlevel.start_guest_run(
        async_fn,
        *args,
        run_sync_soon_threadsafe=lambda fn: loop.call_soon_threadsafe(fn, context=context),
        run_sync_soon_not_threadsafe=lambda fn: loop.call_soon(fn, context=context),
        done_callback=ended.set_result,
        # uvloop owns the wakeup file descriptor of the main thread; were trio to take it, uvloop would not see signals.
        host_uses_signal_set_wakeup_fd=threading.current_thread() is threading.main_thread(),
    )
    return await ended


async def _dismiss_tasks() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=FAREWELL_TIMEOUT)


async def from_asyncio(coroutine: Coroutine[Any, Any, T], name: str = "from-trio") -> T:
    """Await an asyncio coroutine from trio; it runs as an asyncio task called ``name``.

    Cancelling the trio side cancels the task and waits until it has ended (a task that finishes all the same wins).
    A task cancelled from the asyncio side raises ``TaskAbandoned`` here, since trio knows no such thing.
    """
    waiting = trio.lowlevel.current_task()
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    raise_cancelled: Callable[[], None] | None = None

    def finished(ended: asyncio.Task[T]) -> None:
        if not ended.cancelled():
            trio.lowlevel.reschedule(waiting, outcome.capture(ended.result))
        elif raise_cancelled is not None:
            trio.lowlevel.reschedule(waiting, outcome.capture(raise_cancelled))
        else:
            trio.lowlevel.reschedule(waiting, outcome.Error(TaskAbandoned(f"the asyncio task {name} was cancelled")))

    def abort(raise_cancel: Callable[[], None]) -> trio.lowlevel.Abort:
        nonlocal raise_cancelled
        raise_cancelled = raise_cancel
        task.cancel()
        return trio.lowlevel.Abort.FAILED  # not yet: the task has its own cleaning up to do first

    task.add_done_callback(finished)
    result: T = await trio.lowlevel.wait_task_rescheduled(abort)
    return result


async def both_loops_turn(timeout: float) -> bool:
    """Whether asyncio's timers and callbacks and trio's scheduler all got a turn within ``timeout`` seconds.

    For the watchdog. Called from trio: that asyncio's task ran *and* this trio task was woken is the proof.
    """

    async def pulse() -> None:
        await asyncio.sleep(0.001)  # a timer, not just a callback: both must work

    with trio.move_on_after(timeout):
        await from_asyncio(pulse(), "loop-pulse")
        return True
    return False
