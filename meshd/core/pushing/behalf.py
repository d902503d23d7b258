"""Pushes on behalf of others: a member whose capability we lack is called by a friend that holds one, and vice versa.

What is pushed is a sealed envelope: the friend learns who calls whom, and no more. It has a quota for each asker and
for each that is called, and takes part in its own budget for that peer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.facts import PushedForAnother, PushOutcome
from meshd.core.membership.membership import Membership
from meshd.core.pushing.grants import Grants
from meshd.core.pushing.keepers import Keepers
from meshd.core.pushing.pushing import Pushing
from meshd.crypto.webpush import MAX_PLAINTEXT_SIZE
from meshd.ids import PeerId, Ticket
from meshd.rates import RateLimiter
from meshd.wire.envelope import MESH_HINT_SIZE, read_header
from meshd.wire.granting import PushReported, PushWanted

# Policy
ASK_TIMEOUT = 15.0  # seconds a friend has to say what became of it; then the next is asked
MAX_ASKED = 64  # pushes that we wait for
MAX_SERVED = 64  # pushes for others under way
MAX_SERVED_LIFETIME = 300.0  # seconds; an envelope is good for no longer
ASKER_DAILY, ASKER_BURST = 48, 12  # pushes a day for one asker, and at once
CALLED_DAILY, CALLED_BURST = 18, 6  # pushes a day to one peer for all askers: half of what we push to it ourselves
PAIR_DAILY, PAIR_BURST = 12, 4  # of these for one asker: so that none keeps the others from having somebody called
MAX_ACCOUNTS = 4096


@dataclass(slots=True)
class _Asked:
    number: int
    peer: PeerId
    envelope: bytes = field(repr=False)
    topic: bytes
    give_up: float  # monotonic
    ticket: Ticket | None
    friends: list[PeerId]  # not asked yet
    asked: PeerId | None = None
    why: str = "nobody is there to ask"


class Asking:
    """What we have others push for us."""

    __slots__ = ("_asked", "_ctx", "_keepers", "_number", "_post")

    def __init__(self, ctx: Context, post: Post, keepers: Keepers) -> None:
        self._ctx = ctx
        self._post = post
        self._keepers = keepers
        self._asked: dict[bytes, _Asked] = {}
        self._number = ctx.rng.getrandbits(32) << 16  # so that answers of an earlier life mean nothing

    def can_ask(self, peer: PeerId) -> bool:
        """Whether there is a friend of that peer's in our reach."""
        return bool(self._keepers.friends(peer))

    def ask(
        self, name: bytes, peer: PeerId, envelope: bytes, *, topic: bytes, lifetime: float, ticket: Ticket | None
    ) -> bool:
        """Have it pushed to ``peer``. ``PushOutcome(name, …)`` follows, if True."""
        friends = self._keepers.friends(peer)
        self.cancel(name)
        if not friends or len(self._asked) >= MAX_ASKED or len(envelope) > MAX_PLAINTEXT_SIZE:
            return False
        self._number += 1
        give_up = self._ctx.now.mono + lifetime
        asked = self._asked[name] = _Asked(self._number, peer, envelope, topic, give_up, ticket, friends)
        self._next(name, asked)
        return True

    def _next(self, name: bytes, asked: _Asked) -> None:
        lifetime = int(asked.give_up - self._ctx.now.mono)
        while asked.friends and lifetime > 0:
            asked.asked = asked.friends.pop(0)
            wanted = PushWanted(asked.number, asked.peer, asked.envelope, asked.topic, lifetime)
            if self._post.send(asked.asked, wanted, ticket=asked.ticket):
                self._ctx.count("pushes_asked_for")
                self._ctx.timer("behalf", name, ASK_TIMEOUT)
                return
        self.cancel(name)
        self._ctx.state(PushOutcome(name, "failed", f"no friend of that member could push: {asked.why}"))

    def cancel(self, name: bytes) -> None:
        """Whatever becomes of it does not matter any more."""
        if self._asked.pop(name, None) is not None:
            self._ctx.cancel_timer("behalf", name)

    def on_timer(self, name: bytes) -> None:
        """The friend has not answered."""
        asked = self._asked.get(name)
        if asked is not None:
            asked.why = "no answer"
            self._next(name, asked)

    def on_reported(self, peer: PeerId, message: PushReported) -> None:
        """A friend says what became of it."""
        name = next((n for n, a in self._asked.items() if (a.number, a.asked) == (message.number, peer)), None)
        if name is None:
            return
        asked = self._asked[name]
        if message.outcome == "accepted":
            self.cancel(name)
            self._ctx.state(PushOutcome(name, "accepted", ""))
        else:
            asked.why = message.outcome if message.outcome.isidentifier() else "refused"
            self._next(name, asked)


class Serving:
    """What we push for others."""

    __slots__ = ("_askers", "_called", "_ctx", "_grants", "_membership", "_pairs", "_post", "_pushing", "_served")

    def __init__(self, ctx: Context, membership: Membership, grants: Grants, pushing: Pushing, post: Post) -> None:
        self._ctx = ctx
        self._membership = membership
        self._grants = grants
        self._pushing = pushing
        self._post = post
        self._askers = RateLimiter(ASKER_DAILY / 86400.0, ASKER_BURST, MAX_ACCOUNTS)
        self._pairs = RateLimiter(PAIR_DAILY / 86400.0, PAIR_BURST, MAX_ACCOUNTS)
        self._called = RateLimiter(CALLED_DAILY / 86400.0, CALLED_BURST, MAX_ACCOUNTS)
        self._served: dict[bytes, tuple[PeerId, int, PeerId]] = {}  # a push's name → asker, its number, who is called

    def on_wanted(self, asker: PeerId, message: PushWanted) -> None:
        """Push it, or say why not. Raises MalformedMessage."""
        reason = self._why_not(asker, message)
        name = b"behalf" + asker[:16] + message.number.to_bytes(8, "big")
        if reason is None:
            self._served[name] = (asker, message.number, PeerId(message.recipient))
            sent = self._pushing.send(
                name,
                message.envelope,
                peer=PeerId(message.recipient),
                topic=asker + message.topic if message.topic else b"",
                lifetime=min(float(message.lifetime), MAX_SERVED_LIFETIME),
            )
            if sent:
                return
            del self._served[name]
            reason = "busy"
        self._ctx.count(f"behalf_{reason}")
        self._post.send(asker, PushReported(message.number, reason))

    def _why_not(self, asker: PeerId, message: PushWanted) -> str | None:
        recipient, now = PeerId(message.recipient), self._ctx.now.mono
        header = read_header(message.envelope)
        foreign = header.mesh_hint != self._membership.mesh[:MESH_HINT_SIZE] or header.recipient != recipient
        if foreign or self._ctx.config.mesh.keeper == "never" or recipient in (asker, self._ctx.own_id):
            return "refused"
        if self._membership.record(asker) is None or self._membership.record(recipient) is None:
            return "refused"
        if not self._grants.can_push(recipient):
            return "no_capability"
        if len(self._served) >= MAX_SERVED:
            return "busy"
        accounts = ((self._pairs, asker + recipient), (self._askers, asker), (self._called, recipient))
        if any(limiter.take(key, now) for limiter, key in accounts):
            return "quota"
        return None

    def on_push_outcome(self, push: PushOutcome) -> bool:
        """Of a push for somebody else; True if it was."""
        served, outcome = self._served.pop(push.name, None), push.outcome
        if served is None:
            return False
        asker, number, recipient = served
        self._ctx.count("behalf_pushed" if outcome == "accepted" else "behalf_failed")
        self._ctx.state(PushedForAnother(asker, recipient, outcome))
        self._post.send(asker, PushReported(number, "busy" if outcome == "withheld" else outcome))
        return True

    def forget_all(self) -> None:
        """We are no member any more."""
        self._served.clear()
