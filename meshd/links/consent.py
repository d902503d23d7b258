"""Consent freshness (RFC 7675): asking the peer, for as long as a link stands, whether it wants our packets.

Upstream (aioice 0.13) asks once every 5 s and waits 0.5 s, so that where round trips take longer (one's own bulk over a
slow uplink suffices) every link dies after half a minute. Here requests overlap and late answers count. And it makes
and takes apart objects for it, a third of a millisecond each time at both ends, which is most of what an idle link
costs: these checks always look the same, so here they are written and read in place.

Without consent for 30 s nothing but checks is sent; upstream ends the link. Here it waits, for a router that reboots or
a cable that is put back takes longer, and nothing is lost by waiting.
"""

from __future__ import annotations

import asyncio
import binascii
import functools
import hmac
import ipaddress
import random
import secrets
import socket
import struct
from collections.abc import Callable

from meshd.links.demux import STUN_HEADER_SIZE, Address, Awaiting
from meshd.links.ticks import Ticks

# Specification
TIMEOUT = 30.0  # RFC 7675 section 5.1
INTERVAL = 5.0  # the same; drawn anew each time between 0.8 and 1.2 of it
COOKIE = 0x2112A442  # RFC 8489 section 5
REQUEST, RESPONSE = 0x0001, 0x0101  # method Binding
USERNAME, MESSAGE_INTEGRITY, XOR_MAPPED_ADDRESS, FINGERPRINT = 0x0006, 0x0008, 0x0020, 0x8028  # RFC 8489 section 14
PRIORITY, USE_CANDIDATE, ICE_CONTROLLED, ICE_CONTROLLING = 0x0024, 0x0025, 0x8029, 0x802A  # RFC 8445 section 16.1
FINGERPRINT_XOR = 0x5354554E
PEER_REFLEXIVE_PRIORITY = (110 << 24) + (65_535 << 8) + 255  # RFC 8445 section 7.1.1
INTEGRITY_SIZE, FINGERPRINT_SIZE = 24, 8  # with their headers

# Policy
GIVE_UP_TIMEOUT = 90.0  # seconds without consent until the link ends; its owner usually gives it up before
SPREAD = (0.8, 1.1)  # of the interval, and then up to a tick more
DOUBT_RETRIES = 2  # unanswered, 1.5 s after the first: then other paths are asked, too
RETRY_INTERVAL = 0.5  # seconds until an unanswered request is sent again; then twice that, and so on
MAX_RETRIES = 3  # so that one loss, or three, do not make a check fail
PAUSE_SLACK = 0.01  # seconds, so that the tick comes after the end of consent and not with it
MAX_KEYS = 1_024  # passwords kept in the form that proofs are made with: those of five hundred links
MAX_OUTSTANDING = 12  # requests that may still be answered: those of the timeout, and half as many

Attributes = dict[int, tuple[int, bytes]]  # by number: where it starts, and its value

_MASK = COOKIE.to_bytes(4, "big")
_HEADER = struct.Struct(">HHI12s")
_ATTRIBUTE = struct.Struct(">HH")


def attribute(number: int, value: bytes) -> bytes:
    """One STUN attribute, padded."""
    return _ATTRIBUTE.pack(number, len(value)) + value + bytes(-len(value) & 3)


@functools.lru_cache(MAX_KEYS)
def _keyed(key: bytes) -> hmac.HMAC:
    """HMAC-SHA1 (RFC 2104) with the key taken in: to look the algorithm up each time takes a third of the whole."""
    return hmac.new(key, digestmod="sha1")


def _proof(key: bytes, covered: bytes) -> bytes:
    proof = _keyed(key).copy()
    proof.update(covered)
    return proof.digest()


def sealed(kind: int, transaction: bytes, attributes: bytes, key: bytes) -> bytes:
    """A STUN message with MESSAGE-INTEGRITY and FINGERPRINT (RFC 8489 sections 14.5 and 14.7)."""
    size = len(attributes) + INTEGRITY_SIZE
    covered = _HEADER.pack(kind, size, COOKIE, transaction) + attributes
    proof = attribute(MESSAGE_INTEGRITY, _proof(key, covered))
    message = _HEADER.pack(kind, size + FINGERPRINT_SIZE, COOKIE, transaction) + attributes + proof
    return message + attribute(FINGERPRINT, struct.pack(">I", binascii.crc32(message) ^ FINGERPRINT_XOR))


def mapped_address(address: Address, transaction: bytes) -> bytes:
    """XOR-MAPPED-ADDRESS (RFC 8489 section 14.2)."""
    family, kind = (2, socket.AF_INET6) if ":" in address[0] else (1, socket.AF_INET)
    packed = socket.inet_pton(kind, address[0].partition("%")[0])
    mask = (_MASK + transaction)[: len(packed)]
    masked = (int.from_bytes(packed, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(packed), "big")
    return attribute(XOR_MAPPED_ADDRESS, struct.pack(">BBH", 0, family, address[1] ^ COOKIE >> 16) + masked)


def unmasked_address(value: bytes, transaction: bytes) -> Address | None:
    """The address in the value of an XOR-MAPPED-ADDRESS; None if it is none."""
    if len(value) not in (8, 20) or value[1] != (1 if len(value) == 8 else 2):
        return None
    mask = COOKIE.to_bytes(4, "big") + transaction
    packed = bytes(one ^ other for one, other in zip(value[4:], mask, strict=False))
    return str(ipaddress.ip_address(packed)), int.from_bytes(value[2:4], "big") ^ COOKIE >> 16


def attributes_of(message: bytes) -> Attributes:
    """Where each attribute starts, and its value; up to MESSAGE-INTEGRITY, which covers what comes before it.

    Of a message cut off, or of a wrong length, nothing.
    """
    end = len(message)
    if end < STUN_HEADER_SIZE or end != STUN_HEADER_SIZE + int.from_bytes(message[2:4], "big"):
        return {}
    found: Attributes = {}
    position = STUN_HEADER_SIZE
    while position + 4 <= end:
        number, size = _ATTRIBUTE.unpack_from(message, position)
        if position + 4 + size > end:
            return {}
        found.setdefault(number, (position, message[position + 4 : position + 4 + size]))
        if number == MESSAGE_INTEGRITY:
            break
        position += 4 + size + (-size & 3)
    return found


def is_authentic(message: bytes, attributes: Attributes, key: bytes) -> bool:
    """Whether its MESSAGE-INTEGRITY was made with that key."""
    if MESSAGE_INTEGRITY not in attributes:
        return False
    position, proof = attributes[MESSAGE_INTEGRITY]
    size = position + INTEGRITY_SIZE - STUN_HEADER_SIZE
    covered = message[:2] + size.to_bytes(2, "big") + message[4:position]
    return hmac.compare_digest(_proof(key, covered), proof)


class CheckKey:
    """What every check of one link bears: names, role, and a proof made with the peer's ``password``.

    ``role`` is the number of its attribute and our tie-breaker. A controlling side nominates whatever it asks, so that
    both sides use the same pair in the end.
    """

    def __init__(self, *, username: str, password: str, role: tuple[int, int]) -> None:
        number, tie_breaker = role
        self._attributes = (
            attribute(USERNAME, username.encode())
            + attribute(PRIORITY, PEER_REFLEXIVE_PRIORITY.to_bytes(4, "big"))
            + attribute(number, tie_breaker.to_bytes(8, "big"))
        )
        self._nomination = attribute(USE_CANDIDATE, b"") if number == ICE_CONTROLLING else b""
        self.password = password.encode()

    def request(self, transaction: bytes, *, nominate: bool = False) -> bytes:
        """A check."""
        return sealed(REQUEST, transaction, self._attributes + (self._nomination if nominate else b""), self.password)


class Consent:
    """One link's, from when its pair is nominated. Called on asyncio's loop; nothing waits.

    ``ticks``: the timer of all links. ``send(message)`` sends to the peer; ``expired()`` is called once, when the peer
    has not said yes for ``GIVE_UP_TIMEOUT``, ``doubted()`` whenever it has let some questions pass, ``regained()`` when
    there had been no consent and there is again. ``outstanding`` maps transaction ids to whom their responses are for;
    this one lists its own there.
    """

    is_paused = False  # there is no consent now: nothing but checks may be sent

    def __init__(
        self,
        key: CheckKey,
        *,
        send: Callable[[bytes], None],
        expired: Callable[[], None],
        doubted: Callable[[], None],
        regained: Callable[[], None],
        outstanding: dict[bytes, Awaiting],
        ticks: Ticks,
    ) -> None:
        self._key = key
        self._send = send
        self._expired = expired
        self._doubted = doubted
        self._regained = regained
        self._outstanding = outstanding
        self._asked: list[bytes] = []
        self._request = b""
        self._retries = 0  # left for the current request; none once it is answered
        self._retry_delay = self._retry_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._answered_at = now = self._loop.time()
        self.due = self._next_at = now + INTERVAL * random.uniform(*SPREAD)
        self._ticks = ticks
        ticks.add(self)

    def stop(self) -> None:
        """Ask no more."""
        self._ticks.remove(self)
        self._forget()

    def _forget(self) -> None:
        for transaction in self._asked:
            self._outstanding.pop(transaction, None)
        self._asked.clear()

    def take_response(self, response: bytes, source: Address) -> None:
        """A response to one of the requests: if it is authentic it is a yes, however late."""
        is_success = int.from_bytes(response[:2], "big") == RESPONSE
        if is_success and is_authentic(response, attributes_of(response), self._key.password):
            if response[8:STUN_HEADER_SIZE] == self._asked[-1]:
                self._retries = 0
            self.refresh()
            self._set_due()

    def refresh(self) -> None:
        """The peer has said yes, to this or to another question."""
        self._answered_at = self._loop.time()
        if self.is_paused:
            self.is_paused = False
            self._regained()

    def move(self) -> None:
        """The pair in use is another, which has just answered: what the old one says does not count any more."""
        self._forget()
        self.refresh()
        self._retries = 0
        self._ask(self._loop.time())

    def ask(self) -> None:
        """Ask now, and nominate that pair if we may."""
        self._ask(self._loop.time())

    def _ask(self, now: float) -> None:
        transaction = secrets.token_bytes(12)
        self._asked.append(transaction)
        self._outstanding[transaction] = self
        if len(self._asked) > MAX_OUTSTANDING:
            self._outstanding.pop(self._asked.pop(0), None)
        self._request = self._key.request(transaction, nominate=True)
        self._retries, self._retry_delay = MAX_RETRIES, RETRY_INTERVAL
        self._retry_at = now + RETRY_INTERVAL
        self._next_at = now + INTERVAL * random.uniform(*SPREAD)
        self._set_due()
        self._ticks.look(self)
        self._send(self._request)

    def _set_due(self) -> None:
        self.due = min(self._next_at, self._retry_at) if self._retries else self._next_at
        if not self.is_paused:
            self.due = min(self.due, self._answered_at + TIMEOUT + PAUSE_SLACK)

    def on_tick(self, now: float) -> None:
        """Something is due: another question, the same once more, or the end of consent."""
        if now - self._answered_at > GIVE_UP_TIMEOUT:
            self.stop()
            self._expired()
            return
        if now - self._answered_at > TIMEOUT and not self.is_paused:
            self.is_paused = True
        if now >= self._next_at:
            self._ask(now)
            return
        if self._retries and now >= self._retry_at:
            self._retries -= 1
            self._retry_delay *= 2
            self._retry_at = now + self._retry_delay
            self._send(self._request)
            if self._retries == MAX_RETRIES - DOUBT_RETRIES:
                self._doubted()
        self._set_due()
