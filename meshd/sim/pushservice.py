"""The simulator's push service: accepts, keeps, delivers, and fails when told to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.errors import MalformedMessage
from meshd.ids import ChannelId
from meshd.sim.suite import KeyTable
from meshd.wire.endpoint import join_endpoint

Owner = tuple[int, bool]  # a simulated machine, and whether as its user agent for newcomers

# Policy
SERVICE = "mozilla"  # one that answers no STUN, so that nobody asks it
ORIGIN = "https://push.sim"
MAX_STORED = 150  # as autopush: more, and the user agent is forgotten


@dataclass(slots=True)
class _Message:
    channel: ChannelId
    version: str
    body: bytes
    expires: float
    topic: str


@dataclass(slots=True)
class _UserAgent:
    owner: Owner | None = None  # who is connected as it
    channels: dict[ChannelId, bytes] = field(default_factory=dict)  # with the VAPID key
    stored: list[_Message] = field(default_factory=list)


class PushService:
    """One service for all nodes. ``down`` makes it refuse everybody."""

    def __init__(self, table: KeyTable) -> None:
        self._table = table
        self._agents: dict[str, _UserAgent] = {}
        self._connected: dict[Owner, str] = {}
        self._endpoints: dict[str, tuple[str, ChannelId]] = {}
        self._count = 0
        self.down = False
        self.accepted = 0
        self.accepted_by_oneself = 0  # of these, from whom they are for: tests of subscriptions

    def hello(self, owner: Owner, uaid: str, now: float) -> tuple[ev.UserAgentConnected, list[ev.Event]]:
        """A user agent connects: what it is told, and what was kept for it."""
        if uaid not in self._agents:
            self._count += 1
            uaid = hashlib.blake2b(str(self._count).encode(), digest_size=16).hexdigest()
            self._agents[uaid] = _UserAgent()
        agent = self._agents[uaid]
        self._let_go(owner)
        if agent.owner is not None:
            self._let_go(agent.owner)
        agent.owner, self._connected[owner] = owner, uaid
        agent.stored = [message for message in agent.stored if message.expires > now]
        welcome = ev.UserAgentConnected(SERVICE, uaid, owner[1])
        return welcome, [self._received(message, owner) for message in agent.stored]

    @staticmethod
    def _received(message: _Message, owner: Owner) -> ev.Event:
        return ev.PushReceived(SERVICE, message.channel, message.version, message.body, owner[1])

    def owner_of(self, uaid: str) -> Owner | None:
        """Who is connected as that user agent."""
        agent = self._agents.get(uaid)
        return None if agent is None else agent.owner

    def is_owner(self, machine: int, newcomers: bool) -> bool:
        """Whether that machine is connected as such a user agent."""
        return self._agent_of((machine, newcomers)) is not None

    def forget(self, uaid: str) -> None:
        """As a real one does with a user agent that is away for months or flooded."""
        agent = self._agents.pop(uaid, None)
        if agent is not None and agent.owner is not None:
            del self._connected[agent.owner]

    def forget_machine(self, machine: int, newcomers: bool | None = None) -> None:
        """Forget the user agents that this machine is connected as, or one of them."""
        for kind in (False, True):
            found = self._agent_of((machine, kind))
            if found is not None and newcomers in (None, kind):
                self.forget(found[0])

    def disconnect(self, machine: int, newcomers: bool | None = None) -> None:
        """That machine is gone, as one of its user agents or as both."""
        for kind in (False, True):
            if newcomers in (None, kind):
                self._let_go((machine, kind))

    def _let_go(self, owner: Owner) -> None:
        uaid = self._connected.pop(owner, None)
        if uaid is not None:
            self._agents[uaid].owner = None

    def _agent_of(self, owner: Owner) -> tuple[str, _UserAgent] | None:
        uaid = self._connected.get(owner)
        return None if uaid is None else (uaid, self._agents[uaid])

    def register(self, machine: int, command: cm.RegisterChannel) -> ev.Event | None:
        """Gives the endpoint."""
        found = self._agent_of((machine, command.newcomers))
        if found is None:
            return None
        uaid, agent = found
        agent.channels[command.channel] = command.vapid_key
        tail = hashlib.blake2b(uaid.encode() + command.channel, digest_size=48).digest()
        endpoint = join_endpoint(f"{ORIGIN}/wpush/v2/", tail)
        self._endpoints[endpoint] = (uaid, command.channel)
        return ev.ChannelRegistered(command.channel, endpoint)

    def unregister(self, machine: int, command: cm.UnregisterChannel) -> bool:
        """The endpoint is dead from now on. False if the user agent is not connected."""
        found = self._agent_of((machine, command.newcomers))
        if found is not None:
            found[1].channels.pop(command.channel, None)
        return found is not None

    def acknowledge(self, machine: int, command: cm.AcknowledgePush) -> None:
        """Forget that message."""
        found = self._agent_of((machine, command.newcomers))
        if found is not None:
            found[1].stored = [message for message in found[1].stored if message.version != command.version]

    def accept(self, command: cm.SendPush, now: float) -> tuple[int, tuple[int, ev.Event] | None]:
        """A POST: the status, and what to deliver to which machine if it is connected."""
        uaid, channel = self._endpoints.get(command.endpoint, ("", ChannelId(b"")))
        agent = self._agents.get(uaid)
        if agent is None or channel not in agent.channels:
            return 410, None
        if not self._authorized(command.authorization, agent.channels[channel], now):
            return 401, None
        if len(command.body) > 4096:
            return 413, None
        self._count += 1
        self.accepted += 1
        message = _Message(channel, str(self._count), command.body, now + command.ttl, command.topic)
        agent.stored = [
            m
            for m in agent.stored
            if m.expires > now and not (m.topic and m.topic == message.topic and agent.owner is None)
        ]
        if len(agent.stored) >= MAX_STORED:
            self.forget(uaid)
            return 410, None
        agent.stored.append(message)
        if agent.owner is None:
            return 201, None
        return 201, (agent.owner[0], self._received(message, agent.owner))

    def _authorized(self, authorization: str, key: bytes, now: float) -> bool:
        try:
            written, exp, signature, subject = authorization.split(" ", 3)
            public = bytes.fromhex(written)
        except ValueError:
            raise MalformedMessage("an authorization that the simulator has not made") from None
        seed = self._table.seed(public[1:])
        if seed is None or public[1:] != key[1:33] or not now < int(exp) <= now + 86400:
            return False
        material = b"\0".join((b"capability", seed, ORIGIN.encode(), exp.encode(), subject.encode()))
        return hashlib.blake2b(material, digest_size=64).hexdigest() == signature
