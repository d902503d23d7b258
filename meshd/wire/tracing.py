"""Messages by which a member finds out which way its envelopes take (docs/protocol.md, trace)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from meshd.ids import PEER_ID_SIZE, PeerId
from meshd.wire.codec import Maybe, Text, Uint, fixed
from meshd.wire.parts import MAX_REASON_CHARS, Layout


@dataclass(frozen=True, slots=True)
class HopWanted:
    """To a member on the way: where would you hand an envelope for ``destination`` that ``previous`` hands to you?"""

    number: int
    destination: PeerId
    previous: PeerId
    WIRE: ClassVar[Layout] = (Uint(64), fixed(PEER_ID_SIZE), fixed(PEER_ID_SIZE))


@dataclass(frozen=True, slots=True)
class HopTold:
    """To ``hop``; None if it would go no further: ``arrived``, ``no_route``, ``refused``.

    With a hop the reason is empty, or ``busy`` if its link cannot take anything right now.
    """

    number: int
    hop: PeerId | None
    reason: str
    WIRE: ClassVar[Layout] = (Uint(64), Maybe(fixed(PEER_ID_SIZE)), Text(MAX_REASON_CHARS))
