"""Everything that can be counted or measured of this daemon, as one page for Prometheus. ``docs/metrics.md`` lists it.

Label values are few: counters are named by our own code, links are at most ``[links] max_links``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from meshd import VERSION
from meshd.exposition import Exposition, Family, Labels
from meshd.process import ProcessUsage

_LINK = ("peer", "id", "kind")

BUILD = Family("meshd_build_info", "gauge", "Always 1.", ("version", "python"))
NODE = Family("meshd_node_info", "gauge", "This node, if it is a member of a mesh: always 1.", ("id", "name", "mesh"))
MEMBERS = Family("meshd_members", "gauge", "Members of the mesh, this node among them.")
LINKS = Family("meshd_links", "gauge", "Links that are up.")
PEERS = Family(
    "meshd_peers",
    "gauge",
    "Other members by how they are reached: linked, relayed, unreachable.",
    ("state",),
)
INBOX_MESSAGES = Family("meshd_inbox_messages", "gauge", "Unread messages.")
INBOX_BYTES = Family("meshd_inbox_bytes", "gauge", "Bytes of unread messages.")
OUTBOX_MESSAGES = Family("meshd_outbox_messages", "gauge", "Messages of ours that are not acknowledged yet.")
DEPOSITED_MESSAGES = Family("meshd_outbox_deposited_messages", "gauge", "Those of them that keepers have.")
KEPT_MESSAGES = Family("meshd_kept_messages", "gauge", "Sealed messages and receipts kept for members that are away.")
KEPT_BYTES = Family("meshd_kept_bytes", "gauge", "Bytes of them.")
WARNINGS = Family("meshd_warnings", "gauge", "Warnings that meshctl status shows.")
PUSH_UP = Family("meshd_push_service_up", "gauge", "Whether pushes reach this node by that service.", ("service",))
PUSH_CHANNELS = Family("meshd_push_channels", "gauge", "Push subscriptions kept at that service.", ("service",))
STORE_BYTES = Family("meshd_store_size_bytes", "gauge", "Size of the database file.")

# Of links: the family, and where its value stands: with the peer or its traffic, under which key
LINK_FAMILIES: tuple[tuple[Family, str, str], ...] = tuple(
    (Family(f"meshd_link_{name}", "counter" if name.endswith("_total") else "gauge", text, _LINK), where, key)
    for name, where, key, text in (
        ("round_trip_seconds", "peer", "rtt", "Smoothed round trip of heartbeats."),
        ("heartbeat_loss_ratio", "peer", "loss", "Share of the last hundred or so heartbeats that were not answered."),
        ("start_time_seconds", "peer", "since", "When the link came up, in seconds since 1970."),
        ("packet_round_trip_seconds", "traffic", "rtt", "Smoothed round trip of packets."),
        ("min_round_trip_seconds", "traffic", "min_rtt", "The shortest round trip of packets lately."),
        ("sent_packets_total", "traffic", "packets_sent", "Packets with data that were sent, also those sent again."),
        ("received_packets_total", "traffic", "packets_received", "Packets with data that came."),
        ("lost_packets_total", "traffic", "packets_lost", "Packets sent that were lost."),
        ("retransmitted_packets_total", "traffic", "packets_retransmitted", "Packets that were sent again."),
        ("sent_bytes_total", "traffic", "sent_size", "Bytes of messages and streams that were sent."),
        ("received_bytes_total", "traffic", "received_size", "Bytes of messages and streams that came."),
        ("queued_bytes", "traffic", "buffered_size", "Bytes that wait to be sent or acknowledged."),
        ("congestion_window_bytes", "traffic", "window_size", "Bytes that may be under way at a time."),
        ("packet_size_bytes", "traffic", "packet_size", "The largest packet that is sent now."),
    )
)

# Counters of the core that share a beginning: what follows it becomes a label.
COUNTER_FAMILIES: tuple[tuple[str, Family], ...] = tuple(
    (prefix, Family(f"meshd_{name}_total", "counter", text, (label,)))
    for prefix, name, label, text in (
        ("links_lost_", "links_lost", "reason", "Links that were up and ended, by reason."),
        ("link_", "links_refused", "reason", "Links that were ended because the other side did not keep to the rules."),
        ("sessions_", "link_attempts", "event", "Attempts at links, by what became of them."),
        ("joins_refused_", "joins_refused", "reason", "Joiners that were turned away."),
        ("pushes_", "pushes", "event", "Web pushes both ways, by what became of them."),
        ("messages_", "messages", "event", "Application messages, by what became of them."),
        ("envelopes_", "envelopes", "event", "Envelopes relayed, returned or dropped."),
        ("relay_", "relay_refusals", "reason", "Envelopes that this node did not relay."),
        ("records_", "records", "event", "Records of members that were not taken."),
        ("rejected_", "rejected", "reason", "What came on links and did not hold."),
        ("streams_", "streams", "event", "Byte streams, by what became of them."),
        ("deposits_", "deposits", "event", "What keepers keep, here and for us, by what became of it."),
        ("inbox_", "inbox_refusals", "reason", "Messages that the inbox did not take."),
    )
)
LINKS_OPENED = Family("meshd_links_opened_total", "counter", "Links that came up.")
STORE_FAILURES = Family("meshd_store_failures_total", "counter", "Writes to the database that failed.")
EVENTS = Family("meshd_events_total", "counter", "All other counters, as meshctl status names them.", ("room", "event"))
_SINGLE = {"links_opened": LINKS_OPENED, "store_failures": STORE_FAILURES}
_SUMS = frozenset({"links_lost"})  # of what stands in a family already

CPU = Family("process_cpu_seconds_total", "counter", "CPU time of this process, user and system.")
RESIDENT = Family("process_resident_memory_bytes", "gauge", "Memory of this process that is in RAM.")
VIRTUAL = Family("process_virtual_memory_bytes", "gauge", "Address space of this process.")
OPEN_FDS = Family("process_open_fds", "gauge", "File descriptors that are open.")
MAX_FDS = Family("process_max_fds", "gauge", "File descriptors that may be open.")
STARTED = Family("process_start_time_seconds", "gauge", "When the daemon started, in seconds since 1970.")

FAMILIES: tuple[Family, ...] = (
    *(BUILD, NODE, MEMBERS, LINKS, PEERS),
    *(family for family, _, _ in LINK_FAMILIES),
    *(LINKS_OPENED, *(family for _, family in COUNTER_FAMILIES)),
    *(
        INBOX_MESSAGES,
        INBOX_BYTES,
        OUTBOX_MESSAGES,
        DEPOSITED_MESSAGES,
        KEPT_MESSAGES,
        KEPT_BYTES,
        WARNINGS,
        PUSH_UP,
        PUSH_CHANNELS,
        STORE_BYTES,
        STORE_FAILURES,
    ),
    *(EVENTS, CPU, RESIDENT, VIRTUAL, OPEN_FDS, MAX_FDS, STARTED),
)


def page(
    status: Mapping[str, Any],
    peers: Sequence[Mapping[str, Any]],
    ports: Mapping[str, int],
    usage: ProcessUsage,
    store_size: int | None,
) -> str:
    """The page. ``status`` and ``peers``: in the core's values, with what the shell adds. ``ports``: its counters."""
    made = Exposition()
    made.add(BUILD, [((VERSION, ".".join(map(str, sys.version_info[:3]))), 1)])
    _add_node(made, status, peers)
    _add_links(made, [peer for peer in peers if peer["link"] == "up"])
    _add_counters(made, status["counters"], ports)
    made.add_one(INBOX_MESSAGES, status["inbox"]["unread"])
    made.add_one(INBOX_BYTES, status["inbox"]["size"])
    made.add_one(OUTBOX_MESSAGES, status["outbox"]["queued"])
    made.add_one(DEPOSITED_MESSAGES, status["outbox"]["deposited"])
    made.add_one(KEPT_MESSAGES, status["kept"]["messages"])
    made.add_one(KEPT_BYTES, status["kept"]["size"])
    made.add_one(WARNINGS, len(status["warnings"]))
    made.add_mapping(PUSH_UP, {service["service"]: service["state"] == "connected" for service in status["push"]})
    made.add_mapping(PUSH_CHANNELS, {service["service"]: service["channels"] for service in status["push"]})
    made.add_one(STORE_BYTES, store_size)
    made.add_one(CPU, round(usage.cpu_time, 6))
    made.add_one(RESIDENT, usage.resident_size)
    made.add_one(VIRTUAL, usage.virtual_size)
    made.add_one(OPEN_FDS, usage.open_descriptors)
    made.add_one(MAX_FDS, usage.max_descriptors)
    made.add_one(STARTED, status["started_at"])
    return made.text()


def _add_node(made: Exposition, status: Mapping[str, Any], peers: Sequence[Mapping[str, Any]]) -> None:
    if status["mesh"] is not None:
        made.add(NODE, [((status["short_id"], status["name"] or "", status["mesh"]["name"]), 1)])
    made.add_one(MEMBERS, status["members"])
    made.add_one(LINKS, status["links"])
    states = {"linked": 0, "relayed": 0, "unreachable": 0}
    for peer in peers:
        states["linked" if peer["link"] == "up" else "relayed" if peer["reachable"] else "unreachable"] += 1
    made.add_mapping(PEERS, states)


def _add_links(made: Exposition, linked: Iterable[Mapping[str, Any]]) -> None:
    links: list[tuple[Labels, Mapping[str, Mapping[str, Any]]]] = []
    for peer in linked:
        kind = (peer["path"] or {}).get("kind") or ""
        links.append(((peer["name"], peer["short_id"], kind), {"peer": peer, "traffic": peer["traffic"] or {}}))
    for family, where, key in LINK_FAMILIES:
        made.add(family, ((labels, found[where].get(key)) for labels, found in links))


def _add_counters(made: Exposition, core: Mapping[str, int], ports: Mapping[str, int]) -> None:
    rest = {("core", name): count for name, count in core.items() if name not in _SUMS}
    rest |= {("shell", name): count for name, count in ports.items()}
    for name, family in _SINGLE.items():
        made.add_one(family, rest.pop(("core", name), 0))
    for prefix, family in COUNTER_FAMILIES:
        names = [name for room, name in rest if room == "core" and name.startswith(prefix)]
        made.add_mapping(family, {name.removeprefix(prefix): rest.pop(("core", name)) for name in names})
    made.add(EVENTS, sorted(rest.items()))
