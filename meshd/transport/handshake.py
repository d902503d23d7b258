"""Setting up: INIT, INIT ACK and the state cookie (RFC 9260 sections 3.3.2, 3.3.3 and 5).

Until a cookie comes back nothing is remembered of the peer that asked. Over DTLS a peer is who it is, so the cookie
only has to be ours and fresh; it is what lets both ends call at once and still agree.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from struct import Struct

from meshd.errors import MalformedMessage
from meshd.transport.chunks import (
    FORWARD_TSN,
    GAP,
    I_DATA,
    I_FORWARD_TSN,
    INIT,
    INIT_ACK,
    PAD,
    RE_CONFIG,
    TSN,
    decode_parameters,
    encode_chunk,
    encode_parameter,
)
from meshd.transport.config import AssociationConfig

# Specification
STATE_COOKIE = 7  # RFC 9260 section 3.3.3.1
UNRECOGNIZED_PARAMETER = 8
SUPPORTED_EXTENSIONS = 0x8008  # RFC 5061 section 4.2.7
ZERO_CHECKSUM_ACCEPTABLE = 0x8001  # RFC 9653 section 4
FORWARD_TSN_SUPPORTED = 0xC000  # RFC 3758 section 3.1
ERROR_DETECTION_DTLS = 1  # RFC 9653 section 8.2
MIN_WINDOW = 1500  # section 3.3.2: a smaller a_rwnd is no valid one

# Policy
COOKIE_LIFETIME = 60.0  # seconds, section 16
COOKIE_MAC_SIZE = 16
MAX_COOKIE_SIZE = 2048  # of a peer's; usrsctp's has some 400 bytes
MAX_UNRECOGNIZED = 8  # parameters reported back
MAX_UNRECOGNIZED_SIZE = 64  # bytes of each: with them all an INIT ACK has to fit a packet still

_INIT = Struct(">LLHHL")
_COOKIE = Struct(">dLLLHB")


@dataclass(frozen=True, slots=True)
class PeerParameters:
    """What a peer said of itself in INIT or INIT ACK."""

    tag: int
    window: int
    inbound_streams: int
    initial_tsn: int
    partial_reliability: bool = False
    reconfiguration: bool = False
    interleaving: bool = False
    zero_checksum: bool = False
    padding: bool = False
    cookie: bytes = b""
    unrecognized: tuple[bytes, ...] = ()


class Handshake:
    """Makes and reads the chunks; who is in which state is the association's business."""

    __slots__ = ("_config", "_cookie_key", "_initial_tsn", "_tag")

    def __init__(self, config: AssociationConfig, tag: int, initial_tsn: int, cookie_key: bytes) -> None:
        self._config = config
        self._tag = tag
        self._initial_tsn = initial_tsn
        self._cookie_key = cookie_key

    def encode_init(self) -> bytes:
        """Our INIT."""
        return encode_chunk(INIT, self._fixed() + self._extensions())

    def encode_init_ack(self, peer: PeerParameters, now: float) -> bytes:
        """The answer to a peer's INIT, with all we have to remember in the cookie."""
        flags = sum(
            bit
            for bit, is_set in (
                (1, peer.partial_reliability),
                (2, peer.reconfiguration),
                (4, peer.interleaving),
                (8, peer.zero_checksum),
                (16, peer.padding),
            )
            if is_set
        )
        state = _COOKIE.pack(now, peer.tag, peer.window, peer.initial_tsn, peer.inbound_streams, flags)
        cookie = encode_parameter(STATE_COOKIE, state + self._mac(state))
        unknown = b"".join(encode_parameter(UNRECOGNIZED_PARAMETER, parameter) for parameter in peer.unrecognized)
        return encode_chunk(INIT_ACK, self._fixed() + cookie + self._extensions() + unknown)

    def _fixed(self) -> bytes:
        config = self._config
        return _INIT.pack(
            self._tag, config.max_receive_buffer_size, config.max_streams, config.max_streams, self._initial_tsn
        )

    def _extensions(self) -> bytes:
        kinds = [RE_CONFIG, PAD, FORWARD_TSN]
        if self._config.offer_interleaving:
            kinds += [I_DATA, I_FORWARD_TSN]
        parameters = encode_parameter(FORWARD_TSN_SUPPORTED, b"") + encode_parameter(SUPPORTED_EXTENSIONS, bytes(kinds))
        if self._config.offer_zero_checksum:
            parameters += encode_parameter(ZERO_CHECKSUM_ACCEPTABLE, TSN.pack(ERROR_DETECTION_DTLS))
        return parameters

    def _mac(self, state: bytes) -> bytes:
        # Bound to our own tag and TSN, so that a cookie of another association of ours is none here.
        bound = TSN.pack(self._tag) + TSN.pack(self._initial_tsn) + state
        return hmac.digest(self._cookie_key, bound, "sha256")[:COOKIE_MAC_SIZE]

    def decode_cookie(self, cookie: bytes, now: float) -> tuple[PeerParameters, float]:
        """The peer a cookie of ours stands for, and how many seconds ago it was made.

        Raises MalformedMessage if it is not ours.
        """
        state, mac = cookie[: _COOKIE.size], cookie[_COOKIE.size :]
        if len(state) != _COOKIE.size or not hmac.compare_digest(mac, self._mac(state)):
            raise MalformedMessage("a cookie that is not ours")
        made, tag, window, initial_tsn, inbound, flags = _COOKIE.unpack(state)
        peer = PeerParameters(
            tag,
            window,
            inbound,
            initial_tsn,
            partial_reliability=bool(flags & 1),
            reconfiguration=bool(flags & 2),
            interleaving=bool(flags & 4),
            zero_checksum=bool(flags & 8),
            padding=bool(flags & 16),
        )
        return peer, now - made


def decode_init(body: bytes) -> PeerParameters:
    """An INIT or INIT ACK without its chunk header. Raises MalformedMessage for what section 3.3.2 forbids."""
    if len(body) < _INIT.size:
        raise MalformedMessage("an INIT too short")
    tag, window, outbound, inbound, initial_tsn = _INIT.unpack_from(body)
    if not tag or not outbound or not inbound or window < MIN_WINDOW:
        raise MalformedMessage("an INIT without tag, streams or window")
    extensions = b""
    partial_reliability = zero_checksum = False
    cookie = b""
    unrecognized: list[bytes] = []
    for kind, value in decode_parameters(body, _INIT.size):
        if kind == SUPPORTED_EXTENSIONS:
            extensions = value
        elif kind == FORWARD_TSN_SUPPORTED:
            partial_reliability = True
        elif kind == ZERO_CHECKSUM_ACCEPTABLE:
            zero_checksum = value == TSN.pack(ERROR_DETECTION_DTLS)
        elif kind == STATE_COOKIE:
            cookie = value
        elif kind & 0x4000 and len(unrecognized) < MAX_UNRECOGNIZED and len(value) <= MAX_UNRECOGNIZED_SIZE:
            unrecognized.append(GAP.pack(kind, len(value) + 4) + value)
        if not kind & 0x8000 and kind > UNRECOGNIZED_PARAMETER and kind not in _HARMLESS:
            break  # section 3.2.1: unknown, and nothing after it is to be looked at
    if len(cookie) > MAX_COOKIE_SIZE:
        raise MalformedMessage("a cookie too large")
    return PeerParameters(
        tag,
        window,
        inbound,
        initial_tsn,
        partial_reliability=partial_reliability or FORWARD_TSN in extensions,
        reconfiguration=RE_CONFIG in extensions,
        interleaving=I_DATA in extensions and I_FORWARD_TSN in extensions,
        zero_checksum=zero_checksum,
        padding=PAD in extensions,
        cookie=cookie,
        unrecognized=tuple(unrecognized),
    )


_HARMLESS = (9, 11, 12)  # cookie preservative, host name, address types: known and without meaning over DTLS
