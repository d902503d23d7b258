"""How neighbors come to have the same records and link states: they compare, and give each other what is missing.

News goes by broadcast; this is for what was lost on the way, and for those who begin with nothing. A comparison costs
little when little differs: one hash of all first, then hashes of ever smaller buckets where they differ, then the
numbers in the smallest that differ, then what is missing itself. How small, is for the side with more members to say;
but whoever has few lists them at once, so that a newcomer never asks for a list of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.core.overlay.link_states import LinkStates
from meshd.core.overlay.neighbors import Neighbors
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import PREFIX_SIZE, PeerId, Ticket
from meshd.wire.link_state import LinkState
from meshd.wire.messages import Digest, Records, RecordsWanted, Summary, peer_prefixes
from meshd.wire.reconciling import (
    DIGEST_SIZE,
    ENTRY_SIZE,
    FAN,
    LEVELS,
    MAX_BUCKETS,
    MAX_ENTRIES,
    MAX_LINK_STATES,
    MAX_RECORDS,
)
from meshd.wire.record import Record

# Policy
RECORDS_PER_BUCKET = 16  # at most, on average, where a summary is made of it
COMPARE_INTERVAL = 60.0  # seconds; with one neighbor, in case some news was lost
AGAIN_INTERVAL = 1.0  # seconds; where more differed than one message may list
MAX_BATCH_SIZE = 48 * 1024  # bytes of records and link states in one message

_SPAN: tuple[int, ...] = tuple(
    MAX_BUCKETS // FAN**level for level in range(LEVELS)
)  # smallest buckets in one of each level

Member = tuple[bytes, Record, LinkState | None]  # id prefix first


class Reconciliation:
    """Keeps neighbors' records and link states equal to ours."""

    __slots__ = ("_ctx", "_link_states", "_membership", "_neighbors")

    def __init__(self, ctx: Context, membership: Membership, neighbors: Neighbors, link_states: LinkStates) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._link_states = link_states

    def introduce(self, peer: PeerId, own: Record) -> None:
        """Our own record and link state first thing on a new link: what follows may depend on it."""
        state = self._link_states.own
        states = () if state is None else (state.encoded,)
        self._neighbors.send_to(peer, Records((own.encoded,), states), ticket=self._membership.own_ticket)

    def on_records(self, source: PeerId, message: Records) -> None:
        """Take what is new; it goes on as news. One that is bad spoils neither the others nor the link."""
        for data in message.records:
            self._take(source, data, is_record=True)
        for data in message.link_states:
            self._take(source, data, is_record=False)

    def _take(self, source: PeerId, data: bytes, *, is_record: bool) -> None:
        try:
            if is_record:
                self._membership.accept(data, source)
            else:
                self._link_states.accept(data, source)
        except MalformedMessage:
            self._ctx.count("records_malformed")
        except Rejected as rejected:
            self._ctx.count("records_rejected")
            self._ctx.notify("record_rejected", peer=source, reason=rejected.reason)

    # -- what there is ------------------------------------------------------------------------------------------------

    def _members(self) -> Iterator[Member]:
        for record in self._membership.current_records():
            prefix = record.peer[:PREFIX_SIZE]
            yield prefix, record, self._link_states.of(prefix)

    def _level(self) -> int:
        """The one whose buckets are small enough to be listed."""
        level, members = 0, self._membership.size
        while members > RECORDS_PER_BUCKET * FAN**level and level < LEVELS - 1:
            level += 1
        return level

    def _buckets(self, level: int, parents: tuple[int, ...]) -> list[int]:
        """The hashes of those buckets at ``level`` that lie in ``parents``, in order."""
        hashes = [0] * FAN**level
        for prefix, record, state in self._members():
            hashes[bucket_of(prefix, level)] ^= record.digest if state is None else record.digest ^ state.digest
        return hashes if level == 0 else [h for p in parents for h in hashes[p * FAN : (p + 1) * FAN]]

    # -- comparing ----------------------------------------------------------------------------------------------------

    def compare_with(self, peer: PeerId) -> None:
        """Begin a comparison: a hash of everything."""
        self._send_digest(peer, 0, ())

    def _send_digest(self, peer: PeerId, level: int, parents: tuple[int, ...]) -> None:
        buckets = b"".join(bucket.to_bytes(DIGEST_SIZE, "big") for bucket in self._buckets(level, parents))
        self._neighbors.send_to(peer, Digest(level, parents, buckets))

    def on_timer(self) -> None:
        """Compare with some neighbor now and then."""
        peers = self._neighbors.peers()
        if peers:
            self.compare_with(self._ctx.rng.choice(peers))
        self._ctx.timer("compare", b"", self._ctx.jitter(COMPARE_INTERVAL))

    def on_digest(self, peer: PeerId, message: Digest) -> None:
        """Where we differ: say what we have there, or look closer first. Raises MalformedMessage."""
        level, parents = message.level, message.parents
        _check_buckets(level - 1, parents, at_least=0 if level == 0 else 1)
        count = 1 if level == 0 else len(parents) * FAN
        if level >= LEVELS or len(message.buckets) != count * DIGEST_SIZE:
            raise MalformedMessage("a digest that does not add up")
        theirs = [int.from_bytes(message.buckets[i * 8 : i * 8 + 8], "big") for i in range(count)]
        numbers = [0] if level == 0 else [p * FAN + i for p in parents for i in range(FAN)]
        compared = zip(numbers, self._buckets(level, parents), theirs, strict=True)
        differing = tuple(number for number, ours, their in compared if ours != their)
        if not differing:
            return
        if level >= self._level():
            self._send_summary(peer, level, differing)
        else:
            self._send_digest(peer, level + 1, differing)

    def _send_summary(self, peer: PeerId, level: int, differing: tuple[int, ...]) -> None:
        """As many whole buckets as one message may list; the others come with the next comparison, soon."""
        by_bucket: dict[int, list[bytes]] = {number: [] for number in differing}
        for prefix, record, state in self._members():
            bucket = by_bucket.get(bucket_of(prefix, level))
            if bucket is not None:
                number = 0 if state is None else state.number
                bucket.append(prefix + record.number.to_bytes(5, "big") + number.to_bytes(5, "big"))
        listed: list[int] = []
        entries: list[bytes] = []
        for number, bucket in by_bucket.items():
            if len(entries) + len(bucket) > MAX_ENTRIES:
                self._ctx.timers.set_at_latest(("compare", b""), self._ctx.now.mono + self._ctx.jitter(AGAIN_INTERVAL))
                break
            listed.append(number)
            entries.extend(bucket)
        self._neighbors.send_to(peer, Summary(level, tuple(listed), b"".join(entries)))

    def on_summary(self, peer: PeerId, message: Summary) -> None:
        """Send what they lack and ask for what we lack. Raises MalformedMessage."""
        _check_buckets(message.level, message.numbers, at_least=0)
        if message.level >= LEVELS or len(message.entries) % ENTRY_SIZE:
            raise MalformedMessage("a summary that does not add up")
        theirs = {entry[:PREFIX_SIZE]: _numbers_in(entry) for entry in _cut(message.entries, ENTRY_SIZE)}
        buckets = set(message.numbers)
        records: list[Record] = []
        states: list[LinkState] = []
        for prefix, record, state in self._members():
            if bucket_of(prefix, message.level) in buckets:
                known = theirs.get(prefix, (0, 0))
                if record.number > known[0]:
                    records.append(record)
                if state is not None and state.number > known[1]:
                    states.append(state)
        self._send(peer, records, states)
        lacking, older = b"", b""
        for prefix, (number, state_number) in theirs.items():
            ours, state = self._membership.by_prefix(prefix), self._link_states.of(prefix)
            if ours is None or ours.number < number:
                lacking += prefix
            if state_number > (0 if state is None else state.number):
                older += prefix
        if lacking or older:
            self._neighbors.send_to(peer, RecordsWanted(lacking, older))

    def on_records_wanted(self, peer: PeerId, message: RecordsWanted) -> None:
        """Send those. Raises MalformedMessage."""
        if len(message.prefixes) % PREFIX_SIZE or len(message.link_states) % PREFIX_SIZE:
            raise MalformedMessage("prefixes that do not add up")
        records = [self._membership.by_prefix(prefix) for prefix in dict.fromkeys(peer_prefixes(message.prefixes))]
        states = [self._link_states.of(prefix) for prefix in dict.fromkeys(peer_prefixes(message.link_states))]
        self._send(peer, [r for r in records if r is not None], [s for s in states if s is not None])

    def _send(self, peer: PeerId, records: list[Record], states: list[LinkState]) -> None:
        """Records first: link states are believed of known members only."""
        ticket = self._membership.own_ticket  # ours may be among them
        for batch in _batches([record.encoded for record in records], MAX_RECORDS):
            self._send_batch(peer, Records(batch), ticket)
        for batch in _batches([state.encoded for state in states], MAX_LINK_STATES):
            self._send_batch(peer, Records((), batch), ticket)

    def _send_batch(self, peer: PeerId, message: Records, ticket: Ticket | None) -> None:
        self._neighbors.send_to(peer, message, ticket=ticket)


def bucket_of(prefix: bytes, level: int) -> int:
    """In which bucket of that level a member falls, by its first two bytes."""
    return int.from_bytes(prefix[:2], "big") % MAX_BUCKETS // _SPAN[level]


def _check_buckets(level: int, numbers: tuple[int, ...], at_least: int) -> None:
    rising = all(a < b for a, b in pairwise(numbers))
    if len(numbers) < at_least or not rising or (numbers and (level < 0 or numbers[-1] >= FAN**level)):
        raise MalformedMessage("buckets that there are not")


def _numbers_in(entry: bytes) -> tuple[int, int]:
    at = PREFIX_SIZE + 5
    return int.from_bytes(entry[PREFIX_SIZE:at], "big"), int.from_bytes(entry[at:], "big")


def _cut(blob: bytes, size: int) -> list[bytes]:
    return [blob[i : i + size] for i in range(0, len(blob), size)]


def _batches(encoded: list[bytes], most: int) -> Iterator[tuple[bytes, ...]]:
    batch: list[bytes] = []
    size = 0
    for data in encoded:
        if batch and (len(batch) == most or size + len(data) > MAX_BATCH_SIZE):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(data)
        size += len(data)
    if batch:
        yield tuple(batch)
