"""Calls: what a page and a caller of ours can say, and that anything else is refused in its own words."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from caller import Caller
from hypothesis import given
from hypothesis import strategies as st
from mesh_keys import NOW, seed, suite

from meshd.errors import Code, ControlError
from meshd.ids import Now
from meshd.wire.call import MAX_CALL_SIZE, decode_call, encode_call
from meshd.wire.joining import FurtherOffer
from meshd.wire.paste import PREFIXES
from meshd.wire.session_description import Candidate, SessionDescription
from meshd.wire.session_description import encode as encode_description

CALLER = Caller(suite("page"), seed("push"), "https://push.example/wpush/v2/" + "A" * 40, Now(0.0, NOW))
OFFER = SessionDescription(
    "abcd", "e" * 24, bytes(range(32)), "actpass", (Candidate("host", "192.0.2.7", 50_000),), ice_options=()
)
SESSION = b"a call.."


def refusal(text: str) -> ControlError:
    with pytest.raises(ControlError) as caught:
        decode_call(text)
    return caught.value


@pytest.mark.parametrize("offer", [OFFER, None])
def test_a_call_comes_through_and_is_signed(offer: SessionDescription | None) -> None:
    further = () if offer is None else (FurtherOffer(b"further.", encode_description(OFFER)),)
    call = CALLER.call(SESSION, offer, further=further)
    pasted = decode_call(f"> {encode_call(CALLER.suite, call)}\n")
    assert pasted.call == call
    assert pasted.is_signed(suite("anybody"))
    assert not replace(pasted, signed=pasted.signed[:-1] + b"\1").is_signed(suite("anybody"))


@pytest.mark.parametrize("offer", [OFFER, None])
@pytest.mark.parametrize("shares_key", [True, False])
def test_json_of_a_page_says_the_same(offer: SessionDescription | None, shares_key: bool) -> None:
    pasted = decode_call(CALLER.json(SESSION, offer, shares_key=shares_key))
    call = CALLER.call(SESSION, offer)
    if shares_key:
        call = replace(call, grant=replace(call.grant, subscriptions=(CALLER.part(capable=False),)))
    assert pasted.call == call
    assert bool(pasted.vapid_private) == shares_key
    assert pasted.is_signed(suite("anybody"))


def test_json_may_be_wrapped_by_a_terminal_and_written_in_any_order() -> None:
    page = CALLER.page(SESSION, OFFER)
    text = json.dumps(dict(reversed(page.items()))).replace("\\r\\n", "\r\n")
    assert decode_call(f"\n {text}").is_signed(suite("anybody"))


def test_either_form_of_a_browsers_signature_is_taken() -> None:
    """WebCrypto gives a high s as often as a low one; ours have one form only."""
    from meshd.crypto import p256
    from meshd.crypto.base64url import decode_base64url, encode_base64url

    page = CALLER.page(SESSION, OFFER)
    [*_, token] = page["vapid"]["tokens"]
    signed, _, text = token.rpartition(".")
    low = decode_base64url(text)
    high = low[:32] + (p256.ORDER - int.from_bytes(low[32:])).to_bytes(32)
    page["vapid"]["tokens"][-1] = f"{signed}.{encode_base64url(high)}"
    assert decode_call(json.dumps(page)).is_signed(suite("anybody"))


def changed(page: dict[str, Any], path: str, value: Any) -> str:
    *way, last = path.split(".")
    inner = page
    for step in way:
        inner = inner[step]
    if value is None:
        inner.pop(last, None)
    else:
        inner[last] = value
    return json.dumps(page)


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("caller", None, Code.CALL_ANONYMOUS),
        ("subscription", None, Code.CALL_FOREIGN),
        ("subscription.keys", None, Code.PASTE_MANGLED),
        ("subscription.keys.p256dh", "AAAA", Code.PASTE_MANGLED),
        ("subscription.keys.auth", "AAAA", Code.PASTE_MANGLED),
        ("subscription.endpoint", "ftp://push.example/x", Code.PASTE_MANGLED),
        ("subscription.endpoint", "https://push.example/" + "x" * 1000, Code.PASTE_MANGLED),
        ("vapid", None, Code.PASTE_MANGLED),
        ("vapid.publicKey", "BAAA", Code.PASTE_MANGLED),
        ("vapid.privateKey", "A" * 43, Code.PASTE_MANGLED),
        ("vapid.privateKey", "AAAA", Code.PASTE_MANGLED),
        ("vapid.tokens", ["a.b.c"], Code.PASTE_MANGLED),
        ("vapid.tokens", ["x"] * 17, Code.PASTE_MANGLED),
        ("vapid.tokens", [1], Code.PASTE_MANGLED),
        ("description.type", "answer", Code.PASTE_MANGLED),
        ("description.sdp", "v=0", Code.PASTE_MANGLED),
        ("caller.id", "hello", Code.PASTE_MANGLED),
        ("caller.name", "x" * 33, Code.PASTE_MANGLED),
        ("caller.name", "\ud800", Code.PASTE_MANGLED),
        ("caller.issued", True, Code.PASTE_MANGLED),
        ("caller.expires", 10**400, Code.PASTE_MANGLED),
        ("caller.session", "AA", Code.PASTE_MANGLED),
        ("caller.signature", None, Code.PASTE_MANGLED),
    ],
)
def test_what_a_page_may_have_wrong(path: str, value: Any, code: Code) -> None:
    assert refusal(changed(CALLER.page(SESSION, OFFER), path, value)).code is code


def test_the_first_seeds_own_text_is_told_what_it_lacks() -> None:
    page = CALLER.page(SESSION, OFFER)
    error = refusal(json.dumps({"subscription": page["subscription"], "description": page["description"]}))
    assert error.code is Code.CALL_ANONYMOUS
    assert "`caller`" in error.detail
    assert refusal(json.dumps(page["subscription"])).code is Code.CALL_ANONYMOUS


def test_other_things_that_get_pasted_are_told_apart() -> None:
    assert "without a push subscription" in refusal('{"type":"offer","sdp":"v=0"}').detail
    assert refusal("meshd1_abc").code is Code.CALL_FOREIGN
    text = CALLER.text(SESSION, OFFER)
    assert refusal(text[:-9]).code is Code.PASTE_TRUNCATED
    assert refusal(text[:99] + ("A" if text[99] != "A" else "B") + text[100:]).code is Code.PASTE_MANGLED


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PATHS = [
    *("caller", "subscription", "vapid", "description", "vapid.tokens", "vapid.privateKey", "vapid.publicKey"),
    *("subscription.endpoint", "subscription.expirationTime", "subscription.keys", "subscription.keys.p256dh"),
    *("description.sdp", "description.type", "caller.mesh", "caller.generation", "caller.name", "caller.expires"),
]


@given(st.sampled_from(PATHS), JSON)
def test_any_json_is_a_call_or_refused(path: str, value: Any) -> None:
    with contextlib.suppress(ControlError):
        decode_call(changed(CALLER.page(SESSION, OFFER), path, value))


@given(st.text(max_size=200) | st.builds(lambda tail: PREFIXES["call"] + tail, st.text(max_size=200)))
def test_any_text_is_a_call_or_refused(text: str) -> None:
    with contextlib.suppress(ControlError):
        decode_call(text)


@given(st.binary(max_size=400), st.integers(0, 300), st.integers(0, 300))
def test_any_bytes_are_a_call_or_refused(noise: bytes, start: int, size: int) -> None:
    from meshd.wire.call import _FAULTS
    from meshd.wire.paste import decode_text, encode_text

    good = decode_text(PREFIXES["call"], CALLER.text(SESSION, OFFER), _FAULTS)
    with contextlib.suppress(ControlError):
        decode_call(encode_text(PREFIXES["call"], good[:start] + noise + good[start + size :]))


def test_a_call_is_short_enough_to_be_read_by_a_camera() -> None:
    text = CALLER.text(SESSION, OFFER)
    assert len(text) < 1000
    assert MAX_CALL_SIZE > 4096
