"""Who brings one of our tokens: admitted, or told why not."""

from __future__ import annotations

import hmac

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.joining.arrivals import Arrivals
from meshd.core.joining.introductions import MAX_INTRODUCTIONS, Introductions
from meshd.core.membership.admitting import Admitting
from meshd.core.membership.membership import Membership
from meshd.core.pushing.pushing import Pushing
from meshd.core.signaling.signaling import Signaling
from meshd.core.state import IntroductionRow
from meshd.errors import Code, MalformedMessage, Rejected
from meshd.ids import IntroductionId, PeerId, RequestId, SessionId, Ticket
from meshd.rates import RateLimiter
from meshd.wire.envelope import Letter, open_envelope
from meshd.wire.introduction import proof_of
from meshd.wire.joining import JoinRefused, JoinRequest
from meshd.wire.messages import JOINING, decode_message

# Policy
MAX_CLOCK_REFUSALS = 3  # for one token
# Bearers of one token that are told why not, at once and per second after that: each is a push to where it says.
REFUSAL_BURST, REFUSAL_RATE = 16, 1 / 60

REFUSAL_LIFETIME = 300.0  # seconds

REFUSALS = {
    "used_up": Code.TOKEN_USED_UP,
    "revoked": Code.TOKEN_REVOKED,
    "expired": Code.TOKEN_EXPIRED,
    "clock": Code.CLOCK_WRONG,
    "busy": Code.BUSY,
    "key_revoked": Code.KEY_REVOKED,
}


class Bearers:
    """This node as an introducer: what stands between a token and an admission."""

    __slots__ = (
        "_admitting",
        "_arrivals",
        "_clocks",
        "_ctx",
        "_introductions",
        "_membership",
        "_post",
        "_pushing",
        "_refusals",
        "_signaling",
    )

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        admitting: Admitting,
        pushing: Pushing,
        post: Post,
        signaling: Signaling,
        introductions: Introductions,
        arrivals: Arrivals,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._admitting = admitting
        self._pushing = pushing
        self._post = post
        self._signaling = signaling
        self._introductions = introductions
        self._arrivals = arrivals
        self._refusals = RateLimiter(REFUSAL_RATE, REFUSAL_BURST, MAX_INTRODUCTIONS)
        self._clocks: dict[IntroductionId, int] = {}  # how often a bearer was told that a clock is wrong

    def sweep(self) -> None:
        """Forget about tokens that are no more."""
        for identifier in [identifier for identifier in self._clocks if not self._introductions.is_ours(identifier)]:
            del self._clocks[identifier]

    def forget_all(self) -> None:
        """We are no member any more."""
        self._clocks.clear()

    # -- a joiner knocks ----------------------------------------------------------------------------------------------

    def on_envelope(self, identifier: IntroductionId, envelope: bytes) -> Ticket | None:
        """An envelope on a token's channel. Gives the ticket that the push's acknowledgement waits for.

        Raises MalformedMessage and Rejected.
        """
        return self._take(identifier, envelope, None)

    def on_pasted(self, request: RequestId, identifier: IntroductionId, envelope: bytes) -> None:
        """The same, carried by somebody who waits for the answer's text. Raises MalformedMessage and Rejected."""
        self._take(identifier, envelope, request)

    def _take(self, identifier: IntroductionId, envelope: bytes, carrier: RequestId | None) -> Ticket | None:
        row = self._introductions.row(identifier)
        mesh = self._membership.mesh
        try:
            letter = self._post.open(envelope, mesh, row.sealing_seed)
        except Rejected as rejected:
            if carrier is None and rejected.reason in ("clock", "expired"):
                self._blame_clock(identifier, row, open_envelope(self._ctx.suite, mesh, envelope, row.sealing_seed))
            raise
        request = self._request_in(letter, identifier, row)
        try:
            ticket: Ticket | None = self._post.remember(letter)
        except Rejected as rejected:
            if rejected.reason != "replayed" or not self._is_unanswered(row, letter.sender):
                raise
            ticket = None
        self._take_grant(letter.sender, request)
        reason = self._why_not(row, letter.sender)
        if reason is not None and carrier is not None:
            self._ctx.refuse(carrier, REFUSALS[reason])
        elif reason is not None:
            self._refuse(letter.sender, letter.session, request, reason, ticket)
        else:
            self._admit(identifier, row, letter.sender, letter.session, request, carrier)
        return ticket

    def _request_in(self, letter: Letter, identifier: IntroductionId, row: IntroductionRow) -> JoinRequest:
        """The request, from one who holds the secret. Raises MalformedMessage and Rejected."""
        request = decode_message(letter.body, JOINING)
        if not isinstance(request, JoinRequest) or request.introduction != identifier:
            raise MalformedMessage("no join request on a token's channel")
        if not hmac.compare_digest(request.proof, proof_of(row.secret, letter.sender, letter.session)):
            raise Rejected("proof_wrong")
        if letter.sender == self._ctx.own_id:
            raise Rejected("own_token")
        return request

    def _take_grant(self, joiner: PeerId, request: JoinRequest) -> None:
        """Whoever joins begins anew: what it granted in an earlier life, under a higher generation, does not count."""
        self._pushing.heard(joiner)
        self._pushing.grants.forget(joiner)
        self._pushing.grants.on_grant(joiner, request.grant)

    def _blame_clock(self, identifier: IntroductionId, row: IntroductionRow, letter: Letter) -> None:
        """A request from another time: its clock is wrong, or ours. The answer shows it which, and uses nothing up.

        A few times for each token, lest an old request be played to us for ever.
        """
        request = self._request_in(letter, identifier, row)
        told = self._clocks.get(identifier, 0)
        if told < MAX_CLOCK_REFUSALS and not self._membership.is_member(letter.sender):
            self._clocks[identifier] = told + 1
            self._take_grant(letter.sender, request)
            self._refuse(letter.sender, letter.session, request, "clock", None)

    def _is_unanswered(self, row: IntroductionRow, joiner: PeerId) -> bool:
        """Whether we died between using the token up and answering: then the service brings the request again."""
        return (
            joiner in row.joined
            and self._membership.record(joiner) is None
            and self._signaling.with_peer(joiner) is None
        )

    def _why_not(self, row: IntroductionRow, joiner: PeerId) -> str | None:
        if row.revoked:
            return "revoked"
        if row.expires < self._ctx.now.unix:
            return "expired"
        if joiner not in row.joined and len(row.joined) >= row.uses:
            return "used_up"
        if self._membership.is_barred(joiner):
            return "key_revoked"
        if len(self._membership) >= self._ctx.config.mesh.max_members:
            return "busy"
        return None

    def _refuse(
        self, joiner: PeerId, session: SessionId, request: JoinRequest, reason: str, ticket: Ticket | None
    ) -> None:
        self._ctx.count(f"joins_refused_{reason}")
        if self._refusals.take(request.introduction, self._ctx.now.mono):
            self._ctx.count("joins_refused_unanswered")
        else:
            self._tell_why_not(joiner, session, request, reason, ticket)
        if not self._membership.is_member(joiner):
            self._pushing.grants.forget(joiner)

    def _tell_why_not(
        self, joiner: PeerId, session: SessionId, request: JoinRequest, reason: str, ticket: Ticket | None
    ) -> None:
        self._ctx.notify("join_refused", peer=joiner, introduction=request.introduction, reason=reason)
        envelope = self._post.envelope_to(
            self._membership.mesh, joiner, request.sealing_key, JoinRefused(reason), session
        )
        if envelope is not None:
            self._pushing.send(session, envelope, peer=joiner, lifetime=REFUSAL_LIFETIME, ticket=ticket)

    def _admit(
        self,
        identifier: IntroductionId,
        row: IntroductionRow,
        joiner: PeerId,
        session_id: SessionId,
        request: JoinRequest,
        carrier: RequestId | None,
    ) -> None:
        """Use the token up (durably, before the answer leaves), and gather. The same joiner again: same admission."""
        name = self._membership.name_of(joiner) if joiner in row.joined else None
        if name is None:
            name = self._admitting.free_name(request.name, joiner)
        chain = self._admitting.chain_for(joiner, name)
        changes = [self._membership.remember_admitted(joiner, chain, request.sealing_key)]
        if joiner not in row.joined:
            changes.append(self._introductions.use(identifier, joiner))
            self._ctx.notify("peer_admitted", peer=joiner, name=name, introduction=identifier)
        ticket = self._ctx.persist(*changes)
        is_begun = self._arrivals.welcome(joiner, chain, session_id, request, ticket, carrier)
        if not is_begun and carrier is not None:
            self._ctx.refuse(carrier, Code.BUSY)
