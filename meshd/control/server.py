"""Serves the control socket: connections, their requests and subscriptions, and everything a client can do wrong.

A client that closes its end cancels what it started. One that only stops sending (``printf … | socat``) still gets
its answers. Nothing a client does ends more than its own connection.
"""

from __future__ import annotations

import errno
from collections import Counter

import structlog
import trio

from meshd.control.access import Access, credentials_of, is_trusted, permission_of
from meshd.control.backend import Backend, Caller
from meshd.control.connection import Connection, description_of, failure_line
from meshd.control.methods import ADMIN
from meshd.errors import Code, ControlError

# Policy
MAX_CONNECTIONS = 128
RESERVED_CONNECTIONS = 32  # of these, for root and our own user: nobody can lock the administrator out
MAX_USER_CONNECTIONS = 48  # of one other user, so that none can lock the others out
ACCEPT_PAUSE_INTERVAL = 0.1  # seconds to wait when the process is out of file descriptors
FAREWELL_TIMEOUT = 1.0  # seconds to get one last line to a client that is turned away

_log = structlog.get_logger("meshd.control")

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}


async def serve(
    listeners: list[trio.SocketListener],
    backend: Backend,
    access: Access = Access(),  # noqa: B008  (frozen)
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. Closes the listeners and every connection on the way out; never raises for a client."""
    server = _Server(backend, access)
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(server.accept, listener, nursery)
        task_status.started()


class _Server:
    def __init__(self, backend: Backend, access: Access) -> None:
        self._backend = backend
        self._access = access
        self._users: Counter[int] = Counter()  # connections by uid

    async def accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except trio.ClosedResourceError:
                    return
                except OSError as error:
                    if error.errno not in _OUT_OF_RESOURCES:
                        raise
                    _log.warning("control_accept_failed", error=error.strerror)
                    await trio.sleep(ACCEPT_PAUSE_INTERVAL)
                    continue
                nursery.start_soon(self._attend, stream)

    async def _attend(self, stream: trio.SocketStream) -> None:
        async with stream:
            pid, uid, gid = credentials_of(stream)
            self._users[uid] += 1
            try:
                if self._is_full(uid):
                    await _turn_away(stream)
                    return
                if is_trusted(uid):
                    permission = ADMIN
                else:
                    permission = await trio.to_thread.run_sync(permission_of, uid, gid, self._access)
                await Connection(stream, self._backend, Caller(pid, uid, gid, permission)).run()
            except Exception as error:  # a bug: it may cost this connection, not the daemon
                _log.error("control_connection_failed", **description_of(error))
            finally:
                self._users[uid] -= 1
                self._users += Counter()  # forgets users without connections

    def _is_full(self, uid: int) -> bool:
        if is_trusted(uid):
            return self._users.total() > MAX_CONNECTIONS
        others = sum(count for user, count in self._users.items() if not is_trusted(user))
        return self._users[uid] > MAX_USER_CONNECTIONS or others > MAX_CONNECTIONS - RESERVED_CONNECTIONS


async def _turn_away(stream: trio.SocketStream) -> None:
    with trio.move_on_after(FAREWELL_TIMEOUT):
        try:
            await stream.send_all(failure_line(None, ControlError(Code.BUSY, "Too many connections are open.")))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # gone already
