"""What a keeper holds, found by key, by whom it is for, and counted by sender and by recipient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from meshd.core.state import KeptMessageRow
from meshd.ids import MESSAGE_ID_SIZE, PEER_ID_SIZE, MessageId, PeerId

KEY_SIZE = 2 * PEER_ID_SIZE + MESSAGE_ID_SIZE


def key_of(sender: bytes, recipient: bytes, message: bytes) -> bytes:
    """The key of a message, and of the receipt that takes its place."""
    return sender + recipient + message


def sender_of(key: bytes) -> PeerId:
    """Who has deposited it."""
    return PeerId(key[:PEER_ID_SIZE])


def recipient_of(key: bytes) -> PeerId:
    """Whom the message is for."""
    return PeerId(key[PEER_ID_SIZE : 2 * PEER_ID_SIZE])


def message_of(key: bytes) -> MessageId:
    """Its id."""
    return MessageId(key[2 * PEER_ID_SIZE :])


@dataclass(slots=True)
class Tally:
    """How many rows, and how many bytes in them."""

    count: int = 0
    size: int = 0


class KeptRows:
    """The rows, with all that has to be known of them at once."""

    __slots__ = ("_for", "_from", "_rows", "_to", "total")

    def __init__(self, stored: dict[bytes, KeptMessageRow]) -> None:
        self._rows: dict[bytes, KeptMessageRow] = {}
        self._for: dict[PeerId, dict[bytes, None]] = {}  # who is to be given it → keys, in the order of deposit
        self._from: dict[PeerId, Tally] = {}
        self._to: dict[PeerId, Tally] = {}
        self.total = Tally()
        for key, row in sorted(stored.items(), key=lambda item: (item[1].issued, item[0])):
            if len(key) == KEY_SIZE:
                self.put(key, row)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[bytes]:
        """The keys."""
        return iter(list(self._rows))

    def get(self, key: bytes) -> KeptMessageRow | None:
        """That row, if it is there."""
        return self._rows.get(key)

    def addressees(self) -> list[PeerId]:
        """All that something is to be given to: recipients of messages, senders where there is a receipt."""
        return list(self._for)

    def keys_for(self, peer: PeerId) -> list[bytes]:
        """What is to be given to that peer, in the order of deposit."""
        return list(self._for.get(peer, ()))

    def sent_by(self, peer: PeerId) -> Tally:
        """What that peer has deposited."""
        return self._from.get(peer, Tally())

    def sent_to(self, peer: PeerId) -> Tally:
        """What has been deposited for that peer."""
        return self._to.get(peer, Tally())

    def put(self, key: bytes, row: KeptMessageRow) -> None:
        """Hold that row, in the place of the one before."""
        self.drop(key)
        self._rows[key] = row
        self._for.setdefault(_addressee(key, row), {})[key] = None
        for tally in self._tallies(key):
            tally.count += 1
            tally.size += len(row.sealed)

    def drop(self, key: bytes) -> bool:
        """Hold it no more; False if it was not there."""
        row = self._rows.pop(key, None)
        if row is None:
            return False
        addressee = _addressee(key, row)
        del self._for[addressee][key]
        if not self._for[addressee]:
            del self._for[addressee]
        for tally in self._tallies(key):
            tally.count -= 1
            tally.size -= len(row.sealed)
        for peer, tallies in ((sender_of(key), self._from), (recipient_of(key), self._to)):
            if not tallies[peer].count:
                del tallies[peer]
        return True

    def _tallies(self, key: bytes) -> tuple[Tally, ...]:
        sender, recipient = sender_of(key), recipient_of(key)
        return (self.total, self._from.setdefault(sender, Tally()), self._to.setdefault(recipient, Tally()))


def _addressee(key: bytes, row: KeptMessageRow) -> PeerId:
    return sender_of(key) if row.receipt else recipient_of(key)
