"""The grants that peers have given us: what lets us push to them.

What does not verify is never kept. A grant of a higher generation replaces everything; one of the same generation adds
to it, so that a renewal carries nothing but what is new.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from meshd.core.commands import Delete, Put
from meshd.core.context import Context
from meshd.core.facts import GrantStored, SubscriptionGone
from meshd.core.pushing.capabilities import CLOCK_SLACK, MAX_AHEAD, is_lasting, is_usable, usable_until
from meshd.core.state import GrantRow, Stored, rows
from meshd.crypto import vapid
from meshd.errors import MalformedMessage
from meshd.ids import PeerId
from meshd.wire.codec import encode
from meshd.wire.endpoint import join_endpoint
from meshd.wire.granting import ENDPOINT_HASH_SIZE
from meshd.wire.parts import MAX_CAPABILITIES, MAX_SUBSCRIPTIONS, CapabilityPart, Grant, SubscriptionPart

# Policy
REFUSED_INTERVAL = 3600.0  # seconds that a JWT which a service has refused is not used; kept: a clock may be wrong
MAX_REFUSED = 1024  # such JWTs; the one refused longest ago is used again first


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a subscription's pushes go."""

    endpoint: str = field(repr=False)  # where nothing checks who pushes, it is all that is needed
    origin: str


def destination_of(part: SubscriptionPart) -> Destination:
    """Raises MalformedMessage: it may be out of a token, or from a stranger."""
    endpoint = join_endpoint(part.prefix, part.tail)
    return Destination(endpoint, vapid.origin_of(endpoint))


def endpoint_hash(endpoint: str) -> bytes:
    """What an endpoint is called when it must not be told: the first 16 bytes of its SHA-256."""
    return hashlib.sha256(endpoint.encode()).digest()[:ENDPOINT_HASH_SIZE]


def fewest(exps: list[int], now: float) -> list[int]:
    """Of rising expiries, those that take us as far as all together would, each the last that can follow."""
    chosen: list[int] = []
    covered = now
    for exp, following in zip(exps, [*exps[1:], None], strict=True):
        follows_on = following is not None and following - MAX_AHEAD + CLOCK_SLACK <= covered + 1
        if not follows_on and exp - CLOCK_SLACK > covered:
            chosen.append(exp)
            covered = float(exp - CLOCK_SLACK)
    return chosen


class Grants:
    """All that we hold of others."""

    __slots__ = ("_ctx", "_refused", "_rows")

    def __init__(self, ctx: Context, stored: Stored) -> None:
        self._ctx = ctx
        self._rows = {PeerId(key): row for key, row in rows(stored, "grants", GrantRow).items()}
        self._refused: dict[bytes, float] = {}  # signature of a JWT → when (monotonic) it may be tried again

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._rows

    # -- taking -------------------------------------------------------------------------------------------------------

    def on_grant(self, peer: PeerId, grant: Grant) -> None:
        """A peer has given us capabilities itself. ``GrantStored`` follows once what we hold of it is durable."""
        known = self._rows.get(peer)
        if known is not None and grant.generation < known.generation:
            self._ctx.count("grants_old")
            self._ctx.state(GrantStored(peer, known.generation, int(self.push_until(peer) or 0)))
            return
        verified = self._verified(grant, known)
        if known is not None and grant.generation == known.generation:
            verified = self._merged(known.subscriptions, verified)
        if not verified:
            return
        row = GrantRow(grant.generation, verified, 0 if known is None else known.issued)
        ticket = None
        if row != known:
            self._rows[peer] = row
            ticket = self._ctx.persist(Put("grants", peer, encode(row)))
        self._ctx.state_after(ticket, GrantStored(peer, row.generation, int(self.push_until(peer) or 0)))

    def on_kept(self, peer: PeerId, grant: Grant, issued: int) -> None:
        """A copy that others have kept for us. It may be old: it never takes the place of what the peer gave since."""
        known = self._rows.get(peer)
        if known is not None and (grant.generation, issued) <= (known.generation, known.issued):
            self._ctx.count("grants_old")
            return
        verified = self._verified(grant, known)
        if known is not None and grant.generation == known.generation:
            verified = self._merged(verified, known.subscriptions)
        if verified:
            self._rows[peer] = GrantRow(grant.generation, verified, issued)
            self._ctx.persist(Put("grants", peer, encode(self._rows[peer])))
            self._ctx.count("grants_from_friends")

    def would_serve(self, grant: Grant) -> bool:
        """Whether that grant, whosever it is, would let us push now. Nothing is kept."""
        return any(self.usable(part) is not None for part in self._verified(grant, None))

    def _verified(self, grant: Grant, known: GrantRow | None) -> tuple[SubscriptionPart, ...]:
        """The part of it that holds and has not expired."""
        held = () if known is None else known.subscriptions
        good = {(c, part.vapid_key, destination_of(part).origin) for part in held for c in part.capabilities}
        result = []
        for part in grant.subscriptions:
            try:
                origin = destination_of(part).origin
                capabilities = tuple(
                    c
                    for c in part.capabilities[:MAX_CAPABILITIES]
                    if (c, part.vapid_key, origin) in good or self._verifies(part.vapid_key, origin, c)
                )
            except MalformedMessage:
                capabilities = ()
            if len(capabilities) != len(part.capabilities) or not capabilities:
                self._ctx.count("grants_unverified")
            fresh = self._fresh(capabilities)
            if fresh:
                result.append(replace(part, capabilities=fresh))
        return tuple(result)

    def _verifies(self, key: bytes, audience: str, capability: CapabilityPart) -> bool:
        subject = capability.subject or vapid.DEFAULT_SUBJECT
        return self._ctx.suite.verify_capability(key, audience, capability.exp, subject, capability.signature)

    def _fresh(self, capabilities: tuple[CapabilityPart, ...]) -> tuple[CapabilityPart, ...]:
        """Without those that have expired, in the order in which they serve; of too many, as few as serve as long."""
        now = self._ctx.now.unix
        by_exp = {c.exp: c for c in capabilities if c.exp > now}
        exps = sorted(by_exp)
        if len(exps) > MAX_CAPABILITIES:
            exps = fewest(exps, now)
        return tuple(by_exp[exp] for exp in exps[:MAX_CAPABILITIES])

    def _merged(
        self, older: tuple[SubscriptionPart, ...], newer: tuple[SubscriptionPart, ...]
    ) -> tuple[SubscriptionPart, ...]:
        """Both, of one generation. Where a service has given another endpoint, the newer one stands."""
        places = {(part.prefix, part.tail, part.vapid_key): part for part in older}
        result = []
        for part in newer:
            same = places.get((part.prefix, part.tail, part.vapid_key))
            both = part.capabilities if same is None else (*same.capabilities, *part.capabilities)
            result.append(replace(part, capabilities=self._fresh(both)))
        origins = {destination_of(part).origin for part in newer}
        result += [part for part in older if destination_of(part).origin not in origins]
        return tuple(result)[:MAX_SUBSCRIPTIONS]

    # -- giving up ----------------------------------------------------------------------------------------------------

    def refuse(self, capability: CapabilityPart) -> None:
        """A service would not take that JWT: it is not used for a while.

        It stays in the store: more often than not a clock is wrong, and one that is would cost us everybody's.
        """
        self._refused.pop(capability.signature, None)
        self._refused[capability.signature] = self._ctx.now.mono + REFUSED_INTERVAL
        if len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]

    def drop(self, peer: PeerId, dead: SubscriptionPart) -> None:
        """A service says that this subscription is no more: forget it, and tell its owner."""
        row = self._rows.get(peer)
        left = [] if row is None else [p for p in row.subscriptions if (p.prefix, p.tail) != (dead.prefix, dead.tail)]
        if row is None or len(left) == len(row.subscriptions):
            return
        self._rows[peer] = replace(row, subscriptions=tuple(left))
        self._ctx.persist(Put("grants", peer, encode(self._rows[peer])))
        self._ctx.state(SubscriptionGone(peer, row.generation, endpoint_hash(join_endpoint(dead.prefix, dead.tail))))

    def forget(self, peer: PeerId) -> None:
        """That peer is no member any more, or begins anew."""
        if self._rows.pop(peer, None) is not None:
            self._ctx.persist(Delete("grants", peer))

    def forget_all(self) -> None:
        """We are no member any more."""
        for peer in list(self._rows):
            self.forget(peer)

    # -- using --------------------------------------------------------------------------------------------------------

    def subscriptions(self, peer: PeerId) -> tuple[SubscriptionPart, ...]:
        """That peer's, in its order of preference."""
        row = self._rows.get(peer)
        return () if row is None else row.subscriptions

    def usable(self, part: SubscriptionPart) -> CapabilityPart | None:
        """The capability to use now for that subscription, whosever it is."""
        now = self._ctx.now
        any_time = is_lasting([capability.exp for capability in part.capabilities], now.unix)
        for capability in part.capabilities:
            is_its_time = is_usable(capability.exp, now.unix) or (any_time and capability.exp > now.unix)
            if is_its_time and self._refused.get(capability.signature, 0.0) <= now.mono:
                return capability
        return None

    def can_push(self, peer: PeerId) -> bool:
        """Whether we hold a capability of that peer that is usable now."""
        return any(self.usable(part) is not None for part in self.subscriptions(peer))

    def push_until(self, peer: PeerId) -> float | None:
        """To when we can push to that peer (Unix seconds); None if not even now."""
        now = self._ctx.now.unix
        ends = [usable_until([c.exp for c in part.capabilities], now) for part in self.subscriptions(peer)]
        until = max(ends, default=now)
        return until if until > now else None

    def view(self) -> list[dict[str, object]]:
        """What we hold, for ``capabilities.list``: of whom, until when, at which services."""
        return [
            {
                "peer_id": peer,
                "generation": row.generation,
                "until": self.push_until(peer),
                "services": [destination_of(part).origin for part in row.subscriptions],
            }
            for peer, row in self._rows.items()
        ]
