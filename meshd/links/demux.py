"""Which link a datagram is for, when all links share one socket. Pure: no socket, no loop, no clock.

A STUN request names its link by the local ufrag in USERNAME (RFC 8445 section 7.3), a STUN response answers a
transaction that is known, and a DTLS record belongs to a link that claims the address it came from. Several links may
claim one address for a while: a successor beside the link that it will replace, or the link of a peer's new run beside
the one of its former run on the same pinned port. DTLS itself tells these apart, since a record that was not meant for
a link does not authenticate there.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import Generic, Protocol, TypeVar

Address = tuple[str, int]

# Specification
MAX_STUN_FIRST_BYTE = 3  # RFC 7983 section 7: what the first byte of a datagram says
MIN_DTLS_FIRST_BYTE, MAX_DTLS_FIRST_BYTE = 20, 63
STUN_HEADER_SIZE = 20  # RFC 8489 section 5
STUN_CLASS_MASK, STUN_REQUEST = 0x0110, 0x0000
STUN_INDICATION = 0x0010
EPOCH = slice(3, 5)  # of a DTLS record, RFC 6347 section 4.1: zero until its sender has keys
NO_EPOCH = b"\x00\x00"


class Kind(Enum):
    """What a datagram is, by its first bytes (RFC 7983)."""

    EMPTY = 0
    STUN_REQUEST = 1
    STUN_RESPONSE = 2
    DTLS = 3
    OTHER = 4


def kind_of(datagram: bytes) -> Kind:
    """What a datagram claims to be. STUN that is cut off is ``OTHER``, as are indications, which nobody here takes."""
    if not datagram:
        return Kind.EMPTY
    first = datagram[0]
    if MIN_DTLS_FIRST_BYTE <= first <= MAX_DTLS_FIRST_BYTE:
        return Kind.DTLS
    if first > MAX_STUN_FIRST_BYTE or len(datagram) < STUN_HEADER_SIZE:
        return Kind.OTHER
    stun_class = (first << 8 | datagram[1]) & STUN_CLASS_MASK
    if stun_class == STUN_REQUEST:
        return Kind.STUN_REQUEST
    return Kind.OTHER if stun_class == STUN_INDICATION else Kind.STUN_RESPONSE


class Receiver(Protocol):
    """A link, as seen from here."""

    @property
    def is_handshaking(self) -> bool:
        """Whether DTLS has begun, or may at any moment, and has no keys yet."""

    def receive_record(self, datagram: bytes) -> bool:
        """Take DTLS records. False: nothing in them was meant for this link."""

    def flush(self) -> None:
        """Nothing more comes for now: answer what came."""


class Awaiting(Protocol):
    """Whoever has sent a STUN request."""

    def take_response(self, response: bytes, source: Address) -> None:
        """Take what bears its transaction id, whoever sent it."""


R = TypeVar("R", bound=Receiver)


class _Claims(Generic[R]):
    """Who claims one address: those that proved it (ICE has authenticated something from there), and the others."""

    __slots__ = ("named", "proven")

    def __init__(self) -> None:
        self.proven: list[R] = []  # who decrypted last stands first
        self.named: list[R] = []  # by a remote description, which may name anyone's address

    def in_order(self, *, handshake: bool) -> list[R]:
        receivers = [*self.proven, *self.named]
        if handshake:
            # A record without keys is part of a handshake: of the newest that is going on. A description must not get
            # at the handshake of another link by naming its address, so proof goes before youth.
            for group in (self.proven, self.named):
                for receiver in group:
                    if receiver.is_handshaking:
                        receivers.remove(receiver)
                        return [receiver, *receivers]
        return receivers


class Demux(Generic[R]):
    """Finds links. ``counters`` counts what nobody takes."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._by_ufrag: dict[bytes, R] = {}
        self._claims: dict[Address, _Claims[R]] = {}
        self._claimed: dict[R, set[Address]] = {}
        self._only: dict[Address, R] = {}  # addresses with a single claim: nearly all, and nearly always
        self._touched: dict[R, None] = {}
        self.awaiting: dict[bytes, Awaiting] = {}  # by transaction id, who waits for a STUN response

    def __len__(self) -> int:
        return len(self._by_ufrag)

    # -- who is there -------------------------------------------------------------------------------------------------

    def add(self, ufrag: str, receiver: R) -> None:
        """Know a link by its local ufrag, which no other has."""
        self._by_ufrag[ufrag.encode()] = receiver

    def is_known(self, ufrag: str) -> bool:
        """Whether a link has that ufrag."""
        return ufrag.encode() in self._by_ufrag

    def claim(self, receiver: R, address: Address, *, proven: bool) -> None:
        """Give that link the records that come from ``address``."""
        claims = self._claims.get(address)
        if claims is None:
            claims = self._claims[address] = _Claims()
        if receiver in claims.proven:
            return
        if receiver in claims.named:
            if not proven:
                return
            claims.named.remove(receiver)
        (claims.proven if proven else claims.named).insert(0, receiver)
        self._claimed.setdefault(receiver, set()).add(address)
        self._recount(address, claims)

    def remove(self, ufrag: str, receiver: R) -> None:
        """Forget a link, and all that it claims."""
        if self._by_ufrag.get(ufrag.encode()) is receiver:
            del self._by_ufrag[ufrag.encode()]
        for address in self._claimed.pop(receiver, ()):
            claims = self._claims[address]
            for group in (claims.proven, claims.named):
                if receiver in group:
                    group.remove(receiver)
            self._recount(address, claims)
        self._touched.pop(receiver, None)

    def release(self, receiver: R, address: Address) -> None:
        """That link is not there any more."""
        claims = self._claims.get(address)
        if claims is not None:
            for group in (claims.proven, claims.named):
                if receiver in group:
                    group.remove(receiver)
            self._claimed.get(receiver, set()).discard(address)
            self._recount(address, claims)

    def _recount(self, address: Address, claims: _Claims[R]) -> None:
        receivers = claims.in_order(handshake=False)
        if len(receivers) == 1:
            self._only[address] = receivers[0]
        else:
            self._only.pop(address, None)
            if not receivers:
                del self._claims[address]

    # -- whose is it --------------------------------------------------------------------------------------------------

    def of_username(self, username: bytes) -> R | None:
        """The link that a STUN request with that USERNAME is for (RFC 8445 section 7.2.2: ours, a colon, theirs)."""
        return self._by_ufrag.get(username.partition(b":")[0])

    def take_response(self, response: bytes, source: Address) -> bool:
        """Give a STUN response to who awaits it. False: nobody here."""
        asking = self.awaiting.get(response[8:STUN_HEADER_SIZE])
        if asking is None:
            return False
        asking.take_response(response, source)
        return True

    def deliver(self, datagram: bytes, source: Address) -> None:
        """Give DTLS records to whom they are for. Nobody's are dropped: anyone could race the peer's ClientHello."""
        receiver = self._only.get(source)
        if receiver is not None:
            receiver.receive_record(datagram)
            self._touched[receiver] = None
            return
        claims = self._claims.get(source)
        if claims is None:
            self._counters["datagram_foreign"] += 1
            return
        for receiver in claims.in_order(handshake=datagram[EPOCH] == NO_EPOCH):
            if receiver.receive_record(datagram):
                if receiver in claims.proven:
                    claims.proven.remove(receiver)
                    claims.proven.insert(0, receiver)
                self._touched[receiver] = None
                return

    def flush(self) -> None:
        """All that could be read for now has been delivered."""
        while self._touched:
            receiver = self._touched.popitem()[0]
            receiver.flush()
