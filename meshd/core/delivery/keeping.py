"""This node as a keeper: it keeps sealed messages for members that are away, and hands them over when they appear.

What the recipient leaves in exchange, its sealed receipt, takes the message's place and waits for the sender. So the
two need never be there together, and a keeper that has taken a message has room for what follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from meshd.core.commands import Delete, Priority, Put
from meshd.core.context import Context
from meshd.core.delivery.kept_rows import KeptRows, key_of, message_of, recipient_of, sender_of
from meshd.core.delivery.post import Post
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.overlay.routing import Routing
from meshd.core.pushing.keepers import Keepers
from meshd.core.state import KeptMessageRow, Stored, rows
from meshd.errors import Rejected
from meshd.ids import PeerId
from meshd.rates import RateLimiter
from meshd.wire.codec import encode
from meshd.wire.kept_message import RECEIPT_WAIT, check_kept_times
from meshd.wire.messages import (
    DepositKept,
    DepositRefused,
    DepositWithdrawn,
    KeptTaken,
    Message,
    MessageDeposit,
    MessageKept,
    ReceiptKept,
)

# Policy
MAX_KEPT = 4096  # messages and receipts for all; their bytes are ``max_kept_size`` of the configuration
KEPT_SHARE = 4  # one sender may fill so little of it, and so may all for one recipient: a quarter
DEPOSIT_DAILY, DEPOSIT_BURST = 4096, 1024  # deposits taken from one sender
MAX_ACCOUNTS = 4096
MAX_HANDED = 8  # messages to one peer that it has not answered
STAGGER = 2.0  # seconds that each keeper leaves to the one before it: the first brings all, the others have no work
HAND_RETRY = 15.0  # seconds for an answer; doubles up to the maximum
MAX_HAND_RETRY = 900.0


@dataclass(slots=True)
class _Handing:
    """What a peer in reach is being given. ``begun``: it is our turn; ``open``: handed over and not answered."""

    begun: bool = False
    open: set[bytes] = field(default_factory=set)
    tries: int = 0


class Keeping:
    """What we keep for others."""

    __slots__ = (
        "_accounts",
        "_ctx",
        "_handing",
        "_keepers",
        "_kept",
        "_membership",
        "_neighbors",
        "_post",
        "_routing",
    )

    def __init__(
        self,
        ctx: Context,
        stored: Stored,
        membership: Membership,
        neighbors: Neighbors,
        routing: Routing,
        post: Post,
        keepers: Keepers,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._routing = routing
        self._post = post
        self._keepers = keepers
        self._accounts = RateLimiter(DEPOSIT_DAILY / 86400.0, DEPOSIT_BURST, MAX_ACCOUNTS)
        self._kept = KeptRows(rows(stored, "kept_messages", KeptMessageRow))
        self._handing: dict[PeerId, _Handing] = {}

    # -- taking -------------------------------------------------------------------------------------------------------

    def on_deposit(self, sender: PeerId, message: MessageDeposit) -> None:
        """Keep it, then say so; or say why not."""
        key = key_of(sender, message.recipient, message.message)
        known = self._kept.get(key)
        if known is not None and known.receipt:
            self._give(sender, key)  # it has been delivered: that is what the sender wants to hear
            return
        reason = self._why_not(sender, message, known)
        if reason is not None:
            self._ctx.count(f"deposits_{reason}")
            self._post.send(sender, DepositRefused(message.recipient, message.message, reason))
            return
        row = known
        if row is None or row.issued < message.issued:
            row = KeptMessageRow(message.issued, message.expires, message.sealed)
            self._kept.put(key, row)
            self._ctx.count("deposits_kept")
        ticket = self._ctx.persist(Put("kept_messages", key, encode(row)))
        self._post.send(sender, DepositKept(message.recipient, message.message), ticket=ticket)
        self._begin(PeerId(message.recipient))

    def _why_not(self, sender: PeerId, message: MessageDeposit, known: KeptMessageRow | None) -> str | None:
        mesh, recipient = self._ctx.config.mesh, PeerId(message.recipient)
        if mesh.keeper == "never" or recipient in (sender, self._ctx.own_id):
            return "refused"
        if self._membership.record(sender) is None or self._membership.record(recipient) is None:
            return "refused"
        try:
            check_kept_times(message.issued, message.expires, self._ctx.now)
        except Rejected:
            return "out_of_date"
        if self._ctx.store_failing:
            return "busy"
        if self._accounts.take(sender, self._ctx.now.mono):
            return "quota"
        size = len(message.sealed) - (len(known.sealed) if known is not None else 0)
        count = 1 if known is None else 0
        if self._kept.total.count + count > MAX_KEPT or self._kept.total.size + size > mesh.max_kept_size:
            return "full"
        for tally in (self._kept.sent_by(sender), self._kept.sent_to(recipient)):
            if (tally.count + count) * KEPT_SHARE > MAX_KEPT or (tally.size + size) * KEPT_SHARE > mesh.max_kept_size:
                return "quota"
        return None

    def on_withdrawn(self, sender: PeerId, message: DepositWithdrawn) -> None:
        """The sender knows what it wanted to know."""
        keys = [key_of(sender, message.recipient, identifier) for identifier in message.messages]
        self._drop(keys)

    # -- handing over -------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Members may have appeared, or be gone."""
        for peer in self._kept.addressees():
            self._begin(peer)

    def _begin(self, peer: PeerId) -> None:
        if not self._routing.in_reach(peer):
            self._end(peer)  # next time it may be another daemon
        elif (handing := self._handing.get(peer)) is not None:
            if handing.begun:
                self._go_on(peer, handing)
        else:
            self._handing[peer] = _Handing()
            keepers = self._keepers.of(peer)
            rank = keepers.index(self._ctx.own_id) if self._ctx.own_id in keepers else len(keepers)
            self._ctx.timer("handing", peer, rank * STAGGER)

    def _end(self, peer: PeerId) -> None:
        if self._handing.pop(peer, None) is not None:
            self._ctx.cancel_timer("handing", peer)

    def on_timer(self, about: bytes) -> None:
        """It is our turn; or what we have handed over has not been answered."""
        peer = PeerId(about)
        handing = self._handing.get(peer)
        if handing is None:
            return
        if not self._routing.in_reach(peer):
            self._end(peer)
            return
        if handing.open:
            handing.tries = min(handing.tries + 1, 16)
            handing.open.clear()
        handing.begun = True
        self._go_on(peer, handing)

    def _go_on(self, peer: PeerId, handing: _Handing) -> None:
        link = self._neighbors.current(peer)
        free = 0 if link is not None and link.congested else MAX_HANDED - len(handing.open)
        for key in self._kept.keys_for(peer):
            if free <= 0:
                break
            if key not in handing.open:
                if not self._give(peer, key):
                    break
                handing.open.add(key)
                free -= 1
        if self._kept.keys_for(peer):
            delay = min(HAND_RETRY * 2**handing.tries, MAX_HAND_RETRY)
            self._ctx.timers.set_at_latest(("handing", peer), self._ctx.now.mono + self._ctx.jitter(delay))
        else:
            self._end(peer)

    def _give(self, peer: PeerId, key: bytes) -> bool:
        row = self._kept.get(key)
        assert row is not None
        message: Message = MessageKept(sender_of(key), message_of(key), row.sealed)
        if row.receipt:
            message = ReceiptKept(recipient_of(key), message_of(key), row.sealed)
        if not self._post.send(peer, message, Priority.MESSAGE):
            return False
        self._ctx.count("deposits_handed_over")
        return True

    def on_taken(self, recipient: PeerId, message: KeptTaken) -> None:
        """The recipient has it, or does not want it."""
        key = key_of(message.sender, recipient, message.message)
        row = self._kept.get(key)
        if row is not None and not row.receipt:
            if message.receipt:
                row = replace(row, sealed=message.receipt, receipt=1, expires=row.expires + int(RECEIPT_WAIT))
                self._kept.put(key, row)
                self._ctx.persist(Put("kept_messages", key, encode(row)))
                self._ctx.count("deposits_delivered")
                self._begin(PeerId(message.sender))
            else:
                self._drop([key])
        self._answered(recipient, key)

    def _answered(self, peer: PeerId, key: bytes) -> None:
        handing = self._handing.get(peer)
        if handing is not None and key in handing.open:
            handing.open.discard(key)
            handing.tries = 0
            self._go_on(peer, handing)

    # -- forgetting ---------------------------------------------------------------------------------------------------

    def _drop(self, keys: list[bytes]) -> None:
        gone = [key for key in keys if self._kept.drop(key)]
        if gone:
            self._ctx.persist(*(Delete("kept_messages", key) for key in gone))
        for key in gone:
            self._answered(sender_of(key), key)
            self._answered(recipient_of(key), key)

    def sweep(self) -> None:
        """What is too old goes."""
        now = self._ctx.now.unix
        gone = [key for key in self._kept if (row := self._kept.get(key)) is not None and row.expires < now]
        if gone:
            self._ctx.count("deposits_expired", len(gone))
            self._drop(gone)

    def forget(self, peer: PeerId) -> None:
        """That peer is no member any more: neither what it has left nor what waits for it."""
        self._end(peer)
        self._drop([key for key in self._kept if peer in (sender_of(key), recipient_of(key))])

    def forget_all(self) -> None:
        """We are no member any more."""
        for peer in list(self._handing):
            self._end(peer)
        self._drop(list(self._kept))

    # -- seen from outside --------------------------------------------------------------------------------------------

    def addressees(self) -> list[PeerId]:
        """All whom something is kept for."""
        return self._kept.addressees()

    def view(self) -> dict[str, object]:
        """For ``node.status``."""
        return {"messages": len(self._kept), "size": self._kept.total.size}
