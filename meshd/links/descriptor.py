"""A file descriptor that somebody has passed us: read from and written to without ever waiting.

The client shares the open file with us. A socket is left as it is, since each call can say that it will not wait; a
pipe has to be made non-blocking for both, and is given back as it was.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
from typing import Protocol


class Lent(Protocol):
    """A file descriptor that a client has passed, until somebody takes it."""

    def take(self) -> int:
        """The descriptor, from now on the taker's to close."""

    def is_owner_gone(self) -> bool:
        """Whether the client that passed it has hung up."""


class Descriptor:
    """Takes the descriptor over, at once. Raises OSError for what is neither a stream socket nor a pipe.

    ``can_read`` and ``can_write``: a pipe has one of them.
    """

    def __init__(self, lent: Lent) -> None:
        self.is_owner_gone = lent.is_owner_gone
        self.fd = fd = lent.take()
        self._socket: socket.socket | None = None
        self._was_blocking = False
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISSOCK(mode):
                self._socket = socket.socket(fileno=fd)
                if self._socket.type != socket.SOCK_STREAM:
                    raise OSError("a socket that is no stream")
                self.can_read = self.can_write = True
            elif stat.S_ISFIFO(mode):
                access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
                self.can_read, self.can_write = access == os.O_RDONLY, access == os.O_WRONLY
                self._was_blocking = os.get_blocking(fd)
                os.set_blocking(fd, False)
            else:
                raise OSError("neither a stream socket nor a pipe")
        except OSError:
            self.close()
            raise

    def read(self, size: int) -> bytes | None:
        """What is there, at most ``size`` bytes; empty at the end; None if nothing is there yet. Raises OSError."""
        try:
            if self._socket is not None:
                return self._socket.recv(size, socket.MSG_DONTWAIT)
            return os.read(self.fd, size)
        except (BlockingIOError, InterruptedError):
            return None

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """How many bytes were taken, maybe none. Raises OSError, BrokenPipeError if nobody reads any more."""
        try:
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            return os.write(self.fd, data)
        except (BlockingIOError, InterruptedError):
            return 0

    def end_writing(self) -> None:
        """The other end reads an end of file once it has read the rest. Raises OSError."""
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_WR)
        elif self.can_write:
            self.close()

    @property
    def is_socket(self) -> bool:
        """Whether its two ways end one by one."""
        return self._socket is not None

    def has_hung_up(self) -> bool:
        """Whether the other end is closed altogether, and has not just said that it sends no more."""
        if self._socket is None:
            return False  # a pipe has one way only
        poll = select.poll()
        poll.register(self.fd, 0)  # POLLHUP and POLLERR are always told
        return bool(poll.poll(0))

    def close(self) -> None:
        """Give it back. Twice does no harm, and nothing is raised."""
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        try:
            if self._was_blocking:
                os.set_blocking(fd, True)
            if self._socket is not None:
                self._socket.close()
            else:
                os.close(fd)
        except OSError:
            return  # the number is free all the same: close(2)
