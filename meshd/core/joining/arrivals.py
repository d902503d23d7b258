"""Whoever this node has admitted, as the bearer of a token or as a caller: answered, with other members' help."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.joining.assisting import choose
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.pushing.holders import Holders
from meshd.core.signaling.session import PASTE_TIMEOUT, PUSH_SESSION_TIMEOUT, Purpose, Session, SessionState
from meshd.core.signaling.signaling import Signaling
from meshd.crypto.admission import Chain
from meshd.crypto.webpush import MAX_PLAINTEXT_SIZE
from meshd.errors import Code
from meshd.ids import PeerId, RequestId, SessionId, Ticket
from meshd.wire.call import Call
from meshd.wire.envelope import OVERHEAD_SIZE
from meshd.wire.joining import AnswerGiven, AnswerWanted, JoinAccepted, JoinRequest
from meshd.wire.messages import encode_message
from meshd.wire.paste import encode_signal
from meshd.wire.record import Record
from meshd.wire.session_description import SessionDescription
from meshd.wire.session_description import decode as decode_description
from meshd.wire.session_description import encode as encode_description

# Policy
CHANNEL_WAIT = 2.0  # seconds an acceptance waits for a channel to grant in it
MAX_PASTED_SIZE = 2100  # bytes of an acceptance that people carry: as a QR code it has less than 2,953 characters
MAX_CALLED_SIZE = 2640  # bytes of one to a caller, of whose push service nothing is known: every one takes as much
PUSH_PATIENCE = 60.0  # seconds an answer may take by push; the joiner connects only then
HELP_WAIT = 1.0  # seconds it waits for the answers of other members: a round trip in the mesh, and gathering


@dataclass(slots=True)
class _Arrival:
    """A joiner that has been admitted and is to be answered."""

    peer: PeerId
    chain: Chain
    asked: dict[SessionId, PeerId]  # who has still to answer which of its further offers
    most: int = MAX_PLAINTEXT_SIZE  # bytes of the answer
    answers: list[bytes] = field(default_factory=list)  # of those who have
    granting: bool = False  # whether the channel for it is still waited for
    request: RequestId | None = None  # who carries the answer to it, if not a push service
    is_handed_over: bool = False  # whoever carries it has been answered


class Arrivals:
    """All that are still to be answered, or to come."""

    __slots__ = (
        "_arrivals",
        "_ctx",
        "_holders",
        "_membership",
        "_neighbors",
        "_post",
        "_signaling",
    )

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        neighbors: Neighbors,
        holders: Holders,
        post: Post,
        signaling: Signaling,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._holders = holders
        self._post = post
        self._signaling = signaling
        self._arrivals: dict[SessionId, _Arrival] = {}

    def on_channel_ready(self, holder: bytes) -> None:
        """A joiner's channel is there: its answer can go."""
        for session_id, arrival in list(self._arrivals.items()):
            if arrival.peer == holder:
                self._go_on(session_id)

    def sweep(self) -> None:
        """Forget what nobody waits for any more."""
        for session in [session for session in self._arrivals if self._signaling.session(session) is None]:
            self.on_session_over(session)  # the joiner's own offer, as a member by then, has taken its place

    def forget_all(self) -> None:
        """We are no member any more."""
        for session in list(self._arrivals):
            self.on_session_over(session)

    # -- who is to be answered ----------------------------------------------------------------------------------------

    def welcome(
        self,
        joiner: PeerId,
        chain: Chain,
        session: SessionId,
        request: JoinRequest,
        ticket: Ticket,
        carrier: RequestId | None,
    ) -> bool:
        """Answer one that has been admitted with that chain, once ``ticket`` is durable.

        By push, or by the hand of the one whose request ``carrier`` is. False if there is no room for another session.
        Raises MalformedMessage.
        """
        most = MAX_PLAINTEXT_SIZE if carrier is None else MAX_PASTED_SIZE
        return self._begin(session, _Arrival(joiner, chain, {}, most, request=carrier), request, ticket)

    def call_back(self, call: Call, chain: Chain, ticket: Ticket) -> bool:
        """Answer a caller whom a person here has vouched for, by one push, once ``ticket`` is durable.

        ``chain`` is its admission. False if there is no room for another session. Raises MalformedMessage.
        """
        return self._begin(call.session, _Arrival(call.caller, chain, {}, MAX_CALLED_SIZE), call, ticket)

    def _begin(self, session_id: SessionId, arrival: _Arrival, request: JoinRequest | Call, ticket: Ticket) -> bool:
        """Gather for the answer; for our own offer, if the request has none."""
        remote = decode_description(request.description) if request.description else None
        previous = self._signaling.with_peer(arrival.peer)
        if previous is not None:  # an earlier try of the same joiner; this one's description is fresher
            self.on_session_over(previous.id)
            self._signaling.end(previous, "superseded")
        session = self._signaling.begin(
            arrival.peer,
            self._membership.mesh,
            Purpose.ADMIT,
            offerer=remote is None,
            session=session_id,
            ticket=ticket,
            timeout=PUSH_SESSION_TIMEOUT if arrival.request is None else PASTE_TIMEOUT,
        )
        if session is None:
            return False
        self._arrivals[session_id] = arrival
        self._holders.ensure(arrival.peer)
        if remote is not None:
            session.remote, session.patience = remote, PUSH_PATIENCE if arrival.request is None else PASTE_TIMEOUT
            self._ask(session_id, arrival, request, remote, ticket)
        return True

    # -- other members ------------------------------------------------------------------------------------------------

    def _ask(
        self,
        session_id: SessionId,
        arrival: _Arrival,
        request: JoinRequest | Call,
        first: SessionDescription,
        ticket: Ticket,
    ) -> None:
        """Have neighbors answer the joiner's further offers: we two may be unable to connect, and it costs no push."""
        links = [link for link in map(self._neighbors.current, self._neighbors.peers()) if link is not None]
        for offer, link in zip(request.further, choose(links, arrival.peer, self._ctx.rng), strict=False):
            description = encode_description(decode_description(offer.description, first))
            chain = tuple(certificate.encoded for certificate in arrival.chain)
            patience = PUSH_PATIENCE if arrival.request is None else PASTE_TIMEOUT
            wanted = AnswerWanted(offer.session, chain, request.sealing_key, description, int(patience))
            self._neighbors.send_to(link.peer, wanted, ticket=ticket)
            arrival.asked[SessionId(offer.session)] = link.peer
        if arrival.asked:
            self._ctx.timer("help", session_id, HELP_WAIT)

    def on_answer(self, peer: PeerId, message: AnswerGiven) -> None:
        """A neighbor has answered for us, or will not."""
        for session_id, arrival in list(self._arrivals.items()):
            if arrival.asked.get(SessionId(message.session)) == peer:
                del arrival.asked[SessionId(message.session)]
                if message.envelope:
                    arrival.answers.append(message.envelope)
                self._go_on(session_id)
                return
        self._ctx.count("answers_stale")

    def on_help_wait_over(self, about: bytes) -> None:
        """Who has not answered by now answers too late."""
        arrival = self._arrivals.get(SessionId(about))
        if arrival is not None:
            arrival.asked.clear()
            self._go_on(SessionId(about))

    # -- answering ----------------------------------------------------------------------------------------------------

    def ready(self, session: Session) -> None:
        """Our description is there: answer, with a grant if the channel for it is there soon."""
        arrival = self._arrivals.get(session.id)
        by_push = arrival is not None and arrival.request is None
        if arrival is not None and by_push and self._holders.receiving and not self._holders.is_ready(session.peer):
            arrival.granting = True
            self._ctx.timer("accept", session.id, CHANNEL_WAIT)
        self._go_on(session.id)

    def on_grant_wait_over(self, about: bytes) -> None:
        """Then without a grant."""
        arrival = self._arrivals.get(SessionId(about))
        if arrival is not None:
            arrival.granting = False
            self._go_on(SessionId(about))

    def _go_on(self, session_id: SessionId) -> None:
        """Answer, if all is there or has been waited for."""
        session, arrival = self._signaling.session(session_id), self._arrivals.get(session_id)
        own = self._membership.own_record
        if session is None or arrival is None or own is None or not session.description or session.pushed:
            return
        if arrival.asked or (arrival.granting and not self._holders.is_ready(arrival.peer)):
            return
        self._ctx.cancel_timer("accept", session_id)
        self._ctx.cancel_timer("help", session_id)
        if arrival.request is not None:
            self._hand_over(session, arrival, arrival.request, own)
            return
        if session.offerer and not self._holders.is_ready(arrival.peer):
            self._signaling.end(session, "no_push_service")  # it could not answer our offer
            return
        session.pushed = self._post.push_in_session(
            arrival.peer,
            self._acceptance(session, arrival, own),
            session.id,
            name=session.id,
            topic=b"accept" + self._ctx.own_id[:12],
            lifetime=PUSH_SESSION_TIMEOUT,
            ticket=self._later(session.ticket),
        )
        if not session.pushed:
            self._ctx.count("joins_unanswerable")
            self._signaling.end(session, "no_capability")
        elif session.offerer:
            session.state = SessionState.HAVE_LOCAL_OFFER

    def _hand_over(self, session: Session, arrival: _Arrival, carrier: RequestId, own: Record) -> None:
        """The answer as a text, once all that it says is durable."""
        arrival.is_handed_over = True
        envelope = self._post.envelope(arrival.peer, self._acceptance(session, arrival, own), session.id)
        if envelope is None:
            self._ctx.refuse(carrier, Code.PASTE_MANGLED, "Its sealing key is none.")
            self._signaling.end(session, "unsealable")
            return
        session.pushed = True  # nothing more is to be said
        self._ctx.respond_after(
            self._later(session.ticket),
            carrier,
            text=encode_signal("answer", envelope),
            sdp="",
            peer_id=arrival.peer,
            name=arrival.chain[-1].name,
            expires_at=self._ctx.now.unix + PASTE_TIMEOUT,
        )

    def _acceptance(self, session: Session, arrival: _Arrival, own: Record) -> JoinAccepted:
        """What a joiner is told; with as many of the others' answers as fit into a push."""
        row = self._membership.row
        accepted = JoinAccepted(
            session.description,
            tuple(certificate.encoded for certificate in arrival.chain),
            row.mesh_name if row is not None else "",
            own.encoded,
            self._holders.grant(arrival.peer, row.generation if row is not None else 0),
        )
        for answer in arrival.answers:
            longer = replace(accepted, answers=(*accepted.answers, answer))
            if len(encode_message(longer)) + OVERHEAD_SIZE <= arrival.most:
                accepted = longer
        return accepted

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
        self._ctx.cancel_timer("help", session)
        arrival = self._arrivals.pop(session, None)
        if arrival is not None and arrival.request is not None and not arrival.is_handed_over:
            self._ctx.refuse(arrival.request, Code.LINK_FAILED)
