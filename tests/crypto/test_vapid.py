"""VAPID: capabilities in compact form, JWTs of others, origins."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshd.crypto import p256, vapid
from meshd.crypto.base64url import decode_base64url, encode_base64url
from meshd.errors import LocalMisuse, MalformedMessage, Rejected

KEY = vapid.derive_key(b"\x07" * 32)
OTHER = vapid.derive_key(b"\x08" * 32)
AUDIENCE = "https://push.example.net"
EXP = 1_800_000_000
CAPABILITY = vapid.issue(KEY, AUDIENCE, EXP)


def foreign_jwt(claims: object, header: object = None, *, high_s: bool = False, key: vapid.VapidKey = KEY) -> str:
    """A JWT as another library would make it."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    parts = [header if header is not None else {"alg": "ES256", "typ": "JWT"}, claims]
    signed = ".".join(encode_base64url(json.dumps(part).encode()) for part in parts)
    r, s = decode_dss_signature(p256.private_key(key.private).sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    low = min(s, p256.ORDER - s)
    s = p256.ORDER - low if high_s else low
    return f"{signed}.{encode_base64url(r.to_bytes(32) + s.to_bytes(32))}"


def test_a_capability_becomes_the_jwt_it_stands_for():
    text = vapid.jwt(CAPABILITY, AUDIENCE)
    header, body, signature = text.split(".")
    assert json.loads(decode_base64url(header)) == {"typ": "JWT", "alg": "ES256"}
    assert decode_base64url(body) == (
        b'{"aud":"https://push.example.net","exp":1800000000,"sub":"https://meshd.invalid"}'
    )
    assert decode_base64url(signature) == CAPABILITY.signature
    assert vapid.verify_jwt(text, KEY.public) == {"aud": AUDIENCE, "exp": EXP, "sub": vapid.DEFAULT_SUBJECT}


def test_signing_is_deterministic_and_low():
    for exp in range(EXP, EXP + 30):
        capability = vapid.issue(KEY, AUDIENCE, exp)
        assert capability == vapid.issue(KEY, AUDIENCE, exp)
        assert int.from_bytes(capability.signature[32:]) <= p256.ORDER // 2


def test_the_header_survives_its_own_parser():
    header = vapid.authorization(CAPABILITY, AUDIENCE, KEY.public)
    assert header.startswith("vapid t=ey")
    assert vapid.parse_authorization(header) == (vapid.jwt(CAPABILITY, AUDIENCE), KEY.public)
    assert vapid.authorization(CAPABILITY, AUDIENCE, p256.compress_point(KEY.public)) == header


def test_verify_takes_the_one_form_only():
    assert vapid.verify(CAPABILITY, AUDIENCE, KEY.public)
    assert vapid.verify(CAPABILITY, AUDIENCE, p256.compress_point(KEY.public))
    r, s = CAPABILITY.signature[:32], int.from_bytes(CAPABILITY.signature[32:])
    malleated = vapid.Capability(EXP, r + (p256.ORDER - s).to_bytes(32))
    assert not vapid.verify(malleated, AUDIENCE, KEY.public)
    assert vapid.verify_jwt(vapid.jwt(malleated, AUDIENCE), KEY.public)["exp"] == EXP  # yet a valid ES256 signature
    wrong = [
        (CAPABILITY, "https://other.example", KEY.public),
        (CAPABILITY, AUDIENCE, OTHER.public),
        (vapid.Capability(EXP + 1, CAPABILITY.signature), AUDIENCE, KEY.public),
        (vapid.Capability(EXP, CAPABILITY.signature, "mailto:a@b.example"), AUDIENCE, KEY.public),
        (vapid.Capability(EXP, CAPABILITY.signature[:63]), AUDIENCE, KEY.public),
        (vapid.Capability(EXP, bytes(64)), AUDIENCE, KEY.public),
        (CAPABILITY, AUDIENCE, b"no key"),
    ]
    assert not any(vapid.verify(*case) for case in wrong)


@given(st.integers(0, 2**63), st.binary(max_size=70), st.text(max_size=20), st.text(max_size=20))
def test_verify_never_raises(exp: int, signature: bytes, subject: str, audience: str):
    assert not vapid.verify(vapid.Capability(exp, signature, subject), audience, KEY.public)


@pytest.mark.parametrize("high_s", [False, True])
def test_jwts_of_others_verify_in_any_order_of_claims(high_s: bool):
    claims = {"sub": "mailto:a@b.example", "extra": [1], "exp": EXP, "aud": AUDIENCE}
    assert vapid.verify_jwt(foreign_jwt(claims, high_s=high_s), KEY.public) == claims


def test_wrong_jwts_are_told_apart():
    claims = {"aud": AUDIENCE, "exp": EXP}
    with pytest.raises(Rejected, match="vapid_signature"):
        vapid.verify_jwt(foreign_jwt(claims, key=OTHER), KEY.public)
    for alg in ("none", "HS256", "ES384"):
        with pytest.raises(Rejected, match="vapid_algorithm"):
            vapid.verify_jwt(foreign_jwt(claims, {"alg": alg}), KEY.public)
    malformed = ["", "a.b", "a.b.c.d", "!.!.!", foreign_jwt([1]), foreign_jwt("x"), foreign_jwt(claims, 5), "é.é.é"]
    malformed += [foreign_jwt(claims)[:-1] + "!", foreign_jwt(claims)[:-4], "a" * 5000]
    malformed.append(f"{encode_base64url(b'[' * 2500)}.e30.e30")
    for text in malformed:
        with pytest.raises(MalformedMessage):
            vapid.verify_jwt(text, KEY.public)


@given(st.text(max_size=200) | st.text(alphabet="abcAZ09-_.=", max_size=200))
def test_any_text_is_a_jwt_or_refused(text: str):
    with pytest.raises((MalformedMessage, Rejected)):
        vapid.verify_jwt(text, KEY.public)


@pytest.mark.parametrize(
    "form",
    [
        "vapid t={t}, k={k}",
        "vapid t={t},k={k}",
        "VAPID  k={k} ,  t={t}",
        "Vapid t = {t} , k = {k}=",
        'vapid k="{k}",t="{t}"',
    ],
)
def test_headers_in_any_spacing_and_order(form: str):
    k = encode_base64url(KEY.public)
    assert vapid.parse_authorization(form.format(t="a.b.c", k=k)) == ("a.b.c", KEY.public)
    standard = k.replace("-", "+").replace("_", "/")
    assert vapid.parse_authorization(f"vapid t=a.b.c, k={standard}") == ("a.b.c", KEY.public)


@given(st.text(max_size=200) | st.text(alphabet='vapid tk=," .', max_size=60).map(lambda rest: "vapid " + rest))
@example("vapid t=a,t=b,k=c")
@example("vapid t=a")
@example("Bearer x")
@example("vapid t=a,k=" + "A" * 87)
@example("vapid " + "x" * 5000)
def test_any_header_is_understood_or_malformed(header: str):
    with pytest.raises(MalformedMessage):
        vapid.parse_authorization(header)


def test_what_a_service_asks_of_claims():
    now = EXP - 3600.0
    good = {"aud": AUDIENCE, "exp": EXP}
    vapid.check_claims(good, AUDIENCE, now)
    vapid.check_claims({"aud": ["https://x.example", AUDIENCE], "exp": EXP + 0.5}, AUDIENCE, now)
    vapid.check_claims(good, AUDIENCE, EXP - 86400)
    cases = [
        ({"exp": EXP}, now, "vapid_audience"),
        ({"aud": "https://push.example.net/", "exp": EXP}, now, "vapid_audience"),
        ({"aud": None, "exp": EXP}, now, "vapid_audience"),
        ({"aud": AUDIENCE}, now, "vapid_exp"),
        ({"aud": AUDIENCE, "exp": "1800000000"}, now, "vapid_exp"),
        ({"aud": AUDIENCE, "exp": True}, now, "vapid_exp"),
        ({"aud": AUDIENCE, "exp": float("inf")}, now, "vapid_exp"),
        ({"aud": AUDIENCE, "exp": float("nan")}, now, "vapid_exp"),
        (good, EXP, "vapid_expired"),
        (good, EXP - 86401, "vapid_exp_too_far"),
    ]
    for claims, at, reason in cases:
        with pytest.raises(Rejected) as caught:
            vapid.check_claims(claims, AUDIENCE, at)
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("endpoint", "origin"),
    [
        ("https://Push.Example.NET/wpush/v2/abc", "https://push.example.net"),
        ("https://push.example.net:443/x", "https://push.example.net"),
        ("http://127.0.0.1:80/x?y#z", "http://127.0.0.1"),
        ("http://127.0.0.1:8085/x", "http://127.0.0.1:8085"),
        ("https://[2001:DB8:0:0::1]:8443/x", "https://[2001:db8::1]:8443"),
        ("HTTPS://host:/x", "https://host"),
        ("https://host", "https://host"),
    ],
)
def test_origins(endpoint: str, origin: str):
    assert vapid.origin_of(endpoint) == origin


@pytest.mark.parametrize(
    "endpoint",
    [
        "", "push.example.net/x", "ftp://host/", "https://", "https:///x", "https://user@host/", "https://u:p@host/",
        "https://host:0/", "https://host:65536/", "https://host:x/", "https://ho st/", "https://host/\n", "https://höst/",
        "https://host\\@evil/", "https://[::1/", "https://[fe80::1%eth0]/", "https://[1.2.3.4]/", "https://-a-/",
        "https://a..b/", "wss://host/", "https://host/" + "a" * 1000,
    ],
)  # fmt: skip
def test_what_is_no_endpoint(endpoint: str):
    with pytest.raises(MalformedMessage):
        vapid.origin_of(endpoint)


@given(st.text(max_size=60) | st.text(alphabet="htps:/[]@.%a1:?#", max_size=40).map(lambda rest: "https://" + rest))
def test_any_text_has_an_origin_or_is_malformed(text: str):
    try:
        origin = vapid.origin_of(text)
    except MalformedMessage:
        return
    assert vapid.origin_of(origin) == origin


@given(st.binary(max_size=80))
def test_base64url_both_ways(data: bytes):
    assert decode_base64url(encode_base64url(data)) == data


@given(st.text(max_size=40))
@example("A")
@example("A=A")
def test_any_text_is_base64url_or_malformed(text: str):
    try:
        decode_base64url(text)
    except MalformedMessage:
        return
    assert text.isascii()


def test_secrets_hide_in_repr_and_misuse_is_loud():
    assert repr(CAPABILITY.signature) not in repr(CAPABILITY)
    assert repr(KEY.private) not in repr(KEY)
    with pytest.raises(LocalMisuse):
        vapid.issue(KEY, AUDIENCE, 1.5)  # type: ignore[arg-type]
