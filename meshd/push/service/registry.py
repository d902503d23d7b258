"""Who is known to the push service and what waits for whom: every decision, no I/O. The time comes in (Unix seconds).

Kept in memory whole (the bodies of messages excepted), so that a request costs no look at the disk. ``store`` holds
the same on disk and fills the registry at start.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from meshd.crypto.base64url import decode_base64url, encode_base64url
from meshd.errors import MalformedMessage
from meshd.push.service.config import Limits
from meshd.push.service.faults import Fault, Refused

# Policy
UAID_SIZE = 16  # as autopush: 128 random bits
SECRET_SIZE = 32
_HANDLE_SIZE = 24  # 192 bits nobody can guess (UnifiedPush asks for 160)
_TAG_SIZE = 16  # tells "never was" (404) from "is no more" (410) without a list of the dead
_TOKEN_SIZE = _HANDLE_SIZE + _TAG_SIZE  # 54 characters in the endpoint; autopush's Fernet tokens have 160
_RETRY_FULL = 120.0  # as autopush's Retry-After
_RETRY_BUSY = 5.0  # a connected user agent that acknowledges at all does so sooner
_RETRY_CHANNEL = 300.0  # its user agent is away, nobody knows for how long


@dataclass(frozen=True, slots=True)
class Channel:
    """A subscription. ``key_hash`` is the SHA-256 of the VAPID key (65 bytes) that it is bound to."""

    uaid: bytes = field(repr=False)
    channel_id: bytes
    key_hash: bytes
    handle: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stored:
    """A message that waits for its user agent, without its body. ``version`` names it to both sides."""

    version: str
    uaid: bytes = field(repr=False)
    channel_id: bytes
    topic: str | None
    expires: float


@dataclass(slots=True)
class _UserAgent:
    last_seen: float
    channels: dict[bytes, Channel] = field(default_factory=dict)
    stored: dict[str, Stored] = field(default_factory=dict)  # in the order of their arrival


@dataclass(frozen=True, slots=True)
class Registration:
    """``status`` as in the answer; ``channel`` only with 200; ``is_new`` when there is something to write down."""

    status: int
    channel: Channel | None = None
    is_new: bool = False
    complaint: str = ""


class Registry:
    """``secret`` (32 bytes) makes endpoints: the same secret, user agent, channel and key give the same endpoint."""

    def __init__(self, secret: bytes, limits: Limits) -> None:
        self._secret = secret
        self._limits = limits
        self._user_agents: dict[bytes, _UserAgent] = {}
        self._channels: dict[bytes, Channel] = {}  # by handle
        self._stored: dict[str, Stored] = {}

    def restore(
        self,
        user_agents: Iterable[tuple[bytes, float]],
        channels: Iterable[tuple[bytes, bytes, bytes]],
        messages: Iterable[Stored],
    ) -> None:
        """Fill an empty registry: (uaid, last seen), (uaid, channel id, key hash), messages in their order."""
        for uaid, last_seen in user_agents:
            self._user_agents[uaid] = _UserAgent(last_seen)
        for uaid, channel_id, key_hash in channels:
            self._add(self._user_agents[uaid], self._channel(uaid, channel_id, key_hash))
        for message in messages:
            self._user_agents[message.uaid].stored[message.version] = message
            self._stored[message.version] = message

    def knows(self, uaid: bytes) -> bool:
        """Whether the user agent has, or had in this run, a channel."""
        return uaid in self._user_agents

    def counts(self) -> tuple[int, int, int]:
        """User agents, channels, stored messages."""
        return len(self._user_agents), len(self._channels), len(self._stored)

    def seen(self, uaid: bytes, now: float) -> bool:
        """Note that the user agent is or was here just now. False when it is not known (and so not kept).

        A clock that was set back does not make anybody look absent for long.
        """
        user_agent = self._user_agents.get(uaid)
        if user_agent is None:
            return False
        user_agent.last_seen = max(user_agent.last_seen, now)
        return True

    def register(self, uaid: bytes, channel_id: bytes, key: bytes, now: float) -> Registration:
        """A channel bound to the VAPID key ``key`` (65 bytes). The same again gives the same endpoint."""
        key_hash = hashlib.sha256(key).digest()
        user_agent = self._user_agents.get(uaid)
        if user_agent is not None and (known := user_agent.channels.get(channel_id)) is not None:
            if hmac.compare_digest(known.key_hash, key_hash):
                return Registration(200, known)
            return Registration(409, complaint="the channel is registered with another key; unregister it first")
        if len(self._channels) >= self._limits.max_channels:
            return Registration(500, complaint="the service has no room for another channel")
        if user_agent is None:
            if len(self._user_agents) >= self._limits.max_user_agents:
                return Registration(500, complaint="the service has no room for another user agent")
            user_agent = self._user_agents[uaid] = _UserAgent(now)
        if len(user_agent.channels) >= self._limits.max_channels_per_user_agent:
            return Registration(500, complaint="too many channels; unregister one first")
        channel = self._channel(uaid, channel_id, key_hash)
        self._add(user_agent, channel)
        return Registration(200, channel, is_new=True)

    def unregister(self, uaid: bytes, channel_id: bytes) -> bool:
        """End the subscription and drop what waits for it. False when there is none."""
        user_agent = self._user_agents.get(uaid)
        channel = user_agent.channels.pop(channel_id, None) if user_agent is not None else None
        if user_agent is None or channel is None:
            return False
        del self._channels[channel.handle]
        for message in [message for message in user_agent.stored.values() if message.channel_id == channel_id]:
            self.remove(message.version)
        return True

    def drop(self, uaid: bytes) -> None:
        """Forget the user agent: its endpoints are gone for good."""
        user_agent = self._user_agents.pop(uaid, None)
        if user_agent is not None:
            for channel in user_agent.channels.values():
                del self._channels[channel.handle]
            for version in user_agent.stored:
                del self._stored[version]

    def token(self, channel: Channel) -> str:
        """The last part of the channel's endpoint."""
        return encode_base64url(channel.handle + self._tag(channel.handle))

    def resolve(self, token: str) -> Channel:
        """The channel of an endpoint. Raises Refused: NOT_FOUND for what never was one, GONE for what was."""
        try:
            raw = decode_base64url(token)
        except MalformedMessage:
            raise Refused(Fault.NOT_FOUND) from None
        handle, tag = raw[:_HANDLE_SIZE], raw[_HANDLE_SIZE:]
        if len(raw) != _TOKEN_SIZE or not hmac.compare_digest(tag, self._tag(handle)):
            raise Refused(Fault.NOT_FOUND)
        channel = self._channels.get(handle)
        if channel is None:
            raise Refused(Fault.GONE)
        return channel

    def store(
        self, channel: Channel, version: str, topic: str | None, expires: float, *, connected: bool
    ) -> tuple[Stored, Stored | None]:
        """Keep a message; gives it, and the one with the same Topic that it replaces. Raises Refused.

        CHANNEL_FULL: too much waits in this channel. RESET: the user agent is away and too much waits for it; it has
        been dropped. BUSY: it is here and slow.
        """
        user_agent = self._user_agents[channel.uaid]
        replaced = self._same_topic(user_agent, channel, topic)
        if replaced is not None:
            self.remove(replaced.version)
        elif self._waiting_in(user_agent, channel) >= self._limits.max_stored_per_channel:
            raise Refused(Fault.CHANNEL_FULL, retry_after=_RETRY_BUSY if connected else _RETRY_CHANNEL)
        elif len(user_agent.stored) >= self._limits.max_stored_per_user_agent:
            if connected:
                raise Refused(Fault.BUSY, retry_after=_RETRY_BUSY)
            self.drop(channel.uaid)
            raise Refused(Fault.RESET)
        elif len(self._stored) >= self._limits.max_stored_messages:
            raise Refused(Fault.UNAVAILABLE, "store_full", retry_after=_RETRY_FULL)
        message = Stored(version, channel.uaid, channel.channel_id, topic, expires)
        user_agent.stored[version] = message
        self._stored[version] = message
        return message, replaced

    def remove(self, version: str, uaid: bytes | None = None) -> bool:
        """Drop a message: cancelled, not written, or acknowledged by its owner ``uaid``. False if there is none."""
        message = self._stored.get(version)
        if message is None or (uaid is not None and message.uaid != uaid):
            return False
        del self._stored[version]
        del self._user_agents[message.uaid].stored[version]
        return True

    def waiting(self, uaid: bytes, now: float) -> Iterator[Stored]:
        """What waits for the user agent and has not expired, oldest first."""
        user_agent = self._user_agents.get(uaid)
        if user_agent is not None:
            yield from (message for message in user_agent.stored.values() if message.expires > now)

    def holds(self, version: str) -> bool:
        """Whether the message is still waiting."""
        return version in self._stored

    def expire(self, now: float) -> list[str]:
        """Drop what is past its TTL; gives the versions."""
        expired = [message.version for message in self._stored.values() if message.expires <= now]
        for version in expired:
            self.remove(version)
        return expired

    def forget_absent(self, now: float) -> list[bytes]:
        """Drop user agents that were away too long; gives their ids."""
        absent = [
            uaid
            for uaid, user_agent in self._user_agents.items()
            if now - user_agent.last_seen > self._limits.max_absence
        ]
        for uaid in absent:
            self.drop(uaid)
        return absent

    def _add(self, user_agent: _UserAgent, channel: Channel) -> None:
        user_agent.channels[channel.channel_id] = channel
        self._channels[channel.handle] = channel

    def _channel(self, uaid: bytes, channel_id: bytes, key_hash: bytes) -> Channel:
        handle = hmac.digest(self._secret, b"handle" + uaid + channel_id + key_hash, "sha256")[:_HANDLE_SIZE]
        return Channel(uaid, channel_id, key_hash, handle)

    def _tag(self, handle: bytes) -> bytes:
        return hmac.digest(self._secret, b"tag" + handle, "sha256")[:_TAG_SIZE]

    @staticmethod
    def _waiting_in(user_agent: _UserAgent, channel: Channel) -> int:
        return sum(message.channel_id == channel.channel_id for message in user_agent.stored.values())

    @staticmethod
    def _same_topic(user_agent: _UserAgent, channel: Channel, topic: str | None) -> Stored | None:
        if topic is None:
            return None
        for message in user_agent.stored.values():
            if message.topic == topic and message.channel_id == channel.channel_id:
                return message
        return None
