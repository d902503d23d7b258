"""The joiner's side: from a pasted token to the first link, in two pushes."""

from __future__ import annotations

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.facts import PushOutcome
from meshd.core.joining.bearers import REFUSALS
from meshd.core.joining.newcomer import check_accepted, check_token, read_token
from meshd.core.joining.reachability import warnings_about, why_no_link
from meshd.core.joining.tries import Join, Tries, Try
from meshd.core.membership.membership import Membership
from meshd.core.pushing.holders import Holders
from meshd.core.pushing.pushing import Pushing
from meshd.core.signaling.session import PASTE_TIMEOUT, PUSH_SESSION_TIMEOUT, Session, SessionState
from meshd.core.signaling.sessions import SESSION_TIMEOUT
from meshd.core.signaling.signaling import Signaling
from meshd.core.signaling.stun_servers import StunServers
from meshd.errors import Code, ControlError, Rejected
from meshd.ids import PeerId, RequestId, SessionId, Ticket, is_name
from meshd.wire.envelope import Letter, open_envelope, read_header
from meshd.wire.introduction import proof_of
from meshd.wire.joining import JoinAccepted, JoinRefused, JoinRequest
from meshd.wire.messages import JOINING, decode_message
from meshd.wire.parts import Grant
from meshd.wire.paste import encode_signal
from meshd.wire.session_description import decode as decode_description

# Policy
RETRY_INTERVAL = 20.0  # seconds without an answer, after which a fresh description is pushed
MAX_TRIES = 5  # requests pushed in one join; two are kept alive at once
FURTHER_WAIT = 0.5  # seconds a request waits for the descriptions of its further offers
PUSH_WAIT = 10.0  # seconds for a push service to take us as a user agent
MAX_JOIN_TIMEOUT = 600.0

BY_HAND = "By hand: meshctl offer --for TOKEN"


class Joining:
    """At most one join at a time, by a node without a mesh."""

    __slots__ = ("_ctx", "_holders", "_join", "_membership", "_post", "_pushing", "_signaling", "_stun_servers")

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        holders: Holders,
        pushing: Pushing,
        post: Post,
        signaling: Signaling,
        stun_servers: StunServers,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._holders = holders
        self._pushing = pushing
        self._post = post
        self._signaling = signaling
        self._stun_servers = stun_servers
        self._join: Join | None = None

    @property
    def active(self) -> bool:
        """Whether a join is under way, other than one that waits for people."""
        return self._join is not None and (not self._join.pasted or self._join.request is not None)

    @property
    def pasted(self) -> bool:
        """Whether an offer waits for people to carry it to the introducer, and the answer back."""
        return self._join is not None and self._join.pasted

    @property
    def introducer(self) -> PeerId | None:
        """The one that we have asked to let us in."""
        return None if self._join is None else self._join.introduction.introducer

    def is_introducer(self, peer: PeerId) -> bool:
        """Whether that peer is the one that we have asked to let us in."""
        return self._join is not None and peer == self._join.introduction.introducer

    # -- beginning ----------------------------------------------------------------------------------------------------

    def begin(self, request: RequestId, token: str, name: str, timeout: float) -> None:
        """Read the token, become reachable, gather; then push. Raises ControlError."""
        introduction = read_token(token, self._ctx.now.unix)
        check_token(introduction, name, self._ctx)
        if not introduction.subscriptions:
            raise ControlError(Code.PUSH_UNAVAILABLE, f"The token names none. {BY_HAND}")
        self._begin(Join(request, introduction, name, self._ctx.now.mono, Tries(self._ctx, self._signaling)))
        self._holders.activate()
        self._holders.ensure(introduction.introducer)
        self._ctx.timer("join", b"", min(timeout, MAX_JOIN_TIMEOUT))
        self._ctx.timer("join_push", b"", PUSH_WAIT)
        self._gather()

    def offer(self, request: RequestId, token: str, name: str) -> None:
        """The same request as a text for people to carry, and nothing else: no push. Raises ControlError."""
        introduction = read_token(token, self._ctx.now.unix)
        check_token(introduction, name, self._ctx)
        tries = Tries(self._ctx, self._signaling, PASTE_TIMEOUT)
        self._begin(Join(request, introduction, name, self._ctx.now.mono, tries, pasted=True))
        self._ctx.timer("join", b"", PASTE_TIMEOUT)
        self._gather()

    def withdraw(self) -> None:
        """Nobody is to carry that offer any more."""
        self._fail(Code.JOIN_TIMEOUT, "")

    def _begin(self, join: Join) -> None:
        self.withdraw()
        self._join = join
        introduction = join.introduction
        self._ctx.notify("join_began", introduction=introduction.id, introducer=introduction.introducer)
        self._stun_servers.join_begins(introduction.stun_servers)

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
        grant = Grant(0, ()) if join.pasted else self._holders.grant(introduction.introducer, 0)
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
        if join.pasted:
            self._hand_over(join, envelope)
            return
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
        self._ctx.notify("join_requested", introducer=introduction.introducer, attempt=join.attempts)
        if join.attempts < MAX_TRIES:
            self._ctx.timer("join_retry", b"", RETRY_INTERVAL)

    def _hand_over(self, join: Join, envelope: bytes) -> None:
        """The request as a text; nobody waits then, until the answer is pasted."""
        request, join.request = join.request, None
        if request is not None:
            self._ctx.respond(
                request,
                text=encode_signal("offer", envelope),
                sdp="",
                peer_id=join.introduction.introducer,
                name="",
                expires_at=self._ctx.now.unix + PASTE_TIMEOUT,
            )

    def on_retry(self) -> None:
        """No answer: again, with a fresh description."""
        if self._join is not None and not self._join.accepted:
            self._gather()

    def on_push_outcome(self, push: PushOutcome) -> bool:
        """Of one of our requests; True if it was."""
        join = self._join
        this = None if join is None else join.tries.of(SessionId(push.name))
        if join is None or this is None:
            return False
        if push.outcome == "gone":
            self._fail(Code.TOKEN_REVOKED, "Its push subscription is gone.")
        elif push.outcome != "accepted":
            join.trouble = push.detail
            join.tries.give_up(this)  # a later one, with what the retry timer gathers, may fare better
        return True

    # -- the answer ---------------------------------------------------------------------------------------------------

    def on_push(self, envelope: bytes) -> Ticket | None:
        """An envelope while we join. Gives the ticket of its acknowledgement. Raises MalformedMessage, Rejected."""
        join = self._join
        if join is None or join.pasted:
            raise Rejected("no_join")
        return self._on_envelope(join, envelope)

    def on_pasted(self, request: RequestId, envelope: bytes) -> None:
        """The answer that people have carried; ``request`` waits for the link. Raises as ``on_push``, ControlError."""
        join = self._join
        if join is None or join.request is not None:
            raise ControlError(Code.PASTE_USED)
        if read_header(envelope).recipient != self._ctx.own_id:
            raise ControlError(Code.PASTE_ELSEWHERE)
        try:
            self._on_envelope(join, envelope)
        except Rejected as rejected:
            if rejected.reason in ("no_session", "stranger", "wrong_mesh"):
                raise ControlError(Code.PASTE_UNKNOWN) from None
            raise
        if self._join is join:
            join.request = request
            self._ctx.timer("join", b"", SESSION_TIMEOUT)

    def _on_envelope(self, join: Join, envelope: bytes) -> Ticket | None:
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
            code = REFUSALS.get(message.reason, Code.JOIN_REFUSED)
            self._fail(code, "" if code is not Code.JOIN_REFUSED else f"It says: {message.reason[:32]}.")
        elif isinstance(message, JoinAccepted):
            self._accept(join, session, letter, message)
            for answer in message.answers:
                join.tries.take_answer(this, answer, self._post, self._membership)
            join.tries.give_up_unanswered(this)
        return ticket

    def _blame_clock(self, envelope: bytes, rejected: Rejected) -> None:
        """The answer to our own request cannot be old: if it looks so, one of the clocks is wrong."""
        join = self._join
        if join is not None and rejected.reason in ("clock", "expired"):
            letter = open_envelope(self._ctx.suite, join.introduction.mesh, envelope)
            if letter.sender == join.introduction.introducer and join.tries.of(letter.session) is not None:
                off = self._ctx.now.unix - letter.issued
                ahead = "ahead of" if off > 0 else "behind"
                self._fail(Code.CLOCK_WRONG, f"This one is {abs(off):.0f} s {ahead} the introducer's.")

    def _accept(self, join: Join, session: Session, letter: Letter, message: JoinAccepted) -> None:
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
                self._pushing.grants.on_grant(letter.sender, message.grant)
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
        if join.request is None:
            return
        if join.pasted:
            self._ctx.respond(
                join.request,
                peer_id=peer,
                name=self._membership.name_of(peer) or "",
                mesh_name=row.mesh_name,
                joined=True,
                elapsed=self._ctx.now.mono - join.began,
            )
            return
        self._ctx.respond(
            join.request,
            mesh_id=row.mesh,
            mesh_name=row.mesh_name,
            peer_id=self._ctx.own_id,
            name=self._membership.name,
            introducer={"peer_id": join.introduction.introducer, "name": join.introducer_name},
            elapsed=self._ctx.now.mono - join.began,
            pushes_sent=join.attempts,
            pushes_received=join.pushes_received,
            warnings=join.warnings,
        )

    def on_session_failed(self, session_id: SessionId, reason: str) -> None:
        """A link could not be made. We may be a member all the same: others will be tried."""
        join = self._join
        if join is None or join.tries.of(session_id) is None:
            return
        if join.accepted and join.tries.is_over():
            self._fail(Code.LINK_FAILED, f"{self._why(join)} ({reason})")

    def _why(self, join: Join) -> str:
        why = why_no_link(join.local, join.remote, self._ctx.config.links)
        again = f" By hand again: meshctl offer --peer {join.introducer_name}" if join.pasted else ""
        return f"{why} This node is a member and keeps trying.{again}"

    def on_timer(self, name: str) -> None:
        """The join's own deadlines."""
        join = self._join
        if join is None:
            return
        if name == "join_push":
            self._fail(Code.PUSH_UNAVAILABLE, f"See meshctl status, and push.services in the configuration. {BY_HAND}")
        elif name == "join_retry":
            self.on_retry()
        elif join.accepted:
            self._fail(Code.LINK_FAILED, self._why(join))
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
        if join.request is not None:
            self._ctx.refuse(join.request, code, detail)
        if self._membership.row is None:
            for this in join.tries.all():
                join.tries.give_up(this)
            self._stun_servers.join_ended()
            self._holders.deactivate()
            self._pushing.forget_all()
            self._pushing.grants.forget_all()

    def _stop_timers(self) -> None:
        for name in ("join", "join_push", "join_retry"):
            self._ctx.cancel_timer(name, b"")
