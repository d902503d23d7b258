"""How trio, as a guest, waits for what comes next: on the host's loop, without a thread.

Upstream (trio 0.35) has a thread wait for trio's epoll and tell the loop. So before a request is read, or a task goes
on that a link has woken, two threads change places, and each waits for the interpreter's lock: 0.2 ms on an idle
machine, and in a busy process up to the 5 ms after which Python lets go of the lock. But an epoll is itself a
descriptor that a loop can watch, and a deadline is a timer.
"""

from __future__ import annotations

import asyncio
import math
import os

from outcome import Error, capture
from sniffio import thread_local as sniffio_library
from trio import TrioInternalError
from trio._core import _run as upstream

# Policy
TIMER_RESOLUTION = 0.001  # seconds; the loop's timers count milliseconds, and one that is early comes for nothing


class LoopGuest(upstream.GuestState):
    """What takes trio's steps. Called on the loop."""

    _descriptor = -1  # of trio's epoll, a copy of our own: trio closes its own before it says that it has ended
    _timer: asyncio.TimerHandle | None = None
    _timer_at = 0.0
    _deadline = 0.0
    _is_waiting = False

    def guest_tick(self) -> None:
        """Take one step, and see to it that the next one follows. Upstream's words, but for how it waits."""
        before, sniffio_library.name = sniffio_library.name, "trio"
        try:
            timeout = self.unrolled_run_next_send.send(self.unrolled_run_gen)
        except StopIteration:
            self._end()
            assert self.runner.main_task_outcome is not None
            self.done_callback(self.runner.main_task_outcome)
            return
        except TrioInternalError as error:
            self._end()
            self.done_callback(Error(error))
            return
        finally:
            sniffio_library.name = before
        events = capture(self.runner.io_manager.get_events, 0)
        if timeout <= 0 or isinstance(events, Error) or events.value:
            self.unrolled_run_next_send = events
            self.runner.guest_tick_scheduled = True
            self.run_sync_soon_not_threadsafe(self.guest_tick)
        else:
            self.runner.guest_tick_scheduled = False
            self._wait(timeout)

    def _wait(self, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        if self._descriptor < 0:
            # Watched all the time: whenever there is something while nobody waits, the next step is near.
            self._descriptor = os.dup(self.runner.io_manager._epoll.fileno())
            loop.add_reader(self._descriptor, self._on_event)
        self._is_waiting = True
        self._deadline = loop.time() + timeout
        if self._timer is None or self._deadline < self._timer_at:
            self._arm(loop, timeout)

    def _arm(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        """One timer, moved only if it would come too late: one that comes early looks again."""
        if self._timer is not None:
            self._timer.cancel()
        timeout = math.ceil(timeout / TIMER_RESOLUTION) * TIMER_RESOLUTION
        self._timer_at = loop.time() + timeout
        self._timer = loop.call_later(timeout, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._is_waiting:
            loop = asyncio.get_running_loop()
            left = self._deadline - loop.time()
            if left > 0:
                self._arm(loop, left)
            else:
                self._on_event()

    def _on_event(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self.unrolled_run_next_send = capture(self.runner.io_manager.get_events, 0)
            self.runner.guest_tick_scheduled = True
            self.guest_tick()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)


def wait_on_the_loop() -> None:
    """Have guest runs that start from now on wait so."""
    upstream.GuestState = LoopGuest  # type: ignore[misc]  # there is no other way to have ours started
