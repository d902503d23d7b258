"""The state machine of the handshake (RFC 9260 sections 5.1 and 5.2), both ends calling included.

An association has one tag and one initial TSN for its whole life, which makes most of section 5.2.4's table fall
together: a cookie of ours either belongs to the peer we know or to a peer that has lost its state.
"""

from __future__ import annotations

from enum import Enum, auto

from meshd.errors import MalformedMessage
from meshd.transport.chunks import (
    ABORT,
    CAUSE_STALE_COOKIE,
    COOKIE_ACK,
    COOKIE_ECHO,
    ERROR,
    TSN,
    encode_chunk,
    encode_packet,
    encode_parameter,
)
from meshd.transport.config import AssociationConfig
from meshd.transport.handshake import COOKIE_LIFETIME, Handshake, PeerParameters, decode_init

# Policy
FIRST_TIMEOUT = 0.5  # seconds until INIT or COOKIE ECHO goes again, doubling; section 16 says 1, for a path unheard of
MAX_TIMEOUT = 4.0


class Stage(Enum):
    """Where the handshake is (RFC 9260 section 4)."""

    LISTENING = auto()
    COOKIE_WAIT = auto()
    COOKIE_ECHOED = auto()
    DONE = auto()
    RESTARTED = auto()


class Setup:
    """Answers each handshake chunk with packets to send; ``peer`` stands when ``stage`` is DONE."""

    __slots__ = (
        "_config",
        "_deadline",
        "_handshake",
        "_packet",
        "_sent",
        "_started",
        "_timeout",
        "peer",
        "rtt",
        "stage",
    )

    def __init__(self, config: AssociationConfig, tag: int, initial_tsn: int, cookie_key: bytes) -> None:
        self._config = config
        self._handshake = Handshake(config, tag, initial_tsn, cookie_key)
        self.stage = Stage.LISTENING
        self.peer: PeerParameters | None = None
        self.rtt: float | None = None
        """Seconds from INIT to INIT ACK, or from INIT ACK to COOKIE ECHO: a first idea of the round trip."""
        self._packet = b""
        self._sent: float | None = None
        self._timeout = FIRST_TIMEOUT
        self._started = 0.0
        self._deadline: float | None = None

    def _send(self, tag: int, chunk: bytes) -> bytes:
        return encode_packet(self._config.port, tag, chunk)

    def _send_and_repeat(self, packet: bytes, now: float) -> list[bytes]:
        self._packet = packet
        self._sent = now
        self._timeout = FIRST_TIMEOUT
        self._deadline = now + FIRST_TIMEOUT
        return [packet]

    def connect(self, now: float) -> list[bytes]:
        """Send INIT, unless the peer was faster."""
        if self.stage is not Stage.LISTENING:
            return []
        self._started = now
        self.stage = Stage.COOKIE_WAIT
        return self._send_and_repeat(self._send(0, self._handshake.encode_init()), now)

    def on_init(self, body: bytes, now: float) -> list[bytes]:
        """Sections 5.1 B, 5.2.1 and 5.2.2: INIT ACK with the tag we have anyway."""
        peer = decode_init(body)
        if self.stage is Stage.DONE and self.peer is not None and peer.tag != self.peer.tag:
            # Over DTLS this is the peer itself, and it has forgotten us (section 5.2.4.1). What it had not delivered
            # is gone, so going on would be pretending.
            self.stage = Stage.RESTARTED
            return [self._send(peer.tag, encode_chunk(ABORT))]
        return [self._send(peer.tag, self._handshake.encode_init_ack(peer, now))]

    def on_init_ack(self, body: bytes, now: float) -> list[bytes]:
        """Section 5.1 C: give the cookie back."""
        if self.stage is not Stage.COOKIE_WAIT:
            return []  # section 5.2.3
        peer = decode_init(body)
        if not peer.cookie:
            raise MalformedMessage("an INIT ACK without a cookie")
        if self._sent is not None:
            self.rtt = now - self._sent
        self.peer = peer
        self.stage = Stage.COOKIE_ECHOED
        return self._send_and_repeat(self._send(peer.tag, encode_chunk(COOKIE_ECHO, peer.cookie)), now)

    def on_cookie_echo(self, body: bytes, now: float) -> list[bytes]:
        """Sections 5.1.5 and 5.2.4."""
        try:
            peer, age = self._handshake.decode_cookie(body, now)
        except MalformedMessage:
            return []  # section 5.1.5 step 2: silently discarded
        if self.stage is Stage.DONE and self.peer is not None:
            if peer.tag != self.peer.tag:
                return []  # from before the peer's INIT that we know: section 5.2.4 case C
            return [self._send(peer.tag, encode_chunk(COOKIE_ACK))]  # case D: our COOKIE ACK was lost
        if age > COOKIE_LIFETIME:
            # Not to be forgiven for the same tags either: before DONE they prove nothing.
            staleness = int((age - COOKIE_LIFETIME) * 1e6)
            cause = encode_parameter(CAUSE_STALE_COOKIE, TSN.pack(min(staleness, 0xFFFFFFFF)))
            return [self._send(peer.tag, encode_chunk(ERROR, cause))]
        self.rtt = age
        self.peer = peer  # cases B and D, and the plain one
        self.stage = Stage.DONE
        self._deadline = None
        return [self._send(peer.tag, encode_chunk(COOKIE_ACK))]

    def on_cookie_ack(self) -> None:
        """Section 5.1 E; data says the same, when it has overtaken the COOKIE ACK: who sends any has our cookie."""
        if self.stage is Stage.COOKIE_ECHOED:
            self.stage = Stage.DONE
            self._deadline = None

    def on_stale_cookie(self, now: float) -> list[bytes]:
        """Section 5.2.6: begin again, within the same time limit."""
        if self.stage is not Stage.COOKIE_ECHOED:
            return []
        self.stage = Stage.COOKIE_WAIT
        return self._send_and_repeat(self._send(0, self._handshake.encode_init()), now)

    @property
    def next_deadline(self) -> float | None:
        """When to send INIT or COOKIE ECHO again, or to give up."""
        return self._deadline

    def is_too_late(self, now: float) -> bool:
        """Whether it has taken longer than ``handshake_timeout``."""
        return self._deadline is not None and now - self._started >= self._config.handshake_timeout

    def handle_timer(self, now: float) -> list[bytes]:
        """T1-init and T1-cookie (sections 5.1.6 and 16)."""
        if self._deadline is None or now < self._deadline:
            return []
        self._sent = None  # Karn's rule: nobody will know which one was answered
        self._timeout = min(self._timeout * 2, MAX_TIMEOUT)
        self._deadline = min(now + self._timeout, max(self._started + self._config.handshake_timeout, now))
        return [self._packet]
