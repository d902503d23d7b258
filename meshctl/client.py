"""The other end of the control socket: finds it, connects, calls, and takes notifications. Blocking, plain sockets."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from meshd import VERSION
from meshd.control import jsonrpc

# Policy
CONNECT_PATIENCE = 2.0  # seconds to wait for a daemon that is just starting
CONNECT_INTERVAL = 0.05  # seconds between tries
HELLO_TIMEOUT = 10.0  # seconds; with socket activation the daemon starts only now
ANSWER_TIMEOUT = 30.0  # seconds beyond what the call itself may take
MAX_NOTICES_HELD = 100_000  # notifications that came while an answer was awaited: more than a full inbox
SYSTEM_SOCKET = "/run/meshd/meshd.sock"


class UnreachableError(Exception):
    """There is no daemon to talk to. The text says what to do. Exit status 3."""


class RefusedError(Exception):
    """The daemon answered with an error."""

    def __init__(self, code: int, message: str, data: dict[str, Any]) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    @property
    def exit_status(self) -> int:
        """What the daemon's table of errors says, if that makes sense; otherwise 1."""
        status = self.data.get("exit_status")
        return status if status in (1, 2, 3) else 1


def find_socket() -> str:
    """``$MESHD_SOCKET``, else the user's own daemon if it has a socket, else the system's."""
    if chosen := os.environ.get("MESHD_SOCKET"):
        return chosen
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        own = os.path.join(runtime, "meshd", "meshd.sock")
        if os.path.exists(own):
            return own
    return SYSTEM_SOCKET


class Client:
    """Connects at the first call. Every method raises UnreachableError, and RefusedError where the daemon says no."""

    def __init__(self, path: str | None = None, patience: float = CONNECT_PATIENCE) -> None:
        self.path = path or find_socket()
        self.version = ""  # of the daemon, once connected
        self._patience = patience
        self._socket: socket.socket | None = None
        self._reader = jsonrpc.LineReader(jsonrpc.MAX_ANSWER_SIZE)
        self._items: deque[jsonrpc.Item] = deque()
        self._notices: deque[jsonrpc.Notification] = deque()
        self._calls = 0

    def connect(self) -> None:
        """Connect now; nothing if that is done. Warns of another version by what ``version`` then holds."""
        if self._socket:
            return
        self._socket = self._open()
        hello = self._next(HELLO_TIMEOUT)
        if isinstance(hello, jsonrpc.Failure):
            raise RefusedError(hello.code, hello.message, hello.data)
        if not isinstance(hello, jsonrpc.Notification) or hello.method != "hello":
            raise UnreachableError(f"What answers at {self.path} is not meshd.")
        if hello.params.get("protocol") != jsonrpc.PROTOCOL:
            text = (
                f"The daemon speaks protocol {hello.params.get('protocol')!a}, this meshctl {jsonrpc.PROTOCOL}. "
                "Use the meshctl that came with it, or restart the daemon after an upgrade."
            )
            raise RefusedError(0, text, {"symbol": "protocol_skew", "detail": text, "exit_status": 1})
        self.version = str(hello.params.get("version"))

    def is_skewed(self) -> bool:
        """Whether the daemon is of another version than this program."""
        return self.version not in ("", VERSION)

    def call(
        self,
        method: str,
        params: dict[str, Any],
        duration: float | None = 0.0,
        on_notice: Callable[[jsonrpc.Notification], None] | None = None,
        descriptor: int | None = None,
    ) -> dict[str, Any]:
        """The result. ``duration`` is how long the call may rightly take, in seconds; None: for ever.

        ``descriptor`` is passed along; the caller's own copy stays open.
        """
        self.connect()
        self._calls += 1
        self._send(jsonrpc.encode_request(self._calls, method, params), descriptor)
        deadline = None if duration is None else time.monotonic() + duration + ANSWER_TIMEOUT
        while True:
            item = self._next(None if deadline is None else max(0.001, deadline - time.monotonic()))
            if isinstance(item, jsonrpc.Notification):
                if on_notice:
                    on_notice(item)
                elif len(self._notices) < MAX_NOTICES_HELD:
                    self._notices.append(item)
            elif isinstance(item, jsonrpc.Answer) and item.key == self._calls and isinstance(item.result, dict):
                return item.result
            elif isinstance(item, jsonrpc.Failure) and item.key == self._calls:
                raise RefusedError(item.code, item.message, item.data)
            else:
                raise UnreachableError(f"The daemon at {self.path} sent something that makes no sense.")

    def notice(self) -> jsonrpc.Notification:
        """Wait for the next notification, for ever."""
        while not self._notices:
            item = self._next(None)
            if isinstance(item, jsonrpc.Notification):
                self._notices.append(item)
        notice = self._notices.popleft()
        if notice.method == "lagged":
            text = "The daemon sent faster than this could read, and has closed the connection. Start again."
            raise RefusedError(-32026, text, {"symbol": "lagged", "detail": "", "exit_status": 1})
        return notice

    def close(self) -> None:
        """Hang up; what is still running is cancelled by the daemon."""
        if self._socket:
            self._socket.close()

    def _open(self) -> socket.socket:
        give_up = time.monotonic() + self._patience
        while True:
            attempt = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            attempt.settimeout(CONNECT_PATIENCE)
            try:
                attempt.connect(self.path)
            except OSError as error:
                attempt.close()
                starting = error.errno in (errno.ECONNREFUSED, errno.EAGAIN)
                if not starting or time.monotonic() >= give_up:
                    raise UnreachableError(_advice(self.path, error)) from None
                time.sleep(CONNECT_INTERVAL)
            else:
                return attempt

    def _send(self, line: bytes, descriptor: int | None = None) -> None:
        assert self._socket
        self._socket.settimeout(ANSWER_TIMEOUT)
        try:
            sent = 0 if descriptor is None else socket.send_fds(self._socket, [line], [descriptor])
            self._socket.sendall(line[sent:])
        except OSError as error:
            raise UnreachableError(f"The daemon at {self.path} has gone away: {error.strerror or error}.") from None

    def _next(self, timeout: float | None) -> jsonrpc.Item:
        assert self._socket
        while not self._items:
            self._socket.settimeout(timeout)
            try:
                data = self._socket.recv(1 << 18)
            except TimeoutError:
                raise UnreachableError(
                    f"The daemon at {self.path} does not answer. Look at its log: journalctl -u meshd"
                ) from None
            except OSError as error:
                raise UnreachableError(f"The daemon at {self.path} has gone away: {error.strerror}.") from None
            if not data:
                raise UnreachableError(f"The daemon at {self.path} has closed the connection.")
            self._items.extend(self._reader.feed(data))
        return self._items.popleft()


def _advice(path: str, error: OSError) -> str:
    start = "Start it with: sudo systemctl start meshd (or, for one of your own, run: meshd)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"You may not open {path}. Join the group of the daemon's users: sudo usermod -aG meshd $USER, "
            "then log in again."
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"meshd is not running: there is no socket at {path}. {start}"
    if error.errno in (errno.ECONNREFUSED, errno.EAGAIN):
        return f"meshd is not running: nobody answers at {path}. {start}"
    return f"Cannot connect to {path}: {error.strerror or error}. {start}"
