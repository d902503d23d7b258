"""How a daemon learns that another one runs with its identity: one message on links."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from meshd.wire.codec import Blob
from meshd.wire.parts import Layout

# Specification (ours: docs/protocol.md)
MAX_SHOWN_SIZE = 16_384


@dataclass(frozen=True, slots=True)
class TwinSeen:
    """You have signed this letter to me, or another instance of you that runs now has: the link ends for it.

    ``letter``: the outside of its envelope, and what was sealed in it. Who did not sign it learns nothing new from it.
    """

    letter: bytes = field(repr=False)
    WIRE: ClassVar[Layout] = (Blob(1, MAX_SHOWN_SIZE),)
