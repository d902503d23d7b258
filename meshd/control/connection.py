"""One client: its requests side by side, its subscriptions, and the ways it can go away."""

from __future__ import annotations

import select
import traceback
from collections import deque
from typing import Any

import structlog
import trio

from meshd.control import jsonrpc
from meshd.control.access import allows
from meshd.control.backend import Backend, Caller
from meshd.control.methods import HELLO, LAGGED, PROTOCOL, Method
from meshd.control.parameters import check_params, find_method
from meshd.control.passing import Passed, PassedReader, close_all, receive, the_one
from meshd.control.watchers import Watcher
from meshd.errors import Code, ControlError

# Policy
MAX_REQUESTS_IN_FLIGHT = 8  # on one connection; a further one is answered BUSY, so that reading never stops
MAX_RECEIVE_SIZE = 65_536  # bytes at a time
LAGGED_TIMEOUT = 2.0  # seconds in which a slow watcher can still fetch the line that says so
HANGUP_CHECK_INTERVAL = 0.05  # seconds; only while a client that stopped sending still waits for something

_log = structlog.get_logger("meshd.control")


class Connection:
    """Serves one stream until the client is gone. The owner closes the stream."""

    def __init__(self, stream: trio.SocketStream, backend: Backend, caller: Caller) -> None:
        self._stream = stream
        self._backend = backend
        self._caller = caller
        self._sending = trio.Lock()
        self._in_flight = 0
        self._watched: set[str] = set()  # methods

    async def run(self) -> None:
        """Returns when the client is gone, or was too slow. Cancels what it left running."""
        version, peer_id = self._backend.identity()
        hello = {"protocol": PROTOCOL, "version": version, "peer_id": peer_id}
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self._send(jsonrpc.encode_notification(HELLO.name, hello))
            await self._read()
            await self._finish()
            nursery.cancel_scope.cancel()

    async def _read(self) -> None:
        reader = PassedReader()
        try:
            while True:
                try:
                    data, passed = await receive(self._stream, MAX_RECEIVE_SIZE)
                except (OSError, trio.ClosedResourceError):
                    return
                # A last line may lack its newline: so it is with printf and a pipe.
                await self._handle_all(deque(reader.feed(data or b"\n", passed)))
                if not data:
                    return
        finally:
            reader.close()

    async def _handle_all(self, items: deque[tuple[jsonrpc.Item, list[Passed]]]) -> None:
        try:
            while items:
                await self._handle(*items.popleft())
        finally:
            for _, passed in items:
                close_all(passed)

    async def _finish(self) -> None:
        """After the end of input: wait for answers and subscriptions unless the client is gone altogether."""
        poll = select.poll()
        poll.register(self._stream.socket.fileno(), 0)  # POLLHUP and POLLERR are always told
        while (self._in_flight or self._watched) and not poll.poll(0):  # noqa: ASYNC110  (no event tells of a hangup)
            await trio.sleep(HANGUP_CHECK_INTERVAL)

    async def _handle(self, item: jsonrpc.Item, passed: list[Passed]) -> None:
        if isinstance(item, jsonrpc.Request) and self._in_flight < MAX_REQUESTS_IN_FLIGHT:
            self._in_flight += 1
            self._nursery.start_soon(self._serve, item, passed)
            return
        close_all(passed)
        if isinstance(item, jsonrpc.Malformed):
            await self._send(failure_line(item.key, ControlError(Code[item.symbol.upper()], item.detail)))
        elif isinstance(item, jsonrpc.Request):
            full = ControlError(Code.BUSY, f"{MAX_REQUESTS_IN_FLIGHT} requests of this connection are running.")
            await self._send(failure_line(item.key, full))
        # The rest wants no answer: section 4.1 forbids one to a notification, and we ask clients nothing.

    async def _serve(self, request: jsonrpc.Request, passed: list[Passed]) -> None:
        try:
            try:
                line = await self._answer(request, passed)
            finally:
                close_all(passed)
            if line:
                await self._send(line)
        finally:
            self._in_flight -= 1  # not before the answer has left: a client that does not read is held up here

    async def _answer(self, request: jsonrpc.Request, passed: list[Passed]) -> bytes:
        """The line to send; empty if a subscription sends it itself. Nothing that the backend raises gets past here."""
        try:
            method = find_method(request.method)
            if not allows(self._caller.permission, method.permission):
                raise ControlError(
                    Code.PERMISSION_DENIED,
                    f"{method.name} needs {method.permission} permission; user {self._caller.uid} may only "
                    f"{self._caller.permission}. Groups decide that: see [control] in the daemon's configuration.",
                )
            params = check_params(method, request.params)
            if method.notices:
                self._subscribe(request.key, method, params)
                return b""
            if method.descriptor:
                descriptor = the_one(method.name, method.descriptor, passed)
                result = await self._backend.call(method.name, params, self._caller, descriptor)
            else:
                close_all(passed)
                result = await self._backend.call(method.name, params, self._caller)
            return jsonrpc.encode_answer(request.key, result)
        except Exception as error:
            known = _control_error_in(error)
            if known is None:
                _log.error("control_call_failed", method=request.method[:64], **description_of(error))
                known = ControlError(Code.INTERNAL_ERROR)
            return failure_line(request.key, known)

    def _subscribe(self, key: jsonrpc.RequestKey, method: Method, params: dict[str, Any]) -> None:
        if method.name in self._watched:
            raise ControlError(Code.INVALID_REQUEST, f"This connection has {method.name} already.")
        watcher = Watcher(method.name)
        result = self._backend.watch(method.name, params, self._caller, watcher)
        watcher.snapshot_done()
        self._watched.add(method.name)
        self._nursery.start_soon(self._feed, watcher, key, result)
        self._nursery.start_soon(self._close_if_lagged, watcher)

    async def _feed(self, watcher: Watcher, key: jsonrpc.RequestKey, result: dict[str, Any]) -> None:
        try:
            line: bytes | None = jsonrpc.encode_answer(key, result)
            while line is not None:
                await self._send(line)
                line = await watcher.take()
            await self._send(jsonrpc.encode_notification(LAGGED.name, {"method": watcher.method}))
            self._nursery.cancel_scope.cancel()
        finally:
            watcher.close()
            self._backend.unwatch(watcher)

    async def _close_if_lagged(self, watcher: Watcher) -> None:
        await watcher.lagged.wait()
        await trio.sleep(LAGGED_TIMEOUT)
        self._nursery.cancel_scope.cancel()

    async def _send(self, line: bytes) -> None:
        async with self._sending:
            try:
                await self._stream.send_all(line)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._nursery.cancel_scope.cancel()


def failure_line(key: jsonrpc.RequestKey, error: ControlError) -> bytes:
    """The answer that says what went wrong."""
    code = error.code
    data = {"symbol": code.symbol, "detail": error.detail, "exit_status": code.value.exit_status}
    return jsonrpc.encode_failure(key, code.value.number, str(error), data)


def description_of(error: BaseException) -> dict[str, Any]:
    """Fields for the log. Not the exception's text: it may hold what a caller sent, and that may be secret."""
    frames = traceback.extract_tb(error.__traceback__)
    trace = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": type(error).__name__, "trace": trace}


def _control_error_in(error: BaseException) -> ControlError | None:
    """The one ControlError an exception is, or wraps in the groups that nurseries make."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, ControlError) else None
