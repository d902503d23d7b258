"""What systemd and a service tell each other: readiness, watchdog, sockets handed over. Without libsystemd.

Outside systemd the variables are not set, and everything here does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, MutableMapping

import structlog
import trio

from meshd.errors import ConfigError

# Specification
LISTEN_FDS_START = 3  # sd_listen_fds(3)

# Policy
MAX_STATUS_CHARS = 200  # what `systemctl status` shows in one line

_log = structlog.get_logger("systemd")


class Notifier:
    """Sends states to the service manager (sd_notify(3)). Never waits, never raises: it must not end the daemon."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket: socket.socket | None = None
        self._status = ""
        self.watchdog_interval = _watchdog_interval(environment)
        """How often ``watchdog`` wants to be called, in seconds: half of WatchdogSec. None: not at all."""
        address = environment.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@"):
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            # "@" stands for the zero byte of the abstract namespace: unix(7)
            self._socket.connect("\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            _log.warning("notify_failed", error=error.strerror)
            self.close()

    def ready(self, status: str) -> None:
        """Start-up, or a reload, is complete."""
        self._send("READY=1", self._status_line(status))

    def reloading(self) -> None:
        """SIGHUP has come; ``ready`` follows. (The monotonic time is what Type=notify-reload asks for.)"""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._send("STOPPING=1", self._status_line(status))

    def status(self, status: str) -> None:
        """One line for ``systemctl status``; sent when it has changed."""
        if status != self._status:
            self._send(self._status_line(status))

    def watchdog(self) -> None:
        """Alive."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Stop telling."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _status_line(self, status: str) -> str:
        self._status = status
        return "STATUS=" + " ".join(status.split())[:MAX_STATUS_CHARS]  # a line break would begin another variable

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send("\n".join(lines).encode())
        except OSError as error:  # its buffer is full, or systemd restarts: the next one may get through
            _log.debug("notify_failed", error=error.strerror)


def _watchdog_interval(environment: Mapping[str, str]) -> float | None:
    """Half of $WATCHDOG_USEC in seconds, if it is meant for this process (sd_watchdog_enabled(3))."""
    period = environment.get("WATCHDOG_USEC", "")
    if not period.isdecimal() or int(period) == 0 or not _is_for_us(environment.get("WATCHDOG_PID", "")):
        return None
    return int(period) / 2_000_000


def _is_for_us(pid: str) -> bool:
    return pid in ("", str(os.getpid()))


def take_sockets(
    environment: MutableMapping[str, str], families: tuple[socket.AddressFamily, ...] = (socket.AF_UNIX,)
) -> list[socket.socket]:
    """The listening stream sockets that systemd has opened for us (sd_listen_fds(3)); an empty list if there are none.

    Takes the variables out of ``environment``, so that no child takes the sockets for its own. Raises ConfigError for
    a socket of another kind, naming it.
    """
    count, pid = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if not count.isdecimal() or pid != str(os.getpid()):
        return []
    sockets: list[socket.socket] = []
    for index in range(int(count)):
        descriptor = LISTEN_FDS_START + index
        name = names[index] if index < len(names) else "unknown"
        os.set_inheritable(descriptor, False)
        try:
            taken = socket.socket(fileno=descriptor)
        except OSError as error:
            raise ConfigError(f"descriptor {descriptor} ({name}) from systemd is no socket: {error.strerror}") from None
        sockets.append(taken)
        accepts = taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if taken.family not in families or taken.type != socket.SOCK_STREAM or not accepts:
            for each in sockets:
                each.close()
            raise ConfigError(
                f"socket {name!r} from systemd is not a listening {_kinds(families)} stream socket: the .socket unit "
                "must have such a ListenStream= and no Accept=yes"
            )
    return sockets


def _kinds(families: tuple[socket.AddressFamily, ...]) -> str:
    return "Unix" if families == (socket.AF_UNIX,) else "TCP"


def as_listeners(sockets: list[socket.socket]) -> list[trio.SocketListener]:
    """For trio."""
    return [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in sockets]
