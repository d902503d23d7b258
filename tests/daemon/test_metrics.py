"""The page for Prometheus: read back by its own parser, and held to its naming rules."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from meshd import VERSION
from meshd.core.overlay.neighbors import LOSS_REASONS
from meshd.daemon.metrics import FAMILIES, page
from meshd.daemon.traffic import with_traffic
from meshd.exposition import MAX_SAMPLES, Exposition, Family
from meshd.ids import LinkId
from meshd.links.statistics import LinkStatistics
from meshd.process import ProcessUsage, read_usage

UNTESTED = {"test": None, "tested_at": None, "round_trip": None}
USAGE = ProcessUsage(1.25, 50_000_000, 900_000_000, 20, 65_536)
STATUS: dict[str, Any] = {
    "short_id": "aaaq",
    "name": "laptop",
    "mesh": {"id": b"", "name": "home", "admin": True},
    "members": 4,
    "links": 2,
    "push": [
        {"service": "wss://push.example.org", "state": "connected", "detail": "", "channels": 2, **UNTESTED},
        {"service": "wss://other.example.org", "state": "down", "detail": "refused", "channels": 0, **UNTESTED},
    ],
    "inbox": {"unread": 2, "size": 10},
    "outbox": {"queued": 2, "deposited": 1},
    "kept": {"messages": 4, "size": 1000},
    "warnings": ["x"],
    "started_at": 1_700_000_000.25,
    "counters": {"links_opened": 3, "links_lost": 2, "links_lost_silent": 2, "pushes_sent": 5, "held_up": 1},
}


def peer(name: str, link: int | None, **changes: Any) -> dict[str, Any]:
    up = link is not None
    return {
        "name": name,
        "short_id": f"id-{name}",
        "link_id": link,
        "link": "up" if up else "none",
        "reachable": True,
        "path": {"kind": "host", "remote_kind": "host", "local": "", "remote": ""} if up else None,
        "rtt": 0.01 if up else None,
        "loss": 0.25 if up else None,
        "since": 1_700_000_100.5 if up else None,
        **changes,
    }


PEERS = with_traffic(
    [peer("desk", 1), peer("nas", 2, rtt=None), peer("phone", None), peer("attic", None, reachable=False)],
    {
        LinkId(1): LinkStatistics(
            kind_local="srflx", round_trip_time=0.02, bytes_sent=1_000, packets_sent=9, buffered_size=77
        )
    },
)


def read(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Samples by name and labels; fails if the page is none, or says something twice."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.samples
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            samples = found.setdefault(sample.name, {})
            assert labels not in samples, (sample.name, labels)
            samples[labels] = sample.value
    return found


def test_the_page_says_what_there_is() -> None:
    found = read(page(STATUS, PEERS, {"links_malformed": 4}, USAGE, 8_192))
    assert found["meshd_build_info"].keys() == {(("python", _python()), ("version", VERSION))}
    assert found["meshd_node_info"] == {(("id", "aaaq"), ("mesh", "home"), ("name", "laptop")): 1}
    assert found["meshd_peers"] == {
        (("state", "linked"),): 2,
        (("state", "relayed"),): 1,
        (("state", "unreachable"),): 1,
    }
    desk = (("id", "id-desk"), ("kind", "srflx"), ("peer", "desk"))
    nas = (("id", "id-nas"), ("kind", "host"), ("peer", "nas"))
    assert found["meshd_link_round_trip_seconds"] == {desk: 0.01}
    assert found["meshd_link_heartbeat_loss_ratio"] == {desk: 0.25, nas: 0.25}
    assert found["meshd_link_start_time_seconds"][nas] == 1_700_000_100.5
    assert found["meshd_link_packet_round_trip_seconds"] == {desk: 0.02}
    assert found["meshd_link_sent_bytes_total"] == {desk: 1_000}
    assert found["meshd_link_sent_packets_total"] == {desk: 9}
    assert found["meshd_link_queued_bytes"] == {desk: 77}
    assert found["meshd_links_opened_total"] == {(): 3}
    assert found["meshd_links_lost_total"] == {(("reason", "silent"),): 2}
    assert found["meshd_pushes_total"] == {(("event", "sent"),): 5}
    assert found["meshd_events_total"] == {
        (("event", "held_up"), ("room", "core")): 1,
        (("event", "links_malformed"), ("room", "shell")): 4,
    }
    assert found["meshd_push_service_up"][(("service", "wss://other.example.org"),)] == 0
    assert found["meshd_store_size_bytes"] == {(): 8_192}
    assert found["process_cpu_seconds_total"] == {(): 1.25}
    assert found["process_start_time_seconds"] == {(): 1_700_000_000.25}


def _python() -> str:
    import platform

    return platform.python_version()


def test_a_node_without_a_mesh_has_a_page() -> None:
    bare = {**STATUS, "mesh": None, "name": None, "members": 0, "links": 0, "push": [], "counters": {}}
    found = read(page(bare, [], {}, ProcessUsage(0.0, None, None, None, 1), None))
    assert "meshd_node_info" not in found
    assert found["meshd_links_opened_total"] == {(): 0}
    assert "process_resident_memory_bytes" not in found


def test_families_keep_to_the_rules() -> None:
    """Those of promtool and the manual: base units, ``_total`` for counters alone, no type or label in a name."""
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    units = re.compile(r"_(milliseconds|ms|minutes|hours|kilobytes|kb|megabytes|bits|percent|count|sum|bucket)(_|$)")
    for family in FAMILIES:
        assert re.fullmatch(r"(meshd|process)_[a-z][a-z0-9_]*", family.name)
        assert family.kind in ("counter", "gauge")
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert not units.search(family.name), family.name
        assert not re.search(r"_(counter|gauge)(_|$)", family.name)
        assert family.help.endswith(".")
        for label in family.labels:
            assert re.fullmatch(r"[a-z]+", label)
            assert label not in ("le", "quantile", "job", "instance")


def test_everything_on_a_page_is_of_a_family() -> None:
    counters = {f"links_lost_{reason}": 1 for reason in LOSS_REASONS} | STATUS["counters"]
    found = read(page({**STATUS, "counters": counters}, PEERS, {"x": 1}, USAGE, 1))
    known = {family.name: family for family in FAMILIES}
    for name, samples in found.items():
        for labels in samples:
            assert {label for label, _ in labels} == set(known[name].labels)
    assert len(found["meshd_links_lost_total"]) == len(LOSS_REASONS)


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_labels_are_escaped(text: str) -> None:
    """The parser splits lines as Python does; the format knows the line feed alone."""
    text = re.sub(r"[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", " ", text)
    made = Exposition()
    made.add(Family("meshd_x", "gauge", f"Says {text!r}\nand more.", ("label",)), [((text,), 1.5)])
    assert read(made.text())["meshd_x"] == {(("label", text),): 1.5}


def test_what_is_there_twice_is_written_once() -> None:
    """Two members may have one name, and a hostile one may have found a key with another's short id."""
    twice = with_traffic([peer("desk", 1), peer("desk", 2)], {})
    found = read(page({**STATUS, "counters": {}}, twice, {}, USAGE, None))
    assert len(found["meshd_link_round_trip_seconds"]) == 1


def test_samples_are_bounded() -> None:
    made = Exposition()
    made.add_mapping(Family("meshd_x", "gauge", "Many.", ("n",)), {str(n): n for n in range(MAX_SAMPLES * 2)})
    assert len(read(made.text())["meshd_x"]) == MAX_SAMPLES


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.1, 1e300, 2.0**60, math.inf, -math.inf])
def test_numbers_survive(value: float) -> None:
    made = Exposition()
    made.add_one(Family("meshd_x", "gauge", "A number."), value)
    assert read(made.text())["meshd_x"] == {(): value}


def test_this_process_is_measured() -> None:
    usage = read_usage()
    assert usage.cpu_time > 0
    assert usage.resident_size is not None
    assert usage.virtual_size is not None
    assert 1_000_000 < usage.resident_size < usage.virtual_size
    assert usage.open_descriptors is not None
    assert 0 < usage.open_descriptors <= usage.max_descriptors
