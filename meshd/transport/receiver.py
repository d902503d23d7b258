"""The receiving half: which TSNs have come, when to acknowledge them, and how much more there is room for.

RFC 9260 sections 6.2 and 6.7. While nothing is missing a chunk costs two comparisons in here: no set, no sorting.
"""

from __future__ import annotations

from bisect import bisect_right

from meshd.errors import MalformedMessage
from meshd.transport.chunks import IMMEDIATE, encode_sack
from meshd.transport.config import AssociationConfig
from meshd.transport.reassembly import Reassembly
from meshd.transport.sender import HALF, MAX_TSN_SPAN

# Policy
ACK_DELAY = 0.02  # seconds; section 6.2 allows 200 ms, which would keep a sender's timer waiting for nothing
PACKETS_PER_ACK = 2  # section 6.2
PACKETS_PER_ACK_AT_SPEED = 8
"""Acknowledging costs both ends more than receiving does. A sender that is about to stop for its window says so with
the I bit (RFC 7053), so it does not wait for the eighth packet."""
ACK_DELAY_AT_SPEED = (
    0.002  # seconds, the time of eight packets: senders without that bit are not to stand still for 20 ms
)
SPEED_INTERVAL = 0.000_25  # seconds a packet; faster than this is speed
EAGER_ACKS = 4  # after a gap opens each packet is acknowledged, until senders that count to three have enough
MAX_GAP_BLOCKS = 128  # in one SACK; what lies above is told when the lower gaps are filled
MAX_DUPLICATES = 16  # in one SACK
HELD_CHUNK_COST = 512
"""Bytes that a held chunk is charged beside its payload: that much it takes as a fragment of a message of its own. The
window shrinks by it too, so that who sends tiny chunks is told so in time."""
MAX_GAPS = 4_096  # ranges beyond a missing chunk; what makes another one is dropped, and sent again
FLOOD_INTERVAL = 10.0  # seconds in which a peer may send one receive buffer's worth beyond the window


class Receiver:
    """Takes chunks in any order and has messages come out of ``reassembly``."""

    __slots__ = (
        "_ack_deadline",
        "_ack_now",
        "_advertised",
        "_buffer_size",
        "_duplicates",
        "_eager",
        "_flood",
        "_flood_since",
        "_gaps",
        "_last_ack",
        "_packets",
        "_packets_per_ack",
        "_unfinished_size",
        "_unread",
        "cumulative",
        "duplicates",
        "reassembly",
    )

    def __init__(self, config: AssociationConfig, peer_initial_tsn: int, interleaving: bool) -> None:
        self.cumulative = peer_initial_tsn - 1
        """All up to this have come; grows beyond 32 bits."""
        self.reassembly = Reassembly(config.max_streams, interleaving, config.max_message_size)
        self.duplicates = 0
        self._buffer_size = config.max_receive_buffer_size
        self._unfinished_size = min(config.max_streams * config.max_message_size, config.max_receive_buffer_size)
        self._gaps: list[tuple[int, int]] = []
        """Ranges that have come above the cumulative TSN, sorted, disjoint, not touching."""
        self._duplicates: list[int] = []
        self._unread = 0
        self._advertised = config.max_receive_buffer_size
        self._flood = 0.0
        self._flood_since = 0.0
        self._packets = 0
        self._packets_per_ack = PACKETS_PER_ACK
        self._last_ack = 0.0
        self._eager = 0
        self._ack_now = False
        self._ack_deadline: float | None = None

    # -- chunks in -----------------------------------------------------------------------------------------------------

    def on_data(
        self,
        wire_tsn: int,
        flags: int,
        stream: int,
        number: int,
        word: int,
        payload: bytes,
        interleaved: bool,
        now: float,
    ) -> None:
        """One DATA or I-DATA chunk. ``word`` is the PPID, or in later I-DATA fragments the fragment's number.

        Raises MalformedMessage for what no honest peer sends.
        """
        ahead = (wire_tsn - self.cumulative) & 0xFFFFFFFF
        if flags & IMMEDIATE:
            self._ack_now = True
        size = len(payload)
        if not size:
            raise MalformedMessage("a chunk without data")
        reassembly = self.reassembly
        if ahead == 0 or ahead >= HALF:
            self._on_duplicate(wire_tsn)
            return
        tsn = self.cumulative + ahead
        held = reassembly.held_size + reassembly.held_count * HELD_CHUNK_COST
        if held + self._unread + size > self._buffer_size:
            if ahead != 1 or self._unread:
                self._on_flood(size, now)
                return
            # What completes messages is let in: one on each stream may be unfinished, and no more than that.
            if held > self._buffer_size + self._unfinished_size:
                raise MalformedMessage("a receive buffer full of unfinished messages")
        if ahead == 1:
            gaps = self._gaps
            if gaps and gaps[0][0] == tsn + 1:
                tsn_after = gaps.pop(0)[1]
                self._ack_now = True  # a gap is filled: section 6.7
            else:
                tsn_after = tsn
            self.cumulative = tsn_after
        elif not self._add_beyond_gap(tsn, ahead, size, now):
            return
        if interleaved:
            reassembly.on_i_data(flags, stream, number, word, payload)
        else:
            reassembly.on_data(tsn, flags, stream, number, word, payload)

    def _add_beyond_gap(self, tsn: int, ahead: int, size: int, now: float) -> bool:
        """Note a TSN beyond a missing one; answer whether it is new."""
        gaps = self._gaps
        if ahead > MAX_TSN_SPAN:
            self._on_flood(size, now)
            return False
        if gaps and gaps[-1][1] == tsn - 1:
            gaps[-1] = (gaps[-1][0], tsn)  # the usual case: what came last goes on
        elif not gaps or tsn > gaps[-1][1]:
            if len(gaps) >= MAX_GAPS:
                self._on_flood(size, now)
                return False
            gaps.append((tsn, tsn))
            self._eager = EAGER_ACKS
        else:
            index = bisect_right(gaps, (tsn, HALF << 64))
            first = last = tsn
            if index and gaps[index - 1][1] >= tsn - 1:
                if gaps[index - 1][1] >= tsn:
                    self._on_duplicate(tsn)
                    return False
                index -= 1
                first = gaps.pop(index)[0]
            if index < len(gaps) and gaps[index][0] == tsn + 1:
                last = gaps.pop(index)[1]
            if len(gaps) >= MAX_GAPS:
                self._on_flood(size, now)
                return False
            gaps.insert(index, (first, last))
            self._ack_now = True
        return True

    def _on_duplicate(self, tsn: int) -> None:
        self.duplicates += 1
        self._ack_now = True  # section 6.2: the acknowledgement may have been lost
        if len(self._duplicates) < MAX_DUPLICATES:
            self._duplicates.append(tsn)

    def _on_flood(self, size: int, now: float) -> None:
        """Drop a chunk for which there is no room, and answer at once; who goes on and on is no honest peer."""
        self._ack_now = True
        elapsed = now - self._flood_since
        self._flood_since = now
        self._flood = max(self._flood - elapsed * self._buffer_size / FLOOD_INTERVAL, 0.0) + size
        if self._flood > self._buffer_size:
            raise MalformedMessage("data far beyond the window")

    def on_forward_tsn(self, wire_tsn: int, skipped: list[tuple[int, bool, int]]) -> None:
        """RFC 3758 section 3.6. Raises MalformedMessage for a stream that does not exist."""
        self._ack_now = True
        ahead = (wire_tsn - self.cumulative) & 0xFFFFFFFF
        if ahead == 0 or ahead >= HALF:
            return  # ours overtook it; the SACK says so
        forward = self.cumulative = self.cumulative + ahead
        gaps = self._gaps
        reached = 0
        for first, last in gaps:
            if first > self.cumulative + 1:
                break
            self.cumulative = max(self.cumulative, last)
            reached += 1
        del gaps[:reached]
        # Some peers name a stream once for each message: the last one says it all. Each entry has all that is held
        # looked through, so thousands of them in one packet would take seconds.
        last_of = {(stream, unordered): number for stream, unordered, number in skipped}
        self.reassembly.skip(forward, [(stream, unordered, n) for (stream, unordered), n in last_of.items()])

    # -- acknowledgements out ------------------------------------------------------------------------------------------

    def on_packet(self, now: float) -> None:
        """Say that a packet with data has been taken, after its chunks: acknowledgements are by the packet."""
        packets = self._packets = self._packets + 1
        if self._eager:
            self._eager -= 1
            self._ack_now = True
        elif packets >= self._packets_per_ack:
            self._ack_now = True
        elif self._ack_deadline is None:
            is_fast = self._packets_per_ack == PACKETS_PER_ACK_AT_SPEED
            self._ack_deadline = now + (ACK_DELAY_AT_SPEED if is_fast else ACK_DELAY)

    def take_sack(self, now: float, force: bool = False) -> bytes:
        """The SACK chunk that is due, or nothing. With ``force`` also one that could have waited a little."""
        if not self._ack_now and not (force and self._packets):
            return b""
        elapsed = now - self._last_ack
        is_fast = elapsed < self._packets * SPEED_INTERVAL
        self._packets_per_ack = PACKETS_PER_ACK_AT_SPEED if is_fast else PACKETS_PER_ACK
        self._last_ack = now
        self._packets = 0
        self._ack_now = False
        self._ack_deadline = None
        cumulative = self.cumulative
        window = self._advertised = self.window
        duplicates = self._duplicates
        if not self._gaps and not duplicates:
            return encode_sack(cumulative, window, [], [])
        self._duplicates = []
        gaps = [(first - cumulative, last - cumulative) for first, last in self._gaps[:MAX_GAP_BLOCKS]]
        return encode_sack(cumulative, window, gaps, duplicates)

    @property
    def window(self) -> int:
        """Bytes that the peer may have under way: what is free (section 6.2.1)."""
        reassembly = self.reassembly
        held = reassembly.held_size + reassembly.held_count * HELD_CHUNK_COST
        return max(self._buffer_size - held - self._unread, 0)

    def set_unread_size(self, size: int) -> None:
        """The owner holds this much unread. Tells the peer when a window that was narrow opens (RFC 1122 4.2.3.3)."""
        self._unread = size
        if self._advertised < self._buffer_size // 4 and self.window >= self._buffer_size // 2:
            self._ack_now = True

    @property
    def next_deadline(self) -> float | None:
        """When a delayed acknowledgement is due; 0 if one is due now."""
        return 0.0 if self._ack_now else self._ack_deadline

    def handle_timer(self, now: float) -> None:
        """Acknowledge what has waited long enough."""
        if self._ack_deadline is not None and now >= self._ack_deadline:
            self._ack_now = True
