"""What a sender is told: autopush's table of statuses and error numbers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus

from meshd.errors import MeshError


@dataclass(frozen=True, slots=True)
class _Fault:
    status: int
    errno: int | None  # autopush's number for programs, in the JSON body
    message: str


class Fault(Enum):
    """Every answer to a sender that is not a success."""

    CRYPTO_HEADERS = _Fault(400, 110, "Content-Encoding must be aes128gcm, with a key other than the VAPID key.")
    TTL_MISSING = _Fault(400, 111, "The TTL header is missing or not a number of seconds.")
    TTL_NEGATIVE = _Fault(400, 114, "TTL must not be negative.")
    TOPIC = _Fault(400, 113, "Topic must be 1 to 32 characters of the base64url alphabet.")
    MESSAGE_ID = _Fault(400, None, "That is not the Location of a message.")
    URGENCY = _Fault(400, None, "Urgency must be one of very-low, low, normal, high.")
    UNAUTHORIZED = _Fault(401, 109, "The request lacks a VAPID authorization that fits this endpoint.")
    NOT_FOUND = _Fault(404, 102, "There is no such endpoint.")
    METHOD = _Fault(405, None, "That method is not known here.")
    GONE = _Fault(410, 106, "The subscription has ended.")
    RESET = _Fault(410, 105, "The user agent has been reset: too many messages waited for it.")
    TOO_LARGE = _Fault(413, 104, "The message is larger than 4096 bytes.")
    TOO_MANY = _Fault(429, 201, "Too many requests; come back later.")
    CHANNEL_FULL = _Fault(
        429, 201, "Too many messages wait in this channel; use Topic to replace them, or come back later."
    )
    UNAVAILABLE = _Fault(503, 201, "The service cannot store the message now; come back later.")
    BUSY = _Fault(503, 202, "The user agent has not yet acknowledged what it was sent; come back soon.")

    @property
    def reason(self) -> str:
        """The standard phrase of the status."""
        return HTTPStatus(self.value.status).phrase


class Refused(MeshError):
    """A sender's request that gets ``fault`` for an answer; caught where the answer is made, so it never escapes.

    ``counter`` says in more detail why, for the counters and the log; ``retry_after`` is in seconds.
    """

    def __init__(self, fault: Fault, counter: str = "", *, detail: str = "", retry_after: float | None = None) -> None:
        super().__init__(detail or fault.value.message)
        self.fault = fault
        self.counter = counter or fault.name.lower()
        self.retry_after = retry_after
