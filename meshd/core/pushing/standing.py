"""How endpoints and push services have behaved lately: who has to be left alone, and what is too large for whom.

In memory only: after a restart everybody is asked once.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshd.core.context import Context
from meshd.push_services import MAX_BODY_SIZE

# Specification
BRIDGE_BODY_SIZE = 2744  # what some take: autopush's bridge to Android (its own documentation)

# Policy
FIRST_RETRY_DELAY = 0.5  # seconds; doubles with each failure of an endpoint, give or take a quarter
MAX_RETRY_DELAY = 30.0  # well within the life of a push, so that each is tried at least once
MAX_RETRY_AFTER = 86400.0  # seconds; no service can silence us for longer than a day
FIRST_TROUBLE = 10.0  # seconds that a service which has failed is not the first choice; doubles with each failure
MAX_TROUBLE = 600.0
MAX_ENDPOINTS = 1024  # whose standing is known; the one used longest ago is forgotten first
MAX_ORIGINS = 128
MAX_COUNTED_FAILURES = 16
BODY_SIZES = (MAX_BODY_SIZE, BRIDGE_BODY_SIZE, 2048, 1303)  # caps; 2048 has been met with in the field


@dataclass(slots=True)
class _Standing:
    failures: int = 0
    until: float = 0.0  # monotonic; to be left alone until then
    max_body: int = MAX_BODY_SIZE


class Standings:
    """Of every endpoint that we have pushed to, and of every origin."""

    __slots__ = ("_ctx", "_endpoints", "_origins")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._endpoints: dict[str, _Standing] = {}
        self._origins: dict[str, _Standing] = {}

    def free_at(self, endpoint: str) -> float:
        """From when on (monotonic seconds) that endpoint may be asked again; long past for most."""
        known = self._endpoints.get(endpoint)
        return 0.0 if known is None else known.until

    def is_in_trouble(self, origin: str) -> bool:
        """Whether that service has failed lately, so that another is to be preferred."""
        known = self._origins.get(origin)
        return known is not None and known.until > self._ctx.now.mono

    def max_body(self, endpoint: str) -> int:
        """How many bytes that endpoint takes, as far as it has told."""
        known = self._endpoints.get(endpoint)
        return MAX_BODY_SIZE if known is None else known.max_body

    def on_accepted(self, endpoint: str, origin: str) -> None:
        """All is well, with the endpoint and with the service."""
        known = self._endpoints.get(endpoint)
        if known is not None:
            known.failures, known.until = 0, 0.0
            if known.max_body == MAX_BODY_SIZE:
                del self._endpoints[endpoint]
        self._origins.pop(origin, None)

    def on_failed(self, endpoint: str, retry_after: float | None) -> None:
        """Leave that endpoint alone for a while: longer each time, and not for less than it asks for."""
        standing = self._of(endpoint)
        delay = self._ctx.jitter(min(FIRST_RETRY_DELAY * 2**standing.failures, MAX_RETRY_DELAY))
        standing.failures = min(standing.failures + 1, MAX_COUNTED_FAILURES)
        standing.until = self._ctx.now.mono + max(delay, min(retry_after or 0.0, MAX_RETRY_AFTER))

    def on_trouble(self, origin: str) -> None:
        """The service as a whole does not work: prefer others for a while."""
        known = self._origins.pop(origin, None) or _Standing()
        self._origins[origin] = known
        if len(self._origins) > MAX_ORIGINS:
            del self._origins[next(iter(self._origins))]
        delay = self._ctx.jitter(min(FIRST_TROUBLE * 2**known.failures, MAX_TROUBLE))
        known.failures = min(known.failures + 1, MAX_COUNTED_FAILURES)
        known.until = self._ctx.now.mono + delay

    def lower(self, endpoint: str, refused_size: int) -> None:
        """A body of that size was too large."""
        self._of(endpoint).max_body = next((size for size in BODY_SIZES if size < refused_size), refused_size - 1)

    def _of(self, endpoint: str) -> _Standing:
        standing = self._endpoints.pop(endpoint, None) or _Standing()
        self._endpoints[endpoint] = standing
        if len(self._endpoints) > MAX_ENDPOINTS:
            del self._endpoints[next(iter(self._endpoints))]
        return standing
