"""What the user agents of all kinds of services share: what they are given, and how they come back after a loss."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from meshd.config import PushConfig
from meshd.core.events import (
    ChannelRefused,
    ChannelRegistered,
    PushReceived,
    UserAgentConnected,
    UserAgentDisconnected,
)
from meshd.push.websocket import ServiceUrl

# Policy
FIRST_RETRY_INTERVAL = 0.2  # seconds; a service that was restarted is found again before anybody notices
MAX_RETRY_INTERVAL = 300.0
STABLE_INTERVAL = 60.0  # a connection that lived so long ends the growth of the pauses

UserAgentEvent = UserAgentConnected | UserAgentDisconnected | ChannelRegistered | ChannelRefused | PushReceived
Deliver = Callable[[UserAgentEvent], None]
Connect = Callable[[ServiceUrl], Awaitable[trio.abc.Stream]]


@dataclass(frozen=True, slots=True)
class Ports:
    """What a user agent works with. ``connect`` opens the byte stream to a service."""

    config: PushConfig
    deliver: Deliver
    connect: Connect
    rng: random.Random
    counters: Counter[str]


def retry_delay(failures: int, rng: random.Random) -> float:
    """Seconds before the next attempt after ``failures`` earlier ones: doubling, bounded, half of it random."""
    ceiling = min(MAX_RETRY_INTERVAL, FIRST_RETRY_INTERVAL * 2.0 ** min(failures, 30))
    return ceiling * rng.uniform(0.5, 1.0)


def refused_url(url: ServiceUrl | None, config: PushConfig) -> str:
    """Why nobody may connect there, for people; '' if one may."""
    if url is None:
        return "not the address of a push service"
    if url.scheme == "ws" and url.http_origin not in config.trusted_origins:
        return f"without TLS it must be trusted: add {url.http_origin} to push.trusted_origins, or use TLS"
    return ""
