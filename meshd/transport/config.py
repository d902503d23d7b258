"""What one association is told when it is made, and the limits that hold for every one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Specification
MAX_DTLS_RECORD_SIZE = 16_384  # RFC 6347 section 4.1: no packet can be larger
SCTP_PORT = 5000  # RFC 8831 section 6.1 leaves it to the session description; everybody says 5000

# Policy
BASE_PACKET_SIZE = 1191
"""What every path is trusted to carry: 1,280 (IPv6) less IPv6 and UDP (48), DTLS 1.2 (37) and four bytes for a TURN
channel. The same figure as dcSCTP's, and at least the base that RFC 8899 section 5.1.2 recommends."""
MAX_STREAMS = 16  # ours are two; browsers that open more channels than this are refused
MAX_MESSAGE_SIZE = 262_144  # what browsers announce; our own frames are 16 KiB
RECEIVE_BUFFER_SIZE = 4_194_304
"""650 Mbit/s at 50 ms; a third to half of that with losses, when as much again is held for what is sent anew."""
SEND_BUFFER_SIZE = 8_388_608  # unsent and unacknowledged; backstop, the layer above stops far earlier
LOW_WATER_SIZE = 262_144  # Writable is told when less than this is unsent


@dataclass(frozen=True, slots=True)
class AssociationConfig:
    """One association's settings. Sizes in bytes, times in seconds."""

    port: int = SCTP_PORT
    """SCTP port of both ends."""
    congestion: Literal["bbr", "reno"] = "bbr"
    """Which congestion controller the sender uses."""
    base_packet_size: int = BASE_PACKET_SIZE
    """Largest SCTP packet until the path has shown that it carries more."""
    max_packet_size: int = BASE_PACKET_SIZE
    """Where path MTU discovery stops (RFC 8899 MAX_PLPMTU): the interface's MTU less IP, UDP and DTLS overhead."""
    max_message_size: int = MAX_MESSAGE_SIZE
    """Largest message sent or accepted; a longer one ends the association."""
    max_receive_buffer_size: int = RECEIVE_BUFFER_SIZE
    """The receive window: what may be held for lack of a missing packet, a fragment, or a reader."""
    max_send_buffer_size: int = SEND_BUFFER_SIZE
    """What may be unsent or unacknowledged; ``Association.send`` refuses more."""
    low_water_size: int = LOW_WATER_SIZE
    """``Writable`` is told when the unsent bytes fall below this."""
    max_streams: int = MAX_STREAMS
    """Streams in each direction; stream numbers are below it."""
    handshake_timeout: float = 10.0
    """How long the four packets of the handshake may take in all."""
    max_timeouts: int = 16
    """Retransmission timeouts in a row until the peer counts as gone (RFC 9260 Association.Max.Retrans): some 40 s."""
    offer_interleaving: bool = True
    """Whether to offer I-DATA (RFC 8260)."""
    offer_zero_checksum: bool = True
    """Whether to offer to do without checksums, DTLS having better ones (RFC 9653)."""
