"""The push service's decisions, without a socket: registry, rates, the protocol's decoder, the configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshd.errors import ConfigError, MalformedMessage
from meshd.push.service import protocol
from meshd.push.service.config import Limits, ServiceConfig, parse_listen, public_url_for, with_limits
from meshd.push.service.faults import Fault, Refused
from meshd.push.service.registry import Channel, Registry
from meshd.rates import RateLimiter

UAID = b"u" * 16
CHANNEL = b"c" * 16
KEY = b"\x04" + b"k" * 64
NOW = 1_800_000_000.0


def registry(**limits: int | float) -> Registry:
    return Registry(b"s" * 32, Limits(**limits))  # type: ignore[arg-type]


def registered(held: Registry, uaid: bytes = UAID, channel_id: bytes = CHANNEL) -> Channel:
    registration = held.register(uaid, channel_id, KEY, NOW)
    assert registration.status == 200
    assert registration.channel is not None
    return registration.channel


def refused(call) -> Fault:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.fault


def test_the_same_registration_has_the_same_endpoint_and_another_another():
    held = registry()
    token = held.token(registered(held))
    again = held.register(UAID, CHANNEL, KEY, NOW)
    assert not again.is_new
    assert again.channel is not None
    assert held.token(again.channel) == token
    others = {held.token(registered(held, UAID, b"d" * 16)), held.token(registered(held, b"v" * 16, CHANNEL)), token}
    assert len(others) == 3
    assert held.register(UAID, CHANNEL, b"\x04" + b"l" * 64, NOW).status == 409
    assert UAID.hex() not in token


def test_tokens_live_gone_and_invented():
    held = registry()
    channel = registered(held)
    token = held.token(channel)
    assert held.resolve(token) == channel
    assert held.unregister(UAID, CHANNEL)
    assert refused(lambda: held.resolve(token)) is Fault.GONE
    assert refused(lambda: Registry(b"t" * 32, Limits()).resolve(token)) is Fault.NOT_FOUND
    damaged = ("A" if token[0] != "A" else "B") + token[1:]
    assert refused(lambda: held.resolve(damaged)) is Fault.NOT_FOUND


@given(st.text(max_size=80))
@example("A" * 54)
def test_no_text_is_a_token_by_chance(text: str):
    held = registry()
    registered(held)
    assert refused(lambda: held.resolve(text)) is Fault.NOT_FOUND


def test_numbers_are_bounded():
    held = registry(max_channels_per_user_agent=2, max_user_agents=2, max_channels=3)
    registered(held, UAID, b"1" * 16)
    registered(held, UAID, b"2" * 16)
    assert held.register(UAID, b"3" * 16, KEY, NOW).status == 500
    registered(held, b"v" * 16)
    assert held.register(b"w" * 16, CHANNEL, KEY, NOW).status == 500
    assert held.counts() == (2, 3, 0)
    held = registry(max_stored_messages=1)
    held.store(registered(held), "1", None, NOW + 1, connected=False)
    refusal = refused(lambda: held.store(registered(held, b"v" * 16), "2", None, NOW + 1, connected=False))
    assert refusal is Fault.UNAVAILABLE


def test_a_flooded_user_agent_is_reset_when_away_and_slowed_when_here():
    held = registry(max_stored_per_user_agent=3)
    channel = registered(held)
    bystander = registered(held, b"v" * 16)
    for version in "123":
        held.store(channel, version, None, NOW + 60, connected=True)
    assert refused(lambda: held.store(channel, "4", None, NOW + 60, connected=True)) is Fault.BUSY
    assert refused(lambda: held.store(channel, "4", None, NOW + 60, connected=False)) is Fault.RESET
    assert refused(lambda: held.resolve(held.token(channel))) is Fault.GONE
    assert held.resolve(held.token(bystander)) == bystander
    assert held.counts() == (1, 1, 0)


def test_a_topic_replaces_what_waits_in_its_channel_even_when_full():
    held = registry(max_stored_per_user_agent=3)
    channel, second = registered(held), registered(held, UAID, b"d" * 16)
    held.store(channel, "1", "t", NOW + 60, connected=False)
    held.store(second, "2", "t", NOW + 60, connected=False)
    held.store(channel, "3", "u", NOW + 60, connected=False)
    _, replaced = held.store(channel, "4", "t", NOW + 60, connected=False)
    assert replaced is not None
    assert replaced.version == "1"
    assert [message.version for message in held.waiting(UAID, NOW)] == ["2", "3", "4"]


def test_only_its_owner_acknowledges_a_message():
    held = registry()
    held.store(registered(held), "1", None, NOW + 60, connected=False)
    assert not held.remove("1", b"v" * 16)
    assert held.remove("1", UAID)
    assert not held.remove("1", UAID)


def test_expiry_and_absence():
    held = registry(max_absence=100.0)
    channel = registered(held)
    held.store(channel, "1", None, NOW + 10, connected=False)
    held.store(channel, "2", None, NOW + 20, connected=False)
    assert [message.version for message in held.waiting(UAID, NOW + 10)] == ["2"]
    assert held.expire(NOW + 10) == ["1"]
    held.seen(UAID, NOW + 50)
    held.seen(UAID, NOW - 1_000_000)  # the clock was set back meanwhile
    assert held.forget_absent(NOW + 150) == []
    assert held.forget_absent(NOW + 151) == [UAID]
    assert held.counts() == (0, 0, 0)


def test_unregistering_drops_what_waits_in_that_channel_only():
    held = registry()
    held.store(registered(held), "1", None, NOW + 10, connected=False)
    held.store(registered(held, UAID, b"d" * 16), "2", None, NOW + 10, connected=False)
    assert held.unregister(UAID, CHANNEL)
    assert not held.unregister(UAID, CHANNEL)
    assert not held.unregister(b"nobody", CHANNEL)
    assert [message.version for message in held.waiting(UAID, NOW)] == ["2"]


def test_reprs_hide_what_must_not_be_logged():
    held = registry()
    channel = registered(held)
    message, _ = held.store(channel, "1", None, NOW + 10, connected=False)
    for text in (repr(channel), repr(message), repr(held)):
        assert repr(UAID) not in text
        assert repr(channel.handle) not in text


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_nobody_gets_more_than_burst_and_rate(pauses: list[float]):
    limiter = RateLimiter(rate=2.0, burst=5, max_keys=10)
    now, granted = 100.0, 0
    for pause in pauses:
        now += pause
        wait = limiter.take("key", now)
        granted += wait == 0
        assert granted <= 5 + 2.0 * (now - 100.0) + 1e-6
        if wait:
            assert limiter.take("key", now + wait + 1e-6) == 0.0
            now += wait + 1e-6
            granted += 1


def test_rates_are_kept_apart_and_their_number_is_bounded():
    limiter = RateLimiter(rate=1.0, burst=1, max_keys=2)
    assert limiter.take("a", 0.0) == 0.0
    assert limiter.take("a", 0.0) == pytest.approx(1.0)
    assert limiter.take("b", 0.0) == 0.0
    assert limiter.take("c", 0.0) == 0.0  # "a" is forgotten
    assert limiter.take("b", 0.0) > 0


@given(st.text(max_size=300))
@example("{}")
@example("[" * 5000)
@example('{"messageType":"ack","updates":[{}]}')
@example('{"messageType":"ack","updates":5}')
@example('{"messageType":"register","channelID":"AAAAAAAA-AAAA-AAAA-AAAA-AAAAAAAAAAAA"}')
@example('{"messageType":["hello"]}')
@example('{"messageType":"nack","version":1}')
@example('{"messageType":"unregister","channelID":null}')
@example("1" * 5000)
@example('{"messageType":"hello","uaid":"\ud800"}')
def test_any_text_is_a_message_or_malformed(text: str):
    try:
        protocol.parse(text)
    except MalformedMessage:
        return


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
KINDS = ["hello", "register", "unregister", "ack", "nack", "ping", "broadcast_subscribe", "bye"]
MEMBERS = ["uaid", "channelID", "key", "updates", "version", "code", "broadcasts"]


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=7))
def test_any_members_are_a_message_or_malformed(kind: str, members: dict[str, object]):
    try:
        protocol.parse(json.dumps({"messageType": kind} | members))
    except MalformedMessage:
        return


def test_the_messages_of_the_protocol():
    channel = "0a0b0c0d-0000-4000-8000-00000000000f"
    raw = bytes.fromhex(channel.replace("-", ""))
    cases = [
        ({}, protocol.Ping()),
        ({"messageType": "ping"}, protocol.Ping()),
        ({"messageType": "hello"}, protocol.Hello(None)),
        ({"messageType": "hello", "uaid": ""}, protocol.Hello(None)),
        ({"messageType": "hello", "uaid": "ab" * 16, "channelIDs": []}, protocol.Hello(b"\xab" * 16)),
        ({"messageType": "hello", "uaid": channel}, protocol.Hello(raw)),
        ({"messageType": "register", "channelID": channel, "key": "k"}, protocol.Register(raw, "k")),
        ({"messageType": "unregister", "channelID": channel, "code": 201}, protocol.Unregister(raw, 201)),
        ({"messageType": "nack", "version": "v", "code": 301}, protocol.Nack("v", 301)),
        ({"messageType": "broadcast_subscribe", "broadcasts": {}}, protocol.BroadcastSubscribe()),
        ({"messageType": "broadcast_subscribe", "broadcasts": {"a/b": "1"}}, protocol.BroadcastSubscribe(("a/b",))),
        ({"messageType": "hello", "broadcasts": {"a/b": "1"}}, protocol.Hello(None, ("a/b",))),
        ({"messageType": "hello", "uaid": "AB" * 16}, protocol.Hello(b"\xab" * 16)),
        ({"messageType": "unregister", "channelID": raw.hex().upper()}, protocol.Unregister(raw, 200)),
        (
            {"messageType": "ack", "updates": [{"channelID": channel, "version": "v"}]},
            protocol.Ack((protocol.Acknowledged(raw, "v", 100),)),
        ),
    ]
    for members, message in cases:
        assert protocol.parse(json.dumps(members)) == message
    assert protocol.dashed(raw) == channel


def test_the_configuration_says_what_is_wrong(tmp_path: Path):
    assert parse_listen("[::1]:80") == ("::1", 80)
    for listen in ("8085", "host:", "host:x", "host:65536", "host:-1"):
        with pytest.raises(ConfigError, match="host:port"):
            parse_listen(listen)
    assert public_url_for(ServiceConfig(tmp_path), "127.0.0.1", 8085) == "http://127.0.0.1:8085"
    assert public_url_for(ServiceConfig(tmp_path), "::1", 8085) == "http://[::1]:8085"
    assert public_url_for(ServiceConfig(tmp_path, public_url="https://P.example:443/"), "", 1) == "https://p.example"
    with pytest.raises(ConfigError, match="public_url"):
        public_url_for(ServiceConfig(tmp_path), "0.0.0.0", 8085)
    for url in ("https://p.example/path", "ftp://p.example", "p.example"):
        with pytest.raises(ConfigError, match="public_url"):
            public_url_for(ServiceConfig(tmp_path, public_url=url), "127.0.0.1", 1)


def test_limits_are_set_by_name():
    limits = with_limits(Limits(), ["source_rate=2.5", "max-connections=10"])
    assert (limits.source_rate, limits.max_connections) == (2.5, 10)
    with pytest.raises(ConfigError, match="did you mean source_rate"):
        with_limits(Limits(), ["sourcerate=1"])
    for wrong in ("source_rate=x", "source_rate=-1", "source_rate=nan", "max_connections=1.5", "source_rate"):
        with pytest.raises(ConfigError, match=r"number|above zero"):
            with_limits(Limits(), [wrong])
