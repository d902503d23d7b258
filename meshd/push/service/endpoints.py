"""The senders' side: POST to an endpoint, DELETE of a message, preflight, health. RFC 8030 and 8292."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Hashable

import trio

from meshd.crypto import vapid
from meshd.errors import MalformedMessage, Rejected
from meshd.push.service.delivery import Delivery, Push, log, pseudonym
from meshd.push.service.faults import Fault, Refused
from meshd.push.service.http import Request, Response
from meshd.push.service.protocol import CONTENT_ENCODING
from meshd.push.service.registry import Channel
from meshd.rates import RateLimiter, source_key

# Specification
_URGENCIES = frozenset({"very-low", "low", "normal", "high"})  # RFC 8030 section 5.3
_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")  # RFC 8030 section 5.4
_KEYID = slice(21, 86)  # of an aes128gcm body: the sender's ephemeral key, RFC 8291 section 4

# Policy
ENDPOINT_PATH = "/wpush/v2/"  # as autopush: v2 means bound to a VAPID key
_MESSAGE_PATH = "/m/"
_VERSION = re.compile(r"[A-Za-z0-9_-]{22}\Z")
_GONE_MAX_AGE = 86400  # as autopush
_MAX_ORIGIN_CHARS = 256  # of it, what its rate is counted by
_HEALTH_PATHS = frozenset({"/healthz", "/health", "/__heartbeat__", "/__lbheartbeat__"})  # the latter are autopush's
_CORS = (
    # Pages push too; an endpoint is a secret and every request carries its own authorization, so any origin may.
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", "Location, Retry-After, TTL"),
)
_PREFLIGHT = (
    ("Access-Control-Allow-Methods", "POST, DELETE, OPTIONS"),
    (
        "Access-Control-Allow-Headers",
        "Authorization, TTL, Topic, Urgency, Content-Encoding, Content-Type, Crypto-Key, Encryption",
    ),
    ("Access-Control-Max-Age", "86400"),
)


class Endpoints:
    """Answers HTTP requests. ``public_url`` is the origin that endpoints carry and that JWTs must name."""

    def __init__(self, delivery: Delivery, public_url: str) -> None:
        limits = delivery.limits
        self._delivery = delivery
        self._limits = limits
        self._public_url = public_url
        self._endpoint_rate = RateLimiter(limits.endpoint_rate, limits.endpoint_burst, limits.max_rate_entries)
        self._source_rate = RateLimiter(limits.source_rate, limits.source_burst, limits.max_rate_entries)
        self._key_rate = RateLimiter(limits.key_rate, limits.key_burst, limits.max_rate_entries)
        self._origin_rate = RateLimiter(limits.origin_rate, limits.origin_burst, limits.max_rate_entries)

    def endpoint_of(self, channel: Channel) -> str:
        """The URL that senders POST to."""
        return f"{self._public_url}{ENDPOINT_PATH}{self._delivery.registry.token(channel)}"

    async def handle(self, request: Request) -> Response:
        """The answer to ``request``; every one lets any page read it."""
        try:
            answer = await self._route(request)
        except Refused as refused:
            self._delivery.counters[f"refused_{refused.counter}"] += 1
            answer = _refusal(refused)
        return Response(answer.status, answer.headers + _CORS, answer.body)

    async def _route(self, request: Request) -> Response:
        if request.path in _HEALTH_PATHS and request.method in ("GET", "HEAD"):
            return self._health()
        _take(self._source_rate, source_key(request.source), "source_rate")
        if request.path.startswith(ENDPOINT_PATH):
            return await self._endpoint(request, request.path.removeprefix(ENDPOINT_PATH))
        if request.path.startswith(_MESSAGE_PATH):
            return self._message(request, request.path.removeprefix(_MESSAGE_PATH))
        raise Refused(Fault.NOT_FOUND)

    async def _endpoint(self, request: Request, token: str) -> Response:
        if request.method == "OPTIONS":
            return Response(204, _PREFLIGHT)
        if request.method != "POST":
            raise Refused(Fault.METHOD)
        channel = self._delivery.registry.resolve(token)
        public = self._authorise(request, channel)
        # After the signature: nobody uses up what is another's. A page's origin comes last, since whoever is no browser
        # can name any: what is another's costs its own first.
        _take(self._endpoint_rate, channel.handle, "endpoint_rate")
        _take(self._key_rate, channel.key_hash, "key_rate")
        if origin := request.headers.get("origin"):
            _take(self._origin_rate, origin[:_MAX_ORIGIN_CHARS], "origin_rate")
        push = self._push(request, public)
        version = await self._delivery.accept(channel, push)
        log.debug("push_accepted", user_agent=pseudonym(channel.uaid), size=len(push.body), ttl=push.ttl)
        return Response(201, (("Location", f"{self._public_url}{_MESSAGE_PATH}{version}"), ("TTL", str(push.ttl))))

    def _message(self, request: Request, version: str) -> Response:
        if request.method == "OPTIONS":
            return Response(204, _PREFLIGHT)
        if request.method != "DELETE":
            raise Refused(Fault.METHOD)
        if not _VERSION.match(version):
            raise Refused(Fault.MESSAGE_ID)
        self._delivery.cancel(version)
        return Response(204)  # whether it was still waiting is nothing to tell, as autopush

    def _authorise(self, request: Request, channel: Channel) -> bytes:
        """The VAPID key: bound to the channel, and the sender has signed with it for here and now. Raises Refused."""
        header = request.headers.get("authorization")
        if header is None:
            raise Refused(Fault.UNAUTHORIZED, "vapid_missing", detail="The Authorization header is missing.")
        try:
            token, public = vapid.parse_authorization(header)
            if not hmac.compare_digest(hashlib.sha256(public).digest(), channel.key_hash):
                raise Rejected("vapid_key_mismatch", "the subscription is bound to another VAPID key")
            claims = vapid.verify_jwt(token, public)
            vapid.check_claims(claims, self._public_url, self._delivery.clock(), self._limits.max_vapid_lifetime)
            return public
        except MalformedMessage as error:
            raise Refused(Fault.UNAUTHORIZED, "vapid_malformed", detail=f"Invalid VAPID: {error}.") from None
        except Rejected as error:
            raise Refused(Fault.UNAUTHORIZED, error.reason, detail=f"Invalid VAPID: {error.detail}.") from None

    def _push(self, request: Request, public: bytes) -> Push:
        """What the headers and the body say. Raises Refused."""
        body = request.body
        if body is None:
            raise Refused(Fault.TOO_LARGE)
        headers = request.headers
        ttl = headers.get("ttl", "").strip()
        if re.fullmatch(r"-[0-9]+", ttl):
            raise Refused(Fault.TTL_NEGATIVE)
        if not re.fullmatch(r"[0-9]{1,20}", ttl):
            raise Refused(Fault.TTL_MISSING)
        topic = headers.get("topic")
        if topic is not None and not _TOPIC.match(topic):
            raise Refused(Fault.TOPIC)
        if headers.get("urgency", "normal") not in _URGENCIES:
            raise Refused(Fault.URGENCY)
        if body:
            if headers.get("content-encoding", "").lower() != CONTENT_ENCODING:
                raise Refused(Fault.CRYPTO_HEADERS, "content_encoding")
            if body[_KEYID] == public:  # RFC 8292 section 4: the signing key is for signing only
                raise Refused(Fault.CRYPTO_HEADERS, "vapid_key_encrypts")
        return Push(min(int(ttl), int(self._limits.max_ttl)), topic, body)

    def _health(self) -> Response:
        user_agents, channels, stored = self._delivery.registry.counts()
        figures = {
            "status": "ok" if self._delivery.store.is_writable else "the database cannot be written",
            "user_agents": {"connected": self._delivery.connected, "known": user_agents},
            "channels": channels,
            "messages": {"stored": stored},
        }
        status = 200 if self._delivery.store.is_writable else 503
        return Response(status, (("Content-Type", "application/json"),), json.dumps(figures).encode())


def _take(limiter: RateLimiter, key: Hashable, counter: str) -> None:
    wait = limiter.take(key, trio.current_time())
    if wait > 0:
        raise Refused(Fault.TOO_MANY, counter, retry_after=wait)


def _refusal(refused: Refused) -> Response:
    fault = refused.fault.value
    headers = [("Content-Type", "application/json")]
    if fault.status == 410:
        headers.append(("Cache-Control", f"max-age={_GONE_MAX_AGE}"))
    if fault.status == 401:
        headers.append(("WWW-Authenticate", "vapid"))  # RFC 9110 section 11.6.1 wants one with every 401
    if refused.retry_after is not None:
        headers.append(("Retry-After", str(math.ceil(refused.retry_after))))
    body = {"code": fault.status, "errno": fault.errno, "error": refused.fault.reason, "message": str(refused)}
    return Response(fault.status, tuple(headers), json.dumps(body).encode())
