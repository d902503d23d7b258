"""A call as a web page writes it: what ``PushSubscription.toJSON`` and ``RTCSessionDescription`` give, and who calls.

The signature covers the same call in our own bytes (``call``), which both sides make: so the JSON may be written in any
order and with any spaces.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from meshd.crypto import p256, vapid
from meshd.crypto.base64url import decode_base64url
from meshd.errors import Code, ControlError, LocalMisuse, MalformedMessage
from meshd.ids import from_text
from meshd.push_services import MAX_ENDPOINT_SIZE
from meshd.wire.endpoint import split_endpoint
from meshd.wire.parts import MAX_CAPABILITIES, CapabilityPart, Grant, SubscriptionPart
from meshd.wire.sdp import from_sdp
from meshd.wire.session_description import encode as encode_description

# Policy
MAX_JWT_CHARS = 2048  # ours have some 250
MAX_NUMBER = 1 << 40
_NO_CALLER = (
    "It does not say who calls: nobody could be let in, or be told from another. The page has to add `caller`: id, "
    "sealing key, name, session, times, signature."
)


@dataclass(frozen=True, slots=True)
class JsonCall:
    """What was read. ``ends``: when (Unix seconds) the browser ends the subscription."""

    caller: bytes
    mesh: bytes
    sealing_key: bytes
    name: str
    session: bytes
    instance: bytes
    issued: int
    expires: int
    description: bytes
    grant: Grant = field(repr=False)
    signature: bytes
    vapid_private: bytes = field(repr=False)
    ends: float


def read_json(text: str) -> JsonCall:
    """Take the JSON apart. Raises MalformedMessage, or ControlError for what is something else."""
    try:
        page = json.loads(text, strict=False)  # a terminal may have wrapped the lines
    except (ValueError, RecursionError):
        raise MalformedMessage("That begins like JSON, and is none: is it all there?") from None
    subscription = page.get("subscription", page if "endpoint" in page else None)
    if not isinstance(subscription, dict) or "endpoint" not in subscription:
        if "sdp" in page:
            raise ControlError(Code.CALL_FOREIGN, "It is an offer or answer without a push subscription.")
        raise ControlError(Code.CALL_FOREIGN, "There is no `subscription` in it.")
    caller = page.get("caller")
    if not isinstance(caller, dict):
        raise ControlError(Code.CALL_ANONYMOUS, _NO_CALLER)
    part, private = _subscription(subscription, page.get("vapid"))
    ends = subscription.get("expirationTime")  # Push API section 7: milliseconds, or null
    return JsonCall(
        _id(caller, "id"),
        _id(caller, "mesh") if caller.get("mesh") else b"",
        _bytes(caller, "sealingKey"),
        _text(caller, "name"),
        _bytes(caller, "session"),
        _bytes(caller, "instance"),
        _number(caller, "issued"),
        _number(caller, "expires"),
        _description(page.get("description")),
        Grant(_number(caller, "generation") if "generation" in caller else 0, (part,)),
        _bytes(caller, "signature"),
        private,
        ends / 1000 if isinstance(ends, int | float) and abs(ends) < MAX_NUMBER**2 else math.inf,
    )


def _description(offer: object) -> bytes:
    """Its offer in our bytes; nothing, if there is none."""
    if offer is None:
        return b""
    if not isinstance(offer, dict) or offer.get("type") != "offer":
        raise MalformedMessage('`description` is to be {"type": "offer", "sdp": …}')
    return encode_description(from_sdp(_text(offer, "sdp")))


def _subscription(subscription: dict[str, Any], shared: object) -> tuple[SubscriptionPart, bytes]:
    """The subscription with its capabilities; and the private VAPID key, if that is shared instead."""
    keys = subscription.get("keys")
    if not isinstance(keys, dict) or not isinstance(shared, dict):
        raise MalformedMessage("`subscription.keys` or `vapid` is missing")
    endpoint = _text(subscription, "endpoint")
    if len(endpoint) > MAX_ENDPOINT_SIZE:
        raise MalformedMessage(f"an endpoint of {len(endpoint)} characters")
    audience = vapid.origin_of(endpoint)
    private = _bytes(shared, "privateKey") if shared.get("privateKey") else b""
    public = p256.compress_point(_bytes(shared, "publicKey"))
    if private and not _belong_together(private, public):
        raise MalformedMessage("`vapid.privateKey` is not that of `vapid.publicKey`")
    tokens = shared.get("tokens", [])
    if not isinstance(tokens, list) or len(tokens) > MAX_CAPABILITIES:
        raise MalformedMessage(f"`vapid.tokens` is no list of at most {MAX_CAPABILITIES}")
    capabilities = tuple(_capability(token, audience) for token in tokens)
    prefix, tail = split_endpoint(endpoint)
    auth, p256dh = _bytes(keys, "auth"), p256.compress_point(_bytes(keys, "p256dh"))
    return SubscriptionPart(prefix, tail, p256dh, auth, public, capabilities), private


def _belong_together(private: bytes, public: bytes) -> bool:
    try:
        return p256.compress_point(p256.point_of(p256.one_time_private_key(private).public_key())) == public
    except LocalMisuse:
        return False


def _capability(token: object, audience: str) -> CapabilityPart:
    """A JWT without what can be rebuilt. Raises MalformedMessage for one that could not be rebuilt to the byte."""
    if not isinstance(token, str) or len(token) > MAX_JWT_CHARS or token.count(".") != 2:
        raise MalformedMessage("something in `vapid.tokens` is no JWT")
    signed, _, signature_text = token.rpartition(".")
    signature = decode_base64url(signature_text)
    try:
        claims = json.loads(decode_base64url(signed.partition(".")[2]))
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict) or len(signature) != vapid.SIGNATURE_SIZE:
        raise MalformedMessage("something in `vapid.tokens` is no JWT")
    s = int.from_bytes(signature[32:])
    if p256.ORDER // 2 < s < p256.ORDER:  # browsers sign with either s; here there is one form of each signature
        signature = signature[:32] + (p256.ORDER - s).to_bytes(32)
    capability = vapid.Capability(_number(claims, "exp"), signature, _text(claims, "sub"))
    if vapid.jwt(capability, audience).rpartition(".")[0] != signed:
        raise MalformedMessage('a JWT whose header is not {"typ","alg"}, or whose claims are not aud, exp, sub, packed')
    subject = "" if capability.subject == vapid.DEFAULT_SUBJECT else capability.subject
    return CapabilityPart(capability.exp, signature, subject)


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or not (value.isprintable() or name == "sdp"):
        raise MalformedMessage(f"`{name}` is missing, or no text")
    return value


def _bytes(values: dict[str, Any], name: str) -> bytes:
    return decode_base64url(_text(values, name))


def _id(values: dict[str, Any], name: str) -> bytes:
    try:
        return from_text(_text(values, name))
    except ValueError:
        raise MalformedMessage(f"`{name}` is no id in base32") from None


def _number(values: dict[str, Any], name: str) -> int:
    value = values.get(name)
    if type(value) is not int or not 0 <= value < MAX_NUMBER:
        raise MalformedMessage(f"`{name}` is no whole number of seconds")
    return value
