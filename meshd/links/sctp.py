"""aiortc's SCTP association (RFC 9260) behind a guard: what a hostile peer sends may end its own link, nothing else.

Whoever passes DTLS may send any bytes as SCTP. In aiortc 1.16 some of them trip asserts that end the task of the link
without a word, some make memory or processor time grow without end. Here each such thing calls ``on_misbehaviour``.
"""

from __future__ import annotations

from collections.abc import Callable

from meshd.errors import MalformedMessage
from meshd.links.webrtc import (
    Chunk,
    DataChunk,
    ForwardTsnChunk,
    ReconfigChunk,
    RTCDtlsTransport,
    RTCSctpTransport,
    SackChunk,
)

# Specification
BINARY_PPIDS = (53, 57)  # WebRTC Binary, Binary Empty: RFC 8831 section 8
CHANNEL_ID = 0  # the one data channel, agreed beforehand (RFC 8832 is not needed then)

# Policy
INITIAL_RTO = 1.0  # seconds, as RFC 9260 section 16 says; aiortc waits 3 s when the very first packet is lost
MAX_RECEIVE_WINDOW_DEBT = 262_144  # bytes beyond the window that we advertised: what a peer in good faith may overshoot
MAX_MISORDERED_CHUNKS = 16_384  # each is walked over for each packet; a window of chunks of 64 bytes
MAX_SACK_GAP = 65_536  # chunks that one SACK may name; aiortc walks over each, overlaps included


class GuardedSctp(RTCSctpTransport):
    """One association that carries one data channel of binary messages.

    ``on_misbehaviour(error)`` is called at most once; nothing the peer sends is looked at after that. ``on_drained()``
    is called whenever everything that was to be sent has been acknowledged.
    """

    def __init__(
        self,
        transport: RTCDtlsTransport,
        on_misbehaviour: Callable[[Exception], None],
        on_drained: Callable[[], None],
    ) -> None:
        super().__init__(transport)
        self._rto = INITIAL_RTO
        self._on_misbehaviour = on_misbehaviour
        self._on_drained = on_drained
        self._guilty = False

    @property
    def has_unacknowledged(self) -> bool:
        """Whether anything is still to be sent or acknowledged."""
        return bool(self._sent_queue or self._outbound_queue or self._data_channel_queue)

    async def _handle_data(self, data: bytes) -> None:
        """One packet from the peer. Upstream lets any exception end the task that reads for this link."""
        if self._guilty:
            return
        try:
            await super()._handle_data(data)
        except ConnectionError:
            pass  # DTLS has ended while we were answering; its own event tells
        except Exception as error:
            self._guilty = True
            self._on_misbehaviour(error)

    async def _receive_chunk(self, chunk: Chunk) -> None:
        if isinstance(chunk, DataChunk) and chunk.stream_id != CHANNEL_ID:
            raise MalformedMessage(f"SCTP data on stream {chunk.stream_id}")
        numbered = isinstance(chunk, DataChunk | SackChunk | ForwardTsnChunk | ReconfigChunk)
        if numbered and self._last_received_tsn is None:
            return  # before any INIT there are no sequence numbers to compare with
        if isinstance(chunk, SackChunk) and sum(last - first + 1 for first, last in chunk.gaps) > MAX_SACK_GAP:
            raise MalformedMessage("an SCTP acknowledgement of more than any window holds")
        await super()._receive_chunk(chunk)
        if self._advertised_rwnd < -MAX_RECEIVE_WINDOW_DEBT or len(self._sack_misordered) > MAX_MISORDERED_CHUNKS:
            raise MalformedMessage("SCTP data far beyond the advertised window")
        if isinstance(chunk, SackChunk) and not self.has_unacknowledged:
            self._on_drained()

    async def _data_channel_receive(self, stream_id: int, pp_id: int, data: bytes) -> None:
        """One message. Upstream answers requests to open further channels, and asserts things about them."""
        if pp_id not in BINARY_PPIDS:
            raise MalformedMessage(f"an SCTP message of protocol {pp_id}")
        await super()._data_channel_receive(stream_id, pp_id, data)

    async def _send_chunk(self, chunk: Chunk) -> None:
        """Send, if there is anything left to send through: timers of upstream's fire after the end, too."""
        if self.transport.state == "connected":
            await super()._send_chunk(chunk)

    async def _transmit(self) -> None:
        """Send what the window allows. Upstream restarts its retransmission timer even when all is over."""
        if self._association_state != self.State.CLOSED:
            await super()._transmit()
