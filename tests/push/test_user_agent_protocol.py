"""autopush's messages: what we say, and any bytes from the service."""

from __future__ import annotations

import contextlib
import json
import random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.crypto.base64url import encode_base64url
from meshd.errors import MalformedMessage
from meshd.ids import ChannelId
from meshd.push import autopush
from meshd.push.user_agent_ports import FIRST_RETRY_INTERVAL, MAX_RETRY_INTERVAL, retry_delay
from meshd.push.websocket import parse_service_url

CHANNEL = ChannelId(bytes(range(16)))
CHANNEL_TEXT = "00010203-0405-0607-0809-0a0b0c0d0e0f"


def test_what_we_say() -> None:
    assert json.loads(autopush.hello("")) == {"messageType": "hello", "use_webpush": True, "broadcasts": {}}
    assert json.loads(autopush.hello("ab"))["uaid"] == "ab"
    assert json.loads(autopush.register(CHANNEL, b"\4" + bytes(64))) == {
        "messageType": "register", "channelID": CHANNEL_TEXT, "key": "BAAA" + "A" * 83,
    }  # fmt: skip
    assert json.loads(autopush.unregister(CHANNEL)) == {
        "messageType": "unregister", "channelID": CHANNEL_TEXT, "code": 200,
    }  # fmt: skip
    assert json.loads(autopush.ack([(CHANNEL, "v1", 100), (CHANNEL, "v2", 101)])) == {
        "messageType": "ack",
        "updates": [
            {"channelID": CHANNEL_TEXT, "version": "v1", "code": 100},
            {"channelID": CHANNEL_TEXT, "version": "v2", "code": 101},
        ],
    }


@given(st.binary(min_size=16, max_size=16), st.text(min_size=1, max_size=50), st.binary(max_size=5000))
def test_a_notification_round_trips(channel: bytes, version: str, body: bytes) -> None:
    message = {
        "messageType": "notification", "channelID": str(UUID(bytes=channel)), "version": version,
        "data": encode_base64url(body), "headers": {"encoding": "aes128gcm"},
    }  # fmt: skip
    assert autopush.parse(json.dumps(message)) == autopush.Notification(ChannelId(channel), version, body)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"messageType": "hello", "status": 200, "uaid": "ab", "broadcasts": {}}, autopush.HelloAnswered(200, "ab")),
        ({"messageType": "hello", "status": 503}, autopush.HelloAnswered(503, "")),
        ({"messageType": "hello", "status": 200}, None),
        ({"messageType": "hello", "status": 200, "uaid": "a" * 129}, None),
        ({"messageType": "hello", "status": 200, "uaid": "a\n"}, None),
        ({"messageType": "hello", "status": True, "uaid": "a"}, None),
        (
            {"messageType": "register", "channelID": CHANNEL_TEXT.upper(), "status": 200, "pushEndpoint": "https://a/"},
            autopush.RegisterAnswered(CHANNEL, 200, "https://a/"),
        ),
        (
            {"messageType": "register", "channelID": CHANNEL_TEXT, "status": 409, "pushEndpoint": "https://a/"},
            autopush.RegisterAnswered(CHANNEL, 409, ""),
        ),
        (
            {"messageType": "register", "channelID": CHANNEL_TEXT, "status": 200, "pushEndpoint": "x" * 1001},
            autopush.RegisterAnswered(CHANNEL, 0, ""),
        ),
        (
            {"messageType": "register", "channelID": CHANNEL_TEXT, "status": 200},
            autopush.RegisterAnswered(CHANNEL, 0, ""),
        ),
        ({"messageType": "register", "channelID": CHANNEL_TEXT[:-1], "status": 200}, None),
        ({"messageType": "register", "status": 200}, None),
        (
            {"messageType": "unregister", "channelID": CHANNEL_TEXT, "status": 500},
            autopush.UnregisterAnswered(CHANNEL, 500),
        ),
        (
            {"messageType": "notification", "channelID": CHANNEL_TEXT, "version": "1"},
            autopush.Notification(CHANNEL, "1", b""),
        ),
        (
            {"messageType": "notification", "channelID": CHANNEL_TEXT, "version": "1", "data": "!"},
            autopush.Notification(CHANNEL, "1", None),
        ),
        (
            {"messageType": "notification", "channelID": CHANNEL_TEXT, "version": "1", "data": 5},
            autopush.Notification(CHANNEL, "1", None),
        ),
        ({"messageType": "notification", "channelID": CHANNEL_TEXT, "version": 1, "data": ""}, None),
        ({"messageType": "notification", "channelID": CHANNEL_TEXT, "version": "", "data": ""}, None),
        ({"messageType": "broadcast", "broadcasts": {}}, autopush.Other()),
        ({"messageType": ["a"]}, autopush.Other()),
        ({}, autopush.Other()),
        ([], None),
        (5, None),
    ],
)
def test_what_the_service_says(message: object, expected: object) -> None:
    if expected is not None:
        assert autopush.parse(json.dumps(message)) == expected
        return
    with pytest.raises(MalformedMessage):
        autopush.parse(json.dumps(message))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(CHANNEL_TEXT),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.text()
    | st.fixed_dictionaries(
        {"messageType": st.sampled_from(["hello", "register", "unregister", "notification", "ack"]) | JSON},
        optional=dict.fromkeys(("uaid", "status", "channelID", "pushEndpoint", "version", "data"), JSON),
    ).map(json.dumps)
)
def test_any_text_is_a_message_or_malformed(text: str) -> None:
    with contextlib.suppress(MalformedMessage):
        autopush.parse(text)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"status":' + "9" * 10_000 + "}", "\ud800", '{"a":NaN}'])
def test_json_that_breaks_parsers(text: str) -> None:
    if text == '{"a":NaN}':
        assert autopush.parse(text) == autopush.Other()
        return
    with pytest.raises(MalformedMessage):
        autopush.parse(text)


def test_secrets_do_not_show() -> None:
    for message in (
        autopush.HelloAnswered(200, "secret"), autopush.RegisterAnswered(CHANNEL, 200, "secret"),
        autopush.Notification(CHANNEL, "secret", b"secret"),
    ):  # fmt: skip
        assert "secret" not in repr(message)


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_retries_grow_and_stay_bounded(failures: int, rng: random.Random) -> None:
    delay = retry_delay(failures, rng)
    assert FIRST_RETRY_INTERVAL / 2 <= delay <= MAX_RETRY_INTERVAL
    if failures == 0:
        assert delay <= FIRST_RETRY_INTERVAL
    if failures > 20:
        assert delay >= MAX_RETRY_INTERVAL / 2


@pytest.mark.parametrize(
    ("text", "authority", "origin"),
    [
        ("wss://push.services.mozilla.com/", "push.services.mozilla.com", "https://push.services.mozilla.com"),
        ("ws://127.0.0.1:8080", "127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("ws://[::1]:80/x?y", "[::1]", "http://[::1]"),
        ("wss://a:0/", None, None),
        ("wss://a:99999/", None, None),
        ("wss://user@a/", None, None),
        ("https://a/", None, None),
        ("wss://a/ b", None, None),
        ("wss://a/\r\n", None, None),
        ("mozilla", None, None),
    ],
)
def test_service_urls(text: str, authority: str | None, origin: str | None) -> None:
    url = parse_service_url(text)
    assert (url and url.authority, url and url.http_origin) == (authority, origin)
