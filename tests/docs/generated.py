"""The parts of the pages that are made from the code, between two comments each.

``python tests/docs/generated.py`` writes them anew (``make docs``); ``test_docs.py`` compares.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import vectors

from meshd.daemon.document_config import push_reference
from meshd.daemon.metrics import FAMILIES
from meshd.exposition import Family
from meshd.push.service.metrics import FAMILIES as SERVICE_FAMILIES
from meshd.wire import document

ROOT = Path(__file__).resolve().parents[2]

# The limits that an operator meets: where they stand, their names, and what happens at them. Settings of the
# configuration are not among them: docs/configuration.md has those.
LIMITS: tuple[tuple[str, str, str], ...] = (
    ("meshd.wire.messages", "MAX_BODY_SIZE", "bytes of an application message; a larger one is refused"),
    ("meshd.core.delivery.outbox", "MAX_OUTBOX_MESSAGES", "messages not acknowledged yet; then `send` is refused"),
    ("meshd.core.delivery.outbox", "MAX_OUTBOX_SIZE", "bytes of them; then `send` is refused"),
    ("meshd.core.delivery.outbox", "MAX_IN_FLIGHT", "messages to one peer on their way; the others wait"),
    (
        "meshd.core.delivery.inbox",
        "MAX_RECEIVED",
        "ids remembered so that nothing comes twice; then senders are told `busy`",
    ),
    ("meshd.core.delivery.deposits", "COPIES", "keepers of one message for a member that is away"),
    ("meshd.core.delivery.deposits", "MAX_ASKED", "messages that a keeper has not answered for; the others wait"),
    ("meshd.core.delivery.keeping", "MAX_KEPT", "messages and receipts kept for others; then deposits are refused"),
    (
        "meshd.core.delivery.keeping",
        "KEPT_SHARE",
        "one sender's part of that, and one recipient's, in messages and bytes, is one in so many; then `quota`",
    ),
    ("meshd.core.delivery.keeping", "DEPOSIT_DAILY", "deposits of one sender a day; then `quota`"),
    ("meshd.core.delivery.keeping", "DEPOSIT_BURST", "of these at once"),
    ("meshd.core.delivery.keeping", "MAX_HANDED", "messages a keeper hands over at a time to one member"),
    ("meshd.core.joining.introductions", "MAX_INTRODUCTIONS", "tokens in the list; then `introduce` is refused"),
    ("meshd.core.joining.introductions", "MAX_USES", "joins with one token"),
    ("meshd.core.joining.introductions", "MAX_LIFETIME", "seconds a token lives at most; a longer wish is cut"),
    (
        "meshd.core.membership.revocations",
        "MAX_OF_ONE_ADMIN",
        "revocations of one admin that are kept; then `revoke` is refused",
    ),
    ("meshd.core.membership.revocations", "MAX_REVOCATIONS", "of all admins, and as many of the mesh key"),
    ("meshd.crypto.revocation", "MAX_KEPT", "admissions that one revocation keeps; with more, `revoke` is refused"),
    ("meshd.core.joining.joining", "MAX_TRIES", "join requests pushed in one join"),
    ("meshd.core.pushing.channels", "MAX_CHANNELS", "push channels of this node; then no new holder gets one"),
    ("meshd.core.pushing.pushing", "MAX_PUSHES", "pushes under way; then none is begun"),
    ("meshd.core.pushing.pushing", "MAX_TRIES", "tries of one push"),
    ("meshd.core.pushing.budget", "MIN_PUSH_INTERVAL", "seconds between two pushes to one peer; the later one waits"),
    (
        "meshd.core.pushing.budget",
        "MAX_DAILY_PUSHES",
        "pushes to one peer a day, with all tries; then they wait or fail",
    ),
    ("meshd.core.pushing.budget", "MAX_BURST", "of these at once, where none were needed before"),
    ("meshd.push.sender", "MAX_OUTBOX", "pushes handed to the sender; then they are answered `busy` and tried again"),
    ("meshd.core.joining.pasting", "MAX_OPEN", "pasted offers and answers that are open; then `busy`"),
    ("meshd.core.joining.calls", "MAX_CALLS", "calls that people wait for at one time; then `busy`"),
    (
        "meshd.core.joining.assisting",
        "MAX_ASSISTED",
        "newcomers answered for their introducers; then the answer is empty",
    ),
    ("meshd.core.signaling.sessions", "MAX_SESSIONS", "attempts at links at one time; then none is begun"),
    ("meshd.core.overlay.relay", "MESSAGE_RATE", "envelopes a second relayed for one neighbor; then `busy`"),
    ("meshd.core.overlay.relay", "BYTE_RATE", "bytes a second relayed for one neighbor; then `busy`"),
    ("meshd.core.overlay.routing", "MAX_HOPS", "links an envelope may cross"),
    (
        "meshd.core.delivery.replay",
        "MAX_SESSIONS_PER_SENDER",
        "sessions of one sender in the replay memory; then dropped",
    ),
    ("meshd.core.delivery.replay", "MAX_SESSIONS", "sessions in the replay memory in all; then dropped"),
    ("meshd.core.peering", "MAX_STRANGERS", "envelopes kept a moment for senders not known yet"),
    ("meshd.wire.link_state", "MAX_NEIGHBORS", "neighbors that a link state lists"),
    ("meshd.core.delivery.stream_book", "MAX_STREAMS", "byte streams at one time; then `busy`"),
    ("meshd.core.delivery.stream_book", "MAX_STREAMS_PER_PEER", "of these with one peer; then `busy`"),
    ("meshd.core.delivery.stream_book", "MAX_ACCEPTORS", "requests that wait for a stream; then `busy`"),
    ("meshd.core.delivery.stream_book", "MAX_OUTCOMES", "ended streams that `streams.wait` still knows"),
    (
        "meshd.core.delivery.circuits",
        "MAX_RELAYED_CIRCUITS",
        "streams of others through this node at one time; then `busy`",
    ),
    ("meshd.core.delivery.circuits", "MAX_CIRCUITS_PER_NEIGHBOR", "of these, asked for by one neighbor; then `busy`"),
    ("meshd.core.delivery.circuits", "MAX_CIRCUITS_PER_DESTINATION", "of these, to one member; then `busy`"),
    ("meshd.core.delivery.circuits", "CIRCUIT_RATE", "circuits a second that one neighbor may ask for; then `busy`"),
    (
        "meshd.core.delivery.relayed_streams",
        "RECOVERY_TIMEOUT",
        "seconds without a path after which a relayed stream is over (`path_lost`)",
    ),
    ("meshd.links.circuits", "CIRCUIT_WINDOW", "bytes of a circuit that a relay takes at first and cannot pass on yet"),
    (
        "meshd.links.circuits",
        "MAX_CIRCUIT_WINDOWS_SIZE",
        "bytes that may wait in all circuits of one link; above it no window grows",
    ),
    (
        "meshd.links.relayed_stream",
        "MAX_KEPT_SIZE",
        "bytes that relayed streams of this node keep; above it each has a window of 262,144",
    ),
    ("meshd.wire.credit", "MAX_STREAM_WINDOW", "bytes of a stream waiting for a slow reader; then its sender waits"),
    ("meshd.links.outbox", "MAX_OUTBOX_SIZE", "bytes waiting on one link; then it is closed (`send_overflow`)"),
    ("meshd.links.early", "MAX_EARLY_RECORDS", "datagrams kept for DTLS before ICE is done on one link; then dropped"),
    ("meshd.links.ice", "MAX_PAIRS", "candidate pairs of one link; further addresses of the peer are ignored"),
    ("meshd.daemon.driver", "MAX_REQUESTS", "control requests that wait; then `busy`"),
    ("meshd.control.server", "MAX_CONNECTIONS", "control connections; then turned away"),
    ("meshd.control.server", "MAX_USER_CONNECTIONS", "control connections of one user"),
    ("meshd.control.connection", "MAX_REQUESTS_IN_FLIGHT", "requests at a time on one control connection"),
    ("meshd.control.jsonrpc", "MAX_LINE_SIZE", "bytes of one control request"),
    ("meshd.control.watchers", "MAX_WATCHER_LINES", "lines a watcher may leave unread; then it is closed"),
    ("meshd.metrics_server", "MAX_CONNECTIONS", "HTTP connections for metrics; then turned away"),
    ("meshd.daemon.store", "MAX_STORE_SIZE", "bytes of the database"),
)


def limits() -> str:
    """The table of named limits with their values."""
    rows = ["| limit | value | what, and what happens there |", "|---|---|---|"]
    for module, name, meaning in LIMITS:
        value = getattr(importlib.import_module(module), name)
        rows.append(f"| `{module.removeprefix('meshd.')}.{name}` | {value:,.0f} | {meaning} |")
    return "\n".join(rows) + "\n"


def metrics(families: Iterable[Family] = FAMILIES) -> str:
    """The table of metrics."""
    rows = ["| metric | type | labels | |", "|---|---|---|---|"]
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    return "\n".join(rows) + "\n"


PARTS: Mapping[tuple[str, str], Callable[[], str]] = {
    ("docs/protocol.md", "messages"): document.render,
    ("docs/protocol.md", "vectors"): vectors.render,
    ("docs/operations.md", "limits"): limits,
    ("docs/metrics.md", "metrics"): metrics,
    ("docs/push.md", "service metrics"): lambda: metrics(SERVICE_FAMILIES),
    ("docs/push.md", "service settings"): push_reference,
}


def with_part(text: str, name: str, made: str) -> str:
    """``text`` with what stands between the two comments of ``name`` replaced. Raises ValueError without them."""
    begin = text.index("-->", text.index(f"<!-- generated: {name}, by ")) + len("-->\n")
    end = text.index(f"<!-- end of {name} -->", begin)
    return f"{text[:begin]}\n{made.strip()}\n\n{text[end:]}"


def main() -> None:
    """Write all parts into their pages."""
    for (page, name), make in PARTS.items():
        path = ROOT / page
        path.write_text(with_part(path.read_text(), name, make()))


if __name__ == "__main__":
    main()
