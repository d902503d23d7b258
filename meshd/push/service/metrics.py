"""The push service's figures for Prometheus: numbers only, nobody's id, key or address."""

from __future__ import annotations

from meshd import VERSION
from meshd.exposition import Exposition, Family
from meshd.process import read_usage
from meshd.push.service.delivery import Delivery

BUILD = Family("meshd_pushservice_build_info", "gauge", "The version that runs; always 1.", ("version",))
USER_AGENTS = Family("meshd_pushservice_user_agents", "gauge", "User agents, connected and known.", ("state",))
CONNECTIONS = Family("meshd_pushservice_connections", "gauge", "Connections of senders and user agents.")
CHANNELS = Family("meshd_pushservice_channels", "gauge", "Subscriptions of all user agents.")
WAITING = Family("meshd_pushservice_messages_waiting", "gauge", "Messages stored and not yet acknowledged.")
EVENTS = Family(
    "meshd_pushservice_events_total",
    "counter",
    "What happened: pushes accepted, refused and by what, acknowledgements by code, registrations, resets.",
    ("event",),
)
TRANSACTIONS = Family("meshd_pushservice_transactions_total", "counter", "Groups of changes written to the database.")
WRITES_PENDING = Family("meshd_pushservice_writes_pending", "gauge", "Changes that wait for the disk.")
WRITABLE = Family("meshd_pushservice_store_up", "gauge", "Whether the last write to the database succeeded.")
CPU = Family("process_cpu_seconds_total", "counter", "User and system CPU time.")
RESIDENT = Family("process_resident_memory_bytes", "gauge", "Resident memory.")
DESCRIPTORS = Family("process_open_fds", "gauge", "Open file descriptors.")
MAX_DESCRIPTORS = Family("process_max_fds", "gauge", "The limit on them.")

FAMILIES = (
    BUILD,
    USER_AGENTS,
    CONNECTIONS,
    CHANNELS,
    WAITING,
    EVENTS,
    TRANSACTIONS,
    WRITES_PENDING,
    WRITABLE,
    CPU,
    RESIDENT,
    DESCRIPTORS,
    MAX_DESCRIPTORS,
)


def page(delivery: Delivery, connections: int) -> str:
    """All of them as they are now."""
    written = Exposition()
    known, channels, stored = delivery.registry.counts()
    usage = read_usage()
    written.add(BUILD, [((VERSION,), 1)])
    written.add_mapping(USER_AGENTS, {"connected": delivery.connected, "known": known})
    written.add_one(CONNECTIONS, connections)
    written.add_one(CHANNELS, channels)
    written.add_one(WAITING, stored)
    written.add_mapping(EVENTS, delivery.counters)
    written.add_one(TRANSACTIONS, delivery.store.transactions)
    written.add_one(WRITES_PENDING, delivery.store.pending)
    written.add_one(WRITABLE, delivery.store.is_writable)
    written.add_one(CPU, usage.cpu_time)
    written.add_one(RESIDENT, usage.resident_size)
    written.add_one(DESCRIPTORS, usage.open_descriptors)
    written.add_one(MAX_DESCRIPTORS, usage.max_descriptors)
    return written.text()
