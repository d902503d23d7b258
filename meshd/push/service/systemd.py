"""The two things that systemd wants of a service: to be told how it is (sd_notify), and its sockets taken over."""

from __future__ import annotations

import os
import socket

# Specification (sd_listen_fds(3), sd_notify(3))
_FIRST_FD = 3

# Policy
MAX_LISTEN_FDS = 16


def notify(*assignments: str) -> None:
    """Send ``READY=1`` and the like to systemd; nothing happens where there is none, or it cannot be reached."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        try:
            notifier.connect(address)
            notifier.send("\n".join(assignments).encode())
        except OSError:
            return  # being told is systemd's wish; that it cannot be is no reason to fail


def watchdog_interval() -> float | None:
    """How often (seconds) systemd wants ``WATCHDOG=1``, with a factor of two to spare; None when it does not."""
    text = os.environ.get("WATCHDOG_USEC", "")
    if not text.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(text) / 2e6


def passed_sockets() -> list[socket.socket]:
    """The listening sockets that systemd has opened for this process; none when it was started otherwise."""
    count = os.environ.get("LISTEN_FDS", "")
    if not count.isdigit() or os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    sockets = [socket.socket(fileno=_FIRST_FD + number) for number in range(min(int(count), MAX_LISTEN_FDS))]
    for passed in sockets:
        passed.set_inheritable(False)
    return sockets
