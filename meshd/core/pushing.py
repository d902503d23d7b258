"""Sending pushes: which capability to use, and what each answer of a push service means.

The grants that peers have given us live here too: what does not verify is never stored.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass, field

from meshd.core.capabilities import is_usable, usable_until
from meshd.core.commands import Delete, Put, SendPush
from meshd.core.context import Context
from meshd.core.events import PushAnswered
from meshd.core.facts import PushOutcome
from meshd.core.state import Stored, rows
from meshd.crypto import vapid
from meshd.errors import LocalMisuse, MalformedMessage
from meshd.ids import PeerId, PushId, Ticket
from meshd.wire.codec import encode
from meshd.wire.endpoint import join_endpoint
from meshd.wire.parts import MAX_CAPABILITIES, CapabilityPart, Grant, SubscriptionPart

# Specification (ours: docs/protocol.md)
_TOPIC_CONTEXT = b"meshd topic 1\0"

# Policy
FIRST_RETRY_DELAY = 0.5  # seconds; doubles with each try, give or take a quarter
MAX_RETRY_DELAY = 30.0
MAX_TRIES = 10  # of one push
MAX_PUSHES = 256  # under way at once
MAX_RETRY_AFTER = 3600.0  # seconds; a service that wants longer is treated as failing
URGENCY = "high"  # RFC 8030 section 5.3: somebody waits for each of our pushes
TOPIC_CHARS = 32  # RFC 8030 section 5.4


@dataclass(slots=True)
class _Push:
    """A push under way. ``name`` is its sender's word for it; ``give_up`` is monotonic seconds."""

    name: bytes
    peer: PeerId | None
    plaintext: bytes = field(repr=False)
    subscriptions: list[SubscriptionPart] = field(repr=False)
    topic: bytes
    give_up: float
    tries: int = 0
    tried: SubscriptionPart | None = field(default=None, repr=False)
    waiting: list[tuple[float, SubscriptionPart]] = field(default_factory=list, repr=False)  # from when on, monotonic
    refused: list[bytes] = field(default_factory=list, repr=False)  # signatures of capabilities that got 401 or 403
    id: PushId | None = None


class Pushing:
    """All pushes that this node sends."""

    __slots__ = ("_by_name", "_ctx", "_grants", "_in_flight")

    def __init__(self, ctx: Context, stored: Stored) -> None:
        self._ctx = ctx
        self._grants = {PeerId(key): grant for key, grant in rows(stored, "grants", Grant).items()}
        self._by_name: dict[bytes, _Push] = {}
        self._in_flight: dict[PushId, _Push] = {}

    # -- grants -------------------------------------------------------------------------------------------------------

    def on_grant(self, peer: PeerId, grant: Grant) -> None:
        """A peer has given us capabilities. The verified part replaces or extends what we hold."""
        known = self._grants.get(peer)
        if known is not None and grant.generation < known.generation:
            self._ctx.count("grants_old")
            return
        verified = tuple(part for part in map(self._verified, grant.subscriptions) if part is not None)
        if len(verified) != len(grant.subscriptions):
            self._ctx.count("grants_unverified")
        if verified:
            self._grants[peer] = Grant(grant.generation, verified)
            self._ctx.persist(Put("grants", peer, encode(self._grants[peer])))

    def _verified(self, part: SubscriptionPart) -> SubscriptionPart | None:
        try:
            audience = vapid.origin_of(join_endpoint(part.prefix, part.tail))
            good = tuple(c for c in part.capabilities[:MAX_CAPABILITIES] if self._verifies(part.vapid_key, audience, c))
        except MalformedMessage:
            return None
        if not good:
            return None
        return SubscriptionPart(part.prefix, part.tail, part.p256dh, part.auth, part.vapid_key, good)

    def _verifies(self, key: bytes, audience: str, capability: CapabilityPart) -> bool:
        subject = capability.subject or vapid.DEFAULT_SUBJECT
        return self._ctx.suite.verify_capability(key, audience, capability.exp, subject, capability.signature)

    def forget(self, peer: PeerId) -> None:
        """That peer is no member any more."""
        if self._grants.pop(peer, None) is not None:
            self._ctx.persist(Delete("grants", peer))

    def forget_all(self) -> None:
        """We are no member any more."""
        for peer in list(self._grants):
            self.forget(peer)
        for name in list(self._by_name):
            self.cancel(name)

    def can_push(self, peer: PeerId) -> bool:
        """Whether we hold a capability of that peer that is usable now."""
        grant = self._grants.get(peer)
        return grant is not None and any(self._usable(part, []) for part in grant.subscriptions)

    def push_until(self, peer: PeerId) -> float | None:
        """To when we can push to that peer (Unix seconds); None if not even now."""
        grant = self._grants.get(peer)
        if grant is None:
            return None
        now = self._ctx.now.unix
        until = max(
            (usable_until([c.exp for c in part.capabilities], now) for part in grant.subscriptions), default=now
        )
        return until if until > now else None

    def _usable(self, part: SubscriptionPart, refused: list[bytes]) -> CapabilityPart | None:
        now = self._ctx.now.unix
        for capability in part.capabilities:
            if capability.signature not in refused and is_usable(capability.exp, now):
                return capability
        return None

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(
        self,
        name: bytes,
        plaintext: bytes,
        *,
        peer: PeerId | None = None,
        subscriptions: tuple[SubscriptionPart, ...] = (),
        topic: bytes = b"",
        lifetime: float,
        ticket: Ticket | None = None,
    ) -> bool:
        """Push to a peer that has granted it, or to these subscriptions. ``PushOutcome(name, …)`` follows, if True.

        ``lifetime`` (seconds) is how long it may take, retries included, and the TTL. ``topic`` says
        what the push is about: a newer one about the same takes the place of an undelivered older one.
        """
        if not subscriptions:
            grant = None if peer is None else self._grants.get(peer)
            subscriptions = () if grant is None else grant.subscriptions
        if not any(self._usable(part, []) for part in subscriptions):
            return False
        if len(self._by_name) >= MAX_PUSHES and name not in self._by_name:
            self._ctx.count("pushes_limit")
            return False
        self.cancel(name)
        push = _Push(name, peer, plaintext, list(subscriptions), topic, self._ctx.now.mono + lifetime)
        self._by_name[name] = push
        self._try(push, ticket)
        return True

    def cancel(self, name: bytes) -> None:
        """Whatever becomes of it does not matter any more."""
        push = self._by_name.pop(name, None)
        if push is not None:
            self._ctx.cancel_timer("push", name)
            if push.id is not None:
                self._in_flight.pop(push.id, None)

    def _try(self, push: _Push, ticket: Ticket | None = None) -> None:
        remaining = push.give_up - self._ctx.now.mono
        for part in push.subscriptions:
            capability = self._usable(part, push.refused)
            if capability is None or remaining <= 0:
                continue
            subject = capability.subject or vapid.DEFAULT_SUBJECT
            try:  # it may be out of a token, or from a stranger
                endpoint = join_endpoint(part.prefix, part.tail)
                audience = vapid.origin_of(endpoint)
                authorization = self._ctx.suite.authorization(
                    part.vapid_key, audience, capability.exp, subject, capability.signature
                )
                body = self._ctx.suite.encrypt_push(part.p256dh, part.auth, push.plaintext)
            except (LocalMisuse, MalformedMessage):
                self._ctx.count("pushes_unencryptable")
                continue
            push.tries += 1
            push.tried = part
            push.id = self._ctx.next_push()
            self._in_flight[push.id] = push
            self._ctx.count("pushes_sent" if push.tries == 1 else "pushes_retried")
            self._ctx.after(
                ticket,
                SendPush(push.id, endpoint, authorization, body, max(1, int(remaining)), URGENCY, _topic(push, part)),
            )
            return
        push.subscriptions = []
        self._next(push, "no usable capability left" if remaining > 0 else "time is up")

    def on_answer(self, event: PushAnswered) -> None:
        """The table of statuses (RFC 8030 sections 5 and 7, RFC 8292 section 4, autopush's own ways)."""
        push = self._in_flight.pop(event.push, None)
        if push is None:
            return
        push.id = None
        status = event.status
        if status in (200, 201, 202):  # UnifiedPush answers 200
            self._finish(push, "accepted", "")
        elif status in (401, 403):
            self._ctx.count("pushes_unauthorized")
            capability = None if push.tried is None else self._usable(push.tried, push.refused)
            if capability is not None:
                push.refused.append(capability.signature)
            self._next(push, f"the push service refuses our capability ({status})")
        elif status in (404, 410):
            self._ctx.count("pushes_gone")
            self._drop_subscription(push)
            self._next(push, "gone")
        elif status in (400, 413) or 300 <= status < 400:
            self._ctx.count("pushes_refused")
            self._set_aside(push)
            self._next(push, f"the push service answered {status}")
        else:
            self._ctx.count("pushes_failed")
            self._later(push, event)

    def _next(self, push: _Push, why: str) -> None:
        """Another subscription now, or one that is to be tried again later; else it has failed."""
        push.subscriptions = [part for part in push.subscriptions if self._usable(part, push.refused)]
        if push.subscriptions and push.tries < MAX_TRIES:
            self._try(push)
        elif push.waiting and push.tries < MAX_TRIES:
            self._ctx.timers.set(("push", push.name), min(since for since, _ in push.waiting))
        else:
            self._finish(push, "gone" if why == "gone" else "failed", why)

    def _later(self, push: _Push, event: PushAnswered) -> None:
        """429, 5xx, no answer at all: the same one in a while, and meanwhile another."""
        tried = self._set_aside(push)
        wanted = event.retry_after or 0.0
        delay = self._ctx.jitter(min(FIRST_RETRY_DELAY * 2 ** (push.tries - 1), MAX_RETRY_DELAY))
        since = self._ctx.now.mono + max(delay, wanted)
        if tried is not None and wanted <= MAX_RETRY_AFTER and since <= push.give_up:
            push.waiting.append((since, tried))
        self._next(push, event.detail or f"the push service answered {event.status}")

    def on_timer(self, name: bytes) -> None:
        """Time for another try."""
        push = self._by_name.get(name)
        if push is not None and push.id is None:
            now = self._ctx.now.mono
            push.subscriptions += [part for since, part in push.waiting if since <= now]
            push.waiting = [(since, part) for since, part in push.waiting if since > now]
            self._try(push)

    @staticmethod
    def _set_aside(push: _Push) -> SubscriptionPart | None:
        tried, push.tried = push.tried, None
        push.subscriptions = [part for part in push.subscriptions if part is not tried]
        return tried

    def _drop_subscription(self, push: _Push) -> None:
        dead = self._set_aside(push)
        grant = None if push.peer is None else self._grants.get(push.peer)
        if dead is not None and push.peer is not None and grant is not None:
            left = tuple(part for part in grant.subscriptions if part.tail != dead.tail or part.prefix != dead.prefix)
            if left:
                self._grants[push.peer] = Grant(grant.generation, left)
                self._ctx.persist(Put("grants", push.peer, encode(self._grants[push.peer])))
            else:
                self.forget(push.peer)

    def _finish(self, push: _Push, outcome: str, detail: str) -> None:
        self._by_name.pop(push.name, None)
        self._ctx.cancel_timer("push", push.name)
        if outcome != "accepted":
            self._ctx.notify("push_failed", peer=push.peer or b"", reason=detail)
        self._ctx.state(PushOutcome(push.name, outcome, detail))


def _topic(push: _Push, part: SubscriptionPart) -> str:
    """A word that means nothing to the service: keyed, so that it cannot be matched with an id it may know."""
    if not push.topic:
        return ""
    digest = hmac.digest(part.auth, _TOPIC_CONTEXT + push.topic, "sha256")
    return base64.urlsafe_b64encode(digest[: TOPIC_CHARS * 3 // 4]).decode()
