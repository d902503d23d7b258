"""Application messages that go: an outbox until acknowledged, durable and bounded."""

from __future__ import annotations

from dataclasses import dataclass

from meshd.core.commands import Priority, Put
from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.state import OutboxRow, Stored, rows
from meshd.errors import Code
from meshd.ids import MESSAGE_ID_SIZE, MessageId, PeerId, RequestId, Ticket
from meshd.wire.codec import encode
from meshd.wire.messages import MAX_BODY_SIZE, Acknowledgement, ApplicationMessage, MessageRefused

# Policy
MAX_OUTBOX_MESSAGES = 1000
MAX_OUTBOX_SIZE = 16 * 1024 * 1024  # bytes of bodies
MAX_IN_FLIGHT = 32  # messages to one peer that are sent and not acknowledged
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


class Outbox:
    """What has not been acknowledged."""

    __slots__ = (
        "_ctx",
        "_items",
        "_membership",
        "_neighbors",
        "_post",
        "_size",
        "_tries",
    )

    def __init__(self, ctx: Context, stored: Stored, membership: Membership, neighbors: Neighbors, post: Post) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._post = post
        kept = sorted(rows(stored, "outbox", OutboxRow).items(), key=lambda item: item[1].sent_at)
        self._items = {MessageId(key): _Outgoing(row, 0.0) for key, row in kept}
        self._size = sum(len(item.row.body) for item in self._items.values())
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
        if len(self._items) >= MAX_OUTBOX_MESSAGES or self._size + len(body) > MAX_OUTBOX_SIZE:
            self._ctx.refuse(request, Code.BUSY, "The outbox is full of messages that nobody has acknowledged.")
            return
        now = self._ctx.now
        identifier = MessageId(self._ctx.rng.randbytes(MESSAGE_ID_SIZE))
        row = OutboxRow(
            peer, application[:32], int(now.unix * 1000), int(now.unix + self._ctx.config.mesh.message_lifetime), body
        )
        item = _Outgoing(row, now.mono)
        self._items[identifier] = item
        self._size += len(body)
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
        for identifier, item in list(self._items.items()):
            if item.ticket == ticket:
                del self._items[identifier]
                self._size -= len(item.row.body)
                self._ctx.cancel_timer("send", identifier)

    def flush(self, peer: PeerId) -> None:
        """Send what is queued for that peer, as far as its window goes; each once it is durable."""
        link = self._neighbors.current(peer)
        if link is not None and link.congested:
            return
        in_flight = sum(1 for item in self._items.values() if item.sent and item.row.peer == peer)
        for identifier, item in self._items.items():
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
        for item in self._items.values():
            if item.row.peer == peer:
                item.sent = False
        self.flush(peer)

    def on_retry(self, about: bytes) -> None:
        """Not acknowledged for a while."""
        peer = PeerId(about)
        if any(item.row.peer == peer for item in self._items.values()):
            self._tries[peer] = min(self._tries.get(peer, 0) + 1, 8)
            self._ctx.count("messages_resent")
            self.again(peer)

    def waiting_peers(self) -> list[PeerId]:
        """The peers that something is queued for."""
        return list(dict.fromkeys(PeerId(item.row.peer) for item in self._items.values()))

    def on_acknowledged(self, peer: PeerId, message: Acknowledgement) -> None:
        """The peer has them for good."""
        self._tries.pop(peer, None)
        for raw in message.messages:
            identifier = MessageId(raw)
            item = self._items.get(identifier)
            if item is None or item.row.peer != peer:
                continue
            self._drop(identifier, item)
            self._ctx.count("messages_acknowledged")
            self._ctx.notify("message_acknowledged", peer=peer, message=identifier)
            if item.waiting is not None:
                self._ctx.respond(item.waiting, **self._result(identifier, item, "acknowledged"))
        self.flush(peer)

    def _drop(self, identifier: MessageId, item: _Outgoing) -> None:
        del self._items[identifier]
        self._size -= len(item.row.body)
        self._ctx.cancel_timer("send", identifier)
        self._ctx.delete("outbox", identifier)

    def on_refused(self, peer: PeerId, message: MessageRefused) -> None:
        """The peer cannot take it now. It stays queued; whoever waits is told."""
        identifier = MessageId(message.message)
        item = self._items.get(identifier)
        if item is not None and item.row.peer == peer:
            self._ctx.count("messages_refused")
            self._give_up_waiting(identifier, item, Code.BUSY, f"The peer says {message.reason[:32]}.")

    def on_wait_over(self, about: bytes) -> None:
        """``timeout`` has passed without an acknowledgement."""
        identifier = MessageId(about)
        item = self._items.get(identifier)
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
        for item in self._items.values():
            if item.waiting == request:
                item.waiting = None

    # -- time ---------------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Give up what is too old."""
        now = self._ctx.now.unix
        for identifier, item in list(self._items.items()):
            if item.row.expires < now:
                self._drop(identifier, item)
                self._ctx.notify("message_expired", peer=item.row.peer, message=identifier)
                if item.waiting is not None:
                    self._ctx.refuse(item.waiting, Code.NOT_ACKNOWLEDGED, "The message has expired.")
        self._ctx.timer("messages", b"", SWEEP_INTERVAL)

    def forget_peer(self, peer: PeerId) -> None:
        """That peer has been revoked: what waits for it must never reach it."""
        for identifier, item in list(self._items.items()):
            if item.row.peer == peer:
                self._drop(identifier, item)
                if item.waiting is not None:
                    self._ctx.refuse(item.waiting, Code.PEER_UNKNOWN, "It has been revoked.")
        self._tries.pop(peer, None)
        self._ctx.cancel_timer("deliver", peer)

    def forget_all(self) -> None:
        """We have left the mesh: there is nobody to send to."""
        for identifier, item in list(self._items.items()):
            self._drop(identifier, item)
            if item.waiting is not None:
                self._ctx.refuse(item.waiting, Code.NO_MESH)

    # -- seen from outside --------------------------------------------------------------------------------------------

    def view(self) -> dict[str, object]:
        """For ``node.status``."""
        return {"queued": len(self._items)}
