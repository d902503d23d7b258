"""What comes by push: opened with the channel's key, handed on by whose channel it is, and acknowledged once kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshd.core.commands import AcknowledgePush, UnregisterChannel
from meshd.core.context import Context
from meshd.core.events import PushReceived
from meshd.core.pushing.channels import SHARED
from meshd.core.state import ChannelRow
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import IntroductionId, PeerId, Ticket
from meshd.wire.envelope import Header, read_header

if TYPE_CHECKING:
    from meshd.core.node import Node

# Specification (autopush's codes of an acknowledgement)
_HANDLED, _UNDECRYPTABLE = 100, 101

# Policy
MAX_HELD = 64  # pushes that came while the store failed


class Pushed:
    """The door for everything that push services bring."""

    __slots__ = ("_ctx", "_held", "_node")

    def __init__(self, node: Node, ctx: Context) -> None:
        self._node = node
        self._ctx = ctx
        self._held: list[PushReceived] = []

    def on_push(self, event: PushReceived) -> None:
        """Whatever it is, it is acknowledged, or the service would send it for ever: but only once it is kept.

        While nothing can be kept it waits here, or, beyond ``MAX_HELD``, at the service.
        """
        if self._ctx.store_failing:
            if len(self._held) < MAX_HELD:
                self._held.append(event)
            return
        self._ctx.count("pushes_received")
        service, channel, version, body = event.service, event.channel, event.version, event.body
        code, ticket = _HANDLED, None
        channels = self._node.channels
        row = channels.row(channel)
        try:
            if row is None:
                self._ctx.do(UnregisterChannel(service, channel, event.newcomers))
                raise Rejected("channel_unknown")
            try:
                plaintext = channels.decrypt(channel, body)
            except MalformedMessage as error:
                code = _UNDECRYPTABLE
                raise Rejected("undecryptable", str(error)) from None
            is_test = self._node.self_test.on_push(channel, plaintext)
            if not is_test and row.holder == self._ctx.own_id:
                self._ctx.count("push_tests_late")  # nobody else pushes there: it is one of an earlier run of ours
            if is_test or row.holder == self._ctx.own_id:
                self._ctx.do(AcknowledgePush(service, channel, version, code, event.newcomers))
                return
            ticket = self._on_envelope(row.holder, plaintext)
            if row.holder != SHARED:
                self._node.audit.used(row.holder, service)
        except MalformedMessage as error:
            self._drop(row, event, "malformed", str(error))
        except Rejected as rejected:
            self._drop(row, event, rejected.reason, rejected.detail)
        self._ctx.after(ticket, AcknowledgePush(service, channel, version, code, event.newcomers))

    def take_held(self) -> None:
        """Something has been written: perhaps the store works again."""
        if self._held and not self._ctx.store_failing:
            held, self._held = self._held, []
            for event in held:
                self.on_push(event)

    def _on_envelope(self, holder: bytes, envelope: bytes) -> Ticket | None:
        node = self._node
        if holder == SHARED:
            holder = self._recipient(read_header(envelope))
        if node.introductions.is_ours(holder):
            return node.bearers.on_envelope(IntroductionId(holder), envelope)
        if node.joining.is_introducer(PeerId(holder)):
            return node.joining.on_push(envelope)
        return node.peering.on_envelope(envelope)

    def _recipient(self, header: Header) -> bytes:
        """Whose channel it would be, were it not everybody's: a token's, the introducer's, or some member's."""
        if header.recipient != self._ctx.own_id:
            return self._node.introductions.with_key(header.recipient) or b""
        return self._node.joining.introducer or b""

    def _drop(self, row: ChannelRow | None, event: PushReceived, reason: str, detail: str) -> None:
        self._ctx.count("pushes_dropped")
        told = f"{reason}: {detail}" if detail else reason
        self._ctx.notify("push_dropped", channel=event.channel[:4], reason=told)
        if row is not None and row.holder not in (SHARED, self._ctx.own_id) and reason != "replayed":  # services repeat
            self._node.audit.refused(row.holder, event.service, reason)
