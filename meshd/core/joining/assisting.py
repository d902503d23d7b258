"""Answering a newcomer for its introducer: the two may be unable to connect, and we perhaps can.

The newcomer's first push carries further offers. Its introducer, having admitted it, has some of its neighbors answer
them, and puts their answers into its own. A link to any of us will do: the rest goes over the mesh.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from random import Random

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.core.membership.membership import Membership
from meshd.core.overlay.neighbors import Link
from meshd.core.signaling.session import PASTE_TIMEOUT, Purpose, Session, SessionState
from meshd.core.signaling.sessions import SESSION_TIMEOUT
from meshd.core.signaling.signaling import Signaling
from meshd.crypto.admission import Chain, decode_chain, verify_chain
from meshd.errors import Rejected
from meshd.ids import PeerId, SessionId
from meshd.special_addresses import forbidden_by
from meshd.wire.joining import AnswerGiven, AnswerWanted, JoinAnswered
from meshd.wire.session_description import decode as decode_description

# Policy
MAX_ASSISTED = 8  # newcomers at a time: each makes us gather, and knock at addresses that it names


def choose(links: Sequence[Link], newcomer: PeerId, rng: Random) -> list[Link]:
    """Neighbors in the order in which they are likely to reach a newcomer that we may not reach.

    First those with a public address of their own, then those behind another router than ours, then the rest; and of
    those behind one router one, before a second of them is asked.
    """
    ranked = [(_rank(link), rng.random(), link) for link in links if link.peer != newcomer]
    ranked.sort(key=lambda entry: entry[:2])
    first: list[Link] = []
    later: list[Link] = []
    networks: list[str] = []
    for _, _, link in ranked:
        network = _network(link)
        (later if network in networks else first).append(link)
        networks.append(network)
    return first + later


def _host(link: Link) -> str:
    """The address, without the port, at which that neighbor is reached."""
    address = link.connected.remote_address if link.connected is not None else ""
    return address.rpartition(":")[0].strip("[]")


def _rank(link: Link) -> int:
    connected = link.connected
    try:
        public = forbidden_by(ipaddress.ip_address(_host(link))) is None
    except ValueError:
        public = False
    if connected is None or not public or connected.remote_kind == "relay":
        return 2
    return 0 if connected.remote_kind == "host" else 1


def _network(link: Link) -> str:
    """What neighbors behind one router have in common: the IPv4 address, or the first half of the IPv6 one."""
    try:
        address = ipaddress.ip_address(_host(link))
    except ValueError:
        return link.peer.hex()
    if forbidden_by(address) is not None:
        return link.peer.hex()  # private: it is with us behind our router, or we cannot tell
    return str(address) if address.version == 4 else address.packed[:8].hex()


class Assisting:
    """This node as one that answers for an introducer."""

    __slots__ = ("_asked", "_ctx", "_membership", "_post", "_signaling")

    def __init__(self, ctx: Context, membership: Membership, post: Post, signaling: Signaling) -> None:
        self._ctx = ctx
        self._membership = membership
        self._post = post
        self._signaling = signaling
        self._asked: dict[SessionId, tuple[PeerId, Chain, bytes]] = {}  # by whom, for whom: admission, sealing key

    def on_wanted(self, introducer: PeerId, message: AnswerWanted) -> None:
        """A neighbor has admitted somebody and asks us to answer. Raises MalformedMessage and Rejected."""
        session_id = SessionId(message.session)
        chain = decode_chain(message.chain)
        judge = self._membership.revocations.judge
        verify_chain(chain, self._membership.mesh, self._ctx.now.unix, self._ctx.suite.verify, judge)
        newcomer = PeerId(chain[-1].subject)
        if chain[-1].issuer != introducer or newcomer in (introducer, self._ctx.own_id):
            raise Rejected("not_its_newcomer")
        remote = decode_description(message.description)
        session, patience = None, min(float(message.patience), PASTE_TIMEOUT)
        self.sweep()
        room = len(self._asked) < MAX_ASSISTED and not self._membership.is_full
        if room and self._signaling.session(session_id) is None:
            previous = self._signaling.with_peer(newcomer)
            if previous is not None:  # an earlier try of the same newcomer; this one's description is fresher
                self._signaling.drop(previous)
            ticket = self._ctx.persist(self._membership.remember_admitted(newcomer, chain, message.sealing_key))
            session = self._signaling.begin(
                newcomer,
                self._membership.mesh,
                Purpose.ASSIST,
                offerer=False,
                session=session_id,
                ticket=ticket,
                timeout=patience + SESSION_TIMEOUT,
            )
        if session is None:
            self._post.send(introducer, AnswerGiven(message.session, b""))
            return
        session.state, session.remote, session.patience = SessionState.HAVE_REMOTE_OFFER, remote, patience
        self._asked[session_id] = (introducer, chain, message.sealing_key)
        self._ctx.count("joins_assisted")

    def ready(self, session: Session) -> None:
        """Our description is there: answer, by way of the introducer."""
        asked = self._asked.get(session.id)
        if asked is None:
            return
        introducer, theirs, sealing_key = asked
        own = self._membership.chain
        shared = 0
        while shared < min(len(own), len(theirs)) and own[shared].encoded == theirs[shared].encoded:
            shared += 1
        answered = JoinAnswered(
            session.description, self._ctx.suite.sealing_key, shared, tuple(c.encoded for c in own[shared:])
        )
        envelope = self._post.envelope_to(self._membership.mesh, session.peer, sealing_key, answered, session.id)
        given = AnswerGiven(session.id, envelope or b"")
        if not envelope or not self._post.send(introducer, given, ticket=session.ticket):
            self._signaling.drop(session)

    def on_session_over(self, session: SessionId) -> None:
        """It has succeeded or failed."""
        self._asked.pop(session, None)

    def sweep(self) -> None:
        """Forget those whose sessions are over."""
        for session in [session for session in self._asked if self._signaling.session(session) is None]:
            self.on_session_over(session)
