"""Taking what keepers have kept for us: messages, for which we leave a receipt, and the receipts of others.

A keeper is answered only once the message is durable here. Until it has the receipt it brings the message again, so
nothing is owed to the sender that a kill could make us forget.
"""

from __future__ import annotations

from meshd.core.commands import Priority
from meshd.core.context import Context
from meshd.core.delivery.inbox import Fate, Inbox
from meshd.core.delivery.outbox import Outbox
from meshd.core.delivery.post import Post
from meshd.core.membership.membership import Membership
from meshd.core.pushing.keepers import Keepers
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import PeerId, Ticket
from meshd.wire.kept_message import MAX_KEPT_LIFETIME, RECEIPT_WAIT, Kept, check_kept_times, open_kept, seal_kept
from meshd.wire.messages import (
    Acknowledgement,
    ApplicationMessage,
    DepositWithdrawn,
    KeptTaken,
    MessageKept,
    ReceiptKept,
)

_FOR_GOOD = ("expired", "id_taken")  # a message that the inbox refuses for this will not be taken later either


class Collecting:
    """What others have had kept for us."""

    __slots__ = ("_ctx", "_inbox", "_keepers", "_membership", "_outbox", "_post")

    def __init__(
        self, ctx: Context, membership: Membership, post: Post, keepers: Keepers, outbox: Outbox, inbox: Inbox
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._post = post
        self._keepers = keepers
        self._outbox = outbox
        self._inbox = inbox

    # -- messages -----------------------------------------------------------------------------------------------------

    def on_message(self, keeper: PeerId, message: MessageKept) -> None:
        """A keeper brings a message. Raises MalformedMessage, Rejected."""
        sender = PeerId(message.sender)
        if self._membership.record(sender) is None:
            if self._membership.is_barred(sender):
                self._drop(keeper, message)
            raise Rejected("deposit_stranger")  # the news that it has joined may still come, and the keeper again
        try:
            kept = self._open(sender, message.sealed)
        except (MalformedMessage, Rejected) as error:
            if not (isinstance(error, Rejected) and error.reason == "clock"):  # it may be our clock
                self._drop(keeper, message)
            raise
        inside = kept.message
        if not isinstance(inside, ApplicationMessage) or inside.message != message.message:
            self._drop(keeper, message)
            raise Rejected("deposit_unknown")
        taken = self._inbox.take(sender, inside)
        if taken.fate is Fate.REFUSED:
            if taken.reason in _FOR_GOOD:
                self._drop(keeper, message)
        elif taken.fate is not Fate.ARRIVING:
            self._ctx.count("deposits_collected")
            self._acknowledge(keeper, sender, inside, kept, taken.ticket)

    def _open(self, sender: PeerId, sealed: bytes) -> Kept:
        kept = open_kept(self._ctx.suite, self._membership.mesh, sender, sealed)
        check_kept_times(kept.issued, kept.expires, self._ctx.now)
        return kept

    def _drop(self, keeper: PeerId, message: MessageKept) -> None:
        """It will never be of use here."""
        self._post.send(keeper, KeptTaken(message.sender, message.message, b""))

    def _acknowledge(
        self, keeper: PeerId, sender: PeerId, message: ApplicationMessage, kept: Kept, ticket: Ticket | None
    ) -> None:
        """To the sender, if there is a way; and sealed to all who may keep the message, in its place."""
        acknowledgement = Acknowledgement((message.message,))
        self._post.send(sender, acknowledgement, Priority.MESSAGE, ticket)
        key = self._membership.sealing_key(sender)
        if key is None:
            return
        now = self._ctx.now.unix
        expires = int(min(kept.expires + RECEIPT_WAIT, now + MAX_KEPT_LIFETIME))
        mesh = self._membership.mesh
        try:
            receipt = seal_kept(self._ctx.suite, mesh, sender, key, acknowledgement, int(now), expires)
        except Rejected:
            self._ctx.count("envelopes_unsealable")
            return
        for friend in dict.fromkeys((keeper, *self._keepers.friends(self._ctx.own_id))):
            self._post.send(friend, KeptTaken(sender, message.message, receipt), ticket=ticket)

    # -- receipts -----------------------------------------------------------------------------------------------------

    def on_receipt(self, keeper: PeerId, message: ReceiptKept) -> None:
        """A keeper brings what the recipient of our message has left for us. Raises MalformedMessage, Rejected."""
        recipient = PeerId(message.recipient)
        withdrawn = DepositWithdrawn(recipient, (message.message,))
        try:
            inside = self._open(recipient, message.sealed).message
            if not isinstance(inside, Acknowledgement) or inside.messages != (message.message,):
                raise Rejected("deposit_unknown")
        except (MalformedMessage, Rejected):
            self._post.send(keeper, withdrawn)
            raise
        ticket = self._outbox.on_acknowledged(recipient, inside)
        self._post.send(keeper, withdrawn, ticket=ticket)
