"""What the push service can be told, and every limit it keeps."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from meshd.crypto.vapid import origin_of
from meshd.errors import ConfigError, MalformedMessage

# Specification
MAX_MESSAGE_SIZE = 4096  # RFC 8030 section 7.2: no push service may refuse less

# Policy: where autopush has a number of its own, it is the same number here, so that its clients find what they know.
DEFAULT_LISTEN = "127.0.0.1:8085"
_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds, rates in requests per second. Each can be set: ``--limit NAME=NUMBER``."""

    max_connections: int = 4096  # ~25 KB each
    max_connections_per_source: int = 1024  # one address; many user agents behind one NAT are normal
    max_user_agents: int = 20_000  # with at least one channel; others are not kept
    max_channels: int = 100_000  # of all user agents; ~600 bytes each in memory
    max_channels_per_user_agent: int = 512  # a node has one for each holder and token
    max_stored_messages: int = 100_000
    max_stored_per_user_agent: int = 150  # autopush's msg_limit: the next one resets an absent user agent
    max_database_size: int = 1 << 30
    max_pending_writes: int = 10_000  # waiting for the disk
    commit_interval: float = 0.005  # between two transactions: what comes within it is written as one
    max_header_size: int = 16 << 10
    max_websocket_message_size: int = 64 << 10  # an acknowledgement of 150 messages has 15 KB
    max_outbox_size: int = 256 << 10  # waiting to be read by one user agent
    max_batch_messages: int = 10  # stored messages on their way before all are acknowledged, as autopush
    max_ttl: float = 30 * _DAY  # as autopush
    max_absence: float = 60 * _DAY  # after it a user agent is forgotten, as autopush
    hello_timeout: float = 5.0  # as autopush
    request_timeout: float = 10.0  # for the whole of a request to arrive
    keep_alive_timeout: float = 75.0  # between two requests
    send_timeout: float = 10.0  # a reader that takes nothing for so long is gone
    close_timeout: float = 1.0  # for the answer to our closing
    ping_interval: float = 300.0  # of silence, then a WebSocket ping, as autopush
    pong_timeout: float = 10.0
    min_ping_interval: float = 45.0  # a user agent that pings oftener is closed, as autopush
    endpoint_rate: float = 5.0
    endpoint_burst: int = 200  # above max_stored_per_user_agent, so that a flood is met by that limit first
    source_rate: float = 200.0
    source_burst: int = 2000
    newcomer_rate: float = 0.2  # user agents not known before, by source: the room for them is everybody's
    newcomer_burst: int = 200
    user_agent_rate: float = 50.0  # messages on one WebSocket; more are read later
    user_agent_burst: int = 600
    max_rate_entries: int = 20_000  # endpoints and sources whose rate is remembered
    housekeeping_interval: float = 30.0  # between two looks for expired messages and absent user agents


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """``listen`` is ``host:port`` or ``[v6]:port``; port 0 lets the system choose.

    ``public_url`` (origin only) is how senders and user agents reach the service, where a proxy stands before it or
    ``listen`` names no address; without it the address listened on is used. ``stun`` is where STUN is answered, over
    UDP: ``host:port``, ``off``, or None for where ``listen`` is.
    """

    state_dir: Path
    listen: str = DEFAULT_LISTEN
    public_url: str | None = None
    stun: str | None = None
    limits: Limits = field(default_factory=Limits)


def parse_listen(listen: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[v6]:port``. Raises ConfigError."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"listen = {listen!r}: write host:port, such as {DEFAULT_LISTEN} or [::1]:8085")
    return host.removeprefix("[").removesuffix("]"), int(port)


def public_url_for(config: ServiceConfig, host: str, port: int) -> str:
    """The origin that endpoints carry, given the address that is listened on. Raises ConfigError."""
    if config.public_url is not None:
        try:
            origin = origin_of(config.public_url)
        except MalformedMessage as error:
            raise ConfigError(f"public_url = {config.public_url!r}: {error}") from None
        parts = urlsplit(config.public_url)
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ConfigError(f"public_url = {config.public_url!r}: write the origin only: {origin}")
        return origin
    if host in ("", "0.0.0.0", "::"):
        raise ConfigError("listening on every address needs public_url: senders must know one of them")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def with_limits(limits: Limits, assignments: list[str]) -> Limits:
    """``limits`` with ``NAME=NUMBER`` assignments applied. Raises ConfigError for unknown names and bad numbers."""
    kinds = {item.name: item.type for item in dataclasses.fields(Limits)}
    changes: dict[str, float | int] = {}
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        name = name.strip().replace("-", "_")
        if name not in kinds:
            close = difflib.get_close_matches(name, kinds, 1)
            raise ConfigError(f"there is no limit {name!r}" + (f"; did you mean {close[0]}?" if close else ""))
        try:
            value = int(text) if kinds[name] == "int" else float(text)
        except ValueError:
            raise ConfigError(f"limit {name}: {text!r} is not a number") from None
        if not 0 < value < float("inf"):
            raise ConfigError(f"limit {name}: {text} is not above zero")
        changes[name] = value
    return dataclasses.replace(limits, **changes)  # type: ignore[arg-type]
