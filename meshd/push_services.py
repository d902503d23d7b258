"""Push services as people name them in ``push.services``, and what each kind of them can do. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

# Specification
MAX_BODY_SIZE = 4096  # RFC 8030 section 7.2: what every push service takes
_STUN_PORT = 3478  # RFC 8489 section 18.6

# Policy
MAX_SERVICES = 4  # to receive by: a token, a grant and a record have room for so many subscriptions
MAX_ENDPOINT_SIZE = 1000  # UnifiedPush's bound, in characters, which are ASCII; autopush uses 234, FCM about 190
PRESETS = {"mozilla": "wss://push.services.mozilla.com/"}
OWN = "own"
_UNIFIEDPUSH = "unifiedpush:"


class Kind(Enum):
    """How a service is spoken with by a receiver."""

    AUTOPUSH = "autopush"  # Mozilla's WebSocket protocol, which meshd-push speaks too
    UNIFIEDPUSH = "unifiedpush"  # ntfy
    OWN = "own"  # inside this daemon


@dataclass(frozen=True, slots=True)
class Traits:
    """What a push service does of what RFC 8030 and RFC 8292 describe."""

    vapid: bool = True
    """It checks that the JWT is of the subscription's key and has not ended. Without: the endpoint is the secret."""
    ttl: bool = True
    """It drops what is older than its TTL."""
    topic: bool = True
    """A newer push takes the place of an undelivered one of the same topic."""
    taken_back: bool = True
    """A channel that is taken back refuses at once. Without: it is only not listened to any more."""
    lasting: bool = False
    """It takes a JWT that ends later than a day from now (RFC 8292 section 2 has services refuse it)."""

    def missing(self) -> list[str]:
        """What it cannot do, for people."""
        return [
            words
            for has, words in (
                (self.vapid, "does not check who pushes"),
                (self.ttl, "ignores TTL"),
                (self.topic, "ignores Topic"),
                (self.taken_back, "cannot take a subscription back"),
            )
            if not has
        ]


_TRAITS = {
    Kind.AUTOPUSH: Traits(),
    Kind.UNIFIEDPUSH: Traits(vapid=False, ttl=False, topic=False, taken_back=False),
    Kind.OWN: Traits(lasting=True),
}


@dataclass(frozen=True, slots=True)
class PushService:
    """One entry of ``push.services``. ``url`` is where its receiver connects to; empty for our own."""

    name: str  # as it is written in the configuration
    kind: Kind
    url: str

    @property
    def traits(self) -> Traits:
        """What services of its kind can do."""
        return _TRAITS[self.kind]

    @property
    def stun_server(self) -> str:
        """``host:port`` where it answers STUN if it is a ``meshd-push``; '' where it is somebody else's.

        TLS is often a proxy's business, and what stands beside a proxy has the port of its standard.
        """
        if self.kind is not Kind.AUTOPUSH or self.name in PRESETS:
            return ""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{host}:{(parts.port or 80) if parts.scheme == 'ws' else _STUN_PORT}"


def parse_service(text: str) -> PushService:
    """The service that ``text`` names. Raises ValueError with what to write instead."""
    wanted = (
        f"one of {', '.join(PRESETS)}, the URL of a service that speaks autopush's protocol (wss:// or ws://), "
        f"{_UNIFIEDPUSH}https://… for ntfy, or {OWN}"
    )
    if text in PRESETS:
        return PushService(text, Kind.AUTOPUSH, PRESETS[text])
    if text == OWN:
        return PushService(text, Kind.OWN, "")
    if text.startswith(_UNIFIEDPUSH):
        url = text.removeprefix(_UNIFIEDPUSH)
        if not has_host(url, ("https", "http")) or urlsplit(url).query:
            raise ValueError(f"the server's address after {_UNIFIEDPUSH}, as {_UNIFIEDPUSH}https://ntfy.example.org")
        return PushService(text, Kind.UNIFIEDPUSH, url.rstrip("/"))
    if "://" not in text:
        near = difflib.get_close_matches(text, [*PRESETS, OWN], 1)
        raise ValueError(f"{wanted}; did you mean {near[0]!r}?" if near else wanted)
    if not has_host(text, ("ws", "wss")):
        raise ValueError(wanted)
    return PushService(text, Kind.AUTOPUSH, text)


def has_host(url: str, schemes: tuple[str, ...]) -> bool:
    """Whether that is a URL of one of the schemes that names a host, and no port that cannot be."""
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
