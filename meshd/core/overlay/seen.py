"""What was broadcast lately: to know it when it comes again, and to give it to whoever has missed it."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshd.ids import PeerId, Ticket

# Policy
SEEN_TIME = 60.0  # seconds an item is remembered at least; what comes later is known by its number
MAX_SEEN = 8192  # items of one half of that; with more, the older half is forgotten sooner


@dataclass(slots=True)
class Item:
    """``hops``: links that it has crossed to us; ``parent``: the neighbor that it came by, None for our own."""

    kind: int
    body: bytes = field(repr=False)
    hops: int
    parent: PeerId | None
    ticket: Ticket | None = None  # it may be passed on once that is durable


class Seen:
    """Two generations of items by id: the older one goes as a whole, so that nothing need be looked through."""

    __slots__ = ("_new", "_old", "_turned")

    def __init__(self) -> None:
        self._new: dict[bytes, Item] = {}
        self._old: dict[bytes, Item] = {}
        self._turned = float("-inf")  # monotonic

    def __contains__(self, name: bytes) -> bool:
        return name in self._new or name in self._old

    def get(self, name: bytes) -> Item | None:
        """What has that id."""
        return self._new.get(name) or self._old.get(name)

    def add(self, name: bytes, item: Item, now: float) -> Item:
        """Remember it, at ``now`` (monotonic seconds)."""
        if now - self._turned >= SEEN_TIME or len(self._new) >= MAX_SEEN:
            self._old, self._new, self._turned = self._new, {}, now
        self._new[name] = item
        return item

    def clear(self) -> None:
        """Forget all."""
        self._new, self._old = {}, {}
