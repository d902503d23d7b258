"""An association between handshake and end: the chunks of packets in, packets out.

The loop in ``receive`` runs for every packet. DATA and I-DATA are read where they lie; what comes once in a while goes
through a table.
"""

from __future__ import annotations

from collections.abc import Callable

from meshd.errors import MalformedMessage
from meshd.transport.beats import Beats, is_beat
from meshd.transport.channels import DCEP_PPID, Channels
from meshd.transport.chunks import (
    ABORT,
    CAUSE_UNKNOWN_CHUNK,
    CHUNK,
    CHUNK_SIZE,
    COMMON_SIZE,
    DATA,
    DATA_HEADER,
    DATA_SIZE,
    ERROR,
    FORWARD_TSN,
    HEARTBEAT,
    HEARTBEAT_ACK,
    I_DATA,
    I_DATA_HEADER,
    I_DATA_SIZE,
    I_FORWARD_TSN,
    MAX_CHUNKS_IN_PACKET,
    RE_CONFIG,
    SACK,
    SHUTDOWN,
    SHUTDOWN_ACK,
    SHUTDOWN_COMPLETE,
    TSN,
    decode_forward_tsn,
    decode_parameters,
    decode_sack,
    encode_chunk,
    encode_parameter,
)
from meshd.transport.closing import Closing, Phase
from meshd.transport.config import AssociationConfig
from meshd.transport.events import (
    Closed,
    Drained,
    Event,
    HeartbeatAcknowledged,
    HeartbeatReceived,
    StreamReset,
)
from meshd.transport.handshake import PeerParameters
from meshd.transport.path_mtu import BLACK_HOLE_TIMEOUTS, PathMtu
from meshd.transport.receiver import Receiver
from meshd.transport.send_queue import SendQueue
from meshd.transport.sender import LARGE_LOSSES, Sender
from meshd.transport.stream_reset import StreamResets

# Specification
SKIP_UNKNOWN, REPORT_UNKNOWN = 0x80, 0x40  # RFC 9260 section 3.2: the two highest bits of a chunk's type

# Policy
SEARCH_SIZE = 16_384  # unsent bytes from which on larger packets are worth a search for what the path carries
MAX_CONTROL_SIZE = 16_384  # bytes of answers that wait to leave; a peer that asks for more gets fewer
MAX_HEARTBEAT_SIZE = 1_024  # bytes of one that are sent back: our answer has to get through on any path
MAX_REPORTS_SIZE = 512  # bytes of answers that wait already, above which nothing is quoted: a quote is the longer one
MAX_REPORTED_SIZE = 64  # bytes of an unknown chunk that are quoted back


class Session:
    """``ending`` is set when it is over; messages and the like go into ``events``."""

    __slots__ = (
        "_beats",
        "_channels",
        "_control",
        "_control_size",
        "_handlers",
        "_has_heard",
        "_interleaving",
        "_peer",
        "_queue",
        "closing",
        "ending",
        "events",
        "path_mtu",
        "receiver",
        "resets",
        "sender",
    )

    def __init__(
        self,
        config: AssociationConfig,
        queue: SendQueue,
        peer: PeerParameters,
        initial_tsn: int,
        events: list[Event],
        now: float,
    ) -> None:
        self._interleaving = queue.interleaving = config.offer_interleaving and peer.interleaving
        self._peer = peer
        self._queue = queue
        self.events = events
        self.ending: Closed | None = None
        self.sender = Sender(config, queue, initial_tsn, peer.window, now)
        self.receiver = Receiver(config, peer.initial_tsn, self._interleaving)
        # RFC 4820 lets anybody be probed, since unknown chunks of that type are skipped. But werift dies of one, and
        # aiortc takes what is beyond 1,500 bytes of a record for its next packet: only who names PAD is probed.
        ceiling = config.max_packet_size if peer.padding else config.base_packet_size
        self.path_mtu = PathMtu(config.base_packet_size, ceiling)
        self.resets = StreamResets(initial_tsn, peer.initial_tsn)
        self.closing = Closing()
        self._channels = Channels(peer, queue, self.resets)
        self._control: list[bytes] = []
        self._control_size = 0
        self._has_heard = False  # a sign of life in the packet at hand
        self._beats = Beats()
        self._handlers: dict[int, Callable[[bytes, float], None]] = {
            SACK: self._on_sack,
            HEARTBEAT: self._on_heartbeat,
            HEARTBEAT_ACK: self._on_heartbeat_ack,
            ABORT: self._on_abort,
            ERROR: self._on_nothing,
            RE_CONFIG: self._on_re_config,
            SHUTDOWN: self._on_shutdown,
            SHUTDOWN_ACK: self._on_shutdown_ack,
            SHUTDOWN_COMPLETE: self._on_shutdown_complete,
            (I_FORWARD_TSN if self._interleaving else FORWARD_TSN): self._on_forward_tsn,
        }

    @property
    def can_abandon(self) -> bool:
        """Whether the peer understands that messages are given up (RFC 3758)."""
        return self._peer.partial_reliability

    # -- in ------------------------------------------------------------------------------------------------------------

    def receive(self, packet: bytes, offset: int, now: float) -> None:
        """Take the chunks from ``offset`` on. Raises MalformedMessage for what no honest peer sends."""
        size = len(packet)
        interleaving = self._interleaving
        data_kind, data_size = (I_DATA, I_DATA_SIZE) if interleaving else (DATA, DATA_SIZE)
        on_data = self.receiver.on_data
        chunks = 0
        has_data = self._has_heard = False
        while size - offset >= CHUNK_SIZE and self.ending is None:
            kind = packet[offset]
            if kind == data_kind:
                if size - offset <= data_size:
                    raise MalformedMessage("a chunk without data")
                if interleaving:
                    _, flags, length, tsn, stream, _, number, word = I_DATA_HEADER.unpack_from(packet, offset)
                else:
                    _, flags, length, tsn, stream, number, word = DATA_HEADER.unpack_from(packet, offset)
                end = offset + length
                if end > size or length <= data_size:
                    raise MalformedMessage("a chunk of a wrong length")
                on_data(tsn, flags, stream, number, word, packet[offset + data_size : end], interleaving, now)
                has_data = True
            else:
                _, flags, length = CHUNK.unpack_from(packet, offset)
                end = offset + length
                if end > size or length < CHUNK_SIZE:
                    raise MalformedMessage("a chunk of a wrong length")
                handler = self._handlers.get(kind)
                if handler is not None:
                    handler(packet[offset + CHUNK_SIZE : end], now)
                elif not self._on_unknown(kind, packet[offset:end]):
                    break
            offset += (length + 3) & ~3
            chunks += 1
            if chunks > MAX_CHUNKS_IN_PACKET:
                raise MalformedMessage("too many chunks in a packet")
        if has_data:
            self.receiver.on_packet(now)
        if (has_data or self._has_heard) and self.sender.timeouts_in_row:
            self.sender.on_heard(now)
        if self.receiver.reassembly.messages:
            self._deliver()

    def _deliver(self) -> None:
        messages = self.receiver.reassembly.messages
        self.receiver.reassembly.messages = []
        for message in messages:
            if message.ppid != DCEP_PPID:
                self.events.append(message)
            elif (opened := self._channels.on_message(message)) is not None:
                self.events.append(opened)

    def _on_unknown(self, kind: int, chunk: bytes) -> bool:
        """RFC 9260 section 3.2: whether to go on with the packet."""
        if kind & REPORT_UNKNOWN and self._control_size < MAX_REPORTS_SIZE:
            self._say(encode_chunk(ERROR, encode_parameter(CAUSE_UNKNOWN_CHUNK, chunk[:MAX_REPORTED_SIZE])))
        return bool(kind & SKIP_UNKNOWN)

    def _on_nothing(self, body: bytes, now: float) -> None:
        """ERROR: what it reports we would have to know already."""

    def _on_sack(self, body: bytes, now: float) -> None:
        sender = self.sender
        was_drained = sender.is_drained
        cumulative, window, gaps, duplicates = decode_sack(body)
        sender.on_sack(cumulative, window, gaps, duplicates, now)
        if sender.large_losses >= LARGE_LOSSES:
            self._suspect_black_hole(now)
        if not was_drained and sender.is_drained:
            self.events.append(Drained())

    def _on_heartbeat(self, body: bytes, now: float) -> None:
        self._has_heard = True
        if HeartbeatReceived() not in self.events[-1:]:
            self.events.append(HeartbeatReceived())
        if len(body) <= MAX_HEARTBEAT_SIZE:
            self._say(encode_chunk(HEARTBEAT_ACK, body))

    def heartbeat(self, number: int, now: float) -> None:
        """Ask whether the peer lives: in the next packet, and never again."""
        self._say(self._beats.ask(number, now))

    def _on_heartbeat_ack(self, body: bytes, now: float) -> None:
        self._has_heard = True
        if is_beat(body):
            answered = self._beats.take(body)
            if answered is not None:
                number, asked = answered
                self.sender.recovery.round_trip.sample(now - asked, now)  # an idle link measures nothing else
                self.events.append(HeartbeatAcknowledged(number))
        elif self.path_mtu.on_heartbeat_ack(body, now):
            self.sender.set_packet_size(self.path_mtu.size)

    def _on_abort(self, body: bytes, now: float) -> None:
        causes = decode_parameters(body)
        text = causes[0][1][:MAX_REPORTED_SIZE].decode("ascii", "replace") if causes else ""
        self.ending = Closed("aborted_by_peer", text)

    def _on_forward_tsn(self, body: bytes, now: float) -> None:
        tsn, skipped = decode_forward_tsn(body, self._interleaving)
        self.receiver.on_forward_tsn(tsn, skipped)

    def _on_re_config(self, body: bytes, now: float) -> None:
        streams = self.receiver.reassembly.stream_count
        answers, theirs, ours = self.resets.on_re_config(body, self.receiver.cumulative, streams)
        if answers:
            self._say(answers)
        if self.receiver.reassembly.messages:
            self._deliver()  # what came before the reset is told before it
        for stream in theirs:
            self.receiver.reassembly.reset(stream)
            self.events.append(StreamReset(stream))
            self._channels.on_reset(stream)
        for stream in ours:
            self._queue.restart_stream(stream)

    def reset_stream(self, stream: int) -> None:
        """Close our side of a stream once everything queued on it has left."""
        self._channels.reset(stream)

    def _on_shutdown(self, body: bytes, now: float) -> None:
        if len(body) != TSN.size:
            raise MalformedMessage("a SHUTDOWN of a wrong length")
        (cumulative,) = TSN.unpack(body)
        self.sender.on_sack(cumulative, self.sender.peer_window, [], [], now)
        self.closing.on_shutdown()

    def _on_shutdown_ack(self, body: bytes, now: float) -> None:
        chunk = self.closing.on_shutdown_ack()
        if chunk:
            self._say(chunk)
            self.ending = Closed("shutdown")

    def _on_shutdown_complete(self, body: bytes, now: float) -> None:
        self.closing.on_shutdown_complete()
        if self.closing.phase is Phase.OVER:
            self.ending = Closed("shutdown")

    def _suspect_black_hole(self, now: float) -> None:
        """RFC 8899 section 4.3: the path may carry less than it did, and nobody says so."""
        self.sender.large_losses = 0
        if self.path_mtu.on_black_hole(now):
            self.sender.set_packet_size(self.path_mtu.size)

    # -- out -----------------------------------------------------------------------------------------------------------

    def _say(self, chunk: bytes) -> None:
        """Queue a control chunk, or let it be if too many wait: whoever needs it asks again."""
        if self._control_size + len(chunk) <= MAX_CONTROL_SIZE:
            self._control.append(chunk)
            self._control_size += len(chunk)

    def transmit(self, now: float, header: bytes) -> list[bytes]:
        """The packets that may leave now, each behind ``header``."""
        sender = self.sender
        prefix = self.receiver.take_sack(now, sender.can_send)
        self._queue_rare(now)
        full: list[bytes] = []
        if self._control:
            full, prefix = self._bundle(prefix)
        if self.path_mtu.is_waiting and self._queue.size >= SEARCH_SIZE:
            self.path_mtu.begin(now)
        packets = sender.transmit(now, prefix, header)
        due = self.path_mtu.next_deadline
        if due is not None and now >= due:
            full.append(self.path_mtu.take_probe(now, sender.recovery.round_trip.rto))
        if full:
            packets += [header + body for body in full if body]
        return packets

    def _queue_rare(self, now: float) -> None:
        resets = self.resets
        if resets.wanted or resets.next_deadline is not None:
            drained = [stream for stream in resets.wanted if not self._queue.has(stream)]
            chunk = resets.take_request(
                drained, self.sender.outstanding.next_tsn - 1, now, self.sender.recovery.round_trip.rto
            )
            if chunk:
                self._say(chunk)
        if self.closing.phase is not Phase.OPEN:
            chunk = self.closing.take_chunk(
                self.sender.is_drained, self.receiver.cumulative, now, self.sender.recovery.round_trip.rto
            )
            if chunk:
                self._say(chunk)

    def _bundle(self, prefix: bytes) -> tuple[list[bytes], bytes]:
        """Put control chunks behind the SACK: full bodies of packets, and the rest."""
        bodies: list[bytes] = []
        capacity = self.path_mtu.size - COMMON_SIZE
        for chunk in self._control:
            if prefix and len(prefix) + len(chunk) > capacity:
                bodies.append(prefix)
                prefix = b""
            prefix += chunk
        self._control = []
        self._control_size = 0
        return bodies, prefix

    def goodbye(self) -> bytes:
        """What is still to be said after ``ending`` was set: SHUTDOWN COMPLETE."""
        return b"".join(self._control)

    # -- time ----------------------------------------------------------------------------------------------------------

    def on_path(self, now: float, moved: bool) -> None:
        """Packets get through again, or (``moved``) go another way from now on."""
        if moved:
            self.path_mtu.restart(now)
            self.sender.set_packet_size(self.path_mtu.size)
        self.sender.on_path(now)

    def next_deadline(self) -> float | None:
        """The earliest of all timers; 0 if something waits to leave at once."""
        if self._control:
            return 0.0
        due = self.receiver.next_deadline
        for other in (
            self.sender.next_deadline(),
            self.path_mtu.next_deadline,
            self.resets.next_deadline,
            self.closing.next_deadline,
        ):
            if other is not None and (due is None or other < due):
                due = other
        return due

    def handle_timer(self, now: float, max_timeouts: int) -> None:
        """Whatever is due; sets ``ending`` if the peer has not answered for too long."""
        self.receiver.handle_timer(now)
        sender = self.sender
        sender.handle_timer(now)
        if sender.timeouts_in_row:
            if sender.timeouts_in_row >= BLACK_HOLE_TIMEOUTS:
                self._suspect_black_hole(now)
            if sender.timeouts_in_row > max_timeouts:
                self.ending = Closed("timeout", "the peer acknowledges nothing")
        if self.resets.is_hopeless or self.closing.timeouts > max_timeouts:
            self.ending = Closed("timeout", "the peer does not answer")
