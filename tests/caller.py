"""A caller as a web page is one: it has a push subscription and an offer, and makes a text of them for a member.

It knows nothing of a mesh before it is answered. Written from docs/protocol.md; of our code it uses the wire room.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from meshd.core.pushing.capabilities import expiries
from meshd.crypto import p256, vapid
from meshd.crypto.admission import decode_chain, verify_chain
from meshd.crypto.base64url import encode_base64url
from meshd.crypto.suite import Suite
from meshd.ids import Instance, MeshId, Now, PeerId, SessionId, text_of
from meshd.wire.call import Call, encode_call, sign_call
from meshd.wire.codec import decode
from meshd.wire.endpoint import join_endpoint, split_endpoint
from meshd.wire.envelope import _CONTEXT as ENVELOPE_CONTEXT
from meshd.wire.envelope import HEADER_SIZE, Letter, _Sealed, _Signed, check_times, open_envelope, seal
from meshd.wire.joining import JoinAccepted
from meshd.wire.messages import ENVELOPE_MESSAGES, MAX_ENVELOPE_SIZE, Answer, Hello, decode_message, encode_message
from meshd.wire.parts import CapabilityPart, Grant, SubscriptionPart
from meshd.wire.record import Record, decode_record, make_record, verify_record
from meshd.wire.sdp import to_sdp
from meshd.wire.session_description import SessionDescription
from meshd.wire.session_description import encode as encode_description

INSTANCE = Instance(b"a page's")
BINDING = b"meshd link binding 1\0"


class Caller:
    """``seed`` is that of its push channel's keys; ``endpoint`` is where its pushes go."""

    def __init__(self, suite: Suite, seed: bytes, endpoint: str, now: Now) -> None:
        self.suite = suite
        self.seed = seed
        self.endpoint = endpoint
        self.now = now
        self.mesh = MeshId(b"")
        self.chain: Any = ()
        self.introducer: Record

    def part(self, capable: bool = True) -> SubscriptionPart:
        keys, audience = self.suite.channel_keys(self.seed), vapid.origin_of(self.endpoint)
        capabilities = [
            CapabilityPart(exp, self.suite.issue_capability(self.seed, audience, exp, vapid.DEFAULT_SUBJECT))
            for exp in expiries(self.now.unix)
            if capable
        ]
        return SubscriptionPart(
            *split_endpoint(self.endpoint), keys.p256dh, keys.auth, keys.vapid_key, tuple(capabilities)
        )

    def call(self, session: bytes, offer: SessionDescription | None, **changes: Any) -> Call:
        now = int(self.now.unix)
        call = Call(
            self.suite.peer_id,
            self.mesh,
            self.suite.sealing_key,
            "phone",
            SessionId(session),
            INSTANCE,
            now,
            now + 300,
            b"" if offer is None else encode_description(offer),
            Grant(0, (self.part(),)),
        )
        return replace(call, **changes)

    def text(self, session: bytes, offer: SessionDescription | None, **changes: Any) -> str:
        return encode_call(self.suite, self.call(session, offer, **changes))

    def page(
        self, session: bytes, offer: SessionDescription | None, *, shares_key: bool = False, **changes: Any
    ) -> dict[str, Any]:
        """The same as JSON. ``shares_key``: the way of a page that publishes its VAPID key pair."""
        call = self.call(session, offer, **changes)
        part = call.grant.subscriptions[0]
        if shares_key:
            call = replace(call, grant=Grant(0, (replace(part, capabilities=()),)))
        audience, public = vapid.origin_of(self.endpoint), p256.uncompress_point(part.vapid_key)
        shared: dict[str, Any] = {"publicKey": encode_base64url(public)}
        if shares_key:
            shared["privateKey"] = encode_base64url(vapid.derive_key(self.seed).private)
        else:
            shared["tokens"] = [vapid.jwt(vapid.Capability(c.exp, c.signature), audience) for c in part.capabilities]
        caller = {
            "id": text_of(call.caller),
            "sealingKey": encode_base64url(call.sealing_key),
            "name": call.name,
            "session": encode_base64url(call.session),
            "instance": encode_base64url(call.instance),
            "issued": call.issued,
            "expires": call.expires,
            "signature": encode_base64url(sign_call(self.suite, call)[1]),
        }
        p256dh = encode_base64url(p256.uncompress_point(part.p256dh))
        keys = {"p256dh": p256dh, "auth": encode_base64url(part.auth)}
        page: dict[str, Any] = {
            "subscription": {"endpoint": join_endpoint(part.prefix, part.tail), "expirationTime": None, "keys": keys},
            "vapid": shared,
            "caller": caller,
        }
        if offer is not None:
            page["description"] = {"type": "offer", "sdp": to_sdp(offer, "offer")}
        return page

    def json(self, session: bytes, offer: SessionDescription | None, **more: Any) -> str:
        return json.dumps(self.page(session, offer, **more), indent=1)

    # -- the answer ---------------------------------------------------------------------------------------------------

    def open(self, envelope: bytes) -> tuple[Letter, Any]:
        """What was pushed. The mesh that it comes from is the one that the admission in it begins with."""
        if not self.mesh:
            outside = envelope[:HEADER_SIZE]
            opened = self.suite.open(None, ENVELOPE_CONTEXT + outside, envelope[HEADER_SIZE:])
            signed = decode(_Signed, decode(_Sealed, opened, MAX_ENVELOPE_SIZE).signed, MAX_ENVELOPE_SIZE)
            accepted = decode_message(signed.body, ENVELOPE_MESSAGES)
            assert isinstance(accepted, JoinAccepted)
            self.mesh = MeshId(decode_chain(accepted.chain)[0].issuer)
        letter = open_envelope(self.suite, self.mesh, envelope)
        check_times(letter, self.now)
        message = decode_message(letter.body, ENVELOPE_MESSAGES)
        if isinstance(message, JoinAccepted):
            self.chain = decode_chain(message.chain)
            verify_chain(self.chain, self.mesh, self.now.unix, self.suite.verify)
            assert self.chain[-1].subject == self.suite.peer_id
            self.introducer = decode_record(message.record)
            verify_record(self.introducer, self.suite, self.mesh, self.now.unix)
            assert self.introducer.peer == letter.sender
        return letter, message

    def answer(self, letter: Letter, description: SessionDescription) -> bytes:
        """An envelope with an answer to an offer that was pushed."""
        message = Answer(encode_description(description), INSTANCE)
        return seal(
            self.suite,
            self.mesh,
            letter.sender,
            self.introducer.sealing_key,
            session=letter.session,
            sequence=1,
            body=encode_message(message),
            now=self.now,
        )

    def hello(self, session: bytes, peer: PeerId, own_print: bytes, peer_print: bytes) -> bytes:
        """The first words on the link."""
        signed = BINDING + self.mesh + session + self.suite.peer_id + peer + own_print + peer_print
        return encode_message(Hello(2, 2, 0, "a page", INSTANCE, self.suite.sign(signed)))

    def record(self) -> Record:
        """What a member says of itself."""
        return make_record(
            self.suite,
            self.mesh,
            number=1,
            chain=self.chain,
            generation=0,
            features=0,
            instance=INSTANCE,
            issued=int(self.now.unix),
            flags=0,
        )
