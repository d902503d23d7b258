"""The one place where the core meets the world: events and the time in, commands out to their ports.

``deliver`` is synchronous and may be called from anywhere on the loops' thread: from a trio task, from a callback of
aiortc's, and from within a port's ``submit`` (then the event waits until the commands at hand are handed out).

A crash inside the core ends the daemon. Its state in memory may be half changed by then, and a node that carries on
like that can promise what it has not stored. The durable state is whole by construction, a start takes half a second,
and systemd restarts the service: so failing fast loses least. The traceback is in the log.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Protocol

import structlog
import trio

from meshd.core.commands import Command, DeliverMessage, Notify, Refuse, Respond
from meshd.core.events import Event, RequestAbandoned, Requested, Started, Stopping, TimerFired
from meshd.errors import Code, ControlError, LocalMisuse, MeshError
from meshd.ids import Now, RequestId

# Policy
MAX_REQUESTS = 256  # of the control socket, waiting for the core: more than it has clients
MAX_QUEUED_EVENTS = 10_000  # delivered while commands are handed out; beyond that, core and port chase each other
MAX_CLOCK_DRIFT = 5.0  # seconds between the two clocks' advances; NTP slews far less, envelopes tolerate more
SLOW_HANDLING = 0.25  # seconds in one handle() that deserve a log line: heartbeats are late by then
LAST_WORDS_TIMEOUT = 0.1  # seconds between refusing who waits and the end, so that the refusals get out
SHORTEST_SLEEP = 0.001  # seconds; a core that never gets past a deadline costs a thousand events a second, not a CPU
LONGEST_SLEEP = 3_600.0  # seconds; keeps arithmetic on deadlines far away sane

_log = structlog.get_logger("driver")


class Core(Protocol):
    """What the driver needs of ``meshd.core.node.Node``."""

    def handle(self, event: Event, now: Now) -> list[Command]:
        """Take an event, give what is to be done."""

    def next_deadline(self) -> float | None:
        """When, by the monotonic clock, the core wants a ``TimerFired``; None: not at all."""


class CoreFailed(MeshError):
    """The core or a port raised. A bug; the daemon must end."""


def read_clocks() -> Now:
    """Both clocks of this machine."""
    return Now(time.monotonic(), time.time())


class _Pending:
    """A request that waits for its answer."""

    __slots__ = ("answer", "answered")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.answer: Respond | Refuse | None = None


class Driver:
    """Owns the core. ``clocks`` is read once for each event. ``observe`` gets each Notify and DeliverMessage."""

    def __init__(
        self,
        core: Core,
        *,
        clocks: Callable[[], Now] = read_clocks,
        observe: Callable[[Notify | DeliverMessage, Now], None] = lambda _command, _now: None,
        trace: bool = False,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.trace = trace  # whether each event and command goes to the debug log
        self._core = core
        self._clocks = clocks
        self._observe = observe
        self._ports: dict[type[Command], Callable[[Any], None]] = {}
        self._queue: deque[Event] = deque()
        self._handling = False
        self._stopping = False
        self._ended = False
        self._failure: BaseException | None = None
        self._armed: float | None = None  # the deadline that run() sleeps towards
        self._rearm = trio.Event()
        self._requests: dict[RequestId, _Pending] = {}
        self._last_request = 0
        now = clocks()
        self._offset = now.unix - now.mono

    def attach(self, submit: Callable[[Any], None], *commands: type[Command]) -> None:
        """Hand commands of these types to ``submit``, which must not wait."""
        for command in commands:
            if command in self._ports:
                raise LocalMisuse(f"{command.__name__} has a port already")
            self._ports[command] = submit

    # -- events in, commands out --------------------------------------------------------------------------------------

    def deliver(self, event: Event) -> None:
        """Give the core an event. Never waits, never raises: a crash is kept for ``run`` to raise."""
        if self._ended:
            return
        self._queue.append(event)
        if self._handling:
            if len(self._queue) > MAX_QUEUED_EVENTS:
                self._fail(LocalMisuse(f"more than {MAX_QUEUED_EVENTS} events while handing out commands"))
            return
        self._handling = True
        try:
            while self._queue and not self._ended:
                self._handle(self._queue.popleft())
            self._arm()
        except Exception as error:
            self._fail(error)
        finally:
            self._handling = False

    def _handle(self, event: Event) -> None:
        now = self._clocks()
        self._watch_clocks(now)
        if self.trace:
            _log.debug("event", kind=type(event).__name__, detail=event)
        self.counters["events"] += 1
        commands = self._core.handle(event, now)
        if (spent := self._clocks().mono - now.mono) > SLOW_HANDLING:
            _log.warning("slow_handling", kind=type(event).__name__, seconds=round(spent, 3))
        for command in commands:
            if self.trace:
                _log.debug("command", kind=type(command).__name__, detail=command)
            self._hand_out(command, now)

    def _hand_out(self, command: Command, now: Now) -> None:
        if isinstance(command, Notify | DeliverMessage):
            self._observe(command, now)
        elif isinstance(command, Respond | Refuse):
            if pending := self._requests.pop(command.request, None):  # else: abandoned a moment ago
                pending.answer = command
                pending.answered.set()
        elif submit := self._ports.get(type(command)):
            submit(command)
        else:
            raise LocalMisuse(f"no port takes {type(command).__name__}")

    def _watch_clocks(self, now: Now) -> None:
        offset = now.unix - now.mono
        jump = offset - self._offset
        self._offset = offset
        if abs(jump) > MAX_CLOCK_DRIFT:
            # set by hand or by NTP after a long time off; or the machine slept, when the monotonic clock stands still
            self.counters["clock_jumped"] += 1
            self._observe(Notify("clock_jumped", {"seconds": round(jump, 3)}), now)

    def _fail(self, error: BaseException) -> None:
        self.counters["core_failed"] += 1
        _log.critical("core_failed", error=type(error).__name__, exc_info=error)
        self._failure = error
        self.end(Code.INTERNAL_ERROR)
        self._rearm.set()

    # -- time ---------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        deadline = self._core.next_deadline()
        if deadline is not None and (self._armed is None or deadline < self._armed):
            self._rearm.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fire the core's timers until cancelled. Raises CoreFailed if the core or a port has raised."""
        task_status.started()
        while True:
            if self._failure is not None:
                await trio.sleep(LAST_WORDS_TIMEOUT)
                raise CoreFailed("the core failed; see core_failed in the log") from self._failure
            self._rearm = trio.Event()
            self._armed = None if self._ended else self._core.next_deadline()
            delay = LONGEST_SLEEP if self._armed is None else self._armed - self._clocks().mono
            with trio.move_on_after(min(max(delay, SHORTEST_SLEEP), LONGEST_SLEEP)):
                await self._rearm.wait()
                continue
            if self._armed is not None:
                self.deliver(TimerFired())

    # -- the daemon's life --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """All ports are there."""
        self.deliver(Started())

    def stop(self) -> None:
        """Let the core say goodbye; requests that wait, and later ones, are refused. Events are taken until ``end``."""
        self._stopping = True
        self.deliver(Stopping())
        self._refuse_all(Code.STOPPING)

    def end(self, code: Code = Code.STOPPING) -> None:
        """From now on events are dropped: ports that are being closed may deliver what they like."""
        self._ended = True
        self._queue.clear()
        self._refuse_all(code)

    # -- requests -----------------------------------------------------------------------------------------------------

    async def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Have the core carry out a request; its result. Raises ControlError. Cancelling it abandons the request."""
        if self._stopping or self._ended:
            raise ControlError(Code.STOPPING)
        if len(self._requests) >= MAX_REQUESTS:
            raise ControlError(Code.BUSY, f"{MAX_REQUESTS} requests are waiting already.")
        self._last_request += 1
        request = RequestId(self._last_request)
        pending = self._requests[request] = _Pending()
        self.deliver(Requested(request, method, params))
        try:
            await pending.answered.wait()
        finally:
            if self._requests.pop(request, None):
                self.deliver(RequestAbandoned(request))
        match pending.answer:
            case Respond(result=result):
                return result
            case Refuse(code=code, detail=detail):
                raise ControlError(code, detail)
            case None:
                raise LocalMisuse("a request was answered with nothing")

    def _refuse_all(self, code: Code) -> None:
        waiting, self._requests = self._requests, {}
        for request, pending in waiting.items():
            pending.answer = Refuse(request, code)
            pending.answered.set()
