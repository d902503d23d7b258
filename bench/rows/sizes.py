"""How large the things are that must fit somewhere: a token in a chat line, a join in one push."""

from __future__ import annotations

import base64
import os

from meshd.core.pushing.capabilities import (
    GRANT_SPAN,
    OWN_GRANT_SPAN,
    OWN_TOP_UP_SPAN,
    TOP_UP_SPAN,
    expiries,
    further_expiries,
    usable_until,
)
from meshd.core.pushing.granting import LOOK_INTERVAL
from meshd.crypto.suite import RealSuite
from meshd.ids import INSTANCE_SIZE, SESSION_ID_SIZE, MeshId, Now, PeerId, SessionId
from meshd.wire.endpoint import split_endpoint
from meshd.wire.envelope import seal
from meshd.wire.granting import GrantTaken
from meshd.wire.introduction import SECRET_SIZE, Introduction, encode_token, proof_of
from meshd.wire.joining import JoinRequest
from meshd.wire.messages import encode_message
from meshd.wire.parts import CapabilityPart, Grant, SubscriptionPart
from meshd.wire.session_description import Candidate, SessionDescription, encode

ENDPOINT_CHARS = 234  # of autopush's endpoints for subscriptions with a VAPID key
NOW = Now(0.0, 1_800_000_000.0)

_ENDPOINT_PREFIX = "https://updates.push.services.mozilla.com/wpush/v2/"
_CANDIDATES: tuple[Candidate, ...] = (
    Candidate("host", "192.168.178.21", 49_152),
    Candidate("host", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", 49_153),
    Candidate("srflx", "203.0.113.77", 49_154),
    Candidate("host", "10.8.0.2", 49_155),
    Candidate("host", "fd00::1234:5678:9abc:def0", 49_156),
    Candidate("srflx", "198.51.100.12", 49_157),
)


def _endpoint() -> str:
    size = (ENDPOINT_CHARS - len(_ENDPOINT_PREFIX)) * 3 // 4
    return _ENDPOINT_PREFIX + base64.urlsafe_b64encode(os.urandom(size)).decode().rstrip("=")


def _subscription(capabilities: int, subject: str = "") -> SubscriptionPart:
    prefix, tail = split_endpoint(_endpoint())
    parts = tuple(CapabilityPart(int(NOW.unix) + 43_200, os.urandom(64), subject) for _ in range(capabilities))
    return SubscriptionPart(prefix, tail, b"\x02" + os.urandom(32), os.urandom(16), b"\x03" + os.urandom(32), parts)


def _description(candidates: tuple[Candidate, ...]) -> bytes:
    return encode(SessionDescription("Ab3d", "0123456789abcdefghijkl", os.urandom(32), "actpass", candidates))


def token_size() -> int:
    """Characters of a token with one endpoint of ``ENDPOINT_CHARS``, one capability, no STUN servers."""
    introduction = Introduction(
        MeshId(os.urandom(32)),
        PeerId(os.urandom(32)),
        os.urandom(32),
        os.urandom(SECRET_SIZE),
        int(NOW.unix) + 43_200,
        (_subscription(1),),
    )
    return len(encode_token(introduction))


def description_size() -> int:
    """Bytes of a description with 6 candidates, two of them IPv6."""
    return len(_description(_CANDIDATES))


def first_push_size(*, everything: bool = False) -> int:
    """Bytes of a joiner's first push before encryption and padding.

    ``everything``: two push services whose capabilities have a subject of their own, 16 candidates, the longest name.
    """
    suite = RealSuite(os.urandom(32), os.urandom(32))
    seed = os.urandom(32)
    capabilities = len(expiries(NOW.unix, GRANT_SPAN))
    grant = Grant(0, (_subscription(capabilities),))
    candidates = _CANDIDATES
    if everything:
        subject = "mailto:someone.with.a.name@example.org"
        grant = Grant(1 << 39, tuple(_subscription(capabilities, subject) for _ in range(2)))
        candidates = tuple(Candidate("host", f"2001:db8:1::{n:x}:2:3", 50_000 + n) for n in range(1, 17))
    session = SessionId(os.urandom(SESSION_ID_SIZE))
    request = JoinRequest(
        os.urandom(8),
        proof_of(os.urandom(SECRET_SIZE), suite.peer_id, session),
        "n" * 32 if everything else "laptop",
        suite.sealing_key,
        os.urandom(INSTANCE_SIZE),
        _description(candidates),
        grant,
    )
    key = suite.sealing_key_of(seed)
    body = encode_message(request)
    return len(seal(suite, MeshId(os.urandom(32)), key, key, session=session, sequence=0, body=body, now=NOW))


def renewal_sizes(*, shared: bool) -> float:
    """Bytes a day, for each holder of ours that stays: grants that carry what is new, and its answers.

    ``shared``: of a subscription that all holders share, so that they get less at a time.
    """
    span, top_up = (GRANT_SPAN, TOP_UP_SPAN) if shared else (OWN_GRANT_SPAN, OWN_TOP_UP_SPAN)
    now = NOW.unix
    held = usable_until(expiries(now, span), now)
    size, days = 0, 60
    while now < NOW.unix + days * 86_400:
        now += LOOK_INTERVAL
        if held < now + top_up:
            exps = further_expiries(held, now, span, top_up)
            held = usable_until(exps, held)
            size += len(encode_message(Grant(1, (_subscription(len(exps)),))))
            size += len(encode_message(GrantTaken(1, int(held))))
    return size / days
