"""Application messages: an outbox until acknowledged, an inbox until read, both durable and bounded.

*Acknowledged* means that the receiving daemon would still have the message after a power cut. A message keeps its id
over links, restarts and repetitions, so the receiver delivers it once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from meshd.core.commands import Delete, DeliverMessage, Notify, Priority, Put
from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.facts import MessageDurable
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.state import InboxRow, OutboxRow, Stored, decode_time, encode_time, rows
from meshd.errors import Code
from meshd.ids import CLOCK_SKEW, MESSAGE_ID_SIZE, MessageId, PeerId, RequestId, Ticket
from meshd.wire.codec import encode
from meshd.wire.messages import MAX_BODY_SIZE, Acknowledgement, ApplicationMessage, MessageRefused

# Policy
MAX_OUTBOX_MESSAGES = 1000
MAX_OUTBOX_SIZE = 16 * 1024 * 1024  # bytes of bodies
MAX_IN_FLIGHT = 32  # messages to one peer that are sent and not acknowledged
MAX_RECEIVED = 100_000  # ids remembered so that nothing is delivered twice
MAX_RECEIVED_PER_SENDER = 25_000  # of these; who fills it is told to wait, and nobody else is
MAX_MESSAGE_LIFETIME = 31 * 86400.0  # seconds a sender may ask for
SENDER_SHARE = 2  # one sender may fill so little of the inbox: a half, in messages and in bytes
RETRY_INTERVAL = 5.0  # seconds until what is not acknowledged is sent again; doubles up to the maximum
MAX_RETRY_INTERVAL = 300.0
SWEEP_INTERVAL = 60.0


@dataclass(slots=True)
class _Outgoing:
    """A message in the outbox. Times in monotonic seconds."""

    row: OutboxRow
    submitted: float
    ticket: Ticket | None = None
    sent: bool = False
    waiting: RequestId | None = None


class Delivery:
    """Outbox and inbox."""

    __slots__ = (
        "_arriving",
        "_ctx",
        "_inbox",
        "_inbox_size",
        "_membership",
        "_neighbors",
        "_outbox",
        "_outbox_size",
        "_post",
        "_received",
        "_received_from",
        "_tries",
    )

    def __init__(self, ctx: Context, stored: Stored, membership: Membership, neighbors: Neighbors, post: Post) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._post = post
        self._inbox = {MessageId(key): row for key, row in rows(stored, "inbox", InboxRow).items()}
        self._inbox_size = sum(len(row.body) for row in self._inbox.values())
        self._outbox = {MessageId(key): _Outgoing(row, 0.0) for key, row in rows(stored, "outbox", OutboxRow).items()}
        self._outbox_size = sum(len(item.row.body) for item in self._outbox.values())
        self._received = {key: decode_time(value) for key, value in stored.get("received", {}).items()}
        self._received_from: Counter[bytes] = Counter(key[:16] for key in self._received)
        self._arriving: dict[bytes, None] = {}  # taken, not durable yet
        self._tries: dict[PeerId, int] = {}

    # -- sending ------------------------------------------------------------------------------------------------------

    def submit(
        self, request: RequestId, peer: PeerId, application: str, body: bytes, wait: bool, timeout: float
    ) -> None:
        """A person or program sends a message."""
        if peer == self._ctx.own_id:
            self._ctx.refuse(request, Code.REFUSED, "That is this node itself.")
            return
        if len(body) > MAX_BODY_SIZE:
            self._ctx.refuse(request, Code.TOO_LARGE, f"A message may have {MAX_BODY_SIZE} bytes.")
            return
        if len(self._outbox) >= MAX_OUTBOX_MESSAGES or self._outbox_size + len(body) > MAX_OUTBOX_SIZE:
            self._ctx.refuse(request, Code.BUSY, "The outbox is full of messages that nobody has acknowledged.")
            return
        now = self._ctx.now
        identifier = MessageId(self._ctx.rng.randbytes(MESSAGE_ID_SIZE))
        row = OutboxRow(
            peer, application[:32], int(now.unix * 1000), int(now.unix + self._ctx.config.mesh.message_lifetime), body
        )
        item = _Outgoing(row, now.mono)
        self._outbox[identifier] = item
        self._outbox_size += len(body)
        ticket = self._ctx.persist(Put("outbox", identifier, encode(row)), request=request)
        item.ticket = ticket
        if wait:
            item.waiting = request
            self._ctx.timer("send", identifier, timeout)
        else:
            self._ctx.respond_after(ticket, request, **self._result(identifier, item, "queued"))
        self.flush(peer)

    def _result(self, identifier: MessageId, item: _Outgoing, state: str) -> dict[str, object]:
        return {
            "message_id": identifier,
            "peer_id": item.row.peer,
            "state": state,
            "name": self._membership.name_of(PeerId(item.row.peer)) or "",
            "elapsed": self._ctx.now.mono - item.submitted,
        }

    def on_not_durable(self, ticket: Ticket) -> None:
        """The outbox could not be written: the request has been refused, so the message must not go either."""
        for identifier, item in list(self._outbox.items()):
            if item.ticket == ticket:
                del self._outbox[identifier]
                self._outbox_size -= len(item.row.body)
                self._ctx.cancel_timer("send", identifier)

    def flush(self, peer: PeerId) -> None:
        """Send what is queued for that peer, as far as its window goes; each once it is durable."""
        link = self._neighbors.current(peer)
        if link is not None and link.congested:
            return
        in_flight = sum(1 for item in self._outbox.values() if item.sent and item.row.peer == peer)
        for identifier, item in self._outbox.items():
            if item.row.peer != peer or item.sent:
                continue
            if in_flight >= MAX_IN_FLIGHT:
                break
            row = item.row
            message = ApplicationMessage(identifier, row.application, row.sent_at, row.expires, row.body)
            if not self._post.send(peer, message, Priority.MESSAGE, item.ticket):
                break
            item.sent = True
            in_flight += 1
        if in_flight:
            delay = min(RETRY_INTERVAL * 2 ** self._tries.get(peer, 0), MAX_RETRY_INTERVAL)
            self._ctx.timers.set_at_latest(("deliver", peer), self._ctx.now.mono + self._ctx.jitter(delay))

    def again(self, peer: PeerId) -> None:
        """The way to that peer has changed: what was sent may be lost."""
        self._ctx.cancel_timer("deliver", peer)
        for item in self._outbox.values():
            if item.row.peer == peer:
                item.sent = False
        self.flush(peer)

    def on_retry(self, about: bytes) -> None:
        """Not acknowledged for a while."""
        peer = PeerId(about)
        if any(item.row.peer == peer for item in self._outbox.values()):
            self._tries[peer] = min(self._tries.get(peer, 0) + 1, 8)
            self._ctx.count("messages_resent")
            self.again(peer)

    def waiting_peers(self) -> list[PeerId]:
        """The peers that something is queued for."""
        return list(dict.fromkeys(PeerId(item.row.peer) for item in self._outbox.values()))

    def on_acknowledged(self, peer: PeerId, message: Acknowledgement) -> None:
        """The peer has them for good."""
        self._tries.pop(peer, None)
        for raw in message.messages:
            identifier = MessageId(raw)
            item = self._outbox.get(identifier)
            if item is None or item.row.peer != peer:
                continue
            self._drop(identifier, item)
            self._ctx.count("messages_acknowledged")
            self._ctx.notify("message_acknowledged", peer=peer, message=identifier)
            if item.waiting is not None:
                self._ctx.respond(item.waiting, **self._result(identifier, item, "acknowledged"))
        self.flush(peer)

    def _drop(self, identifier: MessageId, item: _Outgoing) -> None:
        del self._outbox[identifier]
        self._outbox_size -= len(item.row.body)
        self._ctx.cancel_timer("send", identifier)
        self._ctx.delete("outbox", identifier)

    def on_refused(self, peer: PeerId, message: MessageRefused) -> None:
        """The peer cannot take it now. It stays queued; whoever waits is told."""
        identifier = MessageId(message.message)
        item = self._outbox.get(identifier)
        if item is not None and item.row.peer == peer:
            self._ctx.count("messages_refused")
            self._give_up_waiting(identifier, item, Code.BUSY, f"The peer says {message.reason[:32]}.")

    def on_wait_over(self, about: bytes) -> None:
        """``timeout`` has passed without an acknowledgement."""
        identifier = MessageId(about)
        item = self._outbox.get(identifier)
        if item is not None:
            detail = "" if item.sent else "There is no path to it now."
            self._give_up_waiting(identifier, item, Code.NOT_ACKNOWLEDGED, detail)

    def _give_up_waiting(self, identifier: MessageId, item: _Outgoing, code: Code, detail: str) -> None:
        self._ctx.cancel_timer("send", identifier)
        request, item.waiting = item.waiting, None
        if request is not None:
            hours = (item.row.expires - self._ctx.now.unix) / 3600
            self._ctx.refuse(request, code, f"{detail} The message stays queued for {hours:.0f} h.".strip())

    def abandon(self, request: RequestId) -> None:
        """Nobody waits any more; the message stays."""
        for item in self._outbox.values():
            if item.waiting == request:
                item.waiting = None

    # -- receiving ----------------------------------------------------------------------------------------------------

    def on_message(self, peer: PeerId, message: ApplicationMessage) -> None:
        """A message for us: keep it, then say so."""
        identifier = MessageId(message.message)
        key = peer[:16] + identifier
        if key in self._arriving:
            return  # its acknowledgement waits for the disk
        if key in self._received:
            self._ctx.count("messages_repeated")
            self._post.send(peer, Acknowledgement((identifier,)), Priority.MESSAGE)
            return
        reason = self._why_not(peer, message)
        if reason is not None:
            self._ctx.count(f"inbox_{reason}")
            self._post.send(peer, MessageRefused(identifier, reason), Priority.MESSAGE)
            return
        now = self._ctx.now.unix
        row = InboxRow(peer, message.application, message.sent_at, int(now * 1000), message.body)
        until = min(float(message.expires), now + MAX_MESSAGE_LIFETIME) + 2 * CLOCK_SKEW
        self._inbox[identifier] = row
        self._inbox_size += len(row.body)
        self._received[key] = int(until)
        self._received_from[key[:16]] += 1
        self._arriving[key] = None
        ticket = self._ctx.persist(Put("inbox", identifier, encode(row)), Put("received", key, encode_time(until)))
        self._ctx.state_after(ticket, MessageDurable(key))
        self._post.send(peer, Acknowledgement((identifier,)), Priority.MESSAGE, ticket)
        self._ctx.after(ticket, DeliverMessage(self._described(identifier, row)))
        notice = {"peer": peer, "message": identifier, "application": row.application, "size": len(row.body)}
        self._ctx.after(ticket, Notify("message_arrived", notice))
        self._ctx.count("messages_received")

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
        if len(self._inbox) >= mesh.max_inbox_messages or self._inbox_size + len(message.body) > mesh.max_inbox_size:
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
                self._inbox_size -= len(row.body)
                removed += 1
                changes.append(Delete("inbox", raw))
        if changes:
            self._ctx.respond_after(self._ctx.persist(*changes), request, removed=removed)
        else:
            self._ctx.respond(request, removed=0)

    # -- time ---------------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Forget what is too old, on both sides."""
        now = self._ctx.now.unix
        for identifier, item in list(self._outbox.items()):
            if item.row.expires < now:
                self._drop(identifier, item)
                self._ctx.notify("message_expired", peer=item.row.peer, message=identifier)
                if item.waiting is not None:
                    self._ctx.refuse(item.waiting, Code.NOT_ACKNOWLEDGED, "The message has expired.")
        gone = [key for key, until in self._received.items() if until < now]
        for key in gone:
            del self._received[key]
            self._received_from[key[:16]] -= 1
        self._received_from += Counter()  # those with none left are forgotten
        if gone:
            self._ctx.persist(*(Delete("received", key) for key in gone))
        self._ctx.timer("messages", b"", SWEEP_INTERVAL)

    def forget_peer(self, peer: PeerId) -> None:
        """That peer has been revoked: what waits for it must never reach it."""
        for identifier, item in list(self._outbox.items()):
            if item.row.peer == peer:
                self._drop(identifier, item)
                if item.waiting is not None:
                    self._ctx.refuse(item.waiting, Code.PEER_UNKNOWN, "It has been revoked.")
        self._tries.pop(peer, None)
        self._ctx.cancel_timer("deliver", peer)

    def forget_outbox(self) -> None:
        """We have left the mesh: there is nobody to send to."""
        for identifier, item in list(self._outbox.items()):
            self._drop(identifier, item)
            if item.waiting is not None:
                self._ctx.refuse(item.waiting, Code.NO_MESH)

    # -- view ---------------------------------------------------------------------------------------------------------

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

    def view_inbox(self) -> dict[str, object]:
        """For ``node.status``."""
        return {"unread": len(self._inbox), "size": self._inbox_size}

    def view_outbox(self) -> dict[str, object]:
        """For ``node.status``."""
        return {"queued": len(self._outbox)}
