"""Finding the member that a person means: by name, by id, or by the beginning of an id."""

from __future__ import annotations

from meshd.core.membership.membership import Membership
from meshd.errors import Code, ControlError
from meshd.ids import PEER_ID_SIZE, PeerId, from_text, short, text_of

# Policy
MIN_PREFIX_CHARS = 4  # of an id: fewer would fit by accident


def find_member(membership: Membership, text: str) -> PeerId:
    """The one member that fits. Raises ControlError: unknown, or ambiguous with the candidates named."""
    named = membership.named(text)
    if len(named) == 1:
        return named[0]
    wanted = text.lower()
    fitting = named
    if not named and len(wanted) >= MIN_PREFIX_CHARS:
        fitting = [record.peer for record in membership if text_of(record.peer).startswith(wanted)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        names = sorted(record.name for record in membership)
        shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        raise ControlError(Code.PEER_UNKNOWN, f"{text[:64]!r} is none of: {shown}.")
    shown = ", ".join(f"{membership.name_of(peer)} ({short(peer)})" for peer in fitting[:8])
    raise ControlError(Code.PEER_AMBIGUOUS, f"{text[:64]!r} may be {shown}.")


def find_key(membership: Membership, text: str) -> PeerId:
    """The same; and a whole id also where nobody of that id is known here. Raises ControlError."""
    try:
        return find_member(membership, text)
    except ControlError as error:
        if error.code is not Code.PEER_UNKNOWN:
            raise
        try:
            raw = from_text(text.lower())
        except ValueError:
            raise error from None
        if len(raw) != PEER_ID_SIZE:
            raise
        return PeerId(raw)
