"""What this node makes others members by: whether it may, the certificate, and a name that is free."""

from __future__ import annotations

from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.crypto.admission import MAX_CHAIN_LENGTH, Chain, Rights, issue
from meshd.errors import Rejected
from meshd.ids import PeerId, is_name

# Policy
MEMBER_LIFETIME = 365 * 86400  # seconds an admission by an admin lasts
INTRODUCED_LIFETIME = 30 * 86400  # seconds one by another member lasts; any admin makes it a full one


class Admitting:
    """By our own hand; the mesh key's certificates are made in ``administration``."""

    __slots__ = ("_ctx", "_membership")

    def __init__(self, ctx: Context, membership: Membership) -> None:
        self._ctx = ctx
        self._membership = membership

    @property
    def _issuing_chain(self) -> Chain:
        """Our chain without the certificate by which an admin renames itself."""
        chain = self._membership.chain
        return chain[:-1] if len(chain) > 1 and chain[-1].issuer == chain[-1].subject else chain

    @property
    def may_admit(self) -> bool:
        """Whether there is room in a chain for one more below us, and we have the right."""
        has_right = bool(self._membership.rights & (Rights.INTRODUCE | Rights.ADMIN))
        return len(self._issuing_chain) < MAX_CHAIN_LENGTH and has_right

    def chain_for(self, subject: PeerId, name: str) -> Chain:
        """An admission by us: what we are, one certificate longer. Raises Rejected if we may not."""
        if not self.may_admit:
            raise Rejected("may_not_introduce")
        membership = self._membership
        now = max(int(self._ctx.now.unix), membership.chain[-1].issued)
        lifetime = MEMBER_LIFETIME if membership.rights & Rights.ADMIN else INTRODUCED_LIFETIME
        known = membership.record(subject)
        if subject == self._ctx.own_id:
            rights = membership.rights
        elif known is not None:
            rights = known.chain[-1].rights & Rights.INTRODUCE
        else:
            rights = Rights.INTRODUCE if self._ctx.config.introductions.may_introduce else Rights.NONE
        certificate = issue(
            self._ctx.suite.sign,
            membership.mesh,
            self._ctx.own_id,
            subject=subject,
            name=name,
            rights=rights,
            issued=now,
            expires=now + lifetime,
            grounds=() if known is None else membership.revocations.grounds(known.chain),
        )
        chain = (*self._issuing_chain, certificate)
        membership.revocations.judge(chain)
        return chain

    def free_name(self, wanted: str, subject: PeerId) -> str:
        """``wanted`` (``peer``, if that is no name), or with the first number that makes it unique: ``laptop-2``."""
        stem = wanted if is_name(wanted) else "peer"
        name, number = stem, 1
        while any(peer != subject for peer in self._membership.named(name)):
            number += 1
            name = f"{stem[:28]}-{number}"
        return name
