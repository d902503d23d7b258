"""When each certificate came to be known here: a thief dates what it signs as it likes, but not when we first saw it.

So a revocation that is to keep what a member signed before a certain day goes by this, where it is later.
"""

from __future__ import annotations

from meshd.core.commands import Delete, Put
from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.core.state import Stored, decode_time, encode_time
from meshd.crypto.admission import Certificate, Chain, digest
from meshd.ids import MeshId
from meshd.wire.record import Record

# Policy
MAX_OF_ONE = 12  # digests for each member, on average: a chain, and what it rests on


class FirstSeen:
    """Of all certificates in the chains of members, but those of the mesh key's own hand; in Unix seconds."""

    __slots__ = ("_ctx", "_membership", "_times")

    def __init__(self, ctx: Context, stored: Stored, membership: Membership) -> None:
        self._ctx = ctx
        self._membership = membership
        self._times = {key: decode_time(value) for key, value in stored.get("first_seen", {}).items()}

    def note(self, record: Record, previous: Record | None) -> None:
        """A record has been taken."""
        if previous is not None and previous.chain == record.chain:
            return
        self.note_digests(_digests_in(record.chain, self._membership.mesh))

    def note_digests(self, digests: list[bytes]) -> None:
        """These are known from now on, if they were not before."""
        new = [each for each in digests if each not in self._times]
        if len(self._times) + len(new) > self._limit:
            self.sweep()
        new = new[: max(0, self._limit - len(self._times))]
        for each in new:
            self._times[each] = int(self._ctx.now.unix)
        if new:
            self._ctx.persist(*(Put("first_seen", each, encode_time(self._times[each])) for each in new))

    @property
    def _limit(self) -> int:
        return MAX_OF_ONE * self._ctx.config.mesh.max_members

    def when(self, certificate: Certificate) -> float:
        """The later of what it says and of when it was first seen here; what the mesh key says is taken at its word."""
        if certificate.issuer == self._membership.mesh:
            return float(certificate.issued)
        return max(float(certificate.issued), self.of_digest(digest(certificate, self._membership.mesh)))

    def of_digest(self, key: bytes) -> float:
        """When that was first seen; now, if there was no room to note it: its own date may be a thief's choice."""
        return float(self._times.get(key, self._ctx.now.unix))

    def sweep(self) -> None:
        """Forget those that stand in no chain any more."""
        if self._membership.row is None:
            return
        mesh = self._membership.mesh
        known = {each for chain in self._membership.chains() for each in _digests_in(chain, mesh)}
        known.update(self._membership.revocations.held())
        gone = [each for each in self._times if each not in known]
        for each in gone:
            del self._times[each]
        if gone:
            self._ctx.persist(*(Delete("first_seen", each) for each in gone))

    def forget_all(self) -> None:
        """We are in no mesh any more."""
        self._times.clear()


def _digests_in(chain: Chain, mesh: MeshId) -> list[bytes]:
    """Of all certificates but the mesh key's own, and of what they rest on."""
    own = [digest(certificate, mesh) for certificate in chain[1:]]
    return own + [ground.digest for certificate in chain for ground in certificate.grounds]
