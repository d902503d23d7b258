"""Application messages that go: an outbox until acknowledged, durable and bounded.

*Acknowledged* means that the receiving daemon would still have the message after a power cut; *deposited*, that a
keeper would. A message keeps its id over links, keepers, restarts and repetitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from meshd.core.commands import Notify, Priority, Put
from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.facts import DepositSettled, MessageWaits
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.state import MAX_KEPT_BY, OutboxRow, Stored, rows
from meshd.errors import Code
from meshd.ids import MESSAGE_ID_SIZE, MessageId, PeerId, RequestId, Ticket, short
from meshd.wire.codec import encode
from meshd.wire.kept_message import RECEIPT_WAIT
from meshd.wire.messages import MAX_BODY_SIZE, Acknowledgement, ApplicationMessage, MessageRefused

# Policy
MAX_OUTBOX_MESSAGES = 1000
MAX_OUTBOX_SIZE = 16 * 1024 * 1024  # bytes of bodies
MAX_IN_FLIGHT = 32  # messages to one peer that are sent and not acknowledged
RETRY_INTERVAL = 5.0  # seconds until what is not acknowledged is sent again; doubles up to the maximum
MAX_RETRY_INTERVAL = 300.0
STUCK_TRIES = 2  # not acknowledged so often although there is a way: keepers may take it as well
SWEEP_INTERVAL = 60.0

QUEUED, DEPOSITED, ACKNOWLEDGED = "queued", "deposited", "acknowledged"  # states of a message, one after the other


class Waiting(NamedTuple):
    """A message that is not acknowledged. It may leave once ``ticket`` is durable."""

    message: MessageId
    row: OutboxRow
    ticket: Ticket | None


@dataclass(slots=True)
class _Outgoing:
    """A message in the outbox. Times in monotonic seconds. ``waiting``: to be told when it is ``wanted``."""

    row: OutboxRow
    submitted: float
    ticket: Ticket | None = None
    sent: bool = False
    waiting: RequestId | None = None
    wanted: str = ACKNOWLEDGED

    @property
    def state(self) -> str:
        """Of a message that is not acknowledged."""
        return DEPOSITED if self.row.deposited else QUEUED


class Outbox:
    """What has not been acknowledged."""

    __slots__ = (
        "_ctx",
        "_failed",
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
        self._failed: dict[PeerId, None] = {}  # to whom others, asked to pass something on, have had no way

    # -- sending ------------------------------------------------------------------------------------------------------

    def submit(
        self, request: RequestId, peer: PeerId, application: str, body: bytes, wanted: str, timeout: float
    ) -> None:
        """A person or program sends a message, and is answered when it is ``wanted``: queued, deposited, acknowledged.

        Or further: what is acknowledged need not be deposited.
        """
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
        if wanted == QUEUED:
            self._ctx.respond_after(ticket, request, **self._result(identifier, item, QUEUED))
        else:
            item.waiting, item.wanted = request, wanted
            self._ctx.timer("send", identifier, timeout)
        self.flush(peer)

    def _result(self, identifier: MessageId, item: _Outgoing, state: str) -> dict[str, object]:
        return {
            "message_id": identifier,
            "peer_id": item.row.peer,
            "state": state,
            "name": self._membership.name_of(PeerId(item.row.peer)) or "",
            "elapsed": self._ctx.now.mono - item.submitted,
            "kept_by": self._kept_by(item),
        }

    def _kept_by(self, item: _Outgoing) -> list[str]:
        """Names of those that said that they have it."""
        keepers = (PeerId(keeper) for keeper in item.row.kept_by)
        return [self._membership.name_of(keeper) or short(keeper) for keeper in keepers]

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
            if item.row.peer != peer or item.sent or item.row.expires <= self._ctx.now.unix:
                continue
            if in_flight >= MAX_IN_FLIGHT:
                break
            row = item.row
            message = ApplicationMessage(identifier, row.application, row.sent_at, row.expires, row.body)
            if not self._post.send(peer, message, Priority.MESSAGE, item.ticket):
                self._ctx.state(MessageWaits(peer))
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
            if self.is_stuck(peer):
                self._ctx.state(MessageWaits(peer))

    def waiting_peers(self) -> list[PeerId]:
        """The peers that something is queued for."""
        return list(dict.fromkeys(PeerId(item.row.peer) for item in self._items.values()))

    def waiting(self, peer: PeerId) -> Iterator[Waiting]:
        """What is not acknowledged by that peer, in the order in which it was submitted."""
        for identifier, item in list(self._items.items()):
            if item.row.peer == peer:
                yield Waiting(identifier, item.row, item.ticket)

    def is_stuck(self, peer: PeerId) -> bool:
        """Whether messages for that peer do not get on: there is no way, or no answer."""
        tries = self._tries.get(peer, 0)
        return tries >= STUCK_TRIES or peer in self._failed or not self._post.reaches(peer)

    def on_path_failed(self, peer: PeerId) -> None:
        """The way that there seemed to be is none."""
        if any(item.row.peer == peer for item in self._items.values()):
            self._failed[peer] = None
            self._ctx.state(MessageWaits(peer))

    def on_way(self, peer: PeerId) -> None:
        """There is a link to that peer now."""
        self._failed.pop(peer, None)
        self.again(peer)

    def on_deposited(self, peer: PeerId, identifier: MessageId, keeper: PeerId, renewal: float) -> None:
        """That keeper has it for good. What earlier ones said counts for ``renewal`` seconds."""
        item = self._items.get(identifier)
        if item is None or item.row.peer != peer:
            return
        now = self._ctx.now.unix
        earlier, since = item.row.kept_by, item.row.deposited
        if since + renewal <= now:
            earlier, since = (), int(now)
        if keeper in earlier or len(earlier) >= MAX_KEPT_BY:
            return
        first = not item.row.deposited
        item.row = replace(item.row, deposited=since, kept_by=(*earlier, keeper))
        ticket = self._ctx.persist(Put("outbox", identifier, encode(item.row)))
        if first:
            self._ctx.count("messages_deposited")
            self._ctx.after(
                ticket, Notify("message_deposited", {"peer": peer, "message": identifier, "keeper": keeper})
            )
        if item.waiting is not None and item.wanted == DEPOSITED:
            self._ctx.cancel_timer("send", identifier)
            self._ctx.respond_after(ticket, item.waiting, **self._result(identifier, item, DEPOSITED))
            item.waiting = None

    def on_acknowledged(self, peer: PeerId, message: Acknowledgement) -> Ticket | None:
        """The peer has them for good. Gives the ticket of having forgotten them, if there were any."""
        self._tries.pop(peer, None)
        self._failed.pop(peer, None)
        ticket = None
        for raw in message.messages:
            identifier = MessageId(raw)
            item = self._items.get(identifier)
            if item is None or item.row.peer != peer:
                continue
            ticket = self._drop(identifier, item)
            if item.row.kept_by:
                self._ctx.state(DepositSettled(peer, identifier, item.row.kept_by, ticket))
            self._ctx.count("messages_acknowledged")
            self._ctx.notify("message_acknowledged", peer=peer, message=identifier)
            if item.waiting is not None:
                self._ctx.respond(item.waiting, **self._result(identifier, item, ACKNOWLEDGED))
        self.flush(peer)
        return ticket

    def _drop(self, identifier: MessageId, item: _Outgoing) -> Ticket:
        del self._items[identifier]
        self._size -= len(item.row.body)
        self._ctx.cancel_timer("send", identifier)
        return self._ctx.delete("outbox", identifier)

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
            keepers = ", ".join(self._kept_by(item))
            stays = f"{keepers} will have it" if keepers else "The message stays queued"
            self._ctx.refuse(request, code, f"{detail} {stays} for {hours:.0f} h.".strip())

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
            if item.row.expires + (RECEIPT_WAIT if item.row.deposited else 0.0) < now:
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
        self._failed.pop(peer, None)
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
        return {
            "queued": len(self._items),
            "deposited": sum(1 for item in self._items.values() if item.row.deposited),
        }

    def view_messages(self) -> list[dict[str, object]]:
        """For ``messages.outbox``, oldest first."""
        return [
            {
                "message_id": identifier,
                "peer_id": item.row.peer,
                "name": self._membership.name_of(PeerId(item.row.peer)) or "",
                "application": item.row.application,
                "size": len(item.row.body),
                "sent_at": item.row.sent_at / 1000,
                "expires_at": float(item.row.expires),
                "state": item.state,
                "kept_by": self._kept_by(item),
            }
            for identifier, item in self._items.items()
        ]
