"""Sessions: attempts at a link, from the wish to the hello.

A session gathers (``LinkPrepared``), exchanges descriptions, and connects. Who says what to whom meanwhile is the
business of ``signaling`` between members, of ``joining``, ``arrivals`` and ``assisting`` where somebody joins, and of
``pasting``. States have RFC 9429's names.
"""

from __future__ import annotations

from meshd.core.commands import CloseLink, ConnectLink, PrepareLink
from meshd.core.context import Context
from meshd.core.events import LinkPrepared
from meshd.core.facts import DescriptionReady, SessionFailed
from meshd.core.joining.reachability import why_no_link
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import LinkState, Neighbors
from meshd.core.signaling.saying import Saying
from meshd.core.signaling.session import NOBODY, PASTE_TIMEOUT, Purpose, Session, SessionState
from meshd.ids import SESSION_ID_SIZE, LinkId, MeshId, PeerId, SessionId, Ticket
from meshd.wire.session_description import SessionDescription, decode, encode

# Policy
SESSION_TIMEOUT = 30.0  # seconds from the wish to the link, over others
MAX_SESSIONS = 256


class Sessions:
    """All sessions of this node; at most one for each peer, but for a joiner's earlier tries and for what is pasted."""

    __slots__ = ("_ctx", "_membership", "_neighbors", "_saying", "_sessions")

    def __init__(self, ctx: Context, membership: Membership, neighbors: Neighbors, saying: Saying) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._saying = saying
        self._sessions: dict[SessionId, Session] = {}

    # -- reading -------------------------------------------------------------------------------------------------------

    def session(self, session: SessionId) -> Session | None:
        """That session, if it is still going on."""
        return self._sessions.get(session)

    def sessions(self) -> list[Session]:
        """All that are going on."""
        return list(self._sessions.values())

    def with_peer(self, peer: PeerId) -> Session | None:
        """The newest session with that peer; what people carry does not count, since it may take minutes."""
        found = None
        for session in self._sessions.values():
            if session.peer == peer and session.purpose is not Purpose.PASTE:
                found = session
        return found

    def forget(self, peer: PeerId) -> None:
        """That peer is no member any more."""
        for session in [session for session in self._sessions.values() if session.peer == peer]:
            self.end(session, "departed")

    # -- beginning and ending ------------------------------------------------------------------------------------------

    def begin(
        self,
        peer: PeerId,
        mesh: MeshId,
        purpose: Purpose,
        *,
        offerer: bool,
        session: SessionId | None = None,
        ticket: Ticket | None = None,
        timeout: float = SESSION_TIMEOUT,
        resumes: LinkId | None = None,
    ) -> Session | None:
        """Begin a session: gather for a new link, or for the new path of one. None if there are too many."""
        if len(self._sessions) >= MAX_SESSIONS or self._neighbors.total() >= self._ctx.config.links.max_links:
            self._ctx.count("sessions_limit")
            return None
        made = Session(
            session or SessionId(self._ctx.rng.randbytes(SESSION_ID_SIZE)),
            peer,
            self._ctx.next_link(),
            purpose,
            offerer,
            ticket=ticket,
            resumes=resumes,
        )
        self._sessions[made.id] = made
        self._neighbors.add(made.link, peer, made.id, mesh, ticket)
        self._ctx.do(PrepareLink(made.link, offerer, resumes))
        self._ctx.timer("session", made.id, timeout)
        return made

    def end(self, session: Session, reason: str) -> None:
        """Give it up: the link is closed, whatever its state."""
        if self._forget(session):
            self._neighbors.on_closed(session.link, reason)
            self._ctx.do(CloseLink(session.link))
            self._fail(session, reason)

    def _fail(self, session: Session, reason: str) -> None:
        self._ctx.count("sessions_failed")
        if session.peer != NOBODY:
            name = self._membership.name_of(session.peer) or ""
            self._ctx.notify("link_failed", peer=session.peer, name=name, reason=reason)
        why = ""
        if reason == "ice_failed" and session.description:
            why = why_no_link(decode(session.description), session.remote, self._ctx.config.links)
        self._ctx.state(SessionFailed(session.id, session.peer, reason, session.pushes, why))

    def _forget(self, session: Session) -> bool:
        self._ctx.cancel_timer("session", session.id)
        self._ctx.cancel_timer("resend", session.id)
        self._ctx.cancel_timer("grant", session.id)
        self._saying.stop(session)
        return self._sessions.pop(session.id, None) is not None

    def on_timeout(self, session_id: bytes) -> None:
        """It has taken too long."""
        session = self._sessions.get(SessionId(session_id))
        if session is not None:
            self.end(session, "timeout")

    def on_link_closed(self, link: LinkId, reason: str) -> None:
        """The links room could not make it."""
        for session in list(self._sessions.values()):
            if session.link == link and self._forget(session):
                self._fail(session, reason)

    def on_neighbor_up(self, peer: PeerId) -> None:
        """There is a link: the sessions with that peer have done their work."""
        current = self._neighbors.current(peer)
        for session in list(self._sessions.values()):
            if session.peer != peer or not self._forget(session):
                continue
            made = self._neighbors.link(session.link)  # none: it has become the new path of another
            # Once our hello is said there, the peer may have taken that one for the current one, and be closing this:
            # which of the two stays, the rule of ``Neighbors.on_proved`` tells both sides alike.
            if made is not None and made is not current and made.state is LinkState.CONNECTING:
                self._neighbors.on_closed(made.id, "superseded")
                self._ctx.do(CloseLink(made.id))

    def drop(self, session: Session) -> None:
        """It is not needed: for another with the same peer, or because nobody has answered it. Nobody is told."""
        if self._forget(session):
            self._neighbors.on_closed(session.link, "superseded")
            self._ctx.do(CloseLink(session.link))

    # -- both descriptions ---------------------------------------------------------------------------------------------

    def on_prepared(self, event: LinkPrepared) -> None:
        """Our description is there."""
        for session in self._sessions.values():
            if session.link == event.link:
                session.description = encode(event.description)
                if session.remote is not None:
                    self._connect(session, session.remote)
                self._ctx.state(DescriptionReady(session.id))
                return

    def connect(self, session: Session, remote: SessionDescription) -> None:
        """Both descriptions are known."""
        session.remote = remote
        self._ctx.cancel_timer("resend", session.id)
        self._saying.stop(session)
        session.sent = None
        if session.description:
            self._connect(session, remote)

    def _connect(self, session: Session, remote: SessionDescription) -> None:
        session.state = SessionState.CONNECTING
        self._ctx.do(ConnectLink(session.link, remote, session.resumes is not None, session.patience))

    # -- what changes meanwhile ----------------------------------------------------------------------------------------

    def address(self, session: Session, peer: PeerId) -> None:
        """Somebody has answered what was offered to nobody yet: from now on the session is with that peer alone."""
        session.peer = peer
        link = self._neighbors.link(session.link)
        if link is not None:
            link.peer = peer

    def rename(self, session: Session, name: SessionId) -> None:
        """Before anybody else knows of it, it gets another id. Its link's time starts anew."""
        del self._sessions[session.id]
        self._ctx.cancel_timer("session", session.id)
        session.id = name
        self._sessions[name] = session
        self._ctx.timer("session", name, PASTE_TIMEOUT)
        link = self._neighbors.link(session.link)
        if link is not None:
            link.session = name

    def depend(self, session: Session, ticket: Ticket | None) -> None:
        """Our hello on that session's link waits for this ticket: it claims a membership that must be durable."""
        session.ticket = ticket
        link = self._neighbors.link(session.link)
        if link is not None:
            link.ticket = ticket
