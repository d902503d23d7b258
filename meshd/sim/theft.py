"""What a thief makes of the daemon it has stolen: parts of a node that do not keep to the rules."""

from __future__ import annotations

from meshd.core.membership.admitting import Admitting
from meshd.core.membership.revoking import Revoking
from meshd.core.membership.twin import Twin
from meshd.core.node import Node
from meshd.crypto.admission import Chain, issue
from meshd.ids import PeerId
from meshd.wire.messages import Revocations, RevocationsKnown

# Policy
DAY = 86400


class Deaf(Revoking):
    """A thief's daemon: it has heard of no revocation and never will."""

    __slots__ = ()

    def on_revocations(self, source: PeerId, message: Revocations) -> None:
        """Not heard."""

    def on_known(self, peer: PeerId, message: RevocationsKnown) -> None:
        """Not heard."""


class DatingBack(Admitting):
    """It admits whom it likes, and dates that long before it was stolen."""

    __slots__ = ()

    def chain_for(self, subject: PeerId, name: str) -> Chain:
        """See ``Admitting``."""
        *above, last = super().chain_for(subject, name)
        forged = issue(
            self._ctx.suite.sign,
            self._membership.mesh,
            last.issuer,
            subject=subject,
            name=name,
            rights=last.rights,
            issued=last.issued - self._ctx.rng.randrange(DAY, 30 * DAY),
            expires=last.expires,
        )
        return (*above, forged)


class Brazen(Twin):
    """It does not stand aside for the one it was copied from."""

    __slots__ = ()

    def _stand_aside(self) -> None:
        """Not done."""


def pervert(node: Node) -> None:
    """From now on that daemon is a thief's, in all of the above."""
    node.admitting.__class__ = DatingBack
    node.revoking.__class__ = Deaf
    node.twin.__class__ = Brazen
