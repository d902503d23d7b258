"""One attempt at a link: its states, whose business it is, and what is known of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from meshd.ids import LinkId, PeerId, SessionId, Ticket
from meshd.wire.messages import Message
from meshd.wire.session_description import SessionDescription

# Policy
PUSH_SESSION_TIMEOUT = 120.0  # seconds from the wish to the link by push, which may wait at the service
PASTE_TIMEOUT = 600.0  # seconds an offer stays open that people carry; they have other things to do

NOBODY = PeerId(b"")  # the peer of an offer that whoever is chosen may answer


class SessionState(Enum):
    """RFC 9429 section 3.5.5, and the two ends of our own."""

    GATHERING = "gathering"
    HAVE_LOCAL_OFFER = "have-local-offer"
    HAVE_REMOTE_OFFER = "have-remote-offer"
    CONNECTING = "stable"


class Purpose(Enum):
    """Whose business the exchange is."""

    MEMBER = "member"  # ours: offer and answer between members
    JOIN = "join"  # core.joining
    ADMIT = "admit"  # core.arrivals
    ASSIST = "assist"  # core.assisting
    PASTE = "paste"  # core.pasting


@dataclass(slots=True)
class Session:
    """One attempt at a link with ``peer``."""

    id: SessionId
    peer: PeerId
    link: LinkId
    purpose: Purpose
    offerer: bool
    state: SessionState = SessionState.GATHERING
    description: bytes = field(default=b"", repr=False)
    remote: SessionDescription | None = field(default=None, repr=False)
    ticket: Ticket | None = None  # what we say in it depends on this
    waiting_for_grant: bool = False
    sent: Message | None = field(default=None, repr=False)  # to be sent again
    pushed: bool = False
    pushes: int = 0
    heard: bool = False  # the peer has called meanwhile: it is there
    asked: bool = False  # friends of the peer have been asked to push what we say
    returned: int = 0  # how often what we said came back undeliverable
    resumes: LinkId | None = None  # the older link that is to go on over this one's path
    patience: float = 0.0  # seconds our answer may take to the peer, which connects only then
    answered: tuple[bytes, int] | None = None  # the instance that answered our offer, and when by its clock
    by_push: bool = False  # the offer came by push, so the answer goes that way first: the peer may have no other
