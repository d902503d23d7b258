"""VAPID (RFC 8292): who may push, said by a JWT that is signed with the subscription's P-256 key.

A ``Capability`` is such a JWT without what its holder knows anyway: header and audience are left out, and put back
when it is used. Pure: the time comes in.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from meshd.crypto import p256
from meshd.crypto.base64url import decode_base64url, encode_base64url
from meshd.errors import LocalMisuse, MalformedMessage, Rejected
from meshd.push_services import MAX_ENDPOINT_SIZE

# Specification
SIGNATURE_SIZE = 64  # ES256, RFC 7518 section 3.4: r and s, 32 bytes each
MAX_LIFETIME = 86400  # seconds; RFC 8292 section 2: `exp` at most 24 h after the request
_DEFAULT_PORTS = {"https": 443, "http": 80}

# Policy
# Apple and Google want a `sub` that is a mailto: or https: URI; Apple refuses addresses that cannot exist
# ("mailto:meshd@invalid"). An https: URI passes everywhere and names no person.
DEFAULT_SUBJECT = "https://meshd.invalid"
MAX_AUTHORIZATION_CHARS = 4096  # JWTs of real senders have 200 to 500
MAX_CACHED_VERIFICATIONS = 4096  # JWTs are used again and again (RFC 8292 section 4.2 asks for it); ~1 KB each
MAX_CACHED_INPUTS = 512  # what is signed is put into a header next, or verified and then used; ~0.5 KB each

_HEADER = encode_base64url(b'{"typ":"JWT","alg":"ES256"}')
_ES256 = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)  # RFC 6979: no random number to get wrong
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?\Z")
_PARAMETER = re.compile(r'\s*([A-Za-z0-9_-]+)\s*=\s*("[^"\\]*"|[^\s",]+)\s*(?:,|\Z)')


@dataclass(frozen=True, slots=True)
class VapidKey:
    """The key a subscription was registered with: private scalar (32 bytes) and public point (65 bytes)."""

    private: bytes = field(repr=False)
    public: bytes


@dataclass(frozen=True, slots=True)
class Capability:
    """The right to push with one VAPID key at one push service, in the 24 h before ``exp``.

    ``exp``: Unix seconds. ``signature``: r and s, 64 bytes; whoever has it can push, so ``repr`` hides it.
    """

    exp: int
    signature: bytes = field(repr=False)
    subject: str = DEFAULT_SUBJECT


def derive_key(seed: bytes) -> VapidKey:
    """A VAPID key from 32 random bytes; the same seed gives the same key."""
    scalar = p256.scalar_from_seed(seed)
    return VapidKey(private=scalar, public=p256.public_point(scalar))


def issue(key: VapidKey, audience: str, exp: int, subject: str = DEFAULT_SUBJECT) -> Capability:
    """A capability for every subscription of ``key`` at the origin ``audience`` (``origin_of`` gives it).

    The signature is deterministic and has a low s, so that there is one form of it only.
    """
    der = p256.private_key(key.private).sign(_signing_input(audience, exp, subject), _ES256)
    r, s = decode_dss_signature(der)
    s = min(s, p256.ORDER - s)
    return Capability(exp, r.to_bytes(32) + s.to_bytes(32), subject)


def verify(capability: Capability, audience: str, public: bytes) -> bool:
    """Whether ``capability`` was issued by the key ``public`` (33 or 65 bytes) for ``audience``, in its one form.

    A high s is refused: it is the other form of a signature that already exists, made without the private key.
    The time is not looked at.
    """
    if len(capability.signature) != SIGNATURE_SIZE or int.from_bytes(capability.signature[32:]) > p256.ORDER // 2:
        return False
    signed = _signing_input(audience, capability.exp, capability.subject)
    try:
        return _signature_holds(capability.signature, signed, public)
    except MalformedMessage:
        return False


def jwt(capability: Capability, audience: str) -> str:
    """The JWT that ``capability`` stands for: header and body rebuilt to the byte."""
    signed = _signing_input(audience, capability.exp, capability.subject).decode("ascii")
    return f"{signed}.{encode_base64url(capability.signature)}"


def authorization(capability: Capability, audience: str, public: bytes) -> str:
    """The value of the ``Authorization`` header, RFC 8292 section 3. ``public`` has 33 or 65 bytes."""
    return f"vapid t={jwt(capability, audience)}, k={encode_base64url(p256.uncompress_point(public))}"


def parse_authorization(header: str) -> tuple[str, bytes]:
    """The JWT and the public key (65 bytes, on the curve) of a ``vapid`` header. Raises MalformedMessage."""
    if len(header) > MAX_AUTHORIZATION_CHARS:
        raise MalformedMessage(f"an Authorization header of more than {MAX_AUTHORIZATION_CHARS} characters")
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "vapid":
        raise MalformedMessage("the scheme of Authorization is not vapid")
    parameters: dict[str, str] = {}
    rest = rest.strip()
    position = 0
    while position < len(rest):
        match = _PARAMETER.match(rest, position)
        if match is None:
            raise MalformedMessage("the parameters of Authorization are not a list of name=value")
        name = match[1].lower()
        if name in parameters:
            raise MalformedMessage(f"the parameter {name} of Authorization is there twice")
        parameters[name] = match[2].strip('"')
        position = match.end()
    if "t" not in parameters or "k" not in parameters:
        raise MalformedMessage("Authorization lacks t or k")
    public = decode_base64url(parameters["k"])
    if len(public) != p256.POINT_SIZE:
        raise MalformedMessage("k is not an uncompressed point")
    return parameters["t"], p256.uncompress_point(public)


@lru_cache(maxsize=MAX_CACHED_VERIFICATIONS)
def _verified_claims(jwt_text: str, public: bytes) -> str:
    """The claims as JSON text, once the signature has been found good: the part that costs time and never changes."""
    parts = jwt_text.split(".")
    if len(parts) != 3:
        raise MalformedMessage("not a JWT: it has not three parts")
    header = _json_object(decode_base64url(parts[0]))
    if header.get("alg") != "ES256":
        raise Rejected("vapid_algorithm", "the JWT is not signed with ES256")
    signature = decode_base64url(parts[2])
    if len(signature) != SIGNATURE_SIZE:
        raise MalformedMessage(f"an ES256 signature has {SIGNATURE_SIZE} bytes, not {len(signature)}")
    claims = decode_base64url(parts[1])
    _json_object(claims)
    if not _signature_holds(signature, f"{parts[0]}.{parts[1]}".encode("ascii"), public):
        raise Rejected("vapid_signature", "the JWT is not signed by that key")
    return claims.decode()


def verify_jwt(jwt_text: str, public: bytes) -> dict[str, Any]:
    """The claims of a JWT whose signature by ``public`` holds: any claims, in any order, high or low s.

    Raises MalformedMessage for what is no JWT, Rejected for a wrong signature or algorithm.
    """
    if len(jwt_text) > MAX_AUTHORIZATION_CHARS:
        raise MalformedMessage(f"a JWT of more than {MAX_AUTHORIZATION_CHARS} characters")
    claims: dict[str, Any] = json.loads(_verified_claims(jwt_text, public))
    return claims


def check_claims(claims: dict[str, Any], audience: str, now: float, max_lifetime: float = MAX_LIFETIME) -> None:
    """What a push service asks of claims at the Unix time ``now``, RFC 8292 section 2. Raises Rejected.

    No allowance for clocks: whoever signs keeps its distance from both ends. ``max_lifetime`` (seconds): how far ahead
    a JWT may end, where that is the service's own business.
    """
    given = claims.get("aud")
    if given != audience and not (isinstance(given, list) and audience in given):
        raise Rejected("vapid_audience", f"aud must be {audience}")
    exp = claims.get("exp")
    if isinstance(exp, bool) or not isinstance(exp, int | float) or not math.isfinite(exp):
        raise Rejected("vapid_exp", "exp must be a number")
    if exp <= now:
        raise Rejected("vapid_expired", "the JWT has expired")
    if exp > now + max_lifetime:
        raise Rejected("vapid_exp_too_far", f"exp must be at most {max_lifetime / 3600:g} h ahead")


def origin_of(endpoint: str) -> str:
    """``scheme://host[:port]`` of a push endpoint, RFC 6454 section 6.1: lower case, no default port.

    Raises MalformedMessage for what is no http or https URL of at most ``MAX_ENDPOINT_SIZE`` characters, has a user
    name in it, or a host that is not in its ASCII form.
    """
    if len(endpoint) > MAX_ENDPOINT_SIZE:
        raise MalformedMessage(f"an endpoint of more than {MAX_ENDPOINT_SIZE} characters")
    if not endpoint.isascii() or any(character <= " " or character in '\x7f\\"<>' for character in endpoint):
        raise MalformedMessage("a character in the endpoint that no URL may have")
    try:
        parts = urlsplit(endpoint)
        port = parts.port
        host = parts.hostname
    except ValueError as error:
        raise MalformedMessage(f"not a URL: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise MalformedMessage("an endpoint starts with https:// or http://")
    if "@" in parts.netloc:
        raise MalformedMessage("an endpoint has no user name")
    if not host or port == 0:
        raise MalformedMessage("an endpoint without a host, or with port 0")
    origin = f"{parts.scheme}://{_canonical_host(host, bracketed='[' in parts.netloc)}"
    return origin if port in (None, _DEFAULT_PORTS[parts.scheme]) else f"{origin}:{port}"


def _canonical_host(host: str, *, bracketed: bool) -> str:
    if bracketed:
        try:
            address = ipaddress.IPv6Address(host)
        except ValueError:
            raise MalformedMessage("not an IPv6 address in the brackets") from None
        if address.scope_id is not None:
            raise MalformedMessage("an address with a zone means something on one machine only")
        return f"[{address.compressed}]"
    host = host.lower()
    if not _HOST_NAME.match(host):
        raise MalformedMessage("not a host name")
    return host


@lru_cache(maxsize=MAX_CACHED_INPUTS, typed=True)
def _signing_input(audience: str, exp: int, subject: str) -> bytes:
    if isinstance(exp, bool) or not isinstance(exp, int):
        raise LocalMisuse("exp is whole Unix seconds: both ends must rebuild the same bytes")
    body = f'{{"aud":{json.dumps(audience)},"exp":{exp},"sub":{json.dumps(subject)}}}'
    return f"{_HEADER}.{encode_base64url(body.encode())}".encode("ascii")


def _signature_holds(signature: bytes, signed: bytes, public: bytes) -> bool:
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    try:
        p256.public_key(public).verify(der, signed, _ES256)
    except InvalidSignature:
        return False
    return True


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError):  # too deep an array is a RecursionError
        raise MalformedMessage("not a JWT: a part is not JSON") from None
    if not isinstance(value, dict):
        raise MalformedMessage("not a JWT: a part is not a JSON object")
    return value
