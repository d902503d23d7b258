"""The shell around ``meshd.transport``: one SCTP association between a link's frames and its DTLS.

The association is pure and has no clock; here it gets timers, randomness and packets. Frames are handed to it a little
ahead of time only, so that what is urgent waits for little and bulk is read from its descriptor when it can leave.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Callable
from typing import Literal, cast

from meshd.links.demux import Address
from meshd.links.statistics import RateMeter
from meshd.special_addresses import is_loopback
from meshd.transport.association import Association
from meshd.transport.config import BASE_PACKET_SIZE, MAX_DTLS_RECORD_SIZE, AssociationConfig
from meshd.transport.events import Event, Message
from meshd.transport.statistics import AssociationStatistics
from meshd.wire.frame import MAX_FRAME_SIZE, PRIORITY_MASK, PRIORITY_SHIFT, TYPE_MASK, FrameType

# Specification
BINARY_PPID = 53  # WebRTC Binary: RFC 8831 section 8. A frame is never empty
CONTROL_STREAM = 0  # the two data channels, agreed beforehand: frames of priority 0 and 1 on this one,
BULK_STREAM = 1  # those of priority 2 here, so that bulk that was lost holds up nothing else
BULK_PRIORITY = 2
IP_MTU, IPV6_MTU = 14, 24  # ip(7), ipv6(7)
HEADER_SIZES = {socket.AF_INET: 28, socket.AF_INET6: 48}  # of IP and UDP

# Policy
STALLED_TIMEOUTS = 2  # retransmission timeouts in a row: the path may have gone
MAX_TIMEOUTS = 150  # minutes: whether the peer is there is for heartbeats and consent to say, which both wait as well
HAND_OVER_SIZE = 131_072  # bytes given to SCTP that have not left: two full batches of the socket
MAX_BURST_SIZE = 131_072  # bytes sent in one go, half a millisecond's work; then the loop reads what has come meanwhile
MAX_UNACKNOWLEDGED_SIZE = 6_291_456  # bytes; half as much again as a receiver like ours takes beyond a missing packet
TIMER_SLACK = 0.001  # seconds; the loop's timers count milliseconds, so moving one for less is not worth it


class LinkAssociation:
    """One association. Called on asyncio's loop; nothing waits.

    ``send(packets)`` seals and sends; ``take()`` gives the next frame, None if there is none; ``tell(event)`` gets what
    has happened. Both may call back here. ``let_fragment(True)`` has packets leave without the DF bit until it is
    called with False. ``on_fault(error)`` gets whatever goes wrong in here: all links share a socket, so an exception
    that went up to it would stop the others, too.
    """

    def __init__(
        self,
        config: AssociationConfig,
        *,
        send: Callable[[list[bytes]], None],
        take: Callable[[], bytes | None],
        tell: Callable[[Event], None],
        let_fragment: Callable[[bool], None],
        on_fault: Callable[[Exception], None],
    ) -> None:
        self._association = Association(
            config,
            tag=secrets.randbelow(2**32 - 1) + 1,
            initial_tsn=secrets.randbits(32),
            cookie_key=secrets.token_bytes(32),
            now=time.monotonic(),
        )
        self._send = send
        self._take = take
        self._tell = tell
        self._let_fragment = let_fragment
        self._on_fault = on_fault
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._woken = False
        self._ended = False
        self.on_stall: Callable[[], None] = _nothing  # nothing has been acknowledged for a while
        self.bytes_sent = self.bytes_received = 0  # of frames
        now = time.monotonic()
        self._sending, self._receiving = RateMeter(now), RateMeter(now)

    @property
    def has_unacknowledged(self) -> bool:
        """Whether anything is still to be sent or acknowledged."""
        return self.buffered_size > 0

    @property
    def buffered_size(self) -> int:
        """Bytes handed over and not acknowledged."""
        return self._association.unsent_size() + self._association.unacknowledged_size

    def statistics(self) -> AssociationStatistics | None:
        """One reading of all figures; None before it is established."""
        return self._association.statistics()

    def rates(self) -> tuple[float, float]:
        """Bytes of frames a second, out and in, over the last seconds."""
        now = time.monotonic()
        return self._sending.rate(now, self.bytes_sent), self._receiving.rate(now, self.bytes_received)

    def connect(self) -> None:
        """Begin. The peer begins too, which is as it should be (RFC 9260 section 5.2.1)."""
        self._association.connect(time.monotonic())
        self.flush()

    def receive(self, packet: bytes) -> None:
        """Take one packet; ``flush`` answers, when no more come for now."""
        if not self._ended:
            try:
                self._association.receive(packet, time.monotonic())
            except Exception as error:
                self._on_fault(error)

    def heartbeat(self, number: int) -> None:
        """Ask whether the peer lives, past all that waits."""
        if not self._ended:
            self._association.heartbeat(number, time.monotonic())
            self.wake()

    def wake(self) -> None:
        """There may be something to send. Soon and not now, so that what comes in one go leaves in one packet."""
        if not self._flushing:
            self._continue()

    def _continue(self) -> None:
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._on_wake)

    def _on_wake(self) -> None:
        self._woken = False
        self.flush()

    def flush(self) -> None:
        """Tell what has happened, send what may leave, and again until nothing moves."""
        if self._flushing:
            return  # the loop below goes round once more
        self._flushing = True
        try:
            self._exchange()
        except Exception as error:
            self._on_fault(error)
        finally:
            self._flushing = False

    def _exchange(self) -> None:
        association = self._association
        now = time.monotonic()
        sent = 0
        events = association.take_events()
        while not self._ended:
            for event in events:
                if isinstance(event, Message):
                    self.bytes_received += len(event.data)
                self._tell(event)
            has_more = association.is_established and self._hand_over()
            now = time.monotonic()
            packets = association.transmit(now)
            if packets:
                self._dispatch(packets)
                sent += sum(map(len, packets))
                if sent > MAX_BURST_SIZE:
                    self._continue()
                    break
            # ``transmit`` has given all that may leave: only more frames, or news, make it worth asking again.
            events = association.take_events()
            if not events and not (packets and has_more):
                break
        if not self._ended:
            self._sending.update(now, self.bytes_sent)
            self._receiving.update(now, self.bytes_received)
            self._arm(now)

    def end(self) -> None:
        """Say that it is over, to the peer too, and stop all timers."""
        if not self._ended:
            self._ended = True
            if not self._association.is_closed:
                now = time.monotonic()
                self._association.abort()
                self._send(self._association.transmit(now))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def path_works(self, moved: bool) -> None:
        """Packets get through again; ``moved``: by another path. What waits goes now."""
        if not self._ended and (moved or self._association.timeouts_in_row):
            self._association.on_path(time.monotonic(), moved=moved)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self.wake()

    def _dispatch(self, packets: list[bytes]) -> None:
        """Send these, and let IP cut those that were made for a path that carried more."""
        may_be_fragmented = self._association.may_be_fragmented
        if max(map(len, packets)) > self._association.packet_size:
            large = [packet for packet in packets if may_be_fragmented(packet)]
            packets = [packet for packet in packets if not may_be_fragmented(packet)]
            self._let_fragment(True)
            for packet in large:
                self._send([packet])
            self._let_fragment(False)
        if packets:
            self._send(packets)

    def _hand_over(self) -> bool:
        """Give SCTP what it may have ahead of time. Whether there may be more."""
        association = self._association
        # A peer may acknowledge all but the first for ever: what it has not acknowledged in order has to be kept.
        if association.unacknowledged_size > MAX_UNACKNOWLEDGED_SIZE:
            return False
        while association.unsent_size() < HAND_OVER_SIZE:
            frame = self._take()
            if frame is None:
                return False
            self.bytes_sent += len(frame)
            kind = frame[0]
            priority = (kind & PRIORITY_MASK) >> PRIORITY_SHIFT
            stream = BULK_STREAM if priority == BULK_PRIORITY else CONTROL_STREAM
            if kind & TYPE_MASK == FrameType.DATAGRAM:
                association.send(stream, BINARY_PPID, frame, priority=priority, ordered=False, max_retransmits=0)
            else:
                association.send(stream, BINARY_PPID, frame, priority=priority)
        return True

    def _arm(self, now: float) -> None:
        """One timer, moved only if it would come too late: one that comes early looks again.

        Where nothing is due at all it is taken back: after each heartbeat it came to find nothing to do.
        """
        deadline = self._association.next_deadline()
        if deadline is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        if self._timer is not None:
            if deadline >= self._timer_at - TIMER_SLACK:
                return
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = asyncio.get_running_loop().call_later(max(deadline - now, 0.0), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._ended:
            now = time.monotonic()
            deadline = self._association.next_deadline()
            if deadline is None or deadline > now + TIMER_SLACK:
                self._arm(now)  # acknowledged meanwhile: nothing to do
                return
            try:
                self._association.handle_timer(now)
            except Exception as error:
                self._on_fault(error)
            self.flush()
            if self._association.timeouts_in_row >= STALLED_TIMEOUTS:
                self.on_stall()


def _nothing() -> None:
    pass


def config_of(congestion: str, max_packet_size: int) -> AssociationConfig:
    """The settings of an association that carries frames."""
    return AssociationConfig(
        congestion=cast(Literal["bbr", "reno"], congestion),
        max_packet_size=max(max_packet_size, BASE_PACKET_SIZE),
        max_message_size=MAX_FRAME_SIZE,
        max_timeouts=MAX_TIMEOUTS,
    )


def max_packet_size(remote: Address, overhead: int) -> int:
    """The largest SCTP packet that the first hop towards ``remote`` takes, below ``overhead`` bytes of DTLS.

    What lies behind the first hop, path MTU discovery finds out; this is where it stops asking. Over IPv6, except on
    this machine, it does not begin: should the path carry less later and nobody say so, what has been cut for more
    could not get through any more, since only routers of IPv4 make fragments.
    """
    if ":" in remote[0] and not is_loopback(remote[0]):
        return BASE_PACKET_SIZE
    family = socket.AF_INET6 if ":" in remote[0] else socket.AF_INET
    level, option = (socket.IPPROTO_IPV6, IPV6_MTU) if family == socket.AF_INET6 else (socket.IPPROTO_IP, IP_MTU)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(remote)  # sends nothing: it looks up the route
            mtu = probe.getsockopt(level, option)
    except OSError:
        return BASE_PACKET_SIZE
    return min(mtu - HEADER_SIZES[family] - overhead, MAX_DTLS_RECORD_SIZE)
