"""News for everybody, along a tree that keeps itself: Plumtree (Leitão, Pereira, Rodrigues 2007, "Epidemic Broadcast
Trees").

To some neighbors (eager) news is pushed at once, to the others (lazy) its ids are told a little later. Who gets
something twice says ``Prune``, and the link is lazy from then on; who hears of something that does not come says
``Graft``, and gets it. So each item is carried about once to each member, and a broken tree is mended by what goes by
the lazy links. What is lost all the same is found by comparing (``reconciliation``).

A full mesh does without: there, everybody pushes everything to everybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from meshd.core.commands import SendMessage
from meshd.core.context import Context
from meshd.core.facts import NewsGathered
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.overlay.seen import Item, Seen
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import PeerId, Ticket
from meshd.wire.broadcasting import ITEM_ID_SIZE, MAX_IDS, MAX_NEWS, MAX_NEWS_SIZE, Graft, Have, News, NewsItem, Prune
from meshd.wire.messages import Message, encode_message

# Policy
NEWS_INTERVAL = 0.1  # seconds that news waits for more to go with it, at each hop
HAVE_INTERVAL = 1.0  # seconds that ids wait for more; by then most of what they announce has come by the tree
GRAFT_DELAY = 2.0  # seconds, and two retransmission timeouts, that something announced may take until it is asked for
MAX_MISSING = 8192  # items announced and not here yet; the oldest is forgotten first
MAX_ANNOUNCERS = 4  # of one missing item, asked one after the other
MAX_HOPS = 255
SHORTER_BY = 5  # hops by which another way must be shorter than the tree's for the tree to change

Take = Callable[[PeerId, bytes], object]  # raises MalformedMessage and Rejected


@dataclass(slots=True)
class _Outbox:
    """What waits for one neighbor."""

    eager: dict[bytes, Item] = field(default_factory=dict)
    lazy: dict[bytes, int] = field(default_factory=dict)  # id → hops


@dataclass(slots=True)
class _Missing:
    due: float
    announcers: list[PeerId]


class Broadcast:
    """Passes on what is news. Who takes what, by kind, is told by ``takes``."""

    __slots__ = ("_ctx", "_lazy", "_membership", "_missing", "_neighbors", "_outboxes", "_seen", "_takers")

    def __init__(self, ctx: Context, membership: Membership, neighbors: Neighbors) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._lazy: dict[PeerId, None] = {}
        self._outboxes: dict[PeerId, _Outbox] = {}
        self._missing: dict[bytes, _Missing] = {}
        self._seen = Seen()
        self._takers: dict[int, Take] = {}

    def takes(self, kind: int, take: Take) -> None:
        """From now on news of that kind goes there; what is good it gives back to ``spread``."""
        self._takers[kind] = take

    def eager(self) -> list[PeerId]:
        """The neighbors that news is pushed to."""
        return [peer for peer in self._neighbors.peers() if peer not in self._lazy]

    # -- spreading ----------------------------------------------------------------------------------------------------

    def spread(self, kind: int, body: bytes, ticket: Ticket | None = None, source: PeerId | None = None) -> None:
        """Tell everybody, once ``ticket`` is durable. ``source`` is the neighbor that it came from, if from one.

        What a comparison has brought is announced only: most of it is on its way by the tree.
        """
        now = self._ctx.now.mono
        name = id_of(kind, body)
        item = self._seen.get(name)
        compared = item is None and source is not None and not self._membership.is_small
        if item is None:
            item = self._seen.add(name, Item(kind, body, 0, source), now)
        item.ticket = ticket
        for peer in self._neighbors.peers():
            if peer in (source, item.parent):
                continue
            outbox = self._outboxes.setdefault(peer, _Outbox())
            if compared or peer in self._lazy:
                outbox.lazy[name] = item.hops
                self._ctx.timers.set_at_latest(("have", b""), now + self._ctx.jitter(HAVE_INTERVAL))
            else:
                outbox.eager[name] = item
        if self._membership.is_small:
            self._ctx.state(NewsGathered())  # with all that this event still brings
        else:
            self._ctx.timers.set_at_latest(("news", b""), now + NEWS_INTERVAL)

    def flush_news(self) -> None:
        """Push what has gathered; what goes to several neighbors alike is put together once."""
        encoded: dict[tuple[bytes, ...], list[tuple[bytes, Ticket | None]]] = {}
        for peer, outbox in self._outboxes.items():
            if not outbox.eager:
                continue
            link, key = self._neighbors.current(peer), tuple(outbox.eager)
            if key not in encoded:
                encoded[key] = _batches(list(outbox.eager.values()))
            outbox.eager = {}
            for data, ticket in encoded[key]:
                if link is not None:
                    self._ctx.after(ticket, SendMessage(link.id, data))

    def flush_ids(self) -> None:
        """Announce what has gathered."""
        for peer, outbox in self._outboxes.items():
            names, outbox.lazy = outbox.lazy, {}
            listed = list(names)
            for i in range(0, len(listed), MAX_IDS):
                part = listed[i : i + MAX_IDS]
                self._say(peer, Have(b"".join(part), bytes(names[name] for name in part)))

    def _say(self, peer: PeerId, message: Message) -> None:
        self._neighbors.send_to(peer, message)

    # -- what neighbors say -------------------------------------------------------------------------------------------

    def on_news(self, peer: PeerId, message: News) -> None:
        """Take what is new; what is here already came by a link that the tree does not need."""
        doubled = 0
        for each in message.items:
            name = id_of(each.kind, each.body)
            self._missing.pop(name, None)
            if name in self._seen:
                doubled += 1
                outbox = self._outboxes.get(peer)
                if outbox is not None:
                    outbox.eager.pop(name, None)
                    outbox.lazy.pop(name, None)
                continue
            self._seen.add(name, Item(each.kind, each.body, min(each.hops + 1, MAX_HOPS), peer), self._ctx.now.mono)
            self._take(peer, each)
        self._ctx.count("news_received", len(message.items))
        if doubled:
            self._ctx.count("news_doubled", doubled)
        if not self._membership.is_small:
            if doubled == len(message.items) and peer not in self._lazy:
                self._lazy[peer] = None
                self._say(peer, Prune())
            elif not doubled:
                self._lazy.pop(peer, None)

    def _take(self, peer: PeerId, item: NewsItem) -> None:
        """One bad item spoils neither the others nor the link."""
        take = self._takers.get(item.kind)
        if take is None:
            self._ctx.count("news_unknown")
            return
        try:
            take(peer, item.body)
        except MalformedMessage:
            self._ctx.count("records_malformed")
        except Rejected as rejected:
            self._ctx.count("records_rejected")
            self._ctx.notify("record_rejected", peer=peer, reason=rejected.reason)

    def on_have(self, peer: PeerId, message: Have) -> None:
        """Ask for what does not come in time. Raises MalformedMessage."""
        if len(message.ids) != ITEM_ID_SIZE * len(message.hops):
            raise MalformedMessage("ids and hops that do not add up")
        now, outbox = self._ctx.now.mono, self._outboxes.get(peer)
        link = self._neighbors.current(peer)
        delay = GRAFT_DELAY + (0.0 if link is None else 2 * link.pulse.rto())
        for i, hops in enumerate(message.hops):
            name = message.ids[ITEM_ID_SIZE * i : ITEM_ID_SIZE * (i + 1)]
            if outbox is not None:
                outbox.lazy.pop(name, None)  # it knows
            known = self._seen.get(name)
            if known is not None:
                self._shorten(peer, known, hops)
                continue
            missing = self._missing.get(name)
            if missing is None:
                self._missing[name] = _Missing(now + delay, [peer])
                if len(self._missing) > MAX_MISSING:
                    del self._missing[next(iter(self._missing))]
                self._ctx.timers.set_at_latest(("graft", b""), now + delay)
            elif len(missing.announcers) < MAX_ANNOUNCERS and peer not in missing.announcers:
                missing.announcers.append(peer)

    def _shorten(self, peer: PeerId, known: Item, hops: int) -> None:
        """By that neighbor it would have been here much sooner: have the tree lead there."""
        parent = known.parent
        if parent is None or known.hops < hops + 1 + SHORTER_BY or peer not in self._lazy or parent in self._lazy:
            return
        del self._lazy[peer]
        self._lazy[parent] = None
        self._ctx.count("tree_shortened")
        self._say(peer, Graft(b""))
        self._say(parent, Prune())

    def on_graft_timer(self) -> None:
        """What was announced has not come: ask for it, one announcer after the other."""
        now = self._ctx.now.mono
        wanted: dict[PeerId, list[bytes]] = {}
        for name, missing in list(self._missing.items()):
            if missing.due > now:
                continue
            there = [peer for peer in missing.announcers if self._neighbors.current(peer) is not None]
            if not there:
                del self._missing[name]  # the next comparison finds it
                continue
            wanted.setdefault(there[0], []).append(name)
            missing.announcers, missing.due = there[1:], now + GRAFT_DELAY
        for peer, names in wanted.items():
            self._lazy.pop(peer, None)
            self._ctx.count("grafts", len(names))
            for i in range(0, len(names), MAX_IDS):
                self._say(peer, Graft(b"".join(names[i : i + MAX_IDS])))
        if self._missing:
            self._ctx.timers.set(("graft", b""), min(missing.due for missing in self._missing.values()))

    def on_graft(self, peer: PeerId, message: Graft) -> None:
        """That neighbor wants to be in the tree by us, and has missed these. Raises MalformedMessage."""
        if len(message.ids) % ITEM_ID_SIZE:
            raise MalformedMessage("ids that do not add up")
        self._lazy.pop(peer, None)
        names = [message.ids[i : i + ITEM_ID_SIZE] for i in range(0, len(message.ids), ITEM_ID_SIZE)]
        found = [item for name in dict.fromkeys(names) if (item := self._seen.get(name)) is not None]
        link = self._neighbors.current(peer)
        for data, ticket in _batches(found):
            if link is not None:
                self._ctx.after(ticket, SendMessage(link.id, data))

    def on_prune(self, peer: PeerId) -> None:
        """That neighbor has it from others."""
        if not self._membership.is_small:
            self._lazy[peer] = None
            outbox = self._outboxes.get(peer)
            if outbox is not None and outbox.eager:
                outbox.lazy.update((name, item.hops) for name, item in outbox.eager.items())
                outbox.eager = {}
                self._ctx.timers.set_at_latest(("have", b""), self._ctx.now.mono + HAVE_INTERVAL)

    # -- neighbors ----------------------------------------------------------------------------------------------------

    def on_up(self, peer: PeerId) -> None:
        """A neighbor more. Who is in the tree already needs no second way into it; who is not asks for one."""
        if self._membership.is_small or peer in self._lazy:
            return
        if any(other != peer for other in self.eager()):
            self._lazy[peer] = None
        else:
            self._say(peer, Graft(b""))

    def on_down(self, peer: PeerId) -> None:
        """No neighbor any more. If the tree led there, another link takes its place before anybody misses anything."""
        was_eager = self._lazy.pop(peer, self) is self
        self._outboxes.pop(peer, None)
        if was_eager and self._lazy and not self._membership.is_small:
            instead = self._ctx.rng.choice(list(self._lazy))
            del self._lazy[instead]
            self._say(instead, Graft(b""))

    def is_needed(self, peer: PeerId) -> bool:
        """Whether the tree leads there."""
        return peer not in self._lazy

    def clear(self) -> None:
        """No mesh any more."""
        for held in (self._lazy, self._outboxes, self._missing):
            held.clear()
        self._seen.clear()
        for name in ("news", "have", "graft"):
            self._ctx.cancel_timer(name, b"")


def id_of(kind: int, body: bytes) -> bytes:
    """What an item is called."""
    return hashlib.sha256(bytes((kind,)) + body).digest()[:ITEM_ID_SIZE]


def _batches(items: list[Item]) -> list[tuple[bytes, Ticket | None]]:
    """Messages of all these items, each with the ticket that it waits for."""
    made: list[tuple[bytes, Ticket | None]] = []
    batch: list[NewsItem] = []
    size, ticket = 0, None
    for item in items:
        if batch and (len(batch) == MAX_NEWS or size + len(item.body) > MAX_NEWS_SIZE):
            made.append((encode_message(News(tuple(batch))), ticket))
            batch, size, ticket = [], 0, None
        batch.append(NewsItem(item.kind, item.hops, item.body))
        size += len(item.body)
        if item.ticket is not None and (ticket is None or item.ticket > ticket):
            ticket = item.ticket
    if batch:
        made.append((encode_message(News(tuple(batch))), ticket))
    return made
