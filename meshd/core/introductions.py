"""The introducer's side: minting tokens, and admitting who brings one."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace

from meshd.core.channels import Channels
from meshd.core.commands import Put
from meshd.core.context import Context
from meshd.core.membership import Membership
from meshd.core.post import Post
from meshd.core.pushing import Pushing
from meshd.core.reachability import Outlook
from meshd.core.signaling import PUSH_SESSION_TIMEOUT, Purpose, Session, Signaling
from meshd.core.state import IntroductionRow, Stored, rows
from meshd.crypto.admission import Chain, Rights
from meshd.errors import Code, MalformedMessage, Rejected
from meshd.ids import CLOCK_SKEW, IntroductionId, PeerId, RequestId, SessionId, Ticket, is_name, text_of
from meshd.wire.codec import encode
from meshd.wire.envelope import Letter, open_envelope
from meshd.wire.introduction import Introduction, encode_token, introduction_id, proof_of
from meshd.wire.messages import JOINING, JoinAccepted, JoinRefused, JoinRequest, decode_message
from meshd.wire.session_description import decode as decode_description

# Policy
MAX_INTRODUCTIONS = 256  # kept, the expired ones included
MAX_USES = 1000
MAX_LIFETIME = 15 * 86400.0  # seconds; a capability covers a day at most, and a subscription carries 16 of them
EXPIRED_RETENTION = 7 * 86400.0  # seconds an ended introduction stays in the list
MAX_CLOCK_REFUSALS = 3  # for one token
CHANNEL_WAIT = 2.0  # seconds an acceptance waits for a channel to grant in it


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A joiner that has been admitted and is to be answered."""

    introduction: IntroductionId
    peer: PeerId
    chain: Chain


class Introductions:
    """This node as an introducer."""

    __slots__ = (
        "_arrivals",
        "_channels",
        "_clocks",
        "_ctx",
        "_membership",
        "_mints",
        "_outlook",
        "_post",
        "_pushing",
        "_rows",
        "_signaling",
    )

    def __init__(
        self,
        ctx: Context,
        stored: Stored,
        membership: Membership,
        channels: Channels,
        pushing: Pushing,
        post: Post,
        signaling: Signaling,
        outlook: Outlook,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._channels = channels
        self._pushing = pushing
        self._post = post
        self._signaling = signaling
        self._outlook = outlook
        self._rows = {IntroductionId(k): row for k, row in rows(stored, "introductions", IntroductionRow).items()}
        self._mints: dict[IntroductionId, RequestId] = {}  # waiting for their channel
        self._arrivals: dict[SessionId, _Arrival] = {}
        self._clocks: dict[IntroductionId, int] = {}  # how often a bearer was told that a clock is wrong

    # -- minting ------------------------------------------------------------------------------------------------------

    def mint(self, request: RequestId, lifetime: float, uses: int, label: str) -> None:
        """A new token; answered when its channel is there."""
        if not self._membership.rights & (Rights.INTRODUCE | Rights.ADMIN):
            self._ctx.refuse(request, Code.REFUSED, "An admin has not given this node the right to introduce others.")
            return
        if not self._membership.may_admit:
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
        expires = now + int(min(lifetime, MAX_LIFETIME))
        row = IntroductionRow(seed, secret, label[:64], now, expires, min(uses, MAX_USES), 0)
        identifier = introduction_id(self._ctx.suite.sealing_key_of(seed))
        self._rows[identifier] = row
        self._ctx.persist(Put("introductions", identifier, encode(row)))  # before the channel's, so before the token
        self._mints[identifier] = request
        self._ctx.timer("mint", identifier, self._ctx.config.push.request_timeout)
        self._channels.ensure(identifier)

    def on_channel_ready(self, holder: bytes) -> None:
        """A token's channel is there: the token can be given out. A joiner's: its answer can go."""
        identifier = IntroductionId(holder)
        request = self._mints.pop(identifier, None)
        if request is not None:
            self._ctx.cancel_timer("mint", identifier)
            self._hand_out(request, identifier)
        for session_id, arrival in list(self._arrivals.items()):
            if arrival.peer == holder:
                self.on_grant_wait_over(session_id)

    def on_mint_timeout(self, about: bytes) -> None:
        """No push service has answered: a token without a way to us is none."""
        identifier = IntroductionId(about)
        request = self._mints.pop(identifier, None)
        if request is not None:
            self._end(identifier, replace(self._rows[identifier], revoked=1))
            self._ctx.refuse(request, Code.PUSH_UNAVAILABLE, "meshctl status says more about the push services.")

    def _hand_out(self, request: RequestId, identifier: IntroductionId) -> None:
        row = self._rows[identifier]
        grant = self._channels.grant(identifier, 0, row.expires - self._ctx.now.unix)
        if grant is None or row.revoked:
            self._ctx.refuse(request, Code.PUSH_UNAVAILABLE)
            return
        token = encode_token(
            Introduction(
                self._membership.mesh,
                self._ctx.own_id,
                self._ctx.suite.sealing_key_of(row.sealing_seed),
                row.secret,
                row.expires,
                grant.subscriptions,
            )
        )
        self._ctx.notify("introduction_minted", introduction=identifier, label=row.label, uses=row.uses)
        self._ctx.respond(
            request,
            token=token,
            introduction_id=identifier,
            expires_at=float(row.expires),
            uses=row.uses,
            warnings=list(self._outlook.warnings),
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
        self._channels.release(identifier)
        return self._ctx.persist(Put("introductions", identifier, encode(row)))

    def sweep(self) -> None:
        """Take back the channels of expired tokens; forget the old ones."""
        for session in [session for session in self._arrivals if self._signaling.session(session) is None]:
            self.on_session_over(session)  # the joiner's own offer, as a member by then, has taken its place
        now = self._ctx.now.unix
        for identifier, row in list(self._rows.items()):
            if row.expires + CLOCK_SKEW < now and self._channels.is_ready(identifier):
                self._channels.release(identifier)
            if row.expires + EXPIRED_RETENTION < now:
                self.forget(identifier)

    def forget(self, identifier: IntroductionId, ticket: Ticket | None = None) -> None:
        """Not even in the list any more."""
        del self._rows[identifier]
        self._clocks.pop(identifier, None)
        self._channels.release(identifier, ticket)
        self._ctx.delete("introductions", identifier)

    def forget_all(self, ticket: Ticket) -> None:
        """We are no member any more, once ``ticket`` is durable."""
        for identifier in list(self._rows):
            self.forget(identifier, ticket)
        for request in self._mints.values():
            self._ctx.refuse(request, Code.NO_MESH)
        self._mints.clear()
        self._arrivals.clear()

    # -- a joiner knocks ----------------------------------------------------------------------------------------------

    def is_ours(self, holder: bytes) -> bool:
        """Whether that channel's holder is one of our tokens."""
        return holder in self._rows

    def on_push(self, identifier: IntroductionId, envelope: bytes) -> Ticket | None:
        """An envelope on a token's channel. Gives the ticket that the push's acknowledgement waits for.

        Raises MalformedMessage and Rejected.
        """
        row = self._rows[identifier]
        mesh = self._membership.mesh
        try:
            letter = self._post.open(envelope, mesh, row.sealing_seed)
        except Rejected as rejected:
            if rejected.reason in ("clock", "expired"):
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
        if reason is not None:
            self._refuse(letter.sender, letter.session, request, reason, ticket)
            return ticket
        self._admit(identifier, row, letter.sender, letter.session, request)
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
        self._pushing.forget(joiner)
        self._pushing.on_grant(joiner, request.grant)

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
        if len(self._membership) >= self._ctx.config.mesh.max_members:
            return "busy"
        return None

    def _refuse(
        self, joiner: PeerId, session: SessionId, request: JoinRequest, reason: str, ticket: Ticket | None
    ) -> None:
        self._ctx.count(f"joins_refused_{reason}")
        self._ctx.notify("join_refused", peer=joiner, introduction=request.introduction, reason=reason)
        envelope = self._post.envelope_to(
            self._membership.mesh, joiner, request.sealing_key, JoinRefused(reason), session
        )
        if envelope is not None:
            self._pushing.send(session, envelope, peer=joiner, lifetime=300.0, ticket=ticket)
        if not self._membership.is_member(joiner):
            self._pushing.forget(joiner)

    def _admit(
        self,
        identifier: IntroductionId,
        row: IntroductionRow,
        joiner: PeerId,
        session_id: SessionId,
        request: JoinRequest,
    ) -> None:
        """Use the token up (durably, before the answer leaves), and gather. The same joiner again: same admission."""
        remote = decode_description(request.description)
        name = self._membership.name_of(joiner) if joiner in row.joined else None
        if name is None:
            name = self._membership.free_name(request.name if is_name(request.name) else "peer", joiner)
        chain = self._membership.chain_for(joiner, name)
        changes = [self._membership.remember_admitted(joiner, chain, request.sealing_key)]
        if joiner not in row.joined:
            row = replace(row, joined=(*row.joined, joiner))
            self._rows[identifier] = row
            changes.append(Put("introductions", identifier, encode(row)))
            self._ctx.notify("peer_admitted", peer=joiner, name=name, introduction=identifier)
        ticket = self._ctx.persist(*changes)
        previous = self._signaling.with_peer(joiner)
        if previous is not None:  # an earlier try of the same joiner; this one's description is fresher
            self._arrivals.pop(previous.id, None)
            self._signaling.end(previous, "superseded")
        session = self._signaling.begin(
            joiner,
            self._membership.mesh,
            Purpose.ADMIT,
            offerer=False,
            session=session_id,
            ticket=ticket,
            timeout=PUSH_SESSION_TIMEOUT,
        )
        if session is not None:
            session.remote = remote
            self._arrivals[session_id] = _Arrival(identifier, joiner, chain)
            self._channels.ensure(joiner)

    # -- answering ----------------------------------------------------------------------------------------------------

    def ready(self, session: Session) -> None:
        """Our description is there: answer, with a grant if the channel for it is there soon."""
        if self._channels.receiving and not self._channels.is_ready(session.peer):
            self._ctx.timer("accept", session.id, CHANNEL_WAIT)
        else:
            self.on_grant_wait_over(session.id)

    def on_grant_wait_over(self, about: bytes) -> None:
        """Answer now."""
        session = self._signaling.session(SessionId(about))
        arrival = self._arrivals.get(SessionId(about))
        own = self._membership.own_record
        if session is None or arrival is None or own is None or not session.description or session.pushed:
            return
        self._ctx.cancel_timer("accept", about)
        row = self._membership.row
        generation = row.generation if row is not None else 0
        accepted = JoinAccepted(
            session.description,
            tuple(c.encoded for c in arrival.chain),
            row.mesh_name if row is not None else "",
            own.encoded,
            self._channels.grant(arrival.peer, generation),
        )
        session.pushed = self._post.push_in_session(
            arrival.peer,
            accepted,
            session.id,
            name=session.id,
            topic=b"accept" + self._ctx.own_id[:12],
            lifetime=PUSH_SESSION_TIMEOUT,
            ticket=self._later(session.ticket),
        )
        if not session.pushed:
            self._ctx.count("joins_unanswerable")
            self._signaling.end(session, "no_capability")

    def _later(self, admission: Ticket | None) -> Ticket | None:
        """What is durable last of the admission and the record that goes with it: that covers both."""
        own = self._membership.own_ticket
        return own if admission is None or (own is not None and own > admission) else admission

    def on_neighbor_up(self, peer: PeerId) -> None:
        """It is in: nothing is left to be answered."""
        for session, arrival in list(self._arrivals.items()):
            if arrival.peer == peer:
                self.on_session_over(session)

    def on_session_over(self, session: SessionId) -> None:
        """It has succeeded or failed."""
        self._ctx.cancel_timer("accept", session)
        self._arrivals.pop(session, None)

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
