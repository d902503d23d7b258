"""One end of a stream between members without a link: sealed from end to end, over whichever circuit there is.

The circuit may be replaced at any time. What is sent is kept until the other end has acknowledged it; when a path
begins, both ends say first what they have, and what was lost with the path before is sent again. Credit from end to end
lets no more be on its way than the reader at the other end will take, so relays hold little of a stream whose reader is
slow; hop by hop they are protected by credit of their own.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from meshd.core.events import Event, RelayedStreamConnected, RelayedStreamEnded, RelayedStreamStalled
from meshd.crypto.session import OVERHEAD_SIZE, RecordOpener, RecordSealer
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import LinkId
from meshd.links.circuits import Circuit
from meshd.links.descriptor import Lent
from meshd.links.local_end import LocalEnd
from meshd.wire.credit import MAX_STREAM_WINDOW, STREAM_WINDOW, ReceiveCredit, SendCredit
from meshd.wire.frame import MAX_CIRCUIT_FRAME_SIZE, ResetCode
from meshd.wire.session_record import (
    SessionAck,
    SessionData,
    SessionDone,
    SessionProbe,
    SessionRecord,
    decode_session_record,
    encode_session_ack,
    encode_session_data,
    encode_session_done,
    encode_session_probe,
)

# Policy
MAX_KEPT_SIZE = 67_108_864  # bytes sent and not acknowledged, and granted, of all streams; above it each has a window
ACK_SIZE = 65_536  # bytes that come before they are acknowledged, at least;
ACK_SHARE = 8  # and at least this part of the window: an acknowledgement costs each hop as much as a record
ACK_DELAY = 0.025  # seconds after which fewer are
STALL_TIMEOUT = 6.0  # seconds without progress after which another path is asked for
PROBE_INTERVAL = 10.0  # seconds of silence after which the other end is asked whether it is there
WATCH_INTERVAL = 1.0  # seconds between two looks at all that
REKEY_INTERVAL = 120.0  # seconds that a key is used for at most
MIN_RECORD_SIZE = 2_048  # what the next hop grants is waited for rather than sending less
DATA_OVERHEAD_SIZE = 1 + 8  # of a piece of the stream: its type, its offset at its longest
MAX_DATA_SIZE = MAX_CIRCUIT_FRAME_SIZE - 1 - 8 - OVERHEAD_SIZE - DATA_OVERHEAD_SIZE  # fits, whatever circuit comes next


@dataclass(slots=True)
class Kept:
    """Bytes that all relayed streams of this node together keep, or have granted."""

    size: int = 0

    @property
    def is_full(self) -> bool:
        """Whether no stream should take more than a window of its own."""
        return self.size >= MAX_KEPT_SIZE


class RelayedStream:
    """Called on asyncio's loop; nothing waits. Raises OSError for a descriptor that is no good.

    ``tell`` gets the events, never from inside a method that the core's commands call.
    """

    source: LinkId | None = None

    def __init__(
        self,
        number: int,
        lent: Lent,
        keys: tuple[bytes, bytes],
        *,
        tell: Callable[[Event], None],
        kept: Kept,
        counters: Counter[str],
    ) -> None:
        self._number = number
        self._tell = tell
        self._kept = kept
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._local = LocalEnd(
            lent, readable=self._wake, written=self._grant, finished=self._check_done, broken=self._broken
        )
        self._sealer, self._opener = RecordSealer(keys[0]), RecordOpener(keys[1])
        self._rekey_at = self._loop.time() + REKEY_INTERVAL
        self._circuit: Circuit | None = None
        self._sending, self._receiving = SendCredit(), ReceiveCredit(STREAM_WINDOW)
        self._unacknowledged: deque[tuple[int, bytes, bool]] = deque()  # offset, bytes, whether they are the last
        self._acknowledged = 0
        self._again: deque[tuple[int, bytes, bool]] = deque()  # of these, what the new path is still to carry
        self._is_synced = False  # the other end has said what it has, on this circuit
        self._ack_due = self._done_due = self._probe_due = False
        self._owed_size = 0  # bytes that came and are not acknowledged
        self._ack_timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._moved = self._heard = 0.0  # when something was acknowledged, or came
        self._is_probing = False
        self._sent_last = self._received_last = self._said_done = self._heard_done = False
        self.is_over = False
        self._kept.size += self._receiving.window

    # -- what the core asks -------------------------------------------------------------------------------------------

    def attach(self, circuit: Circuit) -> None:
        """Go on over this circuit, whose user we are; the one before counts no more."""
        self._detach()
        self._circuit = circuit
        self._is_synced = self._is_probing = self._probe_due = False
        self._again.clear()
        self._ack_due = True
        self._done_due = False
        self._moved = self._heard = self._loop.time()
        if self._watch is None:
            self._watch = self._loop.call_later(WATCH_INTERVAL, self._look)
        circuit.wake()

    def end(self, reason: str) -> None:
        """It is over, for that reason; the other end may have said so."""
        if reason == "done" and not self._is_through:
            reason = "failed_there"
        self._end(reason, ResetCode.DONE)

    # -- out ----------------------------------------------------------------------------------------------------------

    def take_record(self, size: int) -> bytes | None:
        """See ``CircuitUser``."""
        circuit = self._circuit
        if self.is_over or circuit is None or size < MIN_RECORD_SIZE:
            return None
        plaintext = self._next(size - OVERHEAD_SIZE)
        return None if plaintext is None else self._sealer.seal(plaintext)

    def _next(self, size: int) -> bytes | None:
        if self._ack_due:
            return self._ack()
        if self._probe_due:
            self._probe_due = False
            return encode_session_probe()
        if not self._is_synced:
            return None
        if self._again:
            if len(self._again[0][1]) > size - DATA_OVERHEAD_SIZE:
                return None
            offset, data, last = self._again.popleft()
            return encode_session_data(offset, data, last=last)
        if not self._sent_last:
            return self._read(size)
        if self._done_due:
            self._done_due, self._said_done = False, True
            self._check_over()
            return encode_session_done()
        return None

    def _read(self, size: int) -> bytes | None:
        start = self._sending.offset
        allowed = STREAM_WINDOW if self._kept.is_full else MAX_STREAM_WINDOW
        room = min(
            self._sending.available,
            size - DATA_OVERHEAD_SIZE,
            MAX_DATA_SIZE,
            allowed - (start - self._acknowledged),
        )
        if room <= 0:
            return None  # the next ACK wakes us
        data = self._local.read(room)
        if data is None or self.is_over:
            return None
        if not self._unacknowledged:
            self._moved = self._loop.time()
        last = not data
        self._unacknowledged.append((start, data, last))
        self._sending.spend(len(data))
        self._kept.size += len(data)
        if last:
            self._sent_last = True
            self._check_done()
        return encode_session_data(start, data, last=last)

    def _ack(self) -> bytes:
        self._ack_due, self._owed_size = False, 0
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        return encode_session_ack(self._position, self._receiving.limit)

    @property
    def _position(self) -> int:
        """What we have, the end of it counted as one more byte."""
        return self._receiving.received + self._received_last

    def _wake(self) -> None:
        if self._circuit is not None and not self.is_over:
            self._circuit.wake()

    # -- in -----------------------------------------------------------------------------------------------------------

    def on_record(self, record: bytes) -> None:
        """See ``CircuitUser``."""
        circuit = self._circuit
        if self.is_over or circuit is None:
            return
        circuit.consumed(len(record))
        try:
            said = decode_session_record(self._opener.open(record))
            self._heard, self._is_probing = self._loop.time(), False
            self._on_said(said)
        except Rejected as rejected:
            reason = rejected.reason
            replayed, gap = reason == "session_replayed", reason == "session_gap"
            self._counters["session_replayed" if replayed else "session_gap" if gap else "session_forged"] += 1
            self._path_failed(reason)
        except MalformedMessage:
            self._counters["session_malformed"] += 1
            self._end("failed_there", ResetCode.FAILED)

    def _on_said(self, said: SessionRecord | None) -> None:
        if isinstance(said, SessionAck):
            self._on_ack(said)
        elif not self._is_synced:
            raise Rejected("session_forged", "a path that does not begin with what the other end has")
        elif isinstance(said, SessionData):
            self._on_data(said)
        elif isinstance(said, SessionDone):
            self._on_done()
        elif isinstance(said, SessionProbe):
            self._ack_due = True
            self._wake()

    def _on_data(self, said: SessionData) -> None:
        known = self._receiving.received - said.offset
        if known < 0:
            raise Rejected("session_gap")  # something was dropped on the way
        data = said.data[known:] if known else said.data
        if self._received_last:
            if data or said.offset + len(said.data) > self._receiving.received:
                raise MalformedMessage("stream bytes after the last")
            self._owe(0, at_once=True)
            return
        if not data and not said.last:
            self._owe(0, at_once=True)
            return
        self._receiving.receive(self._receiving.received, len(data))
        self._received_last = said.last
        self._owe(len(data), at_once=said.last)
        self._local.put(data, last=said.last)

    def _owe(self, size: int, *, at_once: bool) -> None:
        """So much is to be acknowledged: at once, or if it is much; else soon."""
        self._owed_size += size
        if at_once or self._owed_size >= max(ACK_SIZE, self._receiving.window // ACK_SHARE):
            self._ack_due = True
            self._wake()
        elif self._ack_timer is None:
            self._ack_timer = self._loop.call_later(ACK_DELAY, self._ack_now)

    def _ack_now(self) -> None:
        self._ack_timer = None
        self._ack_due = True
        self._wake()

    def _grant(self, size: int) -> None:
        before = self._receiving.window
        limit = self._receiving.consume(size, may_grow=not self._kept.is_full)
        self._kept.size += self._receiving.window - before
        if limit is not None and not self._received_last:
            self._ack_due = True
            self._wake()

    def _on_ack(self, ack: SessionAck) -> None:
        sent = self._sending.offset + self._sent_last
        if not self._acknowledged <= ack.received <= sent:
            raise MalformedMessage(f"{ack.received} bytes acknowledged of {sent}, after {self._acknowledged}")
        waiting = self._unacknowledged
        while waiting and waiting[0][0] + len(waiting[0][1]) + waiting[0][2] <= ack.received:
            self._kept.size -= len(waiting.popleft()[1])
        has_moved = ack.received > self._acknowledged
        if has_moved:
            self._acknowledged, self._moved = ack.received, self._heard
        has_moved = self._sending.grant(ack.limit) or has_moved
        if not self._is_synced:
            self._is_synced = True
            self._moved = self._heard
            self._again.extend(waiting)
            self._done_due = self._is_through
            self._loop.call_soon(self._tell, RelayedStreamConnected(self._number))
            self._wake()
        elif has_moved:
            self._wake()

    def _on_done(self) -> None:
        if not (self._sent_last and self._received_last):
            raise MalformedMessage("a stream that is done before its ends")
        self._heard_done = True
        self._check_over()

    # -- paths that fail ----------------------------------------------------------------------------------------------

    def on_circuit_over(self) -> None:
        """See ``CircuitUser``. The core knows why."""
        self._detach()

    def _detach(self) -> None:
        if self._circuit is not None:
            self._circuit.leave()
        self._circuit = None
        self._is_synced = False

    def _path_failed(self, reason: str) -> None:
        self._detach()
        self._loop.call_soon(self._tell, RelayedStreamStalled(self._number, reason))

    def _look(self) -> None:
        self._watch = None
        now = self._loop.time()
        if self._circuit is None or self.is_over:
            return
        self._watch = self._loop.call_later(WATCH_INTERVAL, self._look)
        if now >= self._rekey_at:
            self._rekey_at = now + REKEY_INTERVAL
            self._sealer.turn()
        waits = not self._is_synced or bool(self._unacknowledged)
        if (waits and now - self._moved > STALL_TIMEOUT) or (
            self._is_probing and now - self._heard > PROBE_INTERVAL + STALL_TIMEOUT
        ):
            self._counters["session_stalled"] += 1
            self._path_failed("stalled")
        elif self._is_synced and not self._is_probing and now - self._heard > PROBE_INTERVAL:
            self._is_probing = self._probe_due = True
            self._wake()

    # -- ends ---------------------------------------------------------------------------------------------------------

    @property
    def _is_through(self) -> bool:
        return self._sent_last and self._local.is_written_out

    def _check_done(self) -> None:
        if self._is_through:
            self._done_due = True
            self._wake()

    def _check_over(self) -> None:
        if self._said_done and self._heard_done:
            self._end("done", ResetCode.DONE)

    def _broken(self, code: ResetCode) -> None:
        self._end("closed_here", code)

    def _end(self, reason: str, code: ResetCode) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._kept.size -= self._receiving.window + sum(len(data) for _, data, _ in self._unacknowledged)
        self._unacknowledged.clear()
        self._again.clear()
        self._local.free()
        for timer in (self._ack_timer, self._watch):
            if timer is not None:
                timer.cancel()
        self._detach()
        ended = RelayedStreamEnded(self._number, reason, int(code), self._sending.offset, self._receiving.consumed)
        self._loop.call_soon(self._tell, ended)
