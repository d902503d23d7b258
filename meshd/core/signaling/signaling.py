"""Signaling between members: offers and answers, in envelopes over others or by push.

Joining (``joining``, ``arrivals``) exchanges other messages but uses the same sessions.

Glare: both sides may offer at once. The smaller id's offer stands; its owner ignores the other and sends its own
again, the other gives up its own and answers.
"""

from __future__ import annotations

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.facts import PushOutcome
from meshd.core.membership.membership import Membership
from meshd.core.overlay.degree import accepted_links
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.overlay.routing import Routing
from meshd.core.pushing.grants import Grants
from meshd.core.pushing.holders import Holders
from meshd.core.signaling.boots import Boots
from meshd.core.signaling.saying import Saying
from meshd.core.signaling.session import PUSH_SESSION_TIMEOUT, Purpose, Session, SessionState
from meshd.core.signaling.sessions import SESSION_TIMEOUT, Sessions
from meshd.ids import LinkId, PeerId, SessionId, Ticket
from meshd.wire.envelope import Letter
from meshd.wire.messages import Answer, Offer, OfferDeclined, TwinSeen
from meshd.wire.session_description import decode

# Policy
GRANT_WAIT = 0.5  # seconds an offer waits for a channel to grant in it
RETURNED_INTERVAL = 0.5  # seconds until what came back is tried again

WITHDRAWN = "withdrawn"  # why an answer that comes too late is declined


class Signaling(Sessions):
    """All sessions of this node, and what is said in those between members."""

    __slots__ = ("_boots", "_grants", "_holders", "_post", "_routing")

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        neighbors: Neighbors,
        routing: Routing,
        post: Post,
        grants: Grants,
        holders: Holders,
        saying: Saying,
    ) -> None:
        super().__init__(ctx, membership, neighbors, saying)
        self._grants = grants
        self._routing = routing
        self._post = post
        self._holders = holders
        self._boots = Boots(ctx)

    def forget(self, peer: PeerId) -> None:
        """That peer is no member any more."""
        self._boots.forget(peer)
        super().forget(peer)

    def dial(self, peer: PeerId, doubted: LinkId | None = None) -> bool:
        """Offer a member a link, or a new path for the one that is silent or ``doubted``.

        False if there is a session with it already, or no room for one.
        """
        if self.with_peer(peer) is not None:
            return False
        by_push = self._routing.next_hop(peer) is None
        silent = self._neighbors.silent(peer)
        session = self.begin(
            peer,
            self._membership.mesh,
            Purpose.MEMBER,
            offerer=True,
            timeout=PUSH_SESSION_TIMEOUT if by_push else SESSION_TIMEOUT,
            resumes=doubted if silent is None else silent.id,
        )
        if session is None:
            return False
        if by_push or self._membership.is_small:
            self._holders.ensure(peer)
        self._ctx.count("sessions_offered")
        return True

    # -- saying --------------------------------------------------------------------------------------------------------

    def ready(self, session: Session) -> None:
        """A member's session can speak now (for a joiner's, see ``joining``)."""
        if session.offerer:
            awaited = self._holders.receiving and self._holders.row(session.peer) is not None
            if awaited and not self._holders.is_ready(session.peer):
                session.waiting_for_grant = True
                self._ctx.timer("grant", session.id, GRANT_WAIT)
            else:
                self._offer(session)
        else:
            self._answer(session)

    def on_grant_possible(self, session_id: bytes) -> None:
        """The channel is there, or has been waited for long enough."""
        session = self._sessions.get(SessionId(session_id))
        if session is not None and session.waiting_for_grant:
            session.waiting_for_grant = False
            self._ctx.cancel_timer("grant", session.id)
            self._offer(session)

    def on_channel_ready(self, holder: bytes) -> None:
        """Offers that waited for it may go; one that has gone by push told of a subscription that is none any more."""
        session = self.with_peer(PeerId(holder))
        if session is None:
            return
        if session.pushed and session.offerer and session.state is SessionState.HAVE_LOCAL_OFFER:
            session.pushed = False
            self._offer(session)
        else:
            self.on_grant_possible(session.id)

    def _offer(self, session: Session) -> None:
        row = self._membership.row
        grant = self._holders.grant(session.peer, row.generation if row else 0)
        session.state = SessionState.HAVE_LOCAL_OFFER
        self._saying.say(session, Offer(session.description, self._ctx.instance, grant, self._resumed(session)))

    def _answer(self, session: Session) -> None:
        self._saying.say(session, Answer(session.description, self._ctx.instance, self._resumed(session)))

    def _resumed(self, session: Session) -> SessionId | None:
        """How both sides call the link that is to go on, if it still is there."""
        link = None if session.resumes is None else self._neighbors.link(session.resumes)
        return None if link is None else link.session

    def on_push_outcome(self, push: PushOutcome) -> bool:
        """What became of a push of ours; True if it was one. A friend of the peer's may do better."""
        session = self._sessions.get(SessionId(push.name))
        if session is None or session.purpose is Purpose.JOIN:
            return False
        if push.outcome != "accepted" and not self._saying.otherwise(session, push.outcome):
            self.end(session, f"push_failed: {push.detail}")
        return True

    def on_resend(self, session_id: bytes) -> None:
        """Nothing has happened: say it again, perhaps by another way."""
        session = self._sessions.get(SessionId(session_id))
        if session is not None and session.sent is not None:
            self._ctx.count("signaling_resent")
            session.pushed = False
            self._saying.say(session, session.sent)

    def on_path_failed(self, peer: PeerId) -> None:
        """Those in between have no way to that peer: again soon, for their view may be the newer one."""
        for session in self._sessions.values():
            if session.peer == peer and session.sent is not None and not session.pushed:
                session.returned += 1
                self._ctx.timer("resend", session.id, self._ctx.jitter(RETURNED_INTERVAL))

    def paths_changed(self) -> None:
        """A neighbor is gone: what went that way goes another, now."""
        for session in list(self._sessions.values()):
            if session.sent is not None and session.purpose is Purpose.MEMBER and not session.pushed:
                self._ctx.timer("resend", session.id, 0.0)

    # -- offers and answers --------------------------------------------------------------------------------------------

    def on_offer(self, letter: Letter, offer: Offer, ticket: Ticket, by_push: bool) -> None:
        """A member offers a link. Raises MalformedMessage."""
        peer, session_id = letter.sender, letter.session
        remote = decode(offer.description)
        if self._boots.is_stale(peer, offer.instance, letter.issued):
            return
        if offer.grant is not None:
            self._grants.on_grant(peer, offer.grant)
        known = self._sessions.get(session_id)
        if known is not None:
            if known.peer == peer and known.sent is not None and not known.offerer:
                self._saying.say(known, known.sent)  # our answer was lost
            return
        known_links = self._neighbors.proved(peer)
        for link in known_links:
            if link.instance != offer.instance:
                # The peer has started again, and knows nothing of the old link. Or it is another one with its key.
                if letter.shown and self._neighbors.current(peer) is link:  # a pasted call has no letter to show
                    self._neighbors.send_to(peer, TwinSeen(letter.shown))
                self._neighbors.dismiss(link, "peer_restarted")
        mine = self.with_peer(peer)
        if mine is not None:
            if mine.offerer and mine.state in (SessionState.HAVE_LOCAL_OFFER, SessionState.GATHERING):
                if self._ctx.own_id < peer:
                    self._ctx.count("glare_won")
                    self._saying.repeat(mine)
                    return
                self._ctx.count("glare_lost")
            elif mine.answered is not None and mine.answered[0] == offer.instance and letter.issued <= mine.answered[1]:
                self._ctx.count("offers_stale")  # it crossed ours, and was given up for our own before it came
                return
            self.drop(mine)
        session = None
        if known_links or self._takes_more():
            session = self.begin(
                peer,
                self._membership.mesh,
                Purpose.MEMBER,
                offerer=False,
                session=session_id,
                ticket=ticket,
                resumes=next((link.id for link in self._neighbors.proved(peer) if link.session == offer.resumes), None),
            )
        if session is None:
            around = offer.resumes is not None
            self._post.send_in_session(peer, OfferDeclined("busy"), session_id, ticket, around=around)
            return
        session.state, session.remote, session.by_push = SessionState.HAVE_REMOTE_OFFER, remote, by_push
        self._ctx.count("sessions_answered")

    def _takes_more(self) -> bool:
        """Whether there is room for another neighbor: in a big mesh nobody is everybody's."""
        accepted = accepted_links(self._membership.size, self._ctx.config.mesh.max_full_mesh)
        return len(self._neighbors) < accepted

    def on_answer(self, letter: Letter, answer: Answer) -> None:
        """Our offer is answered. Raises MalformedMessage."""
        session = self._sessions.get(letter.session)
        if self._boots.is_stale(letter.sender, answer.instance, letter.issued):
            return
        if session is None or session.peer != letter.sender or session.state is not SessionState.HAVE_LOCAL_OFFER:
            self._ctx.count("answers_stale")
            if session is None and all(link.session != letter.session for link in self._neighbors.links()):
                # An offer of ours that we have given up came late, by push maybe: the peer must not wait for it.
                self._post.send_in_session(letter.sender, OfferDeclined(WITHDRAWN), letter.session)
            return
        if answer.resumes is None or answer.resumes != self._resumed(session):
            session.resumes = None
        remote = decode(answer.description)
        session.answered = (answer.instance, letter.issued)
        self.connect(session, remote)

    def on_declined(self, peer: PeerId, session_id: SessionId, message: OfferDeclined) -> None:
        """The peer does not want a link now, or not any more the one that it has offered."""
        session = self._sessions.get(session_id)
        withdrawn = message.reason == WITHDRAWN
        if session is not None and session.peer == peer and session.offerer != withdrawn:
            self.end(session, WITHDRAWN if withdrawn else "declined")
