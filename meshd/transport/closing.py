"""Ending in good order: SHUTDOWN, SHUTDOWN ACK, SHUTDOWN COMPLETE (RFC 9260 section 9.2)."""

from __future__ import annotations

from enum import Enum, auto

from meshd.transport.chunks import SHUTDOWN, SHUTDOWN_ACK, SHUTDOWN_COMPLETE, TSN, encode_chunk


class Phase(Enum):
    """Where the end is (RFC 9260 section 4)."""

    OPEN = auto()
    PENDING = auto()  # we want to end, and have something left to deliver
    RECEIVED = auto()  # the peer wants to, the same
    SENT = auto()
    ACK_SENT = auto()
    OVER = auto()


class Closing:
    """Chunks to send, and T2-shutdown."""

    __slots__ = ("_deadline", "phase", "timeouts")

    def __init__(self) -> None:
        self.phase = Phase.OPEN
        self.timeouts = 0
        self._deadline: float | None = None

    def want(self) -> None:
        """Our side asks for the end."""
        if self.phase is Phase.OPEN:
            self.phase = Phase.PENDING

    def on_shutdown(self) -> None:
        """The peer asks; both at once is settled by SHUTDOWN ACKs of both."""
        if self.phase in (Phase.OPEN, Phase.PENDING, Phase.SENT):
            self.phase = Phase.RECEIVED
            self._deadline = None

    def on_shutdown_ack(self) -> bytes:
        """The chunk to say last, if this was the answer waited for."""
        if self.phase not in (Phase.SENT, Phase.ACK_SENT):
            return b""
        self.phase = Phase.OVER
        return encode_chunk(SHUTDOWN_COMPLETE)

    def on_shutdown_complete(self) -> None:
        """The peer's last word."""
        if self.phase is Phase.ACK_SENT:
            self.phase = Phase.OVER

    @property
    def next_deadline(self) -> float | None:
        """When to say it again."""
        return self._deadline

    def take_chunk(self, is_drained: bool, cumulative: int, now: float, rto: float) -> bytes:
        """SHUTDOWN or SHUTDOWN ACK, if it is time for one."""
        phase = self.phase
        if phase is Phase.PENDING and is_drained:
            self.phase = Phase.SENT
        elif phase is Phase.RECEIVED and is_drained:
            self.phase = Phase.ACK_SENT
        elif self._deadline is None or now < self._deadline:
            return b""
        else:
            self.timeouts += 1
        self._deadline = now + rto * (1 << min(self.timeouts, 4))
        if self.phase is Phase.SENT:
            return encode_chunk(SHUTDOWN, TSN.pack(cumulative & 0xFFFFFFFF))
        return encode_chunk(SHUTDOWN_ACK)
