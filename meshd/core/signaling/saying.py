"""How an offer or an answer gets to the peer: over others if there is a way, else by push, else by a friend's push."""

from __future__ import annotations

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.pushing.behalf import Asking
from meshd.core.pushing.calling import Calling
from meshd.core.pushing.pushing import Pushing
from meshd.core.signaling.session import PUSH_SESSION_TIMEOUT, Purpose, Session
from meshd.wire.messages import Message

# Policy
RESEND_INTERVAL = 3.0  # seconds; an offer or answer over others, until something happens
MAX_RETURNED = 2  # times something may come back until it goes by push
PUSH_RESEND_INTERVAL = 20.0  # seconds
MAX_PUSHES_PER_ANSWER = 3  # somebody waits for it
MAX_PUSHES_PER_CALL = 2  # others call, too, and one that is off hears none of them


class Saying:
    """What sessions say. Each says it again (timer ``resend``) until something happens."""

    __slots__ = ("_asking", "_calling", "_ctx", "_post", "_pushing")

    def __init__(self, ctx: Context, post: Post, pushing: Pushing, asking: Asking, calling: Calling) -> None:
        self._ctx = ctx
        self._post = post
        self._pushing = pushing
        self._asking = asking
        self._calling = calling

    def say(self, session: Session, message: Message) -> None:
        """Over others if there is a way, else by push, else later.

        Where a way has turned out to be none, not everybody pushes that believed in it.
        """
        session.sent = message
        prefer_push = session.by_push or session.returned >= MAX_RETURNED
        may_push = not session.pushed and self._may_push(session)
        if prefer_push and may_push and self._push(session, message):
            return
        around = session.resumes is not None
        if self._post.send_in_session(session.peer, message, session.id, session.ticket, around=around):
            session.pushed = False
            self._ctx.timer("resend", session.id, self._ctx.jitter(RESEND_INTERVAL))
        elif not session.pushed and not (may_push and (self._push(session, message) or self._ask(session, message))):
            self._ctx.timer("resend", session.id, self._ctx.jitter(RESEND_INTERVAL))

    def repeat(self, session: Session) -> None:
        """The peer has shown that it is there, and may have missed what was pushed while it was not."""
        session.heard, session.pushed = True, False
        if session.sent is not None:
            self.say(session, session.sent)

    def _may_push(self, session: Session) -> bool:
        unasked = session.offerer and session.purpose is Purpose.MEMBER
        if not unasked or session.pushes:
            return session.pushes < self._most(session)
        return self._calling.may_call(session.peer)

    def _most(self, session: Session) -> int:
        """Pushes of one session."""
        if session.heard or not session.offerer or session.purpose is not Purpose.MEMBER:
            return MAX_PUSHES_PER_ANSWER
        return MAX_PUSHES_PER_CALL if self._calling.is_insistent(session.peer) else 1

    def otherwise(self, session: Session, outcome: str) -> bool:
        """Our push will not arrive. True if a friend of the peer's has been asked instead.

        What our budget forbids, nobody else is asked for.
        """
        if outcome == "withheld" or session.asked or session.sent is None:
            return False
        return self._ask(session, session.sent)

    def stop(self, session: Session) -> None:
        """Whatever becomes of its pushes does not matter any more."""
        self._pushing.cancel(session.id)
        self._asking.cancel(session.id)

    def _push(self, session: Session, message: Message) -> bool:
        pushed = self._post.push_in_session(
            session.peer,
            message,
            session.id,
            name=session.id,
            topic=self._topic(session),
            lifetime=PUSH_SESSION_TIMEOUT,
            ticket=session.ticket,
        )
        return pushed and self._on_pushed(session)

    def _ask(self, session: Session, message: Message) -> bool:
        """By push, from a friend of the peer's: we hold nothing that serves."""
        envelope = self._post.envelope(session.peer, message, session.id)
        if envelope is None or session.purpose is not Purpose.MEMBER:
            return False
        session.asked = self._asking.ask(
            session.id,
            session.peer,
            envelope,
            topic=self._topic(session),
            lifetime=PUSH_SESSION_TIMEOUT,
            ticket=session.ticket,
        )
        return session.asked and self._on_pushed(session)

    def _topic(self, session: Session) -> bytes:
        return (b"offer" if session.offerer else b"answer") + self._ctx.own_id[:12]

    def _on_pushed(self, session: Session) -> bool:
        session.pushed = True
        session.pushes += 1
        self._ctx.timer("session", session.id, PUSH_SESSION_TIMEOUT)
        if session.pushes < self._most(session):  # pushes may get lost, though a service said 201
            self._ctx.timer("resend", session.id, self._ctx.jitter(PUSH_RESEND_INTERVAL))
        return True
