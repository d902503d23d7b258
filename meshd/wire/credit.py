"""How much of a stream may be on the way: absolute byte limits, as in QUIC (RFC 9000 section 4.1), one stream each way.

The receiver grants as its reader consumes, so a slow reader holds the sender back instead of filling memory; limits are
absolute, so a CREDIT that arrives twice, or by the link before, does no harm.
"""

from __future__ import annotations

from meshd.errors import LocalMisuse, MalformedMessage

# Policy
STREAM_WINDOW = 262_144  # what a receiver grants at first: 5 MB/s over a round trip of 50 ms
MAX_STREAM_WINDOW = 4_194_304  # what it grows to while its reader keeps up: 80 MB/s over 50 ms


class SendCredit:
    """The sender's side of one stream: it may send up to the limit that the receiver named; nothing before."""

    def __init__(self, limit: int = 0) -> None:
        self.offset = 0
        self.limit = limit

    @property
    def available(self) -> int:
        """How many bytes may be sent now."""
        return self.limit - self.offset

    def spend(self, size: int) -> int:
        """Note that ``size`` bytes are being sent; the offset they start at. Raises LocalMisuse beyond the limit."""
        if size > self.available:
            raise LocalMisuse(f"{size} bytes to send and credit for {self.available}")
        start = self.offset
        self.offset += size
        return start

    def grant(self, limit: int) -> bool:
        """Take the limit of a CREDIT frame. Whether it allows more than before: limits never fall."""
        if limit <= self.limit:
            return False
        self.limit = limit
        return True


class ReceiveCredit:
    """The receiver's side of one stream: at most ``window`` bytes wait for the reader.

    The window doubles whenever the reader has taken all there is by the time of a grant: then it is the way and not the
    reader that holds the stream up, and a long way needs more under way. ``slack``: so much may wait all the same, for
    a reader that takes turns with others.
    """

    def __init__(self, window: int = STREAM_WINDOW, slack: int = 0) -> None:
        if not 0 < window <= MAX_STREAM_WINDOW:
            raise LocalMisuse(f"a window of {window} bytes is not within 1 to {MAX_STREAM_WINDOW}")
        self.window = window
        self._slack = slack
        self.received = 0
        self.consumed = 0
        self.limit = window

    @property
    def waiting(self) -> int:
        """How many bytes came in that the reader has not taken."""
        return self.received - self.consumed

    def receive(self, offset: int, size: int) -> None:
        """Note ``size`` bytes at ``offset``. Raises MalformedMessage: a gap, a repetition, more than granted."""
        if offset != self.received:
            raise MalformedMessage(f"stream bytes at {offset} where {self.received} was to follow")
        if offset + size > self.limit:
            raise MalformedMessage(f"stream bytes up to {offset + size}, {self.limit} were granted")
        self.received += size

    def consume(self, size: int, *, may_grow: bool = True) -> int | None:
        """Note that the reader took ``size`` bytes; the limit to send in a CREDIT frame, if it is time for one.

        Granting waits for half a window, so that a frame each way does not go with every read.
        """
        if size > self.waiting:
            raise LocalMisuse(f"{size} bytes taken and {self.waiting} waiting")
        self.consumed += size
        if self.consumed + self.window - self.limit < (self.window + 1) // 2:
            return None
        if may_grow and self.waiting <= self._slack:
            self.window = min(2 * self.window, MAX_STREAM_WINDOW)
        self.limit = self.consumed + self.window
        return self.limit
