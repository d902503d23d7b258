"""How records get everywhere: news is passed on at once, and neighbors compare what they have.

A comparison costs little when little differs: hashes of buckets first, then the numbers in the buckets that differ,
then the records themselves. Whoever has more buckets sets the scale, so that a newcomer never asks for a list of all.
"""

from __future__ import annotations

import hashlib

from meshd.core.commands import SendMessage
from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import PREFIX_SIZE, PeerId, Ticket
from meshd.wire.messages import (
    ENTRY_SIZE,
    MAX_BUCKETS,
    MAX_ENTRIES,
    MAX_RECORDS,
    Digest,
    Records,
    RecordsWanted,
    Summary,
    encode_message,
    peer_prefixes,
)
from meshd.wire.record import Record

# Policy
RECORDS_PER_BUCKET = 8
COMPARE_INTERVAL = 60.0  # seconds; with one neighbor, in case some news was lost
MAX_BATCH_SIZE = 48 * 1024  # bytes of records in one message


class Reconciliation:
    """Keeps neighbors' records equal to ours."""

    __slots__ = ("_ctx", "_hashes", "_membership", "_neighbors")

    def __init__(self, ctx: Context, membership: Membership, neighbors: Neighbors) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._hashes: dict[bytes, tuple[int, int]] = {}  # id prefix → number, hash of both; only a cache

    # -- news ---------------------------------------------------------------------------------------------------------

    def spread(self, records: list[Record], ticket: Ticket | None, but: PeerId | None = None) -> None:
        """Pass records on to all neighbors but the one that brought them, once they are durable here."""
        if not records:
            return
        data = encode_message(Records(tuple(record.encoded for record in records)))
        for peer in self._neighbors.peers():
            link = self._neighbors.current(peer)
            if peer != but and link is not None:
                self._ctx.after(ticket, SendMessage(link.id, data))

    def introduce(self, peer: PeerId, own: Record) -> None:
        """Our own record first thing on a new link: what follows may depend on it."""
        self._neighbors.send_to(peer, Records((own.encoded,)), ticket=self._membership.own_ticket)

    def on_records(self, source: PeerId, message: Records) -> None:
        """Take what is new and pass it on. One bad record spoils neither the others nor the link."""
        news: list[Record] = []
        ticket: Ticket | None = None
        for data in message.records:
            try:
                accepted = self._membership.accept(data, source)
            except MalformedMessage:
                self._ctx.count("records_malformed")
                continue
            except Rejected as rejected:
                self._ctx.count("records_rejected")
                self._ctx.notify("record_rejected", peer=source, reason=rejected.reason)
                continue
            if accepted is not None:
                record, ticket = accepted
                news.append(record)
        self.spread(news, ticket, but=source)

    # -- comparing ----------------------------------------------------------------------------------------------------

    def _hash(self, record: Record) -> int:
        prefix = record.peer[:PREFIX_SIZE]
        cached = self._hashes.get(prefix)
        if cached is None or cached[0] != record.number:
            digest = hashlib.sha256(record.peer + record.number.to_bytes(5, "big")).digest()
            cached = (record.number, int.from_bytes(digest[:8], "big"))
            self._hashes[prefix] = cached
        return cached[1]

    def _scale(self) -> int:
        wanted = sum(1 for _ in self._membership.current_records()) // RECORDS_PER_BUCKET
        buckets = 1
        while buckets < wanted and buckets < MAX_BUCKETS:
            buckets *= 2
        return buckets

    @staticmethod
    def _bucket(peer: bytes, of: int) -> int:
        return int.from_bytes(peer[:2], "big") % of

    def _buckets(self, of: int) -> list[int]:
        buckets = [0] * of
        for record in self._membership.current_records():
            buckets[self._bucket(record.peer, of)] ^= self._hash(record)
        return buckets

    def _digest(self, of: int) -> Digest:
        return Digest(b"".join(bucket.to_bytes(8, "big") for bucket in self._buckets(of)))

    def compare_with(self, peer: PeerId) -> None:
        """Begin a comparison."""
        self._neighbors.send_to(peer, self._digest(self._scale()))

    def on_timer(self) -> None:
        """Compare with some neighbor now and then."""
        peers = self._neighbors.peers()
        if peers:
            self.compare_with(self._ctx.rng.choice(peers))
        self._ctx.timer("compare", b"", self._ctx.jitter(COMPARE_INTERVAL))

    def on_digest(self, peer: PeerId, message: Digest) -> None:
        """Say what we have where we differ — or set a finer scale first."""
        of = len(message.buckets) // 8
        if of & (of - 1) or len(message.buckets) % 8:
            raise MalformedMessage("a digest whose number of buckets is no power of two")
        scale = self._scale()
        if scale > of:
            self._neighbors.send_to(peer, self._digest(scale))
            return
        theirs = [int.from_bytes(message.buckets[i : i + 8], "big") for i in range(0, len(message.buckets), 8)]
        differing = tuple(i for i, (a, b) in enumerate(zip(self._buckets(of), theirs, strict=True)) if a != b)
        if not differing:
            return
        wanted = set(differing)
        entries = [
            record.peer[:PREFIX_SIZE] + record.number.to_bytes(5, "big")
            for record in self._membership.current_records()
            if self._bucket(record.peer, of) in wanted
        ]
        self._neighbors.send_to(peer, Summary(of, differing, b"".join(entries[:MAX_ENTRIES])))

    def on_summary(self, peer: PeerId, message: Summary) -> None:
        """Send what they lack and ask for what we lack."""
        if message.of < 1 or message.of > MAX_BUCKETS or len(message.entries) % ENTRY_SIZE:
            raise MalformedMessage("a summary that does not add up")
        theirs = {
            message.entries[i : i + PREFIX_SIZE]: int.from_bytes(
                message.entries[i + PREFIX_SIZE : i + ENTRY_SIZE], "big"
            )
            for i in range(0, len(message.entries), ENTRY_SIZE)
        }
        buckets = set(message.numbers)
        to_send = [
            record
            for record in self._membership.current_records()
            if self._bucket(record.peer, message.of) in buckets
            and theirs.get(record.peer[:PREFIX_SIZE], 0) < record.number
        ]
        wanted = []
        for prefix, number in theirs.items():
            ours = self._membership.by_prefix(prefix)
            if ours is None or ours.number < number:
                wanted.append(prefix)
        self._send_records(peer, to_send)
        if wanted:
            self._neighbors.send_to(peer, RecordsWanted(b"".join(wanted)))

    def on_records_wanted(self, peer: PeerId, message: RecordsWanted) -> None:
        """Send those."""
        if len(message.prefixes) % PREFIX_SIZE:
            raise MalformedMessage("prefixes that do not add up")
        found = (self._membership.by_prefix(prefix) for prefix in dict.fromkeys(peer_prefixes(message.prefixes)))
        self._send_records(peer, [record for record in found if record is not None])

    def _send_records(self, peer: PeerId, records: list[Record]) -> None:
        ticket = self._membership.own_ticket  # ours may be among them
        batch: list[bytes] = []
        size = 0
        for record in records:
            if batch and (len(batch) == MAX_RECORDS or size + len(record.encoded) > MAX_BATCH_SIZE):
                self._neighbors.send_to(peer, Records(tuple(batch)), ticket=ticket)
                batch, size = [], 0
            batch.append(record.encoded)
            size += len(record.encoded)
        if batch:
            self._neighbors.send_to(peer, Records(tuple(batch)), ticket=ticket)
