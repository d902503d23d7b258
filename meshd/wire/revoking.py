"""How revocations get everywhere: two messages on links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from meshd.crypto.admission import DIGEST_SIZE
from meshd.crypto.revocation import MAX_REVOCATION_SIZE
from meshd.wire.codec import Blob, Many
from meshd.wire.parts import Layout

# Specification (ours: docs/protocol.md)
MAX_DIGESTS = 2048  # in one message: as many as a node keeps
MAX_REVOCATIONS_SENT = 8  # in one message


@dataclass(frozen=True, slots=True)
class RevocationsKnown:
    """First thing on a link: the digests (16 bytes each) of all revocations that the sender has.

    The answer is ``Revocations`` with those that it lacks.
    """

    digests: bytes
    WIRE: ClassVar[Layout] = (Blob(0, DIGEST_SIZE * MAX_DIGESTS),)


@dataclass(frozen=True, slots=True)
class Revocations:
    """Signed revocations, whoever's: each speaks for itself."""

    revocations: tuple[bytes, ...]
    WIRE: ClassVar[Layout] = (Many(Blob(1, MAX_REVOCATION_SIZE), MAX_REVOCATIONS_SENT),)
