"""PyJWT verifies our capabilities, after they have travelled as all of them do: without header and audience."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from ends import NODE, SEED

from meshd.core.pushing.capabilities import expiries
from meshd.crypto import p256, vapid
from meshd.ids import MeshId
from meshd.wire.endpoint import join_endpoint, split_endpoint
from meshd.wire.introduction import Introduction, decode_token, encode_token
from meshd.wire.messages import TO_A_MEMBER, decode_message, encode_message
from meshd.wire.parts import CapabilityPart, Grant, SubscriptionPart

ENDPOINT = "https://updates.push.services.mozilla.com/wpush/v2/" + "x" * 180
AUDIENCE = "https://updates.push.services.mozilla.com"

pytestmark = [pytest.mark.root, pytest.mark.needs("python:jwt")]  # for `make check`, which installs what is not ours


def subscription(subject: str) -> SubscriptionPart:
    keys = NODE.channel_keys(SEED)
    exps = expiries(time.time(), 48 * 3600)
    parts = tuple(
        CapabilityPart(exp, NODE.issue_capability(SEED, AUDIENCE, exp, subject or vapid.DEFAULT_SUBJECT), subject)
        for exp in exps
    )
    return SubscriptionPart(*split_endpoint(ENDPOINT), keys.p256dh, keys.auth, keys.vapid_key, parts)


def by_grant(part: SubscriptionPart) -> SubscriptionPart:
    grant = decode_message(encode_message(Grant(7, (part,))), TO_A_MEMBER)
    assert isinstance(grant, Grant)
    return grant.subscriptions[0]


def by_token(part: SubscriptionPart) -> SubscriptionPart:
    token = Introduction(MeshId(bytes(32)), NODE.peer_id, bytes(32), bytes(16), int(time.time()) + 100, (part,))
    return decode_token(encode_token(token)).subscriptions[0]


@pytest.mark.parametrize("subject", ["", "mailto:somebody@example.org"])
@pytest.mark.parametrize("travel", [by_grant, by_token])
def test_they_verify(travel, subject: str):
    import jwt

    part = travel(subscription(subject))
    assert len(part.capabilities) >= 2
    audience = vapid.origin_of(join_endpoint(part.prefix, part.tail))
    for capability in part.capabilities:
        header = NODE.authorization(
            part.vapid_key, audience, capability.exp, capability.subject or vapid.DEFAULT_SUBJECT, capability.signature
        )
        text, key = vapid.parse_authorization(header)
        claims = jwt.decode(text, p256.public_key(key), algorithms=["ES256"], audience=AUDIENCE)
        assert claims == {"aud": AUDIENCE, "exp": capability.exp, "sub": subject or vapid.DEFAULT_SUBJECT}
        assert jwt.get_unverified_header(text) == {"typ": "JWT", "alg": "ES256"}


def test_one_that_was_changed_does_not():
    import jwt

    part = subscription("")
    changed = replace(part.capabilities[0], exp=part.capabilities[0].exp + 1)
    text = vapid.jwt(vapid.Capability(changed.exp, changed.signature), AUDIENCE)
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(text, p256.public_key(part.vapid_key), algorithms=["ES256"], audience=AUDIENCE)
