"""Getting a message to a member: on the link if there is one, in an envelope over others if there is a way, by push
if the sender wishes it — and opening the envelopes that come for us, however they came."""

from __future__ import annotations

from meshd.core.commands import Priority
from meshd.core.context import Context
from meshd.core.delivery.replay import ReplayMemory
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Neighbors
from meshd.core.overlay.relay import Relay
from meshd.core.pushing.pushing import NOT_URGENT, URGENT, Pushing
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import SESSION_ID_SIZE, MeshId, PeerId, SessionId, Ticket
from meshd.wire.envelope import MAX_LIFETIME, Letter, check_times, open_envelope, seal
from meshd.wire.messages import Message, encode_message

# Policy
MAX_COUNTED_SESSIONS = 1024  # whose next sequence number is remembered; a session lives for seconds


class Post:
    """Envelopes in and out."""

    __slots__ = ("_conversation", "_ctx", "_membership", "_neighbors", "_pushing", "_relay", "_replay", "_sequences")

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        neighbors: Neighbors,
        relay: Relay,
        pushing: Pushing,
        replay: ReplayMemory,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._neighbors = neighbors
        self._relay = relay
        self._pushing = pushing
        self._replay = replay
        self._conversation = SessionId(ctx.rng.randbytes(SESSION_ID_SIZE))  # of all that belongs to no session
        self._sequences: dict[SessionId, int] = {}

    # -- out ----------------------------------------------------------------------------------------------------------

    def reaches(self, peer: PeerId) -> bool:
        """Whether there is a way to that peer now, by link or over others."""
        return self._neighbors.current(peer) is not None or self._relay.reaches(peer)

    def send(
        self, peer: PeerId, message: Message, priority: Priority = Priority.CONTROL, ticket: Ticket | None = None
    ) -> bool:
        """By link or over others, once ``ticket`` is durable; False if there is no way now. For ``TO_A_MEMBER``."""
        if self._neighbors.send_to(peer, message, priority, ticket):
            return True
        if not self._relay.reaches(peer):  # sealing is work
            return False
        envelope = self.envelope(peer, message, self._conversation)
        return envelope is not None and self._relay.send(peer, envelope, priority, ticket)

    def send_in_session(
        self,
        peer: PeerId,
        message: Message,
        session: SessionId,
        ticket: Ticket | None = None,
        *,
        around: bool = False,
    ) -> bool:
        """The same for signaling: always in an envelope, also where there is a link; once ``ticket`` is durable.

        ``around``: it is about a new path for that link, so it should not go by the old one.
        """
        envelope = self.envelope(peer, message, session)
        return envelope is not None and self._relay.send(peer, envelope, Priority.CONTROL, ticket, around=around)

    def push_in_session(
        self,
        peer: PeerId,
        message: Message,
        session: SessionId,
        *,
        name: bytes,
        topic: bytes,
        lifetime: float,
        urgency: str = URGENT,
        ticket: Ticket | None = None,
    ) -> bool:
        """Signaling by push; False if we hold no usable capability of that peer."""
        envelope = self.envelope(peer, message, session)
        return envelope is not None and self._pushing.send(
            name, envelope, peer=peer, topic=topic, lifetime=lifetime, urgency=urgency, ticket=ticket
        )

    def push(self, peer: PeerId, message: Message, *, name: bytes, topic: bytes, lifetime: float) -> bool:
        """By push, in no session, with no hurry; False if we hold no usable capability of that peer."""
        session = self._conversation
        return self.push_in_session(
            peer, message, session, name=name, topic=topic, lifetime=lifetime, urgency=NOT_URGENT
        )

    def envelope(self, peer: PeerId, message: Message, session: SessionId) -> bytes | None:
        """Sealed for a member; None if we do not know its sealing key."""
        key = self._membership.sealing_key(peer)
        if key is None:
            return None
        return self.envelope_to(self._membership.mesh, peer, key, message, session)

    def envelope_to(
        self, mesh: MeshId, recipient: bytes, key: bytes, message: Message, session: SessionId
    ) -> bytes | None:
        """Sealed for whoever holds ``key``; None if that is no key."""
        sequence = self._sequences.pop(session, 0) + 1
        self._sequences[session] = sequence  # at the end again: the session used longest ago is forgotten first
        if len(self._sequences) > MAX_COUNTED_SESSIONS:
            for oldest in self._sequences:
                if oldest != self._conversation:
                    del self._sequences[oldest]
                    break
        try:
            return seal(
                self._ctx.suite,
                mesh,
                recipient,
                key,
                session=session,
                sequence=sequence,
                body=encode_message(message),
                now=self._ctx.now,
                lifetime=MAX_LIFETIME,
            )
        except Rejected:
            self._ctx.count("envelopes_unsealable")
            return None

    # -- in -----------------------------------------------------------------------------------------------------------

    def open(self, data: bytes, mesh: MeshId, seed: bytes | None = None) -> Letter:
        """Open and check the times. Who the sender is to us, and whether it came before, is still to be asked.

        Raises MalformedMessage and Rejected, counted already.
        """
        try:
            letter = open_envelope(self._ctx.suite, mesh, data, seed)
            check_times(letter, self._ctx.now)
        except MalformedMessage:
            self._ctx.count("envelopes_malformed")
            raise
        except Rejected as rejected:
            self._ctx.count(f"envelopes_{rejected.reason}")
            raise
        return letter

    def remember(self, letter: Letter) -> Ticket:
        """Once is enough. What follows from the envelope may leave once the ticket is durable. Raises Rejected."""
        try:
            if self._ctx.store_failing:
                raise Rejected("store_failing")
            return self._ctx.persist(self._replay.admit(letter))
        except Rejected as rejected:
            self._ctx.count(f"envelopes_{rejected.reason}")
            raise
