"""The revocations that this node knows: taken when they verify, kept until nothing they could concern is alive.

What they say together is ``revoked``; every chain that is verified anywhere in the core is judged by it.
"""

from __future__ import annotations

from meshd.core.commands import Delete, Put
from meshd.core.context import Context
from meshd.core.state import MESH_KEY, MeshRow, Stored, rows
from meshd.crypto.admission import DIGEST_SIZE, Chain, Ground, Rights
from meshd.crypto.revocation import (
    Revocation,
    Revoked,
    decode_revocation,
    revocation_digest,
    verify_revocation,
)
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import MeshId, PeerId, Ticket

# Policy
MAX_REVOCATIONS = 1024  # kept of admins, and as many of the mesh key's: a few hundred bytes each
MAX_OF_ONE_ADMIN = 256  # of these: a stolen admin cannot keep the others from revoking
_NO_MESH = MeshId(bytes(32))


class Revocations:
    """All of them. Without a mesh there are none."""

    __slots__ = ("_ctx", "_digests", "_held", "_mesh", "revoked", "ticket")

    def __init__(self, ctx: Context, stored: Stored) -> None:
        self._ctx = ctx
        row = rows(stored, "mesh", MeshRow).get(MESH_KEY)
        self._mesh = _NO_MESH if row is None else MeshId(row.mesh)
        self._held: dict[bytes, Revocation] = {}
        self._digests: dict[bytes, bytes] = {}  # of what we have, to know it by sight
        if row is not None:
            for key, data in stored.get("revocations", {}).items():
                try:  # they were verified when they came, and only this daemon can write here
                    self._held[key] = decode_revocation(data)
                except MalformedMessage:
                    continue
                self._digests[data] = key
        self.revoked = Revoked(self._mesh, self._held.values())
        self.ticket: Ticket | None = None  # of the newest one: they may be shown once it is durable

    # -- reading ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many there are."""
        return len(self._held)

    def all(self) -> list[Revocation]:
        """Those that count, oldest first."""
        return sorted(self.revoked.counting, key=lambda one: (one.issued, one.subject))

    def judge(self, chain: Chain) -> None:
        """Raises Rejected for a chain that does not hold any more. See ``Revoked.judge``."""
        self.revoked.judge(chain)

    def holds(self, chain: Chain) -> bool:
        """The same as a question."""
        return self.revoked.holds(chain)

    def rights(self, chain: Chain) -> Rights:
        """What its subject may still do."""
        return self.revoked.rights(chain)

    def grounds(self, chain: Chain) -> tuple[Ground, ...]:
        """What we take for granted when we renew the subject of that chain. Raises Rejected: see ``grounds_of``."""
        return self.revoked.grounds(chain, self._ctx.own_id)

    def bars(self, peer: PeerId) -> bool:
        """Whether that key is no member's any more, and cannot become one by an admin's hand."""
        return self.revoked.bars(peer)

    def held(self) -> list[bytes]:
        """The digests of all."""
        return list(self._held)

    def signed_by(self, issuer: PeerId) -> list[tuple[bytes, Revocation]]:
        """What that admin has revoked, by digest."""
        return [(digest, one) for digest, one in self._held.items() if one.issuer == issuer]

    # -- comparing ----------------------------------------------------------------------------------------------------

    def digests(self) -> bytes:
        """The names of all, in a row."""
        return b"".join(self._held)

    def beyond(self, digests: bytes) -> list[bytes]:
        """The digests of those that are not among these; what voids most first: the mesh key's, then the newest.

        Raises MalformedMessage.
        """
        if len(digests) % DIGEST_SIZE:
            raise MalformedMessage("digests that do not add up")
        theirs = {digests[i : i + DIGEST_SIZE] for i in range(0, len(digests), DIGEST_SIZE)}
        lacking = [(not one.by_mesh_key, -one.issued, digest) for digest, one in self._held.items()]
        return [digest for *_, digest in sorted(lacking) if digest not in theirs]

    def digest_of(self, data: bytes) -> bytes | None:
        """The digest of one that we have in that very form."""
        return self._digests.get(data)

    def encoded(self, digest: bytes) -> bytes | None:
        """The revocation of that digest, as it travels; None if it is not kept."""
        one = self._held.get(digest)
        return None if one is None else one.encoded

    # -- changing -----------------------------------------------------------------------------------------------------

    def take(self, data: bytes) -> tuple[bytes, Revocation] | None:
        """Take one, whoever brought it; if it is news: its digest, and it. ``ticket`` is that of keeping it.

        Raises MalformedMessage and Rejected.
        """
        if data in self._digests:
            return None
        revocation = decode_revocation(data)
        digest = revocation_digest(revocation, self._mesh)
        if digest in self._held:
            return None  # in other clothes
        verify_revocation(revocation, self._mesh, self._ctx.now.unix, self._ctx.suite.verify)
        if not self.revoked.may_count(revocation):
            raise Rejected("issuer_revoked")
        if not self.has_room(revocation.issuer):
            raise Rejected("too_many_revocations")
        self._held[digest] = revocation
        self._digests[data] = digest
        self.ticket = self._ctx.persist(Put("revocations", digest, data))
        self._renew()
        return digest, revocation

    def has_room(self, issuer: bytes) -> bool:
        """Whether one more of that issuer can be kept."""
        of_mesh_key = sum(1 for one in self._held.values() if one.by_mesh_key)
        if issuer == self._mesh:
            return of_mesh_key < MAX_REVOCATIONS
        own = sum(1 for one in self._held.values() if one.issuer == issuer)
        return len(self._held) - of_mesh_key < MAX_REVOCATIONS and own < MAX_OF_ONE_ADMIN

    def _renew(self) -> None:
        """What they say together now. Those that the mesh key has voided never count again: they are forgotten."""
        self.revoked = Revoked(self._mesh, self._held.values())
        self._drop([digest for digest, one in self._held.items() if not self.revoked.may_count(one)])

    def _drop(self, digests: list[bytes]) -> None:
        for digest in digests:
            self._digests.pop(self._held.pop(digest).encoded, None)
        if digests:
            self._ctx.persist(*(Delete("revocations", digest) for digest in digests))

    def sweep(self) -> None:
        """Forget those whose time is over: what they concern has expired by itself."""
        over = [digest for digest, one in self._held.items() if one.expires <= self._ctx.now.unix]
        if over:
            self._drop(over)
            self._renew()

    def begin(self, mesh: MeshId) -> None:
        """We are a member of that mesh from now on, and know of no revocation in it yet."""
        self.forget_all()
        self._mesh = mesh
        self.revoked = Revoked(mesh)

    def forget_all(self) -> None:
        """We are in no mesh any more. The rows go with the others of the mesh."""
        self._held.clear()
        self._digests.clear()
        self._mesh = _NO_MESH
        self.revoked = Revoked(self._mesh)
