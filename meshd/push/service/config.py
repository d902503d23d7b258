"""What the push service can be told, and every limit it keeps."""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from meshd.config_checks import split_listen
from meshd.config_setting import setting
from meshd.crypto.vapid import origin_of
from meshd.errors import ConfigError, MalformedMessage

# Policy: where autopush has a number of its own, it is the same number here, so that its clients find what they know.
DEFAULT_LISTEN = "127.0.0.1:8085"
_DAY = 86400.0
_MOST = 1e9  # of anything: a number beyond is a slip of the pen

T = TypeVar("T", int, float)


def _limit(default: T, doc: str, unit: str = "") -> T:
    low = 1 if isinstance(default, int) else 1e-6
    return setting(default, doc, unit=unit, low=low, high=_MOST)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service keeps within, each by its name; on the command line `--limit NAME=NUMBER`."""

    max_connections: int = _limit(4096, "Connections at one time; further ones are answered 503. ~25 KB each.")
    max_connections_per_source: int = _limit(
        1024, "Of these from one address (IPv6: from 64 bits of one). Many user agents behind one router are normal."
    )
    max_user_agents: int = _limit(20_000, "User agents with at least one channel; others are not kept.")
    max_channels: int = _limit(100_000, "Channels of all user agents. ~600 bytes each in memory.")
    max_channels_per_user_agent: int = _limit(512, "Channels of one: a node has one for each holder and token.")
    max_stored_messages: int = _limit(100_000, "Messages that wait, of all user agents; then senders are told 503.")
    max_stored_per_user_agent: int = _limit(
        150, "Messages that wait for one user agent. The next one resets it, if it is away (autopush's `msg_limit`)."
    )
    max_stored_per_channel: int = _limit(
        50,
        "Messages that wait in one channel; then its sender is told 429. Below the former: one holder resets nobody.",
    )
    max_database_size: int = _limit(1 << 30, "Of the database; then senders are told 503.", "bytes")
    max_pending_writes: int = _limit(10_000, "Changes that wait for the disk; then senders are told 503.")
    commit_interval: float = _limit(
        0.005, "Between two transactions: what comes within it is written as one.", "seconds"
    )
    max_header_size: int = _limit(16 << 10, "Of a request without its body.", "bytes")
    max_websocket_message_size: int = _limit(
        64 << 10, "Of a message from a user agent: an acknowledgement of 150 messages has 15 KB.", "bytes"
    )
    max_outbox_size: int = _limit(
        64 << 10, "What one user agent may leave unread; what is stored waits then, what is not is dropped.", "bytes"
    )
    max_batch_messages: int = _limit(10, "Stored messages on their way before all are acknowledged, as autopush.")
    max_ttl: float = _limit(30 * _DAY, "The longest TTL; longer ones are cut, as autopush does.", "seconds")
    max_vapid_lifetime: float = _limit(
        _DAY,
        "How far ahead the JWT of a push may end. RFC 8292 says a day, and so does every other service.",
        "seconds",
    )
    max_absence: float = _limit(60 * _DAY, "After it a user agent is forgotten, as by autopush.", "seconds")
    hello_timeout: float = _limit(5.0, "For the first message of a user agent, as autopush.", "seconds")
    request_timeout: float = _limit(10.0, "For the whole of a request to arrive, and for a TLS handshake.", "seconds")
    keep_alive_timeout: float = _limit(75.0, "Between two requests on one connection.", "seconds")
    send_timeout: float = _limit(10.0, "A reader that takes nothing for so long is gone.", "seconds")
    close_timeout: float = _limit(1.0, "For the answer to our closing.", "seconds")
    ping_interval: float = _limit(300.0, "Of silence, then a WebSocket ping, as autopush.", "seconds")
    pong_timeout: float = _limit(10.0, "For the answer to it.", "seconds")
    min_ping_interval: float = _limit(45.0, "A user agent that pings oftener is closed, as by autopush.", "seconds")
    endpoint_rate: float = _limit(5.0, "Pushes to one endpoint, a second.")
    endpoint_burst: int = _limit(200, "Pushes to one endpoint at once.")
    key_rate: float = _limit(50.0, "Pushes signed with one VAPID key, a second.")
    key_burst: int = _limit(2_000, "Pushes signed with one VAPID key at once.")
    origin_rate: float = _limit(50.0, "Pushes by pages of one origin (`Origin` header), a second.")
    origin_burst: int = _limit(2_000, "Pushes by pages of one origin at once.")
    source_rate: float = _limit(200.0, "Requests from one address, a second.")
    source_burst: int = _limit(2000, "Requests from one address at once.")
    newcomer_rate: float = _limit(
        0.2, "User agents not known before, from one address, a second: the room for them is everybody's."
    )
    newcomer_burst: int = _limit(200, "User agents not known before, from one address at once.")
    user_agent_rate: float = _limit(50.0, "Messages on one WebSocket, a second; more are read later.")
    user_agent_burst: int = _limit(600, "Messages on one WebSocket at once.")
    max_rate_entries: int = _limit(
        20_000, "Endpoints, keys, origins, addresses whose rate is remembered, of each kind."
    )
    housekeeping_interval: float = _limit(
        30.0, "Between two looks for expired messages and absent user agents.", "seconds"
    )


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """``listen`` is ``host:port`` or ``[v6]:port``; port 0 lets the system choose.

    ``public_url`` (origin only) is how senders and user agents reach the service, where a proxy stands before it or
    ``listen`` names no address; without it the address listened on is used. ``stun`` is where STUN is answered, over
    UDP: ``host:port``, ``off``, or None for where ``listen`` is. With ``tls_certificate`` (a chain) and ``tls_key``,
    both PEM files, it speaks TLS itself. What ``proxy_header`` says of addresses is believed from ``trusted_proxies``
    (networks) alone. ``metrics_port`` on loopback is for Prometheus; 0: none. ``fsync``: a 201 survives a power cut.
    """

    state_dir: Path
    listen: str = DEFAULT_LISTEN
    public_url: str | None = None
    stun: str | None = None
    limits: Limits = field(default_factory=Limits)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    proxy_header: str = "x-forwarded-for"
    metrics_port: int = 0
    fsync: bool = False


def parse_listen(listen: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[v6]:port``. Raises ConfigError."""
    try:
        return split_listen(listen)
    except ValueError:
        raise ConfigError(f"listen = {listen!r}: write host:port, such as {DEFAULT_LISTEN} or [::1]:8085") from None


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
        if config.tls_certificate is not None and parts.scheme != "https":
            raise ConfigError(f"public_url = {config.public_url!r}: with a certificate it begins with https://")
        return origin
    if host in ("", "0.0.0.0", "::"):
        raise ConfigError("listening on every address needs public_url: senders must know one of them")
    scheme = "http" if config.tls_certificate is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def parse_networks(texts: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """``trusted_proxies`` as networks; an address is a network of one. Raises ConfigError."""
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ConfigError(
                f"trusted_proxies = {text!r}: {error}; write an address or a network, such as 127.0.0.1 or 10.0.0.0/8"
            ) from None
    return tuple(networks)


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
