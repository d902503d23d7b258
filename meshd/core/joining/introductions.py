"""Introduction tokens of ours: minted, listed, used, revoked. Who brings one comes to ``bearers``."""

from __future__ import annotations

from dataclasses import replace

from meshd.core.commands import Put
from meshd.core.context import Context
from meshd.core.joining.reachability import Outlook
from meshd.core.membership.admitting import Admitting
from meshd.core.membership.membership import Membership
from meshd.core.pushing.holders import Holders
from meshd.core.pushing.self_test import SelfTest
from meshd.core.signaling.stun_servers import StunServers
from meshd.core.state import IntroductionRow, Stored, rows
from meshd.crypto.admission import Rights
from meshd.errors import Code
from meshd.ids import CLOCK_SKEW, IntroductionId, PeerId, RequestId, Ticket, text_of
from meshd.wire.codec import encode
from meshd.wire.introduction import Introduction, encode_token, introduction_id
from meshd.wire.parts import SubscriptionPart

# Policy
MAX_INTRODUCTIONS = 256  # kept, the expired ones included
MAX_USES = 1000
MAX_LIFETIME = 15 * 86400.0  # seconds; a capability covers a day at most, and a subscription carries 16 of them
MAX_OWN_LIFETIME = 366 * 86400.0  # where a push service is ours, and can take one back at any time
EXPIRED_RETENTION = 7 * 86400.0  # seconds an ended introduction stays in the list


class Introductions:
    """All tokens of this node."""

    __slots__ = (
        "_admitting",
        "_ctx",
        "_holders",
        "_membership",
        "_mints",
        "_outlook",
        "_rows",
        "_self_test",
        "_stun_servers",
    )

    def __init__(
        self,
        ctx: Context,
        stored: Stored,
        membership: Membership,
        admitting: Admitting,
        holders: Holders,
        outlook: Outlook,
        stun_servers: StunServers,
        self_test: SelfTest,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._admitting = admitting
        self._holders = holders
        self._outlook = outlook
        self._stun_servers = stun_servers
        self._self_test = self_test
        self._rows = {IntroductionId(k): row for k, row in rows(stored, "introductions", IntroductionRow).items()}
        self._mints: dict[IntroductionId, RequestId] = {}  # waiting for their channel

    # -- minting ------------------------------------------------------------------------------------------------------

    def mint(self, request: RequestId, lifetime: float, uses: int, label: str, *, by_hand: bool) -> None:
        """A new token; answered when its channel is there. One for use ``by_hand`` alone has none."""
        if not self._membership.rights & (Rights.INTRODUCE | Rights.ADMIN):
            self._ctx.refuse(request, Code.REFUSED, "An admin has not given this node the right to introduce others.")
            return
        if not self._admitting.may_admit:
            self._ctx.refuse(request, Code.REFUSED, "This node was introduced too far from an admin; meet one first.")
            return
        if self._ctx.store_failing:
            self._ctx.refuse(request, Code.STORE_FAILED)
            return
        if len(self._rows) >= MAX_INTRODUCTIONS:
            self._ctx.refuse(request, Code.BUSY, f"{MAX_INTRODUCTIONS} introductions are kept; revoke some.")
            return
        seed, secret = self._ctx.rng.randbytes(32), self._ctx.rng.randbytes(16)
        now = int(self._ctx.now.unix)
        expires = now + int(min(lifetime, MAX_OWN_LIFETIME if self._holders.has_lasting else MAX_LIFETIME))
        row = IntroductionRow(seed, secret, label[:64], now, expires, min(uses, MAX_USES), 0)
        identifier = introduction_id(self._ctx.suite.sealing_key_of(seed))
        self._rows[identifier] = row
        ticket = self._ctx.persist(Put("introductions", identifier, encode(row)))
        if by_hand:
            self._hand_out(request, identifier, (), ticket)
            return
        self._mints[identifier] = request
        self._ctx.timer("mint", identifier, self._ctx.config.push.request_timeout)
        self._holders.ensure(identifier)
        if self._holders.is_ready(identifier):  # one subscription for all, that is there already
            self.on_channel_ready(identifier, ticket)

    def on_channel_ready(self, holder: bytes, ticket: Ticket | None = None) -> None:
        """A token's channel is there: the token can be given out, once ``ticket`` is durable."""
        identifier = IntroductionId(holder)
        request = self._mints.pop(identifier, None)
        if request is not None:
            self._ctx.cancel_timer("mint", identifier)
            row = self._rows[identifier]
            grant = self._holders.grant(identifier, 0, row.expires - self._ctx.now.unix)
            if grant is None or row.revoked:
                self._ctx.refuse(request, Code.PUSH_UNAVAILABLE)
            else:
                self._hand_out(request, identifier, grant.subscriptions, ticket)

    def on_mint_timeout(self, about: bytes) -> None:
        """No push service has answered: a token without a way to us is none."""
        identifier = IntroductionId(about)
        request = self._mints.pop(identifier, None)
        if request is not None:
            self._end(identifier, replace(self._rows[identifier], revoked=1))
            self._ctx.refuse(
                request,
                Code.PUSH_UNAVAILABLE,
                "meshctl status says more about the push services. Without any: meshctl introduce --by-hand",
            )

    def _hand_out(
        self,
        request: RequestId,
        identifier: IntroductionId,
        subscriptions: tuple[SubscriptionPart, ...],
        ticket: Ticket | None = None,
    ) -> None:
        row = self._rows[identifier]
        token = encode_token(
            Introduction(
                self._membership.mesh,
                self._ctx.own_id,
                self._ctx.suite.sealing_key_of(row.sealing_seed),
                row.secret,
                row.expires,
                subscriptions,
                self._stun_servers.in_token(),
            )
        )
        self._ctx.notify("introduction_minted", introduction=identifier, label=row.label, uses=row.uses)
        self._ctx.respond_after(
            ticket,
            request,
            token=token,
            introduction_id=identifier,
            expires_at=float(row.expires),
            uses=row.uses,
            warnings=[*self._outlook.warnings, *(self._self_test.doubts() if subscriptions else ())],
        )

    # -- revoking, expiring -------------------------------------------------------------------------------------------

    def revoke(self, request: RequestId, text: str) -> None:
        """End an introduction now: its channel is taken back. The id may be shortened, if it stays unambiguous."""
        fitting = [identifier for identifier in self._rows if text and text_of(identifier).startswith(text.lower())]
        if len(fitting) != 1:
            self._ctx.refuse(request, Code.TOKEN_UNKNOWN if not fitting else Code.PEER_AMBIGUOUS, "See: introduce list")
            return
        identifier = fitting[0]
        ticket = self._end(identifier, replace(self._rows[identifier], revoked=1))
        self._ctx.notify("introduction_revoked", introduction=identifier)
        self._ctx.respond_after(ticket, request, introduction_id=identifier, state="revoked")

    def _end(self, identifier: IntroductionId, row: IntroductionRow) -> Ticket:
        self._rows[identifier] = row
        self._holders.release(identifier)
        return self._ctx.persist(Put("introductions", identifier, encode(row)))

    def sweep(self) -> None:
        """Take back the channels of expired tokens; forget the old ones."""
        now = self._ctx.now.unix
        for identifier, row in list(self._rows.items()):
            if row.expires + CLOCK_SKEW < now and self._holders.is_ready(identifier):
                self._holders.release(identifier)
            if row.expires + EXPIRED_RETENTION < now:
                self.forget(identifier)

    def forget(self, identifier: IntroductionId, ticket: Ticket | None = None) -> None:
        """Not even in the list any more."""
        del self._rows[identifier]
        self._holders.release(identifier, ticket)
        self._ctx.delete("introductions", identifier)

    def forget_all(self, ticket: Ticket) -> None:
        """We are no member any more, once ``ticket`` is durable."""
        for identifier in list(self._rows):
            self.forget(identifier, ticket)
        for request in self._mints.values():
            self._ctx.refuse(request, Code.NO_MESH)
        self._mints.clear()

    # -- for those who bring one --------------------------------------------------------------------------------------

    def is_ours(self, holder: bytes) -> bool:
        """Whether that channel's holder is one of our tokens."""
        return holder in self._rows

    def with_key(self, sealing_key: bytes) -> IntroductionId | None:
        """The token of ours that has this sealing key."""
        identifier = introduction_id(sealing_key)
        return identifier if identifier in self._rows else None

    def row(self, identifier: IntroductionId) -> IntroductionRow:
        """What we know of that token of ours."""
        return self._rows[identifier]

    def use(self, identifier: IntroductionId, joiner: PeerId) -> Put:
        """One use less. Gives the change to persist."""
        row = self._rows[identifier]
        row = self._rows[identifier] = replace(row, joined=(*row.joined, joiner))
        return Put("introductions", identifier, encode(row))

    # -- view ---------------------------------------------------------------------------------------------------------

    def view(self) -> list[dict[str, object]]:
        """For ``introductions.list``, newest first."""
        newest_first = list(self._rows.items())[::-1]  # of one second, the one minted last
        newest_first.sort(key=lambda item: -item[1].created)
        result: list[dict[str, object]] = []
        for identifier, row in newest_first:
            left = max(0, row.uses - len(row.joined))
            expired = row.expires < self._ctx.now.unix
            state = "revoked" if row.revoked else "used" if not left else "expired" if expired else "open"
            result.append(
                {
                    "introduction_id": identifier,
                    "label": row.label,
                    "created_at": float(row.created),
                    "expires_at": float(row.expires),
                    "uses_left": left,
                    "state": state,
                    "joined": [self._membership.name_of(PeerId(peer)) or text_of(peer)[:10] for peer in row.joined],
                }
            )
        return result
