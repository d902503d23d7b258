from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest
import trio

from meshd.links.guest import TaskAbandoned, Tasks, both_loops_turn, from_asyncio, run


def test_returns_what_trio_returns_and_raises_what_it_raises():
    async def main(value: int) -> int:
        await trio.lowlevel.checkpoint()
        return value + 1

    assert run(main, 41) == 42

    async def fail() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        run(fail)


def test_trio_works_in_full_threads_and_sockets():
    async def main() -> tuple[bool, bytes]:
        other = await trio.to_thread.run_sync(lambda: threading.current_thread() is not threading.main_thread())
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        address = listeners[0].socket.getsockname()

        async def answer(stream: trio.SocketStream) -> None:
            await stream.send_all((await stream.receive_some()).upper())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, answer, listeners)
            async with await trio.open_tcp_stream(*address) as stream:
                await stream.send_all(b"hello")
                text = bytes(await stream.receive_some())
            nursery.cancel_scope.cancel()
        return other, text

    assert run(main) == (True, b"HELLO")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_trio(number):
    async def main() -> int:
        with trio.fail_after(5), trio.open_signal_receiver(number) as received:
            os.kill(os.getpid(), number)
            async for got in received:
                return got
        raise AssertionError

    before = signal.getsignal(number)
    assert run(main) == number
    assert signal.getsignal(number) is before


def test_an_interrupt_ends_trio_in_order():
    steps = []

    async def main() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep(5)
        finally:
            steps.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert steps == ["cleaned up"]


def test_from_asyncio_gives_results_and_errors():
    async def work(fail: bool) -> str:
        await asyncio.sleep(0.001)
        if fail:
            raise LookupError("asyncio failed")
        return "done"

    async def main() -> str:
        with pytest.raises(LookupError, match="asyncio failed"):
            await from_asyncio(work(True))
        return await from_asyncio(work(False))

    assert run(main) == "done"


def test_cancelling_in_trio_cancels_the_task_and_waits_for_its_end():
    steps = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.005)
            steps.append("cleaned up")
            raise

    async def main() -> None:
        with trio.move_on_after(0.01) as scope:
            await from_asyncio(work())
        assert scope.cancelled_caught
        steps.append("went on")

    run(main)
    assert steps == ["cleaned up", "went on"]


def test_cancelling_in_asyncio_is_an_error_in_trio():
    async def work() -> None:
        asyncio.current_task().cancel()
        await asyncio.sleep(60)

    async def main() -> None:
        with pytest.raises(TaskAbandoned):
            await from_asyncio(work(), "tired")

    run(main)


def test_stray_exceptions_go_to_the_callback():
    strays = []

    async def main() -> None:
        seen = trio.Event()

        def fail() -> None:
            asyncio.get_running_loop().call_soon(seen.set)
            raise LookupError("stray")

        asyncio.get_running_loop().call_soon(fail)
        await seen.wait()

    run(main, on_stray=lambda error, context: strays.append((error, context["message"])))
    [(error, message)] = strays
    assert isinstance(error, LookupError)
    assert "fail" in message


def test_tasks_are_named_held_and_their_failures_told_at_once():
    failures = []

    async def main() -> None:
        told = trio.Event()

        def tell(error: BaseException, name: str) -> None:
            failures.append((repr(error), name))
            told.set()

        async def fail() -> None:
            await asyncio.sleep(0)
            raise LookupError("task")

        tasks = Tasks(tell)
        task = tasks.start(fail(), "link-7")
        assert task.get_name() == "link-7"
        assert len(tasks) == 1
        with trio.fail_after(5):
            await told.wait()
        assert len(tasks) == 0

    run(main)
    assert failures == [("LookupError('task')", "link-7")]


def test_tasks_left_behind_are_cancelled_at_the_end():
    ended = []

    async def linger() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def main() -> None:
        tasks = Tasks(lambda error, name: None)
        tasks.start(linger(), "linger")
        await trio.sleep(0.001)

    run(main)
    assert ended == [True]


def test_the_pulse_shows_both_loops_turning():
    async def main() -> tuple[bool, bool]:
        return await both_loops_turn(5.0), await both_loops_turn(0.0)

    assert run(main) == (True, False)


def test_waiting_takes_no_thread_and_leaves_nothing():
    """Upstream waits in a thread of its own, which has to get the interpreter's lock before anything goes on."""
    before = len(os.listdir("/proc/self/fd"))

    async def main() -> list[str]:
        threads: list[str] = []
        ours, theirs = trio.socket.socketpair()
        woken = trio.Event()
        with ours, theirs, trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(theirs.recv, 10)
                await trio.sleep(0.002)
                await ours.send(b"hello")
            asyncio.get_running_loop().call_later(0.002, woken.set)
            await woken.wait()
            threads = [thread.name for thread in threading.enumerate()]
        return threads

    known = {thread.name for thread in threading.enumerate()}
    assert set(run(main)) <= known
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_nearer_deadline_is_kept_and_a_later_one_not_before_its_time():
    async def main() -> list[float]:
        late: list[float] = []

        async def sleep(seconds: float) -> None:
            began = trio.current_time()
            await trio.sleep(seconds)
            late.append(trio.current_time() - began - seconds)

        with trio.move_on_after(60), trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for seconds in (0.05, 0.0101, 0.02, 0.0004):
                    nursery.start_soon(sleep, seconds)
                await trio.sleep(0.005)
                nursery.start_soon(sleep, 0.001)
        return late

    late = run(main)
    assert len(late) == 5
    assert min(late) >= 0
    assert max(late) < 5
