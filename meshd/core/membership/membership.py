"""Who belongs to the mesh: our own place in it, and everybody's newest record.

A record is stored only when its chain leads to the mesh key, its signature holds and its number is higher than what we
have. What is stored here has been verified; nobody below checks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from meshd.core.commands import Clear, Delete, Put
from meshd.core.context import Context
from meshd.core.facts import MembershipChanged, OwnRecordMet, RecordAccepted
from meshd.core.membership.expected import Expected
from meshd.core.membership.promises import Promises
from meshd.core.membership.record_rate import RecordRate
from meshd.core.membership.revocations import Revocations
from meshd.core.membership.stored_records import number_in, records_in
from meshd.core.state import MESH_KEY, OF_A_MESH, REVOKED_KEY, MeshRow, RevokedRow, Stored, rows
from meshd.crypto.admission import Chain, Rights, decode_chain, verify_chain
from meshd.errors import LocalMisuse, Rejected
from meshd.ids import PREFIX_SIZE, MeshId, PeerId, RequestId, Ticket
from meshd.wire.codec import encode
from meshd.wire.record import (
    DEPARTED,
    DEPOSITS,
    RELAYS,
    Record,
    decode_record,
    make_record,
    verify_record,
)

# Policy
RECORD_BATCH_INTERVAL = 0.05  # seconds; changes within it make one new record
RECORD_RENEW_INTERVAL = 86400.0  # seconds; well within a record's lifetime of a week
DEPARTED_RETENTION = 30 * 86400.0  # seconds a goodbye is remembered, so that an older record does not raise the dead
MAX_NUMBER = 1 << 39  # of a record of ours that is believed; half of what fits, and 17,000 years of seconds


class Membership:
    """The mesh as this node knows it. Without a mesh, ``row`` is None and there are no records."""

    __slots__ = (
        "_counted",
        "_ctx",
        "_expected",
        "_floor",
        "_offers",
        "_prefixes",
        "_promises",
        "_rate",
        "_records",
        "changes",
        "own_ticket",
        "revocations",
        "row",
    )

    def __init__(self, ctx: Context, stored: Stored, revocations: Revocations) -> None:
        self._ctx = ctx
        self.revocations = revocations
        self.row = rows(stored, "mesh", MeshRow).get(MESH_KEY)
        self._expected = Expected(ctx, stored, revocations)
        self._records: dict[PeerId, Record] = {}
        self._counted: tuple[int, int] | None = None  # members, and when (Unix seconds) the first admission ends
        self._prefixes: dict[bytes, PeerId] = {}
        self._offers: tuple[tuple[str, ...], int] = ((), 0)  # where we answer STUN, and our features
        self.changes = 0  # of records, counted: for who keeps something that follows from them
        self._rate = RecordRate(ctx)
        self._promises = Promises(ctx)
        self._floor = number_in(stored, ctx.own_id)
        self.own_ticket: Ticket | None = None  # our own record may be shown once it is durable
        if self.row is not None:
            for record in records_in(stored, ctx.suite, revocations):
                self._keep(record)

    # -- ourselves ----------------------------------------------------------------------------------------------------

    @property
    def mesh(self) -> MeshId:
        """The mesh we belong to. Raises LocalMisuse without one."""
        return MeshId(self._own_row().mesh)

    @property
    def chain(self) -> Chain:
        """Our own admission."""
        return decode_chain(self._own_row().chain)

    @property
    def name(self) -> str:
        """Our own name."""
        return self.chain[-1].name

    @property
    def rights(self) -> Rights:
        """Our own rights."""
        return self.revocations.rights(self.chain)

    @property
    def own_record(self) -> Record | None:
        """Our newest record."""
        return self._records.get(self._ctx.own_id)

    def _own_row(self) -> MeshRow:
        if self.row is None:
            raise LocalMisuse("this node belongs to no mesh")
        return self.row

    def enter(self, mesh: MeshId, mesh_name: str, chain: Chain, request: RequestId | None = None) -> Ticket:
        """Become a member (by founding or by being admitted). The ticket is that of the membership."""
        self.row = MeshRow(mesh, mesh_name, tuple(c.encoded for c in chain), 0, 0)
        self.revocations.begin(mesh)
        ticket = self._publish(request)
        self._ctx.state(MembershipChanged())
        return ticket

    def undo_enter(self) -> None:
        """It could not be made durable."""
        self.row = None
        self._records, self._prefixes, self._counted, self.changes = {}, {}, None, self.changes + 1
        self._ctx.cancel_timer("record", b"")
        self._ctx.state(MembershipChanged())

    def leave(self, *changes: Put) -> tuple[Record, Ticket]:
        """Stop being a member: gives the record that says goodbye. Everything about the mesh is forgotten.

        ``changes`` are written with it.
        """
        row = self._own_row()
        farewell = self._make(row, self._next_number(row), DEPARTED)
        self.row = None
        self._records, self._prefixes, self._counted, self.changes = {}, {}, None, self.changes + 1
        self._expected.clear()
        self._floor = farewell.number  # kept: in this mesh or another, no number of ours is used again
        self.revocations.forget_all()
        ticket = self._ctx.persist(
            *(Clear(table) for table in OF_A_MESH), Put("records", farewell.peer, farewell.encoded), *changes
        )
        self._ctx.cancel_timer("record", b"")
        self._ctx.state(MembershipChanged())
        return farewell, ticket

    def expel(self, why: RevokedRow) -> Ticket:
        """Stop being a member, since the mesh says so: there is nobody to say goodbye to."""
        return self.leave(Put("mesh", REVOKED_KEY, encode(why)))[1]

    def adopt(self, chain: Chain) -> Ticket:
        """Take a new admission from an admin, after checking it. Raises Rejected if it does not hold or is older."""
        row = self._own_row()
        if chain[-1].subject != self._ctx.own_id:
            raise Rejected("not_our_admission")
        verify_chain(chain, self.mesh, self._ctx.now.unix, self._ctx.suite.verify, self.revocations.judge)
        if chain[-1].issued < self.chain[-1].issued:
            raise Rejected("older_admission")
        self.row = MeshRow(row.mesh, row.mesh_name, tuple(c.encoded for c in chain), row.number, row.generation)
        ticket = self._publish()
        self._ctx.state(MembershipChanged())
        return ticket

    def new_generation(self, above: int = 0) -> None:
        """Our push subscriptions have changed: say so in the record. The new number is above that one, too."""
        if self.row is not None:
            self.row = replace(self.row, generation=max(self.row.generation, above) + 1)
            self.renew_record()

    def offers_changed(self, *, answering: tuple[str, ...] | None = None, features: int | None = None) -> None:
        """Where we answer STUN (``host:port``), or what we do for others, is this now; a new record follows soon."""
        before = self._offers
        self._offers = (before[0] if answering is None else answering, before[1] if features is None else features)
        if self._offers != before:
            self.renew_record()

    def renew_record(self) -> None:
        """What our record says has changed: a new one follows soon, if we are a member."""
        if self.row is not None:
            self._ctx.timers.set_at_latest(("record", b""), self._ctx.now.mono + RECORD_BATCH_INTERVAL)

    def on_timer(self) -> None:
        """Time for a new record: something has changed, or the last one grows old."""
        if self.row is not None:
            self._publish()
            self._drop_expired()

    def _next_number(self, row: MeshRow) -> int:
        """Numbers only grow, also over a restored backup or a leave and a new join: the clock is a floor for them."""
        own = self._records.get(self._ctx.own_id)
        return max(row.number, self._floor, own.number if own else 0, int(self._ctx.now.unix) - 1) + 1

    def _make(self, row: MeshRow, number: int, flags: int) -> Record:
        return make_record(
            self._ctx.suite,
            MeshId(row.mesh),
            number=number,
            chain=decode_chain(row.chain),
            generation=row.generation,
            features=DEPOSITS | self._offers[1],
            instance=self._ctx.instance,
            issued=int(self._ctx.now.unix),
            flags=flags,
            answering=() if flags & DEPARTED else self._offers[0],
        )

    def _publish(self, request: RequestId | None = None) -> Ticket:
        """A new record of ours. It leaves only once its number is durable, or a restart would use it twice."""
        row = self._own_row()
        number = self._next_number(row)
        record = self._make(row, number, RELAYS if self._ctx.config.mesh.relay else 0)
        self.row = MeshRow(row.mesh, row.mesh_name, row.chain, number, row.generation)
        previous = self._keep(record)
        ticket = self._ctx.persist(
            Put("mesh", MESH_KEY, encode(self.row)), Put("records", record.peer, record.encoded), request=request
        )
        self.own_ticket = ticket
        self._ctx.timer("record", b"", self._ctx.jitter(RECORD_RENEW_INTERVAL))
        self._ctx.state(RecordAccepted(record, previous, ticket))
        return ticket

    # -- everybody ----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Record]:
        """The records of all members, us included."""
        now = self._ctx.now.unix
        return (r for r in self._records.values() if not r.departed and r.admitted_until > now)

    def __len__(self) -> int:
        """How many members there are, us included."""
        return sum(1 for _ in self)

    @property
    def size(self) -> int:
        """The same, counted again only when somebody has come or gone: it is asked for at every turn."""
        if self._counted is None or self._counted[1] <= self._ctx.now.unix:
            members = list(self)
            self._counted = (len(members), min((r.admitted_until for r in members), default=0))
        return self._counted[0]

    @property
    def is_small(self) -> bool:
        """Whether every pair of members is to have a link."""
        return self.size <= self._ctx.config.mesh.max_full_mesh

    def current_records(self) -> Iterator[Record]:
        """What is reconciled with neighbors: also goodbyes, but nothing that a newcomer could not take any more."""
        now = self._ctx.now.unix
        return (r for r in self._records.values() if r.expires > now and r.admitted_until > now)

    def record(self, peer: PeerId) -> Record | None:
        """A member's record; None for strangers, for those who have left, and for those whose admission has ended."""
        record = self._records.get(peer)
        if record is None or record.departed or record.admitted_until <= self._ctx.now.unix:
            return None
        return record

    def by_prefix(self, prefix: bytes) -> Record | None:
        """The record with that id prefix, departed or not."""
        peer = self._prefixes.get(prefix)
        return None if peer is None else self._records[peer]

    def is_member(self, peer: PeerId) -> bool:
        """Whether that peer is a member, or has just been admitted."""
        return self.record(peer) is not None or peer in self._expected

    def is_barred(self, peer: PeerId) -> bool:
        """Whether that key has been revoked."""
        return self.revocations.bars(peer) and not self.is_member(peer)

    def sealing_key(self, peer: PeerId) -> bytes | None:
        """What to seal to that member with."""
        record = self.record(peer)
        return self._expected.sealing_key(peer) if record is None else record.sealing_key

    def name_of(self, peer: PeerId) -> str | None:
        """A member's name."""
        record = self.record(peer)
        return self._expected.name_of(peer) if record is None else record.name

    def named(self, name: str) -> list[PeerId]:
        """The members of that name: one, or none; more only when two introducers gave it at the same time."""
        known = dict.fromkeys(record.peer for record in self if record.name == name)
        known.update(dict.fromkeys(peer for peer in self._expected if self.name_of(peer) == name))
        peer = self._promises.holder(name)
        if peer is not None:
            known[peer] = None
        return list(known)

    def promise(self, name: str, peer: PeerId) -> None:
        """That name is on its way to that member: nobody else gets it meanwhile."""
        self._promises.make(name, peer)

    def admins(self) -> list[PeerId]:
        """The members who are admins."""
        return [record.peer for record in self if self.rights_of(record) & Rights.ADMIN]

    def rights_of(self, record: Record) -> Rights:
        """What that member may do."""
        return self.revocations.rights(record.chain)

    def chains(self) -> list[Chain]:
        """Those of all that we know to be, or to have been, members; ours included."""
        return [r.chain for r in self._records.values()] + self._expected.chains()

    def rejudge(self) -> list[PeerId]:
        """A revocation has come: forget all whose chains do not hold any more, and give them. We are not looked at."""
        touched = [
            r.peer for r in self._records.values() if not self.revocations.holds(r.chain) and r.peer != self._ctx.own_id
        ]
        self._drop(touched)
        never_came = self._expected.rejudge()
        if touched or never_came:
            self._ctx.persist(*(Delete("records", p) for p in touched), *(Delete("admitted", p) for p in never_came))
        return [peer for peer in dict.fromkeys(touched + never_came) if not self.is_member(peer)]

    def accept(self, data: bytes, source: PeerId) -> tuple[Record, Ticket] | None:
        """Take a record that ``source`` brought, whosever it is; if news, gives it and the ticket of keeping it.

        Raises MalformedMessage and Rejected.
        """
        record = self._ctx.suite.parsed(decode_record, data)
        known = self._records.get(record.peer)
        if record.peer == self._ctx.own_id:
            self._meet_own(record)
            return None
        if known is not None and record.number <= known.number:
            return None
        if known is None and len(self._records) >= self._ctx.config.mesh.max_members:
            raise Rejected("too_many_members")
        verify_record(record, self._ctx.suite, self.mesh, self._ctx.now.unix, self.revocations.judge)
        self._rate.charge(record.peer)
        previous = self._keep(record)
        ticket = self._ctx.persist(Put("records", record.peer, data), *self._expected.came(record.peer))
        if not record.departed and (previous is None or previous.departed):
            self._ctx.notify("member_joined", peer=record.peer, name=record.name, source=source)
        elif record.departed and (previous is None or not previous.departed):
            self._ctx.notify("member_left", peer=record.peer, name=record.name)
        elif previous is not None and previous.name != record.name:
            self._ctx.notify("member_renamed", peer=record.peer, name=record.name, previous=previous.name)
        self._ctx.state(RecordAccepted(record, previous, ticket, source))
        return record, ticket

    def _meet_own(self, record: Record) -> None:
        """Somebody shows us our own record. One that is newer than ours means a restored backup, or a double."""
        own = self._records.get(self._ctx.own_id)
        row = self._own_row()
        if own is None or record.number < own.number or replace(record, pieces=own.pieces) == own:
            return  # also in other clothes: what is around the signed part may differ
        verify_record(record, self._ctx.suite, self.mesh, self._ctx.now.unix, self.revocations.judge)
        if record.number > MAX_NUMBER:
            raise Rejected("own_number_too_high")
        if record.instance != self._ctx.instance:
            self._ctx.count("own_record_newer")
            self._ctx.state(OwnRecordMet(record))
        self.row = MeshRow(row.mesh, row.mesh_name, row.chain, record.number, row.generation)
        self._publish()

    def _keep(self, record: Record) -> Record | None:
        previous = self._records.get(record.peer)
        if previous is None or (previous.flags, previous.admitted_until) != (record.flags, record.admitted_until):
            self._counted = None
        self.changes += 1
        self._records[record.peer] = record
        self._prefixes[record.peer[:PREFIX_SIZE]] = record.peer
        return previous

    def _drop(self, peers: list[PeerId]) -> None:
        for peer in peers:
            self.changes += 1
            del self._records[peer]
            self._counted = None
            self._prefixes.pop(peer[:PREFIX_SIZE], None)

    def _drop_expired(self) -> None:
        """Forget goodbyes that are old enough. Members are kept when their record expires: they may come home."""
        now = self._ctx.now.unix
        gone = [r.peer for r in self._records.values() if r.departed and r.issued < now - DEPARTED_RETENTION]
        self._drop(gone)
        if gone:
            self._ctx.persist(*(Delete("records", peer) for peer in gone))
        self._expected.drop_expired()

    # -- whom we expect -----------------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether there is no room for one more."""
        return len(self._records) + len(self._expected) >= self._ctx.config.mesh.max_members

    def remember_admitted(self, peer: PeerId, chain: Chain, sealing_key: bytes) -> Put:
        """Somebody has been admitted, by us or before our eyes: known from now on, record or not.

        Gives the change to persist.
        """
        return self._expected.expect(peer, chain, sealing_key, known=self.record(peer) is not None)

    def forget_admitted(self, peer: PeerId) -> None:
        """One that was admitted has never come."""
        self._expected.forget(peer)
