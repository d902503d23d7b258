from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.errors import MalformedMessage
from meshd.push_services import MAX_ENDPOINT_SIZE
from meshd.wire.endpoint import join_endpoint, split_endpoint

URL_CHARS = "éABCxyz0189-_.~/=%?&:+"
AUTOPUSH = "https://updates.push.services.mozilla.com/wpush/v2/"


@given(st.text(URL_CHARS, max_size=400) | st.binary(max_size=200).map(lambda b: f"https://p/{base64.b64encode(b)!r}"))
def test_any_endpoint_comes_back_exactly(endpoint: str) -> None:
    prefix, tail = split_endpoint(endpoint)
    assert join_endpoint(prefix, tail) == endpoint


@given(st.binary(min_size=12, max_size=300))
def test_a_base64url_word_travels_as_its_bytes(tail: bytes) -> None:
    word = base64.urlsafe_b64encode(tail).decode().rstrip("=")
    assert split_endpoint(f"https://push.example/w/{word}") == ("https://push.example/w/", tail)


def test_autopush() -> None:
    """A Fernet token of 183 characters behind 51: 234, of which 188 bytes are left."""
    endpoint = AUTOPUSH + base64.urlsafe_b64encode(bytes(range(137))).decode().rstrip("=")
    assert len(endpoint) == 234
    prefix, tail = split_endpoint(endpoint)
    assert prefix == AUTOPUSH
    assert len(prefix) + len(tail) == 188
    assert join_endpoint(prefix, tail) == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://ntfy.example/upABCDEFGHIJKL?up=1",  # UnifiedPush
        "https://ntfy.example/upABCDEFGHIJKL",
        "https://fcm.googleapis.com/fcm/send/abc:APA91bEgHI_kl-mn",
        "https://push.example/wpush/v2/" + "A" * 17,  # no length that base64 can have
        "https://push.example/wpush/v2/" + "A" * 17 + "B",  # bits left over: would come back changed
        "https://push.example/wpush/v2/" + "A" * 20 + "==",
        "https://push.example/",
        "https://push.example",
        "",
        "/",
    ],
)
def test_other_forms_come_back_exactly(endpoint: str) -> None:
    assert join_endpoint(*split_endpoint(endpoint)) == endpoint


def test_an_endpoint_that_grows_too_long_is_malformed() -> None:
    assert len(join_endpoint("x" * MAX_ENDPOINT_SIZE, b"")) == MAX_ENDPOINT_SIZE
    with pytest.raises(MalformedMessage):
        join_endpoint("x" * MAX_ENDPOINT_SIZE, b"x")
    with pytest.raises(MalformedMessage):
        join_endpoint("https://p/", bytes(MAX_ENDPOINT_SIZE))
