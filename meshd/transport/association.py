"""One SCTP association (RFC 9260): packets in, packets out, messages between; no socket, no clock, no dice."""

from __future__ import annotations

from meshd.errors import LocalMisuse, MalformedMessage
from meshd.transport.chunks import (
    ABORT,
    CAUSE_PROTOCOL_VIOLATION,
    CAUSE_STALE_COOKIE,
    CAUSE_USER_ABORT,
    CHUNK,
    CHUNK_SIZE,
    COMMON,
    COMMON_SIZE,
    COOKIE_ACK,
    COOKIE_ECHO,
    DATA,
    ERROR,
    I_DATA,
    INIT,
    INIT_ACK,
    PORTS_AND_TAG,
    SHUTDOWN_COMPLETE,
    TAG_REFLECTED,
    checksum_of,
    decode_parameters,
    encode_chunk,
    encode_packet,
    encode_parameter,
    is_checksum_right,
)
from meshd.transport.closing import Phase
from meshd.transport.config import AssociationConfig
from meshd.transport.events import Closed, CloseReason, Established, Event, Writable
from meshd.transport.send_queue import MAX_MESSAGES, PRIORITIES, Outgoing, SendQueue
from meshd.transport.session import Session
from meshd.transport.setup import Setup, Stage
from meshd.transport.statistics import AssociationStatistics, statistics_of

# Policy
MAX_ANSWERS = 8  # packets of the handshake that wait to leave; a peer that asks on and on gets no more at a time

_SETUP_KINDS = frozenset((INIT, INIT_ACK, COOKIE_ECHO, COOKIE_ACK))


class Association:
    """Sans-IO. After ``connect``, ``receive``, ``send``, ``handle_timer``, ``shutdown`` or ``abort`` the owner asks
    ``transmit`` for the packets that may leave and ``take_events`` for what has happened, and sets its timer to
    ``next_deadline``. Several calls of ``receive`` (a batch from the socket) may come before one ``transmit``: their
    acknowledgements then leave as one.

    ``now`` is in monotonic seconds. Nothing that a peer sends raises: at worst the association ends with
    ``Closed("peer_misbehaved")``.
    """

    def __init__(self, config: AssociationConfig, *, tag: int, initial_tsn: int, cookie_key: bytes, now: float) -> None:
        """``tag`` (1 to 2**32 - 1) and ``initial_tsn`` (0 to 2**32 - 1) are random; ``cookie_key`` 32 random bytes."""
        self._config = config
        self._tag = tag
        self._initial_tsn = initial_tsn
        self._setup = Setup(config, tag, initial_tsn, cookie_key)
        self._queue = SendQueue()
        self._session: Session | None = None
        self._events: list[Event] = []
        self._ready: list[bytes] = []
        """Whole packets that leave with the next ``transmit``, those of the handshake."""
        self._header = b""
        self._zero_header = b""
        self._is_closed = False
        self._is_ending = False
        self._is_above_low_water = False
        self._packets_sent = self._bytes_sent = self._packets_received = self._bytes_received = 0

    # -- the peer's packets --------------------------------------------------------------------------------------------

    def connect(self, now: float) -> None:
        """Send INIT. Both ends may (RFC 9260 section 5.2.1), as WebRTC peers do; one that never does still answers."""
        if not self._is_closed:
            self._ready += self._setup.connect(now)

    def receive(self, packet: bytes, now: float) -> None:
        """Take one packet out of DTLS. Does nothing once the association is closed."""
        if self._is_closed:
            return
        self._packets_received += 1
        self._bytes_received += len(packet)
        try:
            self._take(packet, now)
        except MalformedMessage as problem:
            self._end("peer_misbehaved", str(problem), CAUSE_PROTOCOL_VIOLATION)
        session = self._session
        if session is not None and session.ending is not None:
            self._on_ending(session.ending)

    def _take(self, packet: bytes, now: float) -> None:
        if len(packet) < COMMON_SIZE + CHUNK_SIZE:
            raise MalformedMessage("a packet too short")
        _, port, tag, checksum = COMMON.unpack_from(packet)
        kind = packet[COMMON_SIZE]
        # Packets of another association, or damaged ones, are not the peer's fault (sections 6.8 and 8.5).
        if port != self._config.port or (tag != self._tag and not self._is_foreign_tag_right(tag, packet)):
            return
        # Zero stands for no checksum, which we offered: DTLS has checked the packet (RFC 9653 section 5.3).
        if (checksum or not self._config.offer_zero_checksum) and not is_checksum_right(packet):
            return
        offset = COMMON_SIZE
        session = self._session
        if session is None or kind in _SETUP_KINDS:
            offset = self._on_setup(packet, kind, tag, now)
            session = self._session
            if session is None or not offset:
                return
        session.receive(packet, offset, now)

    def _is_foreign_tag_right(self, tag: int, packet: bytes) -> bool:
        """Section 8.5.1: INIT comes under tag 0, and a peer that does not know our tag reflects its own."""
        kind, flags = packet[COMMON_SIZE], packet[COMMON_SIZE + 1]
        if kind == INIT:
            return tag == 0
        peer = self._setup.peer
        return (
            kind in (ABORT, SHUTDOWN_COMPLETE) and bool(flags & TAG_REFLECTED) and peer is not None and tag == peer.tag
        )

    def _on_setup(self, packet: bytes, kind: int, tag: int, now: float) -> int:
        """The first chunk of a packet while there is no session, or of the handshake; where the next begins."""
        length: int = CHUNK.unpack_from(packet, COMMON_SIZE)[2]
        end = COMMON_SIZE + length
        if length < CHUNK_SIZE or end > len(packet):
            raise MalformedMessage("a chunk of a wrong length")
        if len(self._ready) >= MAX_ANSWERS:
            return 0
        body = packet[COMMON_SIZE + CHUNK_SIZE : end]
        setup = self._setup
        if kind == INIT:
            if tag == 0:
                self._ready += setup.on_init(body, now)
                if setup.stage is Stage.RESTARTED:
                    self._close(Closed("peer_restarted", "an INIT with another tag"))
            return 0  # section 6.10: INIT and INIT ACK are alone in their packets
        if kind == INIT_ACK:
            self._ready += setup.on_init_ack(body, now)
            return 0
        if kind == COOKIE_ECHO:
            self._ready += setup.on_cookie_echo(body, now)
        elif kind in (COOKIE_ACK, DATA, I_DATA):
            setup.on_cookie_ack()
        elif kind == ABORT:
            self._close(Closed("aborted_by_peer", "during the handshake"))
            return 0
        elif kind == ERROR and any(cause == CAUSE_STALE_COOKIE for cause, _ in decode_parameters(body)):
            self._ready += setup.on_stale_cookie(now)
        if setup.stage is Stage.DONE and self._session is None:
            self._establish(now)
        return COMMON_SIZE if kind in (DATA, I_DATA) else COMMON_SIZE + ((length + 3) & ~3)

    def _establish(self, now: float) -> None:
        peer = self._setup.peer
        assert peer is not None
        session = self._session = Session(self._config, self._queue, peer, self._initial_tsn, self._events, now)
        if self._setup.rtt is not None:
            session.sender.recovery.round_trip.sample(self._setup.rtt, now)
        self._header = PORTS_AND_TAG.pack(self._config.port, self._config.port, peer.tag)
        if peer.zero_checksum and self._config.offer_zero_checksum:
            self._zero_header = self._header + b"\0\0\0\0"
        self._events.append(Established(self._queue.interleaving))
        if self._is_ending:
            session.closing.want()

    # -- the owner's messages ------------------------------------------------------------------------------------------

    def send(
        self,
        stream: int,
        ppid: int,
        data: bytes,
        *,
        priority: int = 0,
        ordered: bool = True,
        max_retransmits: int | None = None,
    ) -> None:
        """Queue one message of at least one byte; it may be queued before the association is established.

        Lower ``priority`` numbers leave first, between fragments if I-DATA is in use and between messages otherwise.
        With ``max_retransmits`` the message is given up once a part of it has been lost that often plus one (RFC 3758).
        Does nothing once the association is closed or asked to shut down. Raises LocalMisuse if the message is empty or
        too large, the stream not below ``max_streams``, the priority not in 0 to 7, or the send buffer full: look at
        ``unsent_size``.
        """
        if self._is_closed or self._is_ending:
            return
        size = len(data)
        if not 0 < size <= self._config.max_message_size:
            raise LocalMisuse(f"a message of {size} bytes: 1 to {self._config.max_message_size} can be sent")
        if not 0 <= stream < self._config.max_streams or not 0 <= priority < PRIORITIES:
            raise LocalMisuse(f"stream {stream}, priority {priority}: out of range")
        queue = self._queue
        if (
            queue.size + self.unacknowledged_size + size > self._config.max_send_buffer_size
            or queue.count >= MAX_MESSAGES
        ):
            raise LocalMisuse("the send buffer is full: wait for Writable")
        session = self._session
        if session is not None and session.closing.phase is not Phase.OPEN:
            return
        if max_retransmits is not None and session is not None and not session.can_abandon:
            max_retransmits = None
        queue.put(Outgoing(stream, ppid, data, priority, ordered, max_retransmits))
        if queue.size >= self._config.low_water_size:
            self._is_above_low_water = True

    def reset_stream(self, stream: int) -> None:
        """Close our side of a stream once everything queued on it has left (RFC 6525, RFC 8831 section 6.7)."""
        if self._session is not None and not self._is_closed:
            self._session.reset_stream(stream)

    def heartbeat(self, number: int, now: float) -> None:
        """Ask whether the peer lives (RFC 9260 section 8.3): once, now, whatever waits or is in flight.

        Its answer is ``HeartbeatAcknowledged(number)``. Does nothing unless established.
        """
        if self._session is not None and not self._is_closed:
            self._session.heartbeat(number, now)

    def set_unread_size(self, size: int) -> None:
        """Say how many delivered bytes the owner still holds: they narrow the receive window until they are read."""
        if self._session is not None and not self._is_closed:
            self._session.receiver.set_unread_size(size)

    def shutdown(self) -> None:
        """End in good order (RFC 9260 section 9.2): what is queued is delivered, then ``Closed("shutdown")``."""
        if self._is_closed or self._is_ending:
            return
        self._is_ending = True
        if self._session is not None:
            self._session.closing.want()
        elif self._setup.stage is Stage.LISTENING:
            self._close(Closed("shutdown", "before it began"))

    def abort(self, reason: str = "") -> None:
        """End at once with an ABORT that carries ``reason``; ``transmit`` once more sends it."""
        if not self._is_closed:
            self._end("aborted", reason, CAUSE_USER_ABORT)

    # -- what leaves ---------------------------------------------------------------------------------------------------

    def transmit(self, now: float) -> list[bytes]:
        """The packets that may leave now, under window, pacing and priority."""
        packets, self._ready = self._ready, []
        session = self._session
        if session is not None and not self._is_closed:
            if self._zero_header:
                packets += session.transmit(now, self._zero_header)
            else:
                header = self._header
                packets += [header + checksum_of(header, body) + body for body in session.transmit(now, b"")]
            if self._is_above_low_water and self._queue.size < self._config.low_water_size:
                self._is_above_low_water = False
                self._events.append(Writable())
        if packets:
            self._packets_sent += len(packets)
            self._bytes_sent += sum(map(len, packets))
        return packets

    # -- time ----------------------------------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Do what is due; harmless when nothing is."""
        if self._is_closed:
            return
        session = self._session
        if session is not None:
            session.handle_timer(now, self._config.max_timeouts)
            if session.ending is not None:
                self._on_ending(session.ending)
        elif self._setup.is_too_late(now):
            self._end("handshake_timeout", "", CAUSE_USER_ABORT)
        else:
            self._ready += self._setup.handle_timer(now)

    def on_path(self, now: float, *, moved: bool) -> None:
        """The layer below knows that packets get through again; ``moved``: by another path than before.

        What had been given up for lost is sent again now, whatever the timers have backed off to, and of another path
        nothing is taken for granted but the base size of packets.
        """
        if self._session is not None and not self._is_closed:
            self._session.on_path(now, moved)

    def next_deadline(self) -> float | None:
        """When ``handle_timer`` and then ``transmit`` are to be called; pacing and delayed acknowledgement included."""
        if self._ready:
            return 0.0
        if self._is_closed:
            return None
        session = self._session
        return self._setup.next_deadline if session is None else session.next_deadline()

    # -- the end -------------------------------------------------------------------------------------------------------

    def _on_ending(self, ending: Closed) -> None:
        if self._is_closed:
            return
        if ending.reason == "timeout":
            self._end("timeout", ending.detail, CAUSE_USER_ABORT)
            return
        farewell = self._session.goodbye() if self._session is not None else b""
        if ending.reason == "shutdown" and farewell:
            self._ready.append(self._seal(farewell))
        self._close(ending)

    def _end(self, reason: CloseReason, detail: str, cause: int) -> None:
        """Tell the peer by ABORT, if there is one, and close."""
        if self._setup.peer is not None:
            self._ready.append(self._seal(encode_chunk(ABORT, encode_parameter(cause, detail.encode()[:128]))))
        self._close(Closed(reason, detail))

    def _seal(self, body: bytes) -> bytes:
        peer = self._setup.peer
        assert peer is not None
        return encode_packet(self._config.port, peer.tag, body)

    def _close(self, closed: Closed) -> None:
        self._is_closed = True
        self._events.append(closed)
        self._queue = SendQueue()

    # -- what can be asked ---------------------------------------------------------------------------------------------

    def take_events(self) -> list[Event]:
        """What has happened since the last call, in order."""
        events = self._events
        if not events:
            return []
        self._events = []
        if self._session is not None:
            self._session.events = self._events
        return events

    def unsent_size(self, priority: int | None = None) -> int:
        """Bytes queued that have not left yet, of one priority or of all."""
        return self._queue.size if priority is None else self._queue.sizes[priority]

    @property
    def unacknowledged_size(self) -> int:
        """Bytes that have left and are not cumulatively acknowledged, headers included."""
        return 0 if self._session is None else self._session.sender.outstanding.size

    def may_be_fragmented(self, packet: bytes) -> bool:
        """Whether a packet that ``transmit`` gave may be cut by IP on its way, against the rule for all others.

        Its one chunk was cut for a path that carried more than the present one does, and chunks are never cut again
        (RFC 9260 section 6.9): with the DF bit it would be lost for ever.
        """
        return len(packet) > self.packet_size and packet[COMMON_SIZE] in (DATA, I_DATA)

    @property
    def packet_size(self) -> int:
        """The largest packet that the path is known to carry."""
        return self._config.base_packet_size if self._session is None else self._session.path_mtu.size

    @property
    def is_established(self) -> bool:
        """Whether messages can leave."""
        return self._session is not None and not self._is_closed

    @property
    def timeouts_in_row(self) -> int:
        """Retransmission timeouts since the peer has acknowledged anything."""
        return 0 if self._session is None else self._session.sender.timeouts_in_row

    @property
    def is_closed(self) -> bool:
        """Whether ``Closed`` has been told."""
        return self._is_closed

    def statistics(self) -> AssociationStatistics | None:
        """One reading of all figures; None before the association is established."""
        if self._session is None:
            return None
        packets = self._packets_sent, self._packets_received, self._bytes_sent, self._bytes_received
        return statistics_of(self._session, self._queue.size, packets)
