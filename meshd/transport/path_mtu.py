"""Packetization layer path MTU discovery (RFC 8899 section 6.2): HEARTBEAT chunks with padding (RFC 4820) as probes.

The ceiling is tried first: most paths carry what the interface does. Only when that is lost three times does a binary
search begin. Data never travels in a size that a probe has not shown to pass.
"""

from __future__ import annotations

from meshd.transport.chunks import (
    CHUNK,
    CHUNK_SIZE,
    COMMON_SIZE,
    HEARTBEAT,
    HEARTBEAT_INFO,
    PAD,
    TSN,
    encode_chunk,
    encode_parameter,
)

# Specification
MAX_PROBES = 3  # RFC 8899 section 5.1.2
RAISE_INTERVAL = 600.0  # seconds, section 5.1.1: how long a search that ended below the ceiling is believed

# Policy
MIN_STEP = 32  # bytes; a search ends when it cannot gain more than this
PROBE_TIMEOUT = 0.5  # seconds beside the retransmission timeout; the 15 s of section 5.1.1 is for those without one
BLACK_HOLE_TIMEOUTS = 2  # retransmission timeouts in a row: packets above the base may be what is lost
BLACK_HOLE_INTERVAL = 60.0  # seconds until larger packets are tried again after that


class PathMtu:
    """``size`` is the largest packet that is known to get through."""

    __slots__ = ("_base", "_ceiling", "_due", "_nonce", "_probe", "_top", "_tries", "is_waiting", "size")

    def __init__(self, base: int, ceiling: int) -> None:
        self._base = self.size = base & ~3
        self._ceiling = self._top = max(ceiling & ~3, self.size)
        self._probe = self._ceiling
        self._tries = 0
        self._nonce = 0
        self._due: float | None = None
        self.is_waiting = self._ceiling > self.size
        """Whether nothing has been asked yet, for want of anything that larger packets would help."""

    def begin(self, now: float) -> None:
        """Search from now on. Most links never carry more than a packet at a time: for them it would be a waste."""
        self.is_waiting = False
        self._due = now

    @property
    def next_deadline(self) -> float | None:
        """When ``take_probe`` has something to do."""
        return self._due

    def restart(self, now: float) -> None:
        """Another path: what the former one carried says nothing about this one."""
        self.size = self._base
        self._top = self._probe = self._ceiling
        self._tries = 0
        self._nonce += 1  # answers to former probes are nothing
        self._due = now if self._ceiling > self._base else None

    def take_probe(self, now: float, rto: float) -> bytes:
        """The body of a packet to send as a probe, or nothing. One that was not answered in time counts as lost."""
        if self._due is None or now < self._due:
            return b""
        if self._tries >= MAX_PROBES:
            self._top = self._probe - 4
            self._next_probe(now)
            if self._due is None or now < self._due:
                return b""
        self._tries += 1
        self._nonce += 1
        self._due = now + rto + PROBE_TIMEOUT
        info = encode_parameter(HEARTBEAT_INFO, TSN.pack(self._probe) + TSN.pack(self._nonce))
        heartbeat = encode_chunk(HEARTBEAT, info)
        padding = self._probe - COMMON_SIZE - len(heartbeat)
        return heartbeat + CHUNK.pack(PAD, 0, padding) + bytes(padding - CHUNK_SIZE)

    def _next_probe(self, now: float) -> None:
        """Choose the next size between what passes and what does not."""
        self._tries = 0
        if self._top - self.size < MIN_STEP:
            self._due = None
            if self.size < self._ceiling:
                self._due = now + RAISE_INTERVAL
                self._top = self._probe = self._ceiling
            return
        self._probe = self._top if self._top == self._ceiling else (self.size + self._top + 4) // 2 & ~3
        self._due = now

    def on_heartbeat_ack(self, info: bytes, now: float) -> bool:
        """Take the answer to a HEARTBEAT; whether ``size`` has grown. An answer to an older probe is nothing."""
        expected = encode_parameter(HEARTBEAT_INFO, TSN.pack(self._probe) + TSN.pack(self._nonce))
        if info != expected or not self._tries:
            return False
        self.size = self._probe
        self._next_probe(now)
        return True

    def on_black_hole(self, now: float) -> bool:
        """Such packets get through no more, it seems (section 4.3): the base is ``size`` again; whether that is new."""
        if self.size == self._base:
            return False
        self.size = self._base
        self._top = self._probe = self._ceiling
        self._tries = 0
        self._due = now + BLACK_HOLE_INTERVAL
        return True
