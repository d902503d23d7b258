from __future__ import annotations

import base64
import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.errors import LocalMisuse, MalformedMessage
from meshd.wire.session_description import (
    KINDS,
    MAX_CANDIDATES,
    MAX_DESCRIPTION_SIZE,
    SETUPS,
    Candidate,
    SessionDescription,
    candidate_priority,
    decode,
    encode,
)

ICE_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
TOKENS = st.text("abcXYZ019.-_", min_size=1, max_size=32)

hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.uuids().map(lambda uuid: f"{uuid}.local"),
)
candidates = st.builds(
    Candidate, st.sampled_from(KINDS), hosts, st.integers(1, 65_535), st.sampled_from(["udp", "tcp"])
)
descriptions = st.builds(
    SessionDescription,
    ufrag=st.text(ICE_CHARS, min_size=4, max_size=4) | st.text(ICE_CHARS, min_size=4, max_size=256),
    pwd=st.text(ICE_CHARS, min_size=24, max_size=24) | st.text(ICE_CHARS, min_size=22, max_size=256),
    fingerprint=st.binary(min_size=32, max_size=32),
    setup=st.sampled_from(SETUPS),
    candidates=st.lists(candidates, max_size=MAX_CANDIDATES).map(tuple),
    sctp_port=st.just(5_000) | st.integers(1, 65_535),
    max_message_size=st.just(65_536) | st.integers(0, 2**32 - 1),
    mid=st.just("0") | TOKENS,
    ice_options=st.just(()) | st.lists(TOKENS, max_size=4).map(tuple),
)

OURS = SessionDescription(
    ufrag="a+b/",
    pwd=base64.b64encode(bytes(range(18))).decode(),
    fingerprint=bytes(range(32)),
    setup="actpass",
    candidates=(
        Candidate("host", "2001:db8::1234:5678:9abc:def0", 50_001),
        Candidate("host", "fd00::1", 50_002),
        Candidate("host", "192.168.1.20", 50_003),
        Candidate("host", "10.0.0.3", 50_004),
        Candidate("srflx", "203.0.113.7", 50_003),
        Candidate("relay", "2001:db8::1", 50_005),
    ),
)


@given(descriptions)
def test_descriptions_come_back(description):
    data = encode(description)
    assert len(data) <= MAX_DESCRIPTION_SIZE
    assert decode(data) == description


@given(
    st.binary(max_size=300)
    | st.builds(lambda head, tail: head + encode(OURS)[2:] + tail, st.binary(max_size=3), st.binary(max_size=20))
)
def test_any_bytes_are_a_description_or_malformed(data):
    try:
        description = decode(data)
    except MalformedMessage:
        return
    assert decode(encode(description)) == description


@given(st.integers(0, len(encode(OURS)) - 1))
def test_a_description_cut_off_is_malformed(size):
    with pytest.raises(MalformedMessage):
        decode(encode(OURS)[:size])


def test_six_candidates_fit_well_below_160_bytes():
    assert len(encode(OURS)) == 133


def test_the_bytes_stay_as_they_are():
    candidates = (
        Candidate("host", "192.0.2.1", 0x1234),
        Candidate("relay", "::1", 9, "tcp"),
        Candidate("srflx", "a.local", 1),
    )
    fixed = SessionDescription("AAAA", "A" * 24, b"\xff" * 32, "active", candidates)
    head, relay = "05 03" + "ff" * 32 + "00" * 21, "17 0009" + "00" * 15 + "01"
    assert encode(fixed) == bytes.fromhex(head + "00 1234 c0000201" + relay + "09 0001 07 612e6c6f63616c")


def test_what_a_browser_adds_costs_bytes_only_then():
    plain = len(encode(OURS))
    theirs = replace(OURS, sctp_port=5_001, max_message_size=262_144, mid="data", ice_options=("trickle", "ice2"))
    assert len(encode(theirs)) == plain + 4 + 6 + 6 + 14
    assert decode(encode(theirs)) == theirs


def test_fields_of_later_versions_are_skipped():
    assert decode(encode(OURS) + b"\xc8\x03abc\xc9\x00") == OURS
    for out_of_order in (b"\xc8\x00\xc8\x00", b"\xc8\x00\x01\x02\x00\x01", b"\x00\x00"):
        with pytest.raises(MalformedMessage):
            decode(encode(OURS) + out_of_order)


@pytest.mark.parametrize(
    "changes",
    [
        {"ufrag": "abc"},
        {"ufrag": "a" * 257},
        {"ufrag": "a-b!"},
        {"pwd": "a" * 21},
        {"pwd": "ä" * 22},
        {"fingerprint": bytes(31)},
        {"setup": "holdconn"},
        {"sctp_port": 0},
        {"max_message_size": 2**32},
        {"mid": "a b"},
        {"mid": ""},
        {"ice_options": ("x" * 33,)},
        {"ice_options": ("a",) * 5},
        {"candidates": OURS.candidates * 3},
        {"candidates": (Candidate("best", "192.0.2.1", 1),)},
        {"candidates": (Candidate("host", "192.0.2.1", 0),)},
        {"candidates": (Candidate("host", "192.0.2.1", 65_536),)},
        {"candidates": (Candidate("host", "192.0.2.1", 1, "sctp"),)},
        {"candidates": (Candidate("host", "fe80::1%eth0", 1),)},
        {"candidates": (Candidate("host", "2001:DB8::1", 1),)},
        {"candidates": (Candidate("host", "evil.example", 1),)},
        {"candidates": (Candidate("host", "x" * 65 + ".local", 1),)},
    ],
)
def test_descriptions_that_break_a_rule_are_misuse(changes):
    with pytest.raises(LocalMisuse):
        encode(replace(OURS, **changes))


def test_priorities_follow_kind_and_then_order():
    """RFC 8445 section 5.1.2.1."""
    assert candidate_priority("host", 0) == 2_130_706_431
    ranked = [candidate_priority(kind, index) for kind in ("host", "prflx", "srflx", "relay") for index in range(16)]
    assert ranked == sorted(ranked, reverse=True)
    assert len(set(ranked)) == len(ranked)


def test_the_secret_does_not_show():
    assert OURS.pwd not in repr(OURS)


def test_addresses_keep_their_family():
    mapped = Candidate("host", str(ipaddress.ip_address("::ffff:192.0.2.1")), 1)
    assert decode(encode(replace(OURS, candidates=(mapped,)))).candidates == (mapped,)


@given(descriptions, descriptions)
def test_a_description_like_the_first_of_its_message_comes_back(first, other):
    alike = replace(first, ufrag=other.ufrag, pwd=other.pwd, setup=other.setup)
    for description in (alike, other):
        data = encode(description, first)
        assert decode(data, first) == description
        assert len(data) <= len(encode(description))


@given(st.binary(max_size=300), descriptions)
def test_any_bytes_beside_a_first_one_are_a_description_or_malformed(data, first):
    try:
        description = decode(data, first)
    except MalformedMessage:
        return
    assert decode(encode(description, first), first) == description


def test_like_another_that_is_not_there_is_malformed():
    data = encode(replace(OURS, ufrag="ABCD"), OURS)
    with pytest.raises(MalformedMessage):
        decode(data)
    with pytest.raises(MalformedMessage):
        decode(data + b"\x01", OURS)
