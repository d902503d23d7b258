"""Our push subscriptions: a channel with keys of its own for each holder, at each push service.

So taking a capability back is taking a channel back. A channel exists from the moment it is wanted; it can be granted
once the service has given it an endpoint and that is durable.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from meshd.core.capabilities import GRANT_SPAN, TOP_UP_SPAN, expiries
from meshd.core.commands import CloseUserAgent, Delete, OpenUserAgent, Put, RegisterChannel, UnregisterChannel
from meshd.core.context import Context
from meshd.core.facts import ChannelReady
from meshd.core.state import ChannelRow, Stored, rows
from meshd.crypto import vapid
from meshd.errors import MalformedMessage
from meshd.ids import CHANNEL_ID_SIZE, ChannelId, Ticket
from meshd.wire.codec import encode
from meshd.wire.endpoint import split_endpoint
from meshd.wire.parts import MAX_SUBSCRIPTIONS, CapabilityPart, Grant, SubscriptionPart

# Policy
MAX_CHANNELS = 512  # per node; a service forgets nobody for that, but each costs a row and a registration


@dataclass(slots=True)
class _Service:
    """One push service as a receiver sees it."""

    name: str
    uaid: str = field(repr=False)
    connected: bool = False
    detail: str = "not connected yet"


class Channels:
    """All of this node's channels."""

    __slots__ = ("_by_holder", "_ctx", "_ready", "_rows", "_services", "active")

    def __init__(self, ctx: Context, stored: Stored) -> None:
        self._ctx = ctx
        uaids = stored.get("user_agents", {})
        self._services = {
            name: _Service(name, uaids.get(name.encode(), b"").decode(errors="replace"))
            for name in ctx.config.push.services[:MAX_SUBSCRIPTIONS]
        }
        self._rows = {
            ChannelId(key): row
            for key, row in rows(stored, "channels", ChannelRow).items()
            if row.service in self._services
        }
        self._ready = {channel for channel, row in self._rows.items() if row.endpoint}
        self._by_holder: dict[bytes, list[ChannelId]] = {}
        for channel, row in self._rows.items():
            self._by_holder.setdefault(row.holder, []).append(channel)
        self.active = False

    # -- the services -------------------------------------------------------------------------------------------------

    def activate(self) -> None:
        """Be reachable by push from now on. A node without a mesh talks to no push service."""
        if not self.active:
            self.active = True
            for service in self._services.values():
                self._ctx.do(OpenUserAgent(service.name, service.uaid))

    def deactivate(self, ticket: Ticket | None = None) -> None:
        """Take every channel back and disconnect, once ``ticket`` is durable."""
        for holder in list(self._by_holder):
            self.release(holder, ticket)
        if self.active:
            self.active = False
            for service in self._services.values():
                service.connected, service.detail = False, "no mesh"
                self._ctx.after(ticket, CloseUserAgent(service.name))

    @property
    def receiving(self) -> bool:
        """Whether some push service is connected."""
        return any(service.connected for service in self._services.values())

    def on_connected(self, name: str, uaid: str) -> bool:
        """The service knows us. True if it has forgotten our channels: every endpoint we gave away is dead."""
        service = self._services.get(name)
        if service is None:
            return False
        lost = bool(service.uaid) and service.uaid != uaid
        service.connected, service.detail = True, ""
        if service.uaid != uaid:
            service.uaid = uaid
            changes: list[Put] = [Put("user_agents", name.encode(), uaid.encode())]
            for channel, row in self._rows.items():
                if row.service == name and row.endpoint:
                    self._rows[channel] = replace(row, endpoint="", granted_until=0)
                    self._ready.discard(channel)
                    changes.append(Put("channels", channel, encode(self._rows[channel])))
            self._ctx.persist(*changes)
        for channel, row in self._rows.items():
            if row.service == name and not row.endpoint:
                self._register(channel, row)
        if lost:
            self._ctx.count("subscriptions_lost")
            self._ctx.notify("subscriptions_lost", service=name)
        return lost

    def on_disconnected(self, name: str, reason: str) -> None:
        """The receiver keeps trying; what is sent meanwhile waits at the service."""
        service = self._services.get(name)
        if service is not None:
            service.connected, service.detail = False, reason

    # -- the channels -------------------------------------------------------------------------------------------------

    def ensure(self, holder: bytes) -> None:
        """Have a channel for that holder (a peer id or an introduction id) at every service."""
        there = {self._rows[channel].service for channel in self._by_holder.get(holder, ())}
        for service in self._services.values():
            if service.name in there:
                continue
            if len(self._rows) >= MAX_CHANNELS:
                self._ctx.count("channels_limit")
                return
            channel = ChannelId(self._uuid())
            row = ChannelRow(service.name, self._ctx.rng.randbytes(32), holder, "", 0)
            self._rows[channel] = row
            self._by_holder.setdefault(holder, []).append(channel)
            self._ctx.persist(Put("channels", channel, encode(row)))
            if service.connected:
                self._register(channel, row)

    def _uuid(self) -> bytes:
        """A random UUID of version 4 (RFC 9562 section 5.4), which is what autopush wants for a channelID."""
        raw = bytearray(self._ctx.rng.randbytes(CHANNEL_ID_SIZE))
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        return bytes(raw)

    def _register(self, channel: ChannelId, row: ChannelRow) -> None:
        key = self._ctx.suite.uncompressed_vapid_key(row.seed)
        self._ctx.do(RegisterChannel(row.service, channel, key))

    def on_registered(self, channel: ChannelId, endpoint: str) -> None:
        """The service has given it an endpoint."""
        row = self._rows.get(channel)
        if row is None:
            return
        try:
            vapid.origin_of(endpoint)
        except MalformedMessage:
            self._ctx.count("channels_refused")
            return
        self._rows[channel] = replace(row, endpoint=endpoint, granted_until=0)
        self._ready.add(channel)
        ticket = self._ctx.persist(Put("channels", channel, encode(self._rows[channel])))
        self._ctx.state_after(ticket, ChannelReady(channel))

    def on_refused(self, channel: ChannelId, status: int) -> None:
        """The service would not. The channel stays wanted; the next connection tries again."""
        self._ctx.count("channels_refused")
        self._ctx.notify("channel_refused", channel=channel, status=status)

    def release(self, holder: bytes, ticket: Ticket | None = None) -> None:
        """Take all channels of a holder back, once ``ticket`` is durable."""
        for channel in self._by_holder.pop(holder, []):
            row = self._rows.pop(channel)
            self._ready.discard(channel)
            self._ctx.persist(Delete("channels", channel))
            self._ctx.after(ticket, UnregisterChannel(row.service, channel))

    def holder(self, channel: ChannelId) -> bytes | None:
        """Whose channel that is."""
        row = self._rows.get(channel)
        return None if row is None else row.holder

    def holders(self) -> list[bytes]:
        """Everybody who has a channel."""
        return list(self._by_holder)

    def service(self, channel: ChannelId) -> str | None:
        """The push service of that channel."""
        row = self._rows.get(channel)
        return None if row is None else row.service

    def decrypt(self, channel: ChannelId, body: bytes) -> bytes:
        """What came on that channel. Raises MalformedMessage."""
        row = self._rows.get(channel)
        if row is None:
            raise MalformedMessage("a push on a channel that is not ours")
        return self._ctx.suite.decrypt_push(row.seed, body)

    # -- granting -----------------------------------------------------------------------------------------------------

    def is_ready(self, holder: bytes) -> bool:
        """Whether something could be granted to that holder now."""
        return any(channel in self._ready for channel in self._by_holder.get(holder, ()))

    def needs_top_up(self, holder: bytes) -> bool:
        """Whether what the holder has been given ends too soon."""
        return any(
            self._rows[channel].granted_until < self._ctx.now.unix + TOP_UP_SPAN
            for channel in self._by_holder.get(holder, ())
            if channel in self._ready
        )

    def grant(self, holder: bytes, generation: int, span: float = GRANT_SPAN) -> Grant | None:
        """Subscriptions and capabilities for that holder; None if no channel of it is ready."""
        subscriptions = []
        until = int(self._ctx.now.unix + span)
        for channel in self._by_holder.get(holder, ()):
            if channel in self._ready:
                row = self._rows[channel]
                subscriptions.append(self._subscription(row, span))
                if row.granted_until < until:
                    self._rows[channel] = replace(row, granted_until=until)
                    self._ctx.persist(Put("channels", channel, encode(self._rows[channel])))
        return Grant(generation, tuple(subscriptions)) if subscriptions else None

    def _subscription(self, row: ChannelRow, span: float) -> SubscriptionPart:
        keys = self._ctx.suite.channel_keys(row.seed)
        prefix, tail = split_endpoint(row.endpoint)
        audience = vapid.origin_of(row.endpoint)
        subject = self._ctx.config.push.subject
        written = "" if subject == vapid.DEFAULT_SUBJECT else subject
        capabilities = tuple(
            CapabilityPart(exp, self._ctx.suite.issue_capability(row.seed, audience, exp, subject), written)
            for exp in expiries(self._ctx.now.unix, span)
        )
        return SubscriptionPart(prefix, tail, keys.p256dh, keys.auth, keys.vapid_key, capabilities)

    # -- view ---------------------------------------------------------------------------------------------------------

    def view(self) -> list[dict[str, object]]:
        """For ``node.status``."""
        result: list[dict[str, object]] = []
        for service in self._services.values():
            state = "off" if not self.active else "connected" if service.connected else "connecting"
            if state == "connecting" and service.detail != "not connected yet":
                state = "down"
            count = sum(1 for row in self._rows.values() if row.service == service.name)
            result.append({"service": service.name, "state": state, "detail": service.detail, "channels": count})
        return result
