"""Application messages that come: an inbox until read, durable and bounded; each is delivered once.

*Acknowledged* means that this daemon would still have the message after a power cut. A message keeps its id over links,
restarts, keepers and repetitions, so it is taken once however often it comes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto

from meshd.core.commands import Delete, DeliverMessage, Notify, Priority, Put
from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.facts import MessageDurable
from meshd.core.membership.membership import Membership
from meshd.core.state import InboxRow, Stored, decode_time, encode_time, rows
from meshd.ids import CLOCK_SKEW, MessageId, PeerId, RequestId, Ticket
from meshd.wire.codec import encode
from meshd.wire.messages import Acknowledgement, ApplicationMessage, MessageRefused

# Policy
MAX_RECEIVED = 100_000  # ids remembered so that nothing is delivered twice
MAX_RECEIVED_PER_SENDER = 25_000  # of these; who fills it is told to wait, and nobody else is
MAX_MESSAGE_LIFETIME = 31 * 86400.0  # seconds a sender may ask for
SENDER_SHARE = 2  # one sender may fill so little of the inbox: a half, in messages and in bytes


class Fate(Enum):
    """What becomes of a message that comes."""

    TAKEN = auto()
    REPEATED = auto()
    ARRIVING = auto()
    """It has come before, and is not durable yet: whoever brought it first is answered when it is."""
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Taken:
    """``ticket``: from when on it may be acknowledged; ``reason``: why it was refused."""

    fate: Fate
    ticket: Ticket | None = None
    reason: str = ""


class Inbox:
    """What has come, and what has not been read."""

    __slots__ = ("_arriving", "_ctx", "_inbox", "_membership", "_post", "_received", "_received_from", "_size")

    def __init__(self, ctx: Context, stored: Stored, membership: Membership, post: Post) -> None:
        self._ctx = ctx
        self._membership = membership
        self._post = post
        self._inbox = {MessageId(key): row for key, row in rows(stored, "inbox", InboxRow).items()}
        self._size = sum(len(row.body) for row in self._inbox.values())
        self._received = {key: decode_time(value) for key, value in stored.get("received", {}).items()}
        self._received_from: Counter[bytes] = Counter(key[:16] for key in self._received)
        self._arriving: dict[bytes, None] = {}  # taken, not durable yet

    def on_message(self, peer: PeerId, message: ApplicationMessage) -> None:
        """A message from its sender: keep it, then say so."""
        identifier = MessageId(message.message)
        taken = self.take(peer, message)
        if taken.fate is Fate.REFUSED:
            self._post.send(peer, MessageRefused(identifier, taken.reason), Priority.MESSAGE)
        elif taken.fate is not Fate.ARRIVING:
            self._post.send(peer, Acknowledgement((identifier,)), Priority.MESSAGE, taken.ticket)

    def take(self, peer: PeerId, message: ApplicationMessage) -> Taken:
        """A message of ``peer``, whoever brought it: keep it, unless it was there before or there is no room."""
        identifier = MessageId(message.message)
        key = peer[:16] + identifier
        if key in self._arriving:
            return Taken(Fate.ARRIVING)
        if key in self._received:
            self._ctx.count("messages_repeated")
            return Taken(Fate.REPEATED)
        reason = self._why_not(peer, message)
        if reason is not None:
            self._ctx.count(f"inbox_{reason}")
            return Taken(Fate.REFUSED, reason=reason)
        now = self._ctx.now.unix
        row = InboxRow(peer, message.application, message.sent_at, int(now * 1000), message.body)
        until = min(float(message.expires), now + MAX_MESSAGE_LIFETIME) + 2 * CLOCK_SKEW
        self._inbox[identifier] = row
        self._size += len(row.body)
        self._received[key] = int(until)
        self._received_from[key[:16]] += 1
        self._arriving[key] = None
        ticket = self._ctx.persist(Put("inbox", identifier, encode(row)), Put("received", key, encode_time(until)))
        self._ctx.state_after(ticket, MessageDurable(key))
        self._ctx.after(ticket, DeliverMessage(self._described(identifier, row)))
        notice = {"peer": peer, "message": identifier, "application": row.application, "size": len(row.body)}
        self._ctx.after(ticket, Notify("message_arrived", notice))
        self._ctx.count("messages_received")
        return Taken(Fate.TAKEN, ticket)

    def on_durable(self, key: bytes) -> None:
        """From now on a repetition is acknowledged at once."""
        self._arriving.pop(key, None)

    def _why_not(self, peer: PeerId, message: ApplicationMessage) -> str | None:
        mesh = self._ctx.config.mesh
        if message.expires + CLOCK_SKEW < self._ctx.now.unix:
            return "expired"
        if MessageId(message.message) in self._inbox:
            return "id_taken"  # by another sender: an id is drawn, not chosen
        if self._ctx.store_failing or len(self._received) >= MAX_RECEIVED:
            return "busy"
        if self._received_from[peer[:16]] >= MAX_RECEIVED_PER_SENDER:
            return "busy"
        if len(self._inbox) >= mesh.max_inbox_messages or self._size + len(message.body) > mesh.max_inbox_size:
            return "inbox_full"
        theirs = [len(row.body) for row in self._inbox.values() if row.peer == peer]
        if len(theirs) >= max(1, mesh.max_inbox_messages // SENDER_SHARE):
            return "inbox_full"
        if theirs and sum(theirs) + len(message.body) > mesh.max_inbox_size // SENDER_SHARE:
            return "inbox_full"
        return None

    def read(self, request: RequestId, messages: list[bytes]) -> None:
        """Somebody has read them: forget them."""
        removed = 0
        changes = []
        for raw in messages:
            row = self._inbox.pop(MessageId(raw), None)
            if row is not None:
                self._size -= len(row.body)
                removed += 1
                changes.append(Delete("inbox", raw))
        if changes:
            self._ctx.respond_after(self._ctx.persist(*changes), request, removed=removed)
        else:
            self._ctx.respond(request, removed=0)

    def sweep(self) -> None:
        """Forget ids that cannot come again."""
        now = self._ctx.now.unix
        gone = [key for key, until in self._received.items() if until < now]
        for key in gone:
            del self._received[key]
            self._received_from[key[:16]] -= 1
        self._received_from += Counter()  # those with none left are forgotten
        if gone:
            self._ctx.persist(*(Delete("received", key) for key in gone))

    # -- seen from outside --------------------------------------------------------------------------------------------

    def _described(self, identifier: MessageId, row: InboxRow) -> dict[str, object]:
        return {
            "message_id": identifier,
            "peer_id": row.peer,
            "name": self._membership.name_of(PeerId(row.peer)) or "",
            "application": row.application,
            "body": row.body,
            "sent_at": row.sent_at / 1000,
            "received_at": row.received_at / 1000,
        }

    def view_messages(self) -> list[dict[str, object]]:
        """For ``messages.list``, oldest first."""
        durable = [item for item in self._inbox.items() if item[1].peer[:16] + item[0] not in self._arriving]
        durable.sort(key=lambda item: (item[1].received_at, item[0]))
        return [self._described(identifier, row) for identifier, row in durable]

    def view(self) -> dict[str, object]:
        """For ``node.status``."""
        return {"unread": len(self._inbox), "size": self._size}
