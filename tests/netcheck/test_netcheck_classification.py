"""What was seen, as a table, and what it is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.netcheck.classification import classify, mapping_of
from meshd.netcheck.observations import FamilySeen, Filtering, Reply, Seen, Server

LOCAL = ("192.168.1.2", 5_000)
OPEN = ("8.8.8.8", 5_000)
ONE, ONE_B, TWO, TWO_B = ("9.9.9.9", 3_478), ("9.9.9.9", 3_479), ("9.9.9.10", 3_478), ("9.9.9.10", 3_479)
INSIDE = ("192.168.1.5", 3_478)
A, B, C = (("1.1.1.1", port) for port in (40_000, 40_001, 40_002))
SERVER = Server("stun.example", 3_478, "configured")


@pytest.mark.parametrize(
    ("mappings", "behavior"),
    [
        ([], "unknown"),
        ([(ONE, LOCAL)], "none"),
        ([(ONE, LOCAL), (TWO, LOCAL)], "none"),
        ([(ONE, A)], "unknown"),
        ([(ONE, A), (ONE_B, A)], "unknown"),
        ([(ONE, A), (TWO, A)], "endpoint_independent"),
        ([(ONE, A), (TWO, A), (TWO_B, A)], "endpoint_independent"),
        ([(ONE, A), (TWO, B)], "dependent"),
        ([(ONE, A), (TWO, B), (TWO_B, B)], "address_dependent"),
        ([(ONE, A), (TWO, B), (TWO_B, C)], "address_and_port_dependent"),
        ([(ONE, A), (ONE_B, B)], "address_and_port_dependent"),
        ([(INSIDE, LOCAL), (ONE, A), (TWO, A)], "endpoint_independent"),
        ([(INSIDE, LOCAL)], "none"),
    ],
)
def test_mapping(mappings, behavior):
    assert mapping_of(LOCAL, mappings) == behavior


def seen(mappings=(), filtering=None, *, local=LOCAL, silent=False, ipv6=None, other=None) -> Seen:
    replies = [Reply(SERVER, "ipv4", at, mapped, 0.02, other) for at, mapped in mappings]
    if silent:
        replies.append(Reply(SERVER, "ipv4", ONE, error="silent"))
    six = FamilySeen("ipv6")
    if ipv6:
        six = FamilySeen("ipv6", (ipv6, 5_000), ((("2600::9", 3_478), (ipv6, 5_000)),))
        replies.append(Reply(SERVER, "ipv6", ("2600::9", 3_478), (ipv6, 5_000), 0.02))
    return Seen(tuple(replies), FamilySeen("ipv4", local, tuple(mappings), filtering), six)


CONE = [(ONE, A), (TWO, A)]
SYMMETRIC = [(ONE, A), (TWO, B), (TWO_B, C)]
NO, PORT_ONLY, ALL = Filtering(False, False), Filtering(False, True), Filtering(True, True)


@pytest.mark.parametrize(
    ("case", "has_mapping", "mapping", "filtering", "verdict"),
    [
        (seen(CONE, NO), False, "endpoint_independent", "address_and_port_dependent", "direct"),
        (seen(CONE, PORT_ONLY), False, "endpoint_independent", "address_dependent", "direct"),
        (seen(CONE, ALL), False, "endpoint_independent", "endpoint_independent", "direct"),
        (seen(CONE), False, "endpoint_independent", "unknown", "direct"),
        (seen(SYMMETRIC, NO), False, "address_and_port_dependent", "address_and_port_dependent", "through_others"),
        (seen(SYMMETRIC, ALL), False, "address_and_port_dependent", "endpoint_independent", "direct"),
        (seen(SYMMETRIC, NO), True, "address_and_port_dependent", "address_and_port_dependent", "direct"),
        (
            seen(SYMMETRIC, NO, ipv6="2600::2"),
            False,
            "address_and_port_dependent",
            "address_and_port_dependent",
            "direct",
        ),
        (seen([(ONE, OPEN)], ALL, local=OPEN), False, "none", "none", "direct"),
        (seen([(ONE, OPEN)], NO, local=OPEN), False, "none", "address_and_port_dependent", "direct"),
        (seen([(ONE, A)]), False, "unknown", "unknown", "probably_direct"),
        (seen(silent=True), False, "unknown", "unknown", "through_others"),
        (seen(), False, "unknown", "unknown", "unknown"),
        (seen(local=None), False, "unknown", "unknown", "unknown"),
    ],
)
def test_what_to_expect(case, has_mapping, mapping, filtering, verdict):
    report = classify(case, has_mapping=has_mapping)
    assert (report.ipv4.mapping, report.ipv4.filtering) == (mapping, filtering)
    assert report.verdict == verdict
    assert report.expectation.endswith(".")


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (seen(), ["No STUN server is known"]),
        (seen([(ONE, A)]), ["takes a second one", "filtering cannot be known"]),
        (seen(CONE), ["filtering cannot be known"]),
        (seen([(ONE, A), (TWO, B)]), ["filtering cannot be known", "Whether the port also"]),
        (seen(SYMMETRIC, NO, other=TWO_B), []),
        (seen(silent=True), []),
    ],
)
def test_what_cannot_be_known_is_said(case, words):
    unknown = classify(case, has_mapping=False).unknown
    assert len(unknown) == len(words)
    assert all(word in sentence for word, sentence in zip(words, unknown, strict=True))


def test_udp_in_a_word():
    report = classify(seen(CONE, ipv6="2600::2"), has_mapping=False)
    assert (report.ipv4.udp, report.ipv6.udp) == ("open", "open")
    assert report.ipv6.mapping == "none"
    report = classify(seen(silent=True), has_mapping=False)
    assert (report.ipv4.udp, report.ipv6.udp) == ("silent", "no_address")
    assert classify(seen(), has_mapping=False).ipv4.udp == "unknown"
    report = classify(seen(ipv6="2001:db8::2"), has_mapping=False)
    assert report.verdict == "unknown", "an address for documentation leads nowhere"
    assert classify(seen(ipv6="2001:db8::2"), has_mapping=False, allow_documentation=True).verdict == "direct"


ADDRESSES = st.sampled_from([ONE, ONE_B, TWO, TWO_B, INSIDE, LOCAL, A, B, C])


@given(
    st.lists(st.tuples(ADDRESSES, ADDRESSES), max_size=6),
    st.none() | st.builds(Filtering, st.booleans(), st.booleans()),
)
def test_anything_seen_is_called_something(mappings, filtering):
    assert classify(seen(mappings, filtering), has_mapping=False).verdict
