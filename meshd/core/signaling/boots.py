"""Which run of a peer's daemon speaks: a new one supersedes the old, and what the old one said may still arrive.

Instances are drawn at random at each start, so one that comes back after another has taken its place is no restart:
two daemons run with one identity.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshd.core.context import Context
from meshd.ids import PeerId

# Policy
MAX_FORMER_INSTANCES = 4  # of one peer that are remembered; a late push is at most minutes old


@dataclass(slots=True)
class _Boot:
    instance: bytes
    issued: int  # of its newest letter, by its own clock
    former: tuple[bytes, ...] = ()


class Boots:
    """The newest instance of each peer that has signaled to us."""

    __slots__ = ("_boots", "_ctx")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._boots: dict[PeerId, _Boot] = {}  # of members only, so as many as they

    def is_stale(self, peer: PeerId, instance: bytes, issued: int) -> bool:
        """Whether this was said by a run of that peer's daemon that is over; takes note of it otherwise.

        ``issued`` is when, by the peer's clock in Unix seconds: of two runs, the one that spoke later is the newer.
        """
        boot = self._boots.get(peer)
        if boot is None:
            self._boots[peer] = _Boot(instance, issued)
        elif boot.instance == instance:
            boot.issued = max(boot.issued, issued)
        elif issued < boot.issued or (issued == boot.issued and instance in boot.former):  # whole seconds only
            self._ctx.count("signaling_stale")
            return True
        else:
            if instance in boot.former:
                self._ctx.count("identities_doubled")
                self._ctx.notify("identity_doubled", peer=peer, number=0)
            boot.former = (boot.instance, *boot.former)[:MAX_FORMER_INSTANCES]
            boot.instance, boot.issued = instance, issued
        return False

    def forget(self, peer: PeerId) -> None:
        """That peer is no member any more."""
        self._boots.pop(peer, None)
