"""The end of a stream that is on this machine: a file descriptor, read when there is room, written at once.

Nothing is read ahead, and what the descriptor does not take waits here, within the credit that was granted for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from meshd.links.descriptor import Descriptor, Lent
from meshd.wire.frame import ResetCode

# Policy
OWNER_CHECK_DELAY = 0.05  # seconds for the kernel to close all that a process had open, when one of it is closed


class LocalEnd:
    """Called on asyncio's loop; nothing waits. Takes the descriptor over; raises OSError for one that is no good.

    ``readable()``: ``read`` may give something again. ``written(size)``: the descriptor has taken so many bytes.
    ``finished()``: all that came is written, the last of it too. ``broken(code)``: it is of no use any more.
    """

    __slots__ = (
        "_broken",
        "_confirmed",
        "_descriptor",
        "_finished",
        "_last_put",
        "_readable",
        "_written",
        "is_free",
        "is_watched",
        "is_written_out",
        "unwritten",
    )

    def __init__(
        self,
        lent: Lent,
        *,
        readable: Callable[[], None],
        written: Callable[[int], None],
        finished: Callable[[], None],
        broken: Callable[[ResetCode], None],
    ) -> None:
        self._descriptor = Descriptor(lent)
        self._readable = readable
        self._written = written
        self._finished = finished
        self._broken = broken
        self._confirmed = False  # the end of what its owner sends is one that it wanted
        self._last_put = False
        self.unwritten = bytearray()  # at most the window that was granted
        self.is_watched = False  # has nothing to give until its descriptor is readable
        self.is_written_out = False  # ``finished`` has been called
        self.is_free = False

    # -- out ----------------------------------------------------------------------------------------------------------

    def read(self, size: int) -> bytes | None:
        """At most ``size`` bytes; empty at a good end; None if there is nothing now, or ``broken`` has been called."""
        descriptor = self._descriptor
        try:
            data = descriptor.read(size) if descriptor.can_read else b""
        except OSError as error:
            self._broken(_code_of(error))
            return None
        if data is None:
            self.is_watched = True
            asyncio.get_running_loop().add_reader(descriptor.fd, self._on_readable)
            return None
        if not data and descriptor.is_socket and not self._confirmed:
            # Has its owner ended its way, or gone, maybe killed? What came so far must not pass for the whole then.
            if self.is_written_out:  # a socket with both ways down looks the same in both cases
                self.is_watched = True
                asyncio.get_running_loop().call_later(OWNER_CHECK_DELAY, self._confirm)
                return None
            if descriptor.has_hung_up():
                self._broken(ResetCode.READER_GONE)
                return None
        return data

    def _on_readable(self) -> None:
        self.is_watched = False
        asyncio.get_running_loop().remove_reader(self._descriptor.fd)
        self._readable()

    def _confirm(self) -> None:
        """The other way was over already: whether this end is a good one, its owner's control connection tells."""
        if self.is_free:
            return
        if self._descriptor.is_owner_gone():
            self._broken(ResetCode.READER_GONE)
            return
        self.is_watched, self._confirmed = False, True
        self._readable()

    # -- in -----------------------------------------------------------------------------------------------------------

    def put(self, data: bytes, *, last: bool) -> None:
        """Write it, now or when the descriptor takes it; after the ``last`` the way in ends."""
        self._last_put = last
        waited = bool(self.unwritten)
        self.unwritten += data
        if not waited:
            self._write()

    def _write(self) -> None:
        descriptor = self._descriptor
        try:
            while self.unwritten:
                if not descriptor.can_write:
                    raise BrokenPipeError
                size = descriptor.write(self.unwritten)
                if size == 0:
                    asyncio.get_running_loop().add_writer(descriptor.fd, self._on_writable)
                    return
                del self.unwritten[:size]
                self._written(size)
            if self._last_put:
                descriptor.end_writing()
        except OSError as error:
            self._broken(_code_of(error))
            return
        if self._last_put:
            self.is_written_out = True
            self._finished()

    def _on_writable(self) -> None:
        asyncio.get_running_loop().remove_writer(self._descriptor.fd)
        self._write()

    # -- the end ------------------------------------------------------------------------------------------------------

    def free(self) -> None:
        """Give the descriptor back."""
        self.is_free = True
        self.unwritten.clear()
        if self._descriptor.fd >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._descriptor.fd)
            loop.remove_writer(self._descriptor.fd)
            self._descriptor.close()


def _code_of(error: OSError) -> ResetCode:
    gone = isinstance(error, BrokenPipeError | ConnectionResetError)
    return ResetCode.READER_GONE if gone else ResetCode.FAILED
