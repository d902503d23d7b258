"""File descriptors that come over the control socket (unix(7), SCM_RIGHTS): at most one for a request.

On a stream socket a descriptor travels with bytes, not with lines. It belongs to the line in which the bytes end that
it came with: send a request and its descriptor with one ``sendmsg``. What nobody asked for is closed.
"""

from __future__ import annotations

import array
import os
import select
import socket

import trio

from meshd.control.jsonrpc import Item, LineReader
from meshd.errors import Code, ControlError

# Specification
MAX_DESCRIPTORS_PASSED = 253  # SCM_MAX_FD: what the kernel lets one sendmsg carry

# Policy
MAX_DESCRIPTORS = 1  # for one request


class Passed:
    """A file descriptor of a client's; closed by whoever holds this, unless somebody has taken it."""

    def __init__(self, fd: int, source: trio.socket.SocketType) -> None:
        self._fd = fd
        self._source = source

    @property
    def fd(self) -> int:
        """Its number, for a look; -1 once it has been taken or closed."""
        return self._fd

    def take(self) -> int:
        """Its number, from now on the taker's to close."""
        fd, self._fd = self._fd, -1
        return fd

    def is_owner_gone(self) -> bool:
        """Whether the connection that it came over is closed, at either end."""
        fileno = self._source.fileno()
        if fileno < 0:
            return True
        poll = select.poll()
        poll.register(fileno, 0)  # POLLHUP and POLLERR are always told
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close it, if it is here still."""
        fd = self.take()
        if fd >= 0:
            os.close(fd)


async def receive(source: trio.SocketStream, size: int) -> tuple[bytes, list[Passed]]:
    """Bytes as they come, none at the end, and the descriptors that came with them. Raises OSError."""
    # Room for as many as can come: those that found none would be lost without a word.
    space = socket.CMSG_SPACE(MAX_DESCRIPTORS_PASSED * array.array("i").itemsize)
    data, ancillary, _, _ = await source.socket.recvmsg(size, space, socket.MSG_CMSG_CLOEXEC)
    passed: list[Passed] = []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
            passed += [Passed(number, source.socket) for number in numbers]
    return data, passed


class PassedReader:
    """A ``LineReader`` that gives each item with what was passed along."""

    def __init__(self) -> None:
        self._lines = LineReader()
        self._early: list[Passed] = []  # belong to a line that is not complete yet

    def feed(self, data: bytes, passed: list[Passed]) -> list[tuple[Item, list[Passed]]]:
        """The items that are complete. Never raises."""
        given: list[tuple[Item, list[Passed]]] = [(item, []) for item in self._lines.feed(data)]
        if given:
            given[0][1].extend(self._early)
            self._early = []
        if data.endswith(b"\n"):
            if given:
                given[-1][1].extend(passed)
            else:
                close_all(passed)
        else:
            self._early += passed
            close_all(self._early[MAX_DESCRIPTORS + 1 :])  # one too many says as much as a hundred
            del self._early[MAX_DESCRIPTORS + 1 :]
        return given

    def close(self) -> None:
        """Close what came and was not given."""
        close_all(self._early)
        self._early = []


def the_one(method: str, wanted: str, passed: list[Passed]) -> Passed:
    """The descriptor of a request whose method takes one. Raises ControlError INVALID_PARAMS: none, or too many."""
    if not passed:
        raise ControlError(Code.INVALID_PARAMS, f"{method} needs a file descriptor passed with its line: {wanted}")
    if len(passed) > MAX_DESCRIPTORS:
        raise ControlError(Code.INVALID_PARAMS, f"{method} takes one file descriptor, and {len(passed)} came or more.")
    return passed[0]


def close_all(passed: list[Passed]) -> None:
    """Close them all."""
    for each in passed:
        each.close()
