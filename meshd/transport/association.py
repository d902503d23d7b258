"""One SCTP association (RFC 9260): packets in, packets out, messages between; no socket, no clock, no dice."""

from __future__ import annotations

from meshd.transport.config import AssociationConfig
from meshd.transport.events import Event
from meshd.transport.statistics import AssociationStatistics


class Association:
    """Sans-IO. After any of ``connect``, ``receive``, ``send``, ``handle_timer``, ``shutdown``, ``abort`` the owner asks
    ``transmit`` for the packets that may leave and ``take_events`` for what has happened, and sets its timer to
    ``next_deadline``. Several calls of ``receive`` (a batch from the socket) may come before one ``transmit``: their
    acknowledgements then leave as one.

    ``now`` is in monotonic seconds. Nothing that a peer sends raises: at worst the association ends with
    ``Closed("peer_misbehaved")``.
    """

    def __init__(self, config: AssociationConfig, *, tag: int, initial_tsn: int, cookie_key: bytes, now: float) -> None:
        """``tag`` (1 to 2**32 - 1) and ``initial_tsn`` (0 to 2**32 - 1) are random; ``cookie_key`` 32 random bytes."""
        raise NotImplementedError

    def connect(self, now: float) -> None:
        """Send INIT. Both ends may (RFC 9260 section 5.2.1), as WebRTC peers do; one that never does still answers."""
        raise NotImplementedError

    def receive(self, packet: bytes, now: float) -> None:
        """Take one packet out of DTLS. Does nothing once the association is closed."""
        raise NotImplementedError

    def send(
        self,
        stream: int,
        ppid: int,
        data: bytes,
        now: float,
        *,
        priority: int = 0,
        ordered: bool = True,
        max_retransmits: int | None = None,
    ) -> None:
        """Queue one message of at least one byte; it may be queued before the association is established.

        Lower ``priority`` numbers leave first, between fragments if I-DATA is in use and between messages otherwise.
        With ``max_retransmits`` the message is given up once a part of it has been lost that often plus one (RFC 3758).
        Does nothing once the association is closed. Raises LocalMisuse if the message is empty or too large, the stream
        is not below ``max_streams``, the priority not in 0 to 7, or the send buffer full: look at ``unsent_size``.
        """
        raise NotImplementedError

    def reset_stream(self, stream: int, now: float) -> None:
        """Close our side of a stream once everything queued on it has been acknowledged (RFC 6525, RFC 8831 6.7)."""
        raise NotImplementedError

    def set_unread_size(self, size: int, now: float) -> None:
        """Say how many delivered bytes the owner still holds: they narrow the receive window until they are read."""
        raise NotImplementedError

    def transmit(self, now: float) -> list[bytes]:
        """The packets that may leave now, under window, pacing and priority."""
        raise NotImplementedError

    def handle_timer(self, now: float) -> None:
        """Do what is due; harmless when nothing is."""
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """When ``handle_timer`` and then ``transmit`` are to be called; pacing and delayed acknowledgement included."""
        raise NotImplementedError

    def shutdown(self, now: float) -> None:
        """End in good order (RFC 9260 section 9.2): what is queued is delivered, then ``Closed("shutdown")``."""
        raise NotImplementedError

    def abort(self, now: float, reason: str = "") -> None:
        """End at once with an ABORT that carries ``reason``; ``transmit`` once more sends it."""
        raise NotImplementedError

    def take_events(self) -> list[Event]:
        """What has happened since the last call, in order."""
        raise NotImplementedError

    def unsent_size(self, priority: int | None = None) -> int:
        """Bytes queued that have not left yet, of one priority or of all."""
        raise NotImplementedError

    @property
    def unacknowledged_size(self) -> int:
        """Bytes that have left and are not acknowledged."""
        raise NotImplementedError

    @property
    def is_established(self) -> bool:
        """Whether messages can leave."""
        raise NotImplementedError

    @property
    def is_closed(self) -> bool:
        """Whether ``Closed`` has been told."""
        raise NotImplementedError

    @property
    def srtt(self) -> float | None:
        """Smoothed round trip in seconds, None before the first sample."""
        raise NotImplementedError

    @property
    def min_rtt(self) -> float | None:
        """Least round trip of the last minute or so in seconds."""
        raise NotImplementedError

    def statistics(self) -> AssociationStatistics:
        """One reading of all figures."""
        raise NotImplementedError
