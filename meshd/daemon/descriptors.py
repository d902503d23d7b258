"""File descriptors that requests at hand have brought: kept under numbers, since the core knows no files."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from meshd.control.passing import Passed
from meshd.errors import Code, ControlError


class Descriptors:
    """Each is here for as long as its request; the links room takes those that a stream is opened for.

    So none can leak: what no stream has taken by the end of the request, its connection closes.
    """

    def __init__(self) -> None:
        self._lent: dict[int, Passed] = {}  # at most one for each request, and these are bounded by the driver
        self._last = 0

    def __len__(self) -> int:
        return len(self._lent)

    @contextmanager
    def lend(self, passed: Passed) -> Iterator[int]:
        """Its number here, for this long. Raises ControlError INVALID_PARAMS for what can carry no stream."""
        check_kind(passed.fd)
        self._last += 1
        number = self._last
        self._lent[number] = passed
        try:
            yield number
        finally:
            self._lent.pop(number, None)

    def take(self, number: int) -> Passed | None:
        """What has that number, which nothing has from now on; None if nothing has."""
        return self._lent.pop(number, None)


def check_kind(fd: int) -> None:
    """Raises ControlError INVALID_PARAMS unless it is a stream socket, or a pipe that is open one way."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
        return
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(fd)) as look:
            if look.type == socket.SOCK_STREAM:
                return
    raise ControlError(
        Code.INVALID_PARAMS,
        "The file descriptor is neither a stream socket nor one end of a pipe. Pass one end of a socketpair, and copy "
        "between its other end and whatever else it is.",
    )
