"""Offers and answers by copy and paste: the same envelopes as by relay and by push, carried by people.

An offer stays open for ten minutes; the answering side knocks all that time, since nobody tells it when its answer is
pasted. A newcomer's offer, with a token's secret proved in it, goes to ``bearers``, and the answer to it to
``joining``. An SDP has neither sender nor signature: a person says whose it is; the hello proves it or the link ends.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.joining.bearers import Bearers
from meshd.core.joining.introductions import Introductions
from meshd.core.joining.joining import Joining
from meshd.core.joining.reachability import why_no_link
from meshd.core.membership.membership import Membership
from meshd.core.signaling.session import PASTE_TIMEOUT, Purpose, Session, SessionState
from meshd.core.signaling.sessions import SESSION_TIMEOUT
from meshd.core.signaling.signaling import Signaling
from meshd.errors import Code, ControlError, MalformedMessage, Rejected
from meshd.ids import SESSION_ID_SIZE, PeerId, RequestId, SessionId, Ticket
from meshd.wire.envelope import Letter, read_header
from meshd.wire.messages import SIGNALING, Answer, Message, Offer, decode_message
from meshd.wire.paste import decode_signal, encode_signal
from meshd.wire.sdp import from_sdp, to_sdp
from meshd.wire.session_description import SessionDescription, decode

# Specification (ours)
_SESSION_CONTEXT = b"meshd offer session 1\0"

# Policy
MAX_OPEN = 16  # offers and answers at one time; each holds a link ready

_REFUSALS = {
    "clock": Code.CLOCK_WRONG,
    "expired": Code.PASTE_EXPIRED,
    "not_for_us": Code.PASTE_ELSEWHERE,
    "replayed": Code.PASTE_USED,
    "bad_signature": Code.PASTE_MANGLED,
}


def session_of(offer: SessionDescription) -> SessionId:
    """The session that an offer which was pasted begins: an SDP names none."""
    parts = (_SESSION_CONTEXT, offer.fingerprint, offer.ufrag.encode(), b"\0", offer.pwd.encode())
    return SessionId(hashlib.sha256(b"".join(parts)).digest()[:SESSION_ID_SIZE])


@dataclass(slots=True)
class _Accepted:
    """A person waits for the link."""

    request: RequestId
    peer: PeerId
    local: SessionDescription
    remote: SessionDescription
    began: float


class Pasting:
    """All offers and answers of people."""

    __slots__ = (
        "_accepted",
        "_asked",
        "_bearers",
        "_ctx",
        "_introductions",
        "_joining",
        "_membership",
        "_post",
        "_signaling",
    )

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        post: Post,
        signaling: Signaling,
        introductions: Introductions,
        bearers: Bearers,
        joining: Joining,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._post = post
        self._signaling = signaling
        self._introductions = introductions
        self._bearers = bearers
        self._joining = joining
        self._asked: dict[SessionId, tuple[RequestId, str]] = {}  # who wants the text of it; the mid of an SDP offer
        self._accepted: dict[SessionId, _Accepted] = {}

    # -- offering -----------------------------------------------------------------------------------------------------

    def offer(self, request: RequestId, peer: PeerId) -> None:
        """A text for that member's ``meshctl answer``. Of several for one member, the newest counts."""
        if peer == self._ctx.own_id:
            raise ControlError(Code.REFUSED, "That is this node itself.")
        for session in self._open():
            if session.peer == peer and session.offerer and session.id not in self._accepted:
                self._withdraw(session)
        self._begin(request, peer, offerer=True)

    def _open(self) -> list[Session]:
        return [session for session in self._signaling.sessions() if session.purpose is Purpose.PASTE]

    def _withdraw(self, session: Session) -> None:
        waiting = self._asked.pop(session.id, None)
        if waiting is not None:
            self._ctx.refuse(waiting[0], Code.BUSY, "Another offer has taken its place.")
        self._signaling.drop(session)

    def _begin(
        self,
        request: RequestId,
        peer: PeerId,
        *,
        offerer: bool,
        session: SessionId | None = None,
        remote: SessionDescription | None = None,
        ticket: Ticket | None = None,
    ) -> None:
        made = None
        if len(self._open()) < MAX_OPEN:
            made = self._signaling.begin(
                peer,
                self._membership.mesh,
                Purpose.PASTE,
                offerer=offerer,
                session=session,
                ticket=ticket,
                timeout=PASTE_TIMEOUT,
            )
        if made is None:
            raise ControlError(Code.BUSY, f"{MAX_OPEN} offers and answers may be open; each ends after ten minutes.")
        if remote is not None:
            made.state, made.remote, made.patience = SessionState.HAVE_REMOTE_OFFER, remote, PASTE_TIMEOUT
        self._asked[made.id] = (request, "" if remote is None else remote.mid)

    def ready(self, session: Session) -> None:
        """Our description is there: here is the text."""
        request, mid = self._asked.pop(session.id, (None, ""))
        if request is None:
            self._signaling.drop(session)
            return
        description = decode(session.description)
        kind = "offer" if session.offerer else "answer"
        message: Message = Answer(session.description, self._ctx.instance)
        if session.offerer:
            self._signaling.rename(session, session_of(description))
            session.state = SessionState.HAVE_LOCAL_OFFER
            message = Offer(session.description, self._ctx.instance, None)
        envelope = self._post.envelope(session.peer, message, session.id)
        if envelope is None:
            self._signaling.drop(session)
            self._ctx.refuse(request, Code.PEER_UNKNOWN)
            return
        self._ctx.respond_after(
            session.ticket,
            request,
            text=encode_signal(kind, envelope),
            sdp=to_sdp(replace(description, mid=mid or description.mid), kind),
            peer_id=session.peer,
            name=self._membership.name_of(session.peer) or "",
            expires_at=self._ctx.now.unix + PASTE_TIMEOUT,
        )

    # -- answering ----------------------------------------------------------------------------------------------------

    def answer(self, request: RequestId, text: str) -> None:
        """Somebody's offer: a member's, or that of a bearer of one of our tokens. Raises ControlError."""
        envelope = decode_signal("offer", text)
        try:
            recipient = read_header(envelope).recipient
            token = self._introductions.with_key(recipient)
            if token is not None:
                self._bearers.on_pasted(request, token, envelope)
                return
            letter, message = self._open_letter(envelope)
            if not isinstance(message, Offer):
                raise ControlError(Code.PASTE_FOREIGN)
            remote = decode(message.description)
            ticket = self._post.remember(letter)
        except (MalformedMessage, Rejected) as error:
            raise self.told(error) from None
        self._begin(
            request, letter.sender, offerer=False, session=SessionId(letter.session), remote=remote, ticket=ticket
        )

    def answer_sdp(self, request: RequestId, sdp: str, peer: PeerId) -> None:
        """An SDP of which a person says that it is that member's. Raises ControlError."""
        remote = self._read_sdp(sdp)
        session = session_of(remote)
        if self._signaling.session(session) is not None:
            raise ControlError(Code.PASTE_USED)
        self._begin(request, peer, offerer=False, session=session, remote=remote)

    @staticmethod
    def _read_sdp(sdp: str) -> SessionDescription:
        try:
            return from_sdp(sdp)
        except MalformedMessage as error:
            raise ControlError(Code.PASTE_MANGLED, f"{error}.") from None

    def _open_letter(self, envelope: bytes) -> tuple[Letter, Message]:
        letter = self._post.open(envelope, self._membership.mesh)
        if not self._membership.is_member(letter.sender):
            raise ControlError(Code.PEER_UNKNOWN, "It is from somebody who is no member, as far as is known here.")
        return letter, decode_message(letter.body, SIGNALING)

    @staticmethod
    def told(error: MalformedMessage | Rejected) -> ControlError:
        """What a person is told of an envelope that does not hold."""
        if isinstance(error, MalformedMessage):
            return ControlError(Code.PASTE_MANGLED, f"{error}.")
        detail = "It is from another mesh." if error.reason == "wrong_mesh" else error.detail and f"{error.detail}."
        return ControlError(_REFUSALS.get(error.reason, Code.REFUSED), detail)

    # -- accepting ----------------------------------------------------------------------------------------------------

    def accept(self, request: RequestId, text: str) -> None:
        """The answer to an offer of ours: answered when the link is up. Raises ControlError."""
        envelope = decode_signal("answer", text)
        try:
            if self._joining.pasted:
                self._joining.on_pasted(request, envelope)
                return
            if self._membership.row is None:
                raise ControlError(Code.PASTE_UNKNOWN, "Offers stay open for ten minutes, and not over a restart.")
            letter, message = self._open_letter(envelope)
            if not isinstance(message, Answer):
                raise ControlError(Code.PASTE_FOREIGN)
            remote = decode(message.description)
            session = self._offered(letter.sender, letter.session)
            self._post.remember(letter)
        except (MalformedMessage, Rejected) as error:
            raise self.told(error) from None
        self._connect(request, session, remote)

    def accept_sdp(self, request: RequestId, sdp: str, peer: PeerId) -> None:
        """An SDP of which a person says that it is that member's. Raises ControlError."""
        self._connect(request, self._offered(peer, None), self._read_sdp(sdp))

    def _offered(self, peer: PeerId, session_id: SessionId | None) -> Session:
        for session in self._open():
            if session.offerer and session.peer == peer and session_id in (session.id, None):
                if session.state is SessionState.CONNECTING:
                    raise ControlError(Code.PASTE_USED)
                return session
        raise ControlError(Code.PASTE_UNKNOWN, "Offers stay open for ten minutes, and not over a restart.")

    def _connect(self, request: RequestId, session: Session, remote: SessionDescription) -> None:
        local = decode(session.description)
        self._accepted[session.id] = _Accepted(request, session.peer, local, remote, self._ctx.now.mono)
        self._ctx.timer("session", session.id, SESSION_TIMEOUT)
        self._signaling.connect(session, remote)

    def on_neighbor_up(self, peer: PeerId) -> None:
        """There is a link."""
        for session_id, accepted in list(self._accepted.items()):
            if accepted.peer == peer:
                del self._accepted[session_id]
                row = self._membership.row
                self._ctx.respond(
                    accepted.request,
                    peer_id=peer,
                    name=self._membership.name_of(peer) or "",
                    mesh_name=row.mesh_name if row is not None else "",
                    joined=False,
                    elapsed=self._ctx.now.mono - accepted.began,
                )
        for session_id in [known for known in self._asked if self._signaling.session(known) is None]:
            self.on_session_failed(session_id, "There is a link by now.")

    def on_session_failed(self, session_id: SessionId, reason: str) -> None:
        """There will be none of it."""
        asked = self._asked.pop(session_id, None)
        if asked is not None:
            self._ctx.refuse(asked[0], Code.LINK_FAILED, reason)
        accepted = self._accepted.pop(session_id, None)
        if accepted is not None:
            why = why_no_link(accepted.local, accepted.remote, self._ctx.config.links)
            self._ctx.refuse(accepted.request, Code.LINK_FAILED, f"{why} Begin anew with: meshctl offer ({reason})")

    def abandon(self, request: RequestId) -> None:
        """Nobody waits for the answer any more. A text that nobody has seen is of no use; a link is."""
        for session_id, (waiting, _) in list(self._asked.items()):
            if waiting == request:
                del self._asked[session_id]
        for session_id, accepted in list(self._accepted.items()):
            if accepted.request == request:
                del self._accepted[session_id]
