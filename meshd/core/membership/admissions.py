"""Our place in the mesh as it changes: founding, new names, renewals — and, as an admin, other members'."""

from __future__ import annotations

from dataclasses import dataclass

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.membership.admitting import INTRODUCED_LIFETIME, MEMBER_LIFETIME, Admitting
from meshd.core.membership.membership import Membership
from meshd.core.overlay.routing import Routing
from meshd.core.pushing.holders import Holders
from meshd.crypto.admission import Rights, decode_chain, expires_at, issue
from meshd.errors import Code, Rejected
from meshd.ids import MeshId, PeerId, RequestId, Ticket, is_name
from meshd.wire.messages import AdmissionIssued, AdmissionRefused, AdmissionWanted
from meshd.wire.record import Record

# Policy
ADMIN_LIFETIME = 10 * 365 * 86400  # seconds; the mesh key lies in a drawer
ADMIN_TIMEOUT = 10.0  # seconds for an admin to answer a request that somebody waits for
RENEWAL_INTERVAL = 3600.0  # seconds between looks at our own admission
DIRECT_CHAIN_LENGTH = 2  # mesh key → admin → member; a longer chain is worth replacing
MAX_ASKED = 64  # requests to admins that are remembered


@dataclass(slots=True)
class _Wanted:
    """A question to an admin."""

    admin: PeerId
    request: RequestId | None
    name: str


class Admissions:
    """Changes of admissions."""

    __slots__ = ("_admitting", "_asked", "_ctx", "_founding", "_holders", "_membership", "_naming", "_post", "_routing")

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        admitting: Admitting,
        holders: Holders,
        routing: Routing,
        post: Post,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._admitting = admitting
        self._holders = holders
        self._routing = routing
        self._post = post
        self._asked: dict[int, _Wanted] = {}
        self._naming: dict[PeerId, tuple[RequestId, str]] = {}  # renamed by us: who waits, for which name
        self._founding: Ticket | None = None

    # -- founding -----------------------------------------------------------------------------------------------------

    def found(self, request: RequestId, mesh_name: str, name: str, mesh_key: bytes) -> None:
        """A new mesh with us as its first admin. The mesh key signs that, and is forgotten."""
        if not is_name(name) or not is_name(mesh_name):
            self._ctx.refuse(request, Code.NAME_INVALID, f"{name if not is_name(name) else mesh_name!r} is none.")
            return
        mesh = MeshId(self._ctx.suite.identity_of(mesh_key))
        now = int(self._ctx.now.unix)
        certificate = issue(
            lambda message: self._ctx.suite.sign_with(mesh_key, message),
            mesh,
            mesh,
            subject=self._ctx.own_id,
            name=name,
            rights=Rights.ADMIN | Rights.INTRODUCE,
            issued=now,
            expires=now + ADMIN_LIFETIME,
        )
        self._founding = self._membership.enter(mesh, mesh_name, (certificate,), request)
        self._ctx.notify("mesh_founded", mesh=mesh, name=name)
        self._ctx.respond_after(
            self._founding, request, mesh_id=mesh, mesh_name=mesh_name, peer_id=self._ctx.own_id, name=name
        )
        self._holders.activate()

    def on_not_durable(self, ticket: Ticket) -> bool:
        """The disk would not have it: as if it had not been asked for. True if it was a founding."""
        if ticket != self._founding:
            return False
        self._founding = None
        self._membership.undo_enter()
        self._holders.deactivate()
        return True

    # -- names and renewals, as the one concerned ---------------------------------------------------------------------

    def rename(self, request: RequestId, name: str) -> None:
        """Another name for ourselves: by ourselves if we are an admin, else by one that we can reach."""
        if not is_name(name):
            self._ctx.refuse(request, Code.NAME_INVALID)
        elif any(peer != self._ctx.own_id for peer in self._membership.named(name)):
            self._ctx.refuse(request, Code.NAME_TAKEN)
        elif self._membership.rights & Rights.ADMIN:
            ticket = self._membership.adopt(self._admitting.chain_for(self._ctx.own_id, name))
            self._ctx.respond_after(ticket, request, peer_id=self._ctx.own_id, name=name)
        elif not self._ask(request, name):
            self._ctx.refuse(request, Code.NO_ADMIN)

    def _ask(self, request: RequestId | None, name: str) -> bool:
        admins = [peer for peer in self._membership.admins() if self._routing.next_hop(peer) is not None]
        if not admins or len(self._asked) >= MAX_ASKED:
            return False
        admin = min(admins, key=lambda peer: (self._routing.hops(peer) or 0, peer))
        number = self._ctx.rng.getrandbits(63) + 1
        if not self._post.send(admin, AdmissionWanted(number, name)):
            return False
        self._asked[number] = _Wanted(admin, request, name)
        self._ctx.timer("admission", number.to_bytes(8, "big"), ADMIN_TIMEOUT)
        return True

    def on_issued(self, peer: PeerId, message: AdmissionIssued) -> None:
        """A new admission for us, asked for or not. Raises MalformedMessage and Rejected."""
        chain = decode_chain(message.chain)
        if chain[-1].issuer != self._membership.mesh:  # what the mesh key says, any member may bring
            if len(chain) < 2 or chain[-1].issuer != peer or not chain[-2].rights & Rights.ADMIN:
                raise Rejected("not_an_admin")
            if self._membership.rights & Rights.ADMIN:
                raise Rejected("already_an_admin")  # only the mesh key removes admins
            lasting = self._ctx.now.unix + INTRODUCED_LIFETIME
            if expires_at(chain) < min(expires_at(self._membership.chain), lasting):
                raise Rejected("shorter_admission")  # who wants us out has to revoke us: the mesh key can void that
        ticket = self._membership.adopt(chain)
        self._ctx.notify("admission_renewed", name=chain[-1].name, admin=peer)
        wanted = self._asked.pop(message.number, None)
        if wanted is not None and wanted.request is not None:
            self._ctx.cancel_timer("admission", message.number.to_bytes(8, "big"))
            self._ctx.respond_after(ticket, wanted.request, peer_id=self._ctx.own_id, name=chain[-1].name)

    def on_refused(self, peer: PeerId, message: AdmissionRefused) -> None:
        """The admin would not."""
        wanted = self._asked.get(message.number)
        if wanted is not None and wanted.admin == peer:
            del self._asked[message.number]
            if wanted.request is not None:
                taken = message.reason == "name_taken"
                self._ctx.refuse(wanted.request, Code.NAME_TAKEN if taken else Code.REFUSED)

    def on_timeout(self, about: bytes) -> None:
        """The admin has not answered."""
        wanted = self._asked.pop(int.from_bytes(about, "big"), None)
        if wanted is not None and wanted.request is not None:
            self._ctx.refuse(wanted.request, Code.NO_ADMIN)

    def on_renewal_timer(self) -> None:
        """Ask for a better admission when ours is past half of its time, or hangs on more than an admin."""
        self._ctx.timer("renewal", b"", self._ctx.jitter(RENEWAL_INTERVAL))
        if self._membership.row is None or self._membership.rights & Rights.ADMIN:
            return
        chain = self._membership.chain
        left = expires_at(chain) - self._ctx.now.unix
        leans = self._membership.revocations.revoked.leans_on(chain)
        if leans or len(chain) > DIRECT_CHAIN_LENGTH or left < MEMBER_LIFETIME / 2 or left < INTRODUCED_LIFETIME / 2:
            self._ask(None, "")

    # -- as an admin --------------------------------------------------------------------------------------------------

    def rename_other(self, request: RequestId, peer: PeerId, name: str) -> None:
        """Give a member another name. Done when its record says so."""
        if not is_name(name):
            self._ctx.refuse(request, Code.NAME_INVALID)
        elif not self._membership.rights & Rights.ADMIN:
            self._ctx.refuse(request, Code.REFUSED, "Only an admin renames others.")
        elif any(other != peer for other in self._membership.named(name)):
            self._ctx.refuse(request, Code.NAME_TAKEN)
        else:
            record = self._membership.record(peer)
            if record is not None and self._membership.rights_of(record) & Rights.ADMIN:
                self._ctx.refuse(request, Code.REFUSED, "An admin renames itself.")
                return
            chain = self._admitting.chain_for(peer, name)
            self._membership.promise(name, peer)
            if not self._post.send(peer, AdmissionIssued(0, tuple(c.encoded for c in chain))):
                self._ctx.refuse(request, Code.PEER_UNREACHABLE)
                return
            self._naming[peer] = (request, name)
            self._ctx.timer("naming", peer, ADMIN_TIMEOUT)

    def on_naming_timeout(self, about: bytes) -> None:
        """The member has not taken its new name."""
        waiting = self._naming.pop(PeerId(about), None)
        if waiting is not None:
            self._ctx.refuse(waiting[0], Code.PEER_UNREACHABLE, "It may still take the name.")

    def on_record(self, record: Record) -> None:
        """A member has taken the name that we gave it."""
        waiting = self._naming.get(record.peer)
        if waiting is not None and record.name == waiting[1]:
            del self._naming[record.peer]
            self._ctx.cancel_timer("naming", record.peer)
            self._ctx.respond(waiting[0], peer_id=record.peer, name=record.name)

    def on_wanted(self, peer: PeerId, message: AdmissionWanted) -> None:
        """A member asks for a renewal or a new name. Raises Rejected if we are no admin."""
        if not self._membership.rights & Rights.ADMIN:
            raise Rejected("not_an_admin")
        record = self._membership.record(peer)
        if record is None:
            self._post.send(peer, AdmissionRefused(message.number, "not_member"))
            return
        name = message.name or record.name
        if not is_name(name) or any(other != peer for other in self._membership.named(name)):
            self._post.send(peer, AdmissionRefused(message.number, "name_taken"))
            return
        try:
            chain = self._admitting.chain_for(peer, name)
        except Rejected as rejected:
            self._post.send(peer, AdmissionRefused(message.number, rejected.reason))
            return
        self._membership.promise(name, peer)
        self._ctx.count("admissions_issued")
        self._post.send(peer, AdmissionIssued(message.number, tuple(c.encoded for c in chain)))

    def abandon(self, request: RequestId) -> None:
        """Nobody waits any more."""
        for wanted in self._asked.values():
            if wanted.request == request:
                wanted.request = None
        for peer, waiting in list(self._naming.items()):
            if waiting[0] == request:
                del self._naming[peer]
