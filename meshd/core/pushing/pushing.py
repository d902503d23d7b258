"""Sending pushes: each is offered to one subscription after another, in the peer's order of preference.

What an answer means is in ``statuses``, who has to be left alone in ``standing``, how often a peer may be
pushed to in ``budget``, and what lets us push at all in ``grants``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshd.core.commands import SendPush
from meshd.core.context import Context
from meshd.core.events import PushAnswered
from meshd.core.facts import PushOutcome
from meshd.core.pushing.budget import PushBudget
from meshd.core.pushing.grants import Destination, Grants, destination_of
from meshd.core.pushing.standing import Standings
from meshd.core.pushing.statuses import Verdict, verdict_of
from meshd.crypto import vapid
from meshd.errors import LocalMisuse, MalformedMessage
from meshd.ids import PeerId, PushId, Ticket
from meshd.wire.parts import CapabilityPart, SubscriptionPart

# Specification (ours: docs/protocol.md)
_TOPIC_CONTEXT = b"meshd topic 1\0"

# Policy
MAX_TRIES = 10  # of one push
MAX_PUSHES = 256  # under way at once
URGENT = "high"  # RFC 8030 section 5.3: somebody waits for it
NOT_URGENT = "low"  # it may wait until a phone wakes by itself
TOPIC_CHARS = 32  # RFC 8030 section 5.4
CLOCK_WARNING_INTERVAL = 3600.0  # seconds between two warnings that a clock may be wrong


@dataclass(slots=True)
class _Try:
    """What is on its way to a push service."""

    id: PushId
    part: SubscriptionPart = field(repr=False)
    to: Destination = field(repr=False)
    capability: CapabilityPart = field(repr=False)
    size: int  # of the body


@dataclass(slots=True)
class _Push:
    """A push under way. ``name`` is its sender's word for it; ``give_up`` is monotonic seconds."""

    name: bytes
    peer: PeerId | None
    account: bytes
    plaintext: bytes = field(repr=False)
    places: list[tuple[SubscriptionPart, Destination]] = field(repr=False)  # those that may still take it
    topic: bytes
    urgency: str
    give_up: float
    ticket: Ticket | None  # it leaves once that is durable
    tries: int = 0
    left: float | None = None
    shrunk: bool = False  # it has been too large once
    alive: int = 0  # subscriptions that no service has called dead
    why: str = "no usable capability left"
    verdict: Verdict | None = None  # of the last answer
    current: _Try | None = field(default=None, repr=False)


class Pushing:
    """All pushes that this node sends."""

    __slots__ = ("_budget", "_by_name", "_clock_warned", "_ctx", "_in_flight", "_standings", "grants")

    def __init__(self, ctx: Context, grants: Grants) -> None:
        self._ctx = ctx
        self.grants = grants
        self._standings = Standings(ctx)
        self._budget = PushBudget(ctx)
        self._by_name: dict[bytes, _Push] = {}
        self._in_flight: dict[PushId, _Push] = {}
        self._clock_warned: float | None = None  # when (monotonic) a service refused what should serve, at last

    @property
    def clock_doubted(self) -> bool:
        """Whether a service has lately refused a capability that should serve by our clock."""
        warned = self._clock_warned
        return warned is not None and self._ctx.now.mono < warned + CLOCK_WARNING_INTERVAL

    def forget_all(self) -> None:
        """We are no member any more."""
        for name in list(self._by_name):
            self.cancel(name)

    def send(
        self,
        name: bytes,
        plaintext: bytes,
        *,
        peer: PeerId | None = None,
        subscriptions: tuple[SubscriptionPart, ...] = (),
        topic: bytes = b"",
        lifetime: float,
        urgency: str = URGENT,
        ticket: Ticket | None = None,
    ) -> bool:
        """Push to a peer that has granted it, or to these subscriptions. ``PushOutcome(name, …)`` follows, if True.

        ``lifetime`` (seconds) is how long it may take, retries included, and the TTL. ``topic`` says
        what the push is about: a newer one about the same takes the place of an undelivered older one.
        """
        if not subscriptions and peer is not None:
            subscriptions = self.grants.subscriptions(peer)
        places = list(_places(subscriptions))
        if self._ctx.aside or not any(self.grants.usable(part) for part, _ in places):
            return False
        if len(self._by_name) >= MAX_PUSHES and name not in self._by_name:
            self._ctx.count("pushes_limit")
            return False
        self.cancel(name)
        account = hashlib.sha256(subscriptions[0].p256dh).digest() if peer is None else peer
        give_up = self._ctx.now.mono + lifetime
        push = _Push(name, peer, account, plaintext, places, topic, urgency, give_up, ticket, alive=len(places))
        self._by_name[name] = push
        self._go_on(push)
        return True

    def heard(self, peer: PeerId) -> None:
        """A push of that peer's has come, and may have to be answered."""
        self._budget.heard(peer)

    def cancel(self, name: bytes) -> None:
        """Whatever becomes of it does not matter any more."""
        push = self._by_name.pop(name, None)
        if push is not None:
            self._ctx.cancel_timer("push", name)
            if push.current is not None:
                self._in_flight.pop(push.current.id, None)

    def on_timer(self, name: bytes) -> None:
        """Time for another try."""
        push = self._by_name.get(name)
        if push is not None and push.current is None:
            self._go_on(push)

    # -- the next try -------------------------------------------------------------------------------------------------

    def _go_on(self, push: _Push) -> None:
        """Try the best subscription now, or as soon as one may be tried; else the push has come to its end."""
        now = self._ctx.now.mono
        if push.tries >= MAX_TRIES or now >= push.give_up:
            self._finish(push, "failed", push.why if push.tries else "its time is up")
            return
        when, best = self._best(push)
        if best is None:
            self._finish(push, "failed" if push.alive else "gone", push.why)
            return
        if when <= now:
            if (wait := self._budget.charge(push.account)) == 0.0:
                self._try(push, *best)
                return
            when = now + wait
            push.why = "the budget of pushes to this peer is used up"
            self._ctx.count("pushes_over_budget")
        if when < push.give_up:
            self._ctx.count("pushes_waited")
            self._ctx.timers.set(("push", push.name), when)
        else:
            self._finish(push, "withheld" if not push.tries else "failed", push.why)

    def _best(self, push: _Push) -> tuple[float, tuple[SubscriptionPart, Destination, CapabilityPart] | None]:
        """What to try next, and from when on (monotonic seconds). Services that have failed lately come last."""
        now = self._ctx.now.mono
        found: tuple[float, bool, int] | None = None
        best: tuple[SubscriptionPart, Destination, CapabilityPart] | None = None
        spaced = self._budget.spaced_at(push.account)
        for place, (part, to) in enumerate(push.places):
            capability = self.grants.usable(part)
            if capability is None:
                continue
            when = max(self._standings.free_at(to.endpoint), spaced, now)
            rank = (when, self._standings.is_in_trouble(to.origin), place)
            if found is None or rank < found:
                found, best = rank, (part, to, capability)
        if found is None:
            return 0.0, None
        if found[0] > now:
            push.why = "the push service wants to be left alone" if not push.tries else push.why
        return found[0], best

    def _try(self, push: _Push, part: SubscriptionPart, to: Destination, capability: CapabilityPart) -> None:
        suite, subject = self._ctx.suite, capability.subject or vapid.DEFAULT_SUBJECT
        try:  # it may be out of a token, or from a stranger
            authorization = suite.authorization(
                part.vapid_key, to.origin, capability.exp, subject, capability.signature
            )
            body = suite.encrypt_push(part.p256dh, part.auth, push.plaintext, self._standings.max_body(to.endpoint))
        except (LocalMisuse, MalformedMessage):
            self._ctx.count("pushes_unencryptable")
            self._budget.not_taken(push.account)
            self._set_aside(push, part, "it does not fit into a push")
            self._go_on(push)
            return
        push.tries += 1
        push.left = self._ctx.now.mono
        push.current = _Try(self._ctx.next_push(), part, to, capability, len(body))
        self._in_flight[push.current.id] = push
        self._ctx.count("pushes_sent" if push.tries == 1 else "pushes_retried")
        ttl = max(1, int(push.give_up - self._ctx.now.mono))
        topic = _topic(push.topic, part)
        command = SendPush(push.current.id, to.endpoint, authorization, body, ttl, push.urgency, topic)
        self._ctx.after(push.ticket, command)

    # -- answers ------------------------------------------------------------------------------------------------------

    def on_answer(self, event: PushAnswered) -> None:
        """Do what the table of statuses says."""
        push = self._in_flight.pop(event.push, None)
        if push is None or push.current is None:
            return
        tried, push.current = push.current, None
        verdict = push.verdict = verdict_of(event.status, event.detail)
        if verdict is Verdict.ACCEPTED:
            self._standings.on_accepted(tried.to.endpoint, tried.to.origin)
            self._finish(push, "accepted", "")
            return
        self._budget.not_taken(push.account)
        why = event.detail if not event.status else f"the push service answered {event.status}"
        push.why = why
        match verdict:
            case Verdict.UNAUTHORIZED:
                self._on_unauthorized(push, tried, event.status)
            case Verdict.GONE:
                self._ctx.count("pushes_gone")
                push.alive -= 1
                self._set_aside(push, tried.part, why)
                if push.peer is not None:
                    self.grants.drop(push.peer, tried.part)
            case Verdict.TOO_LARGE:
                self._ctx.count("pushes_too_large")
                self._standings.lower(tried.to.endpoint, tried.size)
                if push.shrunk:
                    self._set_aside(push, tried.part, why)
                push.shrunk = True
            case Verdict.REFUSED:
                self._ctx.count("pushes_refused")
                self._set_aside(push, tried.part, why)
            case Verdict.LATER | Verdict.TROUBLE:
                self._ctx.count("pushes_failed")
                self._standings.on_failed(tried.to.endpoint, event.retry_after)
                if verdict is Verdict.TROUBLE:
                    self._standings.on_trouble(tried.to.origin)
        self._go_on(push)

    def _on_unauthorized(self, push: _Push, tried: _Try, status: int) -> None:
        """A JWT that verifies and is in its time: if it is not taken, a clock is wrong, the service's or ours."""
        self._ctx.count("pushes_unauthorized")
        self.grants.refuse(tried.capability)
        if not self.clock_doubted:
            self._clock_warned = self._ctx.now.mono
            self._ctx.notify("push_unauthorized", peer=push.peer or b"", service=tried.to.origin, status=status)

    @staticmethod
    def _set_aside(push: _Push, part: SubscriptionPart, why: str) -> None:
        push.why = why
        push.places = [place for place in push.places if place[0] is not part]

    def _finish(self, push: _Push, outcome: str, detail: str) -> None:
        self._by_name.pop(push.name, None)
        self._ctx.cancel_timer("push", push.name)
        if outcome != "accepted":
            self._ctx.notify("push_failed", peer=push.peer or b"", reason=detail)
        self._ctx.state(PushOutcome(push.name, outcome, detail, push.verdict, push.left))


def _places(subscriptions: tuple[SubscriptionPart, ...]) -> Iterator[tuple[SubscriptionPart, Destination]]:
    """Those whose endpoint is one: out of a token, or from a stranger, it need not be."""
    for part in subscriptions:
        try:
            to = destination_of(part)
        except MalformedMessage:
            continue
        yield part, to


def _topic(topic: bytes, part: SubscriptionPart) -> str:
    """A word that means nothing to the service: keyed, so that it cannot be matched with an id it may know."""
    if not topic:
        return ""
    digest = hmac.digest(part.auth, _TOPIC_CONTEXT + topic, "sha256")
    return base64.urlsafe_b64encode(digest[: TOPIC_CHARS * 3 // 4]).decode()
