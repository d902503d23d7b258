"""Where senders and user agents meet: a message is kept, handed to its user agent if that is here, and answered for."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog
import trio

from meshd.crypto.base64url import encode_base64url
from meshd.push.service.config import Limits
from meshd.push.service.faults import Fault, Refused
from meshd.push.service.registry import UAID_SIZE, Channel, Registration, Registry
from meshd.push.service.store import Store, StoreFailed
from meshd.rates import RateLimiter, source_key

# Policy
_VERSION_SIZE = 16  # 128 bits: whoever knows a message's name can cancel it
_RETRY_STORE = 120.0  # as autopush's Retry-After

log = structlog.get_logger("meshd.push.service")


@dataclass(frozen=True, slots=True)
class Push:
    """A message from a sender. ``ttl`` in whole seconds; ``body`` is encrypted for the user agent, or empty."""

    ttl: int
    topic: str | None
    body: bytes = field(repr=False)


class Outlet(Protocol):
    """A connected user agent, as ``Delivery`` sees it. Neither method waits."""

    def offer(self, channel_id: bytes, version: str, body: bytes, *, stored: bool) -> None:
        """Send the message now, or leave it to the store when ``stored`` and this is no time for it."""

    def end(self, reason: str) -> None:
        """Close; ``reason`` is told: "Ghost" when a newer connection of the same user agent has taken over."""


def pseudonym(secret: bytes) -> str:
    """What stands in logs for an id that must not be known: equal ids look equal, and that is all."""
    return hashlib.sha256(b"log" + secret).hexdigest()[:12]


class Delivery:
    """Everything both sides share. ``clock`` gives Unix seconds. Safe to call from one trio thread only."""

    def __init__(self, registry: Registry, store: Store, limits: Limits, clock: Callable[[], float]) -> None:
        self.registry = registry
        self.limits = limits
        self.clock = clock
        self.store = store
        self.counters: Counter[str] = Counter()
        self._outlets: dict[bytes, Outlet] = {}
        self._newcomers = RateLimiter(limits.newcomer_rate, limits.newcomer_burst, limits.max_rate_entries)

    @property
    def connected(self) -> int:
        """How many user agents are connected."""
        return len(self._outlets)

    def connect(self, wanted: bytes | None, outlet: Outlet) -> bytes:
        """The id the user agent goes by from now on: ``wanted`` when that is known, else a new one."""
        uaid = wanted if wanted is not None and self.registry.knows(wanted) else secrets.token_bytes(UAID_SIZE)
        older = self._outlets.get(uaid)
        if older is not None:
            self.counters["user_agent_ghosted"] += 1
            log.warning("user_agent_ghosted", user_agent=pseudonym(uaid))
            older.end("Ghost")
        self._outlets[uaid] = outlet
        self.counters["user_agent_connected"] += 1
        self._note_seen(uaid)
        log.info("user_agent_connected", user_agent=pseudonym(uaid), known=uaid == wanted)
        return uaid

    def disconnect(self, uaid: bytes, outlet: Outlet) -> None:
        """The connection has ended; a newer one of the same user agent stays."""
        if self._outlets.get(uaid) is outlet:
            del self._outlets[uaid]
            self._note_seen(uaid)
            log.info("user_agent_disconnected", user_agent=pseudonym(uaid))

    async def register(self, uaid: bytes, channel_id: bytes, key: bytes, source: str) -> Registration:
        """Durable when it returns with status 200. ``source`` is the address that the user agent has."""
        now = self.clock()
        if self.store.congested:
            return Registration(500, complaint="the service is busy; try again later")
        if not self.registry.knows(uaid) and self._newcomers.take(source_key(source), trio.current_time()) > 0:
            self.counters["refused_newcomer"] += 1
            return Registration(500, complaint="too many new user agents from your address; try again later")
        registration = self.registry.register(uaid, channel_id, key, now)
        if registration.is_new and registration.channel is not None:
            self.store.add_channel(registration.channel, now)
            try:
                await self.store.commit()
            except StoreFailed as error:
                self._store_failed(error)
                self.registry.unregister(uaid, channel_id)
                return Registration(500, complaint="the service cannot write the channel down now")
        self.counters[f"register_{registration.status}"] += 1
        return registration

    async def unregister(self, uaid: bytes, channel_id: bytes) -> bool:
        """The channel is gone for senders at once; True when that is durable too."""
        self.counters["unregister"] += 1
        if self.registry.unregister(uaid, channel_id):
            self.store.remove_channel(uaid, channel_id)
            try:
                await self.store.commit()
            except StoreFailed as error:
                self._store_failed(error)
                return False
        return True

    async def accept(self, channel: Channel, push: Push) -> str:
        """Take the message over: gives its version once it is as durable as its TTL asks. Raises Refused."""
        version = encode_base64url(secrets.token_bytes(_VERSION_SIZE))
        outlet = self._outlets.get(channel.uaid)
        if push.ttl == 0:  # "now or never", RFC 8030 section 5.2
            if outlet is not None:
                outlet.offer(channel.channel_id, version, push.body, stored=False)
            self.counters["accepted_volatile" if outlet is not None else "dropped_absent"] += 1
            return version
        if self.store.congested:
            raise Refused(Fault.UNAVAILABLE, "store_congested", retry_after=_RETRY_STORE)
        self._store_message(channel, push, version, connected=outlet is not None)
        # The user agent gets it before it is on disk: it may then come twice, which Web Push allows, but sooner.
        if outlet is not None:
            outlet.offer(channel.channel_id, version, push.body, stored=True)
        try:
            await self.store.commit()
        except StoreFailed as error:
            self._store_failed(error)
            self.registry.remove(version)
            raise Refused(Fault.UNAVAILABLE, "store_failed", retry_after=_RETRY_STORE) from None
        self.counters["accepted_stored"] += 1
        return version

    def acknowledge(self, uaid: bytes, version: str, code: int) -> None:
        """The user agent has done with the message, well or badly."""
        self.counters[f"acknowledged_{code if code in (100, 101, 102) else 'other'}"] += 1
        if self.registry.remove(version, uaid):
            self.store.remove_message(version)

    def cancel(self, version: str) -> bool:
        """The sender takes the message back. False when it is not waiting (any more)."""
        if not self.registry.remove(version):
            return False
        self.store.remove_message(version)
        self.counters["cancelled"] += 1
        return True

    def keep_house(self) -> None:
        """Drop expired messages and user agents that were away too long."""
        now = self.clock()
        if not self.store.is_writable:
            self.store.probe()  # whoever looks at /healthz may keep everybody away, and then nothing else is written
        for uaid in self._outlets:
            self.registry.seen(uaid, now)
        for version in self.registry.expire(now):
            self.store.remove_message(version)
            self.counters["expired"] += 1
        for uaid in self.registry.forget_absent(now):
            self.store.drop_user_agent(uaid)
            self.counters["user_agent_forgotten"] += 1

    def _store_message(self, channel: Channel, push: Push, version: str, *, connected: bool) -> None:
        expires = self.clock() + push.ttl
        try:
            message, replaced = self.registry.store(channel, version, push.topic, expires, connected=connected)
        except Refused as refused:
            if refused.fault is Fault.RESET:
                log.warning("user_agent_reset", user_agent=pseudonym(channel.uaid))
                self.store.drop_user_agent(channel.uaid)
            raise
        if replaced is not None:
            self.store.remove_message(replaced.version)
            self.counters["replaced"] += 1
        self.store.add_message(message, push.body)

    def _note_seen(self, uaid: bytes) -> None:
        now = self.clock()
        if self.registry.seen(uaid, now):
            self.store.seen(uaid, now)

    def _store_failed(self, error: StoreFailed) -> None:
        self.counters["store_failed"] += 1
        log.error("store_failed", error=str(error))
