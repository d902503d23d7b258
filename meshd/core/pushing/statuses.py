"""What each answer of a push service means: one table (RFC 8030 sections 5 and 7, RFC 8292 section 4, and real ways).

autopush answers 401 to every fault of a VAPID JWT, 404 to an endpoint that it never gave out, 410 to one that is no
more. UnifiedPush answers 200. ntfy answers 507 while nobody listens.
"""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What to do."""

    ACCEPTED = "accepted"  # the service has it; whether it is delivered, nobody says
    UNAUTHORIZED = "unauthorized"  # that JWT is not taken: the next one, then the next subscription
    GONE = "gone"  # the subscription is dead: forget it, tell its owner, take the next one
    TOO_LARGE = "too_large"  # once more in a smaller size, if it fits into one; then the next subscription
    REFUSED = "refused"  # asking again would not help, nor is a redirect followed: the next subscription
    LATER = "later"  # the endpoint wants to be left alone for a while; another subscription meanwhile
    TROUBLE = "trouble"  # the same, and the service as a whole is not the first choice for a while


# The first row that holds the status counts. Everything else is a refusal.
STATUSES: tuple[tuple[range, Verdict], ...] = (
    (range(0, 1), Verdict.TROUBLE),  # no answer at all
    (range(200, 203), Verdict.ACCEPTED),
    (range(401, 402), Verdict.UNAUTHORIZED),
    (range(403, 404), Verdict.UNAUTHORIZED),
    (range(404, 405), Verdict.GONE),
    (range(408, 409), Verdict.LATER),
    (range(410, 411), Verdict.GONE),
    (range(413, 414), Verdict.TOO_LARGE),
    (range(425, 426), Verdict.LATER),
    (range(429, 430), Verdict.LATER),
    (range(500, 600), Verdict.TROUBLE),
)

# Details of "no answer" that say nothing about the service: it was never asked.
_OURS = {"busy": Verdict.LATER, "endpoint_refused": Verdict.REFUSED, "malformed_request": Verdict.REFUSED}


def verdict_of(status: int, detail: str = "") -> Verdict:
    """What that status means; ``detail`` tells what kept a push from being answered (status 0)."""
    if status == 0:
        ours = _OURS.get(detail.partition(":")[0])
        if ours is not None:
            return ours
    return next((verdict for row, verdict in STATUSES if status in row), Verdict.REFUSED)
