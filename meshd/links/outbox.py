"""What waits to be sent on one link: three queues of frames, the more urgent first, bounded together."""

from __future__ import annotations

from collections import deque

from meshd.wire.frame import PRIORITIES

# Policy
MAX_OUTBOX_SIZE = 4_194_304  # bytes; the records of 2,000 members fit, twice over what a reconciliation sends at most
OUTBOX_HIGH_SIZE = MAX_OUTBOX_SIZE // 2
OUTBOX_LOW_SIZE = MAX_OUTBOX_SIZE // 4


class Outbox:
    """Frames in order within their priority; a frame of a lower number overtakes all of higher numbers."""

    def __init__(self) -> None:
        self._queues: tuple[deque[bytes], ...] = tuple(deque() for _ in range(PRIORITIES))
        self.size = 0
        self.is_high = False

    def put(self, frames: list[bytes], priority: int) -> bool:
        """Queue the frames of one message, all or none. False: they do not fit, the outbox has overflowed."""
        size = sum(map(len, frames))
        if self.size + size > MAX_OUTBOX_SIZE:
            return False
        self._queues[priority].extend(frames)
        self.size += size
        return True

    def take(self) -> bytes | None:
        """The next frame to send; None when there is none."""
        for queue in self._queues:
            if queue:
                frame = queue.popleft()
                self.size -= len(frame)
                return frame
        return None

    def crossed_high(self) -> bool:
        """Whether the outbox has come to be half full since the last time it was low. True once."""
        if self.is_high or self.size < OUTBOX_HIGH_SIZE:
            return False
        self.is_high = True
        return True

    def crossed_low(self) -> bool:
        """Whether the outbox has drained to a quarter since it was high. True once."""
        if not self.is_high or self.size > OUTBOX_LOW_SIZE:
            return False
        self.is_high = False
        return True
