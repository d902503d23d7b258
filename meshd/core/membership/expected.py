"""Whom this node has admitted, or seen admitted, and has no record of yet."""

from __future__ import annotations

from collections.abc import Iterator

from meshd.core.commands import Delete, Put
from meshd.core.context import Context
from meshd.core.membership.revocations import Revocations
from meshd.core.state import AdmittedRow, Stored, rows
from meshd.crypto.admission import Chain, decode_chain, expires_at
from meshd.ids import PeerId
from meshd.wire.codec import encode


class Expected:
    """They count as members until their record comes, or their admission ends. ``Membership`` bounds how many."""

    __slots__ = ("_ctx", "_revocations", "_rows")

    def __init__(self, ctx: Context, stored: Stored, revocations: Revocations) -> None:
        self._ctx = ctx
        self._revocations = revocations
        found = rows(stored, "admitted", AdmittedRow).items()
        self._rows = {PeerId(key): row for key, row in found if revocations.holds(decode_chain(row.chain))}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._rows)

    def __iter__(self) -> Iterator[PeerId]:
        """All of them."""
        return iter(self._rows)

    def __contains__(self, peer: PeerId) -> bool:
        """Whether that peer is one."""
        return peer in self._rows

    def sealing_key(self, peer: PeerId) -> bytes | None:
        """What to seal to it with; None for anybody else."""
        row = self._rows.get(peer)
        return None if row is None else row.sealing_key

    def name_of(self, peer: PeerId) -> str | None:
        """The name that it was admitted under; None for anybody else."""
        row = self._rows.get(peer)
        return None if row is None else decode_chain(row.chain)[-1].name

    def chains(self) -> list[Chain]:
        """What they are admitted by."""
        return [decode_chain(row.chain) for row in self._rows.values()]

    def expect(self, peer: PeerId, chain: Chain, sealing_key: bytes, *, known: bool) -> Put:
        """It was admitted; ``known``: its record is here already, so that only the disk is told. Gives that change."""
        row = AdmittedRow(tuple(c.encoded for c in chain), sealing_key)
        if not known:
            self._rows[peer] = row
        return Put("admitted", peer, encode(row))

    def came(self, peer: PeerId) -> list[Delete]:
        """Its record is here. Gives the changes to persist."""
        return [Delete("admitted", peer)] if self._rows.pop(peer, None) is not None else []

    def forget(self, peer: PeerId) -> None:
        """It has never come."""
        self._rows.pop(peer, None)
        self._ctx.delete("admitted", peer)

    def rejudge(self) -> list[PeerId]:
        """A revocation has come: those whose chains do not hold any more, forgotten here; the disk is the caller's."""
        fallen = [peer for peer, row in self._rows.items() if not self._revocations.holds(decode_chain(row.chain))]
        for peer in fallen:
            del self._rows[peer]
        return fallen

    def drop_expired(self) -> None:
        """Forget those whose admission has ended."""
        now = self._ctx.now.unix
        for peer in [peer for peer, row in self._rows.items() if expires_at(decode_chain(row.chain)) < now]:
            self.forget(peer)

    def clear(self) -> None:
        """We are in no mesh any more. The rows go with the others of the mesh."""
        self._rows.clear()
