"""A join: in each try an offer for the introducer, and further ones for whoever else may answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.joining.newcomer import check_answered
from meshd.core.membership.membership import Membership
from meshd.core.signaling.session import NOBODY, PUSH_SESSION_TIMEOUT, Purpose, Session, SessionState
from meshd.core.signaling.signaling import Signaling
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import MeshId, PeerId, RequestId, SessionId
from meshd.wire.envelope import OVERHEAD_SIZE
from meshd.wire.introduction import Introduction
from meshd.wire.joining import MAX_FURTHER, FurtherOffer, JoinAnswered, JoinRequest
from meshd.wire.messages import JOINING, decode_message, encode_message
from meshd.wire.session_description import SessionDescription, decode, encode

# Policy
MAX_ALIVE = 2  # the answer to the try before last may still come
MAX_REQUEST_SIZE = 1200  # bytes of an envelope with further offers: a push of the smallest size


@dataclass(slots=True)
class Try:
    """One request. ``waited``: long enough for the further offers' descriptions."""

    session: SessionId
    further: list[SessionId]
    waited: bool = False


class Tries:
    """The newest tries of one join."""

    __slots__ = ("_ctx", "_signaling", "_timeout", "_tries")

    def __init__(self, ctx: Context, signaling: Signaling, timeout: float = PUSH_SESSION_TIMEOUT) -> None:
        self._ctx = ctx
        self._signaling = signaling
        self._timeout = timeout
        self._tries: list[Try] = []

    def begin(self, introducer: PeerId, mesh: MeshId) -> None:
        """Gather for another try; the oldest is given up."""
        if len(self._tries) >= MAX_ALIVE:
            self.give_up(self._tries[0])
        session = self._begin(introducer, mesh)
        if session is not None:
            further = [self._begin(NOBODY, mesh) for _ in range(MAX_FURTHER)]
            self._tries.append(Try(session.id, [offer.id for offer in further if offer is not None]))

    def _begin(self, peer: PeerId, mesh: MeshId) -> Session | None:
        return self._signaling.begin(peer, mesh, Purpose.JOIN, offerer=True, timeout=self._timeout)

    def all(self) -> list[Try]:
        """Those that an answer may come to, the newest last."""
        return list(self._tries)

    def of(self, session: SessionId) -> Try | None:
        """The try that this session belongs to."""
        return next((this for this in self._tries if session == this.session or session in this.further), None)

    def offers(self, this: Try) -> list[Session]:
        """Its further offers that are alive."""
        return [offer for offer in map(self._signaling.session, this.further) if offer is not None]

    def peers(self, this: Try) -> list[PeerId]:
        """Who has answered it, and the introducer."""
        sessions = [self._signaling.session(this.session), *self.offers(this)]
        return [session.peer for session in sessions if session is not None and session.peer != NOBODY]

    def is_over(self) -> bool:
        """Whether no session of any try is alive."""
        return not any(self._signaling.session(this.session) or self.offers(this) for this in self._tries)

    def with_further(self, request: JoinRequest, this: Try) -> JoinRequest:
        """The request with as many of the further offers as are ready and fit; the others are given up."""
        first = decode(request.description)
        for offer in self.offers(this):
            if offer.description:
                description = encode(decode(offer.description), first)
                longer = replace(request, further=(*request.further, FurtherOffer(offer.id, description)))
                if len(encode_message(longer)) + OVERHEAD_SIZE <= MAX_REQUEST_SIZE:
                    request, offer.state = longer, SessionState.HAVE_LOCAL_OFFER
                    continue
            self._signaling.drop(offer)
        return request

    def take_answer(self, this: Try, envelope: bytes, post: Post, membership: Membership) -> None:
        """Another member's answer, to one of our further offers. What is wrong with it does no harm to the others."""
        try:
            letter = post.open(envelope, membership.mesh)
            message = decode_message(letter.body, JOINING)
            session = self._signaling.session(letter.session)
            if not isinstance(message, JoinAnswered) or session is None or letter.session not in this.further:
                raise Rejected("no_session")
            if session.peer != NOBODY or letter.sender in (*self.peers(this), self._ctx.own_id):
                raise Rejected("answered_already")
            chain = check_answered(message, letter.sender, membership.chain, membership.mesh, self._ctx)
            remote = decode(message.description)
            post.remember(letter)
        except (MalformedMessage, Rejected) as error:
            self._ctx.count("join_answers_rejected")
            self._ctx.notify("envelope_rejected", peer=self.peers(this)[0], reason=str(error))
            return
        self._ctx.persist(membership.remember_admitted(letter.sender, chain, message.sealing_key))
        self._signaling.address(session, letter.sender)
        self._signaling.depend(session, membership.own_ticket)
        self._signaling.connect(session, remote)

    def give_up_unanswered(self, this: Try) -> None:
        """There will be no further answers to it."""
        for offer in self.offers(this):
            if offer.peer == NOBODY:
                self._signaling.drop(offer)

    def give_up(self, this: Try) -> None:
        """All of it."""
        self._tries.remove(this)
        self._ctx.cancel_timer("further", this.session)
        for session in (self._signaling.session(this.session), *self.offers(this)):
            if session is not None:
                self._signaling.drop(session)


@dataclass(slots=True)
class Join:
    """The join under way. Times in monotonic seconds."""

    request: RequestId | None  # who waits; nobody, while people carry offer and answer
    introduction: Introduction
    name: str
    began: float
    tries: Tries
    pasted: bool = False
    attempts: int = 0
    pushes_received: int = 0
    accepted: bool = False
    introducer_name: str = ""
    warnings: list[str] = field(default_factory=list)
    local: SessionDescription | None = None  # the newest of ours and of theirs, to say why there is no link
    remote: SessionDescription | None = None
    trouble: str = ""  # the last thing that went wrong, for the error
