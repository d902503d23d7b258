"""The sending half of an established association: what leaves when, and what the peer's SACKs make of it."""

from __future__ import annotations

from collections import deque

from meshd.errors import MalformedMessage
from meshd.transport.abandoning import Abandoning
from meshd.transport.chunks import COMMON_SIZE, IMMEDIATE
from meshd.transport.config import AssociationConfig
from meshd.transport.congestion.controller import Packet, make_controller
from meshd.transport.congestion.pacer import Pacer
from meshd.transport.loss_recovery import LossRecovery
from meshd.transport.outstanding import ACKNOWLEDGED, IN_FLIGHT, LOST, Outstanding, SentChunk
from meshd.transport.round_trip import MAX_WAIT
from meshd.transport.send_queue import SendQueue

# Specification
HALF = 1 << 31  # serial number arithmetic, RFC 9260 section 1.6
PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")  # section 3.2, by what the size leaves modulo four

MAX_TSN_SPAN = 65_535  # section 3.3.4: gap blocks cannot name more, so a receiver would have to drop it

# Policy
LARGE_LOSSES = 3
"""Chunks above the base size that were lost twice each, and none of that size acknowledged meanwhile, until such sizes
count as not getting through any more: small ones that do keep the timer from ever saying so."""
MIN_SPACE = 24  # bytes left in a packet that can hold another small message


class Sender:
    """Sizes are of chunks with their headers: what counts for the window, for pacing and for the peer's buffer."""

    __slots__ = (
        "_base_capacity",
        "_blocked_by_pacer",
        "_capacity",
        "_eased",
        "_has_heard",
        "_lost",
        "_number",
        "_pacer",
        "_probes_due",
        "abandoning",
        "controller",
        "data_packets",
        "in_flight",
        "large_losses",
        "lost_chunks",
        "outstanding",
        "peer_window",
        "queue",
        "recovery",
        "retransmitted",
        "spurious",
        "tail_probes",
        "timeouts",
        "timeouts_in_row",
    )

    def __init__(
        self, config: AssociationConfig, queue: SendQueue, initial_tsn: int, peer_window: int, now: float
    ) -> None:
        self.queue = queue
        self.outstanding = Outstanding(initial_tsn)
        self.recovery = LossRecovery()
        self._capacity = self._base_capacity = config.base_packet_size - COMMON_SIZE
        self.large_losses = 0
        self.controller = make_controller(config.congestion, now, self._capacity, seed=initial_tsn)
        self._pacer = Pacer(self.controller, now)
        self.peer_window = peer_window
        self.in_flight = 0
        self._lost: deque[SentChunk] = deque()
        self._number = 0
        self._probes_due = 0
        self._blocked_by_pacer = False
        self._has_heard = False
        self._eased = now
        self.abandoning = Abandoning(queue, self.outstanding)
        self.data_packets = self.retransmitted = self.lost_chunks = self.spurious = 0
        self.timeouts = self.timeouts_in_row = self.tail_probes = 0

    @property
    def can_send(self) -> bool:
        """Whether data is likely to leave with the next ``transmit``, so that a SACK may travel with it."""
        return (self.queue.size > 0 or bool(self._lost)) and self.in_flight < self.controller.window

    @property
    def is_drained(self) -> bool:
        """Whether everything has left and is acknowledged."""
        return not self.outstanding.chunks and not self.queue.size

    def set_packet_size(self, size: int) -> None:
        """Fill packets of another size from now on; chunks that exist keep theirs (RFC 9260 section 6.9)."""
        self.large_losses = 0
        self._capacity = size - COMMON_SIZE
        self.controller.on_mtu_change(self._capacity)

    # -- out -----------------------------------------------------------------------------------------------------------

    def transmit(self, now: float, prefix: bytes, header: bytes) -> list[bytes]:
        """Packets that may leave, each behind ``header``; the control chunks in ``prefix`` go into the first."""
        was_waiting, self._blocked_by_pacer = self._blocked_by_pacer, False
        if self.abandoning.is_due:
            prefix += self._forward_tsn(now)
        queue = self.queue
        lost = self._lost
        controller = self.controller
        if not queue.size and not lost:
            if self.in_flight < controller.window:
                controller.on_app_limited(self.in_flight)
            if was_waiting:
                self._pacer.budget(now)  # what waited was given up: a later burst must not count as a late one
            return [header + prefix] if prefix else []
        packets: list[bytes] = []
        outstanding = self.outstanding
        on_sent = self.recovery.on_sent
        capacity = self._capacity
        budget = self._pacer.budget(now)
        allowance = budget
        window = controller.window
        in_flight = self.in_flight
        while True:
            if not queue.size and not lost:
                break
            if (in_flight >= window or budget <= 0) and not self._probes_due:
                self._blocked_by_pacer = in_flight < window
                break
            space = capacity - len(prefix)
            chunks: list[SentChunk] = []
            if lost:
                space = self._take_lost(chunks, space, not prefix, in_flight)
            if not lost and queue.size and outstanding.next_tsn <= outstanding.cumulative + MAX_TSN_SPAN:
                room = self.peer_window - in_flight
                # With nothing in flight one packet goes out even to a closed window (section 6.1 A).
                if room >= capacity or not in_flight or queue.size < room // 2:
                    while queue.size and space >= MIN_SPACE:
                        chunk = queue.next_chunk(space, outstanding.next_tsn)
                        if chunk is None:
                            break
                        outstanding.add(chunk)
                        chunks.append(chunk)
                        space -= chunk.size
            if not chunks:
                if not prefix or not lost:
                    break  # it is the peer's buffer that has no room
                packets.append(header + prefix)  # the lost chunk needs a packet of its own
                prefix = b""
                continue
            self._probes_due = 0
            first = chunks[0]
            size = first.size
            if len(chunks) > 1:
                size = sum(chunk.size for chunk in chunks)
            if queue.size and in_flight + size >= window:
                # We are about to stand still: the peer is asked not to wait for more (RFC 7053).
                _ask_for_acknowledgement(chunks[-1])
            self._number += 1
            number = self._number
            first.packet = controller.on_sent(now, size, in_flight)
            for chunk in chunks:
                chunk.sent = now
                chunk.number = number
                chunk.sends += 1
                on_sent(chunk, now)
            in_flight += size
            budget -= size
            if len(chunks) == 1 and not len(first.payload) & 3:
                packets.append(b"".join((header, prefix, first.head, first.payload)))
            else:
                parts: list[bytes | memoryview] = [header, prefix]
                for chunk in chunks:
                    parts += (chunk.head, chunk.payload, PADDING[len(chunk.payload) & 3])
                packets.append(b"".join(parts))
            prefix = b""
            self.data_packets += 1
        self._probes_due = 0
        self.in_flight = in_flight
        if budget != allowance:
            self._pacer.on_sent(now, allowance - budget)
        if in_flight < window and not self._blocked_by_pacer:
            controller.on_app_limited(in_flight)
        if prefix:
            packets.append(header + prefix)
        return packets

    def _take_lost(self, chunks: list[SentChunk], space: int, may_exceed: bool, in_flight: int) -> int:
        """Move lost chunks into a packet; answer the space left."""
        lost = self._lost
        while lost:
            chunk = lost[0]
            if chunk.state != LOST:
                lost.popleft()
                continue
            if chunk.message is not None and chunk.message.is_abandoned:
                lost.popleft()
                self.abandoning.give_up(chunk)
                continue
            if self.peer_window == 0 and (in_flight or chunks):
                break  # one probe of a closed window is enough
            # A chunk cut for a larger path than there is now leaves alone, for IP to fragment (section 6.9).
            if chunk.size > space and not (may_exceed and not chunks):
                break
            lost.popleft()
            chunk.state = IN_FLIGHT
            self.retransmitted += 1
            chunks.append(chunk)
            space -= chunk.size
        return space

    # -- in ------------------------------------------------------------------------------------------------------------

    def on_sack(
        self, cumulative: int, window: int, gaps: list[tuple[int, int]], duplicates: list[int], now: float
    ) -> None:
        """Take a SACK as decoded. Raises MalformedMessage if it names what was never sent."""
        outstanding = self.outstanding
        advance = (cumulative - outstanding.cumulative) & 0xFFFFFFFF
        if advance >= HALF:
            return  # overtaken on the way
        cumulative = outstanding.cumulative + advance
        if gaps:
            gaps = [(cumulative + first, cumulative + last) for first, last in gaps]
        if (gaps[-1][1] if gaps else cumulative) >= outstanding.next_tsn:
            raise MalformedMessage("a SACK of what was never sent")
        self._has_heard = True
        self.peer_window = window
        recovery = self.recovery
        if duplicates and self.retransmitted:
            recovery.on_duplicate()
        newly = outstanding.acknowledge(cumulative, gaps)
        if newly:
            self._on_acknowledged(newly, now)
        lost = recovery.detect(now)
        if lost:
            self._on_lost(lost, now)
        if self.abandoning.count:
            self.abandoning.on_sack(cumulative, recovery.round_trip.interval, now)
        if not outstanding.chunks:
            recovery.stop_timer()

    def _on_acknowledged(self, newly: list[SentChunk], now: float) -> None:
        packets: list[Packet] = []
        spurious: list[Packet] = []
        in_flight = self.in_flight
        base = self._base_capacity
        again = False
        for chunk in newly:
            state = chunk.state
            if state == IN_FLIGHT:
                in_flight -= chunk.size
                if chunk.size > base:
                    self.large_losses = 0
                if chunk.packet is not None:
                    packets.append(chunk.packet)
                if chunk.sends > 1:
                    again = True
            elif state == LOST:
                self.spurious += 1
                if chunk.former is not None:
                    spurious.append(chunk.former)
            chunk.state = ACKNOWLEDGED
        self.in_flight = in_flight
        self.timeouts_in_row = 0
        rtt = self.recovery.on_acknowledged(newly, now, bool(self.outstanding.chunks))
        if again:
            packets.sort(key=_time_sent)
        if packets:
            self.controller.on_acknowledged(now, packets, in_flight, rtt)
        if spurious:
            self.controller.on_spurious(now, spurious)

    def _on_lost(self, lost: list[SentChunk], now: float) -> None:
        packets: list[Packet] = []
        for chunk in lost:
            if chunk.packet is not None:
                packets.append(chunk.packet)
            self._await_retransmission(chunk)
        if packets:
            self.controller.on_lost(now, packets, self.in_flight)

    def _await_retransmission(self, chunk: SentChunk) -> None:
        self.lost_chunks += 1
        self.in_flight -= chunk.size
        chunk.former, chunk.packet = chunk.packet, None
        if chunk.sends > 1 and chunk.size > self._base_capacity:
            self.large_losses += 1
        message = chunk.message
        if message is not None and (message.is_abandoned or chunk.sends > (message.max_retransmits or 0)):
            if not message.is_abandoned:
                self.abandoning.abandon(message)
            self.abandoning.give_up(chunk)
        else:
            self._lost.append(chunk)

    def _forward_tsn(self, now: float) -> bytes:
        chunk = self.abandoning.take_forward_tsn(now)
        if chunk:
            self.recovery.start_timer(now)
        return chunk

    # -- time ----------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When ``handle_timer`` or, for the pacer, ``transmit`` is due."""
        if self.abandoning.is_due:
            return 0.0  # at once
        due = self.recovery.deadline(self.in_flight)
        if self._blocked_by_pacer:
            paced = self._pacer.next_time()
            if paced is not None and (due is None or paced < due):
                return paced
        return due

    def handle_timer(self, now: float) -> None:
        """Whatever is due of T3-rtx, the tail-loss probe and the reordering timer."""
        recovery = self.recovery
        if recovery.is_held_up(now, self.in_flight):
            return
        if recovery.is_timed_out(now):
            self._on_timeout(now)
        elif recovery.take_probe(now, self.in_flight):
            self._probe_tail()
        elif recovery.reordering_deadline is not None and now >= recovery.reordering_deadline:
            lost = recovery.detect(now)
            if lost:
                self._on_lost(lost, now)

    def on_heard(self, now: float) -> None:
        """Data of the peer comes while we wait for its acknowledgement: do not wait long, for the path may be back.

        Not each time, since it may be our way to the peer that is cut.
        """
        if now - self._eased >= MAX_WAIT:
            self._eased = now
            self.recovery.round_trip.on_progress()

    def on_path(self, now: float) -> None:
        """Packets get through again."""
        if self.timeouts_in_row:
            self.timeouts_in_row = 0
            self.recovery.expire(now)

    def _on_timeout(self, now: float) -> None:
        if not self.outstanding.chunks:
            self.recovery.stop_timer()
            return
        for chunk in self.outstanding.reneged():
            chunk.state = LOST
            self._lost.append(chunk)
        for chunk in self.recovery.on_timeout(now):
            self._await_retransmission(chunk)
        self._lost = deque(sorted(self._lost, key=_tsn_of))  # what the peer waits for first goes first
        self.controller.on_timeout(now)
        self.timeouts += 1
        # A peer that keeps its window shut and answers our probes is alive (section 6.1 A).
        if self.peer_window > 0 or not self._has_heard:
            self.timeouts_in_row += 1
        self._has_heard = False
        self._probes_due = 1
        if self.abandoning.is_awaited():
            self.abandoning.is_due = True

    def _probe_tail(self) -> None:
        """Send one packet whatever the window says: new data, or what left last (RFC 8985 section 7.3)."""
        if self._lost or (self.queue.size and self.peer_window - self.in_flight >= self._capacity):
            self.tail_probes += 1
            self._probes_due = 1
            return
        chunk = self.recovery.tail()
        if chunk is not None:
            self.tail_probes += 1
            self._probes_due = 1
            # Not known to be lost: the controller is told of its second transmission alone.
            self.in_flight -= chunk.size
            chunk.former, chunk.packet = chunk.packet, None
            chunk.state = LOST
            _ask_for_acknowledgement(chunk)
            self._lost.append(chunk)


def _ask_for_acknowledgement(chunk: SentChunk) -> None:
    """Set the I bit (RFC 7053)."""
    head = chunk.head
    chunk.head = head[:1] + bytes((head[1] | IMMEDIATE,)) + head[2:]


def _tsn_of(chunk: SentChunk) -> int:
    return chunk.tsn


def _time_sent(packet: Packet) -> float:
    return packet.sent
