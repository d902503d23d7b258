"""Our push subscriptions at each push service, as the two user agents that we are there.

A channel exists from the moment it is wanted; it can be granted once the service has given it an endpoint and that is
durable. Each holder has channels of its own, so that taking a capability back is taking a channel back; where the
configuration shares one subscription, all holders have the same one (``SHARED``). ``holders`` knows who holds what.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from meshd.core.commands import CloseUserAgent, Delete, OpenUserAgent, Put, RegisterChannel, UnregisterChannel
from meshd.core.context import Context
from meshd.core.facts import ChannelReady
from meshd.core.state import ChannelRow, Stored, rows
from meshd.crypto import vapid
from meshd.errors import LocalMisuse, MalformedMessage
from meshd.ids import CHANNEL_ID_SIZE, PEER_ID_SIZE, ChannelId, Ticket
from meshd.push_services import Traits, parse_service
from meshd.wire.codec import encode
from meshd.wire.endpoint import split_endpoint
from meshd.wire.parts import MAX_SUBSCRIPTIONS, CapabilityPart, SubscriptionPart

# Specification (autopush: the status of a registration whose channel is there with another key)
_CONFLICT = 409

# Policy
MAX_CHANNELS = 512  # per node; a service forgets nobody for that, but each costs a row and a registration
REGISTER_RETRY_INTERVAL = 300.0  # seconds until what a service refused is asked for again
SHARED = b"shared\0\0"  # stands for every holder, where one subscription serves all

Agent = tuple[str, bool]  # a push service, and whether it is our user agent for newcomers


@dataclass(slots=True)
class _UserAgent:
    """What we are to one push service."""

    uaid: str = field(default="", repr=False)
    open: bool = False
    connected: bool = False
    detail: str = "not connected yet"


class Channels:
    """All of this node's channels, whoever holds them."""

    __slots__ = ("_agents", "_ctx", "_current", "_ready", "_rows", "_substitutes", "active", "services")

    def __init__(self, ctx: Context, stored: Stored) -> None:
        self._ctx = ctx
        self.services = tuple(dict.fromkeys(ctx.config.push.services))
        if len(self.services) > MAX_SUBSCRIPTIONS:
            raise LocalMisuse(f"{len(self.services)} push services; a token has room for {MAX_SUBSCRIPTIONS}")
        uaids = stored.get("user_agents", {})
        self._agents = {
            (name, newcomers): _UserAgent(uaids.get(_key(name, newcomers), b"").decode(errors="replace"))
            for name in self.services
            for newcomers in (False, True)
        }
        self._rows = {
            ChannelId(key): row
            for key, row in rows(stored, "channels", ChannelRow).items()
            if row.service in self.services
        }
        self._ready = {channel for channel, row in self._rows.items() if row.endpoint}
        self._substitutes: set[ChannelId] = set()  # for channels whose ids were taken
        self._current: dict[tuple[bytes, bool], dict[str, ChannelId]] = {}
        for channel, row in self._rows.items():
            if not row.retired:
                self._current.setdefault((row.holder, bool(row.newcomer)), {})[row.service] = channel
        self.active = False

    # -- the user agents ----------------------------------------------------------------------------------------------

    def activate(self) -> None:
        """Be reachable by push from now on. A node without a mesh talks to no push service.

        The user agent for newcomers is there only while there are channels for it.
        """
        if not self.active:
            self.active = True
            for agent in self._agents:
                if not agent[1] or self._is_used(agent):
                    self._open(agent)

    def _open(self, agent: Agent) -> None:
        name, newcomers = agent
        if self.active and not self._agents[agent].open:
            self._agents[agent].open = True
            self._ctx.do(OpenUserAgent(name, self._agents[agent].uaid, newcomers))

    def _close(self, agent: Agent, detail: str, ticket: Ticket | None = None) -> None:
        known = self._agents[agent]
        if known.open:
            known.open, known.connected, known.detail = False, False, detail
            self._ctx.after(ticket, CloseUserAgent(*agent))

    def deactivate(self, ticket: Ticket | None = None) -> None:
        """Take every channel back and disconnect, once ``ticket`` is durable."""
        for channel in list(self._rows):
            self.take_back(channel, ticket)
        if self.active:
            self.active = False
            for agent in self._agents:
                self._close(agent, "no mesh", ticket)

    def pause(self) -> None:
        """Disconnect, and keep every channel; until ``activate``."""
        self.active = False
        for agent in self._agents:
            self._close(agent, "another daemon has this node's identity")

    def close_idle(self) -> None:
        """Leave the user agents for newcomers that have no channel left."""
        for agent in self._agents:
            if agent[1] and not self._is_used(agent):
                for channel in self._channels_of(agent):
                    self.take_back(channel)
                self._close(agent, "")

    def _is_used(self, agent: Agent) -> bool:
        """Whether it has channels, but for that of our own tests."""
        return any(self._rows[channel].holder != self._ctx.own_id for channel in self._channels_of(agent))

    def start_over(self, agent: Agent) -> None:
        """Be another user agent there: this one's subscriptions are dead, though the service does not say so."""
        if self._agents[agent].open:
            self._agents[agent].connected = False
            self._ctx.do(CloseUserAgent(*agent))
            self._ctx.do(OpenUserAgent(agent[0], "", agent[1]))

    @property
    def receiving(self) -> bool:
        """Whether some push service is connected."""
        return any(agent.connected for agent in self._agents.values())

    def is_connected(self, agent: Agent) -> bool:
        """Whether that user agent is connected."""
        return self._agents[agent].connected

    def open_agents(self) -> list[Agent]:
        """The user agents that are to be connected."""
        return [agent for agent, known in self._agents.items() if known.open]

    def on_connected(self, agent: Agent, uaid: str) -> bool:
        """The service knows us. True if it has forgotten our channels: every endpoint we gave away is dead."""
        known = self._agents.get(agent)
        if known is None or not known.open:
            return False
        known.connected, known.detail = True, ""
        lost = known.uaid != uaid and self._begin_anew(agent, uaid)
        self._register_missing(agent)
        if lost:
            self._ctx.count("subscriptions_lost")
            self._ctx.notify("subscriptions_lost", service=agent[0])
        return lost

    def _begin_anew(self, agent: Agent, uaid: str) -> bool:
        """New channels for all whose channels are gone; a token cannot be given one. True if there were any."""
        self._agents[agent].uaid = uaid
        changes: list[Put | Delete] = [Put("user_agents", _key(*agent), uaid.encode())]
        dead = [channel for channel in self._channels_of(agent) if self._rows[channel].endpoint]
        for channel in dead:
            row = self._rows.pop(channel)
            self._forget_current(channel, row)
            self._ready.discard(channel)
            changes.append(Delete("channels", channel))
            if not row.retired and (len(row.holder) == PEER_ID_SIZE or row.holder == SHARED):
                changes.append(self._add(agent, row.holder))
        self._ctx.persist(*changes)
        return bool(dead)

    def on_disconnected(self, agent: Agent, reason: str) -> None:
        """The receiver keeps trying; what is sent meanwhile waits at the service."""
        known = self._agents.get(agent)
        if known is not None and known.open:
            known.connected, known.detail = False, reason

    def _channels_of(self, agent: Agent) -> list[ChannelId]:
        return [channel for channel, row in self._rows.items() if (row.service, bool(row.newcomer)) == agent]

    # -- the channels -------------------------------------------------------------------------------------------------

    @property
    def is_shared(self) -> bool:
        """Whether one subscription serves all holders."""
        return self._ctx.config.push.subscription == "shared"

    def _holder_key(self, holder: bytes) -> bytes:
        return SHARED if self.is_shared and holder != self._ctx.own_id else holder

    def has_room(self, holder: bytes, newcomer: bool) -> bool:
        """Whether what ``ensure`` would make for that holder still fits."""
        there = self._current.get((self._holder_key(holder), newcomer), {})
        return len(self._rows) + len(self.services) - len(there) <= MAX_CHANNELS

    def ensure(self, holder: bytes, newcomer: bool) -> None:
        """Have a channel for that holder at every service."""
        key = self._holder_key(holder)
        for service in self.services:
            if service not in self._current.get((key, newcomer), {}):
                if len(self._rows) >= MAX_CHANNELS:
                    self._ctx.count("channels_limit")
                    return
                self._make((service, newcomer), key)

    def _make(self, agent: Agent, key: bytes) -> ChannelId:
        made = self._add(agent, key)
        channel = ChannelId(made.key)
        self._ctx.persist(made)
        self._open(agent)
        if self._agents[agent].connected:
            self._register(channel, self._rows[channel])
        return channel

    def _add(self, agent: Agent, key: bytes) -> Put:
        """A channel that is to be registered. Gives the change to persist."""
        channel = ChannelId(self._uuid())
        row = self._rows[channel] = ChannelRow(agent[0], self._ctx.rng.randbytes(32), key, "", 0, int(agent[1]))
        self._current.setdefault((key, agent[1]), {})[agent[0]] = channel
        return Put("channels", channel, encode(row))

    def _uuid(self) -> bytes:
        """A random UUID of version 4 (RFC 9562 section 5.4), which is what autopush wants for a channelID."""
        raw = bytearray(self._ctx.rng.randbytes(CHANNEL_ID_SIZE))
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        return bytes(raw)

    def _register(self, channel: ChannelId, row: ChannelRow) -> None:
        key = self._ctx.suite.uncompressed_vapid_key(row.seed)
        self._ctx.do(RegisterChannel(row.service, channel, key, bool(row.newcomer)))

    def _register_missing(self, agent: Agent) -> None:
        for channel in self._channels_of(agent):
            row = self._rows[channel]
            if not row.endpoint and not row.retired:
                self._register(channel, row)

    def on_registered(self, channel: ChannelId, endpoint: str) -> None:
        """The service has given it an endpoint."""
        row = self._rows.get(channel)
        if row is None or row.retired:
            return
        try:
            vapid.origin_of(endpoint)
        except MalformedMessage:
            self._ctx.count("channels_refused")
            return
        self._rows[channel] = replace(row, endpoint=endpoint)
        self._ready.add(channel)
        ticket = self._ctx.persist(Put("channels", channel, encode(self._rows[channel])))
        self._ctx.state_after(ticket, ChannelReady(channel))

    def on_refused(self, channel: ChannelId, status: int) -> None:
        """The service would not. Wanted all the same: under another id if this one is taken, else again in a while.

        A second random id that is taken, too, is no coincidence: a service that says so of all of them has to wait.
        """
        self._ctx.count("channels_refused")
        self._ctx.notify("channel_refused", channel=channel, status=status)
        row = self._rows.get(channel)
        if row is None:
            return
        if status == _CONFLICT and not (row.retired or row.endpoint or channel in self._substitutes):
            self._substitutes.add(self.replace(channel))
        else:
            self._ctx.timers.set_at_latest(
                ("register", b""), self._ctx.now.mono + self._ctx.jitter(REGISTER_RETRY_INTERVAL)
            )

    def on_register_timer(self) -> None:
        """Ask again for what was refused."""
        for agent, known in self._agents.items():
            if known.connected:
                self._register_missing(agent)

    def renew(self, channel: ChannelId, keep_until: float, held_until: float) -> None:
        """A new channel, with new keys, in its place. The old one is taken back some time after ``keep_until``.

        ``held_until``: when the last capability for the old one ends. Unix seconds, both.
        """
        row = self._rows.get(channel)
        if row is None or row.retired:
            return
        if not row.endpoint or len(self._rows) >= MAX_CHANNELS:  # nobody can hold it, or there is no room for both
            self.replace(channel)
        else:
            self.retire(channel, keep_until, held_until)
            self._make((row.service, bool(row.newcomer)), row.holder)

    def replace(self, channel: ChannelId) -> ChannelId:
        """A new channel in its place, and nothing more of this one. Gives the new one."""
        row = self._rows[channel]
        self.take_back(channel)
        return self._make((row.service, bool(row.newcomer)), row.holder)

    def retire(self, channel: ChannelId, keep_until: float, held_until: float) -> None:
        """Not granted any more, but still listened to until ``sweep`` finds it superfluous."""
        row = replace(self._rows[channel], retired=max(1, int(keep_until)), granted_until=max(0, int(held_until)))
        self._forget_current(channel, row)
        self._rows[channel] = row
        self._ctx.persist(Put("channels", channel, encode(row)))

    def take_back(self, channel: ChannelId, ticket: Ticket | None = None) -> None:
        """Unregister it, once ``ticket`` is durable: the service refuses its capabilities from then on."""
        row = self._rows.pop(channel, None)
        if row is not None:
            self._forget_current(channel, row)
            self._ready.discard(channel)
            self._ctx.persist(Delete("channels", channel))
            self._ctx.after(ticket, UnregisterChannel(row.service, channel, bool(row.newcomer)))

    def _forget_current(self, channel: ChannelId, row: ChannelRow) -> None:
        self._substitutes.discard(channel)
        key = row.holder, bool(row.newcomer)
        current = self._current.get(key, {})
        if current.get(row.service) == channel:
            del current[row.service]
            if not current:
                del self._current[key]

    # -- reading ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[tuple[ChannelId, ChannelRow]]:
        """All of them, retired ones included."""
        return iter(list(self._rows.items()))

    def row(self, channel: ChannelId) -> ChannelRow | None:
        """What we know of that channel, if it is ours."""
        return self._rows.get(channel)

    def current(self, holder: bytes, newcomer: bool) -> tuple[ChannelId, ...]:
        """The channels that holder is to have, in the order of the services."""
        found = self._current.get((self._holder_key(holder), newcomer), {})
        return tuple(found[service] for service in self.services if service in found)

    def own(self, agent: Agent) -> ChannelId | None:
        """The channel of that user agent that only we push to, made if it is not there; None if there is no room."""
        key = self._ctx.own_id, agent[1]
        if agent[0] not in self._current.get(key, {}) and len(self._rows) < MAX_CHANNELS:
            self._make(agent, key[0])
        return self._current.get(key, {}).get(agent[0])

    def ready(self, holder: bytes, newcomer: bool) -> tuple[ChannelId, ...]:
        """Those of them that could be granted now."""
        return tuple(channel for channel in self.current(holder, newcomer) if channel in self._ready)

    def traits(self, channel: ChannelId) -> Traits:
        """What the service of that channel, which is ours, can do."""
        return parse_service(self._rows[channel].service).traits

    @property
    def has_lasting(self) -> bool:
        """Whether one of the services takes capabilities that serve for longer than ``MAX_SPAN``."""
        return any(parse_service(service).traits.lasting for service in self.services)

    def is_ready(self, channel: ChannelId) -> bool:
        """Whether the service has given it an endpoint."""
        return channel in self._ready

    def decrypt(self, channel: ChannelId, body: bytes) -> bytes:
        """What came on that channel. Raises MalformedMessage."""
        row = self._rows.get(channel)
        if row is None:
            raise MalformedMessage("a push on a channel that is not ours")
        return self._ctx.suite.decrypt_push(row.seed, body)

    def subscription(self, channel: ChannelId, exps: list[int]) -> SubscriptionPart:
        """What its holder is given, with capabilities of these expiries (Unix seconds). The channel must be ready."""
        row = self._rows[channel]
        keys = self._ctx.suite.channel_keys(row.seed)
        prefix, tail = split_endpoint(row.endpoint)
        audience = vapid.origin_of(row.endpoint)
        subject = self._ctx.config.push.subject
        written = "" if subject == vapid.DEFAULT_SUBJECT else subject
        capabilities = tuple(
            CapabilityPart(exp, self._ctx.suite.issue_capability(row.seed, audience, exp, subject), written)
            for exp in exps
        )
        return SubscriptionPart(prefix, tail, keys.p256dh, keys.auth, keys.vapid_key, capabilities)

    def view(self) -> list[dict[str, object]]:
        """For ``node.status``: by service, as the worse off of the two user agents there."""
        result: list[dict[str, object]] = []
        for service in self.services:
            known = [self._agents[service, newcomers] for newcomers in (False, True)]
            down = [agent for agent in known if agent.open and not agent.connected]
            state = "off" if not self.active else "connected" if not down else "connecting"
            detail = down[0].detail if down else "" if self.active else known[0].detail
            if state == "connecting" and detail != "not connected yet":
                state = "down"
            count = sum(1 for row in self._rows.values() if row.service == service)
            lacks = parse_service(service).traits.missing()
            result.append({"service": service, "state": state, "detail": detail, "channels": count, "limits": lacks})
        return result


def _key(service: str, newcomers: bool) -> bytes:
    """The key of a user agent's row."""
    return f"{service}/newcomers".encode() if newcomers else service.encode()
