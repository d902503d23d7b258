"""The joiner's side: from a pasted token to the first link, in two pushes."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshd.core.channels import Channels
from meshd.core.context import Context
from meshd.core.membership import Membership
from meshd.core.newcomer import check_accepted, check_answered
from meshd.core.post import Post
from meshd.core.pushing import Pushing
from meshd.core.reachability import warnings_about, why_no_link
from meshd.core.session import NOBODY, Session, SessionState
from meshd.core.signaling import PUSH_SESSION_TIMEOUT, Signaling
from meshd.core.stun_servers import StunServers
from meshd.core.tries import Tries, Try
from meshd.errors import Code, ControlError, MalformedMessage, Rejected
from meshd.ids import PeerId, RequestId, SessionId, Ticket, is_name
from meshd.wire.envelope import Letter, open_envelope
from meshd.wire.introduction import Introduction, decode_token, proof_of
from meshd.wire.joining import JoinAccepted, JoinAnswered, JoinRefused, JoinRequest
from meshd.wire.messages import JOINING, decode_message
from meshd.wire.session_description import SessionDescription
from meshd.wire.session_description import decode as decode_description

# Policy
RETRY_INTERVAL = 20.0  # seconds without an answer, after which a fresh description is pushed
MAX_TRIES = 5  # requests pushed in one join; two are kept alive at once
FURTHER_WAIT = 0.5  # seconds a request waits for the descriptions of its further offers
PUSH_WAIT = 10.0  # seconds for a push service to take us as a user agent
MAX_JOIN_TIMEOUT = 600.0

_REFUSALS = {
    "used_up": Code.TOKEN_USED_UP,
    "revoked": Code.TOKEN_REVOKED,
    "expired": Code.TOKEN_EXPIRED,
    "clock": Code.CLOCK_WRONG,
    "busy": Code.BUSY,
}


@dataclass(slots=True)
class _Join:
    """The join under way. Times in monotonic seconds."""

    request: RequestId
    introduction: Introduction
    name: str
    began: float
    tries: Tries
    attempts: int = 0
    pushes_sent: int = 0
    pushes_received: int = 0
    accepted: bool = False
    introducer_name: str = ""
    warnings: list[str] = field(default_factory=list)
    local: SessionDescription | None = None  # the newest of ours and of theirs, to say why there is no link
    remote: SessionDescription | None = None
    trouble: str = ""  # the last thing that went wrong, for the error


class Joining:
    """At most one join at a time, by a node without a mesh."""

    __slots__ = ("_channels", "_ctx", "_join", "_membership", "_post", "_pushing", "_signaling", "_stun_servers")

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        channels: Channels,
        pushing: Pushing,
        post: Post,
        signaling: Signaling,
        stun_servers: StunServers,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._channels = channels
        self._pushing = pushing
        self._post = post
        self._signaling = signaling
        self._stun_servers = stun_servers
        self._join: _Join | None = None

    @property
    def active(self) -> bool:
        """Whether a join is under way."""
        return self._join is not None

    def is_introducer(self, peer: PeerId) -> bool:
        """Whether that peer is the one that we have asked to let us in."""
        return self._join is not None and peer == self._join.introduction.introducer

    # -- beginning ----------------------------------------------------------------------------------------------------

    def begin(self, request: RequestId, token: str, name: str, timeout: float) -> None:
        """Read the token, become reachable, gather; then push."""
        try:
            introduction = decode_token(token)
            self._check(introduction, name)
        except ControlError as error:
            self._ctx.refuse(request, error.code, error.detail)
            return
        self._join = _Join(request, introduction, name, self._ctx.now.mono, Tries(self._ctx, self._signaling))
        self._ctx.notify("join_began", introduction=introduction.id, introducer=introduction.introducer)
        self._stun_servers.join_begins(introduction.stun_servers)
        self._channels.activate()
        self._channels.ensure(introduction.introducer)
        self._ctx.timer("join", b"", min(timeout, MAX_JOIN_TIMEOUT))
        self._ctx.timer("join_push", b"", PUSH_WAIT)
        self._gather()

    def refuse_member(self, token: str) -> None:
        """A token pasted where there is a mesh already. Raises ControlError: what fits best."""
        introduction = decode_token(token)
        if introduction.introducer == self._ctx.own_id:
            raise ControlError(Code.TOKEN_OWN, "Paste it on the machine that is to join.")
        if introduction.mesh == self._membership.mesh:
            raise ControlError(Code.IN_MESH, "The token is of this very mesh: nothing is to be done.")
        raise ControlError(Code.IN_MESH, "The token is of another mesh.")

    def _check(self, introduction: Introduction, name: str) -> None:
        if introduction.introducer == self._ctx.own_id:
            raise ControlError(Code.TOKEN_OWN, "Paste it on the machine that is to join.")
        if introduction.expires <= self._ctx.now.unix:
            raise ControlError(Code.TOKEN_EXPIRED, "If it is fresh, this machine's clock is wrong.")
        if not is_name(name):
            raise ControlError(Code.NAME_INVALID)
        if not introduction.subscriptions:
            raise ControlError(Code.TOKEN_MANGLED, "It names no push service.")

    def _gather(self) -> None:
        join = self._join
        assert join is not None
        join.tries.begin(join.introduction.introducer, join.introduction.mesh)

    # -- pushing the request ------------------------------------------------------------------------------------------

    def ready(self, session: Session) -> None:
        """The description of one of our offers is there."""
        join = self._join
        this = None if join is None else join.tries.of(session.id)
        if join is None or this is None:
            return
        if session.id == this.session:
            join.local = decode_description(session.description)
            join.warnings = warnings_about(join.local, self._ctx.config.links)
            self._ctx.timer("further", session.id, FURTHER_WAIT)
        self._request(this)

    def on_further_wait_over(self, about: bytes) -> None:
        """Go with those further offers that are ready."""
        this = None if self._join is None else self._join.tries.of(SessionId(about))
        if this is not None:
            this.waited = True
            self._request(this)

    def on_channel_ready(self, holder: bytes) -> None:
        """The introducer can answer us by push now."""
        join = self._join
        if join is not None and holder == join.introduction.introducer:
            self._ctx.cancel_timer("join_push", b"")
            for this in join.tries.all():
                self._request(this)

    def _request(self, this: Try) -> None:
        """Needs the descriptions and the channel; comes when the last of them is there."""
        join, session = self._join, self._signaling.session(this.session)
        if join is None or session is None or not session.description or session.sent is not None or join.accepted:
            return
        if not this.waited and not all(offer.description for offer in join.tries.offers(this)):
            return
        introduction = join.introduction
        grant = self._channels.grant(introduction.introducer, 0)
        if grant is None:
            return
        message = JoinRequest(
            introduction.id,
            proof_of(introduction.secret, self._ctx.own_id, session.id),
            join.name,
            self._ctx.suite.sealing_key,
            self._ctx.instance,
            session.description,
            grant,
        )
        message = join.tries.with_further(message, this)
        envelope = self._post.envelope_to(
            introduction.mesh, introduction.sealing_key, introduction.sealing_key, message, session.id
        )
        if envelope is None:
            self._fail(Code.TOKEN_MANGLED, "Its key is none.")
            return
        self._ctx.cancel_timer("further", session.id)
        session.sent, session.state = message, SessionState.HAVE_LOCAL_OFFER
        sent = self._pushing.send(
            session.id,
            envelope,
            subscriptions=introduction.subscriptions,
            topic=b"join" + self._ctx.own_id[:12],
            lifetime=PUSH_SESSION_TIMEOUT,
        )
        if not sent:
            self._fail(Code.TOKEN_EXPIRED, "Or this machine's clock is wrong: its capability cannot be used now.")
            return
        join.attempts += 1
        join.pushes_sent += 1
        self._ctx.notify("join_requested", introducer=introduction.introducer, attempt=join.attempts)
        if join.attempts < MAX_TRIES:
            self._ctx.timer("join_retry", b"", RETRY_INTERVAL)

    def on_retry(self) -> None:
        """No answer: again, with a fresh description."""
        if self._join is not None and not self._join.accepted:
            self._gather()

    def on_push_outcome(self, name: bytes, outcome: str, detail: str) -> bool:
        """Of one of our requests; True if it was."""
        join = self._join
        this = None if join is None else join.tries.of(SessionId(name))
        if join is None or this is None:
            return False
        if outcome == "gone":
            self._fail(Code.TOKEN_REVOKED, "Its push subscription is gone.")
        elif outcome == "failed":
            join.trouble = detail
            join.tries.give_up(this)  # a later one, with what the retry timer gathers, may fare better
        return True

    # -- the answer ---------------------------------------------------------------------------------------------------

    def on_push(self, envelope: bytes) -> Ticket | None:
        """An envelope while we join. Gives the ticket of its acknowledgement. Raises MalformedMessage, Rejected."""
        join = self._join
        if join is None:
            raise Rejected("no_join")
        mesh = join.introduction.mesh
        try:
            letter = self._post.open(envelope, mesh)
        except Rejected as rejected:
            self._blame_clock(envelope, rejected)
            raise
        if letter.sender != join.introduction.introducer:
            raise Rejected("stranger")
        message = decode_message(letter.body, JOINING)
        ticket = self._post.remember(letter)
        session, this = self._signaling.session(letter.session), join.tries.of(letter.session)
        if session is None or this is None or this.session != session.id:
            raise Rejected("no_session")
        join.pushes_received += 1
        if isinstance(message, JoinRefused):
            code = _REFUSALS.get(message.reason, Code.JOIN_REFUSED)
            self._fail(code, "" if code is not Code.JOIN_REFUSED else f"It says: {message.reason[:32]}.")
        elif isinstance(message, JoinAccepted):
            self._accept(join, session, letter, message)
            for answer in message.answers:
                self._take_answer(join, this, answer)
            join.tries.give_up_unanswered(this)
        return ticket

    def _take_answer(self, join: _Join, this: Try, envelope: bytes) -> None:
        """Another member's answer, to one of our further offers. What is wrong with it does no harm to the others."""
        try:
            letter = self._post.open(envelope, self._membership.mesh)
            message = decode_message(letter.body, JOINING)
            session = self._signaling.session(letter.session)
            if not isinstance(message, JoinAnswered) or session is None or letter.session not in this.further:
                raise Rejected("no_session")
            if session.peer != NOBODY or letter.sender in (*join.tries.peers(this), self._ctx.own_id):
                raise Rejected("answered_already")
            chain = check_answered(message, letter.sender, self._membership.chain, self._membership.mesh, self._ctx)
            remote = decode_description(message.description)
            self._post.remember(letter)
        except (MalformedMessage, Rejected) as error:
            self._ctx.count("join_answers_rejected")
            self._ctx.notify("envelope_rejected", peer=join.introduction.introducer, reason=str(error))
            return
        self._ctx.persist(self._membership.remember_admitted(letter.sender, chain, message.sealing_key))
        self._signaling.address(session, letter.sender)
        self._signaling.depend(session, self._membership.own_ticket)
        self._signaling.connect(session, remote)

    def _blame_clock(self, envelope: bytes, rejected: Rejected) -> None:
        """The answer to our own request cannot be old: if it looks so, one of the clocks is wrong."""
        join = self._join
        if join is not None and rejected.reason in ("clock", "expired"):
            letter = open_envelope(self._ctx.suite, join.introduction.mesh, envelope)
            if letter.sender == join.introduction.introducer and join.tries.of(letter.session) is not None:
                off = self._ctx.now.unix - letter.issued
                ahead = "ahead of" if off > 0 else "behind"
                self._fail(Code.CLOCK_WRONG, f"This one is {abs(off):.0f} s {ahead} the introducer's.")

    def _accept(self, join: _Join, session: Session, letter: Letter, message: JoinAccepted) -> None:
        chain, record = check_accepted(message, self._ctx.own_id, join.introduction.mesh, self._ctx)
        if record.peer != letter.sender:
            raise Rejected("record_of_another")
        remote = join.remote = decode_description(message.description)
        if not join.accepted:
            join.accepted = True
            join.introducer_name = record.name
            self._ctx.cancel_timer("join_retry", b"")
            mesh_name = message.mesh_name if is_name(message.mesh_name) else "mesh"
            self._membership.enter(join.introduction.mesh, mesh_name, chain)
            self._membership.accept(message.record, letter.sender)
            if message.grant is not None:
                self._pushing.on_grant(letter.sender, message.grant)
            self._ctx.notify("joined", mesh=join.introduction.mesh, name=chain[-1].name, introducer=letter.sender)
        self._signaling.depend(session, self._membership.own_ticket)  # also the answer to another try
        self._signaling.connect(session, remote)

    # -- the end ------------------------------------------------------------------------------------------------------

    def on_neighbor_up(self, peer: PeerId) -> None:
        """The first link, to whomever: done."""
        join = self._join
        if join is None or self._membership.row is None:
            return
        for this in join.tries.all():
            self._ctx.cancel_timer("further", this.session)
            join.tries.give_up_unanswered(this)
        self._join = None
        self._stop_timers()
        row = self._membership.row
        self._ctx.respond(
            join.request,
            mesh_id=row.mesh,
            mesh_name=row.mesh_name,
            peer_id=self._ctx.own_id,
            name=self._membership.name,
            introducer={"peer_id": join.introduction.introducer, "name": join.introducer_name},
            elapsed=self._ctx.now.mono - join.began,
            pushes_sent=join.pushes_sent,
            pushes_received=join.pushes_received,
            warnings=join.warnings,
        )

    def on_session_failed(self, session_id: SessionId, reason: str) -> None:
        """A link could not be made. We may be a member all the same: others will be tried."""
        join = self._join
        if join is None or join.tries.of(session_id) is None:
            return
        if join.accepted and join.tries.is_over():
            why = why_no_link(join.local, join.remote, self._ctx.config.links)
            self._fail(Code.LINK_FAILED, f"{why} This node is a member and keeps trying. ({reason})")

    def on_timer(self, name: str) -> None:
        """The join's own deadlines."""
        join = self._join
        if join is None:
            return
        if name == "join_push":
            self._fail(Code.PUSH_UNAVAILABLE, "See meshctl status, and push.services in the configuration.")
        elif name == "join_retry":
            self.on_retry()
        elif join.accepted:
            self._fail(Code.LINK_FAILED, why_no_link(join.local, join.remote, self._ctx.config.links))
        else:
            self._fail(Code.JOIN_TIMEOUT, join.trouble or "Is it running, and online?")

    def abandon(self, request: RequestId) -> None:
        """Nobody waits any more. Before we are admitted that ends it; afterwards we are a member and stay one."""
        if self._join is not None and self._join.request == request:
            self._fail(Code.JOIN_TIMEOUT, "")

    def _fail(self, code: Code, detail: str) -> None:
        join = self._join
        if join is None:
            return
        self._join = None
        self._stop_timers()
        self._ctx.notify("join_failed", introducer=join.introduction.introducer, reason=code.symbol)
        self._ctx.refuse(join.request, code, detail)
        if self._membership.row is None:
            for this in join.tries.all():
                join.tries.give_up(this)
            self._stun_servers.join_ended()
            self._channels.deactivate()
            self._pushing.forget_all()

    def _stop_timers(self) -> None:
        for name in ("join", "join_push", "join_retry"):
            self._ctx.cancel_timer(name, b"")
